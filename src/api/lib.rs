//! The gRPC services of a machine, one file each.
