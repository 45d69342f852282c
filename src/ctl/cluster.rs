//! Three machines as processes of this host, in a folder that goes with them. They never outlive us.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::client::Endpoint;
use crate::error::{Error, Result};

/// How many machines there are: the fewest that survive the loss of one.
const MACHINES: usize = 3;
/// How long a machine may take to stop before it is killed; a little more than it allows itself.
const STOP_LIMIT: Duration = Duration::from_secs(7);
/// How much of a machine's log is shown when it ends before it served.
const LOG_LINES_SHOWN: usize = 12;

/// The machines.
pub(crate) struct Cluster {
    binary: PathBuf,
    folder: TempDir,
    members: Vec<Member>,
}

/// One machine.
pub(crate) struct Member {
    /// Its name in the config.
    pub(crate) name: String,
    /// Where its clients reach it.
    pub(crate) client: Endpoint,
    child: Option<Child>,
}

impl Cluster {
    /// Writes a config into a temporary folder and starts every machine on free ports of loopback.
    pub(crate) fn start(binary: PathBuf) -> Result<Self> {
        let folder = TempDir::with_prefix("raft-machine-demo-")
            .map_err(Error::io("cannot make a temporary folder"))?;
        let ports = free_ports(MACHINES).map_err(Error::io("cannot find free ports"))?;
        let config = config(&ports, folder.path());
        fs::write(folder.path().join("config.json"), format!("{config:#}\n"))
            .map_err(Error::io("cannot write the machines' config"))?;
        let members = ports.iter().enumerate().map(|(number, ports)| {
            let client = ports.client().parse();
            Member::absent(
                name(number),
                client.expect("a port of loopback is an endpoint"),
            )
        });
        let mut cluster = Cluster {
            binary,
            members: members.collect(),
            folder,
        };
        for number in 0..MACHINES {
            cluster.start_machine(number)?;
        }
        Ok(cluster)
    }

    /// The machines, in the order of the config.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where their data and logs are while they run.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts one machine, on the data that it has; one that runs is left alone.
    pub(crate) fn start_machine(&mut self, number: usize) -> Result<()> {
        let member = &mut self.members[number];
        if member.child.is_some() {
            return Ok(());
        }
        let log = log_path(self.folder.path(), &member.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::io(format!("cannot write {}", log.display())))?;
        let errors = log
            .try_clone()
            .map_err(Error::io("cannot write a machine's log"))?;
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(self.folder.path().join("config.json"))
            .args(["--local", &member.name])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C is for us: we stop them in order.
            .process_group(0);
        die_with_us(&mut command);
        let child = command
            .spawn()
            .map_err(Error::io(format!("cannot start {}", self.binary.display())))?;
        member.child = Some(child);
        Ok(())
    }

    /// Ends one machine's process without a warning, as `kill -9` does.
    pub(crate) fn kill(&mut self, number: usize) {
        self.members[number].kill();
    }

    /// The machines that ended by themselves since the last time, and how.
    pub(crate) fn ended(&mut self) -> Vec<(usize, ExitStatus)> {
        let ended = self.members.iter_mut().enumerate();
        ended
            .filter_map(|(number, member)| {
                let status = member.child.as_mut()?.try_wait().ok()??;
                member.child = None;
                Some((number, status))
            })
            .collect()
    }

    /// The last lines that a machine logged.
    pub(crate) fn log_tail(&self, number: usize) -> String {
        let path = log_path(self.folder.path(), &self.members[number].name);
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Asks every machine to stop and waits for it; kills those that take too long.
    pub(crate) async fn stop(mut self) {
        for member in &self.members {
            if let Some(child) = &member.child {
                // One that is gone already needs no signal.
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
            }
        }
        let limit = Instant::now() + STOP_LIMIT;
        while self.members.iter().any(|member| member.child.is_some()) && Instant::now() < limit {
            self.ended();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whoever is left is killed when the cluster is dropped.
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
    }
}

impl Member {
    /// A machine without a process.
    pub(crate) fn absent(name: impl Into<String>, client: Endpoint) -> Self {
        Member {
            name: name.into(),
            client,
            child: None,
        }
    }

    /// The number of its process, while it runs.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself: either way it is waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets the kernel end a child whose parent is gone, however that ended.
#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    let parent = rustix::process::getpid();
    let before_exec = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have gone before the line above.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(rustix::io::Errno::SRCH.into())
        }
    };
    #[expect(
        unsafe_code,
        reason = "between fork and exec only two system calls are made, nothing is allocated or locked"
    )]
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Elsewhere a child ends when the cluster is dropped, which a `kill -9` of rmctl does not do.
#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}

