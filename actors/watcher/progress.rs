//! Notices of progress: that a watcher, or all of a stream, were told all that happened.

use std::time::{Duration, Instant};

use super::{Stream, StreamId, Watcher, WatcherId};
use crate::watching::Notice;

impl Watcher {
    /// The revision up to which a watcher was told everything; none while it is late, or waits for a later revision than there is.
    fn progress_of(&self, watcher: &WatcherId) -> Option<i64> {
        let watch = self.watchers.get(watcher)?;
        let newest = self.recent.as_ref()?.next() - 1;
        let is_reached = watch.start <= newest && watch.next <= newest + 1;
        (!watch.is_late && is_reached).then_some(newest)
    }

    pub(super) fn tell_progress_that_waits(&mut self) {
        for stream in self.asking.clone() {
            self.tell_progress(stream);
        }
    }

    /// Tells a stream of progress that asked for it, if all its watchers were told everything.
    pub(super) fn tell_progress(&mut self, id: StreamId) {
        if !self.asking.contains(&id) {
            return;
        }
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let progress = stream.watchers.values().map(|it| self.progress_of(it));
        let Some(revisions) = progress.collect::<Option<Vec<i64>>>() else {
            return;
        };
        self.asking.remove(&id);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let room = stream.asks_progress.take();
        // Without a watcher there is nobody to be told, as in etcd.
        if let Some(&revision) = revisions.first() {
            let notice = Notice::Progress { id: None, revision };
            stream.sending.tell(notice, room);
        }
    }

    /// Tells the watchers of progress that want to be told now and then, and heard of nothing else meanwhile.
    pub(super) fn tell_progress_that_is_due(&mut self) {
        let now = Instant::now();
        let due = |(id, stream): (&StreamId, &Stream)| (stream.progress_at <= now).then_some(*id);
        let due: Vec<StreamId> = self.streams.iter().filter_map(due).collect();
        for id in due {
            let pause = self.progress_pause();
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.progress_at = now + pause;
            for watcher in stream.watchers.values().copied().collect::<Vec<_>>() {
                self.tell_progress_of(watcher);
            }
        }
    }

    fn tell_progress_of(&mut self, watcher: WatcherId) {
        let progress = self.progress_of(&watcher);
        let Some(watch) = self.watchers.get_mut(&watcher) else {
            return;
        };
        let was_quiet = std::mem::replace(&mut watch.quiet, true);
        let (id, stream) = (watch.id, self.streams.get(&watcher.stream));
        if let (true, true, Some(revision), Some(stream)) =
            (watch.wants_progress, was_quiet, progress, stream)
            && !stream.sending.is_pending(id)
        {
            let notice = Notice::Progress {
                id: Some(id),
                revision,
            };
            stream.sending.tell(notice, None);
        }
    }

    /// The pause between two notices of progress, and up to a tenth more, so that not all streams are told at once.
    pub(super) fn progress_pause(&self) -> Duration {
        let interval = self.machine.shared.config.config.watch.progress_interval_ms;
        Duration::from_millis(interval + fastrand::u64(0..=interval / 10))
    }
}
