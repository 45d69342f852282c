//! Users, roles and permissions, in memory and in a table of their own: few, and asked about with every request.

use std::collections::BTreeMap;

use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, RoTxn, RwTxn};
use rm_store::Environment;
use serde::{Deserialize, Serialize};

use crate::auth_command::{
    AuthCommand, AuthError, AuthNews, AuthReply, Permission, PermissionKind,
};
use crate::error::{Failure, KvError};
use crate::frame;
use crate::ranges::Ranges;
use crate::span::Span;

/// The table.
pub(crate) const AUTH_TABLE: &str = "auth";

/// The longest name of a user or a role, in bytes: it is the key of a table.
pub const NAME_BYTES_MAX: usize = 256;

/// The user that must be there where permissions are asked for, and the role that permits everything.
const ROOT: &str = "root";

const SETTINGS: &[u8] = b"s";
const USER: u8 = b'u';
const ROLE: u8 = b'r';

/// Users, roles and permissions.
///
/// Invariants: what is in memory is what is in the table, as the open transaction shows it; a user's roles and a role's permissions
/// are in order.
pub(crate) struct Auth {
    table: Database<'static, Raw, Raw>,
    settings: Settings,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Vec<Permission>>,
    /// What each user may, by its roles.
    rights: BTreeMap<String, Rights>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Settings {
    enabled: bool,
    /// How often anything of this has changed, and one more, as in etcd.
    revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    /// The hash of its password, if it has one.
    password: Option<String>,
    roles: Vec<String>,
}

/// What a user may.
#[derive(Default)]
struct Rights {
    /// Whether it may everything.
    root: bool,
    read: Ranges,
    write: Ranges,
}

impl Auth {
    /// Opens the table, and makes it where there is none.
    pub(crate) fn open(environment: &Environment) -> Result<Auth, KvError> {
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
        let mut auth = Auth {
            table,
            settings: Settings {
                enabled: false,
                revision: 1,
            },
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            rights: BTreeMap::new(),
        };
        let txn = env.read_txn()?;
        auth.load(&txn)?;
        drop(txn);
        Ok(auth)
    }

    fn load(&mut self, txn: &RoTxn) -> Result<(), KvError> {
        for item in self.table.iter(txn)? {
            let (key, value) = item?;
            let name = |name: &[u8]| {
                let name = std::str::from_utf8(name);
                name.map(str::to_owned)
                    .map_err(|_| KvError::damaged(AUTH_TABLE, key, "the name is no text"))
            };
            match key.split_first() {
                Some((&USER, rest)) => {
                    let user = frame::open(AUTH_TABLE, key, value)?.0;
                    self.users.insert(name(rest)?, user);
                }
                Some((&ROLE, rest)) => {
                    let role: Vec<StoredPermission> = frame::open(AUTH_TABLE, key, value)?.0;
                    let role = role.into_iter().map(StoredPermission::into).collect();
                    self.roles.insert(name(rest)?, role);
                }
                _ if key == SETTINGS => self.settings = frame::open(AUTH_TABLE, key, value)?.0,
                _ => {
                    return Err(KvError::damaged(
                        AUTH_TABLE,
                        key,
                        "nothing lies under this key",
                    ));
                }
            }
        }
        self.weigh();
        Ok(())
    }

    /// Whether permissions are asked for.
    pub(crate) fn enabled(&self) -> bool {
        self.settings.enabled
    }

    /// How often users, roles or permissions have changed, and one more.
    pub(crate) fn revision(&self) -> u64 {
        self.settings.revision
    }

    /// Whether a user may everything.
    ///
    /// # Errors
    /// There is no such user.
    pub(crate) fn is_root(&self, user: &str) -> Result<bool, AuthError> {
        let rights = self.rights.get(user).ok_or(AuthError::UserNotFound)?;
        Ok(rights.root)
    }

    /// Whether a user may read, or write, all keys of a span. One that is not there may nothing.
    pub(crate) fn permits(&self, user: &str, span: Span, write: bool) -> bool {
        self.rights.get(user).is_some_and(|rights| {
            let ranges = if write { &rights.write } else { &rights.read };
            rights.root || ranges.cover(span)
        })
    }

    pub(crate) fn has_role(&self, user: &str, role: &str) -> bool {
        let has = |user: &User| user.roles.iter().any(|has| has == role);
        self.users.get(user).is_some_and(has)
    }

    pub(crate) fn status(&self) -> AuthReply {
        AuthReply::Status {
            enabled: self.settings.enabled,
            revision: self.settings.revision,
        }
    }

    pub(crate) fn users(&self) -> AuthReply {
        AuthReply::Names(self.users.keys().cloned().collect())
    }

