//! Starts a machine and stops it.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rm_config::Effective;
use rm_jwt::Key;
use rm_raft::{MachineId, Role, TransferOutcome};
use rm_store::{DataDirectory, Era, Neighbour, OpenError, SoundFile};
use slog::{Logger, info, warn};
use tokio::sync::oneshot;

use crate::board::Board;
use crate::fault::Faults;
use crate::forced::Forced;
use crate::forcing::Force;
use crate::guard::install_panic_hook;
use crate::logs::{Flushing, Logs};
use crate::machine::{Clock, Shared};
use crate::members::Members;
use crate::message::Retire;
use crate::participation::Departure;
use crate::port::{Identity, Member, Port, Refusal};
use crate::replies::Replies;
use crate::resources::{Resources, StartError};
use crate::roster::Slots;
use crate::supervisor::{Event, Outcome, Supervisor};
use crate::tokens::Tokens;
use crate::watcher::Backlog;

/// A machine that runs.
pub struct Running {
    shared: Arc<Shared>,
    port: Port,
    forced: Option<Forced>,
    log: Logger,
    events: mpsc::Sender<Event>,
    supervisor: JoinHandle<Outcome>,
    ended: oneshot::Receiver<Outcome>,
    /// Told once all actors have begun; none from then on.
    beginning: Option<oneshot::Receiver<()>>,
    /// Last, so that all that the others log is written.
    _flushing: Flushing,
}

/// What a machine is told that is to join a domain: the number by which it was admitted, and who the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its number.
    pub machine: MachineId,
    /// All members, itself among them.
    pub members: Vec<Neighbour>,
    /// The era that the domain is in.
    pub era: Era,
}

/// How a machine starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With data it goes on; with an empty folder it begins the domain with the machines of the config.
    #[default]
    GoOn,
    /// With an empty folder it joins the domain that admitted it; with data it goes on.
    Join(Admission),
    /// It becomes the only voter of its domain, whatever the others have. Where this was done on its data before, the era that is to
    /// end must be named; else it goes on.
    Force(Option<Era>),
}

/// Whether the folder of a machine has no data yet.
///
/// # Errors
/// What is there cannot be read.
pub fn is_new(config: &Effective) -> Result<bool, OpenError> {
    DataDirectory::is_new(config.data_dir())
}

/// Starts a machine, and waits until each of its actors has begun, however often one fails to before.
///
/// # Errors
/// As [`begin`].
pub fn start(config: Effective, how: Start) -> Result<Running, StartError> {
    let mut running = begin(config, how)?;
    futures::executor::block_on(running.begun());
    Ok(running)
}

