//! Why a connection was closed: the application codes of QUIC's CONNECTION_CLOSE between machines.
//!
//! The numbers are part of the protocol: they never change their meaning.

use quinn::VarInt;

/// The process of the machine is ending, on purpose. Only this code says so.
pub(crate) const PROCESS_EXIT: VarInt = VarInt::from_u32(1);
/// The half that held the connection was dropped; its machine lives on and builds a new one.
pub(crate) const ACTOR_RESTART: VarInt = VarInt::from_u32(2);
/// A newer connection of the same machine took this one's place.
pub(crate) const REPLACED: VarInt = VarInt::from_u32(3);
/// What came was no frame, or no frame that belongs there.
pub(crate) const BAD_FRAME: VarInt = VarInt::from_u32(4);
/// A stream of a kind that the receiver does not know.
pub(crate) const UNKNOWN_STREAM: VarInt = VarInt::from_u32(5);
/// The handshake was not finished in time.
pub(crate) const HANDSHAKE_TIMEOUT: VarInt = VarInt::from_u32(6);
/// The receiver learnt that the machine's process is gone, though its connection was still there.
pub(crate) const PRESUMED_GONE: VarInt = VarInt::from_u32(7);
/// The list of peers has got another entry for the machine at the other end; it is to be dialled, or to dial, anew.
pub(crate) const PEER_CHANGED: VarInt = VarInt::from_u32(9);
/// The machine at the other end was removed from the list of peers.
pub(crate) const REMOVED: VarInt = VarInt::from_u32(10);
/// The data of the machine at the other end is of another era of the domain; the reason stands beside it.
pub(crate) const OTHER_ERA: VarInt = VarInt::from_u32(11);
/// The machine at the other end is not the one that it should be, or may not connect; the reason stands beside it.
pub(crate) const REFUSED: VarInt = VarInt::from_u32(8);
