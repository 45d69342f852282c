//! The metrics of replies that clients have yet to take.

use rm_actors::port::Port;

use crate::web::exposition::Page;

pub(super) fn write(page: &mut Page, port: &Port) {
    let meters = port.meters();
    page.gauge(
        "raft_machine_replies_bytes",
        "Memory that is held for replies until their clients have taken them, in bytes.",
    )
    .is(port.replies_bytes());
    page.gauge(
        "raft_machine_replies_waiting",
        "Reads that wait for memory for their reply.",
    )
    .is(port.replies_waiting());
    page.counter(
        "raft_machine_replies_refused_total",
        "Requests that were refused for want of memory for their reply.",
    )
    .is(meters.replies_refused.read());
    page.counter(
        "raft_machine_replies_given_up_total",
        "Replies that their clients did not take in time.",
    )
    .is(meters.replies_given_up.read());
}
