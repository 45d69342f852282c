//! The memory for replies: what clients have asked for and not taken yet has a bound in sum (`limits.replies_bytes_max`).
//!
//! A reply takes its part while it is made, and gives it back as it is sent. Where none is left the reply is not made any further:
//! nothing is kept of it, and whoever asked waits in order until there is room, then asks again. Replies that a single key can make have a
//! share of their own, so that none of them ever waits behind a large one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rm_config::Limits;
use rm_kv::{MAX_REPLY_BYTES, Reply, ReplyMemory, RequestError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::port::Refusal;

/// One of so many parts of the memory is for small replies alone.
const SMALL_SHARE: usize = 4;

/// The most who wait for room of one kind at a time; one more is refused.
const WAITING_MAX: usize = 256;

/// The most streams that wait beside them at a time, before whoever comes later; one more waits behind the other streams.
const STREAMS_MAX: usize = 16;

/// The most that is set aside for the reply of a write that tells keys before the write is begun, in bytes. All that may be under way have
/// half of the memory for small replies at most.
const PROMISED_BYTES_MAX: usize = 8 << 10;

/// The least and the most that a reply takes at once, in bytes.
const STEP_BYTES_MIN: usize = 1 << 10;
const STEP_BYTES_MAX: usize = 1 << 20;

/// The memory for the replies of one machine.
#[derive(Debug)]
pub(crate) struct Replies {
    small: Share,
    large: Share,
    /// Up to so many bytes a reply is small.
    small_bytes_max: usize,
    /// So much is set aside for the reply of a write that tells keys.
    promised_bytes: usize,
    /// What is set aside for the replies of writes that are under way, and how many times their bytes count, by their numbers.
    promised: Mutex<HashMap<u64, (ReplyRoom, usize)>>,
}

/// A part of the memory.
#[derive(Debug)]
struct Share {
    bytes: usize,
    free: Arc<Semaphore>,
    /// Places to wait in.
    places: Semaphore,
    /// The same for streams, as many as there are.
    stream_places: Semaphore,
    /// Turns of streams to wait beside the others.
    stream_turns: Semaphore,
}

impl Share {
    fn of(bytes: usize) -> Share {
        Share {
            bytes,
            free: Arc::new(Semaphore::new(bytes)),
            places: Semaphore::new(WAITING_MAX),
            stream_places: Semaphore::new(Semaphore::MAX_PERMITS),
            stream_turns: Semaphore::new(STREAMS_MAX),
        }
    }

    /// So many bytes now, or none.
    fn take(&self, bytes: usize) -> Option<ReplyRoom> {
        let bytes = u32::try_from(bytes).ok()?;
        let permit = self.free.clone().try_acquire_many_owned(bytes).ok()?;
        Some(ReplyRoom(Some(permit)))
    }

    /// So many bytes, behind all who came before; none when too many wait.
    async fn wait(&self, bytes: usize) -> Option<ReplyRoom> {
        let _place = self.places.try_acquire().ok()?;
        Some(self.acquire(bytes).await)
    }

    /// The same for a stream, behind the others that wait, however many they are.
    async fn wait_as_stream(&self, bytes: usize) -> ReplyRoom {
        let _place = self.stream_places.try_acquire();
        let turn = self.stream_turns.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        self.acquire(bytes).await
    }

    async fn acquire(&self, bytes: usize) -> ReplyRoom {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = self.free.clone().acquire_many_owned(bytes).await;
        ReplyRoom(Some(permit.expect("the semaphore is never closed")))
    }

    fn waiting(&self) -> usize {
        let with_place = WAITING_MAX - self.places.available_permits();
        with_place + Semaphore::MAX_PERMITS - self.stream_places.available_permits()
    }

    fn held_bytes(&self) -> usize {
        self.bytes - self.free.available_permits()
    }
}

impl Replies {
    pub(crate) fn new(limits: &Limits) -> Arc<Replies> {
        let bytes = limits.replies_bytes_max.min(Semaphore::MAX_PERMITS);
        let small = bytes / SMALL_SHARE;
        Arc::new(Replies {
            small: Share::of(small),
            large: Share::of(bytes - small),
            // The value of a key, and as much for what is around it.
            small_bytes_max: limits.request_bytes_max.saturating_mul(2).min(small),
            promised_bytes: (small / 2 / limits.requests_max.max(1)).clamp(1, PROMISED_BYTES_MAX),
            promised: Mutex::default(),
        })
    }

    /// The most bytes that one reply may take.
    pub(crate) fn reply_bytes_max(&self) -> usize {
        MAX_REPLY_BYTES.min(self.large.bytes)
    }

    /// How many bytes are held by replies that are made, on their way, or not taken yet.
    pub(crate) fn held_bytes(&self) -> usize {
        self.small.held_bytes() + self.large.held_bytes()
    }

    /// How many wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.small.waiting() + self.large.waiting()
    }

    /// Waits for so many bytes, or for the most that a reply may take, behind all who came before for a reply of this kind; none when too
    /// many wait.
    pub(crate) async fn wait(&self, bytes: usize) -> Option<ReplyRoom> {
        let bytes = bytes.min(self.reply_bytes_max());
        self.share(bytes).wait(bytes).await
    }

    /// Waits for so many bytes, or for the most that a reply may take, for what a stream tells next, however long that takes. There are no
    /// more who wait so than streams, and few of them at a time hold up whoever asks once.
    pub(crate) async fn wait_as_stream(&self, bytes: usize) -> ReplyRoom {
        let bytes = bytes.min(self.reply_bytes_max());
        self.share(bytes).wait_as_stream(bytes).await
    }

    /// Waits for what a write needs that tells keys, so that it is not carried out in vain; none when too many wait.
    pub(crate) async fn wait_to_tell(&self) -> Option<ReplyRoom> {
        self.wait(self.promised_bytes).await
    }

    /// Keeps this for the reply of the write with this number, whose bytes count so many times, if it is anything.
    pub(crate) fn promise(
        self: &Arc<Self>,
        number: u64,
        room: ReplyRoom,
        weight: usize,
    ) -> Option<Promise> {
        if room.bytes() == 0 {
            return None;
        }
        self.promises().insert(number, (room, weight));
        Some(Promise {
            replies: self.clone(),
            number,
        })
    }

    /// The reply of this write, to be made with what was kept for it, if anything was. It counts as much when it is made anew.
    pub(crate) fn take_promised(self: &Arc<Self>, number: u64) -> Making {
        let (room, weight) = match self.promises().get_mut(&number) {
            Some((room, weight)) => (std::mem::take(room), *weight),
            // It tells nothing, or nobody waits for it any more.
            None => (ReplyRoom::default(), 1),
        };
        Making::new(self.clone(), weight, room)
    }

    /// Nothing panics while it is locked.
    fn promises(&self) -> MutexGuard<'_, HashMap<u64, (ReplyRoom, usize)>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn share(&self, bytes: usize) -> &Share {
        match bytes <= self.small_bytes_max {
            true => &self.small,
            false => &self.large,
        }
    }
}

