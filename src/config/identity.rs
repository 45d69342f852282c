//! The numbers by which domains and machines are known on the wire and on disk.
//!
//! They are hashes of the names, so that every machine comes to the same ones without asking. Data on disk bears them:
//! the function may never change.

/// The number of a domain; never zero.
pub fn cluster_id(domain: &str) -> u64 {
    not_zero(fnv1a(FNV_OFFSET_BASIS, domain.as_bytes()))
}

/// The number of a machine of a domain; never zero.
///
/// Two names may in theory share one; a config that holds both is refused.
pub fn machine_id(domain: &str, name: &str) -> u64 {
    let hash = [domain.as_bytes(), &[0], name.as_bytes()]
        .into_iter()
        .fold(FNV_OFFSET_BASIS, fnv1a);
    not_zero(hash)
}

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, 64 bits (draft-eastlake-fnv).
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

/// Zero means "nobody" in the protocols.
fn not_zero(hash: u64) -> u64 {
    if hash == 0 { FNV_OFFSET_BASIS } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(FNV_OFFSET_BASIS, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(FNV_OFFSET_BASIS, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_OFFSET_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn ids_stay_what_they_are_for_ever() {
        assert_eq!(cluster_id("csy.com"), 0x1dde_17c0_ac5b_fd8d);
        assert_eq!(machine_id("csy.com", "RM.01"), 0xa18a_135f_dfa7_d73b);
        assert_eq!(machine_id("csy.com", "RM.02"), 0xa18a_145f_dfa7_d8ee);
    }

    #[test]
    fn domain_and_name_do_not_run_into_each_other() {
        assert_ne!(machine_id("ab", "c"), machine_id("a", "bc"));
        assert_ne!(machine_id("a", ""), cluster_id("a"));
    }

    #[test]
    fn no_id_is_zero() {
        assert_eq!(not_zero(0), FNV_OFFSET_BASIS);
        assert_eq!(not_zero(7), 7);
    }
}
