//! Every metric that etcd serves is on a machine's page, of the same kind and with the same labels, or the manual says why it is not.

use std::collections::{BTreeMap, BTreeSet};

use rm_tests::curl::{curl, get};
use rm_tests::prometheus::{Family, Page};
use rm_tests::{Cluster, Settings, until};

/// By name, the kind and the labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn of_etcd() -> Metrics {
    let lines = include_str!("../etcd/metrics.txt").lines();
    let metric = |line: &str| {
        let [name, kind, labels] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line:?} has three words");
        };
        let labels = labels.split(',').filter(|label| *label != "-");
        let labels = labels.map(str::to_owned).collect();
        (name.to_owned(), (kind.to_owned(), labels))
    };
    lines.skip(1).map(metric).collect()
}

/// The names in the manual's table of what a machine does not serve.
fn absent() -> BTreeSet<String> {
    let manual = include_str!("../../docs/operations.md");
    let (_, table) = manual
        .split_once("| metric of etcd | why not here |")
        .expect("the manual has that table");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let names = |row: &str| {
        let cell = row.split('|').nth(1).unwrap_or_default();
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect::<Vec<_>>()
    };
    rows.flat_map(names).collect()
}

/// The names of the machine's own metrics in the manual's tables, which may leave out how all of them begin.
fn told_of() -> BTreeSet<String> {
    let manual = include_str!("../../docs/operations.md");
    let cells = manual.lines().filter_map(|row| row.split('|').nth(1));
    let own = cells.filter(|cell| cell.contains("`raft_machine_"));
    let quoted = own.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted
        .map(|name| name.replace(".._", "raft_machine_"))
        .filter(|name| name.starts_with("raft_machine_"))
        .collect()
}

/// The labels of a family's samples, which all have the same.
fn labels(family: &Family) -> BTreeSet<String> {
    let of = |(_, labels): &(String, BTreeMap<String, String>)| {
        let own = labels.keys().filter(|label| *label != "le");
        own.cloned().collect::<BTreeSet<String>>()
    };
    let all: BTreeSet<BTreeSet<String>> = family.samples.keys().map(of).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_etcd_is_served_or_the_manual_says_why_it_is_not() {
    let cluster = Cluster::start(Settings::trio()).await;
    cluster.client().put("key", "value").await;
    let url = |path: &str| format!("http://{}{path}", cluster.machines[0].client);
    // What there is nothing of, etcd does not tell of either.
    get(&url("/livez"));
    let alarm = r#"{"action":"ACTIVATE","memberID":"1","alarm":"CORRUPT"}"#;
    let raised = curl(&["--data", alarm, &url("/v3/maintenance/alarm")]);
    assert_eq!(raised.status, 200, "{raised:?}");
    let page = until("the alarm stands and the peers are known", async || {
        let page = Page::of(&cluster.machines[0]);
        let names = [
            "etcd_debugging_server_alarms",
            "etcd_network_active_peers",
            "etcd_network_peer_received_bytes_total",
        ];
        match names.iter().all(|name| page.0.contains_key(*name)) {
            true => Ok(page),
            false => Err("not yet".to_owned()),
        }
    })
    .await;
    let absent = absent();
    let etcds = of_etcd();
    for (name, (kind, wanted)) in &etcds {
        let Some(family) = page.0.get(name) else {
            assert!(
                absent.contains(name),
                "{name} is neither served nor explained"
            );
            continue;
        };
        assert!(
            !absent.contains(name),
            "{name} is served and said not to be"
        );
        assert_eq!(&family.kind, kind, "{name}");
        assert_eq!(&labels(family), wanted, "{name}");
    }
    let unknown: Vec<&String> = absent
        .iter()
        .filter(|name| !name.contains('*') && !etcds.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "etcd has no such metrics: {unknown:?}");
    let invented: Vec<&String> = page
        .0
        .keys()
        .filter(|name| !name.starts_with("raft_machine_") && !etcds.contains_key(*name))
        .filter(|name| *name != "process_threads")
        .collect();
    assert!(
        invented.is_empty(),
        "etcd has no such metrics: {invented:?}"
    );
    assert_tells_of_our_own(&cluster).await;
}

/// The manual tells of all metrics that only our machines have, and of no other: some are a leader's, some a follower's.
async fn assert_tells_of_our_own(cluster: &Cluster) {
    let told = told_of();
    let served = until("the manual's metrics are served", async || {
        let pages: Vec<Page> = cluster.machines.iter().map(Page::of).collect();
        let names = pages.iter().flat_map(|page| page.0.keys());
        let own = names.filter(|name| name.starts_with("raft_machine_"));
        let served: BTreeSet<String> = own.cloned().collect();
        match told.difference(&served).next() {
            None => Ok(served),
            Some(absent) => Err(format!("no machine serves {absent}")),
        }
    })
    .await;
    let untold: Vec<&String> = served.difference(&told).collect();
    assert!(untold.is_empty(), "the manual does not tell of {untold:?}");
}
