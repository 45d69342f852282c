//! Changes of the members, for etcd's clients and for rmctl: how they are asked for, and why they are refused.

use rm_actors::port::{
    Address, ChangeRefused, MachineId, Member, Newcomer, Port, Refusal, Standing,
};
use rm_proto::raftmachine::v1 as pb;
use rm_proto::raftmachine::v1::change_members_request::Change;
use tonic::Status;

use crate::error::refused;

/// Carries a change out, and gives the id of the machine that it adds; `told` puts a refusal into words.
pub(crate) async fn change(
    port: &Port,
    request: pb::ChangeMembersRequest,
    told: impl Fn(Refusal) -> Status,
) -> Result<Option<MachineId>, Status> {
    let force = request.force;
    let change = request.change.ok_or_else(|| {
        Status::invalid_argument("raftmachine: the request names no change of the members")
    })?;
    let done = match change {
        Change::Add(add) => {
            let voter = add.voter;
            let newcomer = newcomer(add)?;
            let added = port.add_member(&newcomer, voter, force).await;
            return added.map(Some).map_err(told);
        }
        Change::Replace(replace) => {
            let newcomer = newcomer(replace.new.unwrap_or_default())?;
            let old = MachineId(replace.old);
            let added = port.replace_member(old, &newcomer, force).await;
            return added.map(Some).map_err(told);
        }
        Change::Remove(id) => port.remove_member(MachineId(id), force).await,
        Change::Promote(id) => port.promote_member(MachineId(id), force).await,
        Change::Demote(id) => port.demote_member(MachineId(id), force).await,
        Change::Update(update) => {
            let (peer, client) = (optional(&update.peer)?, optional(&update.client)?);
            let id = MachineId(update.id);
            port.update_member(id, peer.as_ref(), client.as_ref()).await
        }
    };
    done.map(|()| None).map_err(told)
}

/// What an operator is told: all that is known of the reason.
pub(crate) fn explained(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Change(reason) => Status::failed_precondition(format!("raftmachine: {reason}")),
        Refusal::AddressTaken(why) => Status::failed_precondition(format!("raftmachine: {why}")),
        other => refused(other),
    }
}

fn newcomer(add: pb::AddMember) -> Result<Newcomer, Status> {
    if add.name.is_empty() {
        return Err(Status::invalid_argument(
            "raftmachine: the new machine has no name: give it the one that its config has",
        ));
    }
    Ok(Newcomer {
        name: add.name,
        peer: address(&add.peer)?,
        client: address(&add.client)?,
    })
}

fn optional(text: &str) -> Result<Option<Address>, Status> {
    match text {
        "" => Ok(None),
        text => address(text).map(Some),
    }
}

fn address(text: &str) -> Result<Address, Status> {
    text.parse().map_err(|error| {
        Status::invalid_argument(format!("raftmachine: {text:?} is no address: {error}"))
    })
}

/// A member as rmctl is told of it.
pub(crate) fn machine(member: &Member) -> pb::Machine {
    pb::Machine {
        id: member.machine.0,
        name: member.name.clone(),
        peer: member.peer.clone(),
        client: member.client.clone(),
        standing: match member.standing {
            Standing::Voter => "voter",
            Standing::Learner => "learner",
            Standing::Leaving => "leaving",
        }
        .to_owned(),
        data_id: member
            .data_id
            .map(|id| id.0.to_vec().into())
            .unwrap_or_default(),
    }
}

/// Why a change was not begun: in etcd's words where it has some (api/v3rpc/rpctypes/error.go).
pub(crate) fn change_refused(reason: ChangeRefused) -> Status {
    match reason {
        ChangeRefused::NoSuchMachine(_) => Status::not_found("etcdserver: member not found"),
        ChangeRefused::AlreadyMember(_) => {
            Status::failed_precondition("etcdserver: member ID already exist")
        }
        ChangeRefused::AlreadyVoter(_) => {
            Status::failed_precondition("etcdserver: can only promote a learner member")
        }
        ChangeRefused::NotCaughtUp { .. } => Status::failed_precondition(
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        ChangeRefused::QuorumAtRisk { .. } | ChangeRefused::NoVoterLeft => {
            Status::failed_precondition(
                "etcdserver: re-configuration failed due to not enough started members",
            )
        }
        ChangeRefused::NotLeader => Status::unavailable("etcdserver: not leader"),
        other => Status::failed_precondition(format!("raftmachine: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_change_that_is_refused_is_told_in_etcds_words() {
        for (reason, code, text) in [
            (
                ChangeRefused::NoSuchMachine(MachineId(7)),
                Code::NotFound,
                "etcdserver: member not found",
            ),
            (
                ChangeRefused::QuorumAtRisk {
                    heard: 1,
                    needed: 2,
                },
                Code::FailedPrecondition,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
        ] {
            let status = change_refused(reason);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn a_newcomer_without_a_name_or_an_address_is_refused() {
        let add = |name: &str, peer: &str| pb::AddMember {
            name: name.to_owned(),
            peer: peer.to_owned(),
            client: "127.0.0.1:2".to_owned(),
            voter: false,
        };
        newcomer(add("RM.04", "127.0.0.1:1")).expect("it has both");
        newcomer(add("", "127.0.0.1:1")).expect_err("no name");
        newcomer(add("RM.04", "nowhere")).expect_err("no address");
    }
}
