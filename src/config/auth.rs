//! The part of the config that is about users and their permissions.

use serde::{Deserialize, Serialize};

use crate::Jwt;

/// How users prove who they are. Users, roles and permissions themselves are in the domain, and changed by its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Have a key sign the tokens, so that no machine keeps any (etcd: --auth-token=jwt); absent, they are simple ones, which the log tells all
    /// machines of. The same on all machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// For how long a simple token that is not used stands for its user, in seconds, at least 1 (etcd: --auth-token-ttl).
    pub token_ttl_seconds: u64,
    /// How dear it is to try a password: the logarithm of bcrypt's rounds, from 4 to 31 (etcd: --bcrypt-cost).
    pub bcrypt_cost: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            jwt: None,
            token_ttl_seconds: 300,
            bcrypt_cost: 10,
        }
    }
}
