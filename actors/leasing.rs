//! Leases, as the port offers them: granted and revoked through the log, renewed and looked at through the Lessor.

use std::time::{Duration, Instant};

use rm_kv::{Command, Deed, Lease, Query, Reply, ReplyBody, ReplyMemory, RequestError};
use tokio::sync::oneshot;

use crate::lessor::{Question, Wish};
use crate::message::AskLessor;
use crate::port::{Consistency, Port, Refusal};
use crate::replies::{Answered, Making, ReplyRoom};

/// How many leases are read at a time where all are listed: the Applier judges them, and what hangs on them, in one go.
const PAGE: usize = 1_000;

/// How much memory the id of a lease takes while it is told, in bytes: once as it is read, once as it is encoded, and once more where a list
/// of them grows.
const ID_BYTES: usize = 3 * 16;

/// The pause before a question that was lost with an actor is asked again.
const ASK_AGAIN_PAUSE: Duration = Duration::from_millis(2);

/// How much is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLeft {
    /// For how long it was granted, in seconds.
    pub ttl: i64,
    /// How much is left of it.
    pub left: Duration,
}

/// What a look at a lease yields.
#[derive(Debug)]
pub struct LeaseReport {
    /// How much is left of it.
    pub left: LeaseLeft,
    /// The keys that hang on it, in their order, if they were asked for.
    pub keys: Vec<bytes::Bytes>,
    /// The memory that they take.
    pub room: ReplyRoom,
}

impl Port {
    /// Grants a lease of this id, or of one that is free where it is zero. A time that is shorter than an election and its aftermath is
    /// lengthened to that, as in etcd: nobody could renew it in time.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn grant_lease(&self, id: i64, ttl: i64) -> Result<(Reply, Lease), Refusal> {
        let ttl = ttl.max(self.lease_seconds_min());
        loop {
            let chosen = match id {
                0 => fastrand::i64(1..),
                id => id,
            };
            let grant = Command::GrantLease { id: chosen, ttl };
            grant.check(0)?;
            match self.propose(grant).await {
                Err(Refusal::Request(RequestError::LeaseExists)) if id == 0 => {}
                Err(refusal) => return Err(refusal),
                Ok(reply) => match reply.body {
                    ReplyBody::GrantLease(lease) => return Ok((reply, lease)),
                    _ => return Err(Refusal::Restarted),
                },
            }
        }
    }

    /// The shortest time for which a lease is granted, in seconds: one and a half election timeouts, as in etcd.
    fn lease_seconds_min(&self) -> i64 {
        let election_ms = self.shared.config.config.timings.election_timeout_ms;
        i64::try_from((election_ms * 3 / 2).div_ceil(1_000)).unwrap_or(i64::MAX)
    }

    /// Ends a lease, and deletes the keys that hang on it.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn revoke_lease(&self, id: i64) -> Result<Reply, Refusal> {
        self.propose(Command::RevokeLease { id }).await
    }

    /// Gives a lease its whole time again, counted from some moment after this was asked; none if there is no such lease. It waits
    /// while too many others are asked about. Whether that is permitted is judged by what was committed an election timeout before this was
    /// asked, or later: to ask for each renewal what is committed by now would double what renewals cost.
    ///
    /// # Errors
    /// No machine that leads has answered in time, or this one stops. Whether the lease was renewed is then unknown.
    pub async fn renew_lease(&self, id: i64) -> Result<Option<LeaseLeft>, Refusal> {
        self.be_recent().await?;
        self.may(Deed::Renew(id)).await?;
        self.ask_lessor(Wish::Renew, id).await
    }

    /// Looks how much is left of a lease, and which keys hang on it if they are wanted; none if there is no such lease.
    ///
    /// # Errors
    /// As [`Port::renew_lease`]; a look changes nothing.
    pub async fn lease(&self, id: i64, keys: bool) -> Result<Option<LeaseReport>, Refusal> {
        self.may(Deed::Be).await?;
        let Some(left) = self.ask_lessor(Wish::Look, id).await? else {
            return Ok(None);
        };
        let mut report = LeaseReport {
            left,
            keys: Vec::new(),
            room: ReplyRoom::default(),
        };
        // How much is left is for anybody to know who is somebody, as in etcd 3.6; what hangs on it for those who may read it.
        if keys {
            let query = Query::Lease { id, keys };
            match self.query_held(query, Consistency::Quorum).await {
                Err(Refusal::Request(RequestError::LeaseNotFound)) => return Ok(None),
                Err(refusal) => return Err(refusal),
                Ok(Answered { reply, room }) => {
                    if let ReplyBody::Lease(lease) = reply.body {
                        report.keys = lease.keys;
                        report.room = room;
                    }
                }
            }
        }
        Ok(Some(report))
    }

    /// The ids of all leases: of those that were there all the while, and of some that came or went meanwhile; with the memory for telling
    /// of them. Whoever may not read all that hangs on any of them is told none, as in etcd.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn leases(&self) -> Result<(Vec<i64>, ReplyRoom), Refusal> {
        self.may(Deed::Be).await?;
        let deadline = Instant::now() + self.shared.request_timeout();
        let mut room = ReplyRoom::default();
        loop {
            match self.leases_within(room).await {
                Err(Refusal::NoRoomForReply { bytes }) => {
                    room = self.room_for(bytes, deadline).await?;
                }
                outcome => return outcome,
            }
        }
    }

    async fn leases_within(&self, room: ReplyRoom) -> Result<(Vec<i64>, ReplyRoom), Refusal> {
        let mut ids: Vec<i64> = Vec::new();
        let replies = self.shared.replies.clone();
        let making = Making::new(replies, self.reply_weight, room);
        loop {
            let query = Query::ListLeases {
                after: ids.last().copied(),
                limit: PAGE,
            };
            // Later parts need not be newer than the first.
            let consistency = match ids.is_empty() {
                true => Consistency::Quorum,
                false => Consistency::Serializable,
            };
            let reply = self.query(query, consistency).await?;
            let ReplyBody::Leases(page) = reply.body else {
                return Err(Refusal::Restarted);
            };
            if !making.take(page.len() * ID_BYTES) {
                return Err(making.refusal(RequestError::NoRoomForReply));
            }
            ids.extend(page.iter().map(|lease| lease.grant.id));
            if page.len() < PAGE {
                return Ok((ids, making.finish()));
            }
        }
    }

    /// A question carries its own answer: if the Lessor dies with it, that is known at once, and since asking twice does no harm it is
    /// asked again.
    async fn ask_lessor(&self, wish: Wish, id: i64) -> Result<Option<LeaseLeft>, Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        let room = tokio::time::timeout_at(deadline.into(), self.room_for_leases.acquire());
        let _room = room.await.map_err(|_| Refusal::TooManyRequests)?;
        loop {
            if self.shared.board.stopping() {
                return Err(Refusal::Stopped);
            }
            let (answer, answered) = oneshot::channel();
            let mut losses = self.shared.slots.lessor.losses();
            self.shared.slots.lessor.tell(AskLessor(Question {
                wish,
                id,
                deadline,
                answer,
            }));
            let answered = async {
                tokio::select! {
                    answered = answered => answered.ok(),
                    _ = losses.changed() => None,
                }
            };
            match tokio::time::timeout_at(deadline.into(), answered).await {
                Err(_) if self.shared.board.raft().leader.is_none() => {
                    return Err(Refusal::NoLeader);
                }
                Err(_) => return Err(Refusal::TimedOut),
                Ok(Some(outcome)) => return outcome,
                Ok(None) => tokio::time::sleep(ASK_AGAIN_PAUSE).await,
            }
        }
    }
}
