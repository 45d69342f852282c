//! What a token says, with etcd's names for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};

/// What a token says. Other claims are passed over, as in etcd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The user for whom it stands.
    pub username: String,
    /// The revision of users, roles and permissions as of which it was given out.
    pub revision: u64,
    /// When it ends, in seconds since 1970. Another issuer may tell fractions of them (RFC 7519, section 2).
    #[serde(rename = "exp", serialize_with = "whole")]
    ends: f64,
    /// When it begins, if it says so.
    #[serde(rename = "nbf", default, skip_serializing)]
    begins: Option<f64>,
}

impl Claims {
    /// Of a token for a user. Its end is a whole second, as in etcd.
    pub(crate) fn new(username: &str, revision: u64, ends: SystemTime) -> Claims {
        Claims {
            username: username.to_owned(),
            revision,
            ends: since_1970(ends).as_secs() as f64,
            begins: None,
        }
    }

    /// Whether it is good by this clock; no tolerance is granted, as in etcd.
    pub fn are_in_time(&self, now: SystemTime) -> bool {
        let now = since_1970(now).as_secs_f64();
        now < self.ends && self.begins.is_none_or(|begins| begins <= now)
    }
}

/// Without a fraction, of which an end that is made here has none.
fn whole<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*seconds as u64)
}

/// A clock before 1970 is taken for that moment.
fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_token_is_good_until_its_last_second_is_over() {
        let claims = Claims::new("alice", 7, at(301_500));
        assert!(claims.are_in_time(at(1_500)));
        assert!(claims.are_in_time(at(300_999)));
        assert!(!claims.are_in_time(at(301_000)));
    }

    #[test]
    fn a_token_that_begins_later_is_not_good_yet() {
        let claims: Claims =
            serde_json::from_str(r#"{"username":"a","revision":1,"exp":9.5,"nbf":5}"#)
                .expect("they are claims");
        assert!(!claims.are_in_time(at(4_999)));
        assert!(claims.are_in_time(at(5_000)));
        assert!(claims.are_in_time(at(9_499)));
        assert!(!claims.are_in_time(at(9_500)));
    }

    #[test]
    fn what_etcd_reads_is_written() {
        let claims = Claims::new("alice", 7, at(300_999));
        let written = serde_json::to_value(&claims).expect("claims are JSON");
        let read = serde_json::json!({"username": "alice", "revision": 7, "exp": 300});
        assert_eq!(written, read);
    }
}