/// The memory that a reply holds. It is free again when this is dropped.
#[derive(Debug, Default)]
pub struct ReplyRoom(Option<OwnedSemaphorePermit>);

impl ReplyRoom {
    /// How many bytes they are.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Takes so many of them out, or all if they are fewer.
    pub fn split(&mut self, bytes: usize) -> ReplyRoom {
        let bytes = bytes.min(self.bytes());
        ReplyRoom(self.0.as_mut().and_then(|permit| permit.split(bytes)))
    }

    fn is_of(&self, share: &Share) -> bool {
        let permit = self.0.as_ref();
        permit.is_some_and(|permit| Arc::ptr_eq(permit.semaphore(), &share.free))
    }

    fn merge(&mut self, more: ReplyRoom) {
        match (&mut self.0, more.0) {
            (Some(permit), Some(more)) => permit.merge(more),
            (_, more) => self.0 = more,
        }
    }
}

/// That memory is kept for the reply of a write, as long as somebody waits for that.
#[derive(Debug)]
pub(crate) struct Promise {
    replies: Arc<Replies>,
    number: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.replies.promises().remove(&self.number);
    }
}

/// A reply, and the memory that it holds.
#[derive(Debug)]
pub struct Answered {
    /// The reply.
    pub reply: Reply,
    /// To be held as long as anything of the reply is.
    pub room: ReplyRoom,
}

