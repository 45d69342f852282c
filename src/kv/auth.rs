//! Users, roles and permissions, in memory and in a table of their own: few, and asked about with every request.

use std::collections::BTreeMap;

use heed::RwTxn;
use rm_store::Environment;

use crate::auth_command::{
    AuthCommand, AuthError, AuthNews, AuthReply, Permission, PermissionKind,
};
use crate::auth_table::{AuthTable, Settings, User};
use crate::error::{Failure, KvError};
use crate::ranges;
use crate::role::Role;
use crate::span::Span;

/// The longest name of a user or a role, in bytes: it is the key of a table.
pub const NAME_BYTES_MAX: usize = 256;

/// The most users.
pub const USERS_MAX: usize = 10_000;

/// The most roles.
pub const ROLES_MAX: usize = 10_000;

/// The most roles of one user: all are looked at to judge a request of it.
pub const ROLES_OF_USER_MAX: usize = 100;

/// The user that must be there where permissions are asked for, and the role that permits everything.
const ROOT: &str = "root";

/// Users, roles and permissions.
///
/// Invariants: what is in memory is what is in the table, as the open transaction shows it; a user's roles and a role's permissions
/// are in order; what a role permits is worked out from its permissions. There are no more users, roles and roles of a user than the
/// limits above say.
pub(crate) struct Auth {
    table: AuthTable,
    settings: Settings,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
}

/// Whether a command changed who may what: then the revision rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}

impl Auth {
    /// Opens the table, and makes it where there is none.
    pub(crate) fn open(environment: &Environment) -> Result<Auth, KvError> {
        let table = AuthTable::open(environment)?;
        let txn = environment.env().read_txn()?;
        let stored = table.load(&txn)?;
        let roles = stored.roles.into_iter();
        Ok(Auth {
            table,
            settings: stored.settings,
            users: stored.users,
            roles: roles
                .map(|(name, permissions)| (name, Role::new(permissions)))
                .collect(),
        })
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
        let user = self.users.get(user).ok_or(AuthError::UserNotFound)?;
        Ok(user.has(ROOT))
    }

    /// Whether a user may read, or write, all keys of a span, by all its roles together. One that is not there may nothing.
    pub(crate) fn permits(&self, user: &str, span: Span, write: bool) -> bool {
        self.users.get(user).is_some_and(|user| {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            let permitted = roles.map(|role| role.permitted(write));
            user.has(ROOT) || ranges::cover(permitted, span)
        })
    }

    pub(crate) fn has_role(&self, user: &str, role: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.has(role))
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
        let found = self.roles.get(role).ok_or(AuthError::RoleNotFound)?;
        let everything = Permission {
            kind: PermissionKind::ReadWrite,
            key: bytes::Bytes::new(),
            range_end: bytes::Bytes::from_static(&[0]),
        };
        Ok(AuthReply::Permissions(match role {
            ROOT => vec![everything],
            _ => found.permissions().to_vec(),
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
        let changed = match command {
            AuthCommand::Admit {
                user,
                token,
                revision,
            } => return self.admit(user, format!("{token}.{entry}"), *revision, news),
            AuthCommand::Enable => self.enable(txn)?,
            AuthCommand::Disable => self.disable(news),
            AuthCommand::AddUser { name, password } => self.add_user(txn, name, password)?,
            AuthCommand::DeleteUser { name } => self.delete_user(txn, name, news)?,
            AuthCommand::ChangePassword { name, password } => {
                self.change_password(txn, name, password, news)?
            }
            AuthCommand::GrantRole { user, role } => self.grant_role(txn, user, role)?,
            AuthCommand::RevokeRole { user, role } => self.revoke_role(txn, user, role)?,
            AuthCommand::AddRole { name } => self.add_role(txn, name)?,
            AuthCommand::DeleteRole { name } => self.delete_role(txn, name)?,
            AuthCommand::GrantPermission { role, permission } => {
                self.grant_permission(txn, role, permission)?
            }
            AuthCommand::RevokePermission {
                role,
                key,
                range_end,
            } => self.revoke_permission(txn, role, key, range_end)?,
        };
        if changed == Changed::Yes {
            self.settings.revision += 1;
            self.table.put_settings(txn, &self.settings)?;
        }
        Ok(AuthReply::Done)
    }

    fn enable(&mut self, txn: &mut RwTxn) -> Result<Changed, Failure> {
        if self.settings.enabled {
            return Ok(Changed::No);
        }
        let root = self.users.get(ROOT).ok_or(AuthError::NoRootUser)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(AuthError::NoRootRole.into());
        }
        self.settings.enabled = true;
        self.table.put_settings(txn, &self.settings)?;
        // As in etcd, the revision stays.
        Ok(Changed::No)
    }

    fn disable(&mut self, news: &mut Vec<AuthNews>) -> Changed {
        if !self.settings.enabled {
            return Changed::No;
        }
        self.settings.enabled = false;
        news.push(AuthNews::AllDismissed);
        Changed::Yes
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
    ) -> Result<Changed, Failure> {
        check_name(name, AuthError::UserEmpty)?;
        if self.users.contains_key(name) {
            return Err(AuthError::UserExists.into());
        }
        if self.users.len() >= USERS_MAX {
            return Err(AuthError::TooManyUsers.into());
        }
        let user = User {
            password: password.clone(),
            roles: Vec::new(),
        };
        self.table.put_user(txn, name, &user)?;
        self.users.insert(name.to_owned(), user);
        Ok(Changed::Yes)
    }

    fn delete_user(
        &mut self,
        txn: &mut RwTxn,
        name: &str,
        news: &mut Vec<AuthNews>,
    ) -> Result<Changed, Failure> {
        if self.settings.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement.into());
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.table.delete_user(txn, name)?;
        news.push(AuthNews::Dismissed(name.to_owned()));
        Ok(Changed::Yes)
    }

