//! etcd's KV service.

use prost::Message;
use rm_actors::port::{Answered, Command, Port, Query, ReplyBody, RequestError};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::kv_server::Kv;
use tonic::{Request, Response, Status};

use crate::consistency::consistency;
use crate::error::{invalid, mismatched, refused};
use crate::header::header;
use crate::recognition::signed;
use crate::reply::Outgoing;
use crate::size::check_size;
use crate::{request, response};

/// Reads and writes the key space.
pub(crate) struct KvService {
    port: Port,
}

impl KvService {
    pub(crate) fn new(port: Port) -> KvService {
        KvService { port }
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let serializable = request.get_ref().serializable;
        let consistency = consistency(&self.port, request.metadata(), serializable)?;
        let request = request.into_inner();
        // In etcd's order: what stands for no sort order is looked at next.
        if request.key.is_empty() {
            return Err(invalid(RequestError::EmptyKey));
        }
        let range = request::range(request)?;
        let Answered { reply, room } = port
            .query_held(Query::Range(range), consistency)
            .await
            .map_err(refused)?;
        match reply.body {
            ReplyBody::Range(body) => {
                let header = header(&self.port, reply.revision);
                Ok(Outgoing::response(response::range(header, body), room))
            }
            _ => Err(mismatched()),
        }
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let put = request::put(request);
        put.check().map_err(invalid)?;
        check_size(&self.port, bytes)?;
        let proposed = port.propose_held(Command::Put(put)).await;
        let Answered { reply, room } = proposed.map_err(refused)?;
        match reply.body {
            ReplyBody::Put(None) => Ok(Response::new(pb::PutResponse {
                header: Some(header(&self.port, reply.revision)),
                prev_kv: None,
            })),
            ReplyBody::Put(previous) => {
                let header = header(&self.port, reply.revision);
                Ok(Outgoing::response(response::put(header, previous), room))
            }
            _ => Err(mismatched()),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let delete = request::delete_range(request);
        delete.check().map_err(invalid)?;
        check_size(&self.port, bytes)?;
        let Answered { reply, room } = port
            .propose_held(Command::DeleteRange(delete))
            .await
            .map_err(refused)?;
        match reply.body {
            ReplyBody::DeleteRange(body) => {
                let header = header(&self.port, reply.revision);
                let message = response::delete_range(header, body);
                Ok(Outgoing::response(message, room))
            }
            _ => Err(mismatched()),
        }
    }

    /// A transaction that cannot write stays out of the log.
    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let serializable = request::is_serializable(request.get_ref());
        let consistency = consistency(&self.port, request.metadata(), serializable)?;
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let txn = request::txn(request)?;
        txn.check(self.port.config().limits.transaction_operations_max)
            .map_err(invalid)?;
        let Answered { reply, room } = if txn.is_read_only() {
            port.query_held(Query::Txn(txn), consistency).await
        } else {
            check_size(&self.port, bytes)?;
            port.propose_held(Command::Txn(txn)).await
        }
        .map_err(refused)?;
        match reply.body {
            ReplyBody::Txn(body) => {
                let header = header(&self.port, reply.revision);
                Ok(Outgoing::response(response::txn(header, body), room))
            }
            _ => Err(mismatched()),
        }
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        let reply = port.compact(revision, physical).await;
        let header = header(&self.port, reply.map_err(refused)?.revision);
        Ok(Response::new(pb::CompactionResponse {
            header: Some(header),
        }))
    }
}
