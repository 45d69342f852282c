//! The supervision of one machine, seen through its port: who comes back after which failure, and when it gives up.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use rm_actors::port::{
    Command, Consistency, Failure, Fault, Put, Query, Range, Refusal, ReplyBody,
};
use rm_actors::{ActorName, Outcome, Running, Start, start};
use rm_config::{Address, Config, Effective, Machine, Sink};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A domain of one machine in a folder of its own, with short timings and faults allowed.
struct Solo {
    running: Running,
    folder: TempDir,
}

impl Solo {
    async fn start(change: impl FnOnce(&mut Config)) -> Solo {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Machine {
            name: "RM.01".into(),
            peer: free_udp_port(),
            client: free_tcp_port(),
            priority: 0,
        };
        let mut config = Config::new("test.domain", vec![machine]);
        config.data_dir = folder.path().join("data");
        config.fault_injection = true;
        config.timings.heartbeat_ms = 10;
        config.timings.election_timeout_ms = 100;
        config.supervision.hang_ms = 200;
        config.supervision.storage_hang_ms = 400;
        config.log.sinks = vec![Sink::File {
            path: folder.path().join("log"),
        }];
        change(&mut config);
        let config = Effective::new(config, Path::new("test.json"), None).expect("a valid config");
        let solo = Solo {
            running: start(config, Start::GoOn).expect("starts"),
            folder,
        };
        solo.until("all actors run", Solo::all_run).await;
        solo
    }

    /// What is logged so far; all of it once the machine was stopped.
    fn log(folder: &TempDir) -> String {
        std::fs::read_to_string(folder.path().join("log")).expect("the config has a file sink")
    }

    fn arm(&self, actor: &str, point: &str, action: &str, times: u64) {
        let fault = fault(actor, point, action, times);
        self.running.port().arm_fault(fault).expect("arms");
    }

    fn failures(&self) -> u64 {
        let actors = self.running.port().actors();
        actors.iter().map(|actor| actor.failures).sum()
    }

    fn incarnations(&self) -> Vec<u64> {
        let actors = self.running.port().actors();
        actors.iter().map(|actor| actor.incarnation).collect()
    }

    fn all_run(&self) -> bool {
        let actors = self.running.port().actors();
        actors.iter().all(|actor| actor.state == "running")
    }

