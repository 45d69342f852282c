//! The metrics of the machine among the others, and of what it proposes and reads for its clients.

use rm_actors::port::{ChangeRefused, Index, MachineId, Port, Report, Role};

use super::hex;
use crate::maintenance::{ETCD_VERSION, STORAGE_VERSION};
use crate::members::change_refused;
use crate::web::exposition::Page;

pub(super) fn write(page: &mut Page, port: &Port, report: &Report) {
    identity(page, port);
    leadership(page, port, report);
    promotions(page, port);
    proposals(page, port, report);
}

fn identity(page: &mut Page, port: &Port) {
    let identity = port.identity();
    let mut id = page.gauge("etcd_server_id", "The machine's number, as a label.");
    id.sample(&[("server_id", &hex(identity.machine))], 1);
    let mut version = page.gauge(
        "etcd_server_version",
        "The version of etcd whose API is served, as a label.",
    );
    version.sample(&[("server_version", ETCD_VERSION)], 1);
    // Every machine of a domain serves the API that its own program has.
    let (major_and_minor, _) = ETCD_VERSION.rsplit_once('.').unwrap_or((ETCD_VERSION, ""));
    let mut version = page.gauge(
        "etcd_cluster_version",
        "The same without the number of the patch.",
    );
    version.sample(&[("cluster_version", major_and_minor)], 1);
    let mut own = page.gauge(
        "raft_machine_info",
        "The machine's name, its domain, and the version of the program, as labels.",
    );
    let labels = [
        ("name", identity.name.as_str()),
        ("domain", &identity.domain),
        ("version", STORAGE_VERSION),
    ];
    own.sample(&labels, 1);
}

fn leadership(page: &mut Page, port: &Port, report: &Report) {
    let meters = port.meters();
    page.gauge("etcd_server_has_leader", "Whether a leader is known.")
        .is(i32::from(report.leader.is_some()));
    page.gauge("etcd_server_is_leader", "Whether the machine leads.")
        .is(i32::from(report.role == Role::Leader));
    page.gauge(
        "etcd_server_is_learner",
        "Whether the machine receives the log and does not vote.",
    )
    .is(i32::from(report.is_learner));
    page.counter(
        "etcd_server_leader_changes_seen_total",
        "How often another leader was learnt of.",
    )
    .is(meters.leader_changes.read());
    page.counter(
        "etcd_server_heartbeat_send_failures_total",
        "Rounds of heartbeats that left later than an interval after they were due, while the machine led others.",
    )
    .is(meters.late_heartbeats.read());
    page.gauge("raft_machine_term", "The machine's term.")
        .is(report.term.0);
}

/// By the texts that etcd's clients are told.
fn promotions(page: &mut Page, port: &Port) {
    let promotions = &port.meters().promotions;
    page.counter(
        "etcd_server_learner_promote_successes",
        "Learners that were promoted when this machine was asked to.",
    )
    .is(promotions.done.read());
    let machine = MachineId(0);
    let not_caught_up = ChangeRefused::NotCaughtUp {
        machine,
        matched: Index(0),
        last: Index(0),
    };
    let quorum_at_risk = ChangeRefused::QuorumAtRisk {
        heard: 0,
        needed: 0,
    };
    let text = |reason| change_refused(reason).message().to_owned();
    let mut failures = page.counter(
        "etcd_server_learner_promote_failures",
        "Promotions of learners that were refused when this machine was asked for them, by the reason.",
    );
    for (reason, meter) in [
        (
            text(ChangeRefused::NoSuchMachine(machine)),
            &promotions.no_such_member,
        ),
        (
            text(ChangeRefused::AlreadyVoter(machine)),
            &promotions.no_learner,
        ),
        (text(not_caught_up), &promotions.not_caught_up),
        (text(quorum_at_risk), &promotions.quorum_at_risk),
        ("other".to_owned(), &promotions.other),
    ] {
        failures.sample(&[("Reason", &reason)], meter.read());
    }
}

fn proposals(page: &mut Page, port: &Port, report: &Report) {
    let meters = port.meters();
    page.gauge(
        "etcd_server_proposals_committed_total",
        "Up to where the machine knows the log to be committed.",
    )
    .is(report.commit.0);
    page.gauge(
        "etcd_server_proposals_applied_total",
        "Up to where the machine has applied the log.",
    )
    .is(report.applied.0);
    page.gauge(
        "etcd_server_proposals_pending",
        "Writes of this machine's clients, and those of its leases' time, that wait for their answer.",
    )
    .is(meters.writes_pending.read());
    page.counter(
        "etcd_server_proposals_failed_total",
        "Writes of this machine's clients, and those of its leases' time, that failed, or whose outcome is unknown, by no fault of their own.",
    )
    .is(meters.writes_failed.read());
    page.counter(
        "etcd_server_read_indexes_failed_total",
        "Linearizable reads of this machine's clients that failed by no fault of their own.",
    )
    .is(meters.reads_failed.read());
    page.counter(
        "etcd_server_slow_read_indexes_total",
        "Those of them for which the time was too short.",
    )
    .is(meters.reads_timed_out.read());
}
