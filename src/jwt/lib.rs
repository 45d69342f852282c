//! Tokens that a key signs: JSON web tokens (RFC 7519) as etcd makes them, in the compact form of RFC 7515. [`Key`] makes them and
//! recognises them.
//!
//! Nothing but the key decides how a token must be signed: what its header says is compared with that, and never followed.

mod claims;
mod error;
mod files;
mod key;
mod method;

pub use claims::Claims;
pub use error::{KeyError, TokenError};
pub use key::{Key, TOKEN_BYTES_MAX};
