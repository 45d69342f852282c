//! `rmctl snapshot`: the state of a machine as a file: saved, looked into, and made into the data of a new domain.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rm_backup::{Anew, MachineId, NewDomain, Restored, Saved, Summary, restore};
use rm_config::Effective;
use serde::Serialize;

use crate::client::Endpoints;
use crate::error::{Error, Result};
use crate::output::{Format, grid, human_bytes, print, print_json, print_table};
use crate::snapshot_save;

/// What can be done with snapshots.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum SnapshotCommand {
    /// Save the state of the first machine that answers, with all that was acknowledged there before
    Save {
        /// The file, which is replaced as a whole once all of it is durable
        file: PathBuf,
    },
    /// Check a saved snapshot, and show what is in it
    Status {
        /// The file
        file: PathBuf,
    },
    /// Make the data directory of one machine of a new domain of a saved snapshot. Run it on each host, with the same file and the same
    /// options; then start the machines
    Restore(RestoreFlags),
}

/// What a restoration may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct RestoreFlags {
    /// The file
    file: PathBuf,
    /// The machines' config, which lists those that the domain begins with
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which of them this is; else the config says it, or the addresses of this host
    #[arg(long, value_name = "NAME")]
    local: Option<String>,
    /// Where to make the data directory: empty, or not there [default: the config's data_dir]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Raise the revision by so much, more than was written since the snapshot was saved, so that no client meets a revision a second
    /// time with other content
    #[arg(long, value_name = "REVISIONS", default_value_t = 0, requires = "mark_compacted", value_parser = clap::value_parser!(i64).range(0..))]
    bump_revision: i64,
    /// Compact at the raised revision, so that watches from before are told to begin anew
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// A word that tells this restoration from others of the same file: machines of different ones refuse each other
    #[arg(long, value_name = "WORD", default_value = "")]
    token: String,
}

/// Does one of them.
pub(crate) async fn run(
    endpoints: &Endpoints,
    format: Format,
    command: SnapshotCommand,
) -> Result<()> {
    match command {
        SnapshotCommand::Save { file } => {
            let bytes = snapshot_save::save(endpoints, &file).await?;
            let text = format!("saved {} in {}", human_bytes(bytes), file.display());
            print(text.as_bytes())
        }
        SnapshotCommand::Status { file } => status(&file, format),
        SnapshotCommand::Restore(flags) => restore_machine(&flags),
    }
}

/// A bar that shows how much of so many bytes is done, where somebody looks.
pub(crate) fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    const SHAPE: &str = "{msg:9} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(SHAPE).expect("the template is well-formed");
    ProgressBar::new(bytes).with_message(what).with_style(style)
}

/// What is printed about a file.
#[derive(Serialize)]
struct Status {
    file: String,
    bytes: u64,
    sha256: String,
    hash: u32,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    changes: u64,
    applied_index: u64,
    applied_term: u64,
}

impl Status {
    fn new(saved: &Saved, summary: Summary) -> Status {
        Status {
            file: saved.path().display().to_string(),
            bytes: saved.state_bytes(),
            sha256: saved.digest().to_string(),
            hash: summary.hash,
            revision: summary.revision,
            compact_revision: summary.compact_revision,
            keys: summary.keys,
            changes: summary.changes,
            applied_index: summary.applied.index.0,
            applied_term: summary.applied.term.0,
        }
    }
}

fn status(file: &Path, format: Format) -> Result<()> {
    let saved = Saved::open(file)?;
    let checking = bar("checking", saved.state_bytes());
    saved.check(&|bytes| checking.set_position(bytes))?;
    checking.finish_and_clear();
    let reading = ProgressBar::new_spinner().with_message("reading");
    let summary = saved.summary(&|changes| reading.set_position(changes))?;
    reading.finish_and_clear();
    let status = Status::new(&saved, summary);
    if format == Format::Json {
        return print_json(&status);
    }
    let mut table = grid([]);
    for (name, value) in [
        ("file", status.file),
        (
            "size",
            format!("{} ({} bytes)", human_bytes(status.bytes), status.bytes),
        ),
        ("sha256", status.sha256),
        ("hash", format!("{:08x}", status.hash)),
        ("revision", status.revision.to_string()),
        ("compacted", status.compact_revision.to_string()),
        ("keys", status.keys.to_string()),
        ("changes", status.changes.to_string()),
        (
            "applied",
            format!(
                "index {} of term {}",
                status.applied_index, status.applied_term
            ),
        ),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    print_table(table, format)
}

fn restore_machine(flags: &RestoreFlags) -> Result<()> {
    let config = rm_config::load(&flags.config, flags.local.as_deref())
        .map_err(|error| Error::Usage(error.to_string()))?;
    let saved = Saved::open(&flags.file)?;
    let folder = flags.data_dir.as_deref().unwrap_or(config.data_dir());
    let machines = config.config.machines.iter();
    let name = &config.local().name;
    let new = NewDomain {
        domain: &config.config.domain,
        machines: machines.map(|machine| machine.name.as_str()).collect(),
        machine: name,
        id: MachineId(config.machine_id(name)),
        token: &flags.token,
        anew: Anew {
            raise_revision: flags.bump_revision,
            compact: flags.mark_compacted,
        },
    };
    let restoring = bar("restoring", saved.state_bytes());
    let restored = restore(&saved, &new, folder, &|bytes| restoring.set_position(bytes));
    restoring.finish_and_clear();
    print(told(&config, folder, &restored?).as_bytes())
}

/// What was done, and what is to be done next.
fn told(config: &Effective, folder: &Path, restored: &Restored) -> String {
    let Effective {
        config: all, path, ..
    } = config;
    let name = &config.local().name;
    let Restored {
        applied,
        revision,
        era,
    } = restored;
    let mut text = format!(
        "{name} of {} is restored in {}: revision {revision}, behind the entry {applied}, era {era}\n",
        all.domain,
        folder.display()
    );
    let others = config.neighbours();
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
        text.push_str(&format!(
            "Restore {} from the same file with the same options too: they must show the same era. ",
            names.join(", ")
        ));
    }
    if folder != config.data_dir() {
        text.push_str(&format!(
            "Move the folder to {}. ",
            config.data_dir().display()
        ));
    }
    text.push_str(&format!(
        "Then start it: raft-machine --config {} --local {name}",
        path.display()
    ));
    text
}
