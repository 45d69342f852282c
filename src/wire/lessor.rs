//! What the lessors of two machines say to each other: the one that leads counts the time of all leases, and is asked about them by the
//! others, whose clients renew them. It is no part of Raft, and travels on the stream of its messages.
//!
//! The numbers below are the format, as those of [`encode`](crate::encode) are: they never change their meaning.

use bytes::{BufMut, Bytes};

use crate::frame::{self, Fields, FrameError};

mod kind {
    pub(super) const RENEW: u8 = 64;
    pub(super) const LOOK: u8 = 65;
    pub(super) const STANDING: u8 = 66;
    pub(super) const NOT_NOW: u8 = 67;
}

const NONE: u8 = 0;
const HELD: u8 = 1;
const UNSETTLED: u8 = 2;

/// A question of one lessor to another, or the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LessorMessage {
    /// The asker's number for it, which the answer repeats.
    pub number: u64,
    /// What it says.
    pub body: LessorBody,
}

/// What a lessor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LessorBody {
    /// Renew the leases of these ids.
    Renew(Vec<i64>),
    /// Look how much is left of the leases of these ids.
    Look(Vec<i64>),
    /// How it stands with each of the leases that were asked about, in the same order.
    Standing(Vec<LeaseStanding>),
    /// This machine does not lead, or cannot tell yet: ask again.
    NotNow,
}

/// How it stands with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStanding {
    /// There is none of this id.
    None,
    /// It is held.
    Held {
        /// For how long it was granted, in seconds.
        ttl: i64,
        /// How much is left of it, in milliseconds.
        left_ms: u64,
    },
    /// Something about it is being decided: ask again.
    Unsettled,
}

/// Whether a frame is one of these.
pub(crate) fn is_lessors(frame: &[u8]) -> bool {
    let kind = frame.get(3).copied().unwrap_or_default();
    (kind::RENEW..=kind::NOT_NOW).contains(&kind)
}

/// The message as one frame.
pub(crate) fn encode(message: &LessorMessage) -> Bytes {
    let (kind, count) = match &message.body {
        LessorBody::Renew(ids) => (kind::RENEW, ids.len()),
        LessorBody::Look(ids) => (kind::LOOK, ids.len()),
        LessorBody::Standing(all) => (kind::STANDING, all.len()),
        LessorBody::NotNow => (kind::NOT_NOW, 0),
    };
    let mut out = frame::begin(kind, 12 + 17 * count);
    out.put_u64(message.number);
    if kind == kind::NOT_NOW {
        return frame::seal(out);
    }
    out.put_u32(u32::try_from(count).expect("a lessor asks about thousands of leases at most"));
    match &message.body {
        LessorBody::Renew(ids) | LessorBody::Look(ids) => {
            ids.iter().for_each(|id| out.put_i64(*id));
        }
        LessorBody::Standing(all) => {
            for standing in all {
                match *standing {
                    LeaseStanding::None => out.put_u8(NONE),
                    LeaseStanding::Held { ttl, left_ms } => {
                        out.put_u8(HELD);
                        out.put_i64(ttl);
                        out.put_u64(left_ms);
                    }
                    LeaseStanding::Unsettled => out.put_u8(UNSETTLED),
                }
            }
        }
        LessorBody::NotNow => {}
    }
    frame::seal(out)
}

/// The message in a frame; `frame` holds exactly that frame.
///
/// # Errors
/// When the bytes are anything else; the error says what is wrong with them.
pub(crate) fn decode(frame: Bytes) -> Result<LessorMessage, FrameError> {
    let frame = frame::open(frame)?;
    let mut fields = Fields::of(frame.body);
    let number = fields.u64("the number of a lessor's question")?;
    let body = match frame.kind {
        kind::RENEW => LessorBody::Renew(take_ids(&mut fields)?),
        kind::LOOK => LessorBody::Look(take_ids(&mut fields)?),
        kind::STANDING => LessorBody::Standing(take_standings(&mut fields)?),
        kind::NOT_NOW => LessorBody::NotNow,
        found => return Err(FrameError::Kind { found }),
    };
    fields.end()?;
    Ok(LessorMessage { number, body })
}

