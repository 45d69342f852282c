//! The binary raft-machine: reads a config, starts the machine and its services, and stops them when told.
//!
//! Exit codes: 0 after a stop that was asked for, for data that is sound, and for a machine that was removed from its domain, 1 when the machine cannot start or the data is
//! not sound, 2 for a wrong config or command line, 70 when the supervisor gave up.

mod join;
mod verify;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use rm_actors::{Departure, Era, Outcome, Running, Start};
use rm_api::{Certificates, Listeners};
use rm_config::{Address, Effective};
use rustix::process::{Resource, getrlimit, setrlimit};
use slog::{crit, info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// One machine of a replicated key-value store.
#[derive(Parser)]
#[command(name = "raft-machine", version)]
struct Arguments {
    /// The config file (JSON).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which of the config's machines this is; else the config says it, or the addresses of this host.
    #[arg(long, value_name = "NAME")]
    local: Option<String>,
    /// Join the domain of the config's other machines, which must have admitted this one (`rmctl member add`): with an empty
    /// folder only, else it goes on with its data.
    #[arg(long, conflicts_with_all = ["check", "verify"])]
    join: bool,
    /// Make this machine the only voter of its domain, with all that its log holds: only when the majority is lost for good, and only
    /// on one machine that survived. Works once on a data directory; to do it again, name the era that is to end.
    #[arg(long, value_name = "ERA", num_args = 0..=1, require_equals = true, conflicts_with_all = ["join", "check", "verify"])]
    force_new_domain: Option<Option<Era>>,
    /// Only check the config, and print it with all defaults.
    #[arg(long)]
    check: bool,
    /// Only check every page of the data files, however large, and change nothing. The machine must not run.
    #[arg(long, conflicts_with = "check")]
    verify: bool,
}

/// The supervisor gave up (EX_SOFTWARE of sysexits.h).
const EXIT_GAVE_UP: u8 = 70;

/// Why a machine cannot start, or ends.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long the last words to the standard error may take.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match rm_config::load(&arguments.config, arguments.local.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("{}", config.to_json());
        return ExitCode::SUCCESS;
    }
    if arguments.verify {
        return verify::verify(&config);
    }
    raise_file_limit();
    match run(config, &arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("raft-machine: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each client takes a file descriptor, and the usual soft limit is met long before the limit on connections.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, the limit that there is must do.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn run(config: Effective, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let runtime = service_runtime()?;
    let outcome = runtime.block_on(live(config, arguments));
    // What still blocks a thread, as a start that was given up, holds up no end.
    runtime.shutdown_background();
    Ok(match outcome? {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::GaveUp(reason) => {
            last_words(format!("raft-machine: the supervisor gave up: {reason}"));
            // An actor that hangs would keep the process from ending by itself.
            std::process::exit(EXIT_GAVE_UP.into());
        }
    })
}

/// The machine's life: its start, which a signal ends as well as its service.
async fn live(config: Effective, arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut signals = Signals::listen()?;
    let (running, certificates, listeners) = tokio::select! {
        begun = begin(config, arguments.join, arguments.force_new_domain) => begun?,
        name = signals.told() => {
            // What has begun by then ends with the process, as it would with a crash.
            last_words(format!("raft-machine: told to stop by {name} before it had started"));
            if arguments.force_new_domain.is_some() {
                last_words(
                    "raft-machine: the new domain may have been forced all the same: start without --force-new-domain, and see rmctl info"
                        .to_owned(),
                );
            }
            return Ok(Outcome::Stopped);
        }
    };
    if let Some(forced) = running.forced() {
        eprintln!("raft-machine: {forced}");
    }
    serve(running, certificates, listeners, signals).await
}

/// Opens all that the machine needs, and has its actors begin. Dropped before it is ready, it may leave a thread behind that opens the data.
async fn begin(
    config: Effective,
    join: bool,
    force_new_domain: Option<Option<Era>>,
) -> Result<(Running, Certificates, Listeners), Failure> {
    let opened = tokio::task::spawn_blocking(move || {
        let local = config.local();
        let metrics = local.metrics.as_ref();
        let listeners = Listeners {
            clients: open("client", &local.client)?,
            metrics: metrics
                .map(|address| open("metrics", address))
                .transpose()?,
        };
        let certificates = Certificates::of(&config.config)?;
        let joins = join && rm_actors::is_new(&config)?;
        Ok::<_, Failure>((config, listeners, certificates, joins))
    });
    let (config, listeners, certificates, joins) = opened.await??;
    let how = if joins {
        Start::Join(join::wait_for_admission(&config, &certificates).await?)
    } else {
        force_new_domain.map_or(Start::GoOn, Start::Force)
    };
    let running = tokio::task::spawn_blocking(move || rm_actors::begin(config, how));
    Ok((running.await??, certificates, listeners))
}

/// Opens the port that one of the keys in `machines[]` names.
fn open(key: &str, address: &Address) -> Result<TcpListener, String> {
    let addresses = address.resolve();
    let opened = addresses.and_then(|addresses| TcpListener::bind(&addresses[..]));
    opened.map_err(|error| {
        format!("the {key} port {address} cannot be opened: {error}. Is another program there? Else correct machines[].{key} in the config")
    })
}

/// Says why the process ends, to whoever started it; if nobody reads that, the process ends all the same.
fn last_words(words: String) {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        eprintln!("{words}");
        // Nobody listens any more when it took too long.
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(LAST_WORDS_MAX);
}

/// The runtime of the services. The actors have threads of their own, so on a small host one more is enough.
fn service_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores / 2 {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        many => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(many);
            builder
        }
    };
    builder.thread_name("service").enable_all().build()
}

