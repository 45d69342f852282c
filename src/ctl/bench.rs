//! `rmctl bench`: puts or gets from many clients at once, and how many and how fast they were.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::client::{Endpoint, Endpoints};
use crate::error::{Error, Result};
use crate::load::{self, End, Plan, Progress};
use crate::output::{Format, print_json, print_table};
use crate::proto::StatusRequest;
use crate::statistics::Summary;
use crate::workload::{KEYS_MAX, Order, Workload};

/// The clients that fill the key space for `bench get --fill`.
const FILLING_CLIENTS: usize = 64;

/// What is measured.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Bench {
    /// Puts of values of one size
    Put {
        #[command(flatten)]
        load: LoadFlags,
        /// Bytes of each value
        #[arg(long, default_value_t = 256)]
        size: usize,
    },
    /// Gets of one key each
    Get {
        #[command(flatten)]
        load: LoadFlags,
        /// Ask the machine itself, without asking the others whether it is up to date
        #[arg(long)]
        serializable: bool,
        /// Write the whole key space first, with values of this many bytes
        #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "256")]
        fill: Option<usize>,
    },
}

/// How the load is made.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadFlags {
    /// Concurrent requests
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    clients: u32,
    /// Connections that they share, spread over the endpoints [default: one for each endpoint]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: Option<u32>,
    /// Different keys: bench/0000000000, bench/0000000001 and so on
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    keys: u64,
    /// In which order keys are used
    #[arg(long, value_enum, default_value_t = Order::Random)]
    order: Order,
    /// What random keys are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End after so many requests
    #[arg(long, conflicts_with = "seconds")]
    total: Option<u64>,
    /// End after so long [default: 10]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Load for so many seconds before anything is measured
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    warmup: Duration,
    /// Send everything to the leader, which `Maintenance.Status` names
    #[arg(long)]
    target_leader: bool,
    /// Threads of the load generator; one can keep three machines busy
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
}

/// The longest time that a flag takes: a day, so that no sum of two of them is beyond the clock.
const FLAG_SECONDS_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads a number of seconds, with a fraction or without, up to a day.
pub(crate) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if duration <= FLAG_SECONDS_MAX => Ok(duration),
        Err(_) if number.is_nan() || number < 0.0 => {
            Err("not a length of time: write 0 or more".to_owned())
        }
        _ => Err(format!(
            "more than a day: write {} or less",
            FLAG_SECONDS_MAX.as_secs()
        )),
    }
}