/// The ports of one machine on loopback.
struct Ports {
    peer: u16,
    client: u16,
}

impl Ports {
    fn client(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }
}

/// Ports that were free a moment ago, all different.
fn free_ports(machines: usize) -> io::Result<Vec<Ports>> {
    // All are held at the same time, so that none is given twice.
    let held = (0..machines)
        .map(|_| {
            Ok((
                UdpSocket::bind("127.0.0.1:0")?,
                TcpListener::bind("127.0.0.1:0")?,
            ))
        })
        .collect::<io::Result<Vec<_>>>()?;
    held.iter()
        .map(|(peer, client)| {
            Ok(Ports {
                peer: peer.local_addr()?.port(),
                client: client.local_addr()?.port(),
            })
        })
        .collect()
}

fn name(number: usize) -> String {
    format!("RM.{:02}", number + 1)
}

fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// The config that all of them share.
fn config(ports: &[Ports], folder: &Path) -> serde_json::Value {
    let machines: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(number, ports)| {
            json!({
                "name": name(number),
                "peer": format!("127.0.0.1:{}", ports.peer),
                "client": ports.client(),
            })
        })
        .collect();
    json!({
        "domain": "demo",
        "machines": machines,
        "data_dir": folder.join("{name}"),
        "fault_injection": true,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_config_is_one_that_a_machine_reads() {
        let ports = free_ports(3).expect("ports");
        let written = config(&ports, Path::new("/somewhere"));
        let read: rm_config::Config = serde_json::from_value(written).expect("a config");
        assert_eq!(read.machines.len(), 3);
        assert!(read.fault_injection);
    }

    /// A cluster of processes that do nothing but wait.
    fn sleepers() -> (TempDir, Cluster) {
        let folder = TempDir::new().expect("a folder");
        let binary = folder.path().join("sleeper");
        fs::write(&binary, "#!/bin/sh\necho started as $4\nexec sleep 600\n").expect("a script");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("permissions");
        let cluster = Cluster::start(binary).expect("a cluster");
        (folder, cluster)
    }

    fn runs(process: u32) -> bool {
        Path::new(&format!("/proc/{process}")).exists()
    }

    #[tokio::test]
    async fn no_process_and_no_folder_is_left_after_a_stop_or_a_drop() {
        for stop in [true, false] {
            let (_binary, cluster) = sleepers();
            let folder = cluster.folder().to_owned();
            let processes: Vec<_> = cluster
                .members()
                .iter()
                .filter_map(Member::process)
                .collect();
            assert_eq!(processes.len(), MACHINES);
            assert!(processes.iter().all(|&process| runs(process)));
            if stop {
                cluster.stop().await;
            } else {
                drop(cluster);
            }
            assert!(
                !processes.iter().any(|&process| runs(process)),
                "stop: {stop}"
            );
            assert!(!folder.exists());
        }
    }

    #[test]
    fn a_killed_machine_can_be_started_again_and_counts_not_as_ended_by_itself() {
        let (_binary, mut cluster) = sleepers();
        cluster.kill(1);
        assert_eq!(cluster.members()[1].process(), None);
        assert!(cluster.ended().is_empty());
        cluster.start_machine(1).expect("a start");
        let process = cluster.members()[1].process();
        assert!(process.is_some());
        cluster.start_machine(1).expect("nothing to do");
        assert_eq!(cluster.members()[1].process(), process);
    }
}
