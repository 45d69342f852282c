//! The rules for numbers: what is too short, too large, or at odds with another.

use std::ops::RangeInclusive;

use crate::error::Problem;
use crate::schema::{
    Config, Limits, Machine, ReadMode, Reads, Restarts, Storage, Strategy, Supervision, Timings,
};
use crate::{Auth, AutoCompaction, AutoCompactionMode, Clients, Watch};

/// A day, in seconds: longer than anything here sensibly takes, and far from any overflow.
const SECONDS_MAX: u64 = 24 * 60 * 60;
/// The same day, in milliseconds.
const MS_MAX: u64 = SECONDS_MAX * 1_000;
/// The most seconds that the past can be kept: ten years. A sample is kept for every six minutes of them.
const RETENTION_SECONDS_MAX: u64 = 10 * 366 * 24 * 60 * 60;
/// The most revisions that can be kept.
const RETENTION_REVISIONS_MAX: u64 = 1_000_000_000_000;
/// The most of anything that is counted.
const COUNT_MAX: u64 = 1_000_000;
/// The shortest `watch.progress_interval_ms` (etcd: minWatchProgressInterval).
const PROGRESS_MS_MIN: u64 = 100;
/// The longest `leases.checkpoint_interval_seconds`: longer than any lease (etcd: MaxLeaseTTL), so that nothing is noted.
const LEASE_NOTE_SECONDS_MAX: u64 = 9_000_000_000;
/// The most entries that a log is told to keep.
const ENTRIES_MAX: u64 = 1_000_000_000;
/// The most bytes of anything that is held in memory.
const MEMORY_BYTES_MAX: u64 = 1 << 40;
/// The most that `limits.request_bytes_max` and `limits.append_bytes_max` may be, in bytes.
///
/// A request becomes one entry, and an append goes to a peer in one frame. Entries and frames of 16 MiB are the largest that
/// every machine reads, whatever its config says; half of that leaves room for what is written around the clients' bytes,
/// so no legal config lets a leader take what its followers refuse. etcd's own default for a request is 1.5 MiB.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// The most that `limits.transaction_operations_max` may be: a transaction of more is applied by no machine.
pub const TRANSACTION_OPERATIONS_MAX: usize = 10_000;
/// How many of the largest requests `limits.replies_bytes_max` must hold.
const REPLIES_OF_REQUEST: u64 = 8;
/// The most bytes of a file: two of them fit into the 47 bits of address space that a process has.
const FILE_BYTES_MAX: u64 = 1 << 46;

/// The most that `machines[].priority` may be.
const PRIORITY_MAX: u64 = 100;
/// The most that `reads.clock_drift_percent` may be: of a lease at least half is left.
const CLOCK_DRIFT_PERCENT_MAX: u64 = 50;
/// Whether the clock that machines read goes on while the host sleeps, as a lease must. We know it of Linux alone.
const CLOCK_COUNTS_SLEEP: bool = cfg!(target_os = "linux");

/// Everything wrong with the numbers of a config.
pub(crate) fn check(config: &Config) -> Vec<Problem> {
    let mut rules = Rules(Vec::new());
    rules.timings(&config.timings);
    rules.limits(&config.limits);
    rules.storage(&config.storage);
    rules.supervision(&config.supervision);
    rules.reads(&config.reads, CLOCK_COUNTS_SLEEP);
    rules.watch(&config.watch);
    rules.auth(&config.auth);
    rules.clients(&config.clients);
    rules.within(
        "leases.checkpoint_interval_seconds",
        config.leases.checkpoint_interval_seconds,
        1..=LEASE_NOTE_SECONDS_MAX,
    );
    rules.priorities(&config.machines);
    rules.0
}

struct Rules(Vec<Problem>);

