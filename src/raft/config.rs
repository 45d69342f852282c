//! What a core is built from, and what makes it refuse to start.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{ConfigurationError, Configured, EntryId, HardState, Index, MachineId, Term};

/// What a machine's core is built from, besides what it finds durable.
#[derive(Clone, Debug, Hash)]
pub struct Config {
    /// This machine.
    pub local: MachineId,
    /// The shortest election timeout; the longest is twice that (§9.3 of the paper: chosen at random anew each time).
    pub election_timeout: Duration,
    /// How often a leader makes itself heard.
    pub heartbeat_interval: Duration,
    /// For how long a leader's own disk may owe something and do nothing, or be full while others have space, before it gives
    /// leadership up. Not less than the election timeout: an election needs disks too, and they may be slow for the same reason.
    pub disk_patience: Duration,
    /// Seeds the election timeouts.
    pub seed: u64,
    /// The most append requests on their way to one follower.
    pub inflight_requests_max: usize,
    /// The most entries on their way to one follower.
    pub inflight_entries_max: usize,
    /// A follower to which this many bytes of entries are on their way, or more, is sent no more until it answers.
    pub inflight_bytes_max: usize,
    /// The most bytes of entries in one append request, unless a single entry is larger.
    pub append_bytes_max: usize,
    /// The most bytes of entries that are proposed and not yet committed and durable here; beyond it proposals are refused. Of each
    /// machine only as many are taken as leave its equal share to every other that proposes, and one more: half if none does.
    pub uncommitted_bytes_max: usize,
    /// About how many bytes of durable entries to keep in memory for followers; older ones are read back.
    pub log_cache_bytes_max: usize,
    /// How many entries to keep when the log is compacted, for followers that are behind. With `compaction_keep_bytes` the smaller
    /// tail wins.
    pub compaction_keep_entries: usize,
    /// About how many bytes of entries to keep when the log is compacted.
    pub compaction_keep_bytes: usize,
    /// How many entries to keep at most for followers that are catching up by a snapshot, so that the log still follows on it
    /// when it arrives. Of no effect below the tail that is kept anyway.
    pub compaction_wait_entries: usize,
    /// About how many bytes of such entries to keep at most. With `compaction_wait_entries` the smaller tail wins.
    pub compaction_wait_bytes: usize,
    /// The log is compacted by at least this many entries at once.
    pub compaction_step_entries: usize,
    /// How long a leader waits for news of a snapshot that it had sent, before it takes it for lost.
    pub snapshot_timeout: Duration,
    /// The most batches of reads that wait for confirmation: of this machine's clients, and of all other machines'.
    pub reads_max: usize,
    /// Whether a follower that learns that its leader's process is gone stands for election at once. Never together
    /// with lease reads.
    pub trust_peer_gone: bool,
    /// By how many percent the rates of two machines' clocks may differ at most, so that leaders hold leases; none where
    /// that is not known, and every read is confirmed by a quorum. With it this machine keeps to what the leases of others
    /// rest on, too; a leader counts on no machine that does not.
    pub lease_drift_percent: Option<u8>,
    /// Whether an earlier life of this machine may have promised a leader its loyalty, with this config or another: if so it
    /// gives no vote for an election timeout after it starts.
    pub may_have_promised: bool,
    /// Which voters are preferred as leaders: the higher, the more. Who is not listed has the priority 0. Input `Prefer` replaces it.
    pub priorities: BTreeMap<MachineId, u8>,
}

/// What a core finds durable when it starts.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Term, vote and a commit index.
    pub hard_state: HardState,
    /// The entry up to which the log is compacted; the place before the first if it is not.
    pub base: EntryId,
    /// Where each term begins in the log: the first entry of each after `base`, in order. Empty when the log is.
    pub terms: Vec<EntryId>,
    /// The last entry of the log; `base` if it is empty.
    pub last: EntryId,
    /// Up to where the state machine has applied.
    pub applied: Index,
    /// The configuration in force at `base` (in a log that is whole, the one that this machine began with, at index 0; an empty
    /// one if it is to join), and those that the log holds, in order.
    pub configurations: Vec<Configured>,
}

