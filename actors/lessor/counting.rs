//! The time of leases while this machine leads: how a reign begins, and what it has written into the log.
//!
//! A reign begins with an entry that changes nothing: once it is applied, all that an earlier life of this actor had proposed in this
//! term is, too. Then all leases are read, part by part. What is proposed has its answer, or the reign begins anew: so the book never
//! takes a lease for free while its end may be on its way.

use std::collections::VecDeque;

use actix::{ActorFutureExt, AsyncContext, Context};
use rm_kv::{Command, Grant, Lease, LeaseTime, Query, ReplyBody};
use rm_raft::Term;
use slog::{debug, info};

use super::book::Book;
use super::{Lessor, Refusal};
use crate::port::{Consistency, Port};

/// How many leases are read at a time.
const PAGE: usize = 1_000;
/// The most leases that one entry ends.
const ENDS_MAX: usize = 100;
/// The most leases of which one entry notes what is left.
const NOTES_MAX: usize = 1_000;

/// This machine's time as the leader, or a part of it.
pub(super) struct Reign {
    pub(super) number: u64,
    pub(super) term: Term,
    pub(super) book: Book,
    stage: Stage,
    /// Whether an end of leases is on its way.
    ends: bool,
    /// Whether a note is on its way.
    notes: bool,
    /// Leases that are to be noted.
    to_note: VecDeque<Grant>,
    /// When to look next which leases are worth a note, by the clock of leases.
    note_at_ms: u64,
}

/// How far a reign has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The entry that begins it is to be proposed.
    New,
    /// It is on its way.
    Beginning,
    /// It is applied. The leases after this one are to be read.
    Heir(Option<i64>),
    /// They are being read.
    Reading,
    /// All are in the book.
    Counting,
}

/// What became of a proposal.
enum Fate {
    /// It is applied.
    Counted,
    /// It was not written: it can be proposed again.
    Refused,
    /// That is not known, or it came in another term.
    Unknown,
}

impl Reign {
    /// Whether all that was decided about leases before it is applied.
    pub(super) fn is_heir(&self) -> bool {
        !matches!(self.stage, Stage::New | Stage::Beginning)
    }
}

impl Lessor {
    pub(super) fn begin_reign(&mut self, term: Term, context: &mut Context<Self>) {
        self.reigns += 1;
        let note_at_ms = self.now_ms() + self.interval_ms();
        self.reign = Some(Reign {
            number: self.reigns,
            term,
            book: Book::default(),
            stage: Stage::New,
            ends: false,
            notes: false,
            to_note: VecDeque::new(),
            note_at_ms,
        });
        self.count(context);
    }

    /// How often what is left of leases is noted, in milliseconds.
    fn interval_ms(&self) -> u64 {
        let leases = &self.machine.shared.config.config.leases;
        leases.checkpoint_interval_seconds.saturating_mul(1_000)
    }

