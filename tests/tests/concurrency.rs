//! Locks and elections on real machines: as etcd's services have them, in the same lines as etcd's clients.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rm_proto::v3electionpb::{LeaderKey, ProclaimRequest, ResignRequest};
use rm_tests::etcd::{Etcd, etcdctl_until};
use rm_tests::leases::{grant, list, look, revoke};
use rm_tests::lines::{
    Lines, await_standing, ended, in_time, leader, lock, refusal, revision, standing,
};
use rm_tests::machine::die_with_the_test;
use rm_tests::{Client, Cluster, Settings, curl, until};
use tonic::{Code, Request};

/// On a busy host, no election begins by itself.
fn settings() -> Settings {
    Settings::trio().with_timings_of_an_operator()
}

fn lines(cluster: &Cluster) -> Lines {
    Lines::new(cluster.machines.iter().map(|machine| machine.client))
}

/// A command of etcd's own client that goes on beside the test.
fn start_etcdctl(cluster: &Cluster, arguments: &[&str]) -> Child {
    let mut command = Command::new("etcdctl");
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &cluster.endpoints()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    die_with_the_test(&mut command);
    command.spawn().expect("etcdctl can be run")
}

/// What one cluster answers to calls in a row: the keys, values and revisions, and the texts of refusals; and their codes.
async fn conversation(lines: &Lines, client: &Client) -> (Vec<String>, Vec<Code>) {
    let (mut told, mut codes) = (Vec::new(), Vec::new());
    let mut refused = |told: &mut Vec<String>, (code, text): (Code, String)| {
        told.push(text);
        codes.push(code);
    };
    grant(client, 7, 600).await;
    let locked = lines.locks(0).lock(lock("l", 7)).await.expect("is free");
    told.push(format!("{:?}", locked.get_ref().key));
    told.push(revision(locked.into_inner().header).to_string());
    for key in ["l/7", "l/7"] {
        let request = rm_proto::v3lockpb::UnlockRequest { key: key.into() };
        let unlocked = lines.locks(0).unlock(request).await.expect("is unlocked");
        told.push(revision(unlocked.into_inner().header).to_string());
    }
    refused(&mut told, refusal(lines.unlock(0, "").await));
    refused(&mut told, refusal(lines.lock(0, "l", 99).await));
    refused(&mut told, refusal(lines.campaign(0, "e", 99, "").await));
    let nobody = lines.elections(0).leader(leader("e")).await;
    refused(&mut told, refusal(nobody));
    for value in ["one", "two"] {
        let leader = lines.campaign(0, "e", 7, value).await;
        told.push(format!("{:?}", leader.expect("nobody else stands")));
    }
    let leader_now = lines.elections(0).leader(leader("e")).await;
    let leader_now = leader_now.expect("there is one").into_inner();
    told.push(format!("{:?}", leader_now.kv));
    told.push(revision(leader_now.header).to_string());
    let key = LeaderKey {
        name: "e".into(),
        key: "e/7".into(),
        rev: leader_now.kv.expect("it has a key").create_revision,
        lease: 7,
    };
    lines.proclaim(0, &key, "three").await.expect("it leads");
    let another = LeaderKey {
        rev: 99,
        ..key.clone()
    };
    refused(&mut told, refusal(lines.proclaim(0, &another, "").await));
    let no_lease = LeaderKey {
        lease: 99,
        ..key.clone()
    };
    refused(&mut told, refusal(lines.proclaim(0, &no_lease, "").await));
    for leader in [None, Some(LeaderKey::default())] {
        let proclaim = ProclaimRequest {
            leader: leader.clone(),
            value: "".into(),
        };
        let proclaimed = lines.elections(0).proclaim(proclaim).await;
        refused(&mut told, refusal(proclaimed));
        let resigned = lines.elections(0).resign(ResignRequest { leader }).await;
        refused(&mut told, refusal(resigned));
    }
    for leader in [another, key.clone(), key] {
        let resign = ResignRequest {
            leader: Some(leader),
        };
        let resigned = lines.elections(0).resign(resign).await;
        let resigned = resigned.expect("whoever does not lead may").into_inner();
        told.push(revision(resigned.header).to_string());
    }
    let nobody = lines.elections(0).leader(leader("e")).await;
    refused(&mut told, refusal(nobody));
    (told, codes)
}

