//! The first frame in each direction: who the sender is and whom it means to speak to.
//!
//! The dialler opens the connection's first bidirectional stream and sends its [`Hello`]; the listener checks it and
//! answers with its own, which the dialler checks in turn. Nothing else is read before. Each snapshot has another such stream,
//! later.

use bytes::{BufMut, Bytes};
use rm_raft::MachineId;

use crate::{
    DataId, FrameError, Identity, Peer, RefusedBecause,
    frame::{self, Fields, put_text},
};

/// The version of the protocol: what streams there are and what is said on them.
pub(crate) const PROTOCOL_VERSION: u16 = 5;

/// The longest hello that is read, in bytes.
pub(crate) const HELLO_BYTES_MAX: usize = 2 << 10;

const KIND_HELLO: u8 = 1;

/// What each end says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    pub(crate) sender: Identity,
    pub(crate) receiver_name: String,
    pub(crate) receiver_id: MachineId,
}

impl Hello {
    pub(crate) fn new(sender: &Identity, receiver: &Peer) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            sender: sender.clone(),
            receiver_name: receiver.name.clone(),
            receiver_id: receiver.id,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut frame = frame::begin(KIND_HELLO, HELLO_BYTES_MAX);
        frame.put_u16(self.version);
        put_text(&mut frame, &self.sender.domain);
        frame.put_u64(self.sender.era);
        put_text(&mut frame, &self.sender.name);
        frame.put_u64(self.sender.id.0);
        frame.put_u64(self.sender.incarnation);
        frame.put_slice(&self.sender.data_id.0);
        put_text(&mut frame, &self.sender.address);
        put_text(&mut frame, &self.receiver_name);
        frame.put_u64(self.receiver_id.0);
        frame::seal(frame)
    }

    /// Reads a hello. One of another version is refused by its version: how it goes on is not known.
    pub(crate) fn decode(frame: Bytes) -> Result<Hello, RefusedBecause> {
        let frame = frame::open(frame)?;
        if frame.kind != KIND_HELLO {
            return Err(FrameError::Kind { found: frame.kind }.into());
        }
        let mut fields = Fields::of(frame.body);
        let version = fields.u16("protocol version")?;
        if version != PROTOCOL_VERSION {
            return Err(RefusedBecause::Version {
                theirs: version,
                ours: PROTOCOL_VERSION,
            });
        }
        let hello = Hello {
            version,
            sender: Identity {
                domain: fields.text("domain")?,
                era: fields.u64("era")?,
                name: fields.text("name of the sender")?,
                id: MachineId(fields.u64("number of the sender")?),
                incarnation: fields.u64("incarnation")?,
                data_id: DataId(fields.array("data id")?),
                address: fields.text("address of the sender")?,
            },
            receiver_name: fields.text("name of the receiver")?,
            receiver_id: MachineId(fields.u64("number of the receiver")?),
        };
        fields.end()?;
        Ok(hello)
    }

    /// That whoever said this belongs to the domain of `local`, and means `local`.
    pub(crate) fn check(&self, local: &Identity) -> Result<(), RefusedBecause> {
        if self.sender.domain != local.domain {
            return Err(RefusedBecause::Domain {
                theirs: self.sender.domain.clone(),
                ours: local.domain.clone(),
            });
        }
        // Before the list, which a machine of another era may be in, under the same number and on the same data.
        if self.sender.era != local.era {
            return Err(RefusedBecause::Era {
                theirs: self.sender.era,
                ours: local.era,
            });
        }
        if self.receiver_name != local.name || self.receiver_id != local.id {
            return Err(RefusedBecause::Receiver {
                name: self.receiver_name.clone(),
                id: self.receiver_id.0,
            });
        }
        Ok(())
    }

    /// The one of `peers` that said this.
    pub(crate) fn find<'a>(&self, peers: &'a [Peer]) -> Option<&'a Peer> {
        let is_sender = |peer: &&Peer| peer.name == self.sender.name && peer.id == self.sender.id;
        peers.iter().find(is_sender)
    }

    /// The refusal of whoever said this, by name.
    pub(crate) fn unknown(&self) -> RefusedBecause {
        RefusedBecause::Machine {
            name: self.sender.name.clone(),
            id: self.sender.id.0,
        }
    }
}
