//! Three machines of one domain in this process, seen through their ports.

use std::path::Path;
use std::time::{Duration, Instant};

use rm_actors::port::{Command, Port, Put, Refusal};
use rm_actors::{Outcome, Running, Start, StartError, start};
use rm_config::{Config, Effective, Machine, Sink};
use tempfile::TempDir;

use crate::solo::{fault, free_tcp_port, free_udp_port};

/// How long any condition may take on a slow, busy host; a planted fault that keeps it from holding is seen within a minute.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The machines, by their places in the list.
pub(crate) struct Trio {
    pub(crate) machines: Vec<Option<Running>>,
    _folder: TempDir,
}

impl Trio {
    /// Starts them all, with short timings and faults allowed.
    pub(crate) fn start() -> Trio {
        Trio::start_with(|_, _| ())
    }

    /// The same, with what is changed in the config of the machine at each place.
    pub(crate) fn start_with(change: impl Fn(usize, &mut Config)) -> Trio {
        loop {
            match Trio::try_start(&change) {
                // Somebody else has taken it since it was found to be free.
                Err(StartError::PeerPort { .. }) => {}
                started => return started.expect("starts"),
            }
        }
    }

    fn try_start(change: &impl Fn(usize, &mut Config)) -> Result<Trio, StartError> {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = |number: usize| Machine {
            name: format!("RM.{number:02}"),
            peer: free_udp_port(),
            client: free_tcp_port(),
            metrics: None,
            priority: 0,
        };
        let mut config = Config::new("test.domain", (1..=3).map(machine).collect());
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
            start(config.expect("a valid config"), Start::GoOn).map(Some)
        };
        Ok(Trio {
            machines: (0..3).map(run).collect::<Result<_, _>>()?,
            _folder: folder,
        })
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
            tokio::time::sleep(Duration::from_millis(2)).await;
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
