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
    use std::collections::BTreeSet;

    use prost_reflect::{Kind, MessageDescriptor, ServiceDescriptor};

    use super::*;
    use crate::dispatch::SERVED;
    use crate::reflection::NAMES;

    /// The page that says what of etcd's API is here.
    const PAGE: &str = include_str!("../../docs/etcd.md");

    /// etcd's services.
    fn of_etcd() -> impl Iterator<Item = ServiceDescriptor> {
        let packages = ["etcdserverpb", "v3lockpb", "v3electionpb"];
        POOL.services()
            .filter(move |service| packages.contains(&service.package_name()))
    }

    /// The cells of the page's tables from a heading on, a row each.
    fn rows(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
        let (_, section) = PAGE.split_once(heading).expect("the page has the heading");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
        rows.map(|row| row.trim_end_matches(" |").split(" | ").collect())
    }

    /// The messages that these fields are of, and those within them.
    fn gather(message: MessageDescriptor, found: &mut BTreeSet<(String, String)>) {
        let name = message.name().to_owned();
        for field in message.fields() {
            if found.insert((name.clone(), field.name().to_owned()))
                && let Kind::Message(inner) = field.kind()
            {
                gather(inner, found);
            }
        }
    }

    #[test]
    fn every_call_of_etcd_stands_in_the_page() {
        let named: BTreeSet<&str> = rows("\n## KV\n")
            .flat_map(|row| row[0].split(", ").collect::<Vec<_>>())
            .collect();
        for method in of_etcd().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            assert!(named.contains(method.name()), "{}", method.full_name());
        }
    }

    #[test]
    fn every_field_of_etcd_stands_in_the_page_once() {
        let mut fields = BTreeSet::new();
        for method in of_etcd().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            gather(method.input(), &mut fields);
            gather(method.output(), &mut fields);
        }
        let mut told = BTreeSet::new();
        for row in rows("\n## Every message and field\n").skip(1) {
            let [message, names, how] = row[..] else {
                panic!("three cells: {row:?}");
            };
            let how = how.split(':').next().unwrap_or_default();
            assert!(
                ["supported", "different", "refused", "passed over"].contains(&how),
                "{row:?}"
            );
            for name in names.split(", ").filter(|names| *names != "none") {
                let field = [message, name].map(|it| it.trim_matches('`').to_owned());
                assert!(told.insert(field.clone().into()), "twice: {field:?}");
            }
        }
        let apart: Vec<_> = told.symmetric_difference(&fields).collect();
        assert!(
            apart.is_empty(),
            "in the page or in the services, and not in both: {apart:?}"
        );
    }

    #[test]
    fn every_service_is_described() {
        for name in SERVED.iter().chain(&NAMES) {
            assert!(POOL.get_service_by_name(name).is_some(), "{name}");
        }
    }
}
