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
    Ok(match command {
        Command::Put(put) => {
            check_put(&change.view(), put)?;
            change.put(put)?
        }
        Command::DeleteRange(delete) => change.delete_range(delete)?,
        Command::Txn(txn) => {
            let plan = Plan::new(&change.view(), txn)?;
            let body = ReplyBody::Txn(plan.execute(change)?);
            change.tally.txns += 1;
            Reply {
                revision: change.revision(),
                body,
            }
        }
        Command::Compact { revision } => {
            change.state.compact(*revision)?;
            Reply {
                revision: change.revision(),
                body: ReplyBody::Compact,
            }
        }
        Command::Scrub { changes, bytes } => {
            change.scrub(*changes, *bytes)?;
            Reply {
                revision: change.revision(),
                body: ReplyBody::Scrub,
            }
        }
        Command::Auth(_) => unreachable!("users, roles and permissions are not in the key space"),
        Command::Alarm(_) => unreachable!("alarms are not in the key space"),
        Command::GrantLease { id, ttl } => {
            let grant = Grant {
                id: *id,
                entry: entry.index.0,
            };
            let body = ReplyBody::GrantLease(change.grant_lease(grant, *ttl)?);
            Reply {
                revision: change.revision(),
                body,
            }
        }
        Command::RevokeLease { id } => {
            change.revoke_lease(*id)?;
            Reply {
                revision: change.revision(),
                body: ReplyBody::RevokeLease,
            }
        }
        Command::ExpireLeases { reign, grants } => {
            let counted = match change.is_reign(*reign)? {
                true => Some(change.expire_leases(grants)?),
                false => None,
            };
            Reply {
                revision: change.revision(),
                body: ReplyBody::LeasesCounted(counted),
            }
        }
        Command::NoteLeases { reign, times } => {
            let counted = match change.is_reign(*reign)? {
                true => Some(change.note_leases(times)?),
                false => None,
            };
            Reply {
                revision: change.revision(),
                body: ReplyBody::LeasesCounted(counted),
            }
        }
        Command::CountLeases => {
            change.begin_reign(entry.index.0)?;
            Reply {
                revision: change.revision(),
                body: ReplyBody::CountLeases(entry.index.0),
            }
        }
    })
}
