//! What is done to the machines of a run from outside: each action is drawn before the run begins, with all that it needs, so
//! that any of them can be left out.

use super::register::Key;

/// To whom it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This machine, counted from zero.
    Machine(usize),
    /// Whoever leads the latest term at that moment; this machine if nobody does.
    Leader(usize),
}

/// A part of a machine that can fail alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The core with its reads. The timer goes with it.
    LogicCenter,
    /// The state machine; LogicCenter goes with it.
    Applier,
    /// The log; Applier and LogicCenter go with it.
    Storage,
    /// The answers that clients wait for. Nothing goes with it.
    Gate,
    /// What leaves: its connections break, and nothing is sent. Nothing goes with it.
    Sender,
    /// What comes: the connections to it break, and nothing is received. Nothing goes with it.
    Listener,
}

/// What a client wants of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read it.
    Read,
    /// Read it by the leader's lease, where leases are on.
    ReadByLease,
    /// Read it as the machine knows it, however old that is.
    ReadSerializable,
    /// Write it.
    Write,
    /// Write it if it still holds what this client saw last.
    Swap,
    /// Delete it.
    Delete,
}

/// What befalls a leader soon after its election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It is cut off.
    Isolate,
    /// It is cut off with one other.
    Minority(usize),
    /// Its process dies, and comes back after so many microseconds.
    Crash(u64),
    /// Its process is stopped for so many microseconds.
    Pause(u64),
    /// Its whole machine is stopped.
    Halt(Halt),
}

/// How a whole machine stops, processes, disk and network: nothing in it runs, and packets that come find nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// For how many microseconds.
    pub span: u64,
    /// Whether its clock counts them: that of a host that sleeps does (`CLOCK_BOOTTIME`), that of a virtual machine which its
    /// hypervisor freezes does not.
    pub counted: bool,
}

/// A step of a change of members. Of the machines of whom it makes sense at that moment the number picks one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A machine joins as a learner.
    Join(usize),
    /// A machine joins as a voter at once.
    JoinAsVoter(usize),
    /// A learner gets a vote.
    Promote(usize),
    /// A voter becomes a learner.
    Demote(usize),
    /// A machine leaves.
    Leave(usize),
    /// A member has another address.
    Moves(usize),
    /// Whoever leads leaves.
    LeaderLeaves,
}

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client asks a machine.
    Client {
        /// Which client.
        client: usize,
        /// Which machine.
        machine: usize,
        /// For what.
        wish: Wish,
        /// Of which key.
        key: Key,
        /// How many bytes to add to a command.
        padding: usize,
    },
    /// A process dies, and comes back after so many microseconds.
    Crash(Target, u64),
    /// All processes die at once.
    CrashAll(u64),
    /// A part of a process fails, and is built anew after so many microseconds.
    Fail(Target, Part, u64),
    /// A process is stopped for a while; what comes waits for it.
    Pause(Target, u64),
    /// A whole machine is stopped.
    Halt(Target, Halt),
    /// A disk does nothing for a while.
    Stall(Target, u64),
    /// A disk is full for a while: nothing can be written.
    Fill(Target, u64),
    /// A disk has only its reserve left for a while: nothing new is to be taken.
    RunLow(Target, u64),
    /// The next read from a disk fails.
    ReadError(Target),
    /// Nothing passes from one to the other.
    CutOneWay(Target, Target),
    /// Nothing passes between two.
    Cut(Target, Target),
    /// Nothing passes to or from a machine. What was cut before is whole again.
    Isolate(Target),
    /// A machine hears nobody.
    Deafen(Target),
    /// A machine and one other are on one side, all others on the other. What was cut before is whole again.
    Minority(Target, usize),
    /// Two sides, by the bits of this number. What was cut before is whole again.
    Split(u64),
    /// Two halves that only this machine bridges. What was cut before is whole again.
    Bridge(Target),
    /// The network is whole.
    Heal,
    /// Whoever leads is to hand leadership over: to this machine, or to the fittest.
    Transfer(Target, Option<usize>),
    /// A machine prefers this one as leader, until it starts anew; others may prefer others.
    Prefer(Target, usize),
    /// A machine is asked for other members: all moves in one change.
    Change {
        /// Which machine.
        asked: Target,
        /// What is to change.
        moves: [Option<Move>; 2],
        /// Whether to do it at any risk.
        force: bool,
    },
    /// The next leader is struck so many microseconds after its election. A moment before it is asked for other members, at any
    /// risk.
    Ambush(u64, Blow, Option<Move>),
    /// So many messages of a thousand are lost, and as many doubled.
    Loss(u64),
    /// A message takes at least so many microseconds.
    Latency(u64),
    /// Connections between two machines break; what is on its way in them is lost.
    Reset(Target, Target),
    /// A clock goes at so many percent from now on.
    ClockRate(Target, u64),
    /// A clock leaps ahead by so many microseconds.
    ClockJump(Target, u64),
    /// All others hear that the process of a machine is gone, truly or falsely.
    Gone(Target),
}
