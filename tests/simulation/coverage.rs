//! Which interesting states the runs reached, so that an idle simulator shows.

/// A state that a good simulator reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum State {
    LeaderElected,
    SplitVote,
    LeaderChangeWithUncommitted,
    LeaderDeposed,
    CheckQuorum,
    ConflictTruncated,
    Figure8,
    Figure8Undone,
    WrittenAnew,
    ReadOverLeaderChange,
    ReadOnFollower,
    ReadBack,
    ProposalRefused,
    UnknownWriteApplied,
    CrashWithUnsynced,
    CrashKeptUntold,
    CrashTorn,
    CommitsMerged,
    PromiseWaited,
    DiskFull,
    ReplayAfterRestart,
    LogicCenterFailed,
    ApplierFailed,
    StorageFailed,
    LoadFailed,
    ApplierReadFailed,
    GateFailed,
    SenderFailed,
    ListenerFailed,
    WriteSentAgain,
    CampaignedAfterFailure,
    PausedLeaderResumed,
    LeaderSlept,
    LeaderFrozen,
    ConnectionBroken,
    StaleTermDelivered,
    ConfirmedWhilePartitioned,
    Transferred,
    TransferredToPreferred,
    Compacted,
    SnapshotInstalled,
    SnapshotDiscarded,
    SnapshotFailed,
    SnapshotRacedWithAppend,
    ChangeRefused,
    MembersChanged,
    AddressChanged,
    ElectedWhileJoint,
    LeaderRemovedItself,
    ConfigurationTruncated,
    JoinedBySnapshot,
    NobodyCanWin,
}

/// Their names, in the same order.
const NAMES: [&str; COUNT] = [
    "a leader is elected",
    "two candidates in one term (split vote)",
    "a leader is elected while entries are uncommitted",
    "a leader meets a later term",
    "a leader steps down by itself (check-quorum, stalled disk)",
    "a conflict truncates a log",
    "figure 8: an entry of an earlier term on a majority, uncommitted",
    "figure 8 to its end: such an entry is removed again",
    "ABA: an entry is written anew before the core hears of its first life",
    "a read comes in one term and is confirmed in a later one",
    "a read is answered by a follower",
    "entries are read back from the disk for a follower",
    "a proposal is refused",
    "a write whose client gave up is applied",
    "a crash loses what was not synced",
    "a crash keeps a commit that nobody was told of",
    "a crash tears a commit's last page",
    "one commit makes several requests durable",
    "a promise waits for the disk",
    "a full disk holds writes back",
    "entries are applied again after a restart",
    "LogicCenter fails alone",
    "the Applier fails",
    "Storage fails",
    "the log cannot be read for a LogicCenter that begins",
    "the Applier cannot read the log",
    "Gate fails while a client waits",
    "Sender fails alone",
    "Listener fails alone",
    "a write of which nobody can say whether it happened is sent again",
    "a LogicCenter that led campaigns at once",
    "a leader is paused and comes back",
    "a leader's host sleeps, and its clock counts it",
    "a leader's machine is frozen, and its clock with it",
    "a connection breaks with messages in it",
    "a message of an earlier term arrives",
    "a write is acknowledged while the network is cut",
    "leadership is handed over",
    "leadership is handed to a voter that is preferred",
    "a log is compacted",
    "a snapshot is installed",
    "a snapshot is discarded",
    "a snapshot does not arrive",
    "an append arrives while a snapshot is installed",
    "a change of members is refused",
    "a change of members is committed",
    "what is known of a member changes",
    "a leader is elected while the configuration is joint",
    "a leader that left steps down",
    "a configuration is removed, and the one before is in force again",
    "a machine with an empty log joins by a snapshot",
    "a fault that stays leaves nobody who could be elected",
];

const COUNT: usize = State::NobodyCanWin as usize + 1;

/// How often each state was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    times: [u64; COUNT],
    runs: [u64; COUNT],
}

impl Default for Coverage {
    fn default() -> Self {
        Coverage {
            times: [0; COUNT],
            runs: [0; COUNT],
        }
    }
}

impl Coverage {
    pub(crate) fn reach(&mut self, state: State) {
        self.times[state as usize] += 1;
        self.runs[state as usize] = 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Coverage) {
        for place in 0..COUNT {
            self.times[place] += other.times[place];
            self.runs[place] += other.runs[place];
        }
    }

    /// Each state, how often it was reached, and in how many runs.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        (0..COUNT).map(|place| (NAMES[place], self.times[place], self.runs[place]))
    }
}
