//! What every response begins with.

use rm_actors::port::Port;
use rm_proto::etcdserverpb::ResponseHeader;

/// The header of a response that was judged at `revision`.
pub(crate) fn header(port: &Port, revision: i64) -> ResponseHeader {
    let identity = port.identity();
    ResponseHeader {
        cluster_id: identity.cluster_id,
        member_id: identity.machine.0,
        revision,
        raft_term: port.term().0,
    }
}

/// The header of a response that has nothing to do with a revision of its own: it tells the newest.
pub(crate) fn header_now(port: &Port) -> ResponseHeader {
    let identity = port.identity();
    let report = port.report();
    ResponseHeader {
        cluster_id: identity.cluster_id,
        member_id: identity.machine.0,
        revision: report.revision,
        raft_term: report.term.0,
    }
}