    pub(crate) fn roles(&self) -> AuthReply {
        AuthReply::Names(self.roles.keys().cloned().collect())
    }

    pub(crate) fn roles_of(&self, user: &str) -> Result<AuthReply, AuthError> {
        let user = self.users.get(user).ok_or(AuthError::UserNotFound)?;
        Ok(AuthReply::Names(user.roles.clone()))
    }

    pub(crate) fn permissions_of(&self, role: &str) -> Result<AuthReply, AuthError> {
        let permissions = self.roles.get(role).ok_or(AuthError::RoleNotFound)?;
        let everything = Permission {
            kind: PermissionKind::ReadWrite,
            key: bytes::Bytes::new(),
            range_end: bytes::Bytes::from_static(&[0]),
        };
        Ok(AuthReply::Permissions(match role {
            ROOT => vec![everything],
            _ => permissions.clone(),
        }))
    }

    /// How a user proves itself.
    pub(crate) fn password_of(&self, user: &str) -> Result<AuthReply, AuthError> {
        if !self.settings.enabled {
            return Err(AuthError::NotEnabled);
        }
        let user = self.users.get(user).ok_or(AuthError::Failed)?;
        Ok(AuthReply::Password {
            hash: user.password.clone(),
            revision: self.settings.revision,
        })
    }

    /// Carries out a change, in etcd's order of checks. `entry` is the index of the entry that asks for it.
    pub(crate) fn apply(
        &mut self,
        txn: &mut RwTxn,
        entry: u64,
        command: &AuthCommand,
        news: &mut Vec<AuthNews>,
    ) -> Result<AuthReply, Failure> {
        match command {
            AuthCommand::Enable => return self.enable(txn),
            AuthCommand::Disable => {
                if !self.settings.enabled {
                    return Ok(AuthReply::Done);
                }
                self.settings.enabled = false;
                news.push(AuthNews::AllDismissed);
            }
            AuthCommand::Admit {
                user,
                token,
                revision,
            } => return self.admit(user, format!("{token}.{entry}"), *revision, news),
            AuthCommand::AddUser { name, password } => self.add_user(txn, name, password)?,
            AuthCommand::DeleteUser { name } => {
                if self.settings.enabled && name == ROOT {
                    return Err(AuthError::InvalidManagement.into());
                }
                self.users.remove(name).ok_or(AuthError::UserNotFound)?;
                self.table.delete(txn, &key(USER, name))?;
                news.push(AuthNews::Dismissed(name.clone()));
            }
            AuthCommand::ChangePassword { name, password } => {
                let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
                if user.password.is_some() {
                    user.password.clone_from(password);
                }
                self.put_user(txn, name)?;
                news.push(AuthNews::Dismissed(name.clone()));
            }
            AuthCommand::GrantRole { user, role } => {
                let roles = &self.roles;
                let granted = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if role != ROOT && !roles.contains_key(role) {
                    return Err(AuthError::RoleNotFound.into());
                }
                match granted.roles.binary_search(role) {
                    Ok(_) => return Ok(AuthReply::Done),
                    Err(place) => granted.roles.insert(place, role.clone()),
                }
                self.put_user(txn, user)?;
            }
            AuthCommand::RevokeRole { user, role } => {
                if self.settings.enabled && user == ROOT && role == ROOT {
                    return Err(AuthError::InvalidManagement.into());
                }
                let revoked = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                let place = revoked.roles.binary_search(role);
                let place = place.map_err(|_| AuthError::RoleNotGranted)?;
                revoked.roles.remove(place);
                self.put_user(txn, user)?;
            }
            AuthCommand::AddRole { name } => {
                check_name(name, AuthError::RoleEmpty)?;
                if self.roles.contains_key(name) {
                    return Err(AuthError::RoleExists.into());
                }
                self.roles.insert(name.clone(), Vec::new());
                self.put_role(txn, name)?;
            }
            AuthCommand::DeleteRole { name } => self.delete_role(txn, name)?,
            AuthCommand::GrantPermission { role, permission } => {
                self.grant_permission(txn, role, permission)?;
            }
            AuthCommand::RevokePermission {
                role,
                key,
                range_end,
            } => {
                let permissions = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                let before = permissions.len();
                permissions.retain(|it| it.key != key || it.range_end != range_end);
                if permissions.len() == before {
                    return Err(AuthError::PermissionNotGranted.into());
                }
                self.put_role(txn, role)?;
            }
        }
        self.settings.revision += 1;
        self.put_settings(txn)?;
        self.weigh();
        Ok(AuthReply::Done)
    }

    fn enable(&mut self, txn: &mut RwTxn) -> Result<AuthReply, Failure> {
        if self.settings.enabled {
            return Ok(AuthReply::Done);
        }
        let root = self.users.get(ROOT).ok_or(AuthError::NoRootUser)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(AuthError::NoRootRole.into());
        }
        self.settings.enabled = true;
        self.put_settings(txn)?;
        Ok(AuthReply::Done)
    }

