//! `rmctl log`: what each actor logs.

use clap::{Subcommand, ValueEnum};

use crate::client::Endpoints;
use crate::error::Result;
use crate::output::{Format, grid, print, print_json, print_table};
use crate::proto::{LogLevelsRequest, SetLogLevelRequest};

/// What can be done about logs.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum LogCommand {
    /// Show the level of each actor's log
    Show,
    /// Set the level of one actor's log, until the machine stops
    Set {
        /// The actor's name, or all
        actor: String,
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
/// The first endpoint that cannot be reached or refuses; those before it have been set.
pub(crate) async fn run(endpoints: &Endpoints, format: Format, command: LogCommand) -> Result<()> {
    match command {
        LogCommand::Show => show(endpoints, format).await,
        LogCommand::Set { actor, level } => {
            let actor = if actor == "all" { String::new() } else { actor };
            for endpoint in &endpoints.list {
                let link = endpoints.connect(endpoint).await?;
                let request = SetLogLevelRequest {
                    actor: actor.clone(),
                    level: level.word().to_owned(),
                };
                let answer = link.admin().set_log_level(request).await;
                answer.map_err(link.failed("log set"))?;
            }
            print(b"OK")
        }
    }
}

async fn show(endpoints: &Endpoints, format: Format) -> Result<()> {
    let mut table = grid(["endpoint", "actor", "level"]);
    let mut document = Vec::new();
    for endpoint in &endpoints.list {
        let link = endpoints.connect(endpoint).await?;
        let answer = link.admin().log_levels(LogLevelsRequest {}).await;
        let levels = answer.map_err(link.failed("log show"))?.into_inner().levels;
        for (actor, level) in &levels {
            table.add_row([&endpoint.to_string(), actor, level]);
        }
        document.push(serde_json::json!({ "endpoint": endpoint.to_string(), "levels": levels }));
    }
    match format {
        Format::Json => print_json(&document),
        Format::Table | Format::Text => print_table(table, format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
