//! The machine of these tests: a domain of its own, seen through its port.

use std::path::Path;
use std::time::{Duration, Instant};

use rm_actors::port::{Command, Consistency, Fault, Put, Query, Range, ReplyBody};
use rm_actors::{Running, Start, start};
use rm_config::{Address, Config, Effective, Machine, Sink};
use tempfile::TempDir;

use crate::ports::{Port, claim};

/// How long any condition may take on a slow, busy host.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before a condition is looked at again, or whoever refused is asked again.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// A domain of one machine in a folder of its own, with short timings and faults allowed.
pub(crate) struct Solo {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    _ports: Vec<Port>,
}

impl Solo {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Solo {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = claim(2);
        let machines = machines(&ports);
        let mut config = Config::new("test.domain", machines);
        config.data_dir = folder.path().join("data");
        config.fault_injection = true;
        config.timings.heartbeat_ms = 10;
        config.timings.election_timeout_ms = 100;
        config.supervision.hang_ms = 500;
        // Longer than any disk stalls that has not failed.
        config.supervision.storage_hang_ms = 60_000;
        config.log.sinks = vec![Sink::File {
            path: folder.path().join("log"),
        }];
        change(&mut config);
        let config = Effective::new(config, Path::new("test.json"), None).expect("a valid config");
        let solo = Solo {
            running: start(config, Start::GoOn).expect("starts"),
            folder,
            _ports: ports,
        };
        assert!(solo.all_run(), "let in before all actors have begun");
        solo
    }

    /// What is logged so far; all of it once the machine was stopped.
    pub(crate) fn log(folder: &TempDir) -> String {
        std::fs::read_to_string(folder.path().join("log")).expect("the config has a file sink")
    }

    pub(crate) fn arm(&self, actor: &str, point: &str, action: &str, times: u64) {
        let fault = fault(actor, point, action, times);
        self.running.port().arm_fault(fault).expect("arms");
    }

    pub(crate) fn failures(&self) -> u64 {
        let actors = self.running.port().actors();
        actors.iter().map(|actor| actor.failures).sum()
    }

    pub(crate) fn incarnations(&self) -> Vec<u64> {
        let actors = self.running.port().actors();
        actors.iter().map(|actor| actor.incarnation).collect()
    }

    pub(crate) fn all_run(&self) -> bool {
        let actors = self.running.port().actors();
        actors.iter().all(|actor| actor.state == "running")
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Solo) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: {:#?}",
                self.running.port().actors()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts until it succeeds: an actor that dies with a request is answered with an error that says so.
    pub(crate) async fn put(&self, key: &str, value: &str) {
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
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Option<String> {
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

/// Machines that have two of these ports each.
pub(crate) fn machines(ports: &[Port]) -> Vec<Machine> {
    let pairs = ports.chunks(2).zip(1..);
    let machine = |(pair, number): (&[Port], usize)| Machine {
        name: format!("RM.{number:02}"),
        peer: address(&pair[0]),
        client: address(&pair[1]),
        metrics: None,
        priority: 0,
    };
    pairs.map(machine).collect()
}

pub(crate) fn address(port: &Port) -> Address {
    port.address.to_string().parse().expect("an address")
}

pub(crate) fn fault(actor: &str, point: &str, action: &str, times: u64) -> Fault {
    Fault {
        actor: actor.into(),
        point: point.into(),
        action: action.into(),
        times,
    }
}

/// Lets each group fail as often as a test likes, with hardly a pause.
pub(crate) fn endure(config: &mut Config) {
    for group in [
        &mut config.supervision.brain,
        &mut config.supervision.net,
        &mut config.supervision.front,
    ] {
        group.intensity = 1_000;
        group.backoff_max_ms = 2;
    }
}