/// Why a core cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Zero means no machine.
    #[error("this machine has the number 0, which names no machine: number the machines from 1")]
    MachineZero,
    /// A configuration breaks an invariant.
    #[error("the configuration at index {index} is not sound: {error}")]
    Configuration {
        /// The index of its entry.
        index: Index,
        /// Which one.
        error: ConfigurationError,
    },
    /// Heartbeats must arrive before followers lose patience, also when one is lost.
    #[error(
        "a heartbeat each {heartbeat:?} cannot hold off an election timeout of {election:?}: make the timeout at least \
         twice the interval, and the interval at least a millisecond"
    )]
    Timing {
        /// The heartbeat interval.
        heartbeat: Duration,
        /// The election timeout.
        election: Duration,
    },
    /// A leader would be given up before another could be found.
    #[error(
        "a leader's disk that may do nothing for {patience:?} is given up sooner than the election timeout of {election:?} \
         finds another leader: make the patience at least that"
    )]
    DiskPatience {
        /// How long the disk may do nothing.
        patience: Duration,
        /// The election timeout.
        election: Duration,
    },
    /// With a limit of zero nothing could move.
    #[error("the limit `{0}` is 0, so nothing could pass: make it at least 1")]
    LimitZero(&'static str),
    /// Nothing would be left of a lease.
    #[error(
        "clocks that differ by {0} percent leave no lease: make the bound less than 100 percent"
    )]
    LeaseDrift(u8),
    /// A follower that believes a false report that its leader is gone would break that leader's lease.
    #[error(
        "leases and trust in reports that a peer is gone do not go together: give up one of the two"
    )]
    LeaseWithTrust,
    /// What Storage found contradicts itself.
    #[error(
        "the durable state of this machine contradicts itself ({0}): restore its data, or replace the machine"
    )]
    Durable(&'static str),
}

impl Config {
    /// Refuses what could not work.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.local == MachineId(0) {
            return Err(ConfigError::MachineZero);
        }
        if self.heartbeat_interval < Duration::from_millis(1)
            || self.election_timeout < self.heartbeat_interval * 2
        {
            return Err(ConfigError::Timing {
                heartbeat: self.heartbeat_interval,
                election: self.election_timeout,
            });
        }
        if self.disk_patience < self.election_timeout {
            return Err(ConfigError::DiskPatience {
                patience: self.disk_patience,
                election: self.election_timeout,
            });
        }
        match self.lease_drift_percent {
            Some(percent) if percent >= 100 => return Err(ConfigError::LeaseDrift(percent)),
            Some(_) if self.trust_peer_gone => return Err(ConfigError::LeaseWithTrust),
            _ => {}
        }
        let limits = [
            ("inflight_requests_max", self.inflight_requests_max),
            ("inflight_entries_max", self.inflight_entries_max),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("log_cache_bytes_max", self.log_cache_bytes_max),
            ("reads_max", self.reads_max),
            ("compaction_step_entries", self.compaction_step_entries),
            (
                "snapshot_timeout",
                self.snapshot_timeout.as_millis() as usize,
            ),
        ];
        match limits.iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(ConfigError::LimitZero(name)),
            None => Ok(()),
        }
    }

    /// How much a voter is preferred as a leader.
    pub(crate) fn priority(&self, machine: MachineId) -> u8 {
        self.priorities.get(&machine).copied().unwrap_or_default()
    }
}

