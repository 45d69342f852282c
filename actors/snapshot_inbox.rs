//! The snapshot that came from a peer, from the moment that it is whole until it is installed or thrown away. It outlives the
//! actors that talk about it, so that none of their deaths loses it or keeps the next one out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rm_raft::Snapshot;
use rm_store::{OpenError, Received, SnapshotError, SnapshotId, remove_others};
use slog::Logger;

use crate::ActorName;
use crate::fault::Point;
use crate::machine::Shared;
use crate::message::InstallFailed;
use crate::states::{self, InForce};

/// Holds at most one snapshot.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Content>);

#[derive(Default)]
enum Content {
    #[default]
    Nothing,
    /// It waits for the core to decide.
    Arrived(Arrived),
    /// The core wants it: it is made ready, or its commit is awaited.
    Installing(SnapshotId),
}

/// A snapshot that is whole, sound and durable.
pub(crate) struct Arrived {
    pub(crate) snapshot: Snapshot,
    pub(crate) received: Received,
}

/// What an offer of a snapshot finds.
pub(crate) enum Found {
    /// Nothing that stands in its way.
    Nothing,
    /// This very snapshot, of which the core should hear again.
    Same(Snapshot),
    /// This very snapshot, being installed.
    SameInstalling,
    /// Another one, being installed.
    OtherInstalling,
}

impl Inbox {
    /// What there is when a snapshot is offered. Another one that only waits makes way: whoever leads now may not send it again.
    pub(crate) fn offered(&self, id: SnapshotId) -> Result<Found, SnapshotError> {
        let mut content = self.content();
        match std::mem::take(&mut *content) {
            Content::Nothing => Ok(Found::Nothing),
            Content::Arrived(arrived) if arrived.received.description().id == id => {
                let snapshot = arrived.snapshot.clone();
                *content = Content::Arrived(arrived);
                Ok(Found::Same(snapshot))
            }
            Content::Arrived(arrived) => {
                arrived.received.discard()?;
                Ok(Found::Nothing)
            }
            Content::Installing(present) => {
                *content = Content::Installing(present);
                Ok(if present == id {
                    Found::SameInstalling
                } else {
                    Found::OtherInstalling
                })
            }
        }
    }

    /// Takes a snapshot that came. One is received at a time and none while another is here, so there is room.
    pub(crate) fn put(&self, arrived: Arrived) {
        *self.content() = Content::Arrived(arrived);
    }

    /// Throws a snapshot away, if it is this one that waits.
    pub(crate) fn discard(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        match self.take(snapshot, Content::Nothing) {
            Some(arrived) => arrived.received.discard(),
            None => Ok(()),
        }
    }

    /// Takes a snapshot out to be installed, if it is this one that waits.
    fn take_to_install(&self, snapshot: &Snapshot) -> Option<Arrived> {
        let id = match &*self.content() {
            Content::Arrived(arrived) => arrived.received.description().id,
            _ => return None,
        };
        self.take(snapshot, Content::Installing(id))
    }

    fn take(&self, snapshot: &Snapshot, instead: Content) -> Option<Arrived> {
        let mut content = self.content();
        match std::mem::replace(&mut *content, instead) {
            Content::Arrived(arrived) if arrived.snapshot == *snapshot => Some(arrived),
            other => {
                *content = other;
                None
            }
        }
    }

    fn clear(&self) {
        *self.content() = Content::Nothing;
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // It changes as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot on its way into force: the state of the next generation, ready beside the present one, for Storage to commit.
///
/// However it ends, with the actor that holds it or by a panic on the way, the state that the log does not name is removed, the
/// inbox is free again, and LogicCenter hears of a failure.
pub(crate) struct Installation {
    pub(crate) snapshot: Snapshot,
    /// Dropped before the turn, which removes its files if it is not in force.
    next: InForce,
    turn: Turn,
}

/// The right to install: one at a time.
struct Turn {
    shared: Arc<Shared>,
    incarnation: u64,
    snapshot: Snapshot,
    log: Logger,
    installed: bool,
    /// Given back when all that this one leaves is removed.
    _states: states::Turn,
}

impl Installation {
    /// Makes the snapshot that waits ready to be put in force. Takes its time; to be called on a thread that may block. None if it
    /// is not there or cannot be made ready, which LogicCenter is told.
    pub(crate) fn prepare(
        shared: &Arc<Shared>,
        incarnation: u64,
        snapshot: Snapshot,
        log: Logger,
    ) -> Option<Installation> {
        let Some(arrived) = shared.resources.inbox.take_to_install(&snapshot) else {
            let failed = InstallFailed {
                incarnation,
                snapshot,
            };
            shared.slots.logic_center.tell(failed);
            return None;
        };
        let turn = Turn {
            shared: shared.clone(),
            incarnation,
            snapshot: snapshot.clone(),
            log,
            installed: false,
            _states: shared.resources.states.turn_for_snapshot(),
        };
        shared.board.meters.installing.set(1);
        match turn.prepare(arrived.received) {
            Ok(next) => Some(Installation {
                snapshot,
                next,
                turn,
            }),
            Err(error) => {
                slog::warn!(turn.log, "a snapshot could not be made ready"; "error" => %error);
                None
            }
        }
    }

    /// The generation that Storage is to put in force.
    pub(crate) fn generation(&self) -> u64 {
        self.next.generation
    }

    /// Lets the new state be found, which the log has put in force.
    pub(crate) fn let_be_found(mut self) {
        self.turn.shared.resources.states.switch(self.next.clone());
        self.turn.installed = true;
    }
}

impl Turn {
    fn prepare(&self, received: Received) -> Result<InForce, SnapshotError> {
        let resources = &self.shared.resources;
        let failed = |source| SnapshotError::Io {
            action: "install",
            path: resources.directory.path().to_owned(),
            source,
        };
        self.shared
            .strike_disk_of(ActorName::LogicCenter, Point::Prepare)
            .map_err(failed)?;
        let present = resources.states.present().generation;
        let generation = present + 1;
        let options = resources.states.verified();
        let environment = received.prepare(&resources.directory, generation, &options)?;
        Ok(InForce {
            generation,
            environment,
        })
    }

    /// Removes every state that the log does not name, whichever of the two that is.
    fn tidy(&self) -> Result<(), OpenError> {
        let resources = &self.shared.resources;
        match resources.log.generation() {
            Ok(generation) => remove_others(&resources.directory, generation),
            // Without the log nobody knows; the next start does.
            Err(error) => {
                slog::warn!(self.log, "the log does not tell which state is in force"; "error" => %error);
                Ok(())
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Err(error) = self.tidy() {
            slog::warn!(self.log, "a state that is not in force could not be removed; the next start does it"; "error" => %error);
        }
        self.shared.resources.inbox.clear();
        self.shared.board.meters.installing.set(0);
        if !self.installed {
            let failed = InstallFailed {
                incarnation: self.incarnation,
                snapshot: self.snapshot.clone(),
            };
            self.shared.slots.logic_center.tell(failed);
        }
    }
}
