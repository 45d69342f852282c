//! A place in line: taken, waited in until it is the first, kept, or left.
//!
//! The protocol is that of etcd's clients, so that they and the callers of these services stand in the same lines. It waits by
//! watching the next one before it and its own key, from the revision on at which it looked: no end is missed, and each end wakes one.
//!
//! Calls with one lease share a place. So that a call which is given up does not leave a place that a later one has been told to be
//! the first, whoever comes to a place writes its key, and leaves it only if nobody has written it since.

use std::time::Duration;

use bytes::Bytes;
use rm_actors::port::{
    Command, DeleteRange, Interest, Operation, Put, Query, Range, Refusal, Reply, ReplyBody,
    RequestError, Txn,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::error::refused;
use crate::following::Following;
use crate::line::{Line, created, found, own, touch, written};
use crate::patience::Patience;
use crate::visitor::Visitor;

/// For how long a lease is granted to whoever brings none, in seconds (etcd: defaultSessionTTL).
const LEASE_SECONDS: i64 = 60;

/// For how long it is tried to leave a place of which nobody will know any more: its client may keep its lease for ever.
const LEAVE_TIME: Duration = Duration::from_secs(LEASE_SECONDS as u64);

/// Why a place is not the first.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Its key is gone: its lease has ended, or somebody has deleted it.
    Lost,
    /// The place could not be taken, or it was not waited for longer.
    Refused(Status),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Ended {
        Ended::Refused(refused(refusal))
    }
}

impl Ended {
    /// What the client is told, with this where its key is gone.
    pub(crate) fn or_lost(self, lost: &str) -> Status {
        match self {
            Ended::Lost => Status::unknown(lost),
            Ended::Refused(status) => status,
        }
    }
}

/// Who comes to a line.
#[derive(Clone, Debug)]
pub(crate) struct Comer {
    pub(crate) line: Line,
    /// The lease to stand in it with; zero to be given one.
    pub(crate) lease: i64,
    /// The value of the key; none to leave a key that is there as it is.
    pub(crate) value: Option<Bytes>,
}

/// A place that is the first.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) key: Bytes,
    pub(crate) lease: i64,
    /// The revision that created the key.
    pub(crate) created: i64,
    /// The revision in which it was seen to be the first.
    pub(crate) revision: i64,
}

/// Where in a line a place is.
struct Spot {
    key: Bytes,
    lease: i64,
    /// The revision that created the key.
    created: i64,
    /// The revision at which it was last seen who is before it.
    seen_at: i64,
}

/// A place in line, left when it is dropped.
struct Place {
    visitor: Visitor,
    line: Line,
    spot: Spot,
    /// The revision in which this call was the last to write the key; zero before it has.
    written: i64,
    is_first: bool,
    /// Whether the lease was granted for it, and ends with it.
    owns_lease: bool,
    /// Whether it is this call's to leave.
    to_be_left: bool,
}

/// Takes a place in line, and waits until it is the first. Whatever ends that otherwise, be it that the client is gone, leaves the
/// place.
///
/// # Errors
/// As [`Ended`] says. Where the outcome of taking the place is unknown it may be there for as long as the client's lease.
pub(crate) async fn first_in_line(
    visitor: Visitor,
    comer: Comer,
    patience: &mut Patience,
) -> Result<First, Ended> {
    // On a task of its own, so that a place is known, and left, that is taken after the client has gone.
    let taking = tokio::spawn(Place::take(visitor, comer));
    let mut place = taking.await.unwrap_or(Err(Refusal::Restarted))?;
    let waited = tokio::select! {
        waited = place.wait() => waited,
        status = patience.over() => Err(Ended::Refused(status)),
    };
    match waited {
        Ok(()) => Ok(place.keep()),
        Err(ended) => {
            place.leave().await;
            Err(ended)
        }
    }
}

impl Place {
    async fn take(visitor: Visitor, comer: Comer) -> Result<Place, Refusal> {
        let Comer { line, lease, value } = comer;
        let mut place = Place {
            spot: Spot {
                key: line.key(lease),
                lease,
                created: 0,
                seen_at: 0,
            },
            visitor,
            line,
            written: 0,
            is_first: false,
            owns_lease: false,
            to_be_left: false,
        };
        if lease == 0 {
            let (_, granted) = place.visitor.port.grant_lease(0, LEASE_SECONDS).await?;
            place.spot.lease = granted.grant.id;
            place.spot.key = place.line.key(granted.grant.id);
            (place.owns_lease, place.to_be_left) = (true, true);
        }
        place.write_key_and_look(value).await?;
        Ok(place)
    }

