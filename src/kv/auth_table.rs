//! The table of users, roles and permissions: a record for each user and each role, and one that tells whether they are asked for.

use std::collections::BTreeMap;

use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, RoTxn, RwTxn};
use rm_store::Environment;
use serde::{Deserialize, Serialize};

use crate::auth_command::{Permission, PermissionKind};
use crate::error::KvError;
use crate::frame;

/// The table.
pub(crate) const AUTH_TABLE: &str = "auth";

const SETTINGS: &[u8] = b"s";
const USER: u8 = b'u';
const ROLE: u8 = b'r';

/// The table, opened.
pub(crate) struct AuthTable(Database<'static, Raw, Raw>);

/// What does not belong to a user or a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) enabled: bool,
    /// How often anything of this has changed, and one more, as in etcd.
    pub(crate) revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    /// The hash of its password, if it has one.
    pub(crate) password: Option<String>,
    /// In order.
    pub(crate) roles: Vec<String>,
}

impl User {
    pub(crate) fn has(&self, role: &str) -> bool {
        self.place_of(role).is_ok()
    }

    /// Where among its roles this one is; otherwise where it belongs.
    pub(crate) fn place_of(&self, role: &str) -> Result<usize, usize> {
        self.roles.binary_search_by(|has| has.as_str().cmp(role))
    }
}

/// All that the table holds.
pub(crate) struct Stored {
    pub(crate) settings: Settings,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) roles: BTreeMap<String, Vec<Permission>>,
}

impl AuthTable {
    /// Opens the table, and makes it where there is none.
    pub(crate) fn open(environment: &Environment) -> Result<AuthTable, KvError> {
        let env = environment.env();
        let found = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
            let table = opener.open_database(txn, Some(AUTH_TABLE))?;
            Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit(table))
        })?;
        let table = match found.commit().flatten() {
            Some(table) => table,
            None => env
                .create_databases_and_commit(env.write_txn()?, |opener, txn| {
                    let table = opener.create_database(txn, Some(AUTH_TABLE))?;
                    environment.stamp(txn)?;
                    Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit(table))
                })?
                .commit()
                .expect("the closure returns an error or commits"),
        };
        Ok(AuthTable(table))
    }

    /// Reads all of it.
    pub(crate) fn load(&self, txn: &RoTxn) -> Result<Stored, KvError> {
        let mut stored = Stored {
            settings: Settings {
                enabled: false,
                revision: 1,
            },
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        for item in self.0.iter(txn)? {
            let (key, value) = item?;
            let name = |name: &[u8]| {
                let name = std::str::from_utf8(name);
                name.map(str::to_owned)
                    .map_err(|_| KvError::damaged(AUTH_TABLE, key, "the name is no text"))
            };
            match key.split_first() {
                Some((&USER, rest)) => {
                    let user = frame::open(AUTH_TABLE, key, value)?.0;
                    stored.users.insert(name(rest)?, user);
                }
                Some((&ROLE, rest)) => {
                    let role: Vec<StoredPermission> = frame::open(AUTH_TABLE, key, value)?.0;
                    let role = role.into_iter().map(StoredPermission::into).collect();
                    stored.roles.insert(name(rest)?, role);
                }
                _ if key == SETTINGS => stored.settings = frame::open(AUTH_TABLE, key, value)?.0,
                _ => {
                    return Err(KvError::damaged(
                        AUTH_TABLE,
                        key,
                        "nothing lies under this key",
                    ));
                }
            }
        }
        Ok(stored)
    }

    pub(crate) fn put_settings(&self, txn: &mut RwTxn, settings: &Settings) -> Result<(), KvError> {
        self.put(txn, SETTINGS, settings)
    }

    pub(crate) fn put_user(&self, txn: &mut RwTxn, name: &str, user: &User) -> Result<(), KvError> {
        self.put(txn, &key(USER, name), user)
    }

    pub(crate) fn delete_user(&self, txn: &mut RwTxn, name: &str) -> Result<(), KvError> {
        self.0.delete(txn, &key(USER, name))?;
        Ok(())
    }

    pub(crate) fn put_role(
        &self,
        txn: &mut RwTxn,
        name: &str,
        permissions: &[Permission],
    ) -> Result<(), KvError> {
        let stored: Vec<StoredPermission> = permissions.iter().map(StoredPermission::of).collect();
        self.put(txn, &key(ROLE, name), &stored)
    }

    pub(crate) fn delete_role(&self, txn: &mut RwTxn, name: &str) -> Result<(), KvError> {
        self.0.delete(txn, &key(ROLE, name))?;
        Ok(())
    }

    fn put(&self, txn: &mut RwTxn, key: &[u8], value: &impl Serialize) -> Result<(), KvError> {
        let mut sealed = Vec::new();
        frame::seal(&mut sealed, key, value, [&[], &[]]);
        Ok(self.0.put(txn, key, &sealed)?)
    }
}

/// A permission as it lies in the table.
#[derive(Serialize, Deserialize)]
struct StoredPermission {
    kind: PermissionKind,
    key: Vec<u8>,
    range_end: Vec<u8>,
}

impl StoredPermission {
    fn of(permission: &Permission) -> StoredPermission {
        StoredPermission {
            kind: permission.kind,
            key: permission.key.to_vec(),
            range_end: permission.range_end.to_vec(),
        }
    }
}

impl From<StoredPermission> for Permission {
    fn from(stored: StoredPermission) -> Permission {
        Permission {
            kind: stored.kind,
            key: stored.key.into(),
            range_end: stored.range_end.into(),
        }
    }
}

fn key(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], name.as_bytes()].concat()
}
