//! A transfer of leadership, for etcd's clients and for rmctl: what it comes to, in etcd's words.

use rm_actors::port::{MachineId, Port, TransferOutcome};
use tonic::Status;

use crate::error::{NO_LEADER, refused};

/// Hands leadership over and tells to whom.
pub(crate) async fn transfer(port: &Port, to: Option<MachineId>) -> Result<MachineId, Status> {
    match port.transfer(to).await.map_err(refused)? {
        (Some(leader), TransferOutcome::Done) => Ok(leader),
        (_, outcome) => Err(failed(outcome)),
    }
}

/// Why leadership is not where it was to go.
fn failed(outcome: TransferOutcome) -> Status {
    match outcome {
        TransferOutcome::Done => Status::unavailable(NO_LEADER),
        TransferOutcome::NotLeader => Status::failed_precondition("etcdserver: not leader"),
        TransferOutcome::NotVoter => {
            Status::failed_precondition("etcdserver: bad leader transferee")
        }
        TransferOutcome::Unheard => Status::unavailable(
            "raftmachine: the machine that is to lead was not heard for an election timeout",
        ),
        TransferOutcome::TimedOut => {
            Status::unavailable("etcdserver: request timed out, leader transfer took too long")
        }
        TransferOutcome::Replaced => {
            Status::aborted("raftmachine: another transfer of leadership was asked for meanwhile")
        }
        TransferOutcome::AnotherLeads => Status::aborted(
            "raftmachine: another machine was elected than the one that was to lead",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_failed_transfer_is_told_in_etcds_words() {
        for (outcome, code, text) in [
            (
                TransferOutcome::NotLeader,
                Code::FailedPrecondition,
                "etcdserver: not leader",
            ),
            (
                TransferOutcome::NotVoter,
                Code::FailedPrecondition,
                "etcdserver: bad leader transferee",
            ),
            (
                TransferOutcome::TimedOut,
                Code::Unavailable,
                "etcdserver: request timed out, leader transfer took too long",
            ),
        ] {
            let status = failed(outcome);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}
