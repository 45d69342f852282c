//! The page for Prometheus: etcd's metrics under etcd's names where the same thing is there, and the machine's own, which begin
//! with `raft_machine_`.
//!
//! A look at it copies numbers that are posted anyway. It asks no actor, and what it has the system tell is read on a thread that
//! may block. The labels are names of methods, codes, checks and actors, of which there is a fixed number, and of members.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Response, StatusCode};
use rm_actors::port::{MachineId, Port, Readings, Report, Role};
use rm_proto::etcdserverpb::AlarmType;
use tonic::body::Body;

use super::answer;
use super::exposition::{CONTENT_TYPE, Page};
use super::peers;
use super::probes::Tally;
use super::process;
use crate::alarm::alarms;
use crate::arrival::Arrivals;
use crate::calls::{CODES, Calls};
use crate::connection::Traffic;
use crate::maintenance::{ETCD_VERSION, STORAGE_VERSION, quota};

/// All that the page is made of.
#[derive(Clone)]
pub(crate) struct Metrics {
    port: Port,
    calls: Arc<Calls>,
    traffic: Arc<Traffic>,
    arrivals: Arc<Arrivals>,
    tally: Arc<Tally>,
    /// When the process began, in seconds since 1970.
    started: u64,
}

impl Metrics {
    pub(crate) fn new(
        port: Port,
        calls: Arc<Calls>,
        traffic: Arc<Traffic>,
        arrivals: Arc<Arrivals>,
        tally: Arc<Tally>,
    ) -> Metrics {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let uptime = port.report().uptime_ms / 1_000;
        Metrics {
            started: now.unwrap_or_default().as_secs().saturating_sub(uptime),
            port,
            calls,
            traffic,
            arrivals,
            tally,
        }
    }

