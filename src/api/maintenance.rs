//! etcd's Maintenance service: how the machine is, and what is done to its data.

use futures::stream;
use rm_actors::port::{
    Deed, Identity, KeyspaceHash, MachineId, Port, QUOTA_BYTES_DEFAULT, Refusal, Report,
    SnapshotPiece, SnapshotStream,
};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::AlarmType;
use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use rm_proto::etcdserverpb::maintenance_server::Maintenance;
use tokio::sync::watch;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::alarm::{alarm, alarms};
use crate::error::{NO_LEADER, refused, unknown_value, unserved};
use crate::header::header_now;
use crate::recognition::Caller;
use crate::transfer::transfer;

/// The version of etcd whose API is served; clients read it to learn what they may ask.
pub(crate) const ETCD_VERSION: &str = "3.6.0";

/// Our own version, which says how the data is laid out.
pub(crate) const STORAGE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reports on the machine that is asked.
pub(crate) struct MaintenanceService {
    port: Port,
    /// True once the server stops; its sender lives as long as the server.
    draining: watch::Receiver<bool>,
}

impl MaintenanceService {
    pub(crate) fn new(port: Port, draining: watch::Receiver<bool>) -> MaintenanceService {
        MaintenanceService { port, draining }
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let report = self.port.report();
        Ok(Response::new(pb::StatusResponse {
            header: Some(header_now(&self.port)),
            version: ETCD_VERSION.to_owned(),
            db_size: signed(report.file_bytes),
            leader: report.leader.map_or(0, |leader| leader.0),
            raft_index: report.commit.0,
            raft_term: report.term.0,
            raft_applied_index: report.applied.0,
            errors: errors(self.port.identity(), &report),
            db_size_in_use: signed(report.used_bytes),
            is_learner: report.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: quota(self.port.config().limits.quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    /// Lists the alarms that stand once all that was committed is applied here, or raises or disarms one through the log. A full disk
    /// of this machine is listed as one too: that comes and goes by itself.
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let caller = Caller::new(&self.port, request.extensions());
        let request = request.into_inner();
        // To look at alarms one must be somebody, which was seen to; to change one takes more, as in etcd.
        if request.action != AlarmAction::Get as i32 {
            let may = caller.may_by_now(&Deed::Administer).await;
            may.map_err(refused)?;
        }
        let alarms = alarm(&self.port, &request).await?;
        Ok(Response::new(pb::AlarmResponse {
            header: Some(header_now(&self.port)),
            alarms,
        }))
    }

    /// Answers once the state without its free pages serves; whoever asked may give up earlier.
    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.port.defragment().await.map_err(refused)?;
        Ok(Response::new(pb::DefragmentResponse {
            header: Some(header_now(&self.port)),
        }))
    }

    /// Hashes all that this machine holds, leases and users too.
    async fn hash(
        &self,
        _: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let hash = self.port.hash_whole().await.map_err(refused)?;
        Ok(Response::new(pb::HashResponse {
            header: Some(header_now(&self.port)),
            hash,
        }))
    }

    /// Hashes what this machine has, not what the cluster agreed on: to compare machines by.
    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let hash = self.port.hash(revision).await.map_err(refused)?;
        Ok(Response::new(hash_response(header_now(&self.port), hash)))
    }

    type SnapshotStream = BoxStream<pb::SnapshotResponse>;

    /// Sends the state in pieces, and behind it its SHA-256 as one more piece: what a client writes one after the other is a file
    /// that says by its length that a digest is in it, as etcd's does.
    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let snapshot = self.port.snapshot().map_err(refused)?;
        let state = Some((snapshot, self.draining.clone()));
        let responses = stream::unfold(state, |state| async move {
            let (mut snapshot, mut draining) = state?;
            match next_piece(&mut snapshot, &mut draining).await {
                Ok(None) => None,
                Ok(Some(piece)) => Some((Ok(snapshot_response(piece)), Some((snapshot, draining)))),
                Err(refusal) => Some((Err(refused(refusal)), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let target = MachineId(request.into_inner().target_id);
        transfer(&self.port, Some(target)).await?;
        Ok(Response::new(pb::MoveLeaderResponse {
            header: Some(header_now(&self.port)),
        }))
    }

    /// Nothing here goes down to an earlier version: data that a newer program has written is refused by an older one.
    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        let request = request.into_inner();
        let action = DowngradeAction::try_from(request.action)
            .map_err(|_| unknown_value("action of a downgrade", request.action))?;
        let feature = match action {
            DowngradeAction::Validate => "VALIDATE of a downgrade",
            DowngradeAction::Enable => "ENABLE of a downgrade",
            DowngradeAction::Cancel => "CANCEL of a downgrade",
        };
        Err(unserved(feature))
    }
}

/// The next piece, or a refusal as soon as the server stops: a client that takes its time must not hold that up.
async fn next_piece(
    snapshot: &mut SnapshotStream,
    draining: &mut watch::Receiver<bool>,
) -> Result<Option<SnapshotPiece>, Refusal> {
    tokio::select! {
        piece = snapshot.next() => piece,
        _ = draining.wait_for(|draining| *draining) => Err(Refusal::Stopped),
    }
}

fn snapshot_response(piece: SnapshotPiece) -> pb::SnapshotResponse {
    pb::SnapshotResponse {
        header: None,
        remaining_bytes: piece.remaining_bytes,
        blob: piece.bytes,
        version: STORAGE_VERSION.to_owned(),
    }
}

fn hash_response(header: pb::ResponseHeader, hash: KeyspaceHash) -> pb::HashKvResponse {
    pb::HashKvResponse {
        header: Some(header),
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    }
}

/// What is wrong, as etcd words it in a status.
fn errors(identity: &Identity, report: &Report) -> Vec<String> {
    let mut errors = Vec::new();
    if report.leader.is_none() {
        errors.push(NO_LEADER.to_owned());
    }
    for alarm in alarms(identity, report, AlarmType::None) {
        let name = alarm.alarm().as_str_name();
        errors.push(format!("memberID:{} alarm:{name} ", alarm.member_id));
    }
    errors
}

/// The quota as etcd tells it: the default where none is given, and a negative number for none.
pub(crate) fn quota(configured: i64) -> i64 {
    match configured {
        0 => QUOTA_BYTES_DEFAULT,
        bytes => bytes,
    }
}

/// A size in etcd's type; no file reaches its end.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rm_actors::port::{Era, Index, Role, Term};

    pub(crate) fn identity() -> Identity {
        Identity {
            domain: "test".to_owned(),
            cluster_id: 1,
            era: Era::FIRST,
            name: "RM.01".to_owned(),
            machine: MachineId(7),
        }
    }

    pub(crate) fn report(leader: Option<MachineId>, no_space: bool) -> Report {
        Report {
            role: Role::Follower,
            is_learner: false,
            term: Term(1),
            leader,
            leader_silence_ms: None,
            last: Index(1),
            commit: Index(1),
            applied: Index(1),
            revision: 1,
            file_bytes: 1,
            used_bytes: 1,
            alarms: Vec::new(),
            no_space,
            first: Index(1),
            log_bytes: 0,
            followers: Vec::new(),
            sending: Vec::new(),
            receiving: None,
            refused: 0,
            refusals: Vec::new(),
            boot: 1,
            process: 1,
            uptime_ms: 1,
        }
    }

    #[test]
    fn a_hash_tells_up_to_which_revision_and_since_which_compaction_it_is() {
        let header = pb::ResponseHeader {
            revision: 9,
            ..pb::ResponseHeader::default()
        };
        let hash = KeyspaceHash {
            hash: 0xabcd,
            compact_revision: 3,
            revision: 7,
        };
        let response = hash_response(header, hash);
        assert_eq!(response.header, Some(header));
        assert_eq!((response.hash, response.compact_revision), (0xabcd, 3));
        assert_eq!(response.hash_revision, 7);
    }

    #[test]
    fn a_status_tells_of_a_missing_leader_and_a_full_disk() {
        assert_eq!(
            errors(&identity(), &report(None, true)),
            ["etcdserver: no leader", "memberID:7 alarm:NOSPACE "]
        );
    }
}
