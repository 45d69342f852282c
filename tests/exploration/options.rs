//! What the program `explore` is asked on its command line.

use std::time::Duration;

use super::bounds::Bounds;

/// How to ask.
pub const HELP: &str = "\
Explores all that three Raft cores can do within bounds, and checks the properties of Raft in every state.

    explore [--bounds NAME] [--depth N] [--minutes M] [--mutant NAME]

--bounds  small, elections, votes, figure-8 or large (default: large)
--depth   the most steps from the start (default: no limit)
--minutes the most time, about (default: no limit)
--mutant  plant a fault of tests/mutants first; then something must be found
Exit codes: 0 nothing found, 1 a property is broken (its trace is printed), 2 wrong usage or no build";

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How far to go.
    pub bounds: Bounds,
    /// The most steps from the start.
    pub depth: usize,
    /// The most time.
    pub patience: Duration,
    /// The fault to plant.
    pub mutant: Option<String>,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            bounds: Bounds::named("large").expect("it is one of them"),
            depth: usize::MAX,
            patience: Duration::from_secs(u32::MAX.into()),
            mutant: None,
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} has no value", pair[0]));
            };
            let wrong = || format!("{name} {value} cannot be understood");
            match name.as_str() {
                "--bounds" => options.bounds = Bounds::named(value).ok_or_else(wrong)?,
                "--depth" => options.depth = value.parse().map_err(|_| wrong())?,
                "--minutes" => {
                    let minutes: f64 = value.parse().map_err(|_| wrong())?;
                    options.patience =
                        Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| wrong())?;
                }
                "--mutant" => options.mutant = Some(value.clone()),
                _ => return Err(format!("{name} is no option")),
            }
        }
        Ok(options)
    }
}
