//! Loggers: one for each actor, each with a level of its own that may change at any time, all into the same sinks.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rm_config::{LOGGERS, Level, Sink};
use slog::{Drain, Duplicate, Logger, Never, OwnedKVList, Record, o};
use slog_async::{Async, AsyncGuard, OverflowStrategy};

use crate::port::Levels;

/// The most records that wait for a sink that is slow; beyond it records are dropped, and how many is told later.
const RECORDS_MAX: usize = 4_096;

type Sinks = Arc<dyn slog::SendSyncRefUnwindSafeDrain<Ok = (), Err = Never>>;

/// All loggers of a machine.
pub(crate) struct Logs {
    machine: String,
    sinks: Sinks,
    levels: BTreeMap<&'static str, Arc<AtomicUsize>>,
}

/// Keeps the sinks going; dropped, it waits until what was logged is written, but no longer than [`FLUSH_MAX`]: a sink may
/// never come back, as a pipe that nobody reads, and the process must end all the same.
pub(crate) struct Flushing {
    sinks: Vec<AsyncGuard>,
}

/// How long the end of a machine waits for its sinks.
const FLUSH_MAX: Duration = Duration::from_secs(2);

impl Drop for Flushing {
    fn drop(&mut self) {
        let sinks = std::mem::take(&mut self.sinks);
        let (done, flushed) = mpsc::channel();
        let flush = move || {
            drop(sinks);
            // Nobody listens any more when it took too long.
            let _ = done.send(());
        };
        // Where no thread can be had, the sinks are dropped with the closure, unbounded.
        if std::thread::Builder::new()
            .name("flush".into())
            .spawn(flush)
            .is_ok()
        {
            let _ = flushed.recv_timeout(FLUSH_MAX);
        }
    }
}

/// A log file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log file {path} cannot be opened: {source}. Create its folder, or change log.sinks in the config"
)]
pub struct LogFileError {
    path: String,
    source: io::Error,
}

impl Logs {
    /// Opens the sinks.
    ///
    /// # Errors
    /// A log file cannot be opened.
    pub(crate) fn open(
        machine: &str,
        config: &rm_config::Log,
    ) -> Result<(Logs, Flushing), LogFileError> {
        let mut sinks: Sinks = Arc::new(slog::Discard);
        let mut guards = Vec::new();
        for sink in &config.sinks {
            let (sink, guard) = open_sink(sink)?;
            guards.push(guard);
            sinks = Arc::new(Duplicate::new(sink.ignore_res(), sinks).ignore_res());
        }
        let level = |name| config.actors.get(name).copied().unwrap_or(config.level);
        let levels = LOGGERS
            .into_iter()
            .map(|name| (name, Arc::new(AtomicUsize::new(number(level(name))))))
            .collect();
        let logs = Logs {
            machine: machine.to_owned(),
            sinks,
            levels,
        };
        Ok((logs, Flushing { sinks: guards }))
    }

    /// The logger of an actor, or of another part of the machine.
    pub(crate) fn logger(&self, name: &'static str) -> Logger {
        let level = self.levels.get(name).cloned().unwrap_or_default();
        let drain = Leveled {
            level,
            sinks: self.sinks.clone(),
        };
        Logger::root(drain, o!("actor" => format!("{}.{name}", self.machine)))
    }

    /// The present levels.
    pub(crate) fn levels(&self) -> Levels {
        self.levels
            .iter()
            .map(|(name, level)| (name.to_string(), level_of(level.load(Ordering::Relaxed))))
            .collect()
    }

    /// The present level of one actor's log.
    pub(crate) fn level(&self, name: &str) -> Level {
        self.levels
            .get(name)
            .map_or(Level::Off, |level| level_of(level.load(Ordering::Relaxed)))
    }