impl Durable {
    /// Refuses what no machine can have written.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Durable {
            hard_state,
            base,
            terms,
            last,
            applied,
            configurations,
        } = self;
        for Configured {
            index,
            configuration,
        } in configurations
        {
            let index = *index;
            configuration
                .check()
                .map_err(|error| ConfigError::Configuration { index, error })?;
        }
        let rising = configurations
            .windows(2)
            .all(|pair| pair[0].index < pair[1].index);
        let ascending = terms
            .windows(2)
            .all(|pair| pair[0].term < pair[1].term && pair[0].index < pair[1].index);
        let ends_with_last = match terms.last() {
            Some(run) => run.term == last.term && run.index <= last.index,
            None => last == base,
        };
        let begins_after_base = terms.first().is_none_or(|run| {
            run.index == base.index.next() && run.term >= base.term && run.term > Term(0)
        });
        let conditions = [
            (ascending, "the terms of the log are not in order"),
            (
                begins_after_base,
                "the terms of the log do not begin with its first entry",
            ),
            (
                ends_with_last,
                "the terms of the log do not end with its last entry",
            ),
            (
                last.index < Index::LIMIT,
                "the last index is beyond all limits",
            ),
            (
                hard_state.term < Term::LIMIT,
                "the term is beyond all limits",
            ),
            (
                last.term <= hard_state.term,
                "the log has an entry of a later term than the hard state",
            ),
            (
                hard_state.commit <= last.index,
                "the log ends before the commit index",
            ),
            (
                *applied <= last.index,
                "the log ends before the applied index",
            ),
            (
                configurations
                    .first()
                    .is_some_and(|first| first.index <= base.index),
                "there is no configuration to begin with",
            ),
            (
                rising && configurations.last().is_none_or(|c| c.index <= last.index),
                "the configurations are not in order, or the log ends before one",
            ),
            (
                base.index <= *applied,
                "the log is compacted beyond the applied index",
            ),
        ];
        match conditions.iter().find(|(holds, _)| !holds) {
            Some((_, contradiction)) => Err(ConfigError::Durable(contradiction)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;

    fn config() -> Config {
        Config {
            local: MachineId(1),
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            disk_patience: Duration::from_millis(1000),
            seed: 1,
            inflight_requests_max: 8,
            inflight_entries_max: 1 << 16,
            inflight_bytes_max: 1 << 20,
            append_bytes_max: 1 << 16,
            uncommitted_bytes_max: 1 << 20,
            log_cache_bytes_max: 1 << 20,
            reads_max: 8,
            trust_peer_gone: false,
            lease_drift_percent: Some(10),
            may_have_promised: false,
            priorities: BTreeMap::new(),
            compaction_keep_entries: 100,
            compaction_keep_bytes: 1 << 20,
            compaction_wait_entries: 10_000,
            compaction_wait_bytes: 1 << 24,
            compaction_step_entries: 10,
            snapshot_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_sound_config_passes() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn a_config_that_could_not_work_is_refused() {
        let refused = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.check().expect_err("refused")
        };
        assert_eq!(
            refused(|c| c.local = MachineId(0)),
            ConfigError::MachineZero
        );
        assert_eq!(
            refused(|c| c.reads_max = 0),
            ConfigError::LimitZero("reads_max")
        );
        assert_eq!(
            refused(|c| c.inflight_entries_max = 0),
            ConfigError::LimitZero("inflight_entries_max")
        );
        assert_eq!(
            refused(|c| c.lease_drift_percent = Some(100)),
            ConfigError::LeaseDrift(100)
        );
        assert_eq!(
            refused(|c| c.trust_peer_gone = true),
            ConfigError::LeaseWithTrust
        );
        assert!(matches!(
            refused(|c| c.disk_patience = Duration::from_millis(999)),
            ConfigError::DiskPatience { .. }
        ));
        assert!(matches!(
            refused(|c| c.election_timeout = c.heartbeat_interval),
            ConfigError::Timing { .. }
        ));
    }

    #[test]
    fn durable_state_that_contradicts_itself_is_refused() {
        let id = |term, index| EntryId {
            term: Term(term),
            index: Index(index),
        };
        let sound = Durable {
            hard_state: HardState {
                term: Term(3),
                vote: None,
                commit: Index(2),
            },
            base: EntryId::default(),
            terms: vec![id(1, 1), id(3, 3)],
            last: id(3, 4),
            applied: Index(2),
            configurations: vec![
                Configured::default(),
                Configured {
                    index: Index(4),
                    configuration: Configuration::of_voters([MachineId(1)]),
                },
            ],
        };
        assert_eq!(sound.check(), Ok(()));
        let refused = |change: fn(&mut Durable)| {
            let mut durable = sound.clone();
            change(&mut durable);
            durable.check().is_err()
        };
        assert!(refused(|d| d.hard_state.term = Term(2)));
        assert!(refused(|d| d.hard_state.commit = Index(5)));
        assert!(refused(|d| d.applied = Index(5)));
        assert!(refused(|d| d.last.term = Term(2)));
        assert!(refused(|d| d.terms.reverse()));
        assert!(refused(|d| d.terms.clear()));
        assert!(refused(|d| d.terms[0].index = Index(2)));
        assert!(refused(|d| d.configurations.clear()));
        assert!(refused(|d| d.configurations.reverse()));
        assert!(refused(|d| d.configurations[1].index = Index(5)));
        assert!(refused(|d| d.configurations[1].index = Index(0)));
        assert!(refused(
            |d| d.configurations[1].configuration.voters[0] = MachineId(0)
        ));
    }

    #[test]
    fn a_compacted_log_is_sound_up_to_what_is_applied() {
        let id = |term, index| EntryId {
            term: Term(term),
            index: Index(index),
        };
        let sound = Durable {
            // What is compacted is committed, though the hard state may not say so yet.
            hard_state: HardState {
                term: Term(3),
                vote: None,
                commit: Index(0),
            },
            base: id(1, 2),
            terms: vec![id(1, 3), id(3, 4)],
            last: id(3, 4),
            applied: Index(2),
            configurations: vec![Configured::default()],
        };
        assert_eq!(sound.check(), Ok(()));
        let changed = |change: fn(&mut Durable)| {
            let mut durable = sound.clone();
            change(&mut durable);
            durable.check()
        };
        let empty = changed(|d| {
            d.terms.clear();
            d.last = d.base;
        });
        assert_eq!(empty, Ok(()));
        assert!(changed(|d| d.applied = Index(1)).is_err());
        assert!(changed(|d| d.base.term = Term(2)).is_err());
        assert!(changed(|d| d.base.index = Index(3)).is_err());
        assert!(changed(|d| d.terms.clear()).is_err());
        assert_eq!(changed(|d| d.configurations[0].index = Index(2)), Ok(()));
        assert!(changed(|d| d.configurations[0].index = Index(3)).is_err());
    }
}
