//! One member of the real etcd alone, on data that may have been restored: started, killed and started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use rm_proto::mvccpb::KeyValue;
use tempfile::TempDir;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::etcd::{ETCD_PATIENCE, etcdctl, text};
use crate::machine::die_with_the_test;
use crate::memory::folder_in_memory;
use crate::ports::{Port, claim};
use crate::wait::until_within;

/// A member of etcd, running or not.
#[derive(Debug)]
pub struct LoneEtcd {
    /// Its data folder.
    pub data: PathBuf,
    /// What else it is started with.
    pub arguments: Vec<String>,
    /// `http`, or `https`.
    pub scheme: &'static str,
    /// What else etcdctl needs to reach it.
    pub etcdctl: Vec<String>,
    folder: TempDir,
    ports: Vec<Port>,
    child: Option<Child>,
}

impl LoneEtcd {
    /// One that is not started yet, on no data.
    ///
    /// # Panics
    ///
    /// When no folder can be made.
    pub fn prepare() -> LoneEtcd {
        let folder = folder_in_memory("raft-machine-etcd-");
        LoneEtcd {
            data: folder.path().join("data"),
            arguments: Vec::new(),
            scheme: "http",
            etcdctl: Vec::new(),
            folder,
            ports: claim(2),
            child: None,
        }
    }

    /// One that runs.
    ///
    /// # Panics
    ///
    /// As [`LoneEtcd::run`].
    pub async fn start() -> LoneEtcd {
        let mut etcd = LoneEtcd::prepare();
        etcd.run().await;
        etcd
    }

    /// Starts it, and waits until it is healthy.
    ///
    /// # Panics
    ///
    /// When it runs already, etcd is not installed, or it does not become healthy in time.
    pub async fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let client = format!("{}://{}", self.scheme, self.endpoint());
        let peer = format!("http://{}", self.ports[1].address);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(log.expect("the folder can be written"));
        die_with_the_test(&mut command);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("etcd cannot be run: {error}; install it (Debian: etcd-server)")
        });
        self.child = Some(child);
        until_within(ETCD_PATIENCE, "etcd is healthy", async || {
            let output = self.etcdctl(&["endpoint", "health"]);
            match output.status.success() {
                true => Ok(()),
                false => Err(text(&output)),
            }
        })
        .await;
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        self.ports[0].address.to_string()
    }

    /// A client of it, in plain.
    pub fn client(&self) -> Client {
        Client::new([self.ports[0].address])
    }

    /// A folder that is gone with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs etcd's own client against it.
    pub fn etcdctl(&self, arguments: &[&str]) -> std::process::Output {
        let flags = self.etcdctl.iter().map(String::as_str);
        let all: Vec<&str> = flags.chain(arguments.iter().copied()).collect();
        etcdctl(&self.endpoint(), "simple", &all, "")
    }

    /// The same for what must be done.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    /// Proves that machines hold the same keys, with the same values and leases.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub async fn assert_moved_to(&self, cluster: &Cluster) {
        let source = kept(self.client().dump(0).await);
        let target = kept(cluster.client().dump(0).await);
        let differs = source
            .iter()
            .find(|&(key, pair)| target.get(key) != Some(pair));
        assert_eq!(differs, None, "it has moved");
        assert_eq!(source.len(), target.len(), "nothing else is there");
    }

    /// Kills it.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("only what runs is killed");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }
}

impl Drop for LoneEtcd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// Keys with their values and leases: what a migration has to keep.
pub fn kept(pairs: Vec<KeyValue>) -> BTreeMap<Bytes, (Bytes, i64)> {
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| (pair.key, (pair.value, pair.lease)))
        .collect()
}
