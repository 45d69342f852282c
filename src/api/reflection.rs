//! gRPC's reflection: a client can ask what there is to ask, and needs no `.proto` files.

use rm_proto::FILE_DESCRIPTOR_SET;
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use crate::dispatch::SERVED;

/// The services themselves: today's version, and the one before, which many tools still ask for.
pub(crate) const NAMES: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Adds both versions to `routes`. They list what is served, not all that the `.proto` files describe.
pub(crate) fn add_to(routes: Routes) -> Result<Routes, Error> {
    Ok(routes
        .add_service(builder().build_v1()?)
        .add_service(builder().build_v1alpha()?))
}

fn builder() -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // Each version describes itself only, and lists both.
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
    SERVED
        .into_iter()
        .chain(NAMES)
        .fold(builder, Builder::with_service_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_can_be_served() {
        add_to(Routes::default()).expect("the descriptors are those of the build");
    }
}
