//! What a core is built from, and what makes it refuse to start.

use std::time::Duration;

use crate::{ConfigurationError, Configured, EntryId, HardState, Index, MachineId, Term};

/// What a machine's core is built from, besides what it finds durable.
#[derive(Clone, Debug)]
pub struct Config {
    /// This machine.
    pub local: MachineId,
    /// The shortest election timeout; the longest is twice that (§9.3 of the paper: chosen at random anew each time).
    pub election_timeout: Duration,
    /// How often a leader makes itself heard.
    pub heartbeat_interval: Duration,
    /// Seeds the election timeouts.
    pub seed: u64,
    /// The most append requests on their way to one follower.
    pub inflight_requests_max: usize,
    /// A follower to which this many bytes of entries are on their way, or more, is sent no more until it answers.
    pub inflight_bytes_max: usize,
    /// The most bytes of entries in one append request, unless a single entry is larger.
    pub append_bytes_max: usize,
    /// The most bytes of entries that are proposed and not yet committed and durable here; beyond it proposals are
    /// refused.
    pub uncommitted_bytes_max: usize,
    /// About how many bytes of durable entries to keep in memory for followers; older ones are read back.
    pub log_cache_bytes_max: usize,
    /// The most batches of reads that wait for confirmation: of this machine's clients, and of all other machines'.
    pub reads_max: usize,
    /// Whether a follower that learns that its leader's process is gone stands for election at once. Never together
    /// with lease reads.
    pub trust_peer_gone: bool,
}

/// What a core finds durable when it starts.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Term, vote and a commit index.
    pub hard_state: HardState,
    /// Where each term begins in the log: the first entry of each, in order. Empty when the log is.
    pub terms: Vec<EntryId>,
    /// The last entry of the log.
    pub last: EntryId,
    /// Up to where the state machine has applied.
    pub applied: Index,
    /// The configuration that this machine began with, at index 0 (an empty one if it is to join), and those that the log
    /// holds, in order.
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
    /// With a limit of zero nothing could move.
    #[error("the limit `{0}` is 0, so nothing could pass: make it at least 1")]
    LimitZero(&'static str),
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
        let limits = [
            ("inflight_requests_max", self.inflight_requests_max),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("log_cache_bytes_max", self.log_cache_bytes_max),
            ("reads_max", self.reads_max),
        ];
        match limits.iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(ConfigError::LimitZero(name)),
            None => Ok(()),
        }
    }
}

impl Durable {
    /// Refuses what no machine can have written.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Durable {
            hard_state,
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
            None => *last == EntryId::default(),
        };
        let begins_with_one = terms
            .first()
            .is_none_or(|run| run.index == Index(1) && run.term > Term(0));
        let conditions = [
            (ascending, "the terms of the log are not in order"),
            (
                begins_with_one,
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
                configurations.first().map(|first| first.index) == Some(Index(0)),
                "there is no configuration to begin with",
            ),
            (
                rising && configurations.last().is_none_or(|c| c.index <= last.index),
                "the configurations are not in order, or the log ends before one",
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
            seed: 1,
            inflight_requests_max: 8,
            inflight_bytes_max: 1 << 20,
            append_bytes_max: 1 << 16,
            uncommitted_bytes_max: 1 << 20,
            log_cache_bytes_max: 1 << 20,
            reads_max: 8,
            trust_peer_gone: false,
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
}
