//! What the system tells of this process, under the names that every Prometheus client has for it.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::web::exposition::Page;

/// What of `/proc/self/stat` is told, behind the name of the program (proc(5); the third field is the first here).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// Writes what can be told. It reads files of the system, which may take a while: not for a thread that serves.
///
/// `started` is when the process began, in seconds since 1970.
pub(super) fn write(page: &mut Page, started: u64) {
    page.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970.",
    )
    .is(started);
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        let count = files.count();
        page.gauge("process_open_fds", "Open file descriptors.")
            .is(count);
        page.gauge("os_fd_used", "The same, by etcd's name.")
            .is(count);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        page.gauge("process_max_fds", "How many file descriptors may be open.")
            .is(limit);
        page.gauge("os_fd_limit", "The same, by etcd's name.")
            .is(limit);
    }
    page.gauge(
        "process_virtual_memory_max_bytes",
        "How much memory may be mapped.",
    )
    .is(getrlimit(Resource::As).current.unwrap_or(u64::MAX));
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
        return;
    };
    let numbers = numbers(&stat);
    let at = |place: usize| numbers.get(place).copied().unwrap_or_default();
    let ticks = at(USER_TICKS) + at(SYSTEM_TICKS);
    page.counter(
        "process_cpu_seconds_total",
        "Time of processors that was used, by the program and for it.",
    )
    .is(ticks as f64 / clock_ticks_per_second() as f64);
    page.gauge("process_threads", "Threads.").is(at(THREADS));
    page.gauge("process_virtual_memory_bytes", "Memory that is mapped.")
        .is(at(VIRTUAL_BYTES));
    page.gauge("process_resident_memory_bytes", "Memory that is taken up.")
        .is(at(RESIDENT_PAGES) * page_size() as u64);
}

/// The fields behind the name of the program, which may hold blanks and brackets itself; what is no number counts as zero.
fn numbers(stat: &str) -> Vec<u64> {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let fields = behind.split_ascii_whitespace();
    fields.map(|field| field.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_counted_from_behind_the_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 5 0 0 0 11 12 0 0 20 0 9 0 77 1000 3 4";
        let numbers = numbers(stat);
        assert_eq!((numbers[USER_TICKS], numbers[SYSTEM_TICKS]), (11, 12));
        assert_eq!(numbers[THREADS], 9);
        assert_eq!(
            (numbers[VIRTUAL_BYTES], numbers[RESIDENT_PAGES]),
            (1_000, 3)
        );
    }
}
