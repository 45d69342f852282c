//! `rmctl actors`, `actor` and `fault`: the actors inside the machines, and how to make them fail.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use serde_json::{Value, json};

use crate::bench::seconds;
use crate::client::{Endpoint, Endpoints};
use crate::error::Result;
use crate::everywhere::Everywhere;
use crate::output::{Format, grid, print, print_json, print_table, right_align};
use crate::proto::{Actor, ActorsRequest, ArmFaultRequest, KillActorRequest};

/// What `actors` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ActorsFlags {
    /// Show them again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// The pause between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    every: Duration,
}

/// What can be done to one actor.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ActorCommand {
    /// Make an actor fail on each endpoint; the config must allow fault injection
    Kill {
        /// The actor's name, as `rmctl actors` shows it
        name: String,
        /// How it fails
        #[arg(long, value_enum, default_value_t = How::Panic)]
        how: How,
    },
}

/// How an actor fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// It panics in a handler
    Panic,
    /// It stops
    Stop,
    /// It never comes back from a handler; ends the process where the actor is storage or applier
    Hang,
}

impl How {
    /// The word that the machine knows it by.
    fn word(self) -> &'static str {
        match self {
            How::Panic => "panic",
            How::Stop => "stop",
            How::Hang => "hang",
        }
    }
}

/// What can be done about fault points.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum FaultCommand {
    /// Let something go wrong at a point of an actor, on each endpoint; the config must allow fault injection
    Arm {
        /// The actor's name
        actor: String,
        /// Where: handler, started, future, transaction, commit, checkpoint, send, copy, send_snapshot, receive, received,
        /// prepare, install, installed or history
        point: String,
        /// What: panic, stop, hang, delay:MS, io_error, no_space or lose
        action: String,
        /// How many times
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        times: u64,
    },
    /// Let nothing more go wrong at a point
    Disarm {
        /// The actor's name
        actor: String,
        /// The point's name
        point: String,
    },
}

/// Shows the actors of each endpoint.
///
/// # Errors
/// Any endpoint that gives no answer; the others are shown first, and beside them why it is missing. While it watches,
/// only when none answers.
pub(crate) async fn actors(
    endpoints: &Endpoints,
    format: Format,
    flags: ActorsFlags,
) -> Result<()> {
    loop {
        let found = collect(endpoints).await;
        if found.is_silent() {
            return found.verdict();
        }
        match format {
            Format::Json => print_json(&document(&found))?,
            Format::Table | Format::Text => {
                if flags.watch && io::stdout().is_terminal() {
                    // Home, and clear what is below: the table is drawn over the one before.
                    print(b"\x1b[H\x1b[J")?;
                }
                print_table(table(&found), format)?;
            }
        }
        if !flags.watch {
            return found.verdict();
        }
        tokio::time::sleep(flags.every).await;
    }
}

/// Makes an actor fail on each endpoint.
///
/// # Errors
/// Any endpoint that cannot be reached or refuses; the others were told all the same.
pub(crate) async fn run(endpoints: &Endpoints, command: ActorCommand) -> Result<()> {
    let ActorCommand::Kill { name, how } = command;
    let told = Everywhere::ask("actor kill", endpoints, |endpoint| {
        kill(endpoints, endpoint, &name, how)
    });
    told.await.done()
}

/// Arms or disarms a fault point on each endpoint.
///
/// # Errors
/// Any endpoint that cannot be reached or refuses; the others were told all the same.
pub(crate) async fn fault(endpoints: &Endpoints, command: FaultCommand) -> Result<()> {
    let request = match command {
        FaultCommand::Arm {
            actor,
            point,
            action,
            times,
        } => ArmFaultRequest {
            actor,
            point,
            action,
            times,
        },
        FaultCommand::Disarm { actor, point } => ArmFaultRequest {
            actor,
            point,
            // Whatever was armed there goes; the request must name one all the same.
            action: How::Panic.word().to_owned(),
            times: 0,
        },
    };
    let request = &request;
    let told = Everywhere::ask("fault", endpoints, |endpoint| async move {
        let link = endpoints.connect(endpoint).await?;
        let answer = link.admin().arm_fault(request.clone()).await;
        answer.map(drop).map_err(link.failed("fault"))
    });
    told.await.done()
}

/// The actors of each endpoint.
async fn collect(endpoints: &Endpoints) -> Everywhere<Vec<Actor>> {
    Everywhere::ask("actors", endpoints, |endpoint| ask(endpoints, endpoint)).await
}

/// The actors of one machine.
pub(crate) async fn ask(endpoints: &Endpoints, endpoint: &Endpoint) -> Result<Vec<Actor>> {
    let link = endpoints.connect(endpoint).await?;
    let answer = link.admin().actors(ActorsRequest {}).await;
    Ok(answer.map_err(link.failed("actors"))?.into_inner().actors)
}

