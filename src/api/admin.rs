//! Our own service for rmctl: the machine's view of itself, its actors, their logs and their faults.

use rm_actors::port::{
    ActorReport, Failure, Fault, FollowerStatus, Level, MachineId, PeerRefusal, Port, Role,
    SnapshotTransfer,
};
use rm_proto::raftmachine::v1 as pb;
use rm_proto::raftmachine::v1::admin_server::Admin;
use tonic::{Request, Response, Status};

use crate::error::refused;
use crate::members::{change, explained, machine};
use crate::transfer::transfer;

/// Answers rmctl.
pub(crate) struct AdminService {
    port: Port,
}

impl AdminService {
    pub(crate) fn new(port: Port) -> AdminService {
        AdminService { port }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn info(
        &self,
        _: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::InfoResponse>, Status> {
        let identity = self.port.identity();
        let report = self.port.report();
        let members = self.port.members();
        let before = members
            .iter()
            .take_while(|member| member.machine != identity.machine)
            .count();
        let machines = members.iter().map(machine).collect();
        Ok(Response::new(pb::InfoResponse {
            domain: identity.domain.clone(),
            cluster_id: identity.cluster_id,
            name: identity.name.clone(),
            machine_id: identity.machine.0,
            number: u32::try_from(before + 1).unwrap_or(u32::MAX),
            machines,
            role: role_name(report.role).to_owned(),
            term: report.term.0,
            leader: report.leader.map_or(0, |leader| leader.0),
            leader_silence_ms: report.leader_silence_ms,
            first_index: report.first.0,
            log_bytes: report.log_bytes,
            followers: report.followers.iter().map(follower).collect(),
            sending: report.sending.iter().map(snapshot_transfer).collect(),
            receiving: report.receiving.as_ref().map(snapshot_transfer),
            last_index: report.last.0,
            commit_index: report.commit.0,
            applied_index: report.applied.0,
            revision: report.revision,
            file_bytes: report.file_bytes,
            used_bytes: report.used_bytes,
            no_space: report.no_space,
            refused: report.refused,
            refusals: report.refusals.into_iter().map(peer_refusal).collect(),
            era: identity.era.0,
            boot: report.boot,
            process: report.process,
            uptime_ms: report.uptime_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fault_injection: self.port.config().fault_injection,
        }))
    }

    async fn actors(
        &self,
        _: Request<pb::ActorsRequest>,
    ) -> Result<Response<pb::ActorsResponse>, Status> {
        let actors = self.port.actors().into_iter().map(actor).collect();
        Ok(Response::new(pb::ActorsResponse { actors }))
    }

    async fn kill_actor(
        &self,
        request: Request<pb::KillActorRequest>,
    ) -> Result<Response<pb::KillActorResponse>, Status> {
        let request = request.into_inner();
        let how = failure(&request.how)?;
        self.port.kill_actor(&request.actor, how).map_err(refused)?;
        Ok(Response::new(pb::KillActorResponse {}))
    }

    async fn arm_fault(
        &self,
        request: Request<pb::ArmFaultRequest>,
    ) -> Result<Response<pb::ArmFaultResponse>, Status> {
        let request = request.into_inner();
        let fault = Fault {
            actor: request.actor,
            point: request.point,
            action: request.action,
            times: request.times,
        };
        self.port.arm_fault(fault).map_err(refused)?;
        Ok(Response::new(pb::ArmFaultResponse {}))
    }

    async fn log_levels(
        &self,
        _: Request<pb::LogLevelsRequest>,
    ) -> Result<Response<pb::LogLevelsResponse>, Status> {
        let levels = self
            .port
            .levels()
            .into_iter()
            .map(|(actor, level)| (actor, level_name(level).to_owned()))
            .collect();
        Ok(Response::new(pb::LogLevelsResponse { levels }))
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<pb::SetLogLevelResponse>, Status> {
        let request = request.into_inner();
        let level = level(&request.level)?;
        let actor = Some(request.actor.as_str()).filter(|name| !name.is_empty());
        self.port.set_level(actor, level).map_err(refused)?;
        Ok(Response::new(pb::SetLogLevelResponse {}))
    }

    async fn transfer(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferResponse>, Status> {
        let to = request.into_inner().to;
        let to = (to != 0).then_some(MachineId(to));
        let leader = transfer(&self.port, to).await?.0;
        Ok(Response::new(pb::TransferResponse { leader }))
    }

    async fn members(
        &self,
        _: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        let (members, applied) = self.port.members_now().await.map_err(refused)?;
        Ok(Response::new(pb::MembersResponse {
            domain: self.port.identity().domain.clone(),
            machines: members.iter().map(machine).collect(),
            era: self.port.identity().era.0,
            applied_index: applied.0,
        }))
    }

    async fn change_members(
        &self,
        request: Request<pb::ChangeMembersRequest>,
    ) -> Result<Response<pb::ChangeMembersResponse>, Status> {
        let added = change(&self.port, request.into_inner(), explained).await?;
        Ok(Response::new(pb::ChangeMembersResponse {
            added: added.map_or(0, |machine| machine.0),
            machines: self.port.members().iter().map(machine).collect(),
        }))
    }
}

fn actor(report: ActorReport) -> pb::Actor {
    pb::Actor {
        name: report.name,
        group: report.group,
        state: report.state,
        incarnation: report.incarnation,
        restarts: report.restarts,
        failures: report.failures,
        last_failure: report.last_failure.unwrap_or_default(),
        recovery_us: report.recovery_us,
        mailbox: report.mailbox,
        handled: report.handled,
        level: level_name(report.level).to_owned(),
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn snapshot_transfer(transfer: &SnapshotTransfer) -> pb::SnapshotTransfer {
    pb::SnapshotTransfer {
        peer: transfer.peer.0,
        bytes: transfer.bytes,
        bytes_all: transfer.bytes_all,
    }
}

fn follower(follower: &FollowerStatus) -> pb::Follower {
    pb::Follower {
        peer: follower.machine.0,
        matched_index: follower.matched.0,
        inflight_requests: follower.requests as u64,
        inflight_entries: follower.entries as u64,
        inflight_bytes: follower.bytes as u64,
    }
}

fn peer_refusal(refusal: PeerRefusal) -> pb::PeerRefusal {
    pb::PeerRefusal {
        peer: refusal.name,
        reason: refusal.reason,
    }
}

fn failure(how: &str) -> Result<Failure, Status> {
    match how {
        "panic" => Ok(Failure::Panic),
        "stop" => Ok(Failure::Stop),
        "hang" => Ok(Failure::Hang),
        _ => Err(Status::invalid_argument(format!(
            "raftmachine: an actor cannot be made to fail by {how:?}; use panic, stop or hang"
        ))),
    }
}

const LEVELS: [Level; 7] = [
    Level::Off,
    Level::Critical,
    Level::Error,
    Level::Warning,
    Level::Info,
    Level::Debug,
    Level::Trace,
];

/// The name of a level, as the config has it.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn level(name: &str) -> Result<Level, Status> {
    LEVELS
        .into_iter()
        .find(|level| level_name(*level) == name)
        .ok_or_else(|| {
            let known = LEVELS.map(level_name).join(", ");
            Status::invalid_argument(format!(
                "raftmachine: {name:?} is no log level; use one of {known}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn every_level_is_found_by_its_name() {
        for wanted in LEVELS {
            let found = level(level_name(wanted)).expect("the name is a level's");
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn an_unknown_level_is_refused_with_those_there_are() {
        let refusal = level("loud").expect_err("there is no such level");
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert_eq!(
            refusal.message(),
            "raftmachine: \"loud\" is no log level; use one of off, critical, error, warning, info, debug, trace"
        );
    }

    #[test]
    fn an_unknown_way_to_fail_is_refused_with_those_there_are() {
        assert_eq!(failure("hang").expect("one of them"), Failure::Hang);
        let refusal = failure("sigh").expect_err("there is no such way");
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().ends_with("use panic, stop or hang"));
    }

    #[test]
    fn an_actor_that_never_failed_tells_no_failure() {
        let told = actor(ActorReport {
            name: "gate".to_owned(),
            group: "front".to_owned(),
            state: "running".to_owned(),
            incarnation: 1,
            restarts: 0,
            failures: 0,
            last_failure: None,
            recovery_us: None,
            mailbox: 2,
            handled: 3,
            level: Level::Debug,
        });
        let expected = pb::Actor {
            name: "gate".to_owned(),
            group: "front".to_owned(),
            state: "running".to_owned(),
            incarnation: 1,
            mailbox: 2,
            handled: 3,
            level: "debug".to_owned(),
            ..Default::default()
        };
        assert_eq!(told, expected);
    }
}
