//! The real etcd, as the measure: three members of it beside our machines, and the real `etcdctl` against both.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use tempfile::TempDir;

use crate::machine::die_with_the_test;
use crate::memory::folder_in_memory;
use crate::ports::{Port, claim};
use crate::wait::until_within;

/// How long etcd may take until it is healthy: on a busy host it has elections in vain first, of seconds each.
pub(crate) const ETCD_PATIENCE: Duration = Duration::from_secs(120);

/// Three members of etcd, with the names of our machines.
#[derive(Debug)]
pub struct Etcd {
    /// Where clients reach each member.
    pub endpoints: Vec<String>,
    members: Vec<Child>,
    _folder: TempDir,
    _ports: Vec<Port>,
}

impl Etcd {
    /// Starts the members, and waits until each is healthy.
    ///
    /// # Panics
    ///
    /// When etcd is not installed, or does not become healthy in time.
    pub async fn start() -> Self {
        Etcd::start_with(&[]).await
    }

    /// The same, with these arguments for each member.
    ///
    /// # Panics
    ///
    /// As [`Etcd::start`].
    pub async fn start_with(arguments: &[String]) -> Self {
        let folder = folder_in_memory("raft-machine-etcd-");
        let ports = claim(6);
        let (clients, peers) = ports.split_at(3);
        let name = |number: usize| format!("RM.{:02}", number + 1);
        let cluster: Vec<String> = (0..3)
            .map(|number| format!("{}=http://{}", name(number), peers[number].address))
            .collect();
        let members = (0..3).map(|number| {
            let client = format!("http://{}", clients[number].address);
            let peer = format!("http://{}", peers[number].address);
            let log = File::create(folder.path().join(name(number) + ".log"));
            let mut command = Command::new("etcd");
            command
                .args(["--name", &name(number), "--data-dir", &name(number)])
                .args(["--listen-client-urls", &client])
                .args(["--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer])
                .args(["--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &cluster.join(",")])
                .args(arguments)
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .stderr(log.expect("the folder can be written"));
            die_with_the_test(&mut command);
            command.spawn().unwrap_or_else(|error| {
                panic!("etcd cannot be run: {error}; install it (Debian: etcd-server)")
            })
        });
        let etcd = Etcd {
            members: members.collect(),
            endpoints: clients
                .iter()
                .map(|port| port.address.to_string())
                .collect(),
            _folder: folder,
            _ports: ports,
        };
        let endpoints = etcd.endpoints.join(",");
        until_within(ETCD_PATIENCE, "etcd is healthy", async || {
            let output = etcdctl(&endpoints, "simple", &["endpoint", "health"], "");
            match output.status.success() {
                true => Ok(()),
                false => Err(text(&output)),
            }
        })
        .await;
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended by itself; either way nothing of it is left.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Runs etcd's own client.
///
/// # Panics
///
/// When it is not installed.
pub fn etcdctl(endpoints: &str, format: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoints, "--write-out", format])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("etcdctl cannot be run: {error}; install it (Debian: etcd-client)")
        });
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all(input.as_bytes())
        .expect("etcdctl reads its input");
    drop(stdin);
    child.wait_with_output().expect("a child can be waited for")
}

/// Runs a command of etcd's own client that does not end by itself, until it has printed a text; all that it has printed.
///
/// # Panics
///
/// When it is not installed, or ends first.
pub fn etcdctl_until(endpoints: &str, format: &str, arguments: &[&str], last: &str) -> String {
    let mut command = Command::new("etcdctl");
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoints, "--write-out", format])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    die_with_the_test(&mut command);
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("etcdctl cannot be run: {error}; install it (Debian: etcd-client)")
    });
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut printed = Vec::new();
    let mut piece = [0; 4096];
    let (text, is_done) = loop {
        let count = stdout.read(&mut piece).expect("a pipe can be read");
        printed.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&printed).into_owned();
        let is_done = text.contains(last) && text.ends_with('\n');
        if is_done || count == 0 {
            break (text, is_done);
        }
    };
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().expect("a child can be waited for");
    assert!(is_done, "etcdctl ended after {text:?}");
    text
}

/// All that a run of etcdctl printed.
pub fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// What two clusters cannot have in common, by pattern, with what stands for it.
static PARTICULAR: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r#""ts":"[^"]*""#, "WHEN"),
        (r"client-[0-9a-f-]{36}", "CLIENT"),
        (r"[a-z]+://127\.0\.0\.1:\d+", "URL"),
        (r"127\.0\.0\.1:\d+", "ENDPOINT"),
        (r"RM\.\d\d", "NAME"),
        (r"\d+(\.\d+)?(ms|µs|s)\b", "TIME"),
        (r"\d+(\.\d+)? [kMG]?B\b", "SIZE"),
        (r"\b3\.\d+\.\d+\b", "VERSION"),
        (
            r#"("(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize)" : )[1-9]\d*"#,
            "${1}N",
        ),
        (
            r#"("(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":)[1-9]\d*"#,
            "${1}N",
        ),
        (r"\b\d{13,20}\b", "ID"),
        (r"\b[0-9a-f]{13,16}\b", "ID"),
        (r"\+[-+]+\+", ""),
        (r" +", " "),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).expect("the pattern is valid"), name))
    .into()
});

/// What etcdctl printed, without what is particular to one cluster: addresses, ids, times, sizes, terms.
pub fn normalised(text: &str) -> String {
    PARTICULAR
        .iter()
        .fold(text.to_owned(), |text, (pattern, name)| {
            pattern.replace_all(&text, *name).into_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_particular_to_a_cluster_is_taken_out_and_nothing_else() {
        let status = "127.0.0.1:14379, 8e9e05c52164694d, 3.4.23, 20 kB, true, false, 2, 7, 7, ";
        assert_eq!(
            normalised(status),
            "ENDPOINT, ID, VERSION, SIZE, true, false, 2, 7, 7, "
        );
        let json = r#"{"header":{"cluster_id":14841639068965178418,"revision":5,"raft_term":2}}"#;
        assert_eq!(
            normalised(json),
            r#"{"header":{"cluster_id":ID,"revision":5,"raft_term":N}}"#
        );
        assert_eq!(normalised("\"Version\" : 1"), "\"Version\" : 1");
    }
}
