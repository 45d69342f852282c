//! The time of leases while this machine leads: how a reign begins, and what it has written into the log.
//!
//! A reign begins with an entry of its own, which all that it has written later names: once it is applied, what an earlier reign had
//! proposed does nothing any more, however late it comes (`src/kv/lease.rs`). Then all leases are read, part by part. What is proposed
//! has its answer, or a new reign begins: so the book never takes a lease for free while its end may yet count.

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
/// The most leases of which one entry notes what is left. There is no more than one such entry a tick.
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
    Reading { entry: u64 },
    /// All are in the book.
    Counting { entry: u64 },
}

/// What became of a proposal.
enum Fate {
    /// It is applied.
    Applied(ReplyBody),
    /// It was not written: it can be proposed again.
    Refused,
    /// That is not known.
    Unknown,
}

impl Reign {
    /// The entry that began it, once it is applied.
    pub(super) fn entry(&self) -> Option<u64> {
        match self.stage {
            Stage::New | Stage::Beginning => None,
            Stage::Begun { entry, .. } | Stage::Reading { entry } | Stage::Counting { entry } => {
                Some(entry)
            }
        }
    }
}

impl Lessor {
    pub(super) fn begin_reign(&mut self, term: Term) {
        self.reigns += 1;
        let leases = &self.machine.shared.config.config.leases;
        let note_ms = leases.checkpoint_interval_seconds.saturating_mul(1_000);
        self.reign = Some(Reign {
            number: self.reigns,
            term,
            book: Book::new(note_ms),
            stage: Stage::New,
            ends: false,
            notes: false,
        });
    }

    /// Does what is to be done next.
    pub(super) fn count(&mut self, context: &mut Context<Self>) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        match reign.stage {
            Stage::New => {
                reign.stage = Stage::Beginning;
                self.propose(Command::CountLeases, context, |this, fate, context| {
                    this.begun(&fate, context);
                });
            }
            Stage::Begun { entry, after } => {
                reign.stage = Stage::Reading { entry };
                self.read(entry, after, context);
            }
            Stage::Beginning | Stage::Reading { .. } => {}
            Stage::Counting { entry } => {
                self.end_leases(entry, context);
                self.note_leases(entry, context);
            }
        }
    }

    fn begun(&mut self, fate: &Fate, context: &mut Context<Self>) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        match *fate {
            Fate::Applied(ReplyBody::CountLeases(entry)) => {
                let after = None;
                reign.stage = Stage::Begun { entry, after };
                self.count(context);
            }
            // The next tick proposes it again: twice does no harm.
            _ => reign.stage = Stage::New,
        }
    }

    fn read(&mut self, entry: u64, after: Option<i64>, context: &mut Context<Self>) {
        let Some(reign) = self.reign.as_ref().map(|reign| reign.number) else {
            return;
        };
        let page = actix::fut::wrap_future::<_, Self>(page(self.port.clone(), after));
        context.spawn(page.map(move |leases, this, context| {
            if this.reigns(reign) {
                this.take_in(entry, after, leases, context);
            }
        }));
    }

    /// Takes leases into the book that were read, or has them read again on the next tick.
    fn take_in(
        &mut self,
        entry: u64,
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
            reign.stage = Stage::Begun { entry, after };
            return;
        };
        for lease in &leases {
            reign.book.add(lease, now_ms, extension_ms);
        }
        if leases.len() == PAGE {
            let after = leases.last().map(|lease| lease.grant.id);
            reign.stage = Stage::Begun { entry, after };
            self.count(context);
        } else {
            reign.stage = Stage::Counting { entry };
            reign.book.complete();
            info!(self.machine.log, "counts the time of leases"; "leases" => reign.book.len(), "term" => reign.term.0);
        }
    }

    /// Has leases ended whose time is over.
    fn end_leases(&mut self, entry: u64, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.ends) else {
            return;
        };
        let grants = reign.book.begin_to_end(now_ms, ENDS_MAX);
        if grants.is_empty() {
            return;
        }
        reign.ends = true;
        let command = Command::ExpireLeases {
            reign: entry,
            grants: grants.clone(),
        };
        self.propose(command, context, move |this, fate, context| {
            this.ended(entry, &grants, &fate, context);
        });
    }

    fn ended(&mut self, entry: u64, grants: &[Grant], fate: &Fate, context: &mut Context<Self>) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        reign.ends = false;
        match *fate {
            Fate::Applied(ReplyBody::LeasesCounted(Some(done))) => {
                let (ended, left) = grants.split_at(done.min(grants.len()));
                debug!(self.machine.log, "leases have ended"; "count" => ended.len());
                ended.iter().for_each(|grant| reign.book.strike(*grant));
                let meters = &self.machine.shared.board.meters;
                meters.leases_expired.add(ended.len() as u64);
                reign.book.release(left.iter().copied());
                self.end_leases(entry, context);
            }
            Fate::Refused => reign.book.release(grants.iter().copied()),
            Fate::Applied(_) | Fate::Unknown => self.begin_anew(),
        }
    }

    /// Has it noted what is left of leases that are long and not renewed.
    fn note_leases(&mut self, entry: u64, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.notes) else {
            return;
        };
        let times = reign.book.begin_to_note(now_ms, NOTES_MAX);
        if times.is_empty() {
            return;
        }
        reign.notes = true;
        let command = Command::NoteLeases {
            reign: entry,
            times: times.clone(),
        };
        self.propose(command, context, move |this, fate, _| {
            this.noted(&times, &fate);
        });
    }

    fn noted(&mut self, times: &[LeaseTime], fate: &Fate) {
        let now_ms = self.now_ms();
        let Some(reign) = &mut self.reign else {
            return;
        };
        reign.notes = false;
        let grants = times.iter().map(|time| time.grant);
        match fate {
            Fate::Applied(ReplyBody::LeasesCounted(Some(_))) => reign.book.noted(grants, now_ms),
            Fate::Refused => reign.book.release(grants),
            Fate::Applied(_) | Fate::Unknown => self.begin_anew(),
        }
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
            let fate = match outcome {
                Ok(reply) => Fate::Applied(reply.body),
                Err(Refusal::NoSpace | Refusal::TooManyRequests | Refusal::Stopped) => {
                    Fate::Refused
                }
                Err(_) => Fate::Unknown,
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
