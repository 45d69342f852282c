//! A machine that is down while the others write and compact what it lacks, so that nothing but a snapshot brings it up to date.

use std::time::Duration;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::logs::{Durable, durable};
use crate::wait::{PATIENCE, until, until_within};

/// How far a machine that has caught up may be behind the leader, while others write.
const ENTRIES_BEHIND_MAX: u64 = 200;

/// A machine that is behind.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// Its place in the cluster.
    pub place: usize,
    /// What lies on its disk.
    has: Durable,
    /// Where what it prints ended then.
    log_end: u64,
}

impl Behind {
    /// Kills a machine, and looks on its disk for what it has.
    ///
    /// # Panics
    ///
    /// When it does not run, or its log cannot be read.
    pub fn kill(cluster: &mut Cluster, place: usize) -> Behind {
        cluster.machines[place].kill();
        let machine = &cluster.machines[place];
        Behind {
            place,
            has: durable(machine),
            log_end: machine.log_end(),
        }
    }

    /// Kills a machine that follows, and has the others write so many values of so many bytes and compact what it would need of them.
    ///
    /// # Panics
    ///
    /// When that is not done in time.
    pub async fn by(
        cluster: &mut Cluster,
        client: &Client,
        (values, bytes): (usize, usize),
    ) -> Behind {
        let leader = cluster.leader().await;
        let behind = Behind::kill(cluster, (leader + 1) % cluster.machines.len());
        for number in 0..values {
            client
                .put(format!("large/{number}"), vec![b'v'; bytes])
                .await;
        }
        behind.needs_a_snapshot(client, 0, PATIENCE).await;
        behind
    }

    /// Waits until the log of each other machine begins behind the first entry that it lacks, and behind this one.
    ///
    /// # Panics
    ///
    /// When they do not within the limit.
    pub async fn needs_a_snapshot(&self, client: &Client, and_behind: u64, limit: Duration) {
        let end = and_behind.max(self.has.last + 1);
        for machine in (0..client.machines()).filter(|&machine| machine != self.place) {
            until_within(limit, "the log is compacted", async || {
                match client.info_until(machine).await.first_index {
                    first if first > end => Ok(()),
                    first => Err(format!("it begins with {first}, and {end} is to go")),
                }
            })
            .await;
        }
    }

    /// Waits until it has taken a snapshot and all that follows on it, up to what is committed by now.
    ///
    /// # Panics
    ///
    /// When it has not in time.
    pub async fn caught_up(&self, cluster: &Cluster, client: &Client) {
        let leader = cluster.leader().await;
        let at_least = client.info_until(leader).await.commit_index;
        until("the machine has caught up", async || {
            let leader = cluster.leader().await;
            let goal = client.info_until(leader).await.commit_index;
            let info = client.info_until(self.place).await;
            match info.applied_index {
                applied if applied >= at_least && applied + ENTRIES_BEHIND_MAX >= goal => Ok(()),
                applied => Err(format!("{applied} of {goal} applied: {info:?}")),
            }
        })
        .await;
        until("a snapshot has brought it there", async || {
            let took = self.took_a_snapshot(cluster);
            took.then_some(()).ok_or(format!("{self:?} still"))
        })
        .await;
    }

    /// What it has printed since it was killed.
    pub fn log(&self, cluster: &Cluster) -> String {
        cluster.machines[self.place].log_since(self.log_end)
    }

    /// Whether a snapshot was put in force since: then the state that it had is gone.
    pub fn took_a_snapshot(&self, cluster: &Cluster) -> bool {
        let state = match self.has.generation {
            0 => "state".to_owned(),
            generation => format!("state-{generation}"),
        };
        !cluster.machines[self.place].data.join(state).exists()
    }
}
