//! Three machines of one domain in this process, seen through their ports.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rm_actors::port::{Command, Port, Put, Refusal};
use rm_actors::{Outcome, Running, Start, start};
use rm_config::{Config, Effective, Sink};
use tempfile::TempDir;

use crate::ports::{Port as Claimed, claim};
use crate::solo::{PAUSE, fault, machines};

/// How long any condition may take on a slow, busy host; a planted fault that keeps it from holding is seen within a minute.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The machines, by their places in the list.
pub(crate) struct Trio {
    pub(crate) machines: Vec<Option<Running>>,
    _folder: TempDir,
    _ports: Vec<Claimed>,
}

/// Their ports are for others then, and nobody may dial those any more.
impl Drop for Trio {
    fn drop(&mut self) {
        let running: Vec<_> = self.machines.iter_mut().filter_map(Option::take).collect();
        let stop = join_all(running.into_iter().map(Running::stop));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(stop));
    }
}

impl Trio {
    /// Starts them all, with short timings and faults allowed.
    pub(crate) fn start() -> Trio {
        Trio::start_with(|_, _| ())
    }

    /// The same, with what is changed in the config of the machine at each place.
    pub(crate) fn start_with(change: impl Fn(usize, &mut Config)) -> Trio {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = claim(6);
        let mut config = Config::new("test.domain", machines(&ports));
        config.data_dir = folder.path().join("{name}");
        config.fault_injection = true;
        config.timings.heartbeat_ms = 50;
        config.timings.election_timeout_ms = 1_000;
        // Longer than a busy host holds up any actor.
        config.supervision.hang_ms = 60_000;
        config.supervision.storage_hang_ms = 60_000;
        config.log.sinks = vec![Sink::File {
            path: folder.path().join("{name}.log"),
        }];
        let run = |place: usize| {
            let mut config = config.clone();
            change(place, &mut config);
            let name = config.machines[place].name.clone();
            let config = Effective::new(config, Path::new("test.json"), Some(&name));
            let config = config.expect("a valid config");
            Some(start(config, Start::GoOn).expect("starts"))
        };
        Trio {
            machines: (0..3).map(run).collect(),
            _folder: folder,
            _ports: ports,
        }
    }

    /// Stops a machine.
    pub(crate) async fn stop(&mut self, place: usize) {
        let running = self.machines[place].take().expect("it runs");
        assert_eq!(running.stop().await, Outcome::Stopped);
    }

    pub(crate) fn port(&self, place: usize) -> Port {
        self.machines[place].as_ref().expect("it runs").port()
    }

    pub(crate) fn arm(&self, place: usize, actor: &str, point: &str, action: &str, times: u64) {
        let fault = fault(actor, point, action, times);
        self.port(place).arm_fault(fault).expect("arms");
    }

    /// Waits until a condition holds; it tells what it saw where it does not.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        look: impl Fn(&Trio) -> Result<T, String>,
    ) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            match look(self) {
                Ok(seen) => return seen,
                Err(seen) => assert!(Instant::now() < deadline, "{what}: {seen}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The place of the machine that leads, once all that run say so.
    pub(crate) async fn leader(&self) -> usize {
        self.until("all know who leads", |trio| {
            let running = trio.machines.iter().flatten();
            let views: Vec<_> = running
                .map(|running| (running.port().identity().machine, running.port().report()))
                .map(|(own, report)| (own, report.term, report.leader))
                .collect();
            let (_, term, leader) = views[0];
            let all_say_so = views.iter().all(|view| (view.1, view.2) == (term, leader));
            let place = trio.machines.iter().position(|running| {
                let own = running
                    .as_ref()
                    .map(|running| running.port().identity().machine);
                own.is_some() && own == leader
            });
            place.filter(|_| all_say_so).ok_or(format!("{views:?}"))
        })
        .await
    }

    /// Hands leadership to a machine, whoever has it.
    pub(crate) async fn lead(&self, place: usize) {
        let to = self.port(place).identity().machine;
        let deadline = Instant::now() + SOON;
        loop {
            let leader = self.leader().await;
            if leader == place {
                return;
            }
            let outcome = self.port(leader).transfer(Some(to)).await;
            assert!(Instant::now() < deadline, "it leads: {outcome:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks until it is done.
    pub(crate) async fn until_done<T>(
        &self,
        what: &str,
        ask: impl AsyncFn() -> Result<T, Refusal>,
    ) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            match ask().await {
                Ok(done) => return done,
                Err(refusal) => assert!(Instant::now() < deadline, "{what}: {refusal}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts on a machine until it succeeds, perhaps more than once; the revision.
    pub(crate) async fn put(&self, place: usize, key: &str, value: &str) -> i64 {
        let put = Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Put::default()
        };
        let port = self.port(place);
        let propose = async || port.propose(Command::Put(put.clone())).await;
        self.until_done("it is put", propose).await.revision
    }
}
