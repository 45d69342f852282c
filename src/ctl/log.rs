//! `rmctl log`: what each part of a machine logs, its actors above all.

use std::collections::BTreeMap;

use clap::{Subcommand, ValueEnum};
use comfy_table::Table;
use serde_json::{Value, json};

use crate::client::Endpoints;
use crate::error::Result;
use crate::everywhere::Everywhere;
use crate::output::{Format, grid, print_json, print_table};
use crate::proto::{LogLevelsRequest, SetLogLevelRequest};

/// What can be done about logs.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum LogCommand {
    /// Show the level of each log: the actors' and those of the machine, its supervisor and its services
    Show,
    /// Set the level of one log, until the machine stops
    Set {
        /// The log's name, as `rmctl log show` shows it, or all
        log: String,
        /// The least grave records that are wanted
        #[arg(value_enum)]
        level: Level,
    },
}

/// How grave a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Off,
    Critical,
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The word that the machine knows it by.
    fn word(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Critical => "critical",
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// Shows levels, or sets one on every endpoint.
///
/// # Errors
/// Any endpoint that cannot be reached or refuses; the others are shown or set all the same.
pub(crate) async fn run(endpoints: &Endpoints, format: Format, command: LogCommand) -> Result<()> {
    match command {
        LogCommand::Show => show(endpoints, format).await,
        LogCommand::Set { log, level } => {
            let request = &SetLogLevelRequest {
                actor: if log == "all" { String::new() } else { log },
                level: level.word().to_owned(),
            };
            let told = Everywhere::ask("log set", endpoints, |endpoint| async move {
                let link = endpoints.connect(endpoint).await?;
                let answer = link.admin().set_log_level(request.clone()).await;
                answer.map(drop).map_err(link.failed("log set"))
            });
            told.await.done()
        }
    }
}

async fn show(endpoints: &Endpoints, format: Format) -> Result<()> {
    let found = collect(endpoints).await;
    if found.is_silent() {
        return found.verdict();
    }
    match format {
        Format::Json => print_json(&document(&found))?,
        Format::Table | Format::Text => print_table(table(&found), format)?,
    }
    found.verdict()
}

/// The level of each log, by its name, at each endpoint.
async fn collect(endpoints: &Endpoints) -> Everywhere<BTreeMap<String, String>> {
    let asked = Everywhere::ask("log show", endpoints, |endpoint| async move {
        let link = endpoints.connect(endpoint).await?;
        let answer = link.admin().log_levels(LogLevelsRequest {}).await;
        Ok(answer.map_err(link.failed("log show"))?.into_inner().levels)
    });
    asked.await
}

fn table(found: &Everywhere<BTreeMap<String, String>>) -> Table {
    let mut table = grid(["endpoint", "log", "level"]);
    for (endpoint, answer) in &found.answers {
        let endpoint = endpoint.to_string();
        match answer {
            Ok(levels) => {
                for (name, level) in levels {
                    table.add_row([&endpoint, name, level]);
                }
            }
            Err(error) => {
                table.add_row([endpoint, String::new(), error.reason()]);
            }
        }
    }
    table
}

fn document(found: &Everywhere<BTreeMap<String, String>>) -> Value {
    let rows = found.answers.iter().map(|(endpoint, answer)| match answer {
        Ok(levels) => json!({ "endpoint": endpoint.to_string(), "levels": levels }),
        Err(error) => json!({ "endpoint": endpoint.to_string(), "error": error.reason() }),
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_machine_that_is_down_is_a_row_and_holds_up_no_other() {
        let fake = Fake::start();
        let endpoints = Endpoints::plain(
            vec![Fake::absent(), fake.endpoint()],
            Duration::from_secs(5),
        );
        let found = collect(&endpoints).await;
        let shown = table(&found).to_string();
        assert!(
            shown.contains("not reached") && shown.contains("timer"),
            "{shown}"
        );
        let rows = document(&found);
        assert!(rows[0]["error"].is_string());
        assert_eq!(rows[1]["levels"]["timer"], "info");

        let command = LogCommand::Set {
            log: "all".to_owned(),
            level: Level::Debug,
        };
        let error = run(&endpoints, Format::Text, command).await;
        assert_eq!(error.expect_err("one is down").exit_code(), 3);
        assert_eq!(fake.levels_set(), [(String::new(), "debug".to_owned())]);
    }

    #[test]
    fn the_words_for_levels_are_those_of_the_command_line_and_of_the_config() {
        for level in Level::value_variants() {
            let typed = level.to_possible_value().expect("a value");
            assert_eq!(typed.get_name(), level.word());
            let config = serde_json::from_value::<rm_config::Level>(level.word().into());
            assert!(config.is_ok(), "{level:?}");
        }
    }
}
