//! Why a peer that was dialled is not spoken to: one of the two refuses the other, and will until an operator mends it.

use quinn::{ConnectionError, TransportErrorCode, VarInt};

use crate::{RefusedBecause, close};

/// The codes by which a peer sends this machine away for what it is, or for what it says.
const CODES: [VarInt; 5] = [
    close::REFUSED,
    close::OTHER_ERA,
    close::REMOVED,
    close::BAD_FRAME,
    close::UNKNOWN_STREAM,
];

/// The alerts of TLS among QUIC's error codes (RFC 9001, 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// What to do about certificates, which TLS itself does not say.
const MEND_CERTIFICATES: &str = "see that both machines have certificates of one CA that name their hosts, are for both server and client, \
     and have not expired";

/// A refusal by one end of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Which end refuses, why, and where it is known what to do.
    pub(crate) reason: String,
    /// Whether the two are of different eras of the domain.
    pub(crate) other_era: bool,
}

impl Refusal {
    /// What the end of a connection, or of the attempt at one, says of a refusal; none where it is an accident or on purpose.
    pub(crate) fn of_end(ended: &ConnectionError) -> Option<Refusal> {
        let (reason, code) = match ended {
            ConnectionError::ApplicationClosed(closed) if CODES.contains(&closed.error_code) => {
                let words = printable(&closed.reason);
                (
                    format!("it refuses this machine and says: {words}"),
                    Some(closed.error_code),
                )
            }
            ConnectionError::ConnectionClosed(closed) if is_of_tls(closed.error_code) => {
                let words = printable(closed.to_string().as_bytes());
                (
                    format!("it refuses what this machine shows: {words}; {MEND_CERTIFICATES}"),
                    None,
                )
            }
            ConnectionError::TransportError(error) if is_of_tls(error.code) => (
                format!("this machine refuses what it shows: {error}; {MEND_CERTIFICATES}"),
                None,
            ),
            ConnectionError::VersionMismatch => (
                "this machine and what listens at its address have no version of QUIC in common"
                    .to_owned(),
                None,
            ),
            _ => return None,
        };
        Some(Refusal {
            reason,
            other_era: code == Some(close::OTHER_ERA),
        })
    }

    /// This machine's own refusal of what the peer answered; none where nothing sound could be heard at all.
    pub(crate) fn of_answer(because: &RefusedBecause) -> Option<Refusal> {
        match because {
            RefusedBecause::Transport(_) | RefusedBecause::Slow => None,
            because => Some(Refusal {
                reason: format!("this machine refuses it: {because}"),
                other_era: matches!(because, RefusedBecause::Era { .. }),
            }),
        }
    }
}

fn is_of_tls(code: TransportErrorCode) -> bool {
    TLS_ALERTS.contains(&u64::from(code))
}

/// What the other end sent as text, fit for one line of a log.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn::{ApplicationClose, ConnectionClose};

    use super::*;

    fn closed_by_peer(code: VarInt, reason: &'static str) -> Option<Refusal> {
        Refusal::of_end(&ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: code,
            reason: Bytes::from_static(reason.as_bytes()),
        }))
    }

    #[test]
    fn a_peer_that_sends_this_machine_away_refuses_it_in_its_own_words() {
        for code in CODES {
            let refusal = closed_by_peer(code, "it belongs to\nanother domain");
            let refusal = refusal.expect("these codes are refusals");
            assert_eq!(
                refusal.reason,
                "it refuses this machine and says: it belongs to another domain"
            );
            assert_eq!(refusal.other_era, code == close::OTHER_ERA);
        }
    }

    #[test]
    fn an_end_that_a_new_dial_may_mend_is_no_refusal() {
        for code in [
            close::PROCESS_EXIT,
            close::ACTOR_RESTART,
            close::REPLACED,
            close::HANDSHAKE_TIMEOUT,
            close::PRESUMED_GONE,
            close::PEER_CHANGED,
        ] {
            assert_eq!(closed_by_peer(code, "it ends"), None, "{code}");
        }
        for ended in [
            ConnectionError::Reset,
            ConnectionError::TimedOut,
            ConnectionError::LocallyClosed,
        ] {
            assert_eq!(Refusal::of_end(&ended), None, "{ended}");
        }
        assert_eq!(Refusal::of_answer(&RefusedBecause::Slow), None);
    }

    #[test]
    fn only_an_alert_of_tls_makes_a_refusal_of_what_quic_itself_ended() {
        let closed = |code| {
            Refusal::of_end(&ConnectionError::ConnectionClosed(ConnectionClose {
                error_code: code,
                frame_type: None,
                reason: Bytes::from_static(b"bad certificate"),
            }))
        };
        assert_eq!(closed(TransportErrorCode::CONNECTION_REFUSED), None);
        let refusal = closed(TransportErrorCode::crypto(42)).expect("it is about certificates");
        assert!(
            refusal.reason.contains("bad certificate; see that both"),
            "{}",
            refusal.reason
        );
    }
}
