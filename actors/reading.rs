//! Reads, as the port offers them: asked again as long as they are lost with an actor, or find no room for their reply.

use std::time::{Duration, Instant};

use rm_kv::{Query, Reply};
use rm_raft::{Index, ReadMode};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::message::{Read, ReadLinearizable, Serve};
use crate::port::{Port, Refusal};
use crate::replies::{Answered, Making, ReplyRoom};

/// The pause before a read that was lost with an actor is asked again.
const READ_AGAIN_PAUSE: Duration = Duration::from_millis(2);

/// What a read must have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Whatever this machine has applied.
    Serializable,
    /// All that was committed when it came, as a quorum confirms.
    Quorum,
    /// The same, as the leader's lease confirms, where there is one.
    Lease,
}

impl Port {
    /// Answers a query.
    ///
    /// # Errors
    /// As [`Port::propose`]; a query that fails has changed nothing.
    pub async fn query(&self, query: Query, consistency: Consistency) -> Result<Reply, Refusal> {
        let answered = self.query_held(query, consistency).await?;
        Ok(answered.reply)
    }

    /// The same, with the memory of the reply, for who goes on holding it.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn query_held(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<Answered, Refusal> {
        let query = match self.by.clone() {
            Some(by) => Query::Signed {
                by,
                query: Box::new(query),
            },
            None => query,
        };
        let answered = self.read(Some(query), consistency).await?;
        answered.ok_or(Refusal::Restarted)
    }

    /// Returns once this machine has applied all that was committed when it was called.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn barrier(&self) -> Result<(), Refusal> {
        let asked = self.shared.clock.micros();
        self.read(None, Consistency::Quorum).await?;
        self.shared.board.note_caught_up(asked);
        Ok(())
    }

    /// Returns once this machine has applied all that was committed at some moment of the last election timeout. What is judged by its
    /// state after that is judged by none that is older, as one is that a process began with, or woke up with; and the others are asked
    /// once in such a time, or a little more often where many come at once. It waits while too many requests are under way.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub(crate) async fn be_recent(&self) -> Result<(), Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        loop {
            if self.is_recent() {
                return Ok(());
            }
            match self.signed(None).barrier().await {
                Err(Refusal::TooManyRequests) if Instant::now() < deadline => {
                    tokio::time::sleep(READ_AGAIN_PAUSE).await;
                }
                Err(Refusal::TimedOut) if self.shared.board.raft().leader.is_none() => {
                    return Err(Refusal::NoLeader);
                }
                outcome => return outcome,
            }
        }
    }

    fn is_recent(&self) -> bool {
        let election_us = self.shared.config.config.timings.election_timeout_ms * 1_000;
        let age_us = |at| self.shared.clock.micros().saturating_sub(at);
        let caught_up = self.shared.board.caught_up();
        caught_up.is_some_and(|at| age_us(at) < election_us)
    }

    /// A read carries its own answer: if an actor dies with it, that is known at once, and since reads change nothing
    /// it is asked again.
    pub(crate) async fn read(
        &self,
        query: Option<Query>,
        consistency: Consistency,
    ) -> Result<Option<Answered>, Refusal> {
        let outcome = self.read_until_answered(query, consistency).await;
        let meters = self.meters();
        let failed = outcome.as_ref().is_err_and(|refusal| !refusal.is_clients());
        if failed && consistency != Consistency::Serializable {
            meters.reads_failed.add(1);
            if matches!(outcome, Err(Refusal::TimedOut)) {
                meters.reads_timed_out.add(1);
            }
        }
        outcome
    }

    async fn read_until_answered(
        &self,
        query: Option<Query>,
        consistency: Consistency,
    ) -> Result<Option<Answered>, Refusal> {
        let began = Instant::now();
        let deadline = tokio::time::Instant::from_std(began + self.shared.request_timeout());
        let mut room = ReplyRoom::default();
        loop {
            let room_so_far = std::mem::take(&mut room);
            let read = self.read_once(query.clone(), consistency, room_so_far);
            let outcome = match timeout_at(deadline, read).await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(Refusal::TimedOut),
            };
            match outcome {
                Some(Err(Refusal::NoLeader)) | None if Instant::now() < deadline.into_std() => {
                    tokio::time::sleep(READ_AGAIN_PAUSE).await;
                }
                // What is on its way to the disk may still find room there, or another machine take the lead.
                Some(Err(Refusal::NoSpace)) if began.elapsed() < self.patience_with_disk() => {
                    tokio::time::sleep(READ_AGAIN_PAUSE).await;
                }
                Some(Err(Refusal::NoSpace)) => return Err(Refusal::Behind),
                Some(Err(Refusal::NoRoomForReply { bytes })) => {
                    room = self.room_for(bytes, deadline.into_std()).await?;
                }
                Some(outcome) => return outcome,
                None => return Err(Refusal::Restarted),
            }
        }
    }

    /// None if it was lost with an actor.
    async fn read_once(
        &self,
        query: Option<Query>,
        consistency: Consistency,
        room: ReplyRoom,
    ) -> Result<Option<Result<Option<Answered>, Refusal>>, Refusal> {
        let (answer, answered) = oneshot::channel();
        let _room = self.admit()?;
        let read = Read {
            query,
            making: Making::new(self.shared.replies.clone(), self.reply_weight, room),
            overtaken: 0,
            answer,
        };
        let mut losses = self.shared.slots.logic_center.losses();
        let mode = match consistency {
            Consistency::Serializable => None,
            Consistency::Quorum => Some(ReadMode::Quorum),
            Consistency::Lease => Some(ReadMode::Lease),
        };
        match mode {
            Some(mode) => {
                let read = ReadLinearizable { read, mode };
                self.shared.slots.logic_center.tell(read);
            }
            None => self.shared.slots.applier.tell(Serve {
                index: Index(0),
                reads: vec![read],
            }),
        }
        tokio::select! {
            answered = answered => Ok(answered.ok()),
            _ = losses.changed() => Ok(None),
        }
    }

    /// Waits for room for a reply for which so many bytes were not to be had. How much it takes is not known: twice as much as was not
    /// enough.
    pub(crate) async fn room_for(
        &self,
        bytes: usize,
        deadline: Instant,
    ) -> Result<ReplyRoom, Refusal> {
        let wait = self.shared.replies.wait(bytes.saturating_mul(2));
        self.room_by(deadline, bytes, wait).await
    }

    /// Waits for the memory of what a stream tells its client next, in bytes, however long that takes.
    pub async fn room_to_tell(&self, bytes: usize) -> ReplyRoom {
        self.shared.replies.wait_as_stream(bytes).await
    }

    /// How long a read waits for a machine whose disk is full.
    fn patience_with_disk(&self) -> Duration {
        let election = self.shared.config.config.timings.election_timeout_ms;
        let half = self.shared.request_timeout() / 2;
        half.min(Duration::from_millis(2 * election))
    }

    /// What a linearizable read rests on that does not say it.
    pub fn default_consistency(&self) -> Consistency {
        match self.shared.config.config.reads.default {
            rm_config::ReadMode::Quorum => Consistency::Quorum,
            rm_config::ReadMode::Lease => Consistency::Lease,
        }
    }
}
