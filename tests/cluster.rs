//! A cluster of real processes on loopback, in a folder of its own that is kept when the test fails.

use std::path::PathBuf;
use std::time::Duration;

use rm_proto::mvccpb::KeyValue;
use rm_proto::raftmachine::v1::TransferRequest;
use rm_tls::Dialler;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::client::Client;
use crate::machine::Machine;
use crate::panics::{self, Asked};
use crate::ports::{Port, claim};
use crate::settings::Settings;
use crate::wait::{until, until_within};

/// One cluster at a time: timings as short as these need the processors for themselves.
static TURN: Semaphore = Semaphore::const_new(1);

/// How long machines may take to agree once nothing disturbs them.
const CONVERGENCE: Duration = Duration::from_secs(60);

/// A cluster, its folder and its ports.
#[derive(Debug)]
pub struct Cluster {
    /// The machines, in the order of the config.
    pub machines: Vec<Machine>,
    /// How to dial the machines where they serve by TLS.
    pub dialler: Option<Dialler>,
    folder: Option<TempDir>,
    _ports: Vec<Port>,
    _turn: SemaphorePermit<'static>,
}

impl Cluster {
    /// Starts all machines, and waits until they have a leader.
    ///
    /// # Panics
    ///
    /// When they have none in time.
    pub async fn start(settings: Settings) -> Self {
        let mut cluster = Cluster::prepare(settings).await;
        cluster.start_all();
        cluster.leader().await;
        cluster
    }

