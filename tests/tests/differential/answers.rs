//! What a member answers to one request, as a text to be compared with another's: without what is particular to one cluster.

use std::fmt::Debug;

use rm_proto::etcdserverpb::response_op::Response;
use rm_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseLeasesRequest, ResponseHeader, TxnResponse,
};
use rm_proto::mvccpb::KeyValue;
use rm_tests::Client;
use rm_tests::leases::{keep_alive, service};
use tonic::Status;

use crate::steps::Question;
use crate::streams::brief_value;

/// The largest answer that is taken, in bytes: a transaction may read all keys several times.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An answer.
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The revision in its header, if it has one.
    pub(crate) revision: Option<i64>,
    /// Whether the request was refused.
    pub(crate) is_refusal: bool,
}

/// Asks one member.
pub(crate) async fn answer(client: &Client, member: usize, question: Question) -> Answer {
    let mut kv = client
        .kv(member)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut leases = service(client, member);
    match question {
        Question::Put(request) => told(kv.put(request).await, |it| {
            it.prev_kv.iter_mut().for_each(shorten);
            plain(&mut it.header)
        }),
        Question::Range(request) => told(kv.range(request).await, |it| {
            it.kvs.iter_mut().for_each(shorten);
            plain(&mut it.header)
        }),
        Question::Delete(request) => told(kv.delete_range(request).await, |it| {
            it.prev_kvs.iter_mut().for_each(shorten);
            plain(&mut it.header)
        }),
        Question::Txn(request) => told(kv.txn(request).await, plain_txn),
        Question::Compact(request) => told(kv.compact(request).await, |it| plain(&mut it.header)),
        Question::Grant(request) => told(leases.lease_grant(request).await, |it| {
            plain(&mut it.header)
        }),
        Question::Revoke(request) => told(leases.lease_revoke(request).await, |it| {
            plain(&mut it.header)
        }),
        Question::Look(request) => told(leases.lease_time_to_live(request).await, |it| {
            // etcd 3.4 tells a revision here that it has not made yet.
            it.header = None;
            it.ttl = it.ttl.min(1);
            // etcd tells them in no order.
            it.keys.sort();
            None
        }),
        Question::Leases => told(leases.lease_leases(LeaseLeasesRequest {}).await, |it| {
            it.header = None;
            it.leases.sort_by_key(|lease| lease.id);
            None
        }),
        Question::Renew(ids) => {
            let answers = renewals(client, member, ids).await;
            told(answers.map(tonic::Response::new), |_| None)
        }
    }
}

/// The numbers and times of leases that are renewed one after the other in one stream.
async fn renewals(
    client: &Client,
    member: usize,
    ids: Vec<i64>,
) -> Result<Vec<(i64, i64)>, Status> {
    let requests = ids.into_iter().map(|id| LeaseKeepAliveRequest { id });
    let mut answers = keep_alive(client, member, tokio_stream::iter(requests)).await?;
    let mut renewals = Vec::new();
    while let Some(answer) = answers.message().await? {
        renewals.push((answer.id, answer.ttl));
    }
    Ok(renewals)
}

/// What came of a request; `plain` takes out what is not compared, and tells the revision.
fn told<T: Debug>(
    outcome: Result<tonic::Response<T>, Status>,
    plain: impl FnOnce(&mut T) -> Option<i64>,
) -> Answer {
    match outcome {
        Ok(response) => {
            let mut response = response.into_inner();
            let revision = plain(&mut response);
            Answer {
                text: format!("{response:#?}"),
                revision,
                is_refusal: false,
            }
        }
        Err(status) => Answer {
            text: format!("{:?}: {}", status.code(), status.message()),
            revision: None,
            is_refusal: status.message().starts_with("etcdserver: "),
        },
    }
}

/// Leaves the revision in a header, and nothing else.
fn plain(header: &mut Option<ResponseHeader>) -> Option<i64> {
    let header = header.as_mut()?;
    *header = ResponseHeader {
        revision: header.revision,
        ..ResponseHeader::default()
    };
    Some(header.revision)
}

fn plain_txn(response: &mut TxnResponse) -> Option<i64> {
    for response in &mut response.responses {
        match &mut response.response {
            Some(Response::ResponseRange(range)) => {
                plain(&mut range.header);
                range.kvs.iter_mut().for_each(shorten);
            }
            Some(Response::ResponsePut(put)) => {
                plain(&mut put.header);
                put.prev_kv.iter_mut().for_each(shorten);
            }
            Some(Response::ResponseDeleteRange(delete)) => {
                plain(&mut delete.header);
                delete.prev_kvs.iter_mut().for_each(shorten);
            }
            Some(Response::ResponseTxn(txn)) => drop(plain_txn(txn)),
            None => {}
        }
    }
    plain(&mut response.header)
}

fn shorten(kv: &mut KeyValue) {
    kv.value = brief_value(std::mem::take(&mut kv.value));
}
