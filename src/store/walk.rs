//! A walk over the trees of an LMDB file, page by page, that trusts nothing it reads.

use std::{cmp::Ordering, fs::File, os::unix::fs::FileExt};

use crate::{
    page::{self, HEADER, Meta, Node, Page, Tree},
    verify::{Damage, STAMP_KEY},
};

/// The longest key that LMDB takes, in bytes.
const KEY_BYTES_MAX: usize = 511;

/// The deepest tree that LMDB walks (`CURSOR_STACK`).
const DEPTH_MAX: u16 = 32;

/// The keys that the nodes of a page may have: from the first on, before the second.
type Bounds<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// What a tree holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The free list.
    Free,
    /// The table of tables.
    Main,
    /// A table.
    Table,
}

/// What a walk over one tree has counted.
#[derive(Default, PartialEq, Eq)]
struct Counts {
    branch_pages: u64,
    leaf_pages: u64,
    overflow_pages: u64,
    entries: u64,
}

/// The walk, and what it has found so far.
pub(crate) struct Walk<'a> {
    file: &'a File,
    meta: Meta,
    /// How many whole pages the file has.
    file_pages: u64,
    /// One bit a page: whether it is known to be free or in a tree.
    claimed: Vec<u64>,
    /// Page buffers that are not in use.
    buffers: Vec<Vec<u8>>,
    /// Tables found and not yet walked.
    tables: Vec<Tree>,
}