impl Rules {
    fn timings(&mut self, timings: &Timings) {
        let Timings {
            heartbeat_ms,
            election_timeout_ms,
            disk_patience_ms,
            request_timeout_ms,
            snapshot_stall_ms,
            reply_stall_ms,
            shutdown_timeout_ms,
            reconnect_min_ms,
            reconnect_max_ms,
        } = *timings;
        let heartbeat_is_good = self.within("timings.heartbeat_ms", heartbeat_ms, 10..=MS_MAX);
        let election_is_good = self.within(
            "timings.election_timeout_ms",
            election_timeout_ms,
            100..=MS_MAX,
        );
        if heartbeat_is_good && election_is_good && election_timeout_ms < 5 * heartbeat_ms {
            self.0.push(Problem::new(
                "timings.election_timeout_ms",
                format!(
                    "is {election_timeout_ms}, less than five heartbeats of {heartbeat_ms}: write {} or more, or \
                     shorten timings.heartbeat_ms",
                    5 * heartbeat_ms
                ),
            ));
        }
        if let Some(patience_ms) = disk_patience_ms
            && self.within("timings.disk_patience_ms", patience_ms, 1..=MS_MAX)
            && election_is_good
            && patience_ms < election_timeout_ms
        {
            self.0.push(Problem::new(
                "timings.disk_patience_ms",
                format!(
                    "is {patience_ms}, less than timings.election_timeout_ms, which is {election_timeout_ms}, the time it \
                     takes to find another leader: write {election_timeout_ms} or more"
                ),
            ));
        }
        self.within("timings.request_timeout_ms", request_timeout_ms, 1..=MS_MAX);
        self.within("timings.snapshot_stall_ms", snapshot_stall_ms, 1..=MS_MAX);
        self.within("timings.reply_stall_ms", reply_stall_ms, 1..=MS_MAX);
        self.within(
            "timings.shutdown_timeout_ms",
            shutdown_timeout_ms,
            1..=MS_MAX,
        );
        self.within("timings.reconnect_min_ms", reconnect_min_ms, 1..=MS_MAX);
        self.within("timings.reconnect_max_ms", reconnect_max_ms, 1..=MS_MAX);
        self.at_most(
            ("timings.reconnect_min_ms", reconnect_min_ms),
            ("timings.reconnect_max_ms", reconnect_max_ms),
        );
    }

    fn reads(&mut self, reads: &Reads, clock_counts_sleep: bool) {
        match (reads.default, reads.clock_drift_percent) {
            (_, Some(_)) if !clock_counts_sleep => self.0.push(Problem::new(
                "reads.clock_drift_percent",
                "is there, and with it leases, which need a clock that goes on while the host sleeps: only on Linux is one read, \
                 so take it out, and \"lease\" out of reads.default",
            )),
            (_, Some(percent)) => {
                self.within(
                    "reads.clock_drift_percent",
                    percent.into(),
                    0..=CLOCK_DRIFT_PERCENT_MAX,
                );
            }
            (ReadMode::Lease, None) => self.0.push(Problem::new(
                "reads.default",
                "is \"lease\", and a lease needs a bound on the clocks: write reads.clock_drift_percent too, or \"quorum\" here",
            )),
            (ReadMode::Quorum, None) => {}
        }
    }

    fn auth(&mut self, auth: &Auth) {
        let Auth {
            ref jwt,
            token_ttl_seconds,
            bcrypt_cost,
        } = *auth;
        if let Some(jwt) = jwt {
            self.within(
                "auth.jwt.ttl_seconds",
                jwt.ttl_seconds,
                1..=RETENTION_SECONDS_MAX,
            );
        }
        self.within(
            "auth.token_ttl_seconds",
            token_ttl_seconds,
            1..=RETENTION_SECONDS_MAX,
        );
        self.within("auth.bcrypt_cost", bcrypt_cost.into(), 4..=31);
    }

