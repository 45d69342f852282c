//! A majority that is lost for good: one machine goes on alone by force, with all that it had, the domain grows again, and what was
//! left behind is neither heard nor obeyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rm_proto::raftmachine::v1::InfoResponse;
use rm_tests::members::{admit, members};
use rm_tests::panics::assert_refusal;
use rm_tests::ports::claim;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Machine, Settings, Workload, Writers, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const FLAG: &str = "--force-new-domain";

/// How many writes must be acknowledged before what comes next.
const PROGRESS: usize = 100;

/// Three machines that keep little of their logs, so that what follows is seen with snapshots too.
fn settings() -> Settings {
    Settings::trio()
        .with("storage.checkpoint_interval_ms", 50)
        .with("storage.compaction_keep_entries", 20)
        .with("storage.compaction_step_entries", 5)
}

/// Writes through all machines until it is told to stop; nobody looks at what becomes of that.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(client: &Client) -> Load {
        let stop = Arc::<AtomicBool>::default();
        let write = |machine: usize| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let key = format!("load/{machine}");
                while !stop.load(Ordering::Relaxed) {
                    // Refusals of one that is killed are part of the load.
                    drop(client.put_on(machine, key.clone(), vec![0; 500]).await);
                    tokio::task::yield_now().await;
                }
            })
        };
        let tasks = (0..client.machines()).map(write).collect();
        Load { stop, tasks }
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
    }
}

/// Starts a machine by force.
fn force(machine: &mut Machine, flag: &str) {
    machine.arguments = vec![flag.to_owned()];
    machine.start();
}

/// Waits until the machine itself takes a write.
async fn takes_writes(client: &Client, machine: usize, key: &str) {
    until("the machine takes writes", async || {
        let put = client.put_on(machine, key.to_owned(), "taken").await;
        put.map(drop).map_err(|status| status.to_string())
    })
    .await;
}

async fn info(client: &Client, machine: usize) -> InfoResponse {
    until("a machine tells of itself", async || {
        let info = client.info(machine).await;
        info.map_err(|status| status.to_string())
    })
    .await
}

/// Waits until a machine has printed a text.
async fn says(machine: &Machine, text: &str) {
    let what = format!("{} says {text:?}", machine.name);
    until(&what, async || match machine.log().contains(text) {
        true => Ok(()),
        false => Err(machine.log_tail()),
    })
    .await;
}

