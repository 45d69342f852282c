//! `rmctl migrate --follow` from the real etcd while its clients write, it compacts, its leases end, and it goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use rm_proto::etcdserverpb::request_op::Request;
use rm_proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest,
};
use rm_tests::client::operation;
use rm_tests::lone_etcd::kept;
use rm_tests::rmctl::{Running, caught_up, reported};
use rm_tests::watching::prefix;
use rm_tests::{Client, Cluster, LoneEtcd, Settings, leases, until};
use rustix::process::Signal;

/// The most keys that the load writes.
const KEYS: u32 = 300;

/// Clients that write at an etcd.
struct Load {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(etcd: &LoneEtcd) -> Load {
        let (stop, writes) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let tasks = (0..4_u64).map(|client| {
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            let source = etcd.client();
            tokio::spawn(async move {
                let mut rng = Rng::with_seed(client);
                while !stop.load(Ordering::Relaxed) {
                    write(&source, &mut rng).await;
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let tasks = tasks.collect();
        Load {
            stop,
            writes,
            tasks,
        }
    }

    /// Waits until so many more writes are done.
    async fn progress(&self, more: usize) {
        let goal = self.writes.load(Ordering::Relaxed) + more;
        until("writes are done", async || {
            match self.writes.load(Ordering::Relaxed) {
                done if done >= goal => Ok(()),
                done => Err(format!("{done} of {goal}")),
            }
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no writer panics");
        }
    }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..PutRequest::default()
    }
}

/// A put, a deletion, two keys that are always the same, or a lease with a key that comes and goes.
async fn write(source: &Client, rng: &mut Rng) {
    let key = format!("load/{}", rng.u32(0..KEYS));
    let value = rng.u64(..).to_string();
    match rng.u32(0..10) {
        0 => {
            let request = DeleteRangeRequest {
                key: key.into(),
                ..DeleteRangeRequest::default()
            };
            source
                .kv(0)
                .delete_range(request)
                .await
                .expect("etcd answers");
        }
        1 => {
            let id = rng.i64(1_000..i64::MAX);
            let request = LeaseGrantRequest { ttl: 600, id };
            let granted = leases::service(source, 0).lease_grant(request).await;
            granted.expect("etcd answers");
            source
                .kv(0)
                .put(put(key, value, id))
                .await
                .expect("etcd answers");
            leases::revoke(source, 0, id).await.expect("it is there");
        }
        2..5 => {
            let twins = ["pair/a", "pair/b"];
            let puts = twins.map(|key| operation(Request::RequestPut(put(key, value.clone(), 0))));
            let request = TxnRequest {
                success: puts.into(),
                ..TxnRequest::default()
            };
            source.kv(0).txn(request).await.expect("etcd answers");
        }
        _ => {
            source
                .kv(0)
                .put(put(key, value, 0))
                .await
                .expect("etcd answers");
        }
    }
}

fn follow(etcd: &LoneEtcd, cluster: &Cluster, more: &[&str]) -> Running {
    let from = etcd.endpoint();
    let arguments = ["migrate", "--from", &from, "--follow", "-o", "json"];
    Running::start(&cluster.endpoints(), &[&arguments[..], more].concat())
}

/// Writes a key at the source, and waits until the target has it.
async fn arrives(etcd: &LoneEtcd, cluster: &Cluster, key: &'static str) {
    etcd.client().put(key, "here").await;
    let target = cluster.client();
    until("the target has it", async || {
        let found = target.get_on(0, key, false).await;
        match found.map_err(|status| status.to_string())? {
            Some(_) => Ok(()),
            None => Err(format!("{key} is not there")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_change_over_from_an_etcd_that_is_written_to_without_a_gap() {
    let etcd = LoneEtcd::start().await;
    let load = Load::start(&etcd);
    load.progress(1_000).await;
    let cluster = Cluster::start(Settings::trio()).await;
    // So few that whoever counts changes, not revisions, would tear transactions apart.
    let run = follow(&etcd, &cluster, &["--max-txn-ops", "3"]);
    arrives(&etcd, &cluster, "marker").await;
    let target = cluster.client();
    let twins = prefix("pair/");
    let mut seen = BTreeMap::new();
    until("the twins have changed often", async || {
        let request = RangeRequest {
            key: twins.key.clone(),
            range_end: twins.range_end.clone(),
            ..Default::default()
        };
        let twins = target.range_on(0, request).await;
        let twins = twins.map_err(|status| status.to_string())?.kvs;
        assert!(
            twins.len() == 2 && twins[0].value == twins[1].value,
            "a transaction is seen as a whole: {twins:?}"
        );
        seen.insert(twins[0].value.clone(), ());
        (seen.len() >= 50)
            .then_some(())
            .ok_or(seen.len().to_string())
    })
    .await;
    load.progress(1_000).await;
    // The clients stop at the source, and go on at the target once it has caught up.
    load.end().await;
    let (report, said) = caught_up(run).await;
    assert!(report["followed"].as_u64() > Some(1_000), "{report}");
    assert_eq!(report["copies"], 1, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_by_itself_once_it_has_caught_up_though_writes_go_on() {
    let etcd = LoneEtcd::start().await;
    let load = Load::start(&etcd);
    load.progress(500).await;
    let cluster = Cluster::start(Settings::trio()).await;
    let (report, _) = reported(follow(&etcd, &cluster, &["--until-caught-up"])).await;
    load.end().await;
    let revision = report["source_revision"].as_i64().expect("a revision");
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    };
    let source = etcd.client().range_on(0, request).await;
    let source = kept(source.expect("etcd answers").kvs);
    let target = kept(cluster.client().dump(0).await);
    // What hung on a lease that has ended since may have gone, and nothing else.
    for (key, pair) in &target {
        assert_eq!(source.get(key), Some(pair), "{key:?}");
    }
    let is_gone = |(key, _): &(&Bytes, _)| !target.contains_key(*key);
    let gone: Vec<_> = source.iter().filter(is_gone).collect();
    assert!(gone.iter().all(|(_, (_, lease))| *lease != 0), "{gone:?}");
}

/// Writes more at the source than etcd and the connection hold for a watch, and compacts all of it: up to 1024 events wait in an etcd
/// (chanBufLen in its server/storage/mvcc), and some MiB on the way.
async fn compact_what_was_not_heard(etcd: &LoneEtcd) {
    const WRITERS: usize = 16;
    const WRITES: usize = 200;
    let source = etcd.client();
    let tasks = (0..WRITERS).map(|writer| {
        let source = source.clone();
        tokio::spawn(async move {
            for _ in 0..WRITES {
                let put = source.put_on(0, format!("busy/{writer}"), vec![b'x'; 8_192]);
                put.await.expect("etcd answers");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no writer panics");
    }
    let put = source.put("after", "all").await;
    let last = put.header.map_or(0, |header| header.revision);
    source
        .compact_on(0, last, true)
        .await
        .expect("etcd answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_compacts_what_comes_next_is_compared_anew() {
    let etcd = LoneEtcd::start().await;
    etcd.client().put("gone", "soon").await;
    let cluster = Cluster::start(Settings::trio()).await;
    let mut run = follow(&etcd, &cluster, &[]);
    arrives(&etcd, &cluster, "marker").await;
    run.signal(Signal::STOP);
    etcd.done(&["del", "gone"]);
    compact_what_was_not_heard(&etcd).await;
    run.signal(Signal::CONT);
    arrives(&etcd, &cluster, "another marker").await;
    let (report, said) = caught_up(run).await;
    assert!(said.contains("has compacted revision"), "{said}");
    assert_eq!(report["copies"], 2, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_compacts_what_is_copied_is_copied_anew() {
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for number in 0..4_000 {
        source
            .put(format!("key/{number:05}"), vec![b'x'; 512])
            .await;
    }
    let cluster = Cluster::start(Settings::trio()).await;
    let mut run = follow(
        &etcd,
        &cluster,
        &["--until-caught-up", "--max-txn-ops", "1"],
    );
    let target = cluster.client();
    until("some keys are there", async || {
        match target.get_on(0, "key/00000", false).await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    run.signal(Signal::STOP);
    let put = source.put("key/00000", "changed since").await;
    etcd.done(&["del", "key/03999"]);
    let revision = put.header.map_or(0, |header| header.revision);
    source
        .compact_on(0, revision, true)
        .await
        .expect("etcd answers");
    run.signal(Signal::CONT);
    let (report, said) = reported(run).await;
    assert!(said.contains("has compacted revision"), "{said}");
    assert_eq!(report["copies"], 2, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

/// Waits until the target has these leases and no other, which have holders at the source meanwhile.
async fn are_moved(source: &Client, target: &Client, ids: &[i64]) {
    until("the leases are moved", async || {
        for &id in ids {
            let renewed = leases::renew(source, 0, id).await;
            renewed.map_err(|status| status.to_string())?;
        }
        let here = leases::list(target, 0).await;
        (here == ids).then_some(()).ok_or(format!("{here:x?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_live_and_end_at_the_target_as_at_the_source() {
    const SECONDS: i64 = 4;
    let cluster = Cluster::start(Settings::trio()).await;
    let target = cluster.client();
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for id in [0x11, 0x22] {
        leases::grant(&source, id, SECONDS).await;
    }
    leases::put(&source, "lives", 0x11).await;
    leases::put(&source, "ends", 0x22).await;
    let run = follow(&etcd, &cluster, &[]);
    are_moved(&source, &target, &[0x11, 0x22]).await;
    arrives(&etcd, &cluster, "marker").await;
    // One is renewed at the source, and nobody but rmctl renews it at the target.
    until(
        "the other has ended, and is no more at the target",
        async || {
            leases::renew(&source, 0, 0x11)
                .await
                .map_err(|status| status.to_string())?;
            let (there, here) = (
                leases::list(&source, 0).await,
                leases::list(&target, 0).await,
            );
            match there == [0x11] && here == [0x11] {
                true => Ok(()),
                false => Err(format!("{there:?} and {here:?}")),
            }
        },
    )
    .await;
    let since = Instant::now();
    until(
        "it has lived for longer than its time at both",
        async || {
            leases::renew(&source, 0, 0x11)
                .await
                .map_err(|status| status.to_string())?;
            assert!(
                leases::look(&target, 0, 0x11).await.ttl >= 0,
                "it lives at the source"
            );
            let lived = since.elapsed();
            (lived > Duration::from_secs(2 * SECONDS as u64))
                .then_some(())
                .ok_or_else(|| format!("{lived:?}"))
        },
    )
    .await;
    leases::grant(&source, 0x33, 600).await;
    leases::put(&source, "new", 0x33).await;
    leases::renew(&source, 0, 0x11).await.expect("it lives");
    let (report, _) = caught_up(run).await;
    assert_eq!(report["leases"], 2, "{report}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_whose_leases_ended_while_rmctl_was_held_up_come_back() {
    const SECONDS: i64 = 3;
    let cluster = Cluster::start(Settings::trio()).await;
    let target = cluster.client();
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    leases::grant(&source, 0x11, SECONDS).await;
    leases::put(&source, "leased", 0x11).await;
    let mut run = follow(&etcd, &cluster, &[]);
    are_moved(&source, &target, &[0x11]).await;
    arrives(&etcd, &cluster, "marker").await;
    run.signal(Signal::STOP);
    until("it has ended at the target", async || {
        leases::renew(&source, 0, 0x11)
            .await
            .map_err(|status| status.to_string())?;
        let here = leases::list(&target, 0).await;
        here.is_empty().then_some(()).ok_or(format!("{here:?}"))
    })
    .await;
    run.signal(Signal::CONT);
    until("it is back", async || {
        leases::renew(&source, 0, 0x11)
            .await
            .map_err(|status| status.to_string())?;
        match target.get_on(0, "leased", false).await {
            Ok(Some(pair)) if pair.lease == 0x11 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    leases::renew(&source, 0, 0x11).await.expect("it lives");
    let (report, said) = caught_up(run).await;
    assert!(said.contains("leases have ended at the target"), "{said}");
    assert_eq!(report["copies"], 2, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

/// What is written next is the first to meet that the lease is gone: long before it is due to be renewed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_of_a_lease_that_was_lost_come_back_though_one_is_written() {
    let cluster = Cluster::start(Settings::trio()).await;
    let target = cluster.client();
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    leases::grant(&source, 0x11, 600).await;
    for key in ["leased", "leased too"] {
        leases::put(&source, key, 0x11).await;
    }
    let run = follow(&etcd, &cluster, &[]);
    arrives(&etcd, &cluster, "marker").await;
    leases::revoke(&target, 0, 0x11).await.expect("it is there");
    leases::put(&source, "leased too", 0x11).await;
    until("both are back", async || {
        for key in ["leased", "leased too"] {
            match target.get_on(0, key, false).await {
                Ok(Some(pair)) if pair.lease == 0x11 => {}
                other => return Err(format!("{key}: {other:?}")),
            }
        }
        Ok(())
    })
    .await;
    let (report, said) = caught_up(run).await;
    assert!(said.contains("leases have ended at the target"), "{said}");
    assert_eq!(report["copies"], 2, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_comes_back_is_gone_on_with_and_one_that_does_not_ends_it() {
    let mut etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::trio()).await;
    let run = follow(&etcd, &cluster, &["--patience", "60"]);
    arrives(&etcd, &cluster, "marker").await;
    etcd.kill();
    etcd.run().await;
    arrives(&etcd, &cluster, "another marker").await;
    let (report, said) = caught_up(run).await;
    assert_eq!(report["copies"], 1, "{said}");

    let run = follow(&etcd, &cluster, &["--patience", "1"]);
    arrives(&etcd, &cluster, "last marker").await;
    etcd.kill();
    let output = run.end().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("The target holds all up to revision 4 of the source"),
        "{said}"
    );
}
