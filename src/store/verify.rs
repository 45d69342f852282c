//! Walks the trees of an LMDB file before LMDB does, and finds what would mislead or crash it.
//!
//! LMDB maps its file and trusts it: a wrong number in a page reads elsewhere in memory, or past the end of the file. What
//! is proved here: each page that a tree reaches is inside the file, bears its own number, is reached once and is not free;
//! its nodes lie inside it and are in order; the counts of every tree are right; and the later of the two descriptions of
//! the file is the one of the last transaction. Values are opaque here: their own checksums guard them.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use crate::{
    page::Meta,
    walk::{Kind, Walk, wrong},
};

/// The key under which a transaction writes its own number into the table of tables.
pub(crate) const STAMP_KEY: &[u8] = b"\0transaction";

/// How much of a file to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The descriptions of the file, its free list and its length.
    Ends,
    /// All of that, and every tree to its last leaf.
    Everything,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The mark that says which data directory it belongs to is not there, or not what was written.
    #[error("it does not say to which data directory it belongs")]
    Origin,
    /// A page is wrong.
    #[error("page {page}: {reason}")]
    Page {
        /// Its number; its size is in the file's first page, most often 4,096 bytes.
        page: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Checks the structure of an LMDB file that no process has open, and returns how many pages it has by its own account.
///
/// Tables with duplicates (`DUP_SORT`) are not known here, and refused.
///
/// # Errors
/// The first damage that is found.
pub fn verify(path: &Path, extent: Extent) -> Result<u64, Damage> {
    let file = File::open(path)?;
    let (meta, other) = metas(&file)?;
    let mut walk = Walk::new(&file, meta)?;
    walk.check_stamp(&meta)?;
    walk.check_stamp(&other)?;
    check(walk, &meta, extent)?;
    Ok(meta.page_last.saturating_add(1))
}

/// Checks the structure of a compact copy that was not written to since. Its stamp is the one of the file that it was made
/// of: LMDB numbers the transactions of a copy from one. Which of its two descriptions is right is no question. What lies behind its last
/// whole page is not looked at.
///
/// # Errors
/// The first damage that is found.
pub fn verify_copy(path: &Path) -> Result<(), Damage> {
    let file = File::open(path)?;
    let (meta, _) = metas(&file)?;
    if meta.transaction > 1 {
        return wrong(meta.transaction % 2, "it was written after it was copied");
    }
    check(Walk::new(&file, meta)?, &meta, Extent::Everything)
}

fn check(mut walk: Walk<'_>, meta: &Meta, extent: Extent) -> Result<(), Damage> {
    walk.tree(&meta.free, Kind::Free)?;
    walk.check_end()?;
    if extent == Extent::Everything {
        walk.tree(&meta.main, Kind::Main)?;
        walk.tables()?;
    }
    Ok(())
}

/// The description of the file that LMDB will use, and the other.
fn metas(file: &File) -> Result<(Meta, Meta), Damage> {
    let read = |number: u64, at: u64| -> Result<Meta, Damage> {
        let mut bytes = [0; Meta::BYTES];
        match file.read_exact_at(&mut bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return wrong(number, "the file ends before it");
            }
            result => result?,
        }
        Meta::parse(&bytes, number).or_else(|reason| wrong(number, reason))
    };
    let even = read(0, 0)?;
    let odd = read(1, even.page_bytes as u64)?;
    if even.page_bytes != odd.page_bytes {
        return wrong(1, "its page size is not page 0's");
    }
    // Transactions write the two in turn: page 0 the even, page 1 the odd ones.
    let fresh = even.transaction == 0 && odd.transaction == 0;
    let in_turn = even.transaction % 2 == 0
        && odd.transaction % 2 == 1
        && even.transaction.abs_diff(odd.transaction) == 1;
    if !fresh && !in_turn {
        return wrong(
            1,
            "its transaction does not follow on page 0's, or the other way round",
        );
    }
    Ok(if odd.transaction > even.transaction {
        (odd, even)
    } else {
        (even, odd)
    })
}