/// A reply that is to be made.
pub(crate) struct Making {
    replies: Arc<Replies>,
    /// How many bytes each of its bytes counts for: what is made of it takes more memory than the reply.
    weight: usize,
    taken: RefCell<Taken>,
}

#[derive(Default)]
struct Taken {
    /// What is set aside.
    room: ReplyRoom,
    /// How much of that is needed, or would have been.
    bytes: usize,
}

impl Making {
    /// With what was waited for, if anything was.
    pub(crate) fn new(replies: Arc<Replies>, weight: usize, room: ReplyRoom) -> Making {
        Making {
            replies,
            weight,
            taken: RefCell::new(Taken { room, bytes: 0 }),
        }
    }

    /// The same for another attempt at the reply; this one holds what it has taken until it is dropped.
    pub(crate) fn anew(&self) -> Making {
        Making::new(self.replies.clone(), self.weight, ReplyRoom::default())
    }

    /// The memory of a reply that was made.
    pub(crate) fn finish(self) -> ReplyRoom {
        let Taken { mut room, bytes } = self.taken.into_inner();
        room.split(bytes)
    }

    /// Why it was not made, if that was for want of memory.
    pub(crate) fn refusal(&self, error: RequestError) -> Refusal {
        let bytes = self.taken.borrow().bytes;
        match error {
            RequestError::NoRoomForReply if bytes > self.replies.reply_bytes_max() => {
                Refusal::Request(RequestError::ReplyTooLarge)
            }
            RequestError::NoRoomForReply => Refusal::NoRoomForReply { bytes },
            error => Refusal::Request(error),
        }
    }
}

impl ReplyMemory for Making {
    fn take(&self, bytes: usize) -> bool {
        let taken = &mut *self.taken.borrow_mut();
        taken.bytes += bytes.saturating_mul(self.weight);
        taken.bytes <= taken.room.bytes() || taken.grow(&self.replies)
    }

    fn give_back(&self, bytes: usize) {
        self.taken.borrow_mut().bytes -= bytes.saturating_mul(self.weight);
    }
}

impl Taken {
    /// Sets aside as much as is needed, and more if that is to be had: a reply that grows asks the fewer times the larger it is.
    fn grow(&mut self, replies: &Replies) -> bool {
        if self.bytes > replies.reply_bytes_max() {
            return false;
        }
        let had = self.room.bytes();
        let mut ample = had + had.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        if self.bytes <= replies.small_bytes_max {
            ample = ample.min(replies.small_bytes_max);
        }
        let ample = ample.clamp(self.bytes, replies.reply_bytes_max());
        self.grow_to(ample, replies) || self.grow_to(self.bytes, replies)
    }