    fn clients(&mut self, clients: &Clients) {
        let Clients {
            tls: _,
            keepalive_min_seconds,
            keepalive_interval_seconds,
            keepalive_timeout_seconds,
        } = *clients;
        self.within(
            "clients.keepalive_min_seconds",
            keepalive_min_seconds,
            0..=SECONDS_MAX,
        );
        self.within(
            "clients.keepalive_interval_seconds",
            keepalive_interval_seconds,
            0..=SECONDS_MAX,
        );
        self.within(
            "clients.keepalive_timeout_seconds",
            keepalive_timeout_seconds,
            1..=SECONDS_MAX,
        );
    }

    fn watch(&mut self, watch: &Watch) {
        let Watch {
            progress_interval_ms,
            watchers_max,
            queue_bytes_max,
            queues_bytes_max,
            recent_bytes_max,
        } = *watch;
        self.within(
            "watch.progress_interval_ms",
            progress_interval_ms,
            PROGRESS_MS_MIN..=MS_MAX,
        );
        self.within("watch.watchers_max", watchers_max as u64, 1..=COUNT_MAX);
        let queue = ("watch.queue_bytes_max", queue_bytes_max as u64);
        let recent = ("watch.recent_bytes_max", recent_bytes_max as u64);
        let queues = ("watch.queues_bytes_max", queues_bytes_max as u64);
        for (key, bytes) in [queue, queues, recent] {
            self.within(key, bytes, 1..=MEMORY_BYTES_MAX);
        }
        self.at_most(queue, queues);
    }

