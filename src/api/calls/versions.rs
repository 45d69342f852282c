//! Of which version of etcd's API clients say that they are. Only etcd's own are told apart, so that no client makes the list longer.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

/// The header in which etcd's Go client says it, such as `3.6`.
const HEADER: &str = "client-api-version";

/// What stands in place of a version that is not told, as in etcd.
const UNKNOWN: &str = "unknown";

/// What stands in place of all others.
const OTHER: &str = "other";

/// Versions from 3.0 up to here are told apart.
const MINORS: usize = 16;

const PLACES: usize = MINORS + 2;

/// How many calls came, by version.
#[derive(Debug, Default)]
pub(super) struct Versions([AtomicU64; PLACES]);

impl Versions {
    pub(super) fn count(&self, headers: &HeaderMap) {
        self.0[place(headers)].fetch_add(1, Ordering::Relaxed);
    }

    /// Each version, with how many calls there were of it.
    pub(super) fn read(&self) -> impl Iterator<Item = (String, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        counts
            .enumerate()
            .map(|(place, count)| (name(place), count))
    }
}

fn place(headers: &HeaderMap) -> usize {
    let Some(version) = headers.get(HEADER) else {
        return MINORS;
    };
    let minor = version.to_str().ok().and_then(|version| {
        let minor: usize = version.strip_prefix("3.")?.parse().ok()?;
        (minor < MINORS && name(minor) == version).then_some(minor)
    });
    minor.unwrap_or(MINORS + 1)
}

fn name(place: usize) -> String {
    match place {
        MINORS => UNKNOWN.to_owned(),
        minor if minor < MINORS => format!("3.{minor}"),
        _ => OTHER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_versions_of_etcd_are_told_apart() {
        for (said, expected) in [
            (None, "unknown"),
            (Some("3.6"), "3.6"),
            (Some("3.15"), "3.15"),
            (Some("3.16"), "other"),
            (Some("3.06"), "other"),
            (Some("3.+6"), "other"),
            (Some("3.6.14"), "other"),
            (Some("4.0"), "other"),
            (Some(""), "other"),
            (Some("\u{e4}"), "other"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                let value = HeaderValue::from_bytes(said.as_bytes());
                headers.insert(HEADER, value.expect("it is a header"));
            }
            let versions = Versions::default();
            versions.count(&headers);
            let counted: Vec<_> = versions.read().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(expected.to_owned(), 1)], "{said:?}");
        }
    }
}
