//! Users, roles and permissions in the plainest way, for the twin of the key space: sets, and no range is ever joined with another.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rm_kv::{
    AuthCommand, AuthError, AuthNews, AuthReply, Permission, PermissionKind, Signature, Span,
};

#[derive(Clone, Default)]
pub(crate) struct Users {
    pub(crate) enabled: bool,
    /// How often anything was changed.
    changes: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Permissions>,
    /// What became of those who were admitted, and by which entry.
    pub(crate) news: Vec<(u64, AuthNews)>,
}

#[derive(Clone)]
struct User {
    password: Option<String>,
    roles: BTreeSet<String>,
}

/// What is permitted for a key and an end.
type Permissions = BTreeMap<(Bytes, Bytes), PermissionKind>;

impl Users {
    pub(crate) fn revision(&self) -> u64 {
        1 + self.changes
    }

    pub(crate) fn apply(
        &mut self,
        entry: u64,
        command: &AuthCommand,
    ) -> Result<AuthReply, AuthError> {
        let is_root = |name: &str| self.enabled && name == "root";
        match command {
            AuthCommand::Enable => {
                let root = self.users.get("root").ok_or(AuthError::NoRootUser);
                if !self.enabled && !root?.roles.contains("root") {
                    return Err(AuthError::NoRootRole);
                }
                self.enabled = true;
                return Ok(AuthReply::Done);
            }
            AuthCommand::Disable if !self.enabled => return Ok(AuthReply::Done),
            AuthCommand::Disable => {
                self.enabled = false;
                self.news.push((entry, AuthNews::AllDismissed));
            }
            AuthCommand::Admit {
                user,
                token,
                revision,
            } => {
                if !self.enabled {
                    return Err(AuthError::NotEnabled);
                }
                if *revision != self.revision() {
                    return Err(AuthError::OldRevision);
                }
                let known = self.users.get(user).ok_or(AuthError::Failed)?;
                known.password.as_ref().ok_or(AuthError::Failed)?;
                let token = format!("{token}.{entry}");
                let news = AuthNews::Admitted {
                    token: token.clone(),
                    user: user.clone(),
                };
                self.news.push((entry, news));
                return Ok(AuthReply::Admitted(token));
            }
            AuthCommand::AddUser { name, .. } if name.is_empty() => {
                return Err(AuthError::UserEmpty);
            }
            AuthCommand::AddUser { name, password } => {
                if self.users.contains_key(name) {
                    return Err(AuthError::UserExists);
                }
                let user = User {
                    password: password.clone(),
                    roles: BTreeSet::new(),
                };
                self.users.insert(name.clone(), user);
            }
            AuthCommand::DeleteUser { name } if is_root(name) => {
                return Err(AuthError::InvalidManagement);
            }
            AuthCommand::DeleteUser { name } => {
                self.users.remove(name).ok_or(AuthError::UserNotFound)?;
                self.news.push((entry, AuthNews::Dismissed(name.clone())));
            }
            AuthCommand::ChangePassword { name, password } => {
                let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
                user.password = user.password.as_ref().and(password.clone());
                self.news.push((entry, AuthNews::Dismissed(name.clone())));
            }
            AuthCommand::GrantRole { user, role } => {
                let is_there = role == "root" || self.roles.contains_key(role);
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !is_there {
                    return Err(AuthError::RoleNotFound);
                }
                if !user.roles.insert(role.clone()) {
                    return Ok(AuthReply::Done);
                }
            }
            AuthCommand::RevokeRole { user, role } if is_root(user) && role == "root" => {
                return Err(AuthError::InvalidManagement);
            }
            AuthCommand::RevokeRole { user, role } => {
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !user.roles.remove(role) {
                    return Err(AuthError::RoleNotGranted);
                }
            }
            AuthCommand::AddRole { name } if name.is_empty() => return Err(AuthError::RoleEmpty),
            AuthCommand::AddRole { name } => {
                if self.roles.contains_key(name) {
                    return Err(AuthError::RoleExists);
                }
                self.roles.insert(name.clone(), Permissions::new());
            }
            AuthCommand::DeleteRole { name } if is_root(name) => {
                return Err(AuthError::InvalidManagement);
            }
            AuthCommand::DeleteRole { name } => {
                self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(name);
                }
            }
            AuthCommand::GrantPermission { role, permission } => {
                let Permission {
                    kind,
                    key,
                    range_end,
                } = permission.clone();
                let is_empty = range_end.len() > 1 && range_end <= key
                    || range_end.len() == 1 && range_end[0] != 0 && range_end <= key;
                if key.is_empty() || is_empty {
                    return Err(AuthError::InvalidManagement);
                }
                let role = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                role.insert((key, range_end), kind);
            }
            AuthCommand::RevokePermission {
                role,
                key,
                range_end,
            } => {
                let role = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                let revoked = role.remove(&(key.clone(), range_end.clone()));
                revoked.ok_or(AuthError::PermissionNotGranted)?;
            }
        }
        self.changes += 1;
        Ok(AuthReply::Done)
    }

    pub(crate) fn status(&self) -> AuthReply {
        AuthReply::Status {
            enabled: self.enabled,
            revision: self.revision(),
        }
    }

    pub(crate) fn names(&self) -> AuthReply {
        AuthReply::Names(self.users.keys().cloned().collect())
    }

    pub(crate) fn role_names(&self) -> AuthReply {
        AuthReply::Names(self.roles.keys().cloned().collect())
    }

    pub(crate) fn roles_of(&self, user: &str) -> Result<AuthReply, AuthError> {
        let user = self.users.get(user).ok_or(AuthError::UserNotFound)?;
        Ok(AuthReply::Names(user.roles.iter().cloned().collect()))
    }

    pub(crate) fn permissions_of(&self, role: &str) -> Result<AuthReply, AuthError> {
        let everything = (Bytes::new(), Bytes::from_static(&[0]));
        let permissions = self.roles.get(role).ok_or(AuthError::RoleNotFound)?;
        let permissions = match role {
            "root" => Permissions::from([(everything, PermissionKind::ReadWrite)]),
            _ => permissions.clone(),
        };
        let tell = |((key, range_end), kind)| Permission {
            kind,
            key,
            range_end,
        };
        Ok(AuthReply::Permissions(
            permissions.into_iter().map(tell).collect(),
        ))
    }

    pub(crate) fn password_of(&self, user: &str) -> Result<AuthReply, AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        let user = self.users.get(user).ok_or(AuthError::Failed)?;
        Ok(AuthReply::Password {
            hash: user.password.clone(),
            revision: self.revision(),
        })
    }

    pub(crate) fn somebody<'s>(&self, by: Option<&'s Signature>) -> Result<&'s str, AuthError> {
        match by {
            None => Err(AuthError::UserEmpty),
            Some(by) if by.revision < self.revision() => Err(AuthError::OldRevision),
            Some(by) => Ok(&by.user),
        }
    }

    pub(crate) fn administer(&self, by: Option<&Signature>) -> Result<(), AuthError> {
        let user = self.somebody(by)?;
        let user = self.users.get(user).ok_or(AuthError::UserNotFound)?;
        match user.roles.contains("root") {
            true => Ok(()),
            false => Err(AuthError::PermissionDenied),
        }
    }

    /// Whether a user has a role, as which it may be told what the role permits.
    pub(crate) fn has(&self, by: Option<&Signature>, role: &str) -> bool {
        let user = by.and_then(|by| self.users.get(&by.user));
        user.is_some_and(|user| user.roles.contains(role))
    }

    /// Whether somebody may read, or write, each key from one up to an end. Where one permission begins or ends, what is permitted may
    /// change, and nowhere else: so each such key is looked at by itself.
    pub(crate) fn may(
        &self,
        by: Option<&Signature>,
        key: &Bytes,
        range_end: &Bytes,
        write: bool,
    ) -> Result<(), AuthError> {
        let user = self.somebody(by)?;
        let user = self.users.get(user).ok_or(AuthError::PermissionDenied)?;
        let other = match write {
            true => PermissionKind::Read,
            false => PermissionKind::Write,
        };
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        let permitted: Vec<_> = roles
            .flatten()
            .filter(|(_, kind)| **kind != other)
            .map(|(span, _)| span)
            .collect();
        let ends = permitted.iter().flat_map(|(key, range_end)| {
            let end = match &range_end[..] {
                [] => Bytes::from([key, &b"\0"[..]].concat()),
                _ => range_end.clone(),
            };
            [key.clone(), end]
        });
        let wanted = Span::new(key, range_end);
        let looked_at = ends.filter(|end| wanted.contains(end)).chain([key.clone()]);
        let is_permitted = |key: Bytes| {
            let mut spans = permitted.iter().map(|(key, end)| Span::new(key, end));
            spans.any(|span| span.contains(&key))
        };
        let reaches_end = permitted.iter().any(|(_, end)| end[..] == [0]);
        let is_open = range_end[..] == [0];
        match user.roles.contains("root")
            || looked_at.into_iter().all(is_permitted) && (!is_open || reaches_end)
        {
            true => Ok(()),
            false => Err(AuthError::PermissionDenied),
        }
    }
}
