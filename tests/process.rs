//! What Linux tells of a process: the memory that it takes, and what it has used of the processors and of the disk (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::Signal;

/// A process, by its number; it may have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u32);

impl Process {
    /// The bytes of memory that are its own: without the pages of files that it has mapped, which the operating system takes back when
    /// it wants.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn anonymous_bytes(self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    /// The most memory that it has taken since it began, or since [`Process::forget_peak`], in bytes, with the pages of files that it
    /// has mapped.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn peak_bytes(self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// From now on its peak is what it takes from now on.
    ///
    /// # Panics
    ///
    /// When it has ended, or is another user's.
    pub fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5")
            .unwrap_or_else(|error| panic!("the peak of process {}: {error}", self.0));
    }

    /// Whether a signal does not end it, but is told to it.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn catches(self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))
            .unwrap_or_else(|error| panic!("the signals of process {}: {error}", self.0));
        let (_, rest) = status.split_once("SigCgt:").expect("Linux tells it");
        let caught = rest.split_whitespace().next().unwrap_or_default();
        let caught = u64::from_str_radix(caught, 16).expect("a number to the base 16");
        caught >> (signal.as_raw() - 1) & 1 == 1
    }

    fn status_bytes(self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))
            .unwrap_or_else(|error| panic!("the memory of process {}: {error}", self.0));
        number_after(&status, key).expect("Linux tells it in KiB") << 10
    }

    /// What it has used since it began; none of a process that has ended.
    pub fn used(self) -> Option<Used> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.0)).ok()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // Behind the name, which may hold any character, the state is the first field; utime and stime are the fields 14 and 15.
        let fields = stat.rsplit(") ").next()?.split_whitespace().skip(11);
        let ticks: Option<u64> = fields.take(2).map(|it| it.parse::<u64>().ok()).sum();
        let micros = ticks? * 1_000_000 / clock_ticks_per_second();
        Some(Used {
            processor: Duration::from_micros(micros),
            disk_bytes: number_after(&io, "\nwrite_bytes:")?,
        })
    }
}

/// The number behind a word.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// The time of processors, of all of them together. Linux tells it in hundredths of a second.
    pub processor: Duration,
    /// The bytes that it has had written to files on a disk.
    pub disk_bytes: u64,
}

impl Used {
    fn since(self, before: Used) -> Used {
        Used {
            processor: self.processor.saturating_sub(before.processor),
            disk_bytes: self.disk_bytes.saturating_sub(before.disk_bytes),
        }
    }
}

impl Add for Used {
    type Output = Used;

    fn add(self, other: Used) -> Used {
        Used {
            processor: self.processor + other.processor,
            disk_bytes: self.disk_bytes + other.disk_bytes,
        }
    }
}

/// The machines that run, each with the folder of its cluster: a test binary has several clusters at the same time.
static MACHINES: Mutex<Vec<(PathBuf, Process)>> = Mutex::new(Vec::new());

fn machines() -> MutexGuard<'static, Vec<(PathBuf, Process)>> {
    MACHINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine of the cluster in this folder runs from now on.
pub(crate) fn note_start(cluster: &Path, process: Process) {
    machines().push((cluster.to_owned(), process));
}

/// A machine has ended.
pub(crate) fn note_end(process: Process) {
    machines().retain(|&(_, it)| it != process);
}

/// What each machine of a cluster that runs has used by a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading(BTreeMap<Process, Used>);

impl Reading {
    /// That of this moment, of the cluster in this folder.
    pub(crate) fn now(cluster: &Path) -> Reading {
        let machines = machines().clone().into_iter();
        let of_it = machines.filter(|(folder, _)| folder == cluster);
        let used = of_it.filter_map(|(_, it)| Some((it, it.used()?)));
        Reading(used.collect())
    }

    /// What all of them have used since an earlier one. What one has used that has ended meanwhile is not known.
    pub(crate) fn since(&self, before: &Reading) -> Used {
        let used = self.0.iter().map(|(process, now)| {
            let before = before.0.get(process).copied().unwrap_or_default();
            now.since(before)
        });
        used.fold(Used::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::id;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_peak_that_is_forgotten_is_that_of_what_follows() {
        const BYTES: usize = 256 << 20;
        let process = Process(id());
        let taken = vec![1_u8; BYTES];
        let most = process.peak_bytes();
        assert!(most > BYTES as u64, "{most} bytes");
        drop(taken);
        process.forget_peak();
        let (peak, own) = (process.peak_bytes(), process.anonymous_bytes());
        assert!(peak < most - BYTES as u64 / 2, "{peak} after {most} bytes");
        assert!(own <= peak, "{own} of {peak} bytes");
    }

    #[test]
    fn what_is_used_is_what_was_computed_and_written() {
        let process = Process(id());
        let before = process.used().expect("it runs");
        let bytes = vec![1_u8; 1 << 20];
        // On a disk, which a folder for temporary files need not be.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let mut file = fs::File::create(folder.path().join("written")).expect("a file");
        file.write_all(&bytes).expect("there is space");
        let began = Instant::now();
        let used = || process.used().expect("it runs").since(before);
        while used().processor.is_zero() {
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", used());
        }
        assert!(used().disk_bytes >= bytes.len() as u64, "{:?}", used());
        assert_eq!(Process(u32::MAX).used(), None);
    }

    #[test]
    fn a_cluster_is_charged_with_its_own_machines() {
        let [ours, theirs] = ["ours", "theirs"].map(Path::new);
        note_start(ours, Process(id()));
        assert!(Reading::now(ours).0.contains_key(&Process(id())));
        assert!(Reading::now(theirs).0.is_empty());
        note_end(Process(id()));
        assert!(Reading::now(ours).0.is_empty());
    }

    #[test]
    fn machines_that_came_and_went_are_no_matter() {
        let used = |ms, disk_bytes| Used {
            processor: Duration::from_millis(ms),
            disk_bytes,
        };
        let before = Reading([(Process(1), used(50, 7)), (Process(2), used(900, 9))].into());
        let now = Reading([(Process(1), used(70, 10)), (Process(3), used(10, 1))].into());
        assert_eq!(now.since(&before), used(30, 4));
    }
}