    /// Writes the key, and sees who is first.
    async fn write_key_and_look(&mut self, value: Option<Bytes>) -> Result<(), Refusal> {
        let Spot { key, lease, .. } = &self.spot;
        let put = |value| {
            Operation::Put(Put {
                key: key.clone(),
                value,
                lease: *lease,
                ..Put::default()
            })
        };
        let again = match &value {
            Some(value) => put(value.clone()),
            None => Operation::Put(touch(key)),
        };
        // Values may be large, and are of no interest here.
        let look = [own(key), self.line.first()].map(|range| {
            Operation::Range(Range {
                keys_only: true,
                ..range
            })
        });
        let txn = Txn {
            compare: vec![created(key, 0)],
            success: [put(value.unwrap_or_default())]
                .into_iter()
                .chain(look.clone())
                .collect(),
            failure: [again].into_iter().chain(look).collect(),
        };
        let reply = self.visitor.port.propose(Command::Txn(txn)).await;
        if let Err(Refusal::Request(RequestError::NoRoomForReplyAfterChange { revision })) = reply {
            // A key that an earlier revision created may be held by a call that was told so: it is not found by this one.
            (self.spot.created, self.written) = (revision, revision);
            self.to_be_left = true;
        }
        let (is_new, revision, replies) = outcome(reply?)?;
        let mut found = replies.into_iter().skip(1).map(found);
        let (Some(Some(mine)), Some(Some(first))) = (found.next(), found.next()) else {
            return Err(Refusal::Restarted);
        };
        self.spot.created = mine.create_revision;
        self.spot.seen_at = revision;
        self.written = revision;
        self.is_first = first.key == mine.key;
        // A place that was the first before may be held by a call that was told so.
        self.to_be_left |= is_new || !self.is_first;
        Ok(())
    }

    /// Returns once it is the first. Nothing is lost if the future is dropped before it is ready.
    async fn wait(&mut self) -> Result<(), Ended> {
        while !self.is_first {
            match self.look_and_wait().await {
                Ok(true) => {}
                Ok(false) => return Err(Ended::Lost),
                Err(refusal) => self.visitor.pause(refusal).await?,
            }
        }
        Ok(())
    }

    /// Looks who is before it, and waits until that one or its own key is gone; false if its own is.
    async fn look_and_wait(&mut self) -> Result<bool, Refusal> {
        let port = &self.visitor.port;
        let Spot { key, created, .. } = &self.spot;
        let look = [own(key), self.line.before(*created)].map(Operation::Range);
        let look = Txn {
            success: look.into(),
            ..Txn::default()
        };
        let reply = port.query(Query::Txn(look), port.default_consistency());
        let (_, revision, replies) = outcome(reply.await?)?;
        let mut found = replies.into_iter().map(found);
        let mine = found.next().flatten();
        let Some(mine) = mine.filter(|mine| mine.create_revision == *created) else {
            self.to_be_left &= self.owns_lease;
            return Ok(false);
        };
        if let Some(before) = found.next().flatten() {
            let one = |key: &Bytes| Interest {
                key: key.clone(),
                no_put: true,
                ..Interest::default()
            };
            let interests = [one(&before.key), one(key)];
            let mut following = Following::open(port, interests, revision + 1).await?;
            following.next().await?;
            return Ok(true);
        }
        self.spot.seen_at = revision;
        self.is_first = mine.mod_revision == self.written || self.write_again().await?;
        Ok(self.is_first)
    }

    /// Another call with the same lease has come since, and would leave the place when it is given up: comes to it once more.
    async fn write_again(&mut self) -> Result<bool, Refusal> {
        let Spot {
            key, created: at, ..
        } = &self.spot;
        let txn = Txn {
            compare: vec![created(key, *at)],
            success: vec![Operation::Put(touch(key))],
            ..Txn::default()
        };
        let reply = self.visitor.port.propose(Command::Txn(txn)).await?;
        let (is_there, revision, _) = outcome(reply)?;
        (self.written, self.spot.seen_at) = (revision, revision);
        Ok(is_there)
    }

    fn keep(mut self) -> First {
        self.to_be_left = false;
        First {
            key: self.spot.key.clone(),
            lease: self.spot.lease,
            created: self.spot.created,
            revision: self.spot.seen_at,
        }
    }

    /// Returns once the place is left, or the client has waited for that as long as for any request: then it goes on by itself.
    async fn leave(mut self) {
        let patience_ms = self.visitor.port.config().timings.request_timeout_ms;
        if let Some(leaving) = self.start_to_leave() {
            let patience = Duration::from_millis(patience_ms);
            // What comes of it is logged nowhere: a place that is left behind ends with its lease.
            let _ = tokio::time::timeout(patience, leaving).await;
        }
    }

    fn start_to_leave(&mut self) -> Option<JoinHandle<()>> {
        if !std::mem::take(&mut self.to_be_left) {
            return None;
        }
        let Spot {
            key,
            lease,
            created: at,
            ..
        } = &self.spot;
        let command = if self.owns_lease {
            Command::RevokeLease { id: *lease }
        } else {
            let delete = DeleteRange {
                key: key.clone(),
                ..DeleteRange::default()
            };
            Command::Txn(Txn {
                compare: vec![created(key, *at), written(key, self.written)],
                success: vec![Operation::DeleteRange(delete)],
                ..Txn::default()
            })
        };
        // There is none any more where the process ends.
        let runtime = Handle::try_current().ok()?;
        let visitor = self.visitor.clone();
        Some(runtime.spawn(async move { visitor.take_back(command, LEAVE_TIME).await }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It goes on by itself.
        drop(self.start_to_leave());
    }
}

/// Whether the comparisons of a transaction held, its revision, and the answers to what it did.
pub(crate) fn outcome(reply: Reply) -> Result<(bool, i64, Vec<Reply>), Refusal> {
    match reply.body {
        ReplyBody::Txn(txn) => Ok((txn.succeeded, reply.revision, txn.replies)),
        _ => Err(Refusal::Restarted),
    }
}
