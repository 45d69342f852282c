//! What a command is about, in a word.

use crate::auth_command::AuthCommand;
use crate::command::Command;

/// A kind of command, by the name that etcd's metrics have for it where they have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the command of that name")]
pub enum Kind {
    Put,
    DeleteRange,
    Txn,
    Compaction,
    Scrub,
    LeaseGrant,
    LeaseRevoke,
    LeaseExpiry,
    LeaseCheckpoint,
    LeaseCount,
    Alarm,
    Authenticate,
    AuthEnable,
    AuthDisable,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
}

impl Kind {
    /// All of them, in their order.
    pub const ALL: [Kind; 23] = [
        Kind::Put,
        Kind::DeleteRange,
        Kind::Txn,
        Kind::Compaction,
        Kind::Scrub,
        Kind::LeaseGrant,
        Kind::LeaseRevoke,
        Kind::LeaseExpiry,
        Kind::LeaseCheckpoint,
        Kind::LeaseCount,
        Kind::Alarm,
        Kind::Authenticate,
        Kind::AuthEnable,
        Kind::AuthDisable,
        Kind::AuthUserAdd,
        Kind::AuthUserDelete,
        Kind::AuthUserChangePassword,
        Kind::AuthUserGrantRole,
        Kind::AuthUserRevokeRole,
        Kind::AuthRoleAdd,
        Kind::AuthRoleDelete,
        Kind::AuthRoleGrantPermission,
        Kind::AuthRoleRevokePermission,
    ];

    /// The kind of a command.
    pub fn of(command: &Command) -> Kind {
        match command {
            Command::Put(_) => Kind::Put,
            Command::DeleteRange(_) => Kind::DeleteRange,
            Command::Txn(_) => Kind::Txn,
            Command::Compact { .. } => Kind::Compaction,
            Command::Scrub { .. } => Kind::Scrub,
            Command::GrantLease { .. } => Kind::LeaseGrant,
            Command::RevokeLease { .. } => Kind::LeaseRevoke,
            Command::ExpireLeases { .. } => Kind::LeaseExpiry,
            Command::NoteLeases { .. } => Kind::LeaseCheckpoint,
            Command::CountLeases => Kind::LeaseCount,
            Command::Alarm(_) => Kind::Alarm,
            Command::Auth(command) => match command {
                AuthCommand::Admit { .. } => Kind::Authenticate,
                AuthCommand::Enable => Kind::AuthEnable,
                AuthCommand::Disable => Kind::AuthDisable,
                AuthCommand::AddUser { .. } => Kind::AuthUserAdd,
                AuthCommand::DeleteUser { .. } => Kind::AuthUserDelete,
                AuthCommand::ChangePassword { .. } => Kind::AuthUserChangePassword,
                AuthCommand::GrantRole { .. } => Kind::AuthUserGrantRole,
                AuthCommand::RevokeRole { .. } => Kind::AuthUserRevokeRole,
                AuthCommand::AddRole { .. } => Kind::AuthRoleAdd,
                AuthCommand::DeleteRole { .. } => Kind::AuthRoleDelete,
                AuthCommand::GrantPermission { .. } => Kind::AuthRoleGrantPermission,
                AuthCommand::RevokePermission { .. } => Kind::AuthRoleRevokePermission,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_in_its_place() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }
}
