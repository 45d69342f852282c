//! A reign: this machine's time as the leader, in which it decides when leases end. A pure machine: it is told the time and what became of
//! what it wanted, and says what it wants next.
//!
//! A reign begins with an entry of its own, which all that it has written later names: once it is applied, what an earlier reign had
//! proposed does nothing any more, however late it comes (`src/kv/lease.rs`). Then all leases are read, part by part. What is proposed
//! has its answer, or a new reign begins: so the book never takes a lease for free while its end may yet count.

use rm_kv::{Command, Grant, Lease, LeaseChange, LeaseTime, ReplyBody};
use rm_raft::Term;

use super::book::Book;

/// How leases are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measures {
    /// How long a lease is not renewed until it is noted what is left of it, in milliseconds.
    pub(super) note_ms: u64,
    /// What a lease has beside its time where another counted it before, in milliseconds.
    pub(super) extension_ms: u64,
    /// How many leases are read at a time.
    pub(super) page: usize,
    /// The most leases that one entry ends.
    pub(super) ends_max: usize,
    /// The most leases of which one entry notes what is left.
    pub(super) notes_max: usize,
}

impl Measures {
    /// With parts that are large enough to cost little, and small enough to hold up nobody.
    pub(super) fn new(note_ms: u64, extension_ms: u64) -> Measures {
        Measures {
            note_ms,
            extension_ms,
            page: 1_000,
            ends_max: 100,
            notes_max: 1_000,
        }
    }
}

/// This machine's time as the leader, or a part of it.
pub(super) struct Reign {
    pub(super) number: u64,
    pub(super) term: Term,
    pub(super) book: Book,
    measures: Measures,
    stage: Stage,
    /// Whether an end of leases is on its way.
    ends: bool,
    /// Whether a note is on its way.
    notes: bool,
}

/// How far a reign has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The entry that begins it is to be proposed.
    New,
    /// It is on its way.
    Beginning,
    /// It is applied. The leases after one of them are to be read.
    Begun { entry: u64, after: Option<i64> },
    /// They are being read.
    Reading { entry: u64, after: Option<i64> },
    /// All are in the book.
    Counting { entry: u64 },
}

/// What a reign wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// An entry. What becomes of it is told to [`Reign::decided`].
    Propose(Proposal),
    /// So many of the leases after one of them. They are told to [`Reign::take_in`].
    Read { after: Option<i64>, count: usize },
}

/// An entry that a reign wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proposal {
    /// The reign begins.
    Begin,
    /// The time of these leases is over.
    End { entry: u64, grants: Vec<Grant> },
    /// So much is left of these leases.
    Note { entry: u64, times: Vec<LeaseTime> },
}

impl Proposal {
    pub(super) fn command(&self) -> Command {
        match self.clone() {
            Proposal::Begin => Command::CountLeases,
            Proposal::End { entry, grants } => Command::ExpireLeases {
                reign: entry,
                grants,
            },
            Proposal::Note { entry, times } => Command::NoteLeases {
                reign: entry,
                times,
            },
        }
    }
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is applied.
    Applied(ReplyBody),
    /// It was not written: it can be proposed again.
    Refused,
    /// That is not known.
    Unknown,
}

/// How a reign goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequel {
    /// It may want more at once. So many leases have ended.
    Onward { ended: usize },
    /// It wants nothing before the next tick.
    Rests,
    /// It is over: what it had proposed may yet be applied, and only another reign keeps that from doing anything.
    Over,
}

impl Reign {
    pub(super) fn new(number: u64, term: Term, measures: Measures) -> Reign {
        Reign {
            number,
            term,
            book: Book::new(measures.note_ms),
            measures,
            stage: Stage::New,
            ends: false,
            notes: false,
        }
    }

    /// The entry that began it, once it is applied.
    pub(super) fn entry(&self) -> Option<u64> {
        match self.stage {
            Stage::New | Stage::Beginning => None,
            Stage::Begun { entry, .. }
            | Stage::Reading { entry, .. }
            | Stage::Counting { entry } => Some(entry),
        }
    }

    /// Whether all leases are in its book.
    pub(super) fn is_counting(&self) -> bool {
        matches!(self.stage, Stage::Counting { .. })
    }

