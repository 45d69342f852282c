//! Cores that can be compared: those that differ only in the hour and in what chance drew become the same.
//!
//! A search through all states of a few machines must see when it comes back to a state that it knows. A core keeps
//! moments of a clock that only goes on, so that none would ever come again.

use crate::raft::State;
use crate::{Raft, Time};

impl Raft {
    /// Rewrites every moment that this core keeps, its present among them, as `place` says, and forgets what chance drew:
    /// it waits for its leader as long as one that drew the shortest timeout.
    ///
    /// The core goes on from the present that `place` gave it. `place` must keep the order of what it does not make equal.
    pub fn canonicalize(&mut self, place: impl Fn(Time) -> Time) {
        let mut visit = |moment: &mut Time| *moment = place(*moment);
        let timeout = self.node.config.election_timeout;
        self.node.forget_chance();
        self.node.each_moment(&mut visit);
        match &mut self.state {
            State::Follower(follower) => {
                follower.forget_chance(timeout);
                follower.each_moment(&mut visit);
            }
            State::Candidate(candidate) => candidate.each_moment(&mut visit),
            State::Leader(leader) => leader.each_moment(&mut visit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::time::Duration;

    use super::*;
    use crate::{Config, Configuration, Configured, Durable, Index, Input, MachineId};

    fn core(seed: u64, start: Time) -> Raft {
        let config = Config {
            local: MachineId(1),
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            disk_patience: Duration::from_millis(4000),
            seed,
            inflight_requests_max: 8,
            inflight_entries_max: 1 << 16,
            inflight_bytes_max: 1 << 20,
            append_bytes_max: 1 << 16,
            uncommitted_bytes_max: 1 << 20,
            log_cache_bytes_max: 1 << 20,
            reads_max: 8,
            trust_peer_gone: false,
            lease_drift_percent: None,
            may_have_promised: false,
            priorities: BTreeMap::new(),
            compaction_keep_entries: 8,
            compaction_keep_bytes: 1 << 20,
            compaction_wait_entries: 1_000,
            compaction_wait_bytes: 1 << 20,
            compaction_step_entries: 8,
            snapshot_timeout: Duration::from_millis(1000),
        };
        let durable = Durable {
            configurations: vec![Configured {
                index: Index(0),
                configuration: Configuration::of_voters([1, 2, 3].map(MachineId)),
            }],
            ..Durable::default()
        };
        Raft::new(config, durable, start).expect("the config is sound")
    }

    fn hash(core: &Raft) -> u64 {
        let mut hasher = DefaultHasher::new();
        core.hash(&mut hasher);
        hasher.finish()
    }

    /// Two cores of one history at different hours.
    fn after(steps: impl Fn(&mut Raft, Time)) -> [u64; 2] {
        [5, 90_000].map(|start| {
            let start = Time { micros: start };
            let mut core = core(0, start);
            steps(&mut core, start);
            core.canonicalize(|moment| Time {
                micros: (moment.micros + 10_000_000 - start.micros) / 3_000_000,
            });
            hash(&core)
        })
    }

    #[test]
    fn the_hour_makes_no_difference() {
        let [early, late] = after(|_, _| ());
        assert_eq!(early, late);
        let [candidate, later] = after(|core, now| {
            core.step(now.after(Duration::from_secs(2)), Input::Elapsed);
            core.effects(now.after(Duration::from_secs(2)));
        });
        assert_eq!(candidate, later);
        assert_ne!(early, candidate);
    }
}
