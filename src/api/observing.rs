//! Who leads an election, told to a client that observes it: each leader and each of its values once, in order.
//!
//! Whoever leads is watched from the revision on at which it was seen. What cannot be known any more, because the machine was restarted
//! in a part or has compacted it, may be left out, as in etcd; who leads then is told all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use rm_actors::port::{Counted, Event, Interest, KeyValue, Port, Query, Refusal};
use tonic::Status;

use crate::error::refused;
use crate::following::Following;
use crate::line::{Line, found};
use crate::visitor::Visitor;

/// A leader's key with its value, and the revision of the key space at that moment.
pub(crate) type Leader = (i64, KeyValue);

/// One client's view of an election.
pub(crate) struct Observing {
    visitor: Visitor,
    line: Line,
    /// What is followed; none if it must be looked first.
    sight: Option<Sight>,
    /// What was told last: the key, and the revision that wrote it.
    told: Option<(Bytes, i64)>,
}

/// What an observer follows.
struct Sight {
    following: Following,
    /// What happened and is not looked at yet.
    events: VecDeque<Arc<Event>>,
    /// That these wait for a stream.
    counted: Option<Counted>,
    /// Whether somebody leads, whose key alone is followed; else all who come are.
    is_led: bool,
}

impl Observing {
    pub(crate) fn new(visitor: Visitor, line: Line) -> Observing {
        Observing {
            visitor,
            line,
            sight: None,
            told: None,
        }
    }

    /// All that the client is told, up to the error that ends it.
    pub(crate) fn leaders(self) -> impl Stream<Item = Result<Leader, Status>> {
        stream::unfold(Some(self), |observing| async move {
            let mut observing = observing?;
            let told = observing.next().await;
            let rest = told.is_ok().then_some(observing);
            Some((told, rest))
        })
    }

    async fn next(&mut self) -> Result<Leader, Status> {
        loop {
            let seen = match &mut self.sight {
                Some(sight) => match sight.event().await {
                    Ok(event) => self.take(&event).await,
                    Err(refusal) => Err(refusal),
                },
                None => self.look().await,
            };
            match seen {
                Ok(Some((revision, leader))) => {
                    self.told = Some((leader.key.clone(), leader.mod_revision));
                    return Ok((revision, leader));
                }
                Ok(None) => {}
                Err(refusal) => {
                    self.sight = None;
                    self.visitor.pause(refusal).await.map_err(refused)?;
                }
            }
        }
    }

    /// Looks who leads, and follows that one, or whoever comes. The leader, if that was not told yet.
    async fn look(&mut self) -> Result<Option<Leader>, Refusal> {
        let port = &self.visitor.port;
        let query = Query::Range(self.line.first());
        let reply = port.query(query, port.default_consistency()).await?;
        let revision = reply.revision;
        match found(reply) {
            Some(leader) => {
                self.follow(&leader.key, revision + 1).await?;
                // It may have come, and said this, long before it led.
                let seen = Some((leader.key.clone(), leader.mod_revision));
                let is_news = seen != self.told;
                Ok(is_news.then_some((revision, leader)))
            }
            None => {
                let everybody = self.line.everybody();
                self.sight = Some(Sight::open(port, everybody, revision + 1, false).await?);
                Ok(None)
            }
        }
    }

    async fn follow(&mut self, key: &Bytes, start: i64) -> Result<(), Refusal> {
        let leader = Interest {
            key: key.clone(),
            ..Interest::default()
        };
        self.sight = Some(Sight::open(&self.visitor.port, leader, start, true).await?);
        Ok(())
    }

    /// What an event tells: a value of the leader, its end, or the first one who comes where nobody led.
    async fn take(&mut self, event: &Event) -> Result<Option<Leader>, Refusal> {
        let is_led = self.sight.as_ref().is_some_and(|sight| sight.is_led);
        if event.is_delete {
            self.sight = None;
            return Ok(None);
        }
        let revision = event.revision();
        if !is_led {
            self.follow(&event.kv.key, revision + 1).await?;
        }
        Ok(Some((revision, event.kv.clone())))
    }
}

impl Sight {
    async fn open(
        port: &Port,
        interest: Interest,
        start: i64,
        is_led: bool,
    ) -> Result<Sight, Refusal> {
        Ok(Sight {
            following: Following::open(port, [interest], start).await?,
            events: VecDeque::new(),
            counted: None,
            is_led,
        })
    }

    /// The next event. The last of those that happened counts no more: what is told of it counts as a reply.
    async fn event(&mut self) -> Result<Arc<Event>, Refusal> {
        loop {
            let event = self.events.pop_front();
            if self.events.is_empty() {
                self.counted = None;
            }
            if let Some(event) = event {
                return Ok(event);
            }
            let (events, counted) = self.following.next().await?;
            self.events.extend(events);
            self.counted = Some(counted);
        }
    }
}