    fn change_password(
        &mut self,
        txn: &mut RwTxn,
        name: &str,
        password: &Option<String>,
        news: &mut Vec<AuthNews>,
    ) -> Result<Changed, Failure> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if user.password.is_some() {
            user.password.clone_from(password);
        }
        self.table.put_user(txn, name, user)?;
        news.push(AuthNews::Dismissed(name.to_owned()));
        Ok(Changed::Yes)
    }

    fn grant_role(&mut self, txn: &mut RwTxn, user: &str, role: &str) -> Result<Changed, Failure> {
        let granted = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound.into());
        }
        match granted.place_of(role) {
            Ok(_) => return Ok(Changed::No),
            Err(_) if granted.roles.len() >= ROLES_OF_USER_MAX => {
                return Err(AuthError::TooManyRolesOfUser.into());
            }
            Err(place) => granted.roles.insert(place, role.to_owned()),
        }
        self.table.put_user(txn, user, granted)?;
        Ok(Changed::Yes)
    }

    fn revoke_role(&mut self, txn: &mut RwTxn, user: &str, role: &str) -> Result<Changed, Failure> {
        if self.settings.enabled && user == ROOT && role == ROOT {
            return Err(AuthError::InvalidManagement.into());
        }
        let revoked = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        let place = revoked.place_of(role);
        let place = place.map_err(|_| AuthError::RoleNotGranted)?;
        revoked.roles.remove(place);
        self.table.put_user(txn, user, revoked)?;
        Ok(Changed::Yes)
    }

    fn add_role(&mut self, txn: &mut RwTxn, name: &str) -> Result<Changed, Failure> {
        check_name(name, AuthError::RoleEmpty)?;
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleExists.into());
        }
        if self.roles.len() >= ROLES_MAX {
            return Err(AuthError::TooManyRoles.into());
        }
        self.roles.insert(name.to_owned(), Role::default());
        self.table.put_role(txn, name, &[])?;
        Ok(Changed::Yes)
    }

    fn delete_role(&mut self, txn: &mut RwTxn, name: &str) -> Result<Changed, Failure> {
        if self.settings.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement.into());
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        self.table.delete_role(txn, name)?;
        for (user, holder) in &mut self.users {
            if let Ok(place) = holder.place_of(name) {
                holder.roles.remove(place);
                self.table.put_user(txn, user, holder)?;
            }
        }
        Ok(Changed::Yes)
    }

    fn grant_permission(
        &mut self,
        txn: &mut RwTxn,
        role: &str,
        permission: &Permission,
    ) -> Result<Changed, Failure> {
        let Permission { key, range_end, .. } = permission;
        let is_valid = match Span::new(key, range_end) {
            Span::One(key) => !key.is_empty(),
            Span::From(start, end) => !start.is_empty() && end.is_none_or(|end| start < end),
        };
        if !is_valid {
            return Err(AuthError::InvalidManagement.into());
        }
        let granted = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
        granted.grant(permission)?;
        self.table.put_role(txn, role, granted.permissions())?;
        Ok(Changed::Yes)
    }

    fn revoke_permission(
        &mut self,
        txn: &mut RwTxn,
        role: &str,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<Changed, Failure> {
        let revoked = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
        revoked.revoke(key, range_end)?;
        self.table.put_role(txn, role, revoked.permissions())?;
        Ok(Changed::Yes)
    }
}

fn check_name(name: &str, empty: AuthError) -> Result<(), AuthError> {
    match name.len() {
        0 => Err(empty),
        bytes if bytes > NAME_BYTES_MAX => Err(AuthError::NameTooLong),
        _ => Ok(()),
    }
}