    /// The page.
    pub(crate) async fn page(self) -> Response<Body> {
        let text = tokio::task::spawn_blocking(move || self.text()).await;
        match text {
            Ok(text) => {
                let mut answer = answer::text(StatusCode::OK, text);
                let kind = HeaderValue::from_static(CONTENT_TYPE);
                answer
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, kind);
                answer
            }
            Err(error) => answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the metrics cannot be told: {error}\n"),
            ),
        }
    }

    fn text(&self) -> String {
        let report = self.port.report();
        let readings = self.port.readings();
        let mut page = Page::default();
        self.server(&mut page, &report, &readings);
        peers::write(&mut page, &self.port, &report);
        self.data(&mut page, &report, &readings);
        watches_and_leases(&mut page, &readings);
        self.clients(&mut page);
        self.tally.write(&mut page);
        self.actors(&mut page);
        process::write(&mut page, self.started);
        page.into_text()
    }

    /// The machine among the others.
    fn server(&self, page: &mut Page, report: &Report, readings: &Readings) {
        let identity = self.port.identity();
        let mut id = page.gauge("etcd_server_id", "The machine's number, as a label.");
        id.sample(&[("server_id", &peers::hex(identity.machine))], 1);
        let mut version = page.gauge(
            "etcd_server_version",
            "The version of etcd whose API is served, as a label.",
        );
        version.sample(&[("server_version", ETCD_VERSION)], 1);
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
        .is(readings.leader_changes);
        page.gauge("raft_machine_term", "The machine's term.")
            .is(report.term.0);
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
        .is(readings.writes_pending);
        page.counter(
            "etcd_server_proposals_failed_total",
            "Writes of this machine's clients, and those of its leases' time, that failed, or whose outcome is unknown, by no fault of their own.",
        )
        .is(readings.writes_failed);
        page.counter(
            "etcd_server_read_indexes_failed_total",
            "Linearizable reads of this machine's clients that failed by no fault of their own.",
        )
        .is(readings.reads_failed);
        page.counter(
            "raft_machine_peer_refused_total",
            "Connections, frames and datagrams that the peer port refused.",
        )
        .is(report.refused);
        page.gauge(
            "raft_machine_snapshots_sending",
            "Snapshots on their way to other machines.",
        )
        .is(report.sending.len());
        page.gauge(
            "raft_machine_snapshots_receiving",
            "Snapshots on their way to this machine.",
        )
        .is(i32::from(report.receiving.is_some()));
    }

    /// What lies on the disk.
    fn data(&self, page: &mut Page, report: &Report, readings: &Readings) {
        page.histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "The durable commits of the log, each from its begin to the end of its last flush.",
            &readings.log_commits,
        );
        page.histogram(
            "etcd_disk_backend_commit_duration_seconds",
            "The durable commits of the state, its checkpoints.",
            &readings.checkpoints,
        );
        page.gauge("raft_machine_log_bytes", "Bytes of the log in use.")
            .is(report.log_bytes);
        page.gauge(
            "raft_machine_log_first_index",
            "The first index of the log that is not compacted.",
        )
        .is(report.first.0);
        page.gauge("raft_machine_log_last_index", "The last index of the log.")
            .is(report.last.0);
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
        .is(quota(self.port.config().limits.quota_bytes));
        self.alarms(page, report);
        page.gauge(
            "etcd_debugging_mvcc_keys_total",
            "Keys, with those that are deleted and not compacted yet.",
        )
        .is(readings.keys);
        page.gauge(
            "etcd_debugging_mvcc_current_revision",
            "The revision of the key space.",
        )
        .is(report.revision);
        page.gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The revision up to which the key space is compacted.",
        )
        .is(readings.compacted.max(0));
        page.gauge(
            "raft_machine_scrubbed_revision",
            "The revision up to which nothing is left of what was compacted.",
        )
        .is(readings.scrubbed.max(0));
    }

    /// What clients ask, and how much goes to and fro for that.
    fn clients(&self, page: &mut Page) {
        page.gauge("raft_machine_client_connections", "Connections of clients.")
            .is(self.traffic.connections());
        page.counter(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes that came from clients, of HTTP and of the frames around it, too.",
        )
        .is(self.traffic.received_bytes());
        page.counter(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes that went to clients, of HTTP and of the frames around it, too.",
        )
        .is(self.traffic.sent_bytes());
        page.gauge(
            "raft_machine_requests_arriving_bytes",
            "What has come of requests that are not whole yet, in bytes.",
        )
        .is(self.arrivals.bytes());
        page.counter(
            "raft_machine_requests_given_up_total",
            "Requests that were refused before they were whole, because too much had come of such.",
        )
        .is(self.arrivals.given_up());
        let methods = self.calls.methods();
        let mut started = page.counter("grpc_server_started_total", "Calls that have begun.");
        for method in methods {
            let labels = [
                ("grpc_method", method.name.as_str()),
                ("grpc_service", &method.service),
                ("grpc_type", method.kind),
            ];
            started.sample(&labels, method.started());
        }
        let mut handled = page.counter(
            "grpc_server_handled_total",
            "Calls that have ended, by the code that they ended with.",
        );
        for method in methods {
            for (code, count) in CODES.into_iter().zip(method.handled()) {
                // Success stands there from the begin, so that a first one is seen as a rise.
                if count > 0 || code == CODES[0] {
                    let labels = [
                        ("grpc_code", code),
                        ("grpc_method", method.name.as_str()),
                        ("grpc_service", &method.service),
                        ("grpc_type", method.kind),
                    ];
                    handled.sample(&labels, count);
                }
            }
        }
    }

    /// The alarms that stand; where none does, the page has nothing of them, as etcd's.
    fn alarms(&self, page: &mut Page, report: &Report) {
        let standing = alarms(self.port.identity(), report, AlarmType::None);
        if standing.is_empty() {
            return;
        }
        let mut family = page.gauge(
            "etcd_debugging_server_alarms",
            "Each alarm that stands, with the number of its machine and its kind as labels.",
        );
        for alarm in standing {
            let machine = peers::hex(MachineId(alarm.member_id));
            let kind = alarm.alarm().as_str_name();
            family.sample(&[("server_id", &machine), ("alarm_type", kind)], 1);
        }
    }

    /// The actors, as the supervisor knows them.
    fn actors(&self, page: &mut Page) {
        let actors = self.port.actors();
        let mut running = page.gauge("raft_machine_actor_running", "Whether the actor runs.");
        for actor in &actors {
            let runs = i32::from(actor.state == "running");
            running.sample(&[("actor", &actor.name), ("group", &actor.group)], runs);
        }
        let mut incarnation = page.gauge(
            "raft_machine_actor_incarnation",
            "The number of the actor's present life.",
        );
        for actor in &actors {
            incarnation.sample(&[("actor", &actor.name)], actor.incarnation);
        }
        let mut restarts = page.counter(
            "raft_machine_actor_restarts_total",
            "How often the actor was started again.",
        );
        for actor in &actors {
            restarts.sample(&[("actor", &actor.name)], actor.restarts);
        }
        let mut failures = page.counter(
            "raft_machine_actor_failures_total",
            "How often the actor failed itself; the other restarts were for a neighbour's failure.",
        );
        for actor in &actors {
            failures.sample(&[("actor", &actor.name)], actor.failures);
        }
        let mut mailbox = page.gauge(
            "raft_machine_actor_mailbox",
            "Messages that wait for the actor.",
        );
        for actor in &actors {
            mailbox.sample(&[("actor", &actor.name)], actor.mailbox);
        }
        let mut handled = page.counter(
            "raft_machine_actor_messages_handled_total",
            "Messages that the actor has handled, in all its lives.",
        );
        for actor in &actors {
            handled.sample(&[("actor", &actor.name)], actor.handled);
        }
    }
}

/// What is watched, and what lives for a time.
fn watches_and_leases(page: &mut Page, readings: &Readings) {
    page.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Clients' streams of watchers.",
    )
    .is(readings.streams);
    page.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.")
        .is(readings.watchers);
    page.gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that have yet to be told what happened.",
    )
    .is(readings.watchers_late);
    page.counter(
        "etcd_debugging_mvcc_events_total",
        "Events that clients were told.",
    )
    .is(readings.events);
    page.gauge(
        "raft_machine_leases",
        "Leases whose time the machine counts: all of them if it leads, else none.",
    )
    .is(readings.leases);
    page.counter(
        "etcd_debugging_server_lease_expired_total",
        "Leases that the machine had ended because their time was over.",
    )
    .is(readings.leases_expired);
}