fn names(others: &[usize], cluster: &Cluster) -> String {
    let names = others
        .iter()
        .map(|&place| &cluster.machines[place].name[..]);
    names.collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_survivor_of_a_lost_majority_keeps_all_that_it_applied_and_the_domain_grows_again() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    // A follower: it does not have all that was acknowledged, but all that it acknowledged itself.
    let survivor = (cluster.leader().await + 1) % 3;
    let others = [(survivor + 1) % 3, (survivor + 2) % 3];
    let lost_names = names(
        &[others[0].min(others[1]), others[0].max(others[1])],
        &cluster,
    );
    let own_client = Client::new([cluster.machines[survivor].client]);
    let (own, load) = (Writers::start(&own_client, 2), Load::start(&client));
    own.progress(5 * PROGRESS).await;
    for machine in &mut cluster.machines {
        machine.kill();
    }
    let acknowledged = own.finish().await;
    load.finish().await;
    for place in others {
        std::fs::remove_dir_all(&cluster.machines[place].data).expect("the data can be removed");
    }

    cluster.machines[survivor].take_log();
    force(&mut cluster.machines[survivor], FLAG);
    takes_writes(&client, survivor, "after the force").await;
    let told = cluster.machines[survivor].log();
    let never = format!("NEVER START {lost_names} AGAIN");
    let data = cluster.machines[survivor].data.display().to_string();
    for text in [
        "WAS BEGUN ANEW BY FORCE",
        "LOST",
        &never,
        "member add",
        &data,
    ] {
        assert!(told.contains(text), "{text} is missing in\n{told}");
    }
    let alone = members(&own_client).await;
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert_eq!(alone[0].standing, "voter");
    assert!(!alone[0].data_id.is_empty(), "{alone:?}");
    client
        .get(survivor, "after the force")
        .await
        .expect("a linearizable read sees it");
    assert_nothing_lost(&acknowledged, &client.dump(survivor).await);
    let era = info(&client, survivor).await.era;
    assert_ne!(era, 0, "it is of a new era");

    // From here on nothing may be lost or seen out of order, whatever grows, stops and comes back.
    let (writers, workload) = (Writers::start(&client, 3), Workload::start(&client));
    for place in others {
        cluster.machines[place].join = true;
        writers.progress(PROGRESS).await;
        admit(&mut cluster, &client, place).await;
    }
    writers.progress(PROGRESS).await;
    // The flag was forgotten where the machine is started from.
    cluster.machines[survivor].kill();
    cluster.machines[survivor].take_log();
    cluster.machines[survivor].start();
    writers.progress(PROGRESS).await;
    takes_writes(&client, survivor, "after the flag was forgotten").await;
    // One that joined remembers the era that it joined.
    cluster.machines[others[0]].kill();
    cluster.machines[others[0]].start();
    takes_writes(&client, others[0], "after the restart of one that joined").await;
    let told = cluster.machines[survivor].log();
    assert!(told.contains("--force-new-domain was ignored"), "{told}");
    assert!(!told.contains("BEGUN ANEW"), "{told}");
    let standings: Vec<String> = members(&client)
        .await
        .into_iter()
        .map(|it| it.standing)
        .collect();
    assert_eq!(standings, ["voter", "voter", "voter"]);
    println!("{} operations linearizable", workload.finish().await);
    let written = writers.finish().await;
    let pairs = cluster.same_everywhere().await;
    assert_nothing_lost(&written, &pairs);
    assert_nothing_lost(&acknowledged, &pairs);
    for place in 0..3 {
        assert_eq!(info(&client, place).await.era, era);
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_majority_that_was_not_lost_is_refused_loudly_and_shares_nothing_with_the_forced_machine()
 {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let survivor = cluster.leader().await;
    let others = [(survivor + 1) % 3, (survivor + 2) % 3];
    client.put("common", "before").await;
    cluster.same_everywhere().await;
    for machine in &mut cluster.machines {
        machine.kill();
        machine.take_log();
    }
    force(&mut cluster.machines[survivor], FLAG);
    takes_writes(&client, survivor, "new/first").await;
    let before = info(&client, survivor).await;

    // One alone finds no quorum; both elect a leader of their own, in terms that the forced machine had too.
    let old = Client::new(others.map(|place| cluster.machines[place].client));
    for place in others {
        cluster.machines[place].start();
        says(
            &cluster.machines[place],
            "A PEER IS OF ANOTHER ERA OF THIS DOMAIN",
        )
        .await;
    }
    old.put("old/first", "taken").await;
    says(
        &cluster.machines[survivor],
        "its data is of era 0000000000000000",
    )
    .await;
    let writers = Writers::start(&Client::new([cluster.machines[survivor].client]), 2);
    writers.progress(PROGRESS).await;
    let acknowledged = writers.finish().await;
    let after = info(&client, survivor).await;
    assert_eq!(
        (after.term, after.leader, after.role),
        (before.term, before.leader, before.role)
    );
    assert!(after.refused > 0, "refusals are counted");
    assert_eq!(after.machines.len(), 1, "{:?}", after.machines);
    let pairs = client.dump(survivor).await;
    assert_nothing_lost(&acknowledged, &pairs);
    let holds = |key: &str| pairs.iter().any(|pair| pair.key == key.as_bytes());
    assert!(holds("common") && holds("new/first") && !holds("old/first"));
    for pair in old.dump(0).await {
        assert!(!pair.key.starts_with(b"new/") && !pair.key.starts_with(b"written/"));
    }

    // What they have is of no more use: an empty folder and an admission bring one back.
    for place in others {
        cluster.machines[place].kill();
    }
    let place = others[0];
    std::fs::remove_dir_all(&cluster.machines[place].data).expect("the data can be removed");
    cluster.machines[place].join = true;
    let present = [survivor, place].map(|place| cluster.machines[place].client);
    admit(&mut cluster, &Client::new(present), place).await;
    // The other one, still on what it has, disturbs neither of them.
    cluster.machines[others[1]].take_log();
    cluster.machines[others[1]].start();
    says(
        &cluster.machines[others[1]],
        "A PEER IS OF ANOTHER ERA OF THIS DOMAIN",
    )
    .await;
    let both = Client::new(present);
    let workload = Workload::start(&both);
    workload.progress(PROGRESS).await;
    workload.finish().await;
    for machine in 0..2 {
        let told = info(&both, machine).await;
        assert_eq!(told.term, info(&both, 0).await.term);
        assert_eq!((told.era, told.machines.len()), (after.era, 2));
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_done_again_only_for_the_era_that_is_named() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    client.put("kept", "so far").await;
    cluster.same_everywhere().await;
    for machine in &mut cluster.machines {
        machine.kill();
    }
    std::fs::remove_dir_all(&cluster.machines[1].data).expect("the data can be removed");
    force(&mut cluster.machines[0], FLAG);
    takes_writes(&client, 0, "first").await;
    let first = info(&client, 0).await.era;
    cluster.machines[1].join = true;
    let pair = Client::new([0, 1].map(|place| cluster.machines[place].client));
    admit(&mut cluster, &pair, 1).await;
    cluster.machines[0].kill();
    cluster.machines[1].kill();

    // Without the era, or with another, the machine waits for the other voter as it would without the flag.
    for flag in [FLAG.to_owned(), format!("{FLAG}=00000000000000ff")] {
        cluster.machines[0].take_log();
        force(&mut cluster.machines[0], &flag);
        says(&cluster.machines[0], "was ignored").await;
        says(&cluster.machines[0], &format!("give {FLAG}={first:016x}")).await;
        assert_eq!(info(&client, 0).await.machines.len(), 2);
        cluster.machines[0].kill();
    }
    force(&mut cluster.machines[0], &format!("{FLAG}={first:016x}"));
    takes_writes(&client, 0, "second").await;
    let told = info(&client, 0).await;
    assert_eq!(told.machines.len(), 1);
    assert!(told.era != first && told.era != 0);
    client.get(0, "first").await.expect("it is kept");
    // The machine of the era between is refused as those of the first are.
    cluster.machines[1].take_log();
    cluster.machines[1].start();
    says(
        &cluster.machines[1],
        "A PEER IS OF ANOTHER ERA OF THIS DOMAIN",
    )
    .await;
    cluster.assert_nobody_panicked();
}

/// A config like the machine's, with another text for it.
fn changed(cluster: &Cluster, name: &str, change: impl FnOnce(&mut Value)) -> std::path::PathBuf {
    let text = std::fs::read_to_string(&cluster.machines[0].config).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut config);
    let path = cluster.folder().join(name);
    std::fs::write(&path, config.to_string()).expect("the folder can be written");
    path
}

/// Starts the first machine with these arguments, sees it end, and gives back its exit code and what it said.
async fn refused(cluster: &mut Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let machine = &mut cluster.machines[0];
    machine.take_log();
    machine.arguments = arguments.iter().map(ToString::to_string).collect();
    machine.start();
    let status = machine.end().await;
    let log = machine.log();
    assert_refusal(status, &log);
    assert!(!log.contains("BEGUN ANEW"), "{log}");
    (status.code(), log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::prepare(settings()).await;
    let (code, log) = refused(&mut cluster, &[FLAG]).await;
    assert_eq!(code, Some(1));
    assert!(log.contains("holds none"), "an empty folder: {log}");
    assert!(!cluster.machines[0].data.exists(), "nothing is begun there");

    for machine in &mut cluster.machines {
        machine.arguments.clear();
        machine.start();
    }
    let client = cluster.client();
    client.put("kept", "so far").await;
    cluster.same_everywhere().await;
    // The process that runs holds the folder, whatever its ports are.
    let ports = claim(2);
    let elsewhere = changed(&cluster, "elsewhere.json", |config| {
        config["machines"][0]["client"] = json!(ports[0].address);
        config["machines"][0]["peer"] = json!(ports[1].address);
    });
    let log = cluster.folder().join("elsewhere.log");
    let (name, data) = (
        cluster.machines[0].name.clone(),
        cluster.machines[0].data.clone(),
    );
    let mut second = Machine::new(
        name,
        ports[0].address,
        ports[1].address,
        elsewhere,
        data,
        log,
    );
    force(&mut second, FLAG);
    let status = second.end().await;
    assert_refusal(status, &second.log());
    assert!(
        second.log().contains("is in use by process"),
        "{}",
        second.log()
    );
    cluster.same_everywhere().await;
    for machine in &mut cluster.machines {
        machine.kill();
    }

    for other in ["--join", "--check", "--verify"] {
        let (code, log) = refused(&mut cluster, &[FLAG, other]).await;
        assert_eq!(code, Some(2), "{other}: {log}");
        assert!(log.contains("cannot be used with"), "{log}");
    }
    let (code, log) = refused(&mut cluster, &["--force-new-domain=yes"]).await;
    assert_eq!(code, Some(2));
    assert!(log.contains("16 hexadecimal digits"), "{log}");

    let own = cluster.machines[0].config.clone();
    cluster.machines[0].config = changed(&cluster, "foreign.json", |config| {
        config["domain"] = json!("other.example");
    });
    let (code, log) = refused(&mut cluster, &[FLAG]).await;
    assert_eq!(code, Some(1));
    assert!(
        log.contains("belongs to machine RM.01 of domain tests.example"),
        "{log}"
    );

    // After all of that the three are what they were.
    cluster.machines[0].config = own;
    cluster.machines[0].arguments.clear();
    for machine in &mut cluster.machines {
        machine.start();
    }
    client.put("kept", "to the end").await;
    cluster.same_everywhere().await;
    assert_eq!(members(&client).await.len(), 3);
    assert_eq!(info(&client, 0).await.era, 0);
    cluster.assert_nobody_panicked();
}