/// Begins to start a machine: what it needs is open, and its actors are on their way. Nobody is to be let in before [`Running::begun`].
///
/// # Errors
/// [`StartError`] says what cannot be opened and what to do.
pub fn begin(config: Effective, how: Start) -> Result<Running, StartError> {
    let (admission, force) = match how {
        Start::GoOn => (None, None),
        Start::Join(admission) => (Some(admission), None),
        Start::Force(era) => (None, Some(Force { era })),
    };
    let asked = owner(&config, admission);
    let (logs, flushing) = Logs::open(&asked.machine, &config.config.log)?;
    let log = logs.logger("machine");
    // Before there are data that it could not serve.
    let key = config.config.auth.jwt.as_ref().map(Key::load).transpose()?;
    let (resources, members, forced) = Resources::open(&config, &asked, force, &log)?;
    let owner = resources.owner();
    let identity = Identity {
        cluster_id: config.cluster_id(),
        era: resources.era,
        domain: owner.domain,
        machine: owner.id,
        name: owner.machine,
    };
    warn_of_other_addresses(&log, &config, &identity, &members);
    install_panic_hook();
    info!(log, "a machine starts"; "domain" => &identity.domain, "machine" => identity.machine.0,
        "era" => %identity.era, "machines" => members.len(), "boot" => resources.boot);
    let found = resources.log.load()?;
    let tokens = Tokens::new(key, &config.config.auth, found.last);
    let replies = Replies::new(&config.config.limits);
    let backlog = Backlog::new(config.config.watch.queues_bytes_max);
    let shared = Arc::new(Shared {
        config,
        identity,
        clock: Clock::new(),
        slots: Slots::default(),
        board: Board::new(),
        faults: Faults::default(),
        logs,
        resources,
        members: Members::new(members),
        tokens,
        replies,
        backlog,
        departure: tokio::sync::watch::Sender::new(None),
    });
    let (events, inbox) = mpsc::channel();
    let (end, ended) = oneshot::channel();
    let (all_begun, beginning) = oneshot::channel();
    let supervisor = Supervisor::new(shared.clone(), inbox, events.clone(), all_begun);
    let supervisor = std::thread::Builder::new()
        .name("supervisor".into())
        .spawn(move || {
            // The actors' threads belong to a system; it has nothing to do but to be there.
            let _system = actix_rt::System::new();
            let outcome = supervisor.run();
            // Nobody listens when the process is on its way out.
            let _ = end.send(outcome.clone());
            outcome
        })
        .map_err(StartError::Thread)?;
    Ok(Running {
        port: Port::new(shared.clone()),
        forced,
        shared,
        log,
        events,
        supervisor,
        ended,
        beginning: Some(beginning),
        _flushing: flushing,
    })
}

/// Checks every page of the data files of a machine that does not run, however large they are, and changes nothing: a
/// result for each file.
///
/// # Errors
/// The folder is not this machine's, or is in use.
pub fn verify(config: &Effective) -> Result<Vec<Result<SoundFile, OpenError>>, OpenError> {
    DataDirectory::verify(config.data_dir(), &owner(config, None))
}

impl Running {
    /// The door for those who serve clients.
    pub fn port(&self) -> Port {
        self.port.clone()
    }

    /// What became of the wish to begin the domain anew, where it started with that ([`Start::Force`]).
    pub fn forced(&self) -> Option<&Forced> {
        self.forced.as_ref()
    }

    /// The logger for the process itself.
    pub fn logger(&self) -> Logger {
        self.log.clone()
    }

    /// Waits until each actor has begun, however often one fails to before: who is let in earlier would be told that a part of the machine
    /// was restarted. Nothing is lost if the future is dropped before it is ready.
    pub async fn begun(&mut self) {
        if let Some(beginning) = &mut self.beginning {
            // An error says that the supervisor has given up: `Running::ended` tells why.
            let _ = beginning.await;
            self.beginning = None;
        }
    }