    /// Does what is to be done next.
    pub(super) fn count(&mut self, context: &mut Context<Self>) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        match reign.stage {
            Stage::New => {
                reign.stage = Stage::Beginning;
                self.propose_ends(Vec::new(), context);
            }
            Stage::Heir(after) => {
                reign.stage = Stage::Reading;
                self.read(after, context);
            }
            Stage::Beginning | Stage::Reading => {}
            Stage::Counting => {
                self.end_leases(context);
                self.note_leases(context);
            }
        }
    }

    fn read(&mut self, after: Option<i64>, context: &mut Context<Self>) {
        let Some(reign) = self.reign.as_ref().map(|reign| reign.number) else {
            return;
        };
        let page = actix::fut::wrap_future::<_, Self>(page(self.port.clone(), after));
        context.spawn(page.map(move |leases, this, context| {
            if this.reigns(reign) {
                this.take_in(after, leases, context);
            }
        }));
    }

    /// Takes leases into the book that were read, or has them read again on the next tick.
    fn take_in(
        &mut self,
        after: Option<i64>,
        leases: Option<Vec<Lease>>,
        context: &mut Context<Self>,
    ) {
        let now_ms = self.now_ms();
        let extension_ms = self
            .machine
            .shared
            .config
            .config
            .timings
            .election_timeout_ms;
        self.machine.life.progresses();
        let Some(reign) = &mut self.reign else {
            return;
        };
        let Some(leases) = leases else {
            reign.stage = Stage::Heir(after);
            return;
        };
        for lease in &leases {
            reign.book.add(lease, now_ms, extension_ms);
        }
        if leases.len() == PAGE {
            reign.stage = Stage::Heir(leases.last().map(|lease| lease.grant.id));
            self.count(context);
        } else {
            reign.stage = Stage::Counting;
            info!(self.machine.log, "counts the time of leases"; "leases" => reign.book.len(), "term" => reign.term.0);
        }
    }

    /// Has leases ended whose time is over.
    fn end_leases(&mut self, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.ends) else {
            return;
        };
        let grants = reign.book.begin_to_end(now_ms, ENDS_MAX);
        if !grants.is_empty() {
            reign.ends = true;
            self.propose_ends(grants, context);
        }
    }

    fn propose_ends(&mut self, grants: Vec<Grant>, context: &mut Context<Self>) {
        let Some(reign) = &self.reign else {
            return;
        };
        let command = Command::ExpireLeases {
            term: reign.term.0,
            grants: grants.clone(),
        };
        self.propose(command, context, move |this, fate, context| {
            this.ended(&grants, &fate, context);
        });
    }

    fn ended(&mut self, grants: &[Grant], fate: &Fate, context: &mut Context<Self>) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        reign.ends = false;
        let begins = reign.stage == Stage::Beginning;
        match fate {
            Fate::Counted if begins => reign.stage = Stage::Heir(None),
            Fate::Refused if begins => {
                reign.stage = Stage::New;
                return; // the next tick proposes it again
            }
            Fate::Counted => {
                debug!(self.machine.log, "leases have ended"; "count" => grants.len());
                grants.iter().for_each(|grant| reign.book.strike(*grant));
            }
            Fate::Refused => return reign.book.release(grants.iter().copied()),
            Fate::Unknown => return self.begin_anew(context),
        }
        self.count(context);
    }

    /// Has it noted what is left of leases that are long and not renewed.
    fn note_leases(&mut self, context: &mut Context<Self>) {
        let (now_ms, interval_ms) = (self.now_ms(), self.interval_ms());
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.notes) else {
            return;
        };
        if reign.to_note.is_empty() && reign.note_at_ms <= now_ms {
            reign.note_at_ms = now_ms + interval_ms;
            reign.to_note = reign.book.worth_noting(now_ms, interval_ms).into();
        }
        let count = reign.to_note.len().min(NOTES_MAX);
        let grants = reign.to_note.drain(..count);
        let times = reign.book.begin_to_note(grants, now_ms, interval_ms);
        if times.is_empty() {
            return;
        }
        reign.notes = true;
        let command = Command::NoteLeases {
            term: reign.term.0,
            times: times.clone(),
        };
        self.propose(command, context, move |this, fate, context| {
            this.noted(&times, &fate, context);
        });
    }

    fn noted(&mut self, times: &[LeaseTime], fate: &Fate, context: &mut Context<Self>) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        reign.notes = false;
        if let Fate::Unknown = fate {
            return self.begin_anew(context);
        }
        // Those whose note was refused are worth another when it is looked again.
        reign.book.release(times.iter().map(|time| time.grant));
        self.note_leases(context);
    }

    /// Proposes, and goes on with what became of it if this reign lasts.
    fn propose(
        &mut self,
        command: Command,
        context: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Fate, &mut Context<Self>) + 'static,
    ) {
        let Some(reign) = self.reign.as_ref().map(|reign| reign.number) else {
            return;
        };
        let port = self.port.clone();
        let proposed = async move { port.propose(command).await };
        let proposed = actix::fut::wrap_future::<_, Self>(proposed);
        context.spawn(proposed.map(move |outcome, this, context| {
            let fate = match outcome.map(|reply| reply.body) {
                Ok(ReplyBody::LeasesCounted(true)) => Fate::Counted,
                Err(Refusal::NoSpace | Refusal::TooManyRequests | Refusal::Stopped) => {
                    Fate::Refused
                }
                Ok(_) | Err(_) => Fate::Unknown,
            };
            if this.reigns(reign) {
                then(this, fate, context);
            }
        }));
    }
}

/// The next leases, as this machine has applied them.
async fn page(port: Port, after: Option<i64>) -> Option<Vec<Lease>> {
    let query = Query::Leases { after, limit: PAGE };
    match port
        .query(query, Consistency::Serializable)
        .await
        .ok()?
        .body
    {
        ReplyBody::Leases(leases) => Some(leases),
        _ => None,
    }
}