fn take_ids(fields: &mut Fields) -> Result<Vec<i64>, FrameError> {
    let count = fields.count("the number of leases", 8)?;
    (0..count).map(|_| take_i64(fields, "lease")).collect()
}

fn take_standings(fields: &mut Fields) -> Result<Vec<LeaseStanding>, FrameError> {
    let count = fields.count("the number of leases", 1)?;
    let take = |_| {
        Ok(match fields.u8("standing of a lease")? {
            NONE => LeaseStanding::None,
            HELD => LeaseStanding::Held {
                ttl: take_i64(fields, "granted time")?,
                left_ms: fields.u64("time left")?,
            },
            UNSETTLED => LeaseStanding::Unsettled,
            found => {
                return Err(FrameError::Value {
                    what: "standing of a lease",
                    found: found.into(),
                });
            }
        })
    };
    (0..count).map(take).collect()
}

fn take_i64(fields: &mut Fields, what: &'static str) -> Result<i64, FrameError> {
    fields.array(what).map(i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn standing() -> impl Strategy<Value = LeaseStanding> {
        prop_oneof![
            Just(LeaseStanding::None),
            (any::<i64>(), any::<u64>())
                .prop_map(|(ttl, left_ms)| LeaseStanding::Held { ttl, left_ms }),
            Just(LeaseStanding::Unsettled),
        ]
    }

    fn message() -> impl Strategy<Value = LessorMessage> {
        let body = prop_oneof![
            vec(any::<i64>(), 0..9).prop_map(LessorBody::Renew),
            vec(any::<i64>(), 0..9).prop_map(LessorBody::Look),
            vec(standing(), 0..9).prop_map(LessorBody::Standing),
            Just(LessorBody::NotNow),
        ];
        (any::<u64>(), body).prop_map(|(number, body)| LessorMessage { number, body })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_and_what_is_damaged_is_refused(
            message in message(),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let frame = encode(&message);
            prop_assert!(is_lessors(&frame));
            prop_assert_eq!(decode(frame.clone()), Ok(message));
            let mut damaged = frame.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
            prop_assert!(decode(damaged.into()).is_err());
            prop_assert!(decode(frame.slice(..frame.len() - 1)).is_err());
        }
    }

    #[test]
    fn the_format_does_not_change() {
        let held = LeaseStanding::Held {
            ttl: 60,
            left_ms: 5_000,
        };
        let table = [
            (LessorBody::Renew(vec![7, -1]), "524d0140"),
            (LessorBody::Look(vec![7]), "524d0141"),
            (
                LessorBody::Standing(vec![LeaseStanding::None, held, LeaseStanding::Unsettled]),
                "524d0142",
            ),
            (LessorBody::NotNow, "524d0143"),
        ];
        let bodies = [
            "0000000000000009000000020000000000000007ffffffffffffffff",
            "0000000000000009000000010000000000000007",
            "00000000000000090000000300\
             01000000000000003c0000000000001388\
             02",
            "0000000000000009",
        ];
        for ((body, head), rest) in table.into_iter().zip(bodies) {
            let frame = encode(&LessorMessage { number: 9, body });
            let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((&hex[..8], &hex[24..]), (head, rest));
        }
    }

    #[test]
    fn more_leases_than_there_are_bytes_for_are_refused_before_room_is_made_for_them() {
        for kind in [kind::RENEW, kind::STANDING] {
            let mut frame = frame::begin(kind, 12);
            frame.put_u64(1);
            frame.put_u32(u32::MAX);
            let refused = decode(frame::seal(frame));
            assert!(
                matches!(refused, Err(FrameError::Short { .. })),
                "{refused:?}"
            );
        }
    }
}