    fn admit(
        &self,
        user: &str,
        token: String,
        revision: u64,
        news: &mut Vec<AuthNews>,
    ) -> Result<AuthReply, Failure> {
        if !self.settings.enabled {
            return Err(AuthError::NotEnabled.into());
        }
        if revision != self.settings.revision {
            return Err(AuthError::OldRevision.into());
        }
        let known = self.users.get(user).ok_or(AuthError::Failed)?;
        if known.password.is_none() {
            return Err(AuthError::Failed.into());
        }
        news.push(AuthNews::Admitted {
            token: token.clone(),
            user: user.to_owned(),
        });
        Ok(AuthReply::Admitted(token))
    }

    fn add_user(
        &mut self,
        txn: &mut RwTxn,
        name: &str,
        password: &Option<String>,
    ) -> Result<(), Failure> {
        check_name(name, AuthError::UserEmpty)?;
        if self.users.contains_key(name) {
            return Err(AuthError::UserExists.into());
        }
        let user = User {
            password: password.clone(),
            roles: Vec::new(),
        };
        self.users.insert(name.to_owned(), user);
        Ok(self.put_user(txn, name)?)
    }

    fn delete_role(&mut self, txn: &mut RwTxn, name: &str) -> Result<(), Failure> {
        if self.settings.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement.into());
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        self.table.delete(txn, &key(ROLE, name))?;
        let mut holders = Vec::new();
        for (user, holder) in &mut self.users {
            if let Ok(place) = holder
                .roles
                .binary_search_by(|role| role.as_str().cmp(name))
            {
                holder.roles.remove(place);
                holders.push(user.clone());
            }
        }
        for user in holders {
            self.put_user(txn, &user)?;
        }
        Ok(())
    }

    fn grant_permission(
        &mut self,
        txn: &mut RwTxn,
        role: &str,
        permission: &Permission,
    ) -> Result<(), Failure> {
        let Permission { key, range_end, .. } = permission;
        let is_valid = match Span::new(key, range_end) {
            Span::One(key) => !key.is_empty(),
            Span::From(start, end) => !start.is_empty() && end.is_none_or(|end| start < end),
        };
        if !is_valid {
            return Err(AuthError::InvalidManagement.into());
        }
        let permissions = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
        let order = |it: &Permission| (&it.key[..], &it.range_end[..]).cmp(&(key, range_end));
        match permissions.binary_search_by(order) {
            Ok(place) => permissions[place].kind = permission.kind,
            Err(place) => permissions.insert(place, permission.clone()),
        }
        Ok(self.put_role(txn, role)?)
    }

    fn put_user(&self, txn: &mut RwTxn, name: &str) -> Result<(), KvError> {
        match self.users.get(name) {
            Some(user) => self.put(txn, &key(USER, name), user),
            None => Ok(()),
        }
    }

    fn put_role(&self, txn: &mut RwTxn, name: &str) -> Result<(), KvError> {
        let Some(permissions) = self.roles.get(name) else {
            return Ok(());
        };
        let stored: Vec<StoredPermission> = permissions.iter().map(StoredPermission::of).collect();
        self.put(txn, &key(ROLE, name), &stored)
    }

    fn put_settings(&self, txn: &mut RwTxn) -> Result<(), KvError> {
        self.put(txn, SETTINGS, &self.settings)
    }

    fn put(&self, txn: &mut RwTxn, key: &[u8], value: &impl Serialize) -> Result<(), KvError> {
        let mut sealed = Vec::new();
        frame::seal(&mut sealed, key, value, [&[], &[]]);
        Ok(self.table.put(txn, key, &sealed)?)
    }

    /// Works out anew what each user may.
    fn weigh(&mut self) {
        let rights = |user: &User| {
            let permissions = || {
                let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
                roles.flatten()
            };
            let ranges = |other: PermissionKind| {
                let spans = permissions().filter(|it| it.kind != other);
                Ranges::of(spans.map(|it| Span::new(&it.key, &it.range_end)))
            };
            Rights {
                root: user.roles.iter().any(|role| role == ROOT),
                read: ranges(PermissionKind::Write),
                write: ranges(PermissionKind::Read),
            }
        };
        let users = self.users.iter();
        self.rights = users
            .map(|(name, user)| (name.clone(), rights(user)))
            .collect();
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

fn check_name(name: &str, empty: AuthError) -> Result<(), AuthError> {
    match name.len() {
        0 => Err(empty),
        bytes if bytes > NAME_BYTES_MAX => Err(AuthError::NameTooLong),
        _ => Ok(()),
    }
}
