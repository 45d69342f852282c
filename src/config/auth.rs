//! The part of the config that is about users and their permissions.

use serde::{Deserialize, Serialize};

/// How users prove who they are. Users, roles and permissions themselves are in the domain, and changed by its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// For how long a token that is not used stands for its user, in seconds, at least 1 (etcd: --auth-token-ttl).
    pub token_ttl_seconds: u64,
    /// How dear it is to try a password: the logarithm of bcrypt's rounds, from 4 to 31 (etcd: --bcrypt-cost).
    pub bcrypt_cost: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            token_ttl_seconds: 300,
            bcrypt_cost: 10,
        }
    }
}
