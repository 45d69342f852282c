//! One machine as a process of its own: started, killed, paused, stopped and started again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::binary::raft_machine;
use crate::process::{self, Process};
use crate::wait::until;

/// One machine of a cluster, running or not.
#[derive(Debug)]
pub struct Machine {
    /// Its name in the config.
    pub name: String,
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where peers reach it.
    pub peer: SocketAddr,
    /// The config file that it is started with.
    pub config: PathBuf,
    /// Its data folder.
    pub data: PathBuf,
    /// Whether it is started to join a domain that is there.
    pub join: bool,
    /// What else it is started with.
    pub arguments: Vec<String>,
    /// Whether it is told by `--local` which machine it is.
    pub is_told_its_name: bool,
    log: PathBuf,
    child: Option<Child>,
}

impl Machine {
    /// A machine that is not started yet; what it prints goes to `log`.
    pub fn new(
        name: String,
        client: SocketAddr,
        peer: SocketAddr,
        config: PathBuf,
        data: PathBuf,
        log: PathBuf,
    ) -> Self {
        Machine {
            name,
            client,
            peer,
            config,
            data,
            join: false,
            arguments: Vec::new(),
            is_told_its_name: true,
            log,
            child: None,
        }
    }

    /// Starts its process. To be called on the test's own thread: the process dies with the thread that started it.
    ///
    /// # Panics
    ///
    /// When it runs already, or cannot be run.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let child = self.spawn();
        let cluster = self.log.parent().expect("a file lies in a folder");
        process::note_start(cluster, Process(child.id()));
        self.child = Some(child);
    }

    fn spawn(&self) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap_or_else(|error| panic!("{}: {error}", self.log.display()));
        let mut command = Command::new(raft_machine());
        command
            .arg("--config")
            .arg(&self.config)
            .args(
                self.is_told_its_name
                    .then_some(["--local", &self.name])
                    .iter()
                    .flatten(),
            )
            .args(self.join.then_some("--join"))
            .args(&self.arguments)
            .current_dir(self.log.parent().expect("a log lies in a folder"))
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log);
        die_with_the_test(&mut command);
        command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", raft_machine().display()))
    }

    /// Whether its process was started and not seen to end.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its process.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn process(&self) -> Process {
        Process(self.child().id())
    }

    /// Kills it as a loss of power would (SIGKILL), and waits until the process is gone.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("only a running machine is killed");
        child.kill().expect("a child can be killed");
        let status = child.wait().expect("a child can be waited for");
        process::note_end(Process(child.id()));
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "{} ended before it was killed ({status}):\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Asks it to stop (SIGTERM), and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not run, or does not end in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end().await
    }

    /// As [`Machine::terminate`], as Ctrl-C does it (SIGINT).
    ///
    /// # Panics
    ///
    /// When it does not run, or does not end in time.
    pub async fn interrupt(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.end().await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    ///
    /// When it does not run, or does not end in time.
    pub async fn end(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until(&what, async || {
            self.ended().ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// Whether the process has ended by itself, and how.
    ///
    /// # Panics
    ///
    /// When it was not started.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("only a started machine can end");
        let status = child.try_wait().expect("a child can be waited for")?;
        process::note_end(Process(child.id()));
        self.child = None;
        Some(status)
    }

    /// Pauses it, as a hypervisor would (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// As [`Machine::pause`], and waits until none of its threads runs any more, so that it does nothing of what it is told from then on.
    ///
    /// # Panics
    ///
    /// When it does not run, or one of its threads goes on.
    pub async fn pause_whole(&self) {
        self.pause();
        let what = format!("{} is paused", self.name);
        until(&what, async || {
            let states = self.threads();
            let is_paused = !states.is_empty() && states.iter().all(|&state| state == 'T');
            is_paused.then_some(()).ok_or(format!("{states:?}"))
        })
        .await;
    }

    /// What each of its threads does, as Linux tells it: `T` is one that a signal has stopped.
    fn threads(&self) -> Vec<char> {
        let folder = format!("/proc/{}/task", self.process().0);
        let threads = std::fs::read_dir(folder).expect("Linux tells the threads of a process");
        let states = threads.filter_map(|thread| {
            // One that has ended meanwhile does nothing.
            let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            // The name before it stands in brackets, and may hold any character.
            stat.rsplit(')').next()?.trim_start().chars().next()
        });
        states.collect()
    }

    /// Lets a paused one go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What it has printed so far, in all its lives, or since it was last taken away while none ran.
    pub fn log(&self) -> String {
        self.log_since(0)
    }

    /// How many bytes it has printed so far: where [`Machine::log_since`] is to go on.
    pub fn log_end(&self) -> u64 {
        // A machine that was never started has none.
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// What it has printed behind so many bytes.
    ///
    /// # Panics
    ///
    /// When the disk has failed.
    pub fn log_since(&self, bytes: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.log) {
            let read = log.seek(SeekFrom::Start(bytes));
            read.and_then(|_| log.read_to_end(&mut text))
                .unwrap_or_else(|error| panic!("{}: {error}", self.log.display()));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Where what it prints goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Takes away what it has printed, so that what follows can be told from it. To be called while it does not run.
    pub fn take_log(&self) -> String {
        let log = self.log();
        // A machine that was never started has none.
        let _ = std::fs::remove_file(&self.log);
        log
    }

    /// The last lines that it has printed.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn child(&self) -> &Child {
        self.child
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.process().0).expect("process numbers are small");
        let process = Pid::from_raw(process).expect("no process has number zero");
        kill_process(process, signal)
            .unwrap_or_else(|error| panic!("{} cannot be signalled: {error}", self.name));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended meanwhile; either way nothing of it is left.
            let _ = child.kill();
            let _ = child.wait();
            process::note_end(Process(child.id()));
        }
    }
}

/// Lets the process end when the thread that starts it ends, however that happens.
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec is one system call, which is allowed there"
)]
pub fn die_with_the_test(command: &mut Command) {
    // SAFETY: prctl(PR_SET_PDEATHSIG) is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}