    /// Sets the level of one log, or of all.
    ///
    /// # Errors
    /// There is no log of that name.
    pub(crate) fn set_level(&self, name: Option<&str>, level: Level) -> Result<(), String> {
        if let Some(name) = name.filter(|name| !self.levels.contains_key(name)) {
            let names = LOGGERS.join(", ");
            return Err(format!("there is no log {name:?}; the logs are {names}"));
        }
        for (each, present) in &self.levels {
            if name.is_none_or(|name| name == *each) {
                present.store(number(level), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// A sink writes on a thread of its own: no actor waits for a terminal that stands still, and none fails because a record
/// cannot be written.
fn open_sink(sink: &Sink) -> Result<(Async, AsyncGuard), LogFileError> {
    Ok(match sink {
        Sink::Terminal => {
            let decorator = slog_term::TermDecorator::new().stderr().build();
            in_background(full_format(decorator))
        }
        Sink::File { path } => {
            let decorator = slog_term::PlainDecorator::new(open_file(path)?);
            in_background(full_format(decorator))
        }
        Sink::Json { path: Some(path) } => {
            in_background(slog_json::Json::default(open_file(path)?))
        }
        Sink::Json { path: None } => in_background(slog_json::Json::default(io::stderr())),
    })
}

fn in_background<D>(drain: D) -> (Async, AsyncGuard)
where
    D: Drain<Err = io::Error, Ok = ()> + Send + 'static,
{
    Async::new(drain.ignore_res())
        .chan_size(RECORDS_MAX)
        .overflow_strategy(OverflowStrategy::DropAndReport)
        .build_with_guard()
}

fn full_format<D: slog_term::Decorator>(decorator: D) -> slog_term::FullFormat<D> {
    slog_term::FullFormat::new(decorator)
        .use_utc_timestamp()
        .build()
}

fn open_file(path: &Path) -> Result<File, LogFileError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| LogFileError {
            path: path.display().to_string(),
            source,
        })
}

/// A drain that lets through what its level allows; a record below it costs one atomic load.
struct Leveled {
    level: Arc<AtomicUsize>,
    sinks: Sinks,
}

impl Drain for Leveled {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.is_enabled(record.level()) {
            self.sinks.log(record, values)?;
        }
        Ok(())
    }

    fn is_enabled(&self, level: slog::Level) -> bool {
        level.as_usize() <= self.level.load(Ordering::Relaxed)
    }
}

/// The config's level as slog counts: zero for off, up to six for trace.
fn number(level: Level) -> usize {
    match level {
        Level::Off => 0,
        Level::Critical => slog::Level::Critical.as_usize(),
        Level::Error => slog::Level::Error.as_usize(),
        Level::Warning => slog::Level::Warning.as_usize(),
        Level::Info => slog::Level::Info.as_usize(),
        Level::Debug => slog::Level::Debug.as_usize(),
        Level::Trace => slog::Level::Trace.as_usize(),
    }
}

fn level_of(number: usize) -> Level {
    match slog::Level::from_usize(number) {
        None => Level::Off,
        Some(slog::Level::Critical) => Level::Critical,
        Some(slog::Level::Error) => Level::Error,
        Some(slog::Level::Warning) => Level::Warning,
        Some(slog::Level::Info) => Level::Info,
        Some(slog::Level::Debug) => Level::Debug,
        Some(slog::Level::Trace) => Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slog::{debug, info, trace};

    fn logs(sinks: Vec<Sink>) -> (Logs, Flushing) {
        let config = rm_config::Log {
            sinks,
            ..rm_config::Log::default()
        };
        Logs::open("RM.01", &config).expect("opens")
    }

    #[test]
    fn one_actor_can_be_switched_to_trace_while_the_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let (logs, flushing) = logs(vec![Sink::File { path: path.clone() }]);
        let (storage, sender) = (logs.logger("storage"), logs.logger("sender"));
        trace!(storage, "before");
        logs.set_level(Some("storage"), Level::Trace).expect("set");
        trace!(storage, "after");
        debug!(sender, "not this");
        info!(sender, "but this");
        drop(flushing);
        let text = std::fs::read_to_string(path).expect("reads");
        assert!(
            !text.contains("before") && !text.contains("not this"),
            "{text}"
        );
        assert!(
            text.contains("after") && text.contains("but this"),
            "{text}"
        );
        assert!(text.contains("RM.01.storage"), "{text}");
    }

    #[test]
    fn each_line_of_a_json_sink_is_a_document_that_names_host_and_actor() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let (logs, flushing) = logs(vec![Sink::Json {
            path: Some(path.clone()),
        }]);
        info!(logs.logger("storage"), "two\nlines and a \"quote\""; "number" => 7);
        info!(logs.logger("sender"), "another");
        drop(flushing);
        let text = std::fs::read_to_string(path).expect("reads");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a document"))
            .collect();
        let told = |key: &str| -> Vec<_> { lines.iter().map(|line| line[key].clone()).collect() };
        assert_eq!(told("actor"), ["RM.01.storage", "RM.01.sender"]);
        assert_eq!(told("msg"), ["two\nlines and a \"quote\"", "another"]);
        assert_eq!(told("level"), ["INFO", "INFO"]);
        assert_eq!(lines[0]["number"], 7);
    }

    #[test]
    fn an_unknown_log_is_answered_with_the_known_ones() {
        let (logs, _flushing) = logs(Vec::new());
        let error = logs.set_level(Some("stroage"), Level::Info).unwrap_err();
        assert!(error.contains("stroage") && error.contains("storage, applier"));
    }

    #[test]
    fn a_sink_that_cannot_be_written_harms_nobody_and_no_other_sink() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let full = || Some("/dev/full".into());
        let (logs, flushing) = logs(vec![
            Sink::File {
                path: "/dev/full".into(),
            },
            Sink::Json { path: full() },
            Sink::File { path: path.clone() },
        ]);
        for number in 0..100 {
            info!(logs.logger("storage"), "still here"; "number" => number);
        }
        drop(flushing);
        let text = std::fs::read_to_string(path).expect("reads");
        assert_eq!(text.matches("still here").count(), 100);
    }
}