    async fn until(&self, what: &str, condition: impl Fn(&Solo) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: {:#?}",
                self.running.port().actors()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Puts until it succeeds: an actor that dies with a request is answered with an error that says so.
    async fn put(&self, key: &str, value: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let put = Put {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                ..Put::default()
            };
            match self.running.port().propose(Command::Put(put)).await {
                Ok(_) => return,
                Err(refusal) => assert!(Instant::now() < deadline, "put: {refusal}"),
            }
        }
    }

    async fn get(&self, key: &str) -> Option<String> {
        let range = Range {
            key: key.to_owned().into(),
            ..Range::default()
        };
        let reply = self
            .running
            .port()
            .query(Query::Range(range), Consistency::Quorum)
            .await;
        let ReplyBody::Range(reply) = reply.expect("reads").body else {
            panic!("a range is answered with a range");
        };
        let kv = reply.kvs.first()?;
        Some(String::from_utf8(kv.value.to_vec()).expect("text"))
    }
}

fn free_udp_port() -> Address {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("an address")
}

fn free_tcp_port() -> Address {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("an address")
}

fn fault(actor: &str, point: &str, action: &str, times: u64) -> Fault {
    Fault {
        actor: actor.into(),
        point: point.into(),
        action: action.into(),
        times,
    }
}

/// Lets each group fail as often as a test likes, with hardly a pause.
fn endure(config: &mut Config) {
    for group in [
        &mut config.supervision.brain,
        &mut config.supervision.net,
        &mut config.supervision.front,
    ] {
        group.intensity = 1_000;
        group.backoff_max_ms = 2;
    }
}

/// Who is restarted with whom: the indices of the actors, in starting order.
fn restarted_with(actor: ActorName) -> std::ops::RangeInclusive<usize> {
    match actor {
        ActorName::Storage => 0..=3,
        ActorName::Applier => 1..=3,
        ActorName::LogicCenter => 2..=3,
        single => single as usize..=single as usize,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_fails_comes_back_with_those_that_rest_on_it_and_nothing_is_lost() {
    let solo = Solo::start(endure).await;
    let mut count = 0;
    for actor in ActorName::ALL {
        for how in [Failure::Panic, Failure::Stop, Failure::Hang] {
            if how == Failure::Hang && actor.holds_writer_lock() {
                continue; // ends the process: see below
            }
            let value = format!("{actor} {how:?}");
            solo.put("before", &value).await;
            let mut expected = solo.incarnations();
            for index in restarted_with(actor) {
                expected[index] += 1;
            }
            solo.running
                .port()
                .kill_actor(actor.as_str(), how)
                .expect("kills");
            solo.until(&value, |solo| {
                solo.incarnations() == expected && solo.all_run()
            })
            .await;
            assert_eq!(solo.get("before").await, Some(value.clone()));
            solo.put("after", &value).await;
            count += 1;
            let report = &solo.running.port().actors()[actor as usize];
            assert!(report.last_failure.is_some(), "{report:?}");
        }
    }
    assert_eq!(count, 19);
    assert_eq!(solo.running.stop().await, Outcome::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_inside_an_actors_work_is_a_failure_and_the_next_life_goes_on() {
    let solo = Solo::start(|config| {
        endure(config);
        config.storage.checkpoint_interval_ms = 20;
    })
    .await;
    for (actor, point, action) in [
        ("storage", "transaction", "panic"),
        ("storage", "transaction", "io_error"),
        ("storage", "commit", "panic"),
        ("storage", "commit", "io_error"),
        ("storage", "future", "panic"),
        ("applier", "transaction", "panic"),
        ("applier", "checkpoint", "panic"),
        ("applier", "checkpoint", "io_error"),
        ("applier", "future", "panic"),
        ("logic_center", "future", "panic"),
        ("timer", "future", "panic"),
        ("listener", "future", "panic"),
        ("sender", "future", "panic"),
        ("gate", "future", "panic"),
    ] {
        let what = format!("{actor} {point} {action}");
        solo.put("key", &what).await;
        let before = solo.failures();
        solo.arm(actor, point, action, 1);
        solo.put("struck", &what).await;
        solo.until(&what, |solo| {
            solo.failures() == before + 1 && solo.all_run()
        })
        .await;
        assert_eq!(solo.get("key").await.as_ref(), Some(&what));
        assert_eq!(solo.get("struck").await.as_ref(), Some(&what));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_actor_that_hangs_is_answered_when_it_is_replaced() {
    let solo = Solo::start(|config| {
        config.timings.request_timeout_ms = 3_600_000;
        config.supervision.front.intensity = 1_000;
        config.supervision.brain.intensity = 1_000;
    })
    .await;
    solo.put("key", "value").await;
    let port = solo.running.port();
    port.kill_actor("gate", Failure::Hang).expect("kills");
    // Waits behind the hang, which lets go of what it holds ten seconds after the replacement, and the hour is not over.
    let soon = Duration::from_secs(5);
    let put = Command::Put(Put {
        key: "other".into(),
        ..Put::default()
    });
    let refused = tokio::time::timeout(soon, port.propose(put)).await;
    assert_eq!(refused.expect("in time"), Err(Refusal::Restarted));
    port.kill_actor("logic_center", Failure::Hang)
        .expect("kills");
    let read = tokio::time::timeout(soon, solo.get("key")).await;
    assert_eq!(read.expect("in time").as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_could_do_nothing_is_refused() {
    let solo = Solo::start(|_| ()).await;
    for (actor, point, action) in [
        ("timer", "commit", "panic"),
        ("gate", "handler", "no_space"),
        ("storage", "future", "hang"),
        ("sender", "send", "stop"),
        ("nobody", "handler", "panic"),
        ("timer", "nowhere", "panic"),
        ("timer", "handler", "nothing"),
    ] {
        let refused = solo
            .running
            .port()
            .arm_fault(fault(actor, point, action, 1));
        assert!(
            matches!(refused, Err(Refusal::Operator(_))),
            "{actor} {point} {action}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_fails_while_it_starts_is_started_again() {
    let solo = Solo::start(endure).await;
    for actor in ActorName::ALL {
        for (action, times, more_failures) in [("panic", 2, 2), ("hang", 1, 1), ("delay:20", 1, 0)]
        {
            if action == "hang" && actor.holds_writer_lock() {
                continue; // ends the process: see below
            }
            let what = format!("{actor} {action}");
            solo.put("key", &what).await;
            let before = solo.failures();
            solo.arm(actor.as_str(), "started", action, times);
            solo.running
                .port()
                .kill_actor(actor.as_str(), Failure::Stop)
                .expect("kills");
            solo.until(&what, |solo| {
                solo.failures() == before + 1 + more_failures && solo.all_run()
            })
            .await;
            assert_eq!(solo.get("key").await, Some(what));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_slow_delays_a_write_and_fails_nobody() {
    let solo = Solo::start(|config| {
        // So that a busy host does not look like a hang.
        config.supervision.hang_ms = 10_000;
        config.supervision.storage_hang_ms = 10_000;
    })
    .await;
    let delay = Duration::from_millis(100);
    for (actor, point) in [
        ("storage", "transaction"),
        ("storage", "commit"),
        ("applier", "transaction"),
    ] {
        solo.arm(actor, point, &format!("delay:{}", delay.as_millis()), 1);
        let asked = Instant::now();
        solo.put("key", point).await;
        assert!(asked.elapsed() >= delay, "{actor} {point}");
        assert_eq!(solo.get("key").await.as_deref(), Some(point));
    }
    assert_eq!(solo.failures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_more_than_the_intensity_goes_up_and_the_supervisor_gives_up() {
    let mut solo = Solo::start(|config| config.supervision.front.intensity = 2).await;
    for incarnation in 2..=3 {
        solo.running
            .port()
            .kill_actor("gate", Failure::Panic)
            .expect("kills");
        solo.until("the gate", |solo| {
            solo.incarnations()[6] == incarnation && solo.all_run()
        })
        .await;
    }
    solo.running
        .port()
        .kill_actor("gate", Failure::Panic)
        .expect("kills");
    let Outcome::GaveUp(reason) = solo.running.ended().await else {
        panic!("it stopped instead of giving up");
    };
    assert!(
        reason.contains("gate") && reason.contains("front") && reason.contains("more than 2"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_of_an_actor_that_holds_the_writers_lock_ends_the_process() {
    for (actor, point) in [
        ("storage", "started"),
        ("storage", "handler"),
        ("storage", "transaction"),
        ("storage", "commit"),
        ("applier", "started"),
        ("applier", "handler"),
        ("applier", "transaction"),
        ("applier", "checkpoint"),
    ] {
        let mut solo = Solo::start(|config| config.storage.checkpoint_interval_ms = 20).await;
        solo.put("key", "value").await;
        solo.arm(actor, point, "hang", 1);
        let port = solo.running.port();
        if point == "started" {
            port.kill_actor(actor, Failure::Stop).expect("kills");
        }
        // Comes by every point; what becomes of it nobody asks.
        let put = Put {
            key: "struck".into(),
            ..Put::default()
        };
        tokio::spawn(async move { port.propose(Command::Put(put)).await });
        let ended = tokio::time::timeout(PATIENCE, solo.running.ended()).await;
        let Ok(Outcome::GaveUp(reason)) = ended else {
            panic!("it goes on instead of giving up: {actor} {point}");
        };
        assert!(
            reason.contains(actor) && reason.contains("writer's lock"),
            "{point}: {reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_serves_reads_and_is_over_when_there_is_space() {
    let solo = Solo::start(|config| config.timings.request_timeout_ms = 10_000).await;
    solo.put("key", "value").await;
    solo.arm("storage", "commit", "no_space", 1_000_000);
    let put = || {
        Command::Put(Put {
            key: "full".into(),
            ..Put::default()
        })
    };
    let port = solo.running.port();
    let held = tokio::spawn(async move { port.propose(put()).await });
    solo.until("the alarm", |solo| solo.running.port().report().no_space)
        .await;
    assert_eq!(
        solo.running.port().propose(put()).await,
        Err(Refusal::NoSpace)
    );
    assert_eq!(solo.get("key").await.as_deref(), Some("value"));
    solo.arm("storage", "commit", "no_space", 0);
    // What was held back while there was no space is carried out now.
    assert!(held.await.expect("no panic").is_ok());
    solo.put("key", "again").await;
    assert!(!solo.running.port().report().no_space);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_finds_no_space_loses_nothing() {
    let solo = Solo::start(|config| config.storage.checkpoint_interval_ms = 50).await;
    solo.put("before", "value").await;
    solo.arm("applier", "checkpoint", "no_space", 1_000_000);
    let port = solo.running.port();
    let write = Command::Put(Put {
        key: "acknowledged".into(),
        value: "value".into(),
        ..Put::default()
    });
    port.propose(write).await.expect("there is space yet");
    solo.until("the alarm", |solo| solo.running.port().report().no_space)
        .await;
    // The key space is opened anew as it was before: what was acknowledged must come back from the log first.
    assert_eq!(solo.get("acknowledged").await.as_deref(), Some("value"));
    solo.arm("applier", "checkpoint", "no_space", 0);
    solo.until("space", |solo| !solo.running.port().report().no_space)
        .await;
    solo.put("after", "value").await;
    assert_eq!(solo.get("acknowledged").await.as_deref(), Some("value"));
}

/// Reads that wait for their turn while the state falls back to its last checkpoint must not be answered from there.
#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_stale_when_a_checkpoint_finds_no_space() {
    // More than is applied in one turn after the fall, and more reads than are answered in one.
    const KEYS: i64 = 3_000;
    const READS: usize = 512;
    let solo = Solo::start(|config| config.storage.checkpoint_interval_ms = 3_600_000).await;
    let port = solo.running.port();
    solo.put("first", "value").await;
    port.hash(0).await.expect("the state is written down");
    let puts = (0..KEYS).map(|key| {
        let put = Put {
            key: format!("key/{key:04}").into(),
            ..Put::default()
        };
        port.propose(Command::Put(put))
    });
    for put in join_all(puts).await {
        put.expect("there is space yet");
    }

    solo.arm("applier", "checkpoint", "no_space", 1);
    let count = Range {
        key: "key/".into(),
        range_end: "key0".into(),
        count_only: true,
        ..Range::default()
    };
    let ask = || port.query(Query::Range(count.clone()), Consistency::Quorum);
    let mut reads: FuturesUnordered<_> = (0..READS).map(|_| ask()).collect();
    let first = reads.next().await.expect("some are asked");
    let refusal = port.hash(0).await.expect_err("it finds no space");
    assert!(matches!(refusal, Refusal::NoSpace), "{refusal}");
    let rest: Vec<_> = reads.collect().await;
    for reply in rest.into_iter().chain([first]) {
        let ReplyBody::Range(reply) = reply.expect("reads go on").body else {
            panic!("a range is answered with a range");
        };
        assert_eq!(reply.count, KEYS, "nothing older than what was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_takes_too_long_is_cut_off_and_says_so() {
    let solo = Solo::start(|config| {
        config.timings.shutdown_timeout_ms = 200;
        config.supervision.storage_hang_ms = 60_000;
    })
    .await;
    solo.put("key", "value").await;
    let late_ms = 3_000;
    solo.arm("applier", "checkpoint", &format!("delay:{late_ms}"), 1_000);
    let told = Instant::now();
    assert_eq!(solo.running.stop().await, Outcome::Stopped);
    assert!(told.elapsed() < Duration::from_millis(late_ms));
    let log = Solo::log(&solo.folder);
    assert!(
        log.contains("did not finish in time and is cut off"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_refused_unless_the_config_allows_them() {
    let solo = Solo::start(|config| config.fault_injection = false).await;
    let Err(Refusal::Operator(text)) = solo.running.port().kill_actor("gate", Failure::Stop) else {
        panic!("the fault was taken");
    };
    assert!(text.contains("fault_injection"), "{text}");
}
