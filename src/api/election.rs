//! etcd's Election service (api/v3election): elections for clients that do not hold them themselves.

use std::sync::Arc;

use futures::StreamExt;
use prost::Message as _;
use rm_actors::port::{Answered, Command, DeleteRange, Operation, Port, Put, Query, Txn};
use rm_proto::v3electionpb as pb;
use rm_proto::v3electionpb::election_server::Election;
use tokio::sync::watch;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::consistency::consistency;
use crate::dispatch::cut_of;
use crate::error::{invalid, refused};
use crate::header::header;
use crate::line::{Line, created, found};
use crate::lookout::Leaderless;
use crate::observing::Observing;
use crate::patience::Patience;
use crate::place::{Comer, first_in_line, outcome};
use crate::recognition::signed;
use crate::reply::{Message, OnTheWay, Outgoing, Pace, Told};
use crate::response::key_value;
use crate::size::check_size;
use crate::visitor::Visitor;

/// etcd: ErrElectionNotLeader.
const NOT_LEADER: &str = "election: not leader";
/// etcd: ErrElectionNoLeader.
const NO_LEADER: &str = "election: no leader";
/// etcd: ErrMissingLeaderKey.
const NO_KEY: &str = "\"leader\" field must be provided";

/// Holds elections.
pub(crate) struct ElectionService {
    port: Port,
    /// True once the server stops; its sender lives as long as the server.
    draining: watch::Receiver<bool>,
    leaderless: Leaderless,
    pace: Arc<Pace>,
}

impl ElectionService {
    pub(crate) fn new(
        port: Port,
        draining: watch::Receiver<bool>,
        leaderless: Leaderless,
        pace: Arc<Pace>,
    ) -> ElectionService {
        ElectionService {
            port,
            draining,
            leaderless,
            pace,
        }
    }
}

#[tonic::async_trait]
impl Election for ElectionService {
    type ObserveStream = BoxStream<pb::LeaderResponse>;

    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let visitor = Visitor::new(&self.port, request.extensions()).map_err(refused)?;
        let mut patience = Patience::new(&self.leaderless, request.metadata(), &self.draining);
        check_size(&self.port, request.get_ref().encoded_len())?;
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let comer = Comer {
            line: Line::new(&name),
            lease,
            value: Some(value),
        };
        let first = first_in_line(visitor, comer, &mut patience).await;
        let first = first.map_err(|ended| ended.or_lost(NOT_LEADER))?;
        Ok(Response::new(pb::CampaignResponse {
            header: Some(header(&self.port, first.revision)),
            leader: Some(pb::LeaderKey {
                name,
                key: first.key,
                rev: first.created,
                lease: first.lease,
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        check_size(&port, request.get_ref().encoded_len())?;
        let pb::ProclaimRequest { leader, value } = request.into_inner();
        let leader = leader.ok_or_else(|| Status::unknown(NO_KEY))?;
        let put = Operation::Put(Put {
            key: leader.key.clone(),
            value,
            lease: leader.lease,
            // Who does not say by which lease it leads keeps the one that it has.
            ignore_lease: leader.lease == 0,
            ..Put::default()
        });
        let (is_leader, revision) = if_leading(&port, &leader, put).await?;
        if !is_leader {
            return Err(Status::unknown(NOT_LEADER));
        }
        Ok(Response::new(pb::ProclaimResponse {
            header: Some(header(&self.port, revision)),
        }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let consistency = consistency(&self.port, request.metadata(), false)?;
        let first = Line::new(&request.into_inner().name).first();
        let answered = port.query_held(Query::Range(first), consistency).await;
        let Answered { reply, room } = answered.map_err(refused)?;
        let revision = reply.revision;
        let leader = found(reply).ok_or_else(|| Status::unknown(NO_LEADER))?;
        let response = pb::LeaderResponse {
            header: Some(header(&self.port, revision)),
            kv: Some(key_value(leader)),
        };
        Ok(Outgoing::response(Message::of(&response), room))
    }

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let port = self.port.clone();
        let told = Told {
            port: self.port.clone(),
            pace: self.pace.clone(),
            cut: cut_of(request.extensions()),
        };
        let visitor = Visitor::new(&self.port, request.extensions()).map_err(refused)?;
        let patience = Patience::new(&self.leaderless, request.metadata(), &self.draining);
        let line = Line::new(&request.into_inner().name);
        let observing = Observing::new(visitor, line);
        let responses = observing.leaders().map(move |told| {
            let (revision, leader) = told?;
            Ok(pb::LeaderResponse {
                header: Some(header(&port, revision)),
                kv: Some(key_value(leader)),
            })
        });
        Ok(OnTheWay::response(told.one_by_one(responses, patience)))
    }

    /// Whoever does not lead any more has resigned, as in etcd.
    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        check_size(&port, request.get_ref().encoded_len())?;
        let leader = request.into_inner().leader;
        let leader = leader.ok_or_else(|| Status::unknown(NO_KEY))?;
        let delete = Operation::DeleteRange(DeleteRange {
            key: leader.key.clone(),
            ..DeleteRange::default()
        });
        let (_, revision) = if_leading(&port, &leader, delete).await?;
        Ok(Response::new(pb::ResignResponse {
            header: Some(header(&self.port, revision)),
        }))
    }
}

/// Does something to a leader's key if that is the key still; whether it was, and the revision.
async fn if_leading(
    port: &Port,
    leader: &pb::LeaderKey,
    operation: Operation,
) -> Result<(bool, i64), Status> {
    let txn = Txn {
        compare: vec![created(&leader.key, leader.rev)],
        success: vec![operation],
        failure: Vec::new(),
    };
    txn.check(usize::MAX).map_err(invalid)?;
    let reply = port.propose(Command::Txn(txn)).await.map_err(refused)?;
    let (is_leader, revision, _) = outcome(reply).map_err(refused)?;
    Ok((is_leader, revision))
}
