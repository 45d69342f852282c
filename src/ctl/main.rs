//! rmctl: what an operator asks of Raft Machine, and what a newcomer tries it with.
//!
//! Exit codes: 0 done, 1 a request failed, 2 wrong use, 3 a machine that was needed could
//! not be reached, or there was no leader in time.

mod actor;
mod alarm;
mod bench;
mod cli;
mod client;
mod cluster;
mod defrag;
mod demo;
mod error;
mod everywhere;
#[cfg(test)]
mod fake;
mod http2;
mod info;
mod kv;
mod load;
mod log;
mod member;
mod migrate;
mod neighbour;
mod observer;
mod output;
mod pairs;
mod proto;
mod random;
mod range;
mod screen;
mod snapshot;
mod snapshot_save;
mod statistics;
mod tls;
mod transfer;
mod wish;
mod workload;
mod writer;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done when standard error is closed too.
            let _ = writeln!(std::io::stderr(), "rmctl: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