/// Runs the benchmark and prints what it measured.
///
/// # Errors
/// No machine within reach, no leader where one is asked for, or any request that failed; the figures are printed first.
pub(crate) async fn run(endpoints: &Endpoints, format: Format, bench: Bench) -> Result<()> {
    let (what, flags, workload) = match &bench {
        Bench::Put { load, size } => {
            let workload = Workload::put(*size, load.keys, load.order, load.seed);
            ("put", load, workload)
        }
        Bench::Get {
            load, serializable, ..
        } => {
            let workload = Workload::get(load.keys, load.order, load.seed, *serializable);
            ("get", load, workload)
        }
    };
    let targets = if flags.target_leader {
        vec![leader(endpoints).await?]
    } else {
        endpoints.list.clone()
    };
    let plan = Plan {
        dialler: endpoints.dialler.clone(),
        ..flags.plan(targets, workload, endpoints.timeout)
    };
    if let Bench::Get {
        fill: Some(size), ..
    } = bench
    {
        fill(&plan, size, flags)?;
    }
    let outcome = watched(&plan, what)?;
    let report = Report {
        what,
        clients: flags.clients,
        connections: plan.connections,
        keys: flags.keys,
        endpoints: plan.endpoints.iter().map(Endpoint::to_string).collect(),
        summary: outcome,
    };
    match format {
        Format::Json => print_json(&report)?,
        Format::Table | Format::Text => print_table(report.summary.table(), format)?,
    }
    failures(report.summary)
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Report {
    what: &'static str,
    clients: u32,
    connections: usize,
    keys: u64,
    endpoints: Vec<String>,
    #[serde(flatten)]
    summary: Summary,
}

impl LoadFlags {
    fn plan(&self, endpoints: Vec<Endpoint>, workload: Workload, timeout: Duration) -> Plan {
        let clients = self.clients as usize;
        let connections = self
            .connections
            .map_or(endpoints.len(), |asked| asked as usize);
        Plan {
            connections: connections.max(self.threads as usize).min(clients),
            endpoints,
            dialler: None,
            workload,
            clients,
            threads: self.threads as usize,
            warmup: self.warmup,
            end: match (self.total, self.seconds) {
                (Some(total), _) => End::After(total),
                (None, Some(duration)) => End::At(duration),
                (None, None) => End::At(Duration::from_secs(10)),
            },
            timeout,
        }
    }
}

/// Writes every key once.
fn fill(plan: &Plan, value_bytes: usize, flags: &LoadFlags) -> Result<()> {
    let filling = Plan {
        workload: Workload::put(value_bytes, flags.keys, Order::Sequential, flags.seed),
        clients: FILLING_CLIENTS,
        warmup: Duration::ZERO,
        end: End::After(flags.keys),
        ..plan.clone()
    };
    failures(watched(&filling, "fill")?)
}

/// Runs a load with a progress bar on standard error, where that is a terminal.
fn watched(plan: &Plan, what: &'static str) -> Result<Summary> {
    let (length, style) = match plan.end {
        End::After(total) => (total, "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} "),
        End::At(duration) => (millis(duration), "{msg} {wide_bar} {elapsed}/{prefix} "),
    };
    let bar = ProgressBar::new(length)
        .with_message(what)
        .with_prefix(format!(
            "{}s",
            (plan.warmup + plan.end.duration()).as_secs()
        ))
        .with_style(
            ProgressStyle::with_template(style).expect("a template of ours is well formed"),
        );
    let outcome = load::run(plan, |progress: &Progress| match plan.end {
        End::After(_) => bar.set_position(progress.finished()),
        End::At(_) => {
            bar.set_position(millis(bar.elapsed().saturating_sub(plan.warmup)));
            bar.set_message(format!("{what} {}", progress.finished()));
        }
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    Ok(outcome.tally.summary(outcome.elapsed))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error where any request failed.
fn failures(summary: Summary) -> Result<()> {
    match summary.first_failure {
        None => Ok(()),
        Some(first) => Err(Error::Bench {
            failed: summary.failed,
            total: summary.failed + summary.requests,
            first,
        }),
    }
}

/// The endpoint of the machine that leads.
async fn leader(endpoints: &Endpoints) -> Result<Endpoint> {
    let mut last = None;
    for endpoint in &endpoints.list {
        let link = match endpoints.connect(endpoint).await {
            Ok(link) => link,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let status = link.maintenance().status(StatusRequest {}).await;
        let status = status
            .map_err(link.failed("asking for the leader"))?
            .into_inner();
        let member = status.header.map_or(0, |header| header.member_id);
        if member != 0 && member == status.leader {
            return Ok(endpoint.clone());
        }
    }
    Err(last.unwrap_or_else(|| {
        Error::Usage(
            "none of the endpoints leads: name those of all machines with --endpoints".to_owned(),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_but_no_sign() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("-1").is_err());
        assert!(seconds("soon").is_err());
    }

    #[test]
    fn seconds_are_a_day_at_most() {
        assert_eq!(seconds("86400"), Ok(FLAG_SECONDS_MAX));
        for text in ["86400.1", "1e19", "1e300", "inf"] {
            let error = seconds(text).expect_err("longer than a day");
            assert_eq!(error, "more than a day: write 86400 or less", "{text}");
        }
        let error = seconds("NaN").expect_err("no length of time");
        assert!(error.contains("write 0 or more"));
    }
}
