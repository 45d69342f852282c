//! What may be asked about users, roles and permissions, and what it yields: etcd's Auth requests as plain values.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// On whose behalf a request comes. A client without a token has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The user.
    pub user: String,
    /// The revision of users, roles and permissions at which that was found out; an older one than the present is refused.
    pub revision: u64,
}

/// A change of users, roles or permissions. A new one comes last, so that the others keep their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCommand {
    /// Asks for permissions from now on.
    Enable,
    /// Asks for none any more.
    Disable,
    /// Adds a user.
    AddUser {
        /// Its name.
        name: String,
        /// The hash of its password; none if it proves itself by a certificate alone.
        password: Option<String>,
    },
    /// Deletes a user.
    DeleteUser {
        /// Its name.
        name: String,
    },
    /// Gives a user another password. One without a password stays so.
    ChangePassword {
        /// Its name.
        name: String,
        /// The hash of the password.
        password: Option<String>,
    },
    /// Gives a user a role.
    GrantRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// Takes a role from a user.
    RevokeRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// Adds a role that permits nothing.
    AddRole {
        /// Its name.
        name: String,
    },
    /// Deletes a role, and takes it from all users.
    DeleteRole {
        /// Its name.
        name: String,
    },
    /// Has a role permit something, in the place of what it permitted for the same keys.
    GrantPermission {
        /// The role.
        role: String,
        /// What it permits.
        permission: Permission,
    },
    /// Has a role permit nothing for these keys that it permitted something for.
    RevokePermission {
        /// The role.
        role: String,
        /// The key, or the first of a range.
        key: Bytes,
        /// The end of the range.
        range_end: Bytes,
    },
    /// Lets a token stand for a user that has proved itself.
    Admit {
        /// The user.
        user: String,
        /// The beginning of the token; it ends with the number of the entry.
        token: String,
        /// The revision at which the user proved itself; if it is not the present one, it must do so again.
        revision: u64,
    },
}

/// A question about users, roles and permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthQuery {
    /// Are permissions asked for?
    Status,
    /// Which roles has a user?
    User(String),
    /// Which users are there?
    Users,
    /// What does a role permit?
    Role(String),
    /// Which roles are there?
    Roles,
    /// By which hash does a user prove itself? Only the machine itself asks.
    Password(String),
    /// May whoever asks do this?
    May(Deed),
}

/// What needs a permission and is no request to the key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// What only users with the role `root` may.
    Administer,
    /// To watch a range.
    Watch {
        /// The key, or the first of a range.
        key: Bytes,
        /// The end of the range.
        range_end: Bytes,
    },
    /// To renew a lease: to write all keys that hang on it.
    Renew(i64),
    /// To be somebody at all.
    Be,
}

/// The right to read or write a key or a range of keys (etcd's Permission).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What is permitted.
    pub kind: PermissionKind,
    /// The key, or the first of a range.
    pub key: Bytes,
    /// The end of the range, as in [`crate::Range`].
    pub range_end: Bytes,
}

/// What is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionKind {
    /// To read.
    Read,
    /// To write.
    Write,
    /// Both.
    ReadWrite,
}

/// What a change of users, roles and permissions yields, or a question about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthReply {
    /// It is done, or may be.
    Done,
    /// The token that stands for the user.
    Admitted(String),
    /// Whether permissions are asked for, and the revision of users, roles and permissions.
    Status {
        /// Whether permissions are asked for.
        enabled: bool,
        /// How often any of them changed, and one more.
        revision: u64,
    },
    /// Names of roles or users, in their order.
    Names(Vec<String>),
    /// What a role permits, in the order of the keys.
    Permissions(Vec<Permission>),
    /// The hash of a user's password, if it has one, and the revision.
    Password {
        /// The hash.
        hash: Option<String>,
        /// The revision of users, roles and permissions.
        revision: u64,
    },
}

/// What became of those who are admitted, for whoever keeps their tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthNews {
    /// A token stands for a user.
    Admitted {
        /// The token.
        token: String,
        /// The user.
        user: String,
    },
    /// No token stands for this user any more.
    Dismissed(String),
    /// No token stands for anybody any more.
    AllDismissed,
}

/// Why a request is not permitted, or a change of users, roles or permissions not possible. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Permissions cannot be asked for without a user that may do everything.
    #[error("etcdserver: root user does not exist")]
    NoRootUser,
    /// The same.
    #[error("etcdserver: root user does not have root role")]
    NoRootRole,
    /// There is such a user.
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// The user has no name, or the client has not said who it is.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// There is no such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// There is such a role.
    #[error("etcdserver: role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// The role has no name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// The password is not the user's, or there is no such user.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    Failed,
    /// Nothing is to be permitted.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// No role of the user permits it.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The user does not have the role.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role does not permit it.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// Nobody needs to prove itself.
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    /// The token stands for nobody.
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    /// What would leave nobody who may do everything, or a range that holds no key.
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    /// Users, roles or permissions have changed since the client was recognised.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
    /// The name is longer than [`crate::NAME_BYTES_MAX`]. Not one of etcd's.
    #[error(
        "raftmachine: the name of a user or a role has at most {} bytes",
        crate::NAME_BYTES_MAX
    )]
    NameTooLong,
    /// Beyond [`crate::USERS_MAX`]. Not one of etcd's, nor are those that follow.
    #[error(
        "raftmachine: there are {} users, the most there may be; delete one that nobody needs",
        crate::USERS_MAX
    )]
    TooManyUsers,
    /// Beyond [`crate::ROLES_MAX`].
    #[error(
        "raftmachine: there are {} roles, the most there may be; delete one that nobody needs",
        crate::ROLES_MAX
    )]
    TooManyRoles,
    /// Beyond [`crate::ROLES_OF_USER_MAX`].
    #[error(
        "raftmachine: the user has {} roles, the most it may have; have one role permit what several do",
        crate::ROLES_OF_USER_MAX
    )]
    TooManyRolesOfUser,
    /// Beyond [`crate::PERMISSIONS_OF_ROLE_MAX`] or [`crate::ROLE_BYTES_MAX`].
    #[error(
        "raftmachine: a role permits something for at most {} ranges, whose keys and ends have at most {} bytes together; join ranges, \
         or give the user one more role",
        crate::PERMISSIONS_OF_ROLE_MAX,
        crate::ROLE_BYTES_MAX
    )]
    RoleTooLarge,
}
