//! The pages of an LMDB file, as `mdb.c` of LMDB 0.9.70 and later lays them out, read without trust in any number.
//!
//! Numbers are in the machine's own byte order, page numbers 64 bits wide.

use std::ops::Range;

/// What every page but the inside of an overflow run begins with: its number, its flags, its bounds.
pub(crate) const HEADER: usize = 16;

/// What a node begins with: its size or child, its flags, its key's size.
const NODE_HEADER: usize = 8;

/// The root of an empty tree.
pub(crate) const NO_PAGE: u64 = u64::MAX;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;

/// A node whose value lies in an overflow run.
pub(crate) const BIG: u16 = 0x01;
/// A node whose value is the description of another tree.
pub(crate) const SUBTREE: u16 = 0x02;

/// A tree whose keys are numbers in the machine's byte order; the free list is one.
pub(crate) const INTEGER_KEY: u16 = 0x08;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_ne_bytes)
}

/// The description of a tree (`MDB_db`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pad: u32,
    pub(crate) flags: u16,
    pub(crate) depth: u16,
    pub(crate) branch_pages: u64,
    pub(crate) leaf_pages: u64,
    pub(crate) overflow_pages: u64,
    pub(crate) entries: u64,
    pub(crate) root: u64,
}

impl Tree {
    pub(crate) const BYTES: usize = 48;

    /// The tree that a value of exactly the right size describes.
    pub(crate) fn parse(value: &[u8]) -> Option<Tree> {
        if value.len() != Tree::BYTES {
            return None;
        }
        Some(Tree {
            pad: u32_at(value, 0)?,
            flags: u16_at(value, 4)?,
            depth: u16_at(value, 6)?,
            branch_pages: u64_at(value, 8)?,
            leaf_pages: u64_at(value, 16)?,
            overflow_pages: u64_at(value, 24)?,
            entries: u64_at(value, 32)?,
            root: u64_at(value, 40)?,
        })
    }

    /// How many pages the tree has.
    pub(crate) fn pages(&self) -> u64 {
        self.branch_pages
            .saturating_add(self.leaf_pages)
            .saturating_add(self.overflow_pages)
    }
}

/// The description of the file (`MDB_meta`), of which it has two: LMDB uses the one of the later transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) page_bytes: usize,
    pub(crate) free: Tree,
    pub(crate) main: Tree,
    pub(crate) page_last: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// How much of a page is needed to parse it.
    pub(crate) const BYTES: usize = HEADER + 136;

    /// The description that page `number` holds, or what is wrong with it.
    pub(crate) fn parse(page: &[u8], number: u64) -> Result<Meta, &'static str> {
        let cut = "the description of the file is cut short";
        if u64_at(page, 0) != Some(number) || u16_at(page, 10) != Some(META) {
            return Err("it does not describe the file");
        }
        let meta = page.get(HEADER..).ok_or(cut)?;
        if u32_at(meta, 0) != Some(MAGIC) {
            return Err("it is not of LMDB");
        }
        if u32_at(meta, 4) != Some(VERSION) {
            return Err("it is of another version of LMDB");
        }
        let tree = |range: Range<usize>| meta.get(range).and_then(Tree::parse).ok_or(cut);
        let free = tree(24..72)?;
        let meta = Meta {
            page_bytes: free.pad as usize,
            free,
            main: tree(72..120)?,
            page_last: u64_at(meta, 120).ok_or(cut)?,
            transaction: u64_at(meta, 128).ok_or(cut)?,
        };
        if !meta.page_bytes.is_power_of_two() || !(4096..=32768).contains(&meta.page_bytes) {
            return Err("its page size cannot be");
        }
        if meta.free.flags != INTEGER_KEY || meta.main.flags != 0 {
            return Err("its flags cannot be");
        }
        Ok(meta)
    }
}

/// A page of a tree, its header checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    bytes: &'a [u8],
    pub(crate) flags: u16,
    nodes: usize,
    upper: usize,
}

/// One node of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) flags: u16,
    /// In a branch, the child. In a leaf, the size of the value.
    pub(crate) number: u64,
    /// In a leaf, the value, or the number of the overflow run's first page when the value is big.
    pub(crate) value: &'a [u8],
    /// What it takes in the page.
    bytes: usize,
}

impl<'a> Page<'a> {
    /// The page `number` of a tree, or what is wrong with it.
    pub(crate) fn parse(bytes: &'a [u8], number: u64) -> Result<Page<'a>, &'static str> {
        let cut = "it is cut short";
        if u64_at(bytes, 0) != Some(number) {
            return Err("it bears another page's number");
        }
        let flags = u16_at(bytes, 10).ok_or(cut)?;
        if flags != BRANCH && flags != LEAF {
            return Err("it is neither a branch nor a leaf");
        }
        let lower = usize::from(u16_at(bytes, 12).ok_or(cut)?);
        let upper = usize::from(u16_at(bytes, 14).ok_or(cut)?);
        if lower < HEADER || lower % 2 != 0 || lower > upper || upper > bytes.len() {
            return Err("its bounds cannot be");
        }
        Ok(Page {
            bytes,
            flags,
            nodes: (lower - HEADER) / 2,
            upper,
        })
    }

    /// How many nodes it has.
    pub(crate) fn len(&self) -> usize {
        self.nodes
    }

    /// One node, or none when it lies outside the page.
    pub(crate) fn node(&self, place: usize) -> Option<Node<'a>> {
        let at = usize::from(u16_at(self.bytes, HEADER + 2 * place)?);
        if at < self.upper {
            return None;
        }
        let low = u64::from(u32_at(self.bytes, at)?);
        let flags = u16_at(self.bytes, at + 4)?;
        let key_bytes = usize::from(u16_at(self.bytes, at + 6)?);
        let key = self.bytes.get(at + NODE_HEADER..)?.get(..key_bytes)?;
        if self.flags == BRANCH {
            let number = low | u64::from(flags) << 32;
            let bytes = even(NODE_HEADER + key_bytes);
            return Some(Node {
                key,
                flags: 0,
                number,
                value: &[],
                bytes,
            });
        }
        let value_bytes = if flags & BIG != 0 { 8 } else { low as usize };
        let value = self
            .bytes
            .get(at + NODE_HEADER + key_bytes..)?
            .get(..value_bytes)?;
        let bytes = even(NODE_HEADER + key_bytes + value_bytes);
        Some(Node {
            key,
            flags,
            number: low,
            value,
            bytes,
        })
    }

    /// Whether nodes of these sizes fill the page from its upper bound to its end, as LMDB packs them.
    pub(crate) fn is_filled_by(&self, bytes: usize) -> bool {
        self.upper + bytes == self.bytes.len()
    }
}

impl Node<'_> {
    /// What the node takes in its page.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How many pages the overflow run that begins with this header has, or what is wrong with it.
pub(crate) fn overflow_pages(header: &[u8], number: u64) -> Result<u64, &'static str> {
    if u64_at(header, 0) != Some(number) {
        return Err("it bears another page's number");
    }
    if u16_at(header, 10) != Some(OVERFLOW) {
        return Err("it is not an overflow page");
    }
    u32_at(header, 12).map(u64::from).ok_or("it is cut short")
}

/// The page number that a big node's value is.
pub(crate) fn page_number(value: &[u8]) -> Option<u64> {
    u64_at(value, 0)
}

fn even(bytes: usize) -> usize {
    bytes + bytes % 2
}
