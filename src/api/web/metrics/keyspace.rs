//! The metrics of the key space: what it does, how long that takes, how it is compacted, and its watches, leases and users.

use rm_actors::port::{Port, Report};

use crate::web::exposition::Page;

/// etcd 3 tells the operations of its earlier API apart by another version.
const API: &str = "v3";

/// By whether what was timed did not succeed, or did.
const SUCCEEDED: [&str; 2] = ["false", "true"];

pub(super) fn write(page: &mut Page, port: &Port, report: &Report) {
    operations(page, port);
    times(page, port);
    long_reads(page, port);
    revisions(page, port, report);
    compaction(page, port);
    watches(page, port);
    leases(page, port);
    page.gauge(
        "etcd_debugging_auth_revision",
        "The revision of users, roles and permissions.",
    )
    .is(port.auth_revision());
}

fn operations(page: &mut Page, port: &Port) {
    let meters = &port.meters().keyspace;
    page.counter(
        "etcd_mvcc_put_total",
        "Puts that were applied, in transactions too.",
    )
    .is(meters.puts.read());
    page.counter(
        "etcd_mvcc_delete_total",
        "Deletes of ranges that were applied, in transactions too, and of each key of a lease that ended.",
    )
    .is(meters.deletes.read());
    page.counter(
        "etcd_mvcc_range_total",
        "Ranges that were read, in transactions too.",
    )
    .is(meters.ranges.read());
    page.counter(
        "etcd_mvcc_txn_total",
        "Transactions that were applied, or read.",
    )
    .is(meters.txns.read());
    page.gauge(
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "Bytes of the keys that were put and of the values that were given for them.",
    )
    .is(meters.put_bytes.read());
    page.gauge(
        "etcd_debugging_mvcc_keys_total",
        "Keys, with those that are deleted and not compacted yet.",
    )
    .is(meters.keys.read());
}

fn times(page: &mut Page, port: &Port) {
    let meters = &port.meters().keyspace;
    let mut commands = page.histograms(
        "etcd_server_apply_duration_seconds",
        "How long it took to apply each kind of command.",
    );
    for (kind, times) in &meters.command_times {
        for (succeeded, times) in SUCCEEDED.into_iter().zip(times) {
            let op = format!("{kind:?}");
            let labels = [("version", API), ("op", &op), ("success", succeeded)];
            if times.read().count > 0 {
                commands.distribution(&labels, times);
            }
        }
    }
    let mut ranges = page.histograms(
        "etcd_server_range_duration_seconds",
        "How long it took to read each range that stands alone.",
    );
    for (succeeded, times) in SUCCEEDED.into_iter().zip(&meters.range_times) {
        ranges.distribution(&[("success", succeeded)], times);
    }
    page.counter(
        "etcd_server_slow_apply_total",
        "Commands and reads that took longer than 100 ms.",
    )
    .is(meters.slow.read());
}

fn long_reads(page: &mut Page, port: &Port) {
    let meters = &port.meters().keyspace;
    page.gauge(
        "raft_machine_long_reads",
        "Reads of many keys of which a part is done.",
    )
    .is(meters.reads_begun.read());
    page.counter(
        "raft_machine_long_read_slices_total",
        "The parts of such reads beyond the first of each, between which others are served.",
    )
    .is(meters.read_slices.read());
    page.counter(
        "raft_machine_long_reads_abandoned_total",
        "Such reads that were dropped before their end, since nobody waited for them any more.",
    )
    .is(meters.reads_abandoned.read());
    page.counter(
        "raft_machine_long_reads_overtaken_total",
        "How often a compaction had such a read begin anew, or be refused.",
    )
    .is(meters.reads_overtaken.read());
}

fn revisions(page: &mut Page, port: &Port, report: &Report) {
    let compaction = port.compaction();
    page.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The revision of the key space.",
    )
    .is(report.revision);
    page.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision up to which the key space is compacted.",
    )
    .is(compaction.revision.max(0));
    page.gauge(
        "raft_machine_scrubbed_revision",
        "The revision up to which nothing is left of what was compacted.",
    )
    .is(compaction.scrubbed.max(0));
}

fn compaction(page: &mut Page, port: &Port) {
    let meters = &port.meters().keyspace;
    page.histogram(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "For how long each step of a scrub held up all else.",
        &meters.scrub_pauses,
    );
    page.histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "How long it took from a compaction until nothing was left of what it had forgotten.",
        &meters.compactions,
    );
    page.gauge(
        "etcd_debugging_mvcc_db_compaction_last",
        "When that was last, in seconds since 1970; zero while there was none since the process began.",
    )
    .is(meters.compacted_at.read());
    page.counter(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Changes of keys that were removed because of compactions.",
    )
    .is(meters.scrubbed.read());
}

fn watches(page: &mut Page, port: &Port) {
    let meters = port.meters();
    page.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Clients' streams of watchers.",
    )
    .is(meters.streams.read());
    page.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.")
        .is(meters.watchers.read());
    page.gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that have yet to be told what happened.",
    )
    .is(meters.watchers_late.read());
    page.counter(
        "etcd_debugging_mvcc_events_total",
        "Events that clients were told.",
    )
    .is(meters.events.read());
    page.gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Events that wait for clients to take them.",
    )
    .is(meters.events_pending.read());
    page.gauge(
        "raft_machine_watch_backlog_bytes",
        "Memory of what waits for clients to take it, over all streams of watchers, in bytes.",
    )
    .is(port.watch_backlog_bytes());
}

fn leases(page: &mut Page, port: &Port) {
    let meters = port.meters();
    page.gauge(
        "raft_machine_leases",
        "Leases whose time the machine counts: all of them if it leads, else none.",
    )
    .is(meters.leases.read());
    page.counter(
        "etcd_debugging_server_lease_expired_total",
        "Leases that the machine had ended because their time was over.",
    )
    .is(meters.leases_expired.read());
    page.counter(
        "etcd_debugging_lease_renewed_total",
        "Leases that the machine renewed, while it led.",
    )
    .is(meters.leases_renewed.read());
    let applied = &meters.keyspace;
    page.counter(
        "etcd_debugging_lease_granted_total",
        "Grants of leases that were applied.",
    )
    .is(applied.leases_granted.read());
    page.counter(
        "etcd_debugging_lease_revoked_total",
        "Ends of leases that were applied, by whomever they were ended.",
    )
    .is(applied.leases_ended.read());
    page.histogram(
        "etcd_debugging_lease_ttl_total",
        "For how many seconds leases were granted.",
        &applied.lease_ttls,
    );
}
