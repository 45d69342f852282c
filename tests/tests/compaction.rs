//! Compaction of the key space by real machines: in force on all at once, scrubbed to its end whatever fails, and the same everywhere.

use rm_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op::Request,
};
use rm_tests::client::operation;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Workload, Writers, rounds, until};
use tonic::{Code, Status};

/// How many keys [`overwrite`] writes.
const KEYS: usize = 100;

/// The actors of a machine.
const ACTORS: [&str; 10] = [
    "storage",
    "applier",
    "logic_center",
    "timer",
    "listener",
    "sender",
    "gate",
    "watcher",
    "compactor",
    "lessor",
];

/// Three machines that write their states down often.
fn settings() -> Settings {
    Settings::trio().with("storage.checkpoint_interval_ms", 100)
}

/// Writes [`KEYS`] keys so many times, each time in one transaction; the newest revision.
async fn overwrite(client: &Client, times: usize, value_bytes: usize) -> i64 {
    let mut revision = 0;
    for time in 0..times {
        let put = |key| {
            operation(Request::RequestPut(PutRequest {
                key: format!("overwritten/{key:03}").into(),
                value: vec![b'0' + (time % 10) as u8; value_bytes].into(),
                ..Default::default()
            }))
        };
        let request = TxnRequest {
            success: (0..KEYS).map(put).collect(),
            ..Default::default()
        };
        revision = until("a transaction is acknowledged", async || {
            let answer = client
                .kv(time % client.machines())
                .txn(request.clone())
                .await;
            let header = answer
                .map_err(|status| status.to_string())?
                .into_inner()
                .header;
            Ok(header.expect("every answer has one").revision)
        })
        .await;
    }
    revision
}

/// Compacts through some machine until it is known to be done.
async fn compact(client: &Client, revision: i64) {
    let mut turn = 0;
    until("a compaction is acknowledged", async || {
        turn += 1;
        match client
            .compact_on(turn % client.machines(), revision, false)
            .await
        {
            Err(status) if !is_compacted(&status) => Err(status.to_string()),
            _ => Ok(()),
        }
    })
    .await;
}

