//! Replies as the scripts show them.

use std::error::Error;
use std::fmt::Write as _;

use rm_kv::{Grant, KeyValue, Lease, LeaseReply, Reply, ReplyBody};

use crate::users;

pub(crate) fn show_outcome(
    output: &mut String,
    outcome: Result<Reply, String>,
) -> Result<(), Box<dyn Error>> {
    match outcome {
        Ok(reply) => show(output, &reply, 0)?,
        Err(error) => writeln!(output, "error: {error}")?,
    }
    Ok(())
}

fn show(output: &mut String, reply: &Reply, depth: usize) -> std::fmt::Result {
    let margin = "  ".repeat(depth);
    write!(output, "{margin}revision={} ", reply.revision)?;
    match &reply.body {
        ReplyBody::Put(prev) => {
            writeln!(output, "put")?;
            show_kvs(output, prev, &format!("{margin}  was "))
        }
        ReplyBody::DeleteRange(delete) => {
            writeln!(output, "deleted={}", delete.deleted)?;
            show_kvs(output, &delete.prev_kvs, &format!("{margin}  was "))
        }
        ReplyBody::Range(range) => {
            writeln!(
                output,
                "count={}{}",
                range.count,
                if range.more { " more" } else { "" }
            )?;
            show_kvs(output, &range.kvs, &format!("{margin}  "))
        }
        ReplyBody::Txn(txn) => {
            writeln!(output, "succeeded={}", txn.succeeded)?;
            txn.replies
                .iter()
                .try_for_each(|reply| show(output, reply, depth + 1))
        }
        ReplyBody::Compact => writeln!(output, "compacted"),
        ReplyBody::Scrub => writeln!(output, "scrubbed"),
        ReplyBody::GrantLease(lease) => writeln!(output, "granted {}", show_lease(lease)),
        ReplyBody::RevokeLease => writeln!(output, "revoked"),
        ReplyBody::Alarms(_) => panic!("the scripts have no alarms"),
        ReplyBody::CountLeases(entry) => writeln!(output, "counts from entry {entry} on"),
        ReplyBody::LeasesCounted(Some(done)) => writeln!(output, "counted {done}"),
        ReplyBody::LeasesCounted(None) => writeln!(output, "another counts: nothing done"),
        ReplyBody::Auth(reply) => writeln!(output, "{}", users::show(reply)),
        ReplyBody::Lease(LeaseReply { lease, keys }) => {
            let keys: Vec<_> = keys
                .iter()
                .map(|key| String::from_utf8_lossy(key))
                .collect();
            writeln!(output, "{} keys=[{}]", show_lease(lease), keys.join(" "))
        }
        ReplyBody::Leases(leases) => {
            writeln!(output, "leases={}", leases.len())?;
            leases
                .iter()
                .try_for_each(|lease| writeln!(output, "{margin}  {}", show_lease(lease)))
        }
    }
}

pub(crate) fn show_grant(grant: &Grant) -> String {
    format!("{}@{}", grant.id, grant.entry)
}

pub(crate) fn show_lease(lease: &Lease) -> String {
    let left = lease.remaining.map(|left| format!(" left={left}"));
    format!(
        "{} ttl={}{}",
        show_grant(&lease.grant),
        lease.ttl,
        left.unwrap_or_default()
    )
}

fn show_kvs<'k>(
    output: &mut String,
    kvs: impl IntoIterator<Item = &'k KeyValue>,
    margin: &str,
) -> std::fmt::Result {
    for kv in kvs {
        writeln!(
            output,
            "{margin}{}={} create={} mod={} version={}{}",
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value),
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            if kv.lease == 0 {
                String::new()
            } else {
                format!(" lease={}", kv.lease)
            },
        )?;
    }
    Ok(())
}
