//! The JSON config of a machine: schema, defaults, validation.

mod address;
mod schema;

pub use address::{Address, AddressError};
pub use schema::*;