    /// Writes the config, and starts nothing yet.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub async fn prepare(settings: Settings) -> Self {
        let turn = TURN.acquire().await.expect("it is never closed");
        let folder = TempDir::with_prefix("raft-machine-test-").expect("a temporary folder");
        let ports = claim(2 * settings.machines);
        let file = folder.path().join("machines.json");
        let machines: Vec<Machine> = ports
            .chunks_exact(2)
            .enumerate()
            .map(|(number, pair)| {
                let name = format!("RM.{:02}", number + 1);
                let data = folder.path().join("data").join(&name);
                let log = folder.path().join(format!("{name}.log"));
                Machine::new(
                    name,
                    pair[0].address,
                    pair[1].address,
                    file.clone(),
                    data,
                    log,
                )
            })
            .collect();
        let mut config = settings.config;
        config["machines"] = machines
            .iter()
            .map(|m| json!({ "name": m.name, "peer": m.peer, "client": m.client }))
            .collect();
        if config.get("data_dir").is_none() {
            config["data_dir"] = json!(folder.path().join("data").join("{name}"));
        }
        std::fs::write(&file, format!("{config:#}")).expect("the folder can be written");
        Cluster {
            machines,
            dialler: None,
            folder: Some(folder),
            _ports: ports,
            _turn: turn,
        }
    }

    /// Kills all machines, as a loss of power would.
    pub fn kill_all(&mut self) {
        for machine in &mut self.machines {
            machine.kill();
        }
    }

    /// Starts all machines, which do not run.
    pub fn start_all(&mut self) {
        for machine in &mut self.machines {
            machine.start();
        }
    }

    /// The folder of the cluster, for what a test keeps beside it.
    pub fn folder(&self) -> PathBuf {
        let folder = self.folder.as_ref().expect("it is taken only at the end");
        folder.path().to_owned()
    }

    /// A client of all machines.
    pub fn client(&self) -> Client {
        let addresses = self.machines.iter().map(|machine| machine.client);
        match &self.dialler {
            None => Client::new(addresses),
            Some(dialler) => Client::by_tls(addresses, dialler),
        }
    }

    /// The client addresses, as etcdctl takes them.
    pub fn endpoints(&self) -> String {
        let addresses: Vec<String> = self.machines.iter().map(|m| m.client.to_string()).collect();
        addresses.join(",")
    }

    /// Waits until a machine says that it leads and more than half of all machines say the same; its place in the list.
    ///
    /// # Panics
    ///
    /// When there is none in time.
    pub async fn leader(&self) -> usize {
        let client = self.client();
        until("a leader is known to more than half", async || {
            let mut views = Vec::new();
            let mut reasons = Vec::new();
            for (place, machine) in self.machines.iter().enumerate() {
                if machine.runs() {
                    match client.info(place).await {
                        Ok(info) => views.push((place, info.machine_id, info.term, info.leader)),
                        Err(status) => reasons.push(format!("{}: {status}", machine.name)),
                    }
                }
            }
            let agreed = views.iter().find(|(_, id, term, leader)| {
                let same = views.iter().filter(|(_, _, t, l)| (t, l) == (term, leader));
                id == leader && 2 * same.count() > self.machines.len()
            });
            match agreed {
                Some((place, ..)) => Ok(*place),
                None => Err(format!(
                    "(place, id, term, leader) are {views:?}; {reasons:?}"
                )),
            }
        })
        .await
    }

    /// Moves leadership from the machine that has it to the next until another leads.
    ///
    /// # Panics
    ///
    /// When none does in time.
    pub async fn move_leader(&self) {
        let client = self.client();
        let before = self.leader().await;
        until("another machine leads", async || {
            let leader = self.leader().await;
            if leader != before {
                return Ok(());
            }
            let to = (leader + 1) % self.machines.len();
            let info = client.info(to).await.map_err(|it| it.to_string())?;
            let to = info.machine_id;
            let moved = client.admin(leader).transfer(TransferRequest { to }).await;
            Err(format!("{moved:?}"))
        })
        .await;
    }

    /// Waits until all machines have applied the same, last entry of their logs: its index.
    ///
    /// # Panics
    ///
    /// When they have not in time, or one does not run.
    pub async fn converged(&self) -> u64 {
        let client = self.client();
        until_within(
            CONVERGENCE,
            "all machines have applied the same",
            async || {
                let mut places = Vec::new();
                for machine in 0..self.machines.len() {
                    let info = client
                        .info(machine)
                        .await
                        .map_err(|status| format!("{}: {status}", self.machines[machine].name))?;
                    places.push([info.last_index, info.commit_index, info.applied_index]);
                }
                let last = places[0][0];
                if places.iter().flatten().all(|index| *index == last) {
                    Ok(last)
                } else {
                    Err(format!("(last, commit, applied) are {places:?}"))
                }
            },
        )
        .await
    }

    /// Waits until all machines have applied the same, and proves that they hold the same: the pairs, with revisions.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub async fn same_everywhere(&self) -> Vec<KeyValue> {
        self.converged().await;
        let client = self.client();
        let pairs = client.dump(0).await;
        for machine in 1..self.machines.len() {
            let other = client.dump(machine).await;
            let first_difference = pairs.iter().zip(&other).find(|(one, two)| one != two);
            assert!(
                first_difference.is_none() && pairs.len() == other.len(),
                "{} holds {} pairs and {} holds {}; they differ first at {first_difference:?}",
                self.machines[0].name,
                pairs.len(),
                self.machines[machine].name,
                other.len(),
            );
        }
        self.same_history_everywhere().await;
        self.same_state_everywhere().await;
        pairs
    }

    /// Waits until the states of all machines are the same to the last byte, leases and users too.
    ///
    /// # Panics
    ///
    /// When they are not in time: what the machines themselves put into the log, as the steps of a scrub, may be on its way for a while.
    pub async fn same_state_everywhere(&self) {
        let client = self.client();
        until_within(CONVERGENCE, "all states are the same", async || {
            let mut hashes = Vec::new();
            for machine in 0..self.machines.len() {
                hashes.push(client.hash_whole(machine).await);
            }
            let is_same = hashes.iter().all(|hash| *hash == hashes[0]);
            is_same.then_some(()).ok_or_else(|| format!("{hashes:?}"))
        })
        .await;
    }

    /// Waits until all machines have applied the same, and proves that their histories up to one revision have the same hash, which
    /// the pairs alone do not tell; of a state that is too large to be read, too.
    ///
    /// # Panics
    ///
    /// When they have not.
    pub async fn same_history_everywhere(&self) {
        self.converged().await;
        let client = self.client();
        let info = client.info(0).await;
        let revision = info.expect("a machine that converged answers").revision;
        let mut first = None;
        for (place, machine) in self.machines.iter().enumerate() {
            let told = client.hash_kv(place, revision).await;
            assert_eq!(told.hash_revision, revision, "the revision asked for");
            let hash = (told.hash, told.compact_revision);
            let name = &self.machines[0].name;
            assert_eq!(
                *first.get_or_insert(hash),
                hash,
                "(hash, compacted) of {name} and of {} at the revision {revision}",
                machine.name
            );
        }
    }

    /// Proves that nothing has panicked in any machine, not even by a fault point.
    ///
    /// # Panics
    ///
    /// When something has.
    pub fn assert_nobody_panicked(&self) {
        let panic = self.panic(Asked::Nothing);
        assert_eq!(panic, None, "a panic inside a machine");
    }

    /// What has panicked and was not asked for, with the machine's name.
    fn panic(&self, asked: Asked) -> Option<String> {
        self.machines.iter().find_map(|machine| {
            let panic = panics::first(&machine.log(), asked)?;
            Some(format!("{}: {panic}", machine.name))
        })
    }

    /// Shows the end of each log, and keeps the folder.
    fn keep(&mut self) {
        for machine in &self.machines {
            eprintln!(
                "--- the end of {}'s log:\n{}",
                machine.name,
                machine.log_tail()
            );
        }
        if let Some(folder) = self.folder.take() {
            eprintln!("--- everything is kept in {}", folder.keep().display());
        }
    }
}

/// Every test of a cluster fails when something in a machine has panicked that no fault point was asked for.
impl Drop for Cluster {
    fn drop(&mut self) {
        let panic = self.panic(Asked::Faults);
        if std::thread::panicking() {
            self.keep();
        } else if panic.is_some() {
            self.keep();
            panic!("a panic inside a machine: {panic:?}");
        }
    }
}
