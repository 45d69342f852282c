//! `rmctl migrate` while endpoints go away, lead elsewhere, and tell too early that they have told all; and how it is ended.

use rm_tests::rmctl::{Running, caught_up, ended_with, refused, reported};
use rm_tests::{Between, Client, Cluster, LoneEtcd, Settings, leases, until};
use rustix::process::Signal;

fn follow(from: &str, to: &str, more: &[&str]) -> Running {
    let arguments = ["migrate", "--from", from, "--follow", "-o", "json"];
    Running::start(to, &[&arguments[..], more].concat())
}

/// Something between, in front of an etcd.
async fn before(etcd: &LoneEtcd) -> Between {
    Between::start(etcd.endpoint().parse().expect("an address")).await
}

/// An etcd of another number than that of the others, which follows from its members and from this.
async fn another() -> LoneEtcd {
    let mut etcd = LoneEtcd::prepare();
    etcd.arguments = ["--initial-cluster-token", "another"]
        .map(str::to_owned)
        .into();
    etcd.run().await;
    etcd
}

/// Writes a key at the source, and waits until the target has it.
async fn arrives(source: &Client, target: &Client, key: &'static str) {
    source.put(key, "here").await;
    until("the target has it", async || {
        let machines = target.machines();
        for machine in 0..machines {
            if let Ok(Some(_)) = target.get_on(machine, key, false).await {
                return Ok(());
            }
        }
        Err(format!("{key} is not there"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_says_too_early_that_it_has_told_all_is_no_difference() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    for key in ["changed", "gone"] {
        source.put(key, "before").await;
    }
    let between = before(&etcd).await;
    let run = follow(&between.endpoint(), &cluster.endpoints(), &[]);
    arrives(&source, &target, "marker").await;
    between.hold_events();
    source.put("changed", "after").await;
    source.put("new", "after").await;
    etcd.done(&["del", "gone"]);
    let (report, said) = caught_up(run).await;
    assert!(said.contains("3 differences are left"), "{said}");
    assert_eq!(report["copies"], 2, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_two_clusters_are_refused_by_name_before_anything_is_written() {
    let (etcd, other) = (LoneEtcd::start().await, another().await);
    etcd.client().put("key", "value").await;
    let cluster = Cluster::start(Settings::solo()).await;
    let to = cluster.endpoints();
    let from = format!("{},{}", etcd.endpoint(), other.endpoint());
    let told = refused(&to, &["migrate", "--from", &from], 2);
    let named = format!("{} is of the cluster", other.endpoint());
    assert!(
        told.contains(&named) && told.contains("--from must"),
        "{told}"
    );

    let both = format!("{to},{}", other.endpoint());
    let told = refused(&both, &["migrate", "--from", &etcd.endpoint()], 2);
    assert!(
        told.contains(&named) && told.contains("--endpoints must"),
        "{told}"
    );
    assert_eq!(cluster.client().dump(0).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_leads_to_another_cluster_by_and_by_ends_it() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    let between = before(&etcd).await;
    let run = follow(&between.endpoint(), &cluster.endpoints(), &[]);
    arrives(&source, &target, "marker").await;
    between.name_cluster(7);
    source.put("theirs", "value").await;
    let said = ended_with(run, 2).await;
    let named = format!("{} is of the cluster 7", between.endpoint());
    assert!(said.contains(&named), "{said}");
    assert!(
        said.contains("all up to revision 2 of the source"),
        "{said}"
    );
    assert_eq!(target.get(0, "theirs").await, None);

    // The same of an endpoint that is turned to when the first is gone: nothing is written there.
    let other = another().await;
    let ours = Between::start(cluster.machines[0].client).await;
    let theirs = before(&other).await;
    theirs.go_away();
    let to = format!("{},{}", ours.endpoint(), theirs.endpoint());
    let from = etcd.endpoint();
    for number in 0..2_000 {
        source.put(format!("key/{number:05}"), "value").await;
    }
    // So few that no anchor keeps a write from what is empty.
    let run = follow(&from, &to, &["--force", "--max-txn-ops", "1"]);
    arrives(&source, &target, "key/00000").await;
    theirs.come_back();
    ours.go_away();
    let said = ended_with(run, 2).await;
    let named = format!("{} is of the cluster", theirs.endpoint());
    assert!(said.contains(&named), "{said}");
    assert_eq!(other.client().dump(0).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_watches_and_writes_go_on_at_another_endpoint() {
    let etcd = LoneEtcd::start().await;
    let mut cluster = Cluster::start(Settings::trio()).await;
    let (source, target) = (etcd.client(), cluster.client());
    leases::grant(&source, 0x11, 600).await;
    leases::put(&source, "leased", 0x11).await;
    let (first, second) = (before(&etcd).await, before(&etcd).await);
    let from = format!("{},{}", first.endpoint(), second.endpoint());
    let run = follow(&from, &cluster.endpoints(), &["--patience", "60"]);
    arrives(&source, &target, "marker").await;
    first.go_away();
    arrives(&source, &target, "second marker").await;
    // That which it writes by is the first of the list.
    cluster.machines[0].kill();
    arrives(&source, &target, "third marker").await;
    cluster.machines[0].start();
    let (report, said) = caught_up(run).await;
    assert_eq!(report["copies"], 1, "{said}");
    cluster.converged().await;
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_it_is_told_what_was_written() {
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for number in 0..3_000 {
        source.put(format!("key/{number:05}"), "value").await;
    }
    let cluster = Cluster::start(Settings::trio()).await;
    let target = cluster.client();
    let (from, to) = (etcd.endpoint(), cluster.endpoints());
    for signal in [Signal::TERM, Signal::INT] {
        let before = target.dump(0).await.len();
        let arguments = ["migrate", "--from", &from, "--max-txn-ops", "1"];
        let mut run = Running::start(&to, &arguments);
        until("some keys are there", async || {
            let now = target.dump(0).await.len();
            (now > before).then_some(()).ok_or(now.to_string())
        })
        .await;
        run.signal(signal);
        let said = ended_with(run, 1).await;
        cluster.converged().await;
        let written = target.dump(0).await.len() - before;
        assert!(written < 3_000, "it was ended amid");
        let told = format!("interrupted: {written} changes by copies were written");
        assert!(said.contains(&told), "{written}: {said}");
        assert!(!said.contains("nobody has said"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_has_it_catch_up_and_another_ends_it_where_nobody_answers() {
    let mut etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    let (from, to) = (etcd.endpoint(), cluster.endpoints());
    let mut run = follow(&from, &to, &[]);
    arrives(&source, &target, "marker").await;
    run.signal(Signal::TERM);
    reported(run).await;
    etcd.assert_moved_to(&cluster).await;

    let mut run = follow(&from, &to, &["--patience", "3600"]);
    arrives(&source, &target, "second marker").await;
    etcd.kill();
    run.signal(Signal::TERM);
    run.says("catching up with the source").await;
    run.signal(Signal::TERM);
    let said = ended_with(run, 1).await;
    assert!(
        said.contains("interrupted: ") && said.contains("up to revision 3"),
        "{said}"
    );

    // One that was never answered has written nothing.
    etcd.run().await;
    let between = before(&etcd).await;
    between.go_away();
    let arguments = [
        "migrate",
        "--from",
        &between.endpoint(),
        "--patience",
        "3600",
    ];
    let mut run = Running::start(&to, &arguments);
    until("it asks", async || {
        let asked = between.refusals();
        (asked > 2).then_some(()).ok_or(asked.to_string())
    })
    .await;
    run.signal(Signal::TERM);
    let said = ended_with(run, 1).await;
    assert!(said.contains("interrupted: nothing was written"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_part_moves_the_source_is_asked_about_a_lease_once_it_may_have_ended() {
    const SECONDS: i64 = 3;
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    let hang = async |key: &'static str, lease, seconds| {
        leases::grant(&source, lease, seconds).await;
        leases::put(&source, key, lease).await;
    };
    hang("a/1", 0x11, 600).await;
    hang("b/1", 0x33, 600).await;
    let between = before(&etcd).await;
    let more = ["--prefix", "a/"];
    let mut run = follow(&between.endpoint(), &cluster.endpoints(), &more);
    arrives(&source, &target, "a/marker").await;
    hang("a/2", 0x22, SECONDS).await;
    until("it is asked about the short one", async || {
        let renewed = leases::renew(&source, 0, 0x22).await;
        renewed.map_err(|status| status.to_string())?;
        let asked = between.questions_about(0x22);
        (asked > 4).then_some(()).ok_or(asked.to_string())
    })
    .await;
    let asked = [0x11, 0x33].map(|id| between.questions_about(id));
    assert_eq!(asked, [1, 0], "about a long one, and one of another part");
    assert_eq!(leases::list(&target, 0).await, [0x11, 0x22]);
    leases::renew(&source, 0, 0x22).await.expect("it lives");
    run.signal(Signal::INT);
    reported(run).await;
}