/// Waits until a machine has removed what a compaction left without a reader: whoever asks for it again is told then.
async fn scrubbed(client: &Client, machine: usize, revision: i64) {
    until("a scrub is at its end", async || {
        match client.compact_on(machine, revision, true).await {
            Err(status) if is_compacted(&status) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// What a machine itself says of the key space at a revision.
async fn read_at(client: &Client, machine: usize, revision: i64) -> Result<i64, Status> {
    let request = RangeRequest {
        key: "overwritten/".into(),
        range_end: "overwritten0".into(),
        revision,
        count_only: true,
        serializable: true,
        ..Default::default()
    };
    let answer = client.range_on(machine, request).await?;
    Ok(answer.count)
}

fn is_compacted(status: &Status) -> bool {
    let text = "etcdserver: mvcc: required revision has been compacted";
    status.code() == Code::OutOfRange && status.message() == text
}

/// Kills an actor, unless it is just being restarted or its answer is lost with it.
async fn fail(client: &Client, machine: usize, actor: &str) {
    let failures = |actors: Vec<rm_proto::raftmachine::v1::Actor>| {
        let found = actors.into_iter().find(|told| told.name == actor);
        found.map_or(0, |told| told.failures)
    };
    let before = failures(client.actors(machine).await);
    until(&format!("{actor} fails"), async || {
        let answer = client.kill_actor(machine, actor, "panic").await;
        let struck = failures(client.actors(machine).await) > before;
        struck.then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_through_any_machine_is_in_force_on_all_and_its_space_is_used_again() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let in_use = async |machine| {
        let status = client.status(machine).await.expect("it answers");
        status.db_size_in_use
    };
    let mut compacted = 0;
    for through in 0..client.machines() {
        let newest = overwrite(&client, 30, 2_000).await;
        let mut before = Vec::new();
        for machine in 0..client.machines() {
            let hash = client.hash_kv(machine, newest).await;
            assert!(hash.compact_revision < newest - 2);
            before.push(in_use(machine).await);
        }
        compacted = newest - 2;
        let answer = client.compact_on(through, compacted, true).await;
        let header = answer.expect("is compacted in time").header;
        assert_eq!(header.expect("every answer has one").revision, newest);
        for (machine, before) in before.into_iter().enumerate() {
            scrubbed(&client, machine, compacted).await;
            let refused = read_at(&client, machine, compacted - 1).await;
            assert!(is_compacted(&refused.expect_err("it is forgotten")));
            for revision in [compacted, compacted + 1, newest, 0] {
                let count = read_at(&client, machine, revision).await;
                assert_eq!(count.expect("it can be read"), KEYS as i64);
            }
            let after = in_use(machine).await;
            assert!(after < before / 2, "{before} bytes in use, then {after}");
        }
    }
    let future = client.compact_on(0, i64::MAX, false).await;
    let future = future.expect_err("it is not there yet");
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!((future.code(), future.message()), (Code::OutOfRange, text));
    let again = client.compact_on(1, compacted, false).await;
    assert!(is_compacted(&again.expect_err("it is compacted")));
    let negative = client.compact_on(2, -1, false).await;
    assert!(is_compacted(&negative.expect_err("it always is")));
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_scrub_at_different_paces_have_the_same_hash_all_along() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let revision = overwrite(&client, 100, 10).await;
    for machine in 0..client.machines() {
        client.hash_kv(machine, revision).await;
    }
    let leader = cluster.leader().await;
    for (follower, delay) in (0..3).filter(|machine| *machine != leader).zip([5, 40]) {
        let action = format!("delay:{delay}");
        client
            .arm_fault(follower, "applier", "transaction", &action, 1_000_000)
            .await;
    }
    let mut hashes = Vec::new();
    for compacted in [revision / 2, revision - 1] {
        compact(&client, compacted).await;
        let leader = async {
            scrubbed(&client, leader, compacted).await;
        };
        let others = async {
            // As often as the scrub takes, on machines that are at different steps of it.
            for _ in 0..4 {
                for machine in 0..client.machines() {
                    let hash = until("a machine is compacted", async || {
                        let hash = client.hash_kv(machine, revision).await;
                        let is_now = hash.compact_revision == compacted;
                        is_now.then_some(hash.hash).ok_or(format!("{hash:?}"))
                    })
                    .await;
                    hashes.push((compacted, hash));
                }
            }
        };
        tokio::join!(leader, others);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 2, "one for each compaction: {hashes:?}");
    for machine in 0..client.machines() {
        client
            .arm_fault(machine, "applier", "transaction", "delay:0", 0)
            .await;
        scrubbed(&client, machine, revision - 1).await;
    }
    cluster.same_everywhere().await;
    let hash = client.hash_kv(0, revision).await.hash;
    assert_eq!(hashes.last(), Some(&(revision - 1, hash)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_comes_to_its_end_under_load_whoever_fails_meanwhile() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    for actor in ACTORS {
        let leader = cluster.leader().await;
        let revision = overwrite(&client, 40, 10).await;
        compact(&client, revision).await;
        fail(&client, leader, actor).await;
        for machine in 0..client.machines() {
            scrubbed(&client, machine, revision).await;
        }
        workload.progress(10).await;
    }
    for _ in 0..rounds(2) {
        let leader = cluster.leader().await;
        let revision = overwrite(&client, 40, 10).await;
        // The leader itself gets nowhere, so that all of the scrub is left to its successor.
        client
            .arm_fault(leader, "compactor", "handler", "panic", 1_000_000)
            .await;
        compact(&client, revision).await;
        cluster.machines[leader].kill();
        let successor = cluster.leader().await;
        scrubbed(&client, successor, revision).await;
        cluster.machines[leader].start();
        scrubbed(&client, leader, revision).await;
    }
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    println!(
        "\n{} acknowledged writes kept, {operations} operations linearizable",
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_17780_the_revision_never_goes_back_when_killed_during_compaction() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let delete = DeleteRangeRequest {
        key: "overwritten/".into(),
        range_end: "overwritten0".into(),
        ..Default::default()
    };
    for round in 0..rounds(4) {
        overwrite(&client, 20, 10).await;
        let newest = until("everything is deleted", async || {
            let answer = client.kv(round % 3).delete_range(delete.clone()).await;
            let header = answer
                .map_err(|status| status.to_string())?
                .into_inner()
                .header;
            Ok(header.expect("every answer has one").revision)
        })
        .await;
        // Nothing is left but the deletion at the newest revision, and after a second compaction not even that.
        compact(&client, newest).await;
        if round % 2 == 1 {
            scrubbed(&client, round % 3, newest).await;
        }
        cluster.kill_all();
        cluster.start_all();
        cluster.leader().await;
        cluster.converged().await;
        for machine in 0..client.machines() {
            let info = client.info(machine).await.expect("it converged");
            assert_eq!(
                info.revision, newest,
                "of {}",
                cluster.machines[machine].name
            );
            scrubbed(&client, machine, newest).await;
        }
        let header = client.put("after", "compaction").await.header;
        assert_eq!(header.expect("every answer has one").revision, newest + 1);
    }
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_18667_a_transaction_that_reads_what_is_compacted_is_refused_the_same_everywhere() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let revision = overwrite(&client, 20, 10).await;
    // One machine is late, so that it judges when the others have long scrubbed.
    let late = (cluster.leader().await + 1) % client.machines();
    client
        .arm_fault(late, "applier", "transaction", "delay:20", 200)
        .await;
    compact(&client, revision - 1).await;
    let read = |revision| {
        operation(Request::RequestRange(RangeRequest {
            key: "overwritten/000".into(),
            revision,
            ..Default::default()
        }))
    };
    let put = operation(Request::RequestPut(PutRequest {
        key: "written".into(),
        ..Default::default()
    }));
    for machine in 0..client.machines() {
        for (at, is_refused) in [(revision - 2, true), (revision - 1, false)] {
            let request = TxnRequest {
                success: vec![put.clone(), read(at)],
                ..Default::default()
            };
            let answer = client.kv(machine).txn(request).await;
            match (answer, is_refused) {
                (Err(status), true) => assert!(is_compacted(&status), "{status}"),
                (answer, is_refused) => assert_eq!(answer.is_err(), is_refused, "{answer:?}"),
            }
        }
    }
    cluster.same_everywhere().await;
    let written = client
        .get(0, "written")
        .await
        .expect("three were carried out");
    assert_eq!(written.version, 3);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_compact_by_themselves_under_load_and_stay_the_same() {
    let settings = settings()
        .with("storage.auto_compaction.mode", "revisions")
        .with("storage.auto_compaction.retention_revisions", 50)
        .with("storage.auto_compaction.interval_seconds", 1);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    let mut compacted = -1;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        overwrite(&client, 60, 10).await;
        compacted = until("another compaction is in force everywhere", async || {
            let mut seen = Vec::new();
            for machine in 0..client.machines() {
                seen.push(client.hash_kv(machine, 0).await.compact_revision);
            }
            let least = seen.into_iter().min().expect("there are machines");
            (least > compacted)
                .then_some(least)
                .ok_or(format!("{least}"))
        })
        .await;
        cluster.machines[leader].kill();
        cluster.leader().await;
        cluster.machines[leader].start();
        workload.progress(10).await;
    }
    workload.finish().await;
    let acknowledged = writers.finish().await;
    // Between two hashes one more compaction could come, until nothing is left to compact.
    let newest = client.put("the last", "write").await;
    let newest = newest.header.expect("every answer has one").revision;
    until("all but what is kept is compacted", async || {
        let compacted = client.hash_kv(0, 0).await.compact_revision;
        (compacted == newest - 50)
            .then_some(())
            .ok_or(format!("{compacted} of {newest}"))
    })
    .await;
    for machine in 0..client.machines() {
        scrubbed(&client, machine, newest - 50).await;
    }
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}
