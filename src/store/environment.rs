//! One LMDB file: checked before it is mapped, opened once, and asked for its space.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RwTxn, WithoutTls, types::Bytes,
};
use rustix::io::Errno;

use crate::{
    DataDirectory, FaultHook, OpenError, Point, origin,
    page::Tree,
    shortage,
    verify::{Damage, Extent, STAMP_KEY, verify},
};

/// The file in an environment's folder that LMDB keeps its pages in.
pub(crate) const DATA_FILE: &str = "data.mdb";

/// The map is a multiple of this, which is one of every page size in use.
const MAP_UNIT: usize = 1 << 20;

/// The smallest map that is still tried when the system refuses larger ones.
const MAP_BYTES_MIN: usize = 64 << 20;

/// When a commit is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it returns: all of it is flushed to the disk.
    #[default]
    Full,
    /// When the system chooses to write it: a crash of the process loses nothing, one of the system may lose or damage
    /// everything.
    System,
}

/// How to open an environment.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address space to reserve, in bytes, which is the most that the file may grow to. Less is taken when the system
    /// refuses so much.
    pub map_bytes: usize,
    /// When a commit is durable.
    pub durability: Durability,
    /// The largest file, in bytes, whose trees are walked to the last leaf before it is mapped. Of a larger one only the
    /// ends are checked, and [`DataDirectory::verify`] does the rest when asked.
    pub verify_bytes_max: u64,
    /// Whether the system should read ahead of what is asked: good for a log, bad for random reads of much data.
    pub read_ahead: bool,
    /// The most tables.
    pub tables_max: u32,
    /// The most read transactions at once.
    pub readers_max: u32,
    /// Makes transactions fail, for tests.
    pub fault: FaultHook,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            map_bytes: 1 << 40,
            durability: Durability::Full,
            verify_bytes_max: 1 << 30,
            read_ahead: true,
            tables_max: 32,
            readers_max: 126,
            fault: FaultHook::default(),
        }
    }
}

/// What an environment takes, and what is left for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the pages that hold data.
    pub used_bytes: u64,
    /// Bytes of the file; pages that were freed stay in it and are used again.
    pub file_bytes: u64,
    /// Bytes that the file may grow to.
    pub map_bytes: u64,
    /// Bytes that this user may still write to the file system.
    pub free_bytes: u64,
}

/// An open LMDB environment. Clones share it; it closes with the last of them and of its transactions.
#[derive(Clone, Debug)]
pub struct Environment {
    env: Env<WithoutTls>,
    /// The table that LMDB keeps the other tables' roots in; it holds the stamp too.
    roots: Database<'static, Bytes, Bytes>,
    fault: FaultHook,
}

impl Environment {
    /// Creates or opens the environment `name` of a data directory.
    ///
    /// Its file is checked before LMDB maps it, since LMDB trusts every number in it.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] says which page is wrong, [`OpenError::ForeignFile`] that it is another data directory's file, [`OpenError::Missing`] that the file is gone though it was there,
    /// [`OpenError::NoSpace`] that the disk is full.
    pub fn open(
        directory: &DataDirectory,
        name: &str,
        options: &Options,
    ) -> Result<Environment, OpenError> {
        let path = directory.path().join(name);
        check(directory, name, &path.join(DATA_FILE), options)?;
        fs::create_dir_all(&path).map_err(|error| OpenError::io("create", &path, error))?;
        let lmdb = |error| OpenError::lmdb(&path, error);
        let env = map(&path, options, EnvFlags::empty()).map_err(lmdb)?;
        let environment = Environment {
            roots: open_roots(&env).map_err(lmdb)?,
            env,
            fault: options.fault.clone(),
        };
        environment.check_origin(directory, name, &path)?;
        if !directory.knows(name) {
            sync_new(&path).map_err(|error| OpenError::io("write", &path, error))?;
            directory.remember(name)?;
        }
        Ok(environment)
    }

