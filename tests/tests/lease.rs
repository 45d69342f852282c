//! Leases on real machines: none ends early, whoever dies or is paused; all end once nobody renews them, with their keys.

use std::time::{Duration, Instant};

use rm_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};
use rm_proto::mvccpb::event::EventType;
use rm_tests::etcd::{Etcd, etcdctl, normalised, text};
use rm_tests::leases::{ended, grant, keep_alive, list, look, put, renew, revoke, service};
use rm_tests::watching::{Watching, everything};
use rm_tests::{Client, Cluster, Settings, rounds, until};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const NOT_FOUND: &str = "etcdserver: requested lease not found";

/// Renews a lease again and again through one machine after the other, as a client does that goes on to the next when one refuses. It
/// must be there each time. Ends when it is told to; how often it was renewed.
struct Keeper {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<usize>,
}

impl Keeper {
    fn start(client: &Client, id: i64) -> Keeper {
        let client = client.clone();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut renewed = 0;
            for turn in 0.. {
                if stopped.try_recv().is_ok() {
                    break;
                }
                // A machine that is paused answers nothing.
                let renewal = renew(&client, turn % client.machines(), id);
                let renewal = tokio::time::timeout(Duration::from_millis(500), renewal);
                if let Ok(Ok(ttl)) = renewal.await {
                    assert!(ttl > 0, "lease {id} has ended after {renewed} renewals");
                    renewed += 1;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            renewed
        });
        Keeper { stop, task }
    }

