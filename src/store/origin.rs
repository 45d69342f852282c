//! Which data directory an environment's file belongs to: a mark in the file, made once and compared at every opening.
//!
//! The identity file names the owner of a folder, but a single LMDB file can be copied from another folder. Believed
//! there, it would make a machine forget what it promised.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::verify::Damage;

/// The key of the mark in the table of tables. No name of a table contains a zero byte.
pub(crate) const ORIGIN_KEY: &[u8] = b"\0origin";

/// The size of the checksum that a mark begins with, in bytes.
const CHECKSUM_BYTES: usize = 4;

/// A new data id: 128 random bits, in hexadecimal.
pub(crate) fn random_data_id() -> std::io::Result<String> {
    Ok(format!("{:032x}", u128::from_le_bytes(random_bytes()?)))
}

/// Bytes from the system's source of randomness.
pub(crate) fn random_bytes<const COUNT: usize>() -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// The data id as a number.
pub(crate) fn data_number(data_id: &str) -> Option<u128> {
    u128::from_str_radix(data_id, 16).ok()
}

/// The mark of the environment `name` in the data directory with this id.
pub(crate) fn mark(data_id: &str, name: &str) -> Vec<u8> {
    let mut mark = checksum(data_id.as_bytes(), name).to_vec();
    mark.extend_from_slice(data_id.as_bytes());
    mark
}

/// Whether a mark is the one of this data directory and environment.
///
/// # Errors
/// [`Damage::Origin`] for one that no data directory made for this environment.
pub(crate) fn is_own(mark: &[u8], data_id: &str, name: &str) -> Result<bool, Damage> {
    match mark.split_first_chunk::<CHECKSUM_BYTES>() {
        Some((stored, found)) if *stored == checksum(found, name) => {
            Ok(found == data_id.as_bytes())
        }
        _ => Err(Damage::Origin),
    }
}

fn checksum(data_id: &[u8], name: &str) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), data_id).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_own_only_to_its_directory_and_environment() {
        let (own, other) = (random_data_id().unwrap(), random_data_id().unwrap());
        assert_ne!(own, other);
        assert!(is_own(&mark(&own, "log"), &own, "log").unwrap());
        assert!(!is_own(&mark(&other, "log"), &own, "log").unwrap());
        is_own(&mark(&own, "state"), &own, "log").expect_err("it is of another environment");
    }

    #[test]
    fn a_mark_with_any_bit_flipped_or_cut_short_is_damaged() {
        let id = random_data_id().unwrap();
        let good = mark(&id, "log");
        for place in 0..good.len() * 8 {
            let mut damaged = good.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            is_own(&damaged, &id, "log").expect_err("a bit is flipped");
        }
        for length in 0..good.len() {
            is_own(&good[..length], &id, "log").expect_err("it is cut short");
        }
    }
}