    /// Opens a compact copy to look into it. Nothing is written; its file must be sound, as [`verify_copy`](crate::verify_copy) finds, and must
    /// not change meanwhile.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn inspect(file: &Path, options: &Options) -> Result<Environment, OpenError> {
        let lmdb = |error| OpenError::lmdb(file, error);
        let flags = EnvFlags::READ_ONLY | EnvFlags::NO_LOCK | EnvFlags::NO_SUB_DIR;
        let env = map(file, options, flags).map_err(lmdb)?;
        Ok(Environment {
            roots: open_roots(&env).map_err(lmdb)?,
            env,
            fault: options.fault.clone(),
        })
    }

    /// Gives a compact copy the mark of this data directory and stamps of its own, durably.
    pub(crate) fn adopt(
        path: &Path,
        data_id: &str,
        name: &str,
        options: &Options,
    ) -> Result<(), OpenError> {
        let lmdb = |error| OpenError::lmdb(path, error);
        let options = Options {
            durability: Durability::Full,
            ..options.clone()
        };
        let env = map(path, &options, EnvFlags::empty()).map_err(lmdb)?;
        let environment = Environment {
            roots: open_roots(&env).map_err(lmdb)?,
            env,
            fault: options.fault,
        };
        // Each commit writes one of the file's two descriptions, and both must be of a transaction that is stamped.
        for _ in 0..2 {
            environment
                .write_origin(&origin::mark(data_id, name))
                .map_err(lmdb)?;
        }
        Ok(())
    }

    /// Compares the mark in the file with the data directory's, and makes the one of a new file.
    fn check_origin(
        &self,
        directory: &DataDirectory,
        name: &str,
        path: &Path,
    ) -> Result<(), OpenError> {
        let lmdb = |error| OpenError::lmdb(path, error);
        let file = path.join(DATA_FILE);
        let data_id = directory.data_id();
        let txn = self.env.read_txn().map_err(lmdb)?;
        match self.roots.get(&txn, origin::ORIGIN_KEY).map_err(lmdb)? {
            Some(mark) => match origin::is_own(mark, &data_id, name) {
                Ok(true) => Ok(()),
                Ok(false) => Err(OpenError::ForeignFile { path: file }),
                Err(damage) => Err(OpenError::Damaged { path: file, damage }),
            },
            None if directory.knows(name) || !self.roots.is_empty(&txn).map_err(lmdb)? => {
                Err(OpenError::Damaged {
                    path: file,
                    damage: Damage::Origin,
                })
            }
            None => {
                drop(txn);
                self.write_origin(&origin::mark(&data_id, name))
                    .map_err(lmdb)
            }
        }
    }

    fn write_origin(&self, mark: &[u8]) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        self.roots.put(&mut txn, origin::ORIGIN_KEY, mark)?;
        self.stamp(&mut txn)?;
        txn.commit().map_err(|error| self.explain(error))
    }

    /// The environment itself, to open tables in and begin transactions on.
    pub fn env(&self) -> &Env<WithoutTls> {
        &self.env
    }

    /// What it takes, and what is left for it.
    pub fn space(&self) -> heed::Result<Space> {
        let txn = self.env.read_txn()?;
        let main = self.env.unnamed_database_stat();
        let mut pages = main.branch_pages + main.leaf_pages + main.overflow_pages;
        for item in self.roots.iter(&txn)? {
            let (_, value) = item?;
            pages += Tree::parse(value).map_or(0, |tree| tree.pages() as usize);
        }
        let file = self.env.try_clone_inner_file()?;
        let system = rustix::fs::fstatvfs(&file).map_err(io::Error::from)?;
        Ok(Space {
            used_bytes: pages as u64 * u64::from(main.page_size),
            file_bytes: file.metadata()?.len(),
            map_bytes: self.env.info().map_size as u64,
            free_bytes: system.f_bavail.saturating_mul(system.f_frsize),
        })
    }

    /// Writes the number of the transaction into it, so that a damaged or stale root is known when the file is opened.
    ///
    /// The first transaction is stamped, so all must be. A compact copy bears the stamp of its source until it is adopted: LMDB
    /// numbers the transactions of a copy from one.
    pub fn stamp(&self, txn: &mut RwTxn<'_>) -> heed::Result<()> {
        let number = txn.id() as u64;
        self.roots.put(txn, STAMP_KEY, &number.to_ne_bytes())
    }

    /// Stamps and commits a transaction; when this returns, it is as durable as the options say.
    pub fn commit(&self, mut txn: RwTxn<'_>) -> heed::Result<()> {
        self.stamp(&mut txn)?;
        self.at(Point::Commit)?;
        txn.commit().map_err(|error| self.explain(error))?;
        self.at(Point::Committed)
    }

    /// Writes a small file beside the data, durably, and removes it again: whether there is space where the file system's numbers do
    /// not tell, as under a quota.
    ///
    /// # Errors
    /// What the system answers.
    pub fn probe(&self) -> io::Result<()> {
        shortage::probe(self.env.path())
    }

    /// Asks the fault hook.
    pub(crate) fn at(&self, point: Point) -> heed::Result<()> {
        self.fault.at(point).map_err(heed::Error::Io)
    }

    /// Tells a want of space from a disk that fails, which LMDB does not.
    fn explain(&self, error: heed::Error) -> heed::Error {
        shortage::explain(
            error,
            || self.space().ok().map(|space| space.free_bytes),
            || self.probe(),
        )
    }
}