    /// Waits until the supervisor gives up; for ever, if it never does.
    pub async fn ended(&mut self) -> Outcome {
        match (&mut self.ended).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::GaveUp("the supervisor failed".into()),
        }
    }

    /// Waits until this machine learns that it takes part no more, and tells how; for ever, if it goes on taking part.
    pub fn removed(&self) -> impl Future<Output = Departure> + use<> {
        let mut departure = self.shared.departure.subscribe();
        async move {
            match departure.wait_for(Option::is_some).await.map(|it| *it) {
                Ok(Some(departure)) => departure,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }

    /// Hands leadership over if this machine leads, and waits for that: without it the others would wait an election timeout
    /// for a leader that is gone (dissertation 3.10). The core decides within an election timeout; a LogicCenter that does
    /// not answer is left behind after two.
    pub async fn hand_over(&self) {
        let alone = self.shared.members.present().len() == 1;
        if alone || self.shared.board.raft().role != Role::Leader {
            return;
        }
        let timeout_ms = self.shared.config.config.timings.election_timeout_ms;
        let patience = Duration::from_millis(2 * timeout_ms);
        let transferred = tokio::time::timeout(patience, self.port.transfer(None)).await;
        match transferred.unwrap_or(Err(Refusal::TimedOut)) {
            Ok((to, TransferOutcome::Done)) => {
                let to = to.map(|id| self.shared.name_of(id));
                info!(self.log, "leadership is handed over"; "to" => to);
            }
            Ok((_, outcome)) => {
                warn!(self.log, "leadership could not be handed over"; "outcome" => ?outcome);
            }
            Err(error) => {
                warn!(self.log, "leadership could not be handed over"; "error" => %error);
            }
        }
    }

    /// Refuses what comes from now on. What is under way goes on until [`Running::stop`].
    pub fn refuse_requests(&self) {
        self.shared.board.post_stopping();
    }

    /// Stops the machine: writes the state down, says farewell to the peers, ends every actor. Takes no longer than the
    /// config allows; what is left then is cut off, which a warning says and which loses nothing that was acknowledged: the
    /// log is durable, and the next start applies what the state lacks.
    pub async fn stop(self) -> Outcome {
        self.refuse_requests();
        let timeout = Duration::from_millis(self.shared.config.config.timings.shutdown_timeout_ms);
        if tokio::time::timeout(timeout, self.retire()).await.is_err() {
            warn_of_cut(&self.log, timeout);
            return Outcome::Stopped;
        }
        let _ = self.events.send(Event::Stop);
        let supervisor = self.supervisor;
        let joined = tokio::task::spawn_blocking(move || supervisor.join());
        let outcome = match tokio::time::timeout(timeout, joined).await {
            Ok(Ok(Ok(outcome))) => outcome,
            Ok(_) => Outcome::GaveUp("the supervisor failed".into()),
            Err(_) => {
                warn_of_cut(&self.log, timeout);
                return Outcome::Stopped;
            }
        };
        info!(self.log, "stopped"; "outcome" => ?outcome);
        outcome
    }

    /// Lets those actors finish that have something to finish, one after the other.
    async fn retire(&self) {
        let slots = &self.shared.slots;
        let (done, storage) = oneshot::channel();
        slots.storage.tell(Retire(done));
        // An actor that dies on the way has nothing left to finish.
        let _ = storage.await;
        let (done, applier) = oneshot::channel();
        slots.applier.tell(Retire(done));
        let _ = applier.await;
        let (done, sender) = oneshot::channel();
        slots.sender.tell(Retire(done));
        let _ = sender.await;
        let (done, listener) = oneshot::channel();
        slots.listener.tell(Retire(done));
        let _ = listener.await;
    }
}

fn warn_of_cut(log: &Logger, timeout: Duration) {
    warn!(log, "the machine did not finish in time and is cut off"; "timeout_ms" => timeout.as_millis() as u64);
}

/// Whose a folder without data becomes.
fn owner(config: &Effective, admission: Option<Admission>) -> rm_store::Identity {
    let name = config.local().name.clone();
    let founder = MachineId(config.machine_id(&name));
    let admitted = admission.as_ref().map(|admission| admission.machine);
    let era = admission.as_ref().map(|admission| admission.era);
    rm_store::Identity {
        domain: config.config.domain.clone(),
        machine: name,
        id: admitted.unwrap_or(founder),
        joined: admission.map(|admission| admission.members),
        era: era.unwrap_or(Era::FIRST),
    }
}

/// The file's own address is where this machine listens; where the others look for it, the members tell.
fn warn_of_other_addresses(
    log: &Logger,
    config: &Effective,
    identity: &Identity,
    members: &[Member],
) {
    let here = config.local();
    let told = members.iter().find(|each| each.machine == identity.machine);
    let Some(told) = told else { return };
    let (peer, client) = (here.peer.to_string(), here.client.to_string());
    if (&told.peer, &told.client) != (&peer, &client) {
        warn!(log, "the domain knows this machine by other addresses than its config: run `rmctl member update`";
            "name" => &identity.name, "peer" => peer, "client" => client, "known_peer" => &told.peer, "known_client" => &told.client);
    }
}
