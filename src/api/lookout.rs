//! A look-out for the leader, for streams of clients that want to be told if there is none.
//!
//! One looks for all of them: a timer for each stream would never let an idle machine rest.

use std::time::Duration;

use rm_actors::port::Port;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::dispatch::wants_leader;
use crate::error::NO_LEADER;

/// For how many election timeouts there may be no leader before a stream that wants one is ended; as in etcd.
const TIMEOUTS_WITHOUT_LEADER: u64 = 3;

/// How often to look whether there is a leader.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Since when there is no leader; none where there is one.
#[derive(Clone)]
pub(crate) struct Leaderless {
    since: watch::Receiver<Option<Instant>>,
    /// For how long a stream bears that.
    patience: Duration,
}

/// Who looks.
pub(crate) struct Looks(watch::Sender<Option<Instant>>);

impl Leaderless {
    /// What the streams of a machine are told, and who tells it.
    pub(crate) fn new(election_timeout_ms: u64) -> (Looks, Leaderless) {
        let (looks, since) = watch::channel(None);
        let patience = Duration::from_millis(TIMEOUTS_WITHOUT_LEADER * election_timeout_ms);
        (Looks(looks), Leaderless { since, patience })
    }
}

impl Looks {
    /// Looks for the leader. It never ends.
    pub(crate) async fn look(&self, port: &Port) {
        let mut interval = tokio::time::interval(LOOK_PAUSE);
        loop {
            interval.tick().await;
            self.tell(port.report().leader.is_some());
        }
    }

    /// Wakes the streams where that is news.
    fn tell(&self, is_led: bool) {
        self.0.send_if_modified(|since| {
            let is_news = since.is_none() != is_led;
            if is_news {
                *since = (!is_led).then(Instant::now);
            }
            is_news
        });
    }
}

/// Looks for a leader, if the client wants one.
pub(crate) struct Lookout(Option<Wish>);

struct Wish {
    leaderless: Leaderless,
    /// From then on the client bears it.
    begun: Instant,
}

impl Lookout {
    /// As the client's metadata says it.
    pub(crate) fn new(leaderless: &Leaderless, metadata: &MetadataMap) -> Lookout {
        let headers = metadata.clone().into_headers();
        Lookout(wants_leader(&headers).then(|| Wish {
            leaderless: leaderless.clone(),
            begun: Instant::now(),
        }))
    }

    /// What the client is told once there has been no leader for too long. Never ready where it does not want to be told. Nothing is
    /// lost if the future is dropped before it is ready.
    pub(crate) async fn lost(&mut self) -> Status {
        let Some(Wish { leaderless, begun }) = &mut self.0 else {
            return std::future::pending().await;
        };
        let since = &mut leaderless.since;
        loop {
            let lost = *since.borrow_and_update();
            let out_of_patience = async {
                match lost {
                    Some(lost) => {
                        tokio::time::sleep_until(lost.max(*begun) + leaderless.patience).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = out_of_patience => return Status::unavailable(NO_LEADER),
                // An error says that the server is gone, and its streams with it.
                changed = since.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    fn lookout(leaderless: &Leaderless) -> Lookout {
        let mut metadata = MetadataMap::new();
        metadata.insert("hasleader", "true".parse().expect("it is a value"));
        Lookout::new(leaderless, &metadata)
    }

    #[tokio::test]
    async fn a_stream_hears_nothing_as_long_as_there_is_a_leader() {
        let (looks, leaderless) = Leaderless::new(1);
        let mut lookout = lookout(&leaderless);
        let mut lost = pin!(lookout.lost());
        let mut polls = 0;
        let counted = poll_fn(|cx| {
            polls += 1;
            looks.tell(true);
            lost.poll_unpin(cx)
        });
        let waited = tokio::time::timeout(5 * LOOK_PAUSE / 2, counted).await;
        assert!(waited.is_err(), "there is a leader");
        // At the begin, and when the time was over.
        assert_eq!(polls, 2, "it is not woken");
    }

    #[tokio::test]
    async fn a_stream_that_wants_a_leader_is_told_once_there_was_none_for_too_long() {
        let (looks, leaderless) = Leaderless::new(1);
        let mut before = lookout(&leaderless);
        looks.tell(false);
        let mut later = lookout(&leaderless);
        for lookout in [&mut before, &mut later] {
            assert_eq!(lookout.lost().await.message(), NO_LEADER);
        }
    }

    #[tokio::test]
    async fn a_stream_bears_a_short_time_without_a_leader() {
        let (looks, leaderless) = Leaderless::new(1_000_000);
        let mut lookout = lookout(&leaderless);
        looks.tell(false);
        assert!(lookout.lost().now_or_never().is_none());
        // A later time without one begins anew.
        let first = *leaderless.since.borrow();
        looks.tell(true);
        assert_eq!(*leaderless.since.borrow(), None);
        looks.tell(false);
        assert!(*leaderless.since.borrow() > first);
        assert!(lookout.lost().now_or_never().is_none());
    }
}