/// Makes an actor of one machine fail.
pub(crate) async fn kill(
    endpoints: &Endpoints,
    endpoint: &Endpoint,
    name: &str,
    how: How,
) -> Result<()> {
    let link = endpoints.connect(endpoint).await?;
    let request = KillActorRequest {
        actor: name.to_owned(),
        how: how.word().to_owned(),
    };
    let answer = link.admin().kill_actor(request).await;
    answer.map(drop).map_err(link.failed("actor kill"))
}

fn table(found: &Everywhere<Vec<Actor>>) -> Table {
    let mut table = grid([
        "endpoint",
        "group",
        "actor",
        "state",
        "incarnation",
        "restarts",
        "failures",
        "last failure",
        "recovery",
        "mailbox",
        "handled",
        "log",
    ]);
    for (endpoint, answer) in &found.answers {
        let actors = match answer {
            Ok(actors) => actors,
            Err(error) => {
                let endpoint = endpoint.to_string();
                table.add_row([endpoint, String::new(), String::new(), error.reason()]);
                continue;
            }
        };
        for actor in actors {
            table.add_row([
                endpoint.to_string(),
                actor.group.clone(),
                actor.name.clone(),
                actor.state.clone(),
                actor.incarnation.to_string(),
                actor.restarts.to_string(),
                actor.failures.to_string(),
                actor.last_failure.clone(),
                actor.recovery_us.map(recovery).unwrap_or_default(),
                actor.mailbox.to_string(),
                actor.handled.to_string(),
                actor.level.clone(),
            ]);
        }
    }
    right_align(&mut table, &[4, 5, 6, 8, 9, 10]);
    table
}

/// From a failure to the first message handled after it, for people.
pub(crate) fn recovery(microseconds: u64) -> String {
    if microseconds < 1000 {
        format!("{microseconds} us")
    } else {
        format!("{:.1} ms", microseconds as f64 / 1000.0)
    }
}

fn document(found: &Everywhere<Vec<Actor>>) -> Value {
    let rows = found.answers.iter().map(|(endpoint, answer)| match answer {
        Ok(actors) => {
            let actors: Vec<_> = actors.iter().map(actor_json).collect();
            json!({ "endpoint": endpoint.to_string(), "actors": actors })
        }
        Err(error) => json!({ "endpoint": endpoint.to_string(), "error": error.reason() }),
    });
    rows.collect()
}

fn actor_json(actor: &Actor) -> Value {
    let last_failure = Some(&actor.last_failure).filter(|text| !text.is_empty());
    json!({
        "group": actor.group,
        "name": actor.name,
        "state": actor.state,
        "incarnation": actor.incarnation,
        "restarts": actor.restarts,
        "failures": actor.failures,
        "last_failure": last_failure,
        "recovery_us": actor.recovery_us,
        "mailbox": actor.mailbox,
        "handled": actor.handled,
        "level": actor.level,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn at(fakes: &[&Fake]) -> Endpoints {
        Endpoints::plain(
            fakes.iter().map(|fake| fake.endpoint()).collect(),
            Duration::from_secs(5),
        )
    }

    #[tokio::test]
    async fn a_kill_reaches_every_endpoint() {
        let (one, two) = (Fake::start(), Fake::start());
        let command = ActorCommand::Kill {
            name: "timer".to_owned(),
            how: How::Hang,
        };
        run(&at(&[&one, &two]), command).await.expect("a kill");
        for fake in [&one, &two] {
            assert_eq!(fake.killed(), [("timer".to_owned(), "hang".to_owned())]);
        }
    }

    #[tokio::test]
    async fn actors_show_what_failed_and_how_soon_they_were_back() {
        let fake = Fake::start();
        let found = collect(&at(&[&fake])).await;
        let shown = table(&found).to_string();
        assert!(
            shown.contains("1.5 ms") && shown.contains("struck"),
            "{shown}"
        );
        assert_eq!(document(&found)[0]["actors"][0]["recovery_us"], 1500);
    }

    #[tokio::test]
    async fn a_machine_that_is_down_holds_up_no_other() {
        let fake = Fake::start();
        let mut endpoints = at(&[&fake]);
        endpoints.list.insert(0, Fake::absent());
        let command = ActorCommand::Kill {
            name: "timer".to_owned(),
            how: How::Panic,
        };
        let error = run(&endpoints, command).await.expect_err("one is down");
        assert_eq!(error.exit_code(), 3);
        assert_eq!(fake.killed().len(), 1);

        let found = collect(&endpoints).await;
        let shown = table(&found).to_string();
        assert!(
            shown.contains("not reached") && shown.contains("struck"),
            "{shown}"
        );
        let rows = document(&found);
        assert!(rows[0]["error"].is_string() && rows[1]["actors"].is_array());
        let error = found.verdict().expect_err("one is down");
        assert_eq!(error.exit_code(), 3);
    }

    #[tokio::test]
    async fn a_refused_fault_says_why() {
        let fake = Fake::start();
        let command = FaultCommand::Disarm {
            actor: "timer".to_owned(),
            point: "handler".to_owned(),
        };
        let error = fault(&at(&[&fake]), command).await.expect_err("a refusal");
        assert!(error.to_string().contains("fault injection is off"));
        assert_eq!(error.exit_code(), 1);
    }
}
