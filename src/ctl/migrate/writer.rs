//! Writes changes at the target, in parts that it takes.

use tonic::{Code, Status};

use crate::client::Link;
use crate::migrate::batch::{Write, parts};
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::leases::Leases;
use crate::migrate::side::Side;
use crate::output::Shown;
use crate::proto::{DeleteRangeRequest, TxnRequest};

/// How often the leases of a part are granted anew, since they have ended before it was written.
const GRANTS_MAX: u32 = 5;

/// Writes at the target.
pub(crate) struct Writer<'a> {
    pub(crate) target: &'a Side,
    pub(crate) leases: &'a Leases<'a>,
    /// The most operations of a transaction.
    pub(crate) operations_max: usize,
}

impl Writer<'_> {
    /// Writes all of these, in their order, as few transactions as the target takes. Who reads there sees each part as a whole.
    ///
    /// # Errors
    /// A refusal; [`MigrateError::TooLarge`] for a pair that does not fit.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let mut waiting = parts(writes, self.operations_max);
        waiting.reverse();
        let mut grants = 0;
        while let Some(mut part) = waiting.pop() {
            self.leases.ensure(part.iter().map(Write::lease)).await?;
            let Err(error) = self.send(&part).await else {
                continue;
            };
            match error.status() {
                // Its limits are smaller than we thought.
                Some(status) if is_too_much(status) && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    waiting.extend([rest, part]);
                }
                Some(status) if is_too_large(status) => return Err(too_large(&part, error)),
                Some(status) if is_without_lease(status) && grants < GRANTS_MAX => {
                    grants += 1;
                    let leases = part.iter().map(Write::lease);
                    self.leases.look_again(leases).await?;
                    waiting.push(part);
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    async fn send(&self, part: &[Write]) -> Result<()> {
        let send = async |link: Link| {
            let mut kv = link.kv();
            match part {
                // A pair that just fits into a request does not fit into a transaction.
                [Write::Put(put)] => kv.put(put.clone()).await.map(|it| it.into_inner().header),
                [Write::Delete(key)] => {
                    let request = DeleteRangeRequest {
                        key: key.clone(),
                        ..DeleteRangeRequest::default()
                    };
                    kv.delete_range(request)
                        .await
                        .map(|it| it.into_inner().header)
                }
                part => {
                    let request = TxnRequest {
                        success: part.iter().map(Write::operation).collect(),
                        ..TxnRequest::default()
                    };
                    kv.txn(request).await.map(|it| it.into_inner().header)
                }
            }
        };
        self.target.ask("writing keys", send).await.map(drop)
    }
}

fn too_large(part: &[Write], error: MigrateError) -> MigrateError {
    let Some(write) = part.first() else {
        return error;
    };
    let key = Shown {
        bytes: write.key(),
        hex: false,
    };
    MigrateError::TooLarge {
        key: key.cell(),
        bytes: write.bytes(),
    }
}

fn is_too_large(status: &Status) -> bool {
    let text = status.message();
    text.contains("request is too large") || text.contains("message larger than max")
}

/// Whether half of it may be taken.
fn is_too_much(status: &Status) -> bool {
    let text = status.message();
    is_too_large(status)
        || text.contains("too many operations in txn request")
        || text.contains("duplicate key given in txn request")
}

fn is_without_lease(status: &Status) -> bool {
    status.code() == Code::NotFound && status.message().contains("lease not found")
}
