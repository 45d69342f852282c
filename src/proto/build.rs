//! Compiles the protocol buffers, without an installed `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use tonic_prost_build::manual::{self, Method, Service};

const FILES: [&str; 10] = [
    "etcdserverpb/kv.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/auth.proto",
    "authpb/auth.proto",
    "v3lockpb/lock.proto",
    "v3electionpb/election.proto",
    "admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // The generated code carries the comments; the binary need not.
    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), bare.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    // The same service as the one of watch.proto, but that what it tells is encoded in part (told.rs).
    let watch = Method::builder()
        .name("watch")
        .route_name("Watch")
        .input_type("crate::etcdserverpb::WatchRequest")
        .output_type("crate::told::WatchResponse")
        .codec_path("crate::codec::Codec")
        .client_streaming()
        .server_streaming()
        .build();
    let service = Service::builder()
        .package("etcdserverpb")
        .name("Watch")
        .method(watch)
        .build();
    manual::Builder::new()
        .build_client(false)
        .compile(&[service]);
    Ok(())
}
