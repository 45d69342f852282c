//! Small files of JSON that are replaced as a whole: a line of JSON, then its CRC-32C in hexadecimal.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Replaces a file, durably: after a crash either the old or the new one is there.
pub(crate) fn replace(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let body =
        serde_json::to_string(record).expect("a record of numbers and strings is always JSON");
    let text = format!("{body}\n{:08x}\n", crc32c::crc32c(body.as_bytes()));
    let new = new_name(path);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// The line of JSON in a file, once its checksum matches; else what is wrong with it.
pub(crate) fn unseal(text: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let (body, rest) = text.split_once('\n').ok_or("its checksum is missing")?;
    if rest != format!("{:08x}\n", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum does not match");
    }
    Ok(body)
}

/// Makes the names in the folder of this path durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
