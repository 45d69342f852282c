//! The clients of the comparison with etcd that hold streams: many watchers of one prefix, or many leases kept alive, over some hundred
//! connections, spread over the machines. Run by `tests/versus/crowd`, which says by a line on standard input when the load is to begin,
//! once this has said `ready` by a line on standard output. The figures are a line of JSON there, after all that was to be told has come.
//!
//! Exit code 1, and the reason on standard error, when anything was lost, told twice, told out of order, or refused.

mod leases;
mod watchers;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tonic::transport::{Channel, Endpoint};

/// Many clients that hold streams.
#[derive(Parser)]
struct Options {
    /// The machines' client ports, `host:port`, with commas between.
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// Connections, in turn to each machine.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Streams of each connection.
    #[arg(long, default_value_t = 4)]
    streams: usize,
    /// How long the load lasts.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Watchers of one prefix, who are all told of every put.
    Watchers(watchers::Options),
    /// Leases that are kept alive.
    Leases(leases::Options),
}

/// What makes a run void.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let figures = match &options.load {
        Load::Watchers(load) => watchers::run(&options, load).await,
        Load::Leases(load) => leases::run(&options, load).await,
    };
    match figures {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("crowd: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Connections, in turn to each machine.
async fn connect(options: &Options) -> Result<Vec<Channel>, Failure> {
    let mut channels = Vec::with_capacity(options.connections);
    for (_, address) in (0..options.connections).zip(options.endpoints.iter().cycle()) {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        channels.push(endpoint.connect().await?);
    }
    Ok(channels)
}

/// How many of `count` things the part of this number has, of so many parts.
fn share(count: usize, parts: usize, number: usize) -> usize {
    count * (number + 1) / parts - count * number / parts
}

/// Says that all is prepared, and waits to be told to begin.
async fn await_begin() -> Result<(), Failure> {
    let told = tokio::task::spawn_blocking(|| {
        println!("ready");
        std::io::stdout().flush()?;
        std::io::stdin().lock().read_line(&mut String::new())
    });
    told.await??;
    Ok(())
}
