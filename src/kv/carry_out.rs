//! What each command comes to, once it is known that it may be carried out.

use rm_raft::EntryId;

use crate::change::{Change, check_put};
use crate::command::{Command, Grant, Reply, ReplyBody};
use crate::error::Failure;
use crate::txn::Plan;

/// Carries out the command of an entry. Users, roles and permissions are not in the key space, nor are alarms.
///
/// # Panics
/// On a command about those.
pub(crate) fn carry_out(
    change: &mut Change<'_, '_>,
    entry: EntryId,
    command: &Command,
) -> Result<Reply, Failure> {
    let body = match command {
        Command::Put(put) => {
            check_put(&change.view(), put)?;
            change.put(put)?
        }
        Command::DeleteRange(delete) => change.delete_range(delete)?,
        Command::Txn(txn) => {
            let plan = Plan::new(&change.view(), txn)?;
            let reply = plan.execute(change)?;
            change.tally.txns += 1;
            ReplyBody::Txn(reply)
        }
        Command::Compact { revision } => {
            change.state.compact(*revision)?;
            ReplyBody::Compact
        }
        Command::Scrub { changes, bytes } => {
            change.scrub(*changes, *bytes)?;
            ReplyBody::Scrub
        }
        Command::Auth(_) => unreachable!("users, roles and permissions are not in the key space"),
        Command::Alarm(_) => unreachable!("alarms are not in the key space"),
        Command::GrantLease { id, ttl } => {
            let grant = Grant {
                id: *id,
                entry: entry.index.0,
            };
            ReplyBody::GrantLease(change.grant_lease(grant, *ttl)?)
        }
        Command::RevokeLease { id } => {
            change.revoke_lease(*id)?;
            ReplyBody::RevokeLease
        }
        Command::ExpireLeases { reign, grants } => {
            let counted = match change.is_reign(*reign)? {
                true => Some(change.expire_leases(grants)?),
                false => None,
            };
            ReplyBody::LeasesCounted(counted)
        }
        Command::NoteLeases { reign, times } => {
            let counted = match change.is_reign(*reign)? {
                true => Some(change.note_leases(times)?),
                false => None,
            };
            ReplyBody::LeasesCounted(counted)
        }
        Command::CountLeases => {
            change.begin_reign(entry.index.0)?;
            ReplyBody::CountLeases(entry.index.0)
        }
    };
    Ok(Reply {
        revision: change.revision(),
        body,
    })
}
