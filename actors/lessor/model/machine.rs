//! A machine of the model: its lessor's count, its key space, and what is on its way to the lessor.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use rm_kv::{Grant, Lease, LeaseChange, ReplyBody};
use rm_raft::Term;

use super::MEASURES;
use super::promises::Moment;
use super::table::Table;
use crate::lessor::asking::Wish;
use crate::lessor::counting::Counting;
use crate::lessor::looking::{Found, Looking};
use crate::lessor::reign::{Fate, Proposal};

/// Who waits for what becomes of an entry: in which life of which machine's lessor.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) machine: usize,
    pub(super) life: u64,
    pub(super) wait: Wait,
}

/// What a lessor waits for, in which reign.
#[derive(Clone)]
pub(super) enum Wait {
    Decision(u64, Proposal),
    /// What must be written before a look is settled.
    Note(u64, usize),
}

/// What a lessor is told by its key space, in this order.
pub(super) enum News {
    Changed(LeaseChange),
    /// It was opened again, and what was news before may have been told to nobody.
    Opened,
}

/// What a lessor is told of what it asked for, in which reign; in any order.
pub(super) enum Heard {
    Decided(u64, Proposal, Fate),
    Page(u64, Option<Vec<Lease>>),
    Found(u64, usize, Option<Found>),
}

/// So many leases, after one.
pub(super) struct Page {
    pub(super) after: Option<i64>,
    pub(super) count: usize,
}

/// A look at leases, on its way.
pub(super) struct Look {
    pub(super) reign: u64,
    pub(super) wish: Wish,
    pub(super) ids: Vec<i64>,
    pub(super) looking: Looking,
    pub(super) asked: Moment,
    /// Which leases were there when they were looked up, by their ids.
    pub(super) there: Option<BTreeMap<i64, Grant>>,
    pub(super) found: Vec<Lease>,
}

pub(super) struct Machine {
    pub(super) counting: Counting,
    pub(super) life: u64,
    /// The term in which it believes that it leads.
    pub(super) leads_in: Option<Term>,
    pub(super) table: Table,
    /// How many entries its key space has applied.
    pub(super) applied: usize,
    /// Before it has applied so many it serves nobody: an earlier life of its key space may have shown them.
    pub(super) shown: usize,
    /// An earlier state of its key space, which it may begin anew from.
    checkpoint: (Table, usize),
    pub(super) news: VecDeque<News>,
    pub(super) heard: Vec<Heard>,
    /// The parts of the leases that are to be read, each in a reign.
    pub(super) pages: Vec<(u64, Page)>,
    pub(super) looks: HashMap<usize, Look>,
    began: Instant,
    /// How far its clock runs ahead of the time.
    pub(super) ahead_ms: u64,
    /// It is stopped until then.
    pub(super) stopped_until_ms: u64,
    pub(super) ticked_ms: u64,
}

impl Machine {
    pub(super) fn new(began: Instant) -> Machine {
        Machine {
            counting: Counting::new(began, MEASURES),
            life: 0,
            leads_in: None,
            table: Table::default(),
            applied: 0,
            shown: 0,
            checkpoint: (Table::default(), 0),
            news: VecDeque::new(),
            heard: Vec::new(),
            pages: Vec::new(),
            looks: HashMap::new(),
            began,
            ahead_ms: 0,
            stopped_until_ms: 0,
            ticked_ms: 0,
        }
    }

    fn instant(&self, now_ms: u64) -> Instant {
        self.began + Duration::from_millis(now_ms + self.ahead_ms)
    }

    /// The time by its clock of leases.
    pub(super) fn clock(&mut self, now_ms: u64) -> u64 {
        let now = self.instant(now_ms);
        self.counting.look(now)
    }

    /// Its lessor dies, and another begins.
    pub(super) fn restart_lessor(&mut self, now_ms: u64) {
        self.counting = Counting::new(self.instant(now_ms), MEASURES);
        self.life += 1;
        self.heard.clear();
        self.pages.clear();
        self.looks.clear();
    }

    /// The state of its key space is durable.
    pub(super) fn checkpoint(&mut self) {
        self.checkpoint = (self.table.clone(), self.applied);
    }

    /// Its key space is opened again, as of its last checkpoint, and of what was news only so much is heard of.
    pub(super) fn reopen(&mut self, heard: usize) {
        (self.table, self.applied) = self.checkpoint.clone();
        self.news.truncate(heard);
        self.news.push_back(News::Opened);
    }

    /// It is known what became of an entry.
    pub(super) fn answer(&mut self, wait: Wait, fate: Fate) {
        let heard = match wait {
            Wait::Decision(reign, proposal) => Heard::Decided(reign, proposal, fate),
            Wait::Note(reign, number) => {
                let found = self.looks.get_mut(&number).map(|look| &mut look.found);
                let leases = found.map(std::mem::take).unwrap_or_default();
                let found = match fate {
                    Fate::Applied(ReplyBody::LeasesCounted(Some(_))) => {
                        Some(Found::settled(leases))
                    }
                    Fate::Applied(_) => None,
                    Fate::Refused | Fate::Unknown => Some(Found::unsettled(leases)),
                };
                Heard::Found(reign, number, found)
            }
        };
        self.heard.push(heard);
    }
}
