//! etcd's Lock service (api/v3lock): locks for clients that do not keep them themselves.

use prost::Message;
use rm_actors::port::{Command, DeleteRange, Port};
use rm_proto::v3lockpb as pb;
use rm_proto::v3lockpb::lock_server::Lock;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::error::{invalid, refused};
use crate::header::header;
use crate::line::Line;
use crate::lookout::Leaderless;
use crate::patience::Patience;
use crate::place::{Comer, first_in_line};
use crate::recognition::signed;
use crate::size::check_size;
use crate::visitor::Visitor;

/// What is told to whoever waits and has lost its key (etcd: ErrSessionExpired).
const SESSION_EXPIRED: &str = "mutex: session is expired";

/// Locks and unlocks.
pub(crate) struct LockService {
    port: Port,
    /// True once the server stops; its sender lives as long as the server.
    draining: watch::Receiver<bool>,
    leaderless: Leaderless,
}

impl LockService {
    pub(crate) fn new(
        port: Port,
        draining: watch::Receiver<bool>,
        leaderless: Leaderless,
    ) -> LockService {
        LockService {
            port,
            draining,
            leaderless,
        }
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(
        &self,
        request: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        let visitor = Visitor::new(&self.port, request.extensions()).map_err(refused)?;
        let mut patience = Patience::new(&self.leaderless, request.metadata(), &self.draining);
        check_size(&self.port, request.get_ref().encoded_len())?;
        let pb::LockRequest { name, lease } = request.into_inner();
        let comer = Comer {
            line: Line::new(&name),
            lease,
            value: None,
        };
        let first = first_in_line(visitor, comer, &mut patience).await;
        let first = first.map_err(|ended| ended.or_lost(SESSION_EXPIRED))?;
        Ok(Response::new(pb::LockResponse {
            header: Some(header(&self.port, first.revision)),
            key: first.key,
        }))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        check_size(&port, request.get_ref().encoded_len())?;
        let delete = DeleteRange {
            key: request.into_inner().key,
            ..DeleteRange::default()
        };
        delete.check().map_err(invalid)?;
        let deleted = port.propose(Command::DeleteRange(delete)).await;
        let revision = deleted.map_err(refused)?.revision;
        Ok(Response::new(pb::UnlockResponse {
            header: Some(header(&self.port, revision)),
        }))
    }
}