/// It comes many times in the transaction that takes a place: in an entry that no peer takes nothing would follow on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_too_long_to_stand_in_line_with_is_refused_and_the_domain_goes_on() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    grant(&client, 7, 600).await;
    let name = "l".repeat(600 << 10);
    let (code, text) = refusal(lines(&cluster).lock(0, &name, 7).await);
    let too_large = "etcdserver: request is too large";
    assert_eq!((code, text.as_str()), (Code::InvalidArgument, too_large));
    client.put("key", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_refusals_are_etcds() {
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = Etcd::start().await;
    let (ours, codes) = conversation(&lines(&cluster), &cluster.client()).await;
    let addresses = etcd.endpoints.iter().map(|it| it.parse());
    let addresses: Result<Vec<_>, _> = addresses.collect();
    let theirs = Client::new(addresses.expect("they are addresses"));
    let (theirs, _) = conversation(&Lines::new(&etcd.endpoints), &theirs).await;
    assert_eq!(ours, theirs);
    // etcd has one code for all; ours are those of the same refusals elsewhere.
    let (unknown, none, invalid) = (Code::Unknown, Code::NotFound, Code::InvalidArgument);
    let expected = [
        invalid, none, none, unknown, unknown, none, unknown, unknown, invalid, invalid, unknown,
    ];
    assert_eq!(codes, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_handed_on_in_the_order_of_coming_to_whoever_asked_by_whatever_client() {
    let cluster = Cluster::start(settings()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    for lease in [1, 2, 4] {
        grant(&client, lease, 600).await;
    }
    let held = in_time("a free lock is had", lines.lock(0, "name", 1)).await;
    assert_eq!(held.expect("is free"), "name/1");
    let second = lines.start_to_lock(1, "name", 2);
    await_standing(&client, "name", 2).await;
    // It holds the lock for as long as its command runs.
    let mut third = start_etcdctl(&cluster, &["lock", "name", "true"]);
    await_standing(&client, "name", 3).await;
    let fourth = lines.start_to_lock(2, "name", 4);
    await_standing(&client, "name", 4).await;
    let is_running = |third: &mut Child| third.try_wait().expect("it is ours").is_none();
    assert!(!second.is_finished() && is_running(&mut third));
    lines.unlock(1, "name/1").await.expect("there is a leader");
    let second = ended("the second has the lock", second).await;
    assert_eq!(second.expect("it was its turn"), "name/2");
    assert!(is_running(&mut third) && !fourth.is_finished());
    // A lease that ends does as well.
    revoke(&client, 0, 2).await.expect("it is there");
    let fourth = ended("the last has the lock", fourth).await;
    assert_eq!(fourth.expect("it was its turn"), "name/4");
    let status = until("etcd's client ends", async || {
        let status = third.try_wait().expect("it is ours");
        status.ok_or("it runs".to_owned())
    })
    .await;
    assert!(status.success(), "{status}");
    assert_eq!(standing(&client, 1, "name").await, ["name/4"]);
    assert_eq!(cluster.same_everywhere().await.len(), 1);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_observes_is_told_each_leader_and_each_value_once_whatever_fails_meanwhile() {
    let mut cluster = Cluster::start(settings()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    for lease in 1..=2 {
        grant(&client, lease, 600).await;
    }
    let mut observed = lines.observe(0, "name").await.expect("it runs");
    let (mut seen, mut last) = (HashSet::new(), "");
    let mut told = async |value: &'static str| {
        loop {
            let told = in_time("a leader is told", observed.message()).await;
            let told = told.expect("it goes on").expect("it goes on");
            assert!(told.header.is_some());
            let kv = told.kv.expect("a leader has a key");
            let is_new = seen.insert((kv.key.clone(), kv.mod_revision));
            assert!(is_new, "it is told twice: {kv:?}");
            if kv.value == value {
                last = value;
                return;
            }
            // A call whose outcome was unknown, and that was repeated, was carried out.
            assert_eq!(kv.value, last, "{kv:?}");
        }
    };
    let first = lines.campaign(1, "name", 1, "one").await;
    let first = first.expect("nobody else stands");
    told("one").await;
    let second = lines.start_to_campaign(2, "name", 2, "two");
    await_standing(&client, "name", 2).await;
    for (actor, value) in [("watcher", "one again"), ("applier", "and again")] {
        // Its answer may be lost with the actor.
        let _ = client.kill_actor(0, actor, "panic").await;
        // What was told is not told again, and what comes is.
        until("a value is told", async || {
            let proclaimed = lines.proclaim(1, &first, value).await;
            proclaimed.map_err(|status| status.to_string())
        })
        .await;
        told(value).await;
    }
    let endpoints = cluster.endpoints();
    let printed = etcdctl_until(&endpoints, "simple", &["elect", "-l", "name"], "again");
    assert!(printed.contains("and again"), "{printed}");
    let mut third = start_etcdctl(&cluster, &["elect", "name", "three"]);
    await_standing(&client, "name", 3).await;
    let resign = ResignRequest {
        leader: Some(first),
    };
    lines.elections(2).resign(resign).await.expect("it leads");
    let second = ended("the second leads", second).await.expect("it runs");
    assert_eq!((&second.key[..], second.lease), (&b"name/2"[..], 2));
    told("two").await;
    revoke(&client, 1, 2).await.expect("it is there");
    told("three").await;
    third.kill().expect("it runs");
    third.wait().expect("it was ours");
    let stopped = cluster.machines[0].terminate().await;
    assert!(stopped.success(), "{stopped}");
    let end = refusal(observed.message().await);
    let expected = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(end, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_away_leaves_the_line_with_the_lease_that_was_granted_for_it() {
    let mut cluster = Cluster::start(settings()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    grant(&client, 1, 600).await;
    grant(&client, 2, 600).await;
    lines.lock(0, "name", 1).await.expect("is free");
    lines.campaign(0, "vote", 1, "").await.expect("is free");
    // Their clients are gone.
    for lease in [0, 2] {
        let locking = lines.start_to_lock(1, "name", lease);
        let standing_for = lines.start_to_campaign(2, "vote", lease, "value");
        await_standing(&client, "name", 2).await;
        await_standing(&client, "vote", 2).await;
        locking.abort();
        standing_for.abort();
        await_standing(&client, "name", 1).await;
        await_standing(&client, "vote", 1).await;
    }
    until("only the leases of the test are left", async || {
        let ids = list(&client, 0).await;
        (ids == [1, 2]).then_some(()).ok_or(format!("{ids:?}"))
    })
    .await;
    // So is one by JSON.
    let url = format!("http://{}/v3/lock/lock", cluster.machines[1].client);
    let mut by_json = curl::command(&["--data", r#"{"name":"bmFtZQ==","lease":2}"#, &url]);
    let mut by_json = by_json.spawn().expect("curl can be run");
    await_standing(&client, "name", 2).await;
    by_json.kill().expect("it waits");
    by_json.wait().expect("it was ours");
    await_standing(&client, "name", 1).await;
    // Their time is over.
    let mut request = Request::new(lock("name", 2));
    request.set_timeout(Duration::from_millis(300));
    let waited = in_time("time is over", lines.locks(1).lock(request)).await;
    let (code, _) = refusal(waited);
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&code));
    await_standing(&client, "name", 1).await;
    // The machine stops.
    let waiting = lines.start_to_lock(2, "name", 2);
    await_standing(&client, "name", 2).await;
    let stopped = cluster.machines[2].terminate().await;
    assert!(stopped.success(), "{stopped}");
    let told = refusal(ended("it is told", waiting).await);
    let expected = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(told, expected);
    assert_eq!(standing(&client, 0, "name").await, ["name/1"]);
    lines.unlock(0, "name/1").await.expect("there is a leader");
    let free = in_time("it is free", lines.lock(1, "name", 2)).await;
    assert_eq!(free.expect("is free"), "name/2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_granted_for_a_lock_lasts_a_minute_as_in_etcd() {
    let cluster = Cluster::start(Settings::solo()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    let key = lines.lock(0, "name", 0).await.expect("is free");
    let ids = list(&client, 0).await;
    assert_eq!(key, format!("name/{:x}", ids[0]));
    let granted = look(&client, 0, ids[0]).await;
    assert_eq!((ids.len(), granted.granted_ttl), (1, 60));
    let leader = lines.campaign(0, "vote", 0, "value").await;
    let leader = leader.expect("nobody else stands");
    let key = format!("vote/{:x}", leader.lease);
    assert_eq!(leader.key, key);
    // Who does not say by which lease it leads keeps the one that it has.
    let unsaid = LeaderKey { lease: 0, ..leader };
    lines.proclaim(0, &unsaid, "other").await.expect("it leads");
    let kept = client.get(0, key).await.expect("it leads");
    assert_eq!(
        (&kept.value[..], list(&client, 0).await.len()),
        (&b"other"[..], 2)
    );
    assert!(kept.lease != 0 && kept.version == 2, "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_lost_its_key_is_told_so_at_once_and_never_holds() {
    let cluster = Cluster::start(settings()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    for lease in 1..=2 {
        grant(&client, lease, 600).await;
    }
    lines.lock(0, "name", 1).await.expect("is free");
    lines.campaign(0, "vote", 1, "").await.expect("is free");
    let locking = lines.start_to_lock(1, "name", 2);
    let standing_for = lines.start_to_campaign(2, "vote", 2, "");
    await_standing(&client, "name", 2).await;
    await_standing(&client, "vote", 2).await;
    revoke(&client, 0, 2).await.expect("it is there");
    let told = refusal(ended("it is told", locking).await);
    assert_eq!(
        told,
        (Code::Unknown, "mutex: session is expired".to_owned())
    );
    let told = refusal(ended("it is told", standing_for).await);
    assert_eq!(told, (Code::Unknown, "election: not leader".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_one_lease_share_a_place_and_one_that_is_given_up_costs_no_other_its_lock() {
    let cluster = Cluster::start(settings()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    for lease in 1..=2 {
        grant(&client, lease, 600).await;
    }
    lines.lock(0, "name", 1).await.expect("is free");
    let again = lines.lock(1, "name", 1).await;
    assert_eq!(again.expect("it holds it"), "name/1");
    let come = async |key: &'static str, times: i64| {
        until("a place was come to so often", async || {
            let version = client.get(0, key).await.map_or(0, |kv| kv.version);
            (version == times).then_some(()).ok_or(format!("{version}"))
        })
        .await;
    };
    let given_up = lines.start_to_lock(1, "name", 2);
    come("name/2", 1).await;
    let again = lines.start_to_lock(2, "name", 2);
    come("name/2", 2).await;
    given_up.abort();
    // The machine counts a call once it knows that its client has gone.
    let page = format!("http://{}/metrics", cluster.machines[1].client);
    until("the call is over", async || {
        let page = curl::get(&page).body;
        let over = |line: &&str| {
            ["handled_total", "\"Canceled\"", "\"Lock\""]
                .iter()
                .all(|part| line.contains(part))
        };
        let line = page.lines().find(over).unwrap_or("there is none");
        line.ends_with(" 1").then_some(()).ok_or(line.to_owned())
    })
    .await;
    lines.unlock(0, "name/1").await.expect("there is a leader");
    let held = ended("who came again has the lock", again).await;
    assert_eq!(held.expect("it was its turn"), "name/2");
    // Both have waited to the end, and so both hold it.
    let waiting = [1, 2].map(|machine| lines.start_to_lock(machine, "name", 1));
    come("name/1", 2).await;
    lines.unlock(0, "name/2").await.expect("there is a leader");
    for waiting in waiting {
        let held = ended("both have the lock", waiting).await;
        assert_eq!(held.expect("it was their turn"), "name/1");
    }
    assert_eq!(standing(&client, 0, "name").await, ["name/1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_wants_a_leader_is_told_when_there_is_none_and_the_others_wait_on() {
    let mut cluster = Cluster::start(settings()).await;
    let (client, lines) = (cluster.client(), lines(&cluster));
    for lease in 1..=3 {
        grant(&client, lease, 600).await;
    }
    lines.lock(0, "name", 1).await.expect("is free");
    let mut request = Request::new(lock("name", 2));
    let header = "true".parse().expect("is a header");
    request.metadata_mut().insert("hasleader", header);
    let mut locks = lines.locks(0);
    let told = tokio::spawn(async move { locks.lock(request).await });
    await_standing(&client, "name", 2).await;
    let patient = lines.start_to_lock(0, "name", 3);
    await_standing(&client, "name", 3).await;
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    let told = refusal(ended("it is told", told).await);
    let expected = (Code::Unavailable, "etcdserver: no leader".to_owned());
    assert_eq!(told, expected);
    cluster.machines[1].start();
    cluster.leader().await;
    await_standing(&client, "name", 2).await;
    until("the lock is unlocked", async || {
        let unlocked = lines.unlock(0, "name/1").await;
        unlocked.map_err(|status| status.to_string())
    })
    .await;
    let held = ended("who waited on has the lock", patient).await;
    assert_eq!(held.expect("it was its turn"), "name/3");
}
