//! The metrics of what lies on the disk.

use rm_actors::port::{MachineId, Port, Report};
use rm_proto::etcdserverpb::AlarmType;

use super::hex;
use crate::alarm::alarms;
use crate::maintenance::quota;
use crate::web::exposition::Page;

pub(super) fn write(page: &mut Page, port: &Port, report: &Report) {
    log(page, port, report);
    state(page, port, report);
    work(page, port);
    standing_alarms(page, port, report);
}

fn log(page: &mut Page, port: &Port, report: &Report) {
    let meters = port.meters();
    page.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The durable commits of the log, each from its begin to the end of its last flush.",
        &meters.log_commits,
    );
    page.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Bytes of the entries that were written into the log.",
    )
    .is(meters.log_written_bytes.read());
    page.gauge("raft_machine_log_bytes", "Bytes of the log in use.")
        .is(report.log_bytes);
    page.gauge(
        "raft_machine_log_first_index",
        "The first index of the log that is not compacted.",
    )
    .is(report.first.0);
    page.gauge("raft_machine_log_last_index", "The last index of the log.")
        .is(report.last.0);
}

fn state(page: &mut Page, port: &Port, report: &Report) {
    page.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The durable commits of the state, its checkpoints.",
        &port.meters().checkpoints,
    );
    page.gauge(
        "raft_machine_no_space",
        "Whether writes are refused for want of space on the disk.",
    )
    .is(i32::from(report.no_space));
    page.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes of the state's file.",
    )
    .is(report.file_bytes);
    page.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of the state's file in use.",
    )
    .is(report.used_bytes);
    page.gauge(
        "etcd_server_quota_backend_bytes",
        "How large the state's file may become; a negative number where there is no quota.",
    )
    .is(quota(port.config().limits.quota_bytes));
}

/// What is done with the state as a whole.
fn work(page: &mut Page, port: &Port) {
    let meters = port.meters();
    page.histogram(
        "etcd_disk_backend_snapshot_duration_seconds",
        "How long each copy of the state took that was made to be sent, to a machine or to a client.",
        &meters.copies,
    );
    page.histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        "How long each defragmentation took, while clients were served.",
        &meters.defragmentations,
    );
    page.gauge(
        "etcd_disk_defrag_inflight",
        "Whether the state is being defragmented.",
    )
    .is(meters.defragmenting.read());
    page.gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        "Whether a snapshot of another machine is being put in force.",
    )
    .is(meters.installing.read());
    page.histogram(
        "etcd_mvcc_hash_duration_seconds",
        "How long each hash of the whole state took.",
        &meters.hashes,
    );
    page.histogram(
        "etcd_mvcc_hash_rev_duration_seconds",
        "How long each hash of the key space at a revision took.",
        &meters.revision_hashes,
    );
}

/// The alarms that stand; where none does, the page has nothing of them, as etcd's.
fn standing_alarms(page: &mut Page, port: &Port, report: &Report) {
    let standing = alarms(port.identity(), report, AlarmType::None);
    if standing.is_empty() {
        return;
    }
    let mut family = page.gauge(
        "etcd_debugging_server_alarms",
        "Each alarm that stands, with the number of its machine and its kind as labels.",
    );
    for alarm in standing {
        let machine = hex(MachineId(alarm.member_id));
        let kind = alarm.alarm().as_str_name();
        family.sample(&[("server_id", &machine), ("alarm_type", kind)], 1);
    }
}