/// Checks the file before LMDB sees it.
fn check(
    directory: &DataDirectory,
    name: &str,
    file: &Path,
    options: &Options,
) -> Result<(), OpenError> {
    let known = directory.knows(name);
    let bytes = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !known => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing {
                path: file.to_owned(),
            });
        }
        Err(error) => return Err(OpenError::io("read", file, error)),
    };
    let extent = if bytes <= options.verify_bytes_max {
        Extent::Everything
    } else {
        Extent::Ends
    };
    match verify(file, extent) {
        Err(Damage::Page { .. }) if !known => {
            // A power cut ended the very first opening: nothing was ever promised on this file.
            fs::remove_file(file).map_err(|error| OpenError::io("remove", file, error))
        }
        Err(damage) => Err(OpenError::Damaged {
            path: PathBuf::from(file),
            damage,
        }),
        Ok(_) => Ok(()),
    }
}

/// Maps the file, with as much address space as the options ask for and the system gives.
fn map(path: &Path, options: &Options, mut flags: EnvFlags) -> heed::Result<Env<WithoutTls>> {
    if options.durability == Durability::System {
        flags |= EnvFlags::NO_SYNC;
    }
    if !options.read_ahead {
        flags |= EnvFlags::NO_READ_AHEAD;
    }
    let mut map_bytes = (options.map_bytes / MAP_UNIT).max(1) * MAP_UNIT;
    loop {
        let mut open = EnvOpenOptions::new().read_txn_without_tls();
        open.map_size(map_bytes)
            .max_dbs(options.tables_max)
            .max_readers(options.readers_max);
        #[expect(
            unsafe_code,
            reason = "LMDB maps the file: the data directory's lock keeps other processes from changing it, and its \
                      structure was checked; NO_SYNC endangers only durability, which the options gave up"
        )]
        let opened = unsafe { open.flags(flags).open(path) };
        match opened {
            Err(heed::Error::Io(error))
                if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error())
                    && map_bytes / 2 >= MAP_BYTES_MIN =>
            {
                map_bytes = map_bytes / 2 / MAP_UNIT * MAP_UNIT;
            }
            opened => return opened,
        }
    }
}

fn open_roots(env: &Env<WithoutTls>) -> heed::Result<Database<'static, Bytes, Bytes>> {
    let txn = env.read_txn()?;
    let roots = env.open_databases_and_commit(txn, |opener, txn| {
        let roots = opener.open_database::<Bytes, Bytes>(txn, None)?;
        roots
            .map(CommitOrAbort::<_, ()>::Commit)
            .ok_or(heed::Error::Mdb(heed::MdbError::NotFound))
    })?;
    roots
        .commit()
        .ok_or(heed::Error::Mdb(heed::MdbError::NotFound))
}

/// Makes a new environment's file, its folder and the folder's name durable.
fn sync_new(path: &Path) -> io::Result<()> {
    File::open(path.join(DATA_FILE))?.sync_all()?;
    File::open(path)?.sync_all()?;
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::identity;

    #[test]
    fn full_durability_leaves_out_no_flush() {
        let folder = tempfile::TempDir::new().unwrap();
        let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
        let flags = |name, durability| {
            let options = Options {
                map_bytes: 64 << 20,
                durability,
                ..Options::default()
            };
            let environment = Environment::open(&directory, name, &options).unwrap();
            environment.env().get_flags().unwrap()
        };
        let careless = EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::MAP_ASYNC;
        assert_eq!(flags("full", Durability::Full) & careless.bits(), 0);
        assert_ne!(
            flags("system", Durability::System) & careless.bits(),
            0,
            "a flag that is set is seen"
        );
    }
}
