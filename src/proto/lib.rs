//! The etcd v3 protocol buffers and the service for rmctl, as Rust types with gRPC clients and servers.
//!
//! The `.proto` files are written here, with etcd's packages, names and numbers, so that etcd's clients and servers
//! understand every byte. Left out are the HTTP annotations, and messages that etcd's servers only send each other.

mod codec;

/// Keys and values, watches, leases, members, maintenance and users: what etcd's clients speak.
#[expect(
    missing_docs,
    reason = "generated; the .proto files say what needs saying"
)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// A key with its value, and the events of a watch.
#[expect(
    missing_docs,
    reason = "generated; the .proto files say what needs saying"
)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users, roles and permissions.
#[expect(
    missing_docs,
    reason = "generated; the .proto files say what needs saying"
)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// Locks.
#[expect(
    missing_docs,
    reason = "generated; the .proto files say what needs saying"
)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// Elections.
#[expect(
    missing_docs,
    reason = "generated; the .proto files say what needs saying"
)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// What rmctl asks of a machine.
pub mod raftmachine {
    /// The first version of that contract.
    #[expect(
        missing_docs,
        reason = "generated; the .proto files say what needs saying"
    )]
    pub mod v1 {
        tonic::include_proto!("raftmachine.v1");
    }
}

/// What watchers are told, as a machine sends it.
pub mod told;

/// Every file above as an encoded `google.protobuf.FileDescriptorSet`, for gRPC's reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;
