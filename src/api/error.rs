//! What a client is told when its request fails: etcd's codes and texts (api/v3rpc/rpctypes/error.go), because clients
//! compare them to decide whether to try again.

use rm_actors::port::{AuthError, Refusal, RequestError};
use tonic::Status;

use crate::members::change_refused;

/// etcd's text for a member that knows of no leader.
pub(crate) const NO_LEADER: &str = "etcdserver: no leader";

/// What the machine refused, as etcd says it.
///
/// Where the outcome is unknown the code is `Unavailable` and the text is none of those after which etcd's clients
/// repeat a write by themselves.
pub(crate) fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::NoLeader => Status::unavailable(NO_LEADER),
        Refusal::TooManyRequests => Status::resource_exhausted("etcdserver: too many requests"),
        Refusal::NoRoomForReply { .. } => Status::resource_exhausted(
            "raftmachine: this machine holds as many replies as it may (limits.replies_bytes_max) until their clients take them: \
             ask again later, or for fewer keys at a time",
        ),
        Refusal::TooLarge => Status::invalid_argument("etcdserver: request is too large"),
        Refusal::NoSpace => Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
        Refusal::Behind => Status::unavailable(
            "raftmachine: the disk of this machine is full and it lags behind: ask another machine",
        ),
        Refusal::Stalled => Status::deadline_exceeded(
            "raftmachine: nothing of the snapshot was taken for too long (timings.snapshot_stall_ms): ask for it again",
        ),
        Refusal::Stopped => Status::unavailable("etcdserver: server stopped"),
        Refusal::TimedOut => Status::unavailable("etcdserver: request timed out"),
        Refusal::LeaderLost => Status::unavailable(
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        Refusal::Restarted => Status::unavailable(
            "raftmachine: a part of the machine was restarted while the request was under way; \
             whether it was carried out is unknown",
        ),
        Refusal::Request(error) => invalid(error),
        Refusal::Damaged(_) => Status::data_loss("etcdserver: corrupt cluster"),
        Refusal::Change(reason) => change_refused(reason),
        Refusal::AddressTaken(_) => {
            Status::failed_precondition("etcdserver: Peer URLs already exists")
        }
        Refusal::Operator(why) => Status::failed_precondition(format!("raftmachine: {why}")),
    }
}

/// What is wrong with the request itself.
pub(crate) fn invalid(error: RequestError) -> Status {
    let text = error.to_string();
    match error {
        RequestError::EmptyKey
        | RequestError::KeyNotFound
        | RequestError::ValueProvided
        | RequestError::LeaseProvided
        | RequestError::TooManyOperations
        | RequestError::DuplicateKey => Status::invalid_argument(text),
        RequestError::Compacted | RequestError::FutureRevision | RequestError::LeaseTooLong => {
            Status::out_of_range(text)
        }
        RequestError::LeaseExists => Status::failed_precondition(text),
        RequestError::LeaseNotFound => Status::not_found(text),
        RequestError::ReplyTooLarge
        | RequestError::ReplyTooLargeAfterChange
        | RequestError::NoRoomForReply
        | RequestError::NoRoomForReplyAfterChange { .. } => Status::resource_exhausted(text),
        RequestError::Auth(error) => not_permitted(error),
        RequestError::NoSpace | RequestError::TooManyAlarms => Status::resource_exhausted(text),
        RequestError::Corrupt => Status::data_loss(text),
        RequestError::NotReadOnly | RequestError::SignedTwice | RequestError::TooManyLeases => {
            Status::internal(text)
        }
    }
}

/// Why somebody may not do something, or a change of users, roles and permissions is not possible.
fn not_permitted(error: AuthError) -> Status {
    let text = error.to_string();
    match error {
        AuthError::NoRootUser
        | AuthError::NoRootRole
        | AuthError::UserExists
        | AuthError::UserNotFound
        | AuthError::RoleExists
        | AuthError::RoleNotFound
        | AuthError::RoleNotGranted
        | AuthError::PermissionNotGranted
        | AuthError::NotEnabled => Status::failed_precondition(text),
        AuthError::UserEmpty
        | AuthError::RoleEmpty
        | AuthError::Failed
        | AuthError::PermissionNotGiven
        | AuthError::InvalidManagement
        | AuthError::OldRevision
        | AuthError::NameTooLong => Status::invalid_argument(text),
        AuthError::TooManyUsers
        | AuthError::TooManyRoles
        | AuthError::TooManyRolesOfUser
        | AuthError::RoleTooLarge => Status::resource_exhausted(text),
        AuthError::PermissionDenied => Status::permission_denied(text),
        AuthError::InvalidToken => Status::unauthenticated(text),
    }
}

