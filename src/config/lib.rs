//! The JSON config of a machine: schema, defaults, validation.