impl<'a> Walk<'a> {
    /// Begins the walk of a file as this description of it says.
    pub(crate) fn new(file: &'a File, meta: Meta) -> Result<Walk<'a>, Damage> {
        let file_bytes = file.metadata()?.len();
        let file_pages = file_bytes / meta.page_bytes as u64;
        // Pages behind the file's end must all be listed as free, in the file.
        let pages_max = file_pages.saturating_add(file_bytes / 8);
        if meta.page_last < 1 || meta.page_last >= pages_max {
            return wrong(meta.transaction % 2, "the file is shorter than it says");
        }
        let words = meta.page_last as usize / 64 + 1;
        let mut walk = Walk {
            file,
            meta,
            file_pages,
            claimed: vec![0; words],
            buffers: Vec::new(),
            tables: Vec::new(),
        };
        walk.claim(0)?;
        walk.claim(1)?;
        Ok(walk)
    }

    /// Takes a page for one use; a second use is damage.
    fn claim(&mut self, page: u64) -> Result<(), Damage> {
        if page > self.meta.page_last {
            return wrong(page, "it lies behind the last page");
        }
        let (word, bit) = (page as usize / 64, 1 << (page % 64));
        if self.claimed[word] & bit != 0 {
            return wrong(page, "it is used twice, or free and used");
        }
        self.claimed[word] |= bit;
        Ok(())
    }

    /// Whatever is behind the file's end must be free. Only the free list has been walked when this is asked.
    pub(crate) fn check_end(&self) -> Result<(), Damage> {
        for page in self.file_pages..=self.meta.page_last {
            if self.claimed[page as usize / 64] & (1 << (page % 64)) == 0 {
                return wrong(page, "the file ends before it");
            }
        }
        Ok(())
    }

    /// The stamp that a transaction left in its table of tables must be its own number.
    pub(crate) fn check_stamp(&mut self, meta: &Meta) -> Result<(), Damage> {
        let mut number = meta.main.root;
        if number == page::NO_PAGE {
            return Ok(());
        }
        for _ in 0..DEPTH_MAX {
            let bytes = self.read(number)?;
            let page = Page::parse(&bytes, number).or_else(|reason| wrong(number, reason))?;
            let mut child = None;
            for place in 0..page.len() {
                let Some(node) = page.node(place) else {
                    return wrong(number, "a node lies outside it");
                };
                if page.flags == page::LEAF && node.key == STAMP_KEY {
                    if node.value != meta.transaction.to_ne_bytes() {
                        return wrong(
                            meta.transaction % 2,
                            "it points to the data of another transaction than it says",
                        );
                    }
                    return Ok(());
                }
                if page.flags == page::BRANCH && (place == 0 || node.key <= STAMP_KEY) {
                    child = Some(node.number);
                }
            }
            match child {
                Some(child) => number = child,
                None => return Ok(()),
            }
        }
        wrong(number, "the tree is deeper than LMDB's can be")
    }

    /// Walks a tree, and compares what it finds with what the tree's description counts.
    pub(crate) fn tree(&mut self, tree: &Tree, kind: Kind) -> Result<(), Damage> {
        let meta_page = self.meta.transaction % 2;
        if kind == Kind::Table && tree.flags != 0 {
            return wrong(tree.root, "its table is of a kind that is not in use");
        }
        let mut counts = Counts::default();
        if tree.root == page::NO_PAGE {
            if tree.depth != 0 {
                return wrong(meta_page, "an empty tree has a depth");
            }
        } else {
            if tree.depth == 0 || tree.depth > DEPTH_MAX {
                return wrong(tree.root, "its tree has a depth that cannot be");
            }
            self.page(tree.root, tree.depth, kind, &mut counts, (None, None))?;
        }
        let said = Counts {
            branch_pages: tree.branch_pages,
            leaf_pages: tree.leaf_pages,
            overflow_pages: tree.overflow_pages,
            entries: tree.entries,
        };
        if counts != said {
            let page = if tree.root == page::NO_PAGE {
                meta_page
            } else {
                tree.root
            };
            return wrong(page, "its tree has not as many pages or entries as it says");
        }
        Ok(())
    }

    /// Walks every table that the table of tables named.
    pub(crate) fn tables(&mut self) -> Result<(), Damage> {
        while let Some(table) = self.tables.pop() {
            self.tree(&table, Kind::Table)?;
        }
        Ok(())
    }

    /// Walks one page and what is below it. Its keys lie from the first bound on, before the second.
    fn page(
        &mut self,
        number: u64,
        levels: u16,
        kind: Kind,
        counts: &mut Counts,
        (lower, upper): Bounds<'_>,
    ) -> Result<(), Damage> {
        self.claim(number)?;
        let bytes = self.read(number)?;
        let page = Page::parse(&bytes, number).or_else(|reason| wrong(number, reason))?;
        let is_leaf = levels == 1;
        if is_leaf != (page.flags == page::LEAF) {
            return wrong(number, "it is at the wrong depth of its tree");
        }
        // LMDB aborts on a branch with a single child, except in the free list.
        if page.len() < if is_leaf || kind == Kind::Free { 1 } else { 2 } {
            return wrong(number, "it has too few nodes");
        }
        self.check_order(number, &page, kind, (lower, upper))?;
        if is_leaf {
            counts.leaf_pages += 1;
            counts.entries += page.len() as u64;
            for place in 0..page.len() {
                let Some(node) = page.node(place) else {
                    continue;
                };
                self.leaf_node(number, &node, kind, counts)?;
            }
        } else {
            counts.branch_pages += 1;
            for place in 0..page.len() {
                let Some(node) = page.node(place) else {
                    continue;
                };
                let from = if place == 0 { lower } else { Some(node.key) };
                let next = page.node(place + 1).filter(|_| place + 1 < page.len());
                let to = next.map_or(upper, |next| Some(next.key));
                self.page(node.number, levels - 1, kind, counts, (from, to))?;
            }
        }
        self.buffers.push(bytes);
        Ok(())
    }

    /// Every node lies inside the page, they fill it, and their keys are in order.
    fn check_order(
        &self,
        number: u64,
        page: &Page<'_>,
        kind: Kind,
        (lower, upper): Bounds<'_>,
    ) -> Result<(), Damage> {
        let mut filled = 0;
        let mut previous = lower.map(|lower| (lower, false));
        for place in 0..page.len() {
            let Some(node) = page.node(place) else {
                return wrong(number, "a node lies outside it");
            };
            filled += node.bytes();
            if page.flags == page::BRANCH && place == 0 {
                // The first key of a branch stands for everything below the second, whatever it is.
                continue;
            }
            let fits = if kind == Kind::Free {
                node.key.len() == 8
            } else {
                (1..=KEY_BYTES_MAX).contains(&node.key.len())
            };
            if !fits {
                return wrong(number, "a key has a size that cannot be");
            }
            let in_order = previous.is_none_or(|(previous, strictly)| {
                match compare(kind, previous, node.key) {
                    Ordering::Less => true,
                    Ordering::Equal => !strictly,
                    Ordering::Greater => false,
                }
            });
            if !in_order
                || upper.is_some_and(|upper| compare(kind, node.key, upper) != Ordering::Less)
            {
                return wrong(number, "its keys are not in order");
            }
            previous = Some((node.key, true));
        }
        if !page.is_filled_by(filled) {
            return wrong(number, "its nodes overlap or leave gaps");
        }
        Ok(())
    }

    fn leaf_node(
        &mut self,
        number: u64,
        node: &Node<'_>,
        kind: Kind,
        counts: &mut Counts,
    ) -> Result<(), Damage> {
        match (node.flags, kind) {
            (0, Kind::Free) => self.free_list(number, node.key, node.value),
            (0, _) => Ok(()),
            (page::BIG, _) => {
                let run = self.overflow(number, node, counts)?;
                if kind == Kind::Free {
                    let mut value = vec![0; node.number as usize];
                    let at = run * self.meta.page_bytes as u64 + HEADER as u64;
                    self.file.read_exact_at(&mut value, at)?;
                    return self.free_list(number, node.key, &value);
                }
                Ok(())
            }
            (page::SUBTREE, Kind::Main) => match Tree::parse(node.value) {
                Some(table) => {
                    self.tables.push(table);
                    Ok(())
                }
                None => wrong(number, "the description of a table is cut short"),
            },
            _ => wrong(number, "a node is of a kind that is not in use"),
        }
    }

    /// Claims the run of overflow pages that holds a node's value; gives its first.
    fn overflow(
        &mut self,
        number: u64,
        node: &Node<'_>,
        counts: &mut Counts,
    ) -> Result<u64, Damage> {
        let Some(first) = page::page_number(node.value) else {
            return wrong(number, "a node lies outside it");
        };
        if first >= self.file_pages {
            return wrong(first, "the file ends before it");
        }
        let mut header = [0; HEADER];
        self.file
            .read_exact_at(&mut header, first * self.meta.page_bytes as u64)?;
        let pages = page::overflow_pages(&header, first).or_else(|reason| wrong(first, reason))?;
        let bytes = HEADER as u64 + node.number;
        if pages > self.file_pages - first || bytes > pages * self.meta.page_bytes as u64 {
            return wrong(first, "its value does not fit its pages, or they the file");
        }
        for page in first..first + pages {
            self.claim(page)?;
        }
        counts.overflow_pages += pages;
        Ok(first)
    }

    /// A record of the free list: how many pages one transaction freed, and which, the highest first.
    fn free_list(&mut self, number: u64, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        let transaction = page::page_number(key);
        if transaction.is_none_or(|transaction| transaction > self.meta.transaction) {
            return wrong(number, "a page was freed by a transaction that never was");
        }
        let Some(count) = page::page_number(value) else {
            return wrong(number, "a record of free pages is cut short");
        };
        let listed = value.chunks_exact(8).skip(1);
        if count > listed.len() as u64 {
            return wrong(number, "a record of free pages is cut short");
        }
        let mut previous = u64::MAX;
        for page in listed.take(count as usize).filter_map(page::page_number) {
            if page >= previous {
                return wrong(number, "a record of free pages is not in order");
            }
            previous = page;
            self.claim(page)?;
        }
        Ok(())
    }

    /// Reads a page into a buffer, which the caller may give back.
    fn read(&mut self, number: u64) -> Result<Vec<u8>, Damage> {
        if number >= self.file_pages {
            return wrong(number, "the file ends before it");
        }
        let mut bytes = self
            .buffers
            .pop()
            .unwrap_or_else(|| vec![0; self.meta.page_bytes]);
        self.file
            .read_exact_at(&mut bytes, number * self.meta.page_bytes as u64)?;
        Ok(bytes)
    }
}

fn compare(kind: Kind, a: &[u8], b: &[u8]) -> Ordering {
    if kind == Kind::Free {
        page::page_number(a).cmp(&page::page_number(b))
    } else {
        a.cmp(b)
    }
}

/// Names the damage of a page.
pub(crate) fn wrong<T>(page: u64, reason: &'static str) -> Result<T, Damage> {
    Err(Damage::Page { page, reason })
}