/// A number stands where one of an enumeration is expected.
pub(crate) fn unknown_value(what: &str, value: i32) -> Status {
    Status::invalid_argument(format!("raftmachine: {value} is no {what}"))
}

/// A part of etcd's API that this version does not have.
pub(crate) fn unserved(feature: &str) -> Status {
    Status::unimplemented(format!(
        "raftmachine: {feature} is not served by this version"
    ))
}

/// The machine answered another question than it was asked: our fault.
pub(crate) fn mismatched() -> Status {
    Status::internal("raftmachine: the reply does not fit the request; please report this")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn every_refusal_has_etcds_code_and_text() {
        let table = [
            (
                Refusal::NoLeader,
                Code::Unavailable,
                "etcdserver: no leader",
            ),
            (
                Refusal::TooManyRequests,
                Code::ResourceExhausted,
                "etcdserver: too many requests",
            ),
            (
                Refusal::TooLarge,
                Code::InvalidArgument,
                "etcdserver: request is too large",
            ),
            (
                Refusal::NoSpace,
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (
                Refusal::Stopped,
                Code::Unavailable,
                "etcdserver: server stopped",
            ),
            (
                Refusal::TimedOut,
                Code::Unavailable,
                "etcdserver: request timed out",
            ),
            (
                Refusal::LeaderLost,
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (
                Refusal::Damaged("table keys".to_owned()),
                Code::DataLoss,
                "etcdserver: corrupt cluster",
            ),
            (
                Refusal::AddressTaken("RM.01 has it".to_owned()),
                Code::FailedPrecondition,
                "etcdserver: Peer URLs already exists",
            ),
            (
                Refusal::Operator("fault injection is off".to_owned()),
                Code::FailedPrecondition,
                "raftmachine: fault injection is off",
            ),
        ];
        for (refusal, code, text) in table {
            let status = refused(refusal);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn a_restart_under_a_request_leaves_its_outcome_open() {
        let status = refused(Refusal::Restarted);
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("unknown"));
    }

    #[test]
    fn a_machine_that_lags_behind_sends_the_client_to_another() {
        let status = refused(Refusal::Behind);
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("ask another machine"));
    }

    #[test]
    fn every_fault_of_a_request_has_etcds_code_and_text() {
        let table = [
            (
                RequestError::EmptyKey,
                Code::InvalidArgument,
                "etcdserver: key is not provided",
            ),
            (
                RequestError::KeyNotFound,
                Code::InvalidArgument,
                "etcdserver: key not found",
            ),
            (
                RequestError::ValueProvided,
                Code::InvalidArgument,
                "etcdserver: value is provided",
            ),
            (
                RequestError::LeaseProvided,
                Code::InvalidArgument,
                "etcdserver: lease is provided",
            ),
            (
                RequestError::TooManyOperations,
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            (
                RequestError::DuplicateKey,
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            (
                RequestError::Compacted,
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                RequestError::FutureRevision,
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                RequestError::LeaseNotFound,
                Code::NotFound,
                "etcdserver: requested lease not found",
            ),
            (
                RequestError::LeaseExists,
                Code::FailedPrecondition,
                "etcdserver: lease already exists",
            ),
            (
                RequestError::LeaseTooLong,
                Code::OutOfRange,
                "etcdserver: too large lease TTL",
            ),
            (
                RequestError::ReplyTooLarge,
                Code::ResourceExhausted,
                "raftmachine: the reply is too large; ask for fewer keys at a time (a limit, a smaller range, keys only)",
            ),
            (
                RequestError::ReplyTooLargeAfterChange,
                Code::ResourceExhausted,
                "raftmachine: the request was carried out, and its reply is too large; ask for fewer keys at a time",
            ),
            (
                RequestError::NoRoomForReplyAfterChange { revision: 7 },
                Code::ResourceExhausted,
                "raftmachine: the request was carried out, and this machine had no memory left for its reply",
            ),
        ];
        for (error, code, text) in table {
            let status = refused(Refusal::Request(error));
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}