    fn priorities(&mut self, machines: &[Machine]) {
        for (place, machine) in machines.iter().enumerate() {
            self.within(
                &format!("machines[{place}].priority"),
                machine.priority.into(),
                0..=PRIORITY_MAX,
            );
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let Limits {
            request_bytes_max,
            transaction_operations_max,
            requests_max,
            requests_bytes_max,
            replies_bytes_max,
            uncommitted_bytes_max,
            inflight_requests_max,
            inflight_entries_max,
            inflight_bytes_max,
            append_bytes_max,
            log_cache_bytes_max,
            peer_queue_bytes_max,
            messages_per_poll_max,
            client_connections_max,
            client_streams_max,
            disk_reserve_bytes,
            snapshot_reserve_bytes,
            snapshot_bytes_per_second,
            snapshot_clients_max,
            quota_bytes: _,
            map_bytes_max,
        } = *limits;
        let request = ("limits.request_bytes_max", request_bytes_max as u64);
        let append = ("limits.append_bytes_max", append_bytes_max as u64);
        let requests = ("limits.requests_bytes_max", requests_bytes_max as u64);
        let replies = ("limits.replies_bytes_max", replies_bytes_max as u64);
        let uncommitted = ("limits.uncommitted_bytes_max", uncommitted_bytes_max as u64);
        let inflight = ("limits.inflight_bytes_max", inflight_bytes_max as u64);
        let cache = ("limits.log_cache_bytes_max", log_cache_bytes_max as u64);
        let queue = ("limits.peer_queue_bytes_max", peer_queue_bytes_max as u64);
        for (key, bytes) in [request, append] {
            self.within(key, bytes, 1..=MESSAGE_BYTES_MAX as u64);
        }
        for (key, bytes) in [requests, replies, uncommitted, inflight, cache, queue] {
            self.within(key, bytes, 1..=MEMORY_BYTES_MAX);
        }
        self.within(
            "limits.transaction_operations_max",
            transaction_operations_max as u64,
            1..=TRANSACTION_OPERATIONS_MAX as u64,
        );
        for (key, count) in [
            ("limits.requests_max", requests_max as u64),
            ("limits.inflight_requests_max", inflight_requests_max as u64),
            ("limits.inflight_entries_max", inflight_entries_max as u64),
            ("limits.messages_per_poll_max", messages_per_poll_max as u64),
            (
                "limits.client_connections_max",
                client_connections_max as u64,
            ),
            ("limits.snapshot_clients_max", snapshot_clients_max as u64),
            ("limits.client_streams_max", u64::from(client_streams_max)),
        ] {
            self.within(key, count, 1..=COUNT_MAX);
        }
        let reserve = ("limits.disk_reserve_bytes", disk_reserve_bytes);
        let snapshot_reserve = ("limits.snapshot_reserve_bytes", snapshot_reserve_bytes);
        let snapshot_pace = (
            "limits.snapshot_bytes_per_second",
            snapshot_bytes_per_second,
        );
        for (key, bytes) in [reserve, snapshot_reserve, snapshot_pace] {
            self.within(key, bytes, 0..=FILE_BYTES_MAX);
        }
        self.within(
            "limits.map_bytes_max",
            map_bytes_max,
            1 << 20..=FILE_BYTES_MAX,
        );
        self.at_most(append, inflight);
        self.at_most(append, queue);
        self.at_most(request, requests);
        self.replies(request, replies);
        self.at_most(request, uncommitted);
        self.at_most(request, queue);
    }

    /// The largest value of a key must fit into either share of the memory for replies.
    fn replies(&mut self, (other_key, request): (&str, u64), (key, bytes): (&str, u64)) {
        let least = REPLIES_OF_REQUEST * request.min(MESSAGE_BYTES_MAX as u64);
        // Zero has been refused by itself.
        if bytes > 0 && bytes < least {
            let text = format!(
                "is {bytes}, less than {REPLIES_OF_REQUEST} times {other_key}, which is {request}: write {least} or more, or \
                 make that less"
            );
            self.0.push(Problem::new(key, text));
        }
    }

    fn storage(&mut self, storage: &Storage) {
        let interval_ms = storage.checkpoint_interval_ms;
        self.within("storage.checkpoint_interval_ms", interval_ms, 1..=MS_MAX);
        let bytes = storage.checkpoint_bytes as u64;
        self.within("storage.checkpoint_bytes", bytes, 1..=MEMORY_BYTES_MAX);
        for (key, bytes) in [
            (
                "storage.compaction_keep_bytes",
                storage.compaction_keep_bytes,
            ),
            (
                "storage.compaction_wait_bytes",
                storage.compaction_wait_bytes,
            ),
        ] {
            self.within(key, bytes as u64, 0..=FILE_BYTES_MAX);
        }
        for (key, least, entries) in [
            (
                "storage.compaction_keep_entries",
                0,
                storage.compaction_keep_entries,
            ),
            (
                "storage.compaction_wait_entries",
                0,
                storage.compaction_wait_entries,
            ),
            (
                "storage.compaction_step_entries",
                1,
                storage.compaction_step_entries,
            ),
        ] {
            self.within(key, entries as u64, least..=ENTRIES_MAX);
        }
        let seconds = storage.corruption_check_seconds;
        self.within("storage.corruption_check_seconds", seconds, 0..=SECONDS_MAX);
        self.auto_compaction(&storage.auto_compaction);
    }

    fn auto_compaction(&mut self, auto_compaction: &AutoCompaction) {
        let AutoCompaction {
            mode,
            retention_seconds,
            retention_revisions,
            interval_seconds,
        } = *auto_compaction;
        let key = |name: &str| format!("storage.auto_compaction.{name}");
        for (of, mode_name, name, retention, most) in [
            (
                AutoCompactionMode::Periodic,
                "periodic",
                "retention_seconds",
                retention_seconds,
                RETENTION_SECONDS_MAX,
            ),
            (
                AutoCompactionMode::Revisions,
                "revisions",
                "retention_revisions",
                retention_revisions,
                RETENTION_REVISIONS_MAX,
            ),
        ] {
            match retention {
                Some(retention) if mode == of => {
                    self.within(&key(name), retention, 1..=most);
                }
                None if mode == of => {
                    let text = format!(
                        "is {mode_name:?}, which says not how much of the past is kept: write {} too, or \"off\" here",
                        key(name)
                    );
                    self.0.push(Problem::new(key("mode"), text));
                }
                Some(_) => {
                    let text = format!(
                        "is there, and counts only where {} is {mode_name:?}: take it out, or write that",
                        key("mode")
                    );
                    self.0.push(Problem::new(key(name), text));
                }
                None => {}
            }
        }
        self.within(&key("interval_seconds"), interval_seconds, 1..=SECONDS_MAX);
    }

    fn supervision(&mut self, supervision: &Supervision) {
        self.restarts("supervision.brain", &supervision.brain);
        if supervision.brain.strategy == Strategy::OneForOne {
            let text = "is one_for_one, but each actor of the brain rests on what those before it hold: write rest_for_one \
                        or one_for_all";
            self.0
                .push(Problem::new("supervision.brain.strategy", text));
        }
        self.restarts("supervision.net", &supervision.net);
        self.restarts("supervision.front", &supervision.front);
        let hang = ("supervision.hang_ms", supervision.hang_ms);
        let storage_hang = ("supervision.storage_hang_ms", supervision.storage_hang_ms);
        for (key, time_ms) in [hang, storage_hang] {
            self.within(key, time_ms, 10..=MS_MAX);
        }
        self.at_most(hang, storage_hang);
    }

    fn restarts(&mut self, group: &str, restarts: &Restarts) {
        let key = |name: &str| format!("{group}.{name}");
        let Restarts {
            strategy: _,
            intensity,
            window_ms,
            backoff_min_ms,
            backoff_max_ms,
        } = *restarts;
        self.within(&key("intensity"), u64::from(intensity), 0..=COUNT_MAX);
        self.within(&key("window_ms"), window_ms, 1..=MS_MAX);
        self.within(&key("backoff_min_ms"), backoff_min_ms, 1..=MS_MAX);
        self.within(&key("backoff_max_ms"), backoff_max_ms, 1..=MS_MAX);
        self.at_most(
            (&key("backoff_min_ms"), backoff_min_ms),
            (&key("backoff_max_ms"), backoff_max_ms),
        );
        // Beyond that no two failures fall into one window, and nothing ever goes to the level above.
        self.at_most(
            (&key("backoff_max_ms"), backoff_max_ms),
            (&key("window_ms"), window_ms),
        );
    }

    /// Whether the number lies within its limits.
    fn within(&mut self, key: &str, value: u64, range: RangeInclusive<u64>) -> bool {
        let remedy = if value < *range.start() {
            format!("{} or more", range.start())
        } else if value > *range.end() {
            format!("{} or less", range.end())
        } else {
            return true;
        };
        self.0
            .push(Problem::new(key, format!("is {value}: write {remedy}")));
        false
    }

    fn at_most(&mut self, (key, value): (&str, u64), (other_key, other): (&str, u64)) {
        // Zero has been refused by itself.
        if value > other && other > 0 {
            let text = format!(
                "is {value}, more than {other_key}, which is {other}: make it less, or that more"
            );
            self.0.push(Problem::new(key, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_refused_where_the_clock_stops_while_the_host_sleeps() {
        let told = |clock_drift_percent, counts_sleep| {
            let reads = Reads {
                default: ReadMode::Quorum,
                clock_drift_percent,
            };
            let mut rules = Rules(Vec::new());
            rules.reads(&reads, counts_sleep);
            let problems = rules.0.into_iter();
            let texts = problems.map(|problem| format!("{}: {}", problem.key, problem.text));
            texts.collect::<Vec<_>>()
        };
        assert_eq!(
            told(Some(10), false),
            [
                "reads.clock_drift_percent: is there, and with it leases, which need a clock that goes on while the host \
                 sleeps: only on Linux is one read, so take it out, and \"lease\" out of reads.default"
            ]
        );
        assert_eq!(told(Some(10), true), [""; 0]);
        assert_eq!(told(None, false), [""; 0]);
    }
}