    /// What it wants next: to begin, to read, or to have leases ended whose time is over.
    pub(super) fn wants(&mut self, now_ms: u64) -> Option<Want> {
        match self.stage {
            Stage::New => {
                self.stage = Stage::Beginning;
                Some(Want::Propose(Proposal::Begin))
            }
            Stage::Begun { entry, after } => {
                self.stage = Stage::Reading { entry, after };
                let count = self.measures.page;
                Some(Want::Read { after, count })
            }
            Stage::Beginning | Stage::Reading { .. } => None,
            Stage::Counting { entry } if !self.ends => {
                let grants = self.book.begin_to_end(now_ms, self.measures.ends_max);
                self.ends = !grants.is_empty();
                let end = Proposal::End { entry, grants };
                self.ends.then_some(Want::Propose(end))
            }
            Stage::Counting { .. } => None,
        }
    }

    /// What it wants noted: of leases that are long and not renewed, what is left. Asked once a tick.
    pub(super) fn wants_noted(&mut self, now_ms: u64) -> Option<Want> {
        match self.stage {
            Stage::Counting { entry } if !self.notes => {
                let times = self.book.begin_to_note(now_ms, self.measures.notes_max);
                self.notes = !times.is_empty();
                let note = Proposal::Note { entry, times };
                self.notes.then_some(Want::Propose(note))
            }
            _ => None,
        }
    }

    /// What it wanted read was read, or could not be.
    pub(super) fn take_in(&mut self, leases: Option<&[Lease]>, now_ms: u64) -> Sequel {
        let Stage::Reading { entry, after } = self.stage else {
            return Sequel::Rests;
        };
        let Some(leases) = leases else {
            self.stage = Stage::Begun { entry, after };
            return Sequel::Rests;
        };
        for lease in leases {
            self.book.add(lease, now_ms, self.measures.extension_ms);
        }
        if leases.len() < self.measures.page {
            self.stage = Stage::Counting { entry };
            self.book.complete();
            return Sequel::Rests;
        }
        let after = leases.last().map(|lease| lease.grant.id);
        self.stage = Stage::Begun { entry, after };
        Sequel::Onward { ended: 0 }
    }

    /// What it wanted written was decided.
    pub(super) fn decided(&mut self, proposal: &Proposal, fate: &Fate, now_ms: u64) -> Sequel {
        match proposal {
            Proposal::Begin => self.begun(fate),
            Proposal::End { grants, .. } => self.ended(grants, fate),
            Proposal::Note { times, .. } => self.noted(times, fate, now_ms),
        }
    }

    fn begun(&mut self, fate: &Fate) -> Sequel {
        match *fate {
            Fate::Applied(ReplyBody::CountLeases(entry)) => {
                self.stage = Stage::Begun { entry, after: None };
                Sequel::Onward { ended: 0 }
            }
            // It is proposed again: twice does no harm.
            _ => {
                self.stage = Stage::New;
                Sequel::Rests
            }
        }
    }

    fn ended(&mut self, grants: &[Grant], fate: &Fate) -> Sequel {
        self.ends = false;
        match *fate {
            Fate::Applied(ReplyBody::LeasesCounted(Some(done))) => {
                let (ended, left) = grants.split_at(done.min(grants.len()));
                ended.iter().for_each(|grant| self.book.strike(*grant));
                self.book.release(left.iter().copied());
                let ended = ended.len();
                Sequel::Onward { ended }
            }
            Fate::Refused => {
                self.book.release(grants.iter().copied());
                Sequel::Rests
            }
            Fate::Applied(_) | Fate::Unknown => Sequel::Over,
        }
    }

    fn noted(&mut self, times: &[LeaseTime], fate: &Fate, now_ms: u64) -> Sequel {
        self.notes = false;
        let grants = times.iter().map(|time| time.grant);
        match fate {
            Fate::Applied(ReplyBody::LeasesCounted(Some(_))) => self.book.noted(grants, now_ms),
            Fate::Refused => self.book.release(grants),
            Fate::Applied(_) | Fate::Unknown => return Sequel::Over,
        }
        Sequel::Rests
    }

    /// What became of a lease.
    pub(super) fn learn(&mut self, change: &LeaseChange, now_ms: u64) {
        match change {
            LeaseChange::Granted(lease) => self.book.add(lease, now_ms, 0),
            LeaseChange::Ended(grant) => self.book.strike(*grant),
        }
    }
}
