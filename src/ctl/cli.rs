//! The command line: what can be asked, and which file answers it.

use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime;

use crate::actor::{self, ActorCommand, ActorsFlags, FaultCommand};
use crate::alarm::{self, AlarmCommand};
use crate::bench::{self, Bench};
use crate::client::{Endpoints, User};
use crate::defrag;
use crate::demo::{self, DemoFlags};
use crate::error::{Error, Result};
use crate::info;
use crate::kv::{self, DelFlags, GetFlags, PutFlags};
use crate::log::{self, LogCommand};
use crate::member::{self, MemberCommand};
use crate::migrate::{self, MigrateFlags};
use crate::output::{Format, print};
use crate::snapshot::{self, SnapshotCommand};
use crate::tls::{TlsFlags, Url};
use crate::transfer::{self, TransferFlags};

/// Operates Raft Machine: looks into it, reads and writes its keys, measures it, and breaks it on purpose.
#[derive(Parser, Debug)]
#[command(name = "rmctl", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a request failed
  2  wrong use
  3  a machine that was needed could not be reached, or there was no leader or no answer in time";

/// What every command understands.
#[derive(Args, Debug)]
#[command(next_help_heading = "For every command")]
struct Global {
    /// The machines' client addresses, host:port with commas between them, or https://host:port. Keys are asked of the first that answers;
    /// actors, faults and logs are those of all
    #[arg(
        long,
        global = true,
        env = "RMCTL_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    endpoints: Vec<Url>,
    /// How many seconds connecting may take, and each request
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = bench::seconds)]
    timeout: Duration,
    /// On whose behalf to ask, where the machines ask for permissions
    #[arg(
        long,
        global = true,
        env = "RMCTL_USER",
        hide_env_values = true,
        value_name = "NAME:PASSWORD"
    )]
    user: Option<User>,
    #[command(flatten)]
    tls: TlsFlags,
    /// How answers are printed [default: text for get, put and del, table for the rest]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show every machine of the domain: role, term, leader, indices, size
    #[command(visible_alias = "getinfo")]
    Info,
    /// Read keys
    Get(GetFlags),
    /// Write a key
    Put(PutFlags),
    /// Delete keys
    Del(DelFlags),
    /// Hand leadership to another machine, and wait until it leads
    Transfer(TransferFlags),
    /// Show or change who takes part in the domain
    #[command(subcommand)]
    Member(MemberCommand),
    /// Save the state of a machine in a file, look into such a file, or restore a domain from it
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Move what an etcd holds into a domain, follow it until clients have changed over, and compare the two
    #[command(after_help = migrate::WHAT_IS_NOT_MOVED)]
    Migrate(Box<MigrateFlags>),
    /// Write the states of the machines anew, without the space that compactions have left in them; they go on meanwhile
    Defrag,
    /// Show or disarm the alarms that stand
    #[command(subcommand)]
    Alarm(AlarmCommand),
    /// Show the actors inside the machines
    Actors(ActorsFlags),
    /// Act on one actor
    #[command(subcommand)]
    Actor(ActorCommand),
    /// Make actors fail at chosen points
    #[command(subcommand)]
    Fault(FaultCommand),
    /// Show or set what the actors log
    #[command(subcommand)]
    Log(LogCommand),
    /// Measure throughput and latencies; works against etcd too
    #[command(subcommand)]
    Bench(Bench),
    /// Start three machines on this host and watch them live
    Demo(DemoFlags),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Runs one command.
pub(crate) fn run(cli: Cli) -> Result<()> {
    if cli.global.timeout.is_zero() {
        return Err(Error::Usage(
            "--timeout must be more than 0 seconds".to_owned(),
        ));
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("cannot start"))?;
    let result = runtime.block_on(dispatch(cli));
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn dispatch(cli: Cli) -> Result<()> {
    let dialler = cli.global.tls.dialler(&cli.global.endpoints)?;
    let urls = cli.global.endpoints.into_iter();
    let endpoints = Endpoints {
        list: urls.map(|url| url.endpoint).collect(),
        timeout: cli.global.timeout,
        user: cli.global.user,
        dialler,
    };
    let or = |default| cli.global.output.unwrap_or(default);
    match cli.command {
        Command::Info => info::run(&endpoints, or(Format::Table)).await,
        Command::Get(flags) => kv::get(&endpoints, or(Format::Text), flags).await,
        Command::Put(flags) => kv::put(&endpoints, or(Format::Text), flags).await,
        Command::Del(flags) => kv::del(&endpoints, or(Format::Text), flags).await,
        Command::Transfer(flags) => transfer::run(&endpoints, flags).await,
        Command::Member(command) => member::run(&endpoints, or(Format::Table), command).await,
        Command::Snapshot(command) => snapshot::run(&endpoints, or(Format::Table), command).await,
        Command::Migrate(flags) => migrate::run(&endpoints, or(Format::Table), *flags).await,
        Command::Defrag => defrag::run(&endpoints).await,
        Command::Alarm(command) => alarm::run(&endpoints, or(Format::Table), command).await,
        Command::Actors(flags) => actor::actors(&endpoints, or(Format::Table), flags).await,
        Command::Actor(command) => actor::run(&endpoints, command).await,
        Command::Fault(command) => actor::fault(&endpoints, command).await,
        Command::Log(command) => log::run(&endpoints, or(Format::Table), command).await,
        Command::Bench(bench) => bench::run(&endpoints, or(Format::Table), bench).await,
        Command::Demo(flags) => demo::run(flags).await,
        Command::Completions { shell } => {
            // Into memory first: clap_complete panics where the reader has gone.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rmctl", &mut script);
            print(&script)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn endpoints_are_separated_by_commas() {
        let cli = Cli::try_parse_from(["rmctl", "info", "--endpoints", "a:1,http://b:2"]);
        assert_eq!(cli.expect("a command").global.endpoints.len(), 2);
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        for arguments in [
            &["rmctl", "get", "k", "--prefix", "--from-key"][..],
            &["rmctl", "bench", "put", "--total", "1", "--seconds", "1"],
            &["rmctl", "info", "--endpoints", "nowhere"],
            &["rmctl", "actor", "kill", "timer", "--how", "magic"],
        ] {
            let error = Cli::try_parse_from(arguments).expect_err("wrong use");
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
