//! How the Applier answers reads: in each turn some that are new, and a slice of one that is long, so that nobody waits behind a long one.

use std::time::Instant;

use actix::Context;
use rm_kv::{Keyspace, KvError, RequestError, Slice, Work};
use slog::error;

use crate::applier::Applier;
use crate::message::Read;
use crate::port::Refusal;
use crate::reads::LongRead;
use crate::replies::Answered;

/// The most reads that are begun in a turn.
const READS_MAX: usize = 64;

/// How much of a read is done at once, and after how much no other is begun in the same turn: about half a millisecond of work.
const SLICE: Work = Work {
    steps: 1_000,
    bytes: 256 << 10,
};

/// A read that was overtaken by so many compactions is answered in one go, so that it ends whoever compacts how often.
const OVERTAKEN_MAX: u32 = 3;

/// What a slice of a read comes to.
type Outcome = Result<Result<Slice, RequestError>, KvError>;

impl Applier {
    /// Answers some of the reads that can be answered.
    pub(crate) fn answer_slice(&mut self, context: &mut Context<Self>) {
        self.begin_some(context);
        self.go_on_with_one(context);
        self.post_long_reads();
    }

    fn begin_some(&mut self, context: &mut Context<Self>) {
        let before = self.keyspace.as_ref().map(Keyspace::work);
        for _ in 0..READS_MAX {
            let (Some(keyspace), Some(before)) = (&self.keyspace, before) else {
                return;
            };
            if keyspace.work().since(before).spends(SLICE) {
                return;
            }
            let Some(read) = self.reads.next() else {
                return;
            };
            self.machine.life.progresses();
            let Some(query) = &read.query else {
                // A client that has gone away needs no answer; so it is with all of them.
                let _ = read.answer.send(Ok(None));
                continue;
            };
            let began = Instant::now();
            let budget = match read.overtaken < OVERTAKEN_MAX {
                true => SLICE,
                false => Work::UNBOUNDED,
            };
            let outcome = self
                .work_done
                .begin(keyspace, (query, &read), began, budget);
            if let Some(long) = self.settle(read, began, outcome, context) {
                self.reads.begin_turns(long);
            }
        }
    }

    /// Does a slice of the long read whose turn it is.
    fn go_on_with_one(&mut self, context: &mut Context<Self>) {
        let Some(keyspace) = &self.keyspace else {
            return;
        };
        let Some(long) = self.reads.next_long() else {
            return;
        };
        self.machine.life.progresses();
        if long.is_abandoned() {
            self.work_done.meters().reads_abandoned.add(1);
            return aside(move || drop(long));
        }
        let LongRead {
            read,
            reading,
            began,
        } = long;
        let outcome = self.work_done.go_on(keyspace, reading, &read, began, SLICE);
        if let Some(long) = self.settle(read, began, outcome, context) {
            self.reads.end_turn(long);
        }
    }

    /// Forgets the reads that nobody waits for any more.
    pub(crate) fn sweep_reads(&mut self) {
        let abandoned = self.reads.sweep();
        let meters = self.work_done.meters();
        meters.reads_abandoned.add(abandoned as u64);
        self.post_long_reads();
    }

    fn post_long_reads(&self) {
        self.work_done.meters().reads_begun.set(self.reads.long());
    }

    /// Answers a read, unless there is more of it to do.
    fn settle(
        &mut self,
        read: Read,
        began: Instant,
        outcome: Outcome,
        context: &mut Context<Self>,
    ) -> Option<LongRead> {
        let answer = match outcome {
            Ok(Ok(Slice::Unfinished(reading))) => {
                return Some(LongRead {
                    read,
                    reading,
                    began,
                });
            }
            Ok(Ok(Slice::Overtaken(reading))) => {
                let long = LongRead {
                    read,
                    reading,
                    began,
                };
                let (mut read, rest) = long.begin_anew();
                aside(move || drop(rest));
                read.overtaken += 1;
                self.reads.requeue(read);
                return None;
            }
            Ok(Ok(Slice::Unsorted(unsorted))) => {
                aside(move || {
                    if read.answer.is_closed() {
                        return;
                    }
                    let reply = unsorted.sort(&read.making);
                    let room = read.making.finish();
                    let _ = read.answer.send(Ok(Some(Answered { reply, room })));
                });
                return None;
            }
            Ok(Ok(Slice::Answered(reply))) => Ok(Some(Answered {
                reply,
                room: read.making.finish(),
            })),
            Ok(Ok(Slice::Refused(reading, error))) => {
                let refusal = read.making.refusal(error);
                aside(move || drop((reading, read.making)));
                Err(refusal)
            }
            Ok(Err(error)) => Err(read.making.refusal(error)),
            Err(error) => {
                let text = error.to_string();
                error!(self.machine.log, "a read found damage"; "error" => &text);
                self.recover(error.into(), context);
                Err(Refusal::Damaged(text))
            }
        };
        if let Err(unwanted) = read.answer.send(answer) {
            aside(move || drop(unwanted));
        }
        None
    }
}

/// Does what may take long and needs nothing of the Applier where it holds nobody up: to sort many keys, or only to let go of their memory.
pub(crate) fn aside(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work);
}