    fn grow_to(&mut self, bytes: usize, replies: &Replies) -> bool {
        let share = match self.room.is_of(&replies.large) {
            true => &replies.large,
            false => replies.share(bytes),
        };
        let stays = self.room.is_of(share);
        let more = share.take(if stays {
            bytes - self.room.bytes()
        } else {
            bytes
        });
        let Some(more) = more else {
            return false;
        };
        match stays {
            true => self.room.merge(more),
            // It has become too large for the share of the small ones.
            false => self.room = more,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;

    /// 64 MiB, 16 of which are for replies of up to 2.
    fn replies() -> Arc<Replies> {
        Replies::new(&Limits {
            replies_bytes_max: 64 * MIB,
            request_bytes_max: MIB,
            ..Limits::default()
        })
    }

    fn making(replies: &Arc<Replies>) -> Making {
        Making::new(replies.clone(), 1, ReplyRoom::default())
    }

    /// A reply that is made of parts of this size; none if there was no room.
    fn made(replies: &Arc<Replies>, bytes: usize, part: usize) -> Option<ReplyRoom> {
        let making = making(replies);
        let mut parts = (0..bytes).step_by(part);
        let fits = parts.all(|at| making.take(part.min(bytes - at)));
        fits.then(|| making.finish())
    }

    fn held(replies: &Replies) -> (usize, usize) {
        (replies.small.held_bytes(), replies.large.held_bytes())
    }

    #[test]
    fn a_reply_holds_what_it_took_until_it_is_dropped() {
        let replies = replies();
        let small = made(&replies, 1_500, 100).expect("there is room");
        assert_eq!(held(&replies), (1_500, 0));
        let mut large = made(&replies, 5 * MIB, 1_000).expect("there is room");
        assert_eq!(held(&replies), (1_500, 5 * MIB));
        let part = large.split(2 * MIB);
        drop(large);
        assert_eq!(held(&replies), (1_500, 2 * MIB));
        drop((small, part));
        assert_eq!(replies.held_bytes(), 0);
    }

    #[test]
    fn what_is_given_back_while_a_reply_is_made_counts_no_more() {
        let replies = replies();
        let making = making(&replies);
        for _ in 0..10 {
            assert!(making.take(40 * MIB));
            making.give_back(40 * MIB);
        }
        assert!(making.take(7));
        let _room = making.finish();
        assert_eq!(replies.held_bytes(), 7);
    }

    #[test]
    fn a_reply_takes_the_last_byte_and_no_more() {
        let replies = replies();
        let most = made(&replies, 48 * MIB, 1_000).expect("there is room");
        assert_eq!(most.bytes(), 48 * MIB);
        let refused = making(&replies);
        assert!(!refused.take(2 * MIB + 1));
        assert_eq!(
            refused.refusal(RequestError::NoRoomForReply),
            Refusal::NoRoomForReply { bytes: 2 * MIB + 1 }
        );
        drop((refused, most));
        assert_eq!(replies.held_bytes(), 0, "what was refused holds nothing");
        let too_large = making(&replies);
        assert!(!too_large.take(48 * MIB + 1));
        assert_eq!(
            too_large.refusal(RequestError::NoRoomForReply),
            Refusal::Request(RequestError::ReplyTooLarge)
        );
    }

    #[test]
    fn large_replies_leave_room_for_small_ones_and_small_ones_for_large_ones() {
        let replies = replies();
        let large = made(&replies, 48 * MIB, MIB).expect("there is room");
        assert!(made(&replies, 3 * MIB, MIB).is_none());
        let small: Vec<_> = (0..8).map_while(|_| made(&replies, 2 * MIB, MIB)).collect();
        assert_eq!(small.len(), 8);
        assert!(made(&replies, 1, 1).is_none());
        drop(large);
        assert!(made(&replies, 3 * MIB, 3 * MIB).is_some());
    }

    #[tokio::test]
    async fn who_waits_is_served_in_order_and_nobody_who_comes_later_before() {
        let replies = replies();
        let first = made(&replies, 30 * MIB, MIB).expect("there is room");
        let mut waits = Box::pin(replies.wait(40 * MIB));
        assert!(waits.as_mut().now_or_never().is_none());
        let mut waits_too = Box::pin(replies.wait(10 * MIB));
        assert!(waits_too.as_mut().now_or_never().is_none());
        assert_eq!(replies.waiting(), 2);
        assert!(made(&replies, 10 * MIB, MIB).is_none());
        let small = replies.wait(MIB).now_or_never().flatten();
        assert!(small.is_some(), "a small one waits behind no large one");
        drop(first);
        let large = waits.await.expect("there is room for the first");
        assert!(waits_too.as_mut().now_or_never().is_none());
        drop(large);
        assert!(waits_too.await.is_some());
        assert_eq!(replies.waiting(), 0);
    }

    #[tokio::test]
    async fn no_more_wait_than_there_are_places() {
        let replies = replies();
        let _all = made(&replies, 48 * MIB, MIB).expect("there is room");
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            let mut wait = Box::pin(replies.wait(3 * MIB));
            assert!(wait.as_mut().now_or_never().is_none());
            waiting.push(wait);
        }
        let one_more = replies.wait(3 * MIB).now_or_never();
        assert!(matches!(one_more, Some(None)), "it is refused");
        let small = replies.wait(MIB).now_or_never().flatten();
        assert!(small.is_some(), "small ones have places of their own");
        waiting.pop();
        let one_more = replies.wait(3 * MIB).now_or_never();
        assert!(one_more.is_none(), "it waits");
    }

    #[test]
    fn streams_wait_however_many_they_are_and_few_of_them_before_others() {
        let replies = replies();
        let all: Vec<_> = (0..8).map_while(|_| made(&replies, 2 * MIB, MIB)).collect();
        let streams = 2 * WAITING_MAX;
        let mut waiting: Vec<_> = (0..streams)
            .map(|_| Box::pin(replies.wait_as_stream(MIB)))
            .collect();
        let at_once = waiting.iter_mut().filter_map(|wait| wait.now_or_never());
        assert_eq!(at_once.count(), 0, "there is no room");
        assert_eq!(replies.waiting(), streams);
        let mut other = Box::pin(replies.wait(MIB));
        assert!(other.as_mut().now_or_never().is_none(), "it has a place");
        drop(all);
        let told = waiting.iter_mut().filter_map(|wait| wait.now_or_never());
        let told: Vec<ReplyRoom> = told.collect();
        assert_eq!(told.len(), STREAMS_MAX);
        drop(told);
        let other = other.now_or_never().flatten();
        assert!(other.is_some(), "it is before the other streams");
    }

    #[tokio::test]
    async fn nobody_waits_for_more_than_a_reply_may_take() {
        let limits = Limits {
            replies_bytes_max: 4 * MAX_REPLY_BYTES,
            ..Limits::default()
        };
        let replies = Replies::new(&limits);
        let room = replies.wait(2 * MAX_REPLY_BYTES).await;
        assert_eq!(room.map(|room| room.bytes()), Some(MAX_REPLY_BYTES));
    }

    #[tokio::test]
    async fn what_is_promised_to_a_write_goes_into_its_reply_however_many_wait_for_room() {
        let replies = replies();
        let room = replies.wait_to_tell().await.expect("there is room");
        let promise = replies.promise(7, room, 4);
        let _others = made(&replies, 2 * MIB, MIB);
        let mut waits: Vec<_> = (0..9).map(|_| Box::pin(replies.wait(2 * MIB))).collect();
        let ready = waits.iter_mut().filter_map(|wait| wait.now_or_never());
        let _taken: Vec<_> = ready.collect();
        assert!(made(&replies, 1, 1).is_none(), "they want all there is");
        let making = replies.take_promised(7);
        assert!(making.take(replies.promised_bytes / 4));
        assert_eq!(making.finish().bytes(), replies.promised_bytes);
        let again = replies.take_promised(7);
        assert!(!again.take(1), "what was kept is gone");
        assert_eq!(
            again.refusal(RequestError::NoRoomForReply),
            Refusal::NoRoomForReply { bytes: 4 },
            "and it counts as much"
        );
        drop(promise);
    }

    #[test]
    fn all_writes_that_may_be_under_way_leave_half_to_others() {
        for (bytes, promised) in [(1 << 30, 8 << 10), (64 * MIB, 2 << 10), (1 << 10, 1)] {
            let limits = Limits {
                replies_bytes_max: bytes,
                requests_max: 4_096,
                ..Limits::default()
            };
            assert_eq!(Replies::new(&limits).promised_bytes, promised);
        }
    }

    #[tokio::test]
    async fn what_was_promised_is_free_when_nobody_waits_for_the_reply() {
        let replies = replies();
        let room = replies.wait_to_tell().await.expect("there is room");
        let promise = replies.promise(7, room, 1);
        assert_eq!(replies.held_bytes(), replies.promised_bytes);
        drop(promise);
        assert_eq!(replies.held_bytes(), 0);
        assert!(replies.promise(8, ReplyRoom::default(), 1).is_none());
    }

    #[tokio::test]
    async fn a_reply_goes_on_with_what_was_waited_for() {
        let replies = replies();
        let room = replies.wait(40 * MIB).await.expect("there is room");
        let making = Making::new(replies.clone(), 1, room);
        assert!(making.take(45 * MIB), "and takes more");
        let room = making.finish();
        assert_eq!((room.bytes(), replies.held_bytes()), (45 * MIB, 45 * MIB));
    }

    #[test]
    fn a_reply_of_weight_takes_so_many_times_its_bytes() {
        let replies = replies();
        let making = Making::new(replies.clone(), 8, ReplyRoom::default());
        assert!(making.take(MIB));
        let _room = making.finish();
        assert_eq!(held(&replies), (0, 8 * MIB));
    }
}