/// Serves, once all actors have begun, until a signal comes or the supervisor gives up.
async fn serve(
    mut running: Running,
    certificates: Certificates,
    listeners: Listeners,
    mut signals: Signals,
) -> Result<Outcome, Failure> {
    let log = running.logger();
    let told_early = tokio::select! {
        () = running.begun() => None,
        name = signals.told() => Some(name),
    };
    if let Some(name) = told_early {
        info!(log, "told to stop before all actors have begun"; "signal" => name);
        return Ok(running.stop().await);
    }
    let (stop, stopped) = watch::channel(false);
    let services = rm_api::serve(
        running.port(),
        certificates.clone(),
        listeners,
        told(stopped),
    );
    let services = tokio::spawn(services);
    let asking = tokio::spawn(rm_api::learn_of_removal(running.port(), certificates));
    let looking = running.port();
    let looking = tokio::spawn(async move { looking.look_after_alarms().await });
    let removed = running.removed();
    tokio::select! {
        outcome = running.ended() => {
            crit!(log, "the process ends"; "outcome" => ?outcome);
            return Ok(outcome);
        }
        departure = removed => {
            let words = match departure {
                Departure::Certain => "this machine was removed from its domain: a process manager should not start it again",
                Departure::Heard => "the members say that this machine was removed from its domain; its data is kept, and it asks them again \
                    if it is started again",
            };
            crit!(log, "the process ends"; "reason" => words);
            last_words(format!("raft-machine: {words}"));
        }
        name = signals.told() => info!(log, "told to stop"; "signal" => name),
    }
    asking.abort();
    looking.abort();
    running.hand_over().await;
    running.refuse_requests();
    let _ = stop.send(true);
    // Whatever the services did to end, the machine is stopped cleanly first.
    match services.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(log, "the services did not end well"; "error" => %error),
        Err(error) => warn!(log, "the services failed"; "error" => %error),
    }
    Ok(running.stop().await)
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // The sender is dropped only when the process ends.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The signals that tell a machine to stop. From when it listens for them on, they end the process no more by themselves.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for SIGINT or SIGTERM; which it was.
    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
