//! A checksum around everything that is stored: damage is found where it is read.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::KvError;

/// Bytes of the checksum at the head of a value.
const CHECKSUM_BYTES: usize = 4;

/// Fills `out` with a sealed value: a CRC-32C over the key and the body, then the body, which is `head` in postcard and
/// `tails` as they are. The key is covered so that a value that strayed to another key is found.
pub(crate) fn seal(out: &mut Vec<u8>, key: &[u8], head: &impl Serialize, tails: [&[u8]; 2]) {
    out.clear();
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    *out = postcard::to_extend(head, std::mem::take(out))
        .expect("a head holds only numbers, which postcard encodes, and a vector grows");
    for tail in tails {
        out.extend_from_slice(tail);
    }
    let checksum = checksum(key, &out[CHECKSUM_BYTES..]);
    out[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Opens a sealed value of `table`: its head, and what follows the head.
pub(crate) fn open<'v, H: DeserializeOwned>(
    table: &'static str,
    key: &[u8],
    value: &'v [u8],
) -> Result<(H, &'v [u8]), KvError> {
    let (stored, body) = value
        .split_first_chunk()
        .ok_or_else(|| KvError::damaged(table, key, "the value is too short"))?;
    if u32::from_le_bytes(*stored) != checksum(key, body) {
        return Err(KvError::damaged(table, key, "the checksum does not match"));
    }
    postcard::take_from_bytes(body).map_err(|_| {
        KvError::damaged(
            table,
            key,
            "the value is malformed under a matching checksum",
        )
    })
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}
