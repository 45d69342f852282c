//! What happens to some keys from a revision on, for a service that waits for it.

use std::sync::Arc;

use rm_actors::port::{Counted, Event, Interest, NewWatcher, Notice, Port, Refusal, WatchStream};

/// Watchers on this machine. They are gone when it is dropped.
pub(crate) struct Following(WatchStream);

impl Following {
    /// Follows keys from a revision on. Whether the client may read them is for the caller to have asked.
    ///
    /// # Errors
    /// The machine stops.
    pub(crate) async fn open(
        port: &Port,
        interests: impl IntoIterator<Item = Interest>,
        start: i64,
    ) -> Result<Following, Refusal> {
        let stream = port.watch()?;
        for interest in interests {
            let watcher = NewWatcher {
                interest,
                start,
                ..NewWatcher::default()
            };
            let room = stream.room().await;
            stream.create(watcher, room);
        }
        Ok(Following(stream))
    }

    /// What happens next, of each key the oldest first. It counts as what waits for a stream, for as long as the caller says.
    ///
    /// # Errors
    /// It is not known any more what happened: look at the keys, and follow them from there.
    pub(crate) async fn next(&mut self) -> Result<(Vec<Arc<Event>>, Counted), Refusal> {
        loop {
            match self.0.next().await? {
                Notice::Happened { parts, counted, .. } => {
                    let events = parts.iter().flat_map(|part| part.events.iter().cloned());
                    return Ok((events.collect(), counted));
                }
                // It was compacted before this machine told of it.
                Notice::Refused { .. } | Notice::Ended { .. } => return Err(Refusal::Restarted),
                Notice::Created { .. } | Notice::Progress { .. } => {}
            }
        }
    }
}