    async fn finish(self) -> usize {
        // It may have failed, which the next line tells.
        let _ = self.stop.send(());
        self.task.await.expect("the lease was there each time")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_renews_ends_with_its_keys_in_one_revision_and_not_before_its_time() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 2).await.expect("it runs");
    watching.create(everything()).await;
    assert!(watching.told().await.created);
    let began = Instant::now();
    grant(&client, 7, 2).await;
    for key in ["b", "a", "c"] {
        put(&client, key, 7).await;
    }
    client.put("c", "hangs on nothing any more").await;
    let deleted = loop {
        let events = watching.told().await.events;
        let is_delete = |event: &&_| matches!(event, rm_proto::mvccpb::Event { r#type, .. } if *r#type == EventType::Delete as i32);
        let deleted: Vec<_> = events.iter().filter(is_delete).cloned().collect();
        if !deleted.is_empty() {
            break deleted;
        }
    };
    assert!(began.elapsed() >= Duration::from_secs(2), "it ended early");
    let kvs = deleted.into_iter().filter_map(|event| event.kv);
    let told: Vec<_> = kvs.map(|kv| (kv.key, kv.mod_revision)).collect();
    let revision = told[0].1;
    assert_eq!(told, [("a".into(), revision), ("b".into(), revision)]);
    for machine in 0..3 {
        ended(&client, machine, 7).await;
        assert!(list(&client, machine).await.is_empty());
        assert_eq!(renew(&client, machine, 7).await.expect("is told"), 0);
        let refused = revoke(&client, machine, 7).await.expect_err("is gone");
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::NotFound, NOT_FOUND)
        );
    }
    cluster.same_everywhere().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_through_any_machine_by_a_stream_of_many() {
    const LEASES: i64 = 300;
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    for id in 1..=LEASES {
        grant(&client, id, 60).await;
    }
    for machine in 0..3 {
        let (requests, receiver) = mpsc::channel(16);
        let answers = keep_alive(&client, machine, ReceiverStream::new(receiver));
        let mut answers = answers.await.expect("it runs");
        tokio::spawn(async move {
            // One that is not there is among them.
            for id in 1..=LEASES + 1 {
                let request = LeaseKeepAliveRequest { id };
                requests.send(request).await.expect("somebody listens");
            }
        });
        for id in 1..=LEASES + 1 {
            let answer = answers.message().await.expect("no error");
            let answer = answer.expect("each has its answer");
            let ttl = if id <= LEASES { 60 } else { 0 };
            assert_eq!((answer.id, answer.ttl), (id, ttl), "in their order");
            assert!(answer.header.is_some());
        }
        assert!(answers.message().await.expect("no error").is_none());
        assert_eq!(list(&client, machine).await.len(), LEASES as usize);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_and_times_are_given_and_refused_as_etcd_does() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let granting = async |id, ttl| {
        let request = LeaseGrantRequest { ttl, id };
        let granted = service(&client, 1).lease_grant(request).await;
        granted.map(tonic::Response::into_inner)
    };
    let chosen = granting(0, 60).await.expect("an id is chosen");
    assert!(chosen.id > 0 && chosen.ttl == 60);
    let negative = granting(-5, 60).await.expect("any id but zero is one");
    assert_eq!(negative.id, -5);
    let short = granting(5, 0).await.expect("is lengthened");
    assert_eq!(short.ttl, 1, "one and a half election timeouts, rounded up");
    let exists = granting(-5, 60).await.expect_err("is there");
    let text = "etcdserver: lease already exists";
    assert_eq!(
        (exists.code(), exists.message()),
        (Code::FailedPrecondition, text)
    );
    let long = granting(6, 9_000_000_001).await.expect_err("is too long");
    let text = "etcdserver: too large lease TTL";
    assert_eq!((long.code(), long.message()), (Code::OutOfRange, text));
    put(&client, "b", -5).await;
    put(&client, "a", -5).await;
    let told = look(&client, 2, -5).await;
    assert_eq!(
        (told.granted_ttl, &told.keys[..]),
        (60, &["a".into(), "b".into()][..])
    );
    assert!((1..60).contains(&told.ttl), "{told:?}");
    assert_eq!(look(&client, 2, 6).await.ttl, -1);
}

/// What becomes of leases while faults happen: one is renewed and never ends; those that nobody renews end.
async fn endures(cluster: &Cluster, client: &Client, mut fault: impl AsyncFnMut(usize)) {
    grant(client, 1_000_000, 3).await;
    put(client, "kept", 1_000_000).await;
    let keeper = Keeper::start(client, 1_000_000);
    for round in 0..rounds(6) {
        let id = 1 + round as i64;
        grant(client, id, 3).await;
        put(client, &format!("left/{id}"), id).await;
        fault(round).await;
        let began = Instant::now();
        until("a lease that nobody renews has ended", async || {
            let told = look(client, round % client.machines(), id).await;
            let kept = client.get(round % client.machines(), "kept").await;
            assert!(kept.is_some(), "a lease that was renewed has ended");
            (told.ttl == -1)
                .then_some(())
                .ok_or(format!("{told:?} after {:?}", began.elapsed()))
        })
        .await;
        assert_eq!(client.get(0, format!("left/{id}")).await, None);
    }
    assert!(keeper.finish().await > rounds(6));
    let pairs = cluster.same_everywhere().await;
    assert_eq!(pairs.len(), 1);
    assert_eq!(list(client, 0).await, [1_000_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_ends_early_and_all_end_while_leaders_are_killed_moved_and_paused() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    grant(&client, 1_000_000, 3).await;
    put(&client, "kept", 1_000_000).await;
    let keeper = Keeper::start(&client, 1_000_000);
    for round in 0..rounds(6) {
        let id = 1 + round as i64;
        grant(&client, id, 3).await;
        put(&client, "left", id).await;
        let leader = cluster.leader().await;
        match round % 3 {
            0 => {
                cluster.machines[leader].kill();
                cluster.leader().await;
                cluster.machines[leader].start();
            }
            1 => cluster.move_leader().await,
            _ => {
                let paused = client.info(leader).await.expect("it runs").machine_id;
                cluster.machines[leader].pause_whole().await;
                until("another machine leads", async || {
                    let info = client.info((leader + 1) % 3).await;
                    let leader = info.map_err(|it| it.to_string())?.leader;
                    let is_another = ![0, paused].contains(&leader);
                    is_another.then_some(()).ok_or(format!("{leader}"))
                })
                .await;
                cluster.machines[leader].resume();
            }
        }
        ended(&client, (leader + 1) % 3, id).await;
        assert_eq!(client.get(leader, "left").await, None);
        assert!(client.get(leader, "kept").await.is_some(), "it was renewed");
    }
    assert!(keeper.finish().await > rounds(6));
    assert_eq!(cluster.same_everywhere().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_ends_early_and_all_end_whichever_actor_fails() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let actors = [
        "lessor",
        "applier",
        "lessor",
        "logic_center",
        "storage",
        "sender",
    ];
    endures(&cluster, &client, async |round: usize| {
        for machine in 0..3 {
            let how = if round == 2 { "hang" } else { "panic" };
            let actor = actors[round % actors.len()];
            let failed = client.kill_actor(machine, actor, how).await;
            // Its answer may be lost with the actor.
            if let Err(status) = failed {
                assert!(matches!(status.code(), Code::Unavailable), "{status}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_does_not_give_a_lease_its_whole_time_again_unless_it_was_renewed() {
    const TTL: i64 = 600;
    let settings = Settings::trio().with("leases.checkpoint_interval_seconds", 1);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    grant(&client, 1, TTL).await;
    grant(&client, 2, TTL).await;
    let mut left = TTL;
    for machine in 0..2 {
        // What is noted is what was left at some time before.
        until("some of its time is over", async || {
            let told = look(&client, machine, 1).await.ttl;
            (told <= left - 4)
                .then_some(())
                .ok_or(format!("{told} of {left}"))
        })
        .await;
        assert_eq!(renew(&client, machine, 2).await.expect("is renewed"), TTL);
        cluster.move_leader().await;
        let (unrenewed, renewed) = (
            look(&client, machine, 1).await.ttl,
            look(&client, machine, 2).await.ttl,
        );
        assert!(unrenewed < left, "{unrenewed} of {left}");
        assert!(renewed > unrenewed, "{renewed} and {unrenewed}");
        assert!(renewed >= TTL - 10, "{renewed}");
        left = unrenewed;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_machine_alone_is_paused_no_lease_gets_older() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    grant(&client, 1, 2).await;
    put(&client, "kept", 1).await;
    cluster.machines[0].pause_whole().await;
    // This is the time of the lease, and so nothing that could be waited for otherwise.
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.machines[0].resume();
    assert!(
        client.get(0, "kept").await.is_some(),
        "nobody could renew it"
    );
    assert_eq!(renew(&client, 0, 1).await.expect("is renewed"), 2);
    ended(&client, 0, 1).await;
    assert!(client.get(0, "kept").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_without_a_leader_is_told_so_and_streams_end_when_the_machine_stops() {
    let settings = Settings::trio().with("timings.request_timeout_ms", 500);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    grant(&client, 1, 60).await;
    let (requests, receiver) = mpsc::channel(1);
    let answers = keep_alive(&client, 0, ReceiverStream::new(receiver));
    let mut answers = answers.await.expect("it runs");
    requests
        .send(LeaseKeepAliveRequest { id: 1 })
        .await
        .expect("somebody listens");
    assert_eq!(
        answers.message().await.expect("no error").map(|it| it.ttl),
        Some(60)
    );
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    until(
        "it is told that there is no leader",
        async || match renew(&client, 0, 1).await {
            Err(status) if status.message() == "etcdserver: no leader" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    let stopped = cluster.machines[0].terminate().await;
    assert!(stopped.success(), "{stopped}");
    let ended = answers
        .message()
        .await
        .expect_err("the stream ends with a reason");
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
}

/// Commands about leases. Each is given to one machine after the other.
const COMMANDS: [&[&str]; 8] = [
    &["lease", "list"],
    &["put", "--lease=abc", "apple", "red"],
    &["put", "--lease=abc", "banana", "yellow"],
    &["lease", "timetolive", "abc"],
    &["lease", "timetolive", "def"],
    &["lease", "keep-alive", "--once", "abc"],
    &["lease", "keep-alive", "--once", "def"],
    &["get", "--prefix", ""],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_about_leases_what_it_prints_about_etcd() {
    let cluster = Cluster::start(Settings::trio()).await;
    let etcd = Etcd::start().await;
    // etcdctl chooses no ids.
    let theirs = Client::new(
        etcd.endpoints
            .iter()
            .map(|it| it.parse().expect("an address")),
    );
    for client in [&cluster.client(), &theirs] {
        grant(client, 0xabc, 600).await;
    }
    let both = |machine: usize, format: &str, arguments: &[&str]| {
        let ours = cluster.machines[machine].client.to_string();
        let ours = etcdctl(&ours, format, arguments, "");
        let theirs = etcdctl(&etcd.endpoints[machine], format, arguments, "");
        let what = format!(
            "{arguments:?} as {format} from machine {machine}: {}",
            text(&ours)
        );
        assert_eq!(ours.status, theirs.status, "{what}");
        (timeless(&text(&ours)), timeless(&text(&theirs)), what)
    };
    for (machine, format) in [(0, "simple"), (1, "json"), (2, "fields"), (1, "simple")] {
        for arguments in COMMANDS {
            let (ours, theirs, what) = both(machine, format, arguments);
            assert_eq!(ours, theirs, "{what}");
        }
    }
    for arguments in [
        ["lease", "revoke", "abc"],
        ["lease", "revoke", "abc"],
        ["get", "--prefix", ""],
    ] {
        let (ours, theirs, what) = both(2, "simple", &arguments);
        assert_eq!(ours, theirs, "{what}");
    }
    let (ours, theirs, what) = both(0, "simple", &["lease", "grant", "60"]);
    let shape = |text: &str| {
        text.split_whitespace()
            .filter(|word| word.len() < 12)
            .count()
    };
    assert_eq!(shape(&ours), shape(&theirs), "{what}");
    cluster.assert_nobody_panicked();
}

/// What etcdctl printed, without how much is left of a lease.
fn timeless(printed: &str) -> String {
    let printed = normalised(printed);
    let left = regex::Regex::new(r#"(remaining\(|"ttl" ?: ?|"TTL" ?: ?)\d+"#).expect("is one");
    left.replace_all(&printed, "${1}LEFT").into_owned()
}
