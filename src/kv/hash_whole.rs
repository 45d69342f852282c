//! A hash over all that a state holds, to compare machines by: what no client can read any more, leases, users and alarms, too.

use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database};
use rm_store::Environment;

use crate::auth_table::AUTH_TABLE;
use crate::error::KvError;
use crate::index::{BRANCH_TABLE, KEY_TABLE};
use crate::lease::{ATTACHED_TABLE, LEASE_TABLE};
use crate::revision;

/// The tables that are hashed: all but that of the parameters, which names the last entry, and entries that change nothing are many.
const HASHED: [&str; 6] = [
    revision::TABLE,
    KEY_TABLE,
    BRANCH_TABLE,
    LEASE_TABLE,
    ATTACHED_TABLE,
    AUTH_TABLE,
];

/// Hashes all that the state holds, as of the last checkpoint: the CRC-32C of its records as they lie there, table by table. Equal on all
/// machines that have applied the same, since all of that follows from the log.
///
/// It reads everything, in a transaction of its own: any thread may call it while the key space is open on another.
///
/// # Errors
/// The state cannot be read.
pub fn hash_whole(environment: &Environment) -> Result<u32, KvError> {
    let env = environment.env();
    let mut sum = 0;
    for name in HASHED {
        let found = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
            let table = opener.open_database(txn, Some(name))?;
            Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit(table))
        })?;
        let table: Option<Database<'static, Raw, Raw>> = found.commit().flatten();
        sum = crc32c::crc32c_append(sum, name.as_bytes());
        let Some(table) = table else {
            continue;
        };
        let txn = env.read_txn()?;
        for record in table.iter(&txn)? {
            let (key, value) = record?;
            for part in [key, value] {
                // Where one ends and the next begins must show.
                sum = crc32c::crc32c_append(sum, &(part.len() as u64).to_be_bytes());
                sum = crc32c::crc32c_append(sum, part);
            }
        }
    }
    Ok(sum)
}
