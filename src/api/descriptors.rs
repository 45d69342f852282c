//! What the services and their messages are like, for what treats all of them alike.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// All services that a client may ask, with all their messages.
pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::new();
    for set in [
        rm_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        pool.decode_file_descriptor_set(set)
            .expect("the descriptors are those of the build, and a test reads them");
    }
    pool
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::SERVED;
    use crate::reflection::NAMES;

    #[test]
    fn every_service_is_described() {
        for name in SERVED.iter().chain(&NAMES) {
            assert!(POOL.get_service_by_name(name).is_some(), "{name}");
        }
    }
}
