//! The config as the machine uses it: read, judged, its blanks filled in, and the local machine known.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{ConfigError, Problem, did_you_mean};
use crate::interfaces::find_local;
use crate::parse::{Parsed, parse};
use crate::schema::{Config, Machine, Sink};
use crate::{certificates, identity, rules};

/// The largest file that is read as a config; ten thousand machines need a tenth of it.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A config without a fault, `{name}` replaced in its paths, `local` filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The config.
    pub config: Config,
    /// The file it was read from.
    pub path: PathBuf,
    /// The place of the local machine in the list, from 0.
    place: usize,
}

/// Reads a config file, judges all of it, and finds the local machine.
///
/// The local machine is the one that the argument names, or else the file, or else the one whose peer address is an
/// address of this host; a peer's name is resolved only in the last case.
///
/// # Errors
/// Everything that is wrong, each with its key and its remedy.
pub fn load(path: &Path, local: Option<&str>) -> Result<Effective, ConfigError> {
    let fail = |problems| ConfigError::new(path, problems);
    let text = read(path).map_err(|problem| fail(vec![problem]))?;
    let Parsed { config, problems } = parse(&text).map_err(|problem| fail(vec![problem]))?;
    judge(config, path, local, problems)
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let cannot = |error| {
        let remedy = "give --config the path of a config that this user can read";
        Problem::new("", format!("cannot be read ({error}): {remedy}"))
    };
    let file = File::open(path).map_err(cannot)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let text =
            format!("is larger than {FILE_BYTES_MAX} bytes: give --config the path of a config");
        return Err(Problem::new("", text));
    }
    Ok(text)
}

/// Judges what could be read; the problems of reading come first.
fn judge(
    mut config: Config,
    path: &Path,
    local: Option<&str>,
    unreadable: Vec<Problem>,
) -> Result<Effective, ConfigError> {
    let mut problems = rules::check(&config);
    let mut place = None;
    if machines_are_readable(&unreadable) && !config.machines.is_empty() {
        match find(&config, local) {
            Ok(found) => {
                fill_in(&mut config, found);
                problems.extend(certificates::check_local(&config, found));
                place = Some(found);
            }
            Err(problem) => problems.push(problem),
        }
    }
    // What stands in for an unreadable part must not be judged.
    problems.retain(|problem| !unreadable.iter().any(|other| other.covers(&problem.key)));
    problems.splice(0..0, unreadable);
    match place {
        Some(place) if problems.is_empty() => Ok(Effective {
            config,
            path: path.to_owned(),
            place,
        }),
        _ => Err(ConfigError::new(path, problems)),
    }
}

/// Whether the local machine can be looked for.
fn machines_are_readable(unreadable: &[Problem]) -> bool {
    let concerns =
        |problem: &Problem| problem.covers("local") || problem.key.starts_with("machines");
    !unreadable.iter().any(concerns)
}

fn find(config: &Config, local: Option<&str>) -> Result<usize, Problem> {
    let (key, name) = match (local, &config.local) {
        (Some(name), _) => ("--local", name),
        (None, Some(name)) => ("local", name.as_str()),
        (None, None) => return find_local(&config.machines),
    };
    let names = || config.machines.iter().map(|machine| machine.name.as_str());
    names().position(|other| other == name).ok_or_else(|| {
        let hint = did_you_mean(name, names());
        let listed = names().collect::<Vec<_>>().join(", ");
        let text = format!(
            "is {name:?}, which is not in the list of machines{hint}: write one of {listed}"
        );
        Problem::new(key, text)
    })
}

/// Names the local machine, and puts its name in the place of `{name}` in every path.
fn fill_in(config: &mut Config, place: usize) {
    let name = config.machines[place].name.clone();
    let replace = |path: &mut PathBuf| {
        if let Some(text) = path.to_str() {
            *path = PathBuf::from(text.replace("{name}", &name));
        }
    };
    replace(&mut config.data_dir);
    config.timings.disk_patience_ms = Some(config.timings.disk_patience_ms());
    for sink in &mut config.log.sinks {
        match sink {
            Sink::File { path } | Sink::Json { path: Some(path) } => replace(path),
            Sink::Terminal | Sink::Json { path: None } => {}
        }
    }
    certificates::each_file(config).for_each(|(_, path)| replace(path));
    config.local = Some(name);
}

impl Effective {
    /// Judges a config that is not in a file; the path only appears in errors.
    ///
    /// # Errors
    /// Everything that is wrong, as from [`load`].
    pub fn new(config: Config, path: &Path, local: Option<&str>) -> Result<Self, ConfigError> {
        judge(config, path, local, Vec::new())
    }

    /// The machine that this is.
    pub fn local(&self) -> &Machine {
        &self.config.machines[self.place]
    }

    /// The other machines of the domain, as the file orders them.
    pub fn neighbours(&self) -> Vec<&Machine> {
        let machines = self.config.machines.iter().enumerate();
        machines
            .filter(|(place, _)| *place != self.place)
            .map(|(_, machine)| machine)
            .collect()
    }

    /// The local machine's place in the list, from 1.
    pub fn number(&self) -> usize {
        self.place + 1
    }

    /// The number by which Raft knows a machine of this domain; never zero, and unique in a config.
    pub fn machine_id(&self, name: &str) -> u64 {
        identity::machine_id(&self.config.domain, name)
    }

    /// The number of the domain; never zero.
    pub fn cluster_id(&self) -> u64 {
        identity::cluster_id(&self.config.domain)
    }

    /// Where the local machine keeps its data; a relative path starts at the working directory.
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// The whole config as JSON for people, every default written out.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.config)
            .expect("a config has only text keys and UTF-8 paths")
    }
}
