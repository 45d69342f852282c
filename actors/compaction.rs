//! LogicCenter's part of compaction and snapshots: what the core wants done about them, and what it is told of them.

use std::sync::Arc;

use actix::{Context, Handler};
use rm_raft::{Effect, Input, Snapshot};
use slog::{Logger, warn};

use crate::logic_center::LogicCenter;
use crate::machine::{Derived, Shared};
use crate::message::{
    Checkpointed, Compact, Install, InstallFailed, Installed, SendSnapshot, SnapshotEnded,
    SnapshotMoves, SnapshotReceived, Unsettled,
};
use crate::port::Refusal;
use crate::snapshot_inbox::Installation;

impl LogicCenter {
    /// Performs an effect that is about the log's compaction or a snapshot.
    pub(crate) fn perform_compaction(&self, effect: Effect) {
        let machine = &self.machine;
        let incarnation = machine.incarnation();
        let slots = &machine.shared.slots;
        match effect {
            Effect::Compact { up_to } => slots.storage.tell(Compact { incarnation, up_to }),
            Effect::SendSnapshot {
                to,
                number,
                term,
                at_least,
            } => slots.sender.tell(SendSnapshot {
                incarnation,
                number,
                term,
                to,
                at_least,
            }),
            Effect::Install(snapshot) => {
                let (shared, log) = (machine.shared.clone(), machine.log.clone());
                // Marks and renames wait for the disk, which LogicCenter has no time for.
                tokio::task::spawn_blocking(move || install(&shared, incarnation, snapshot, log));
            }
            Effect::Discard(snapshot) => {
                let (shared, log) = (machine.shared.clone(), machine.log.clone());
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = shared.resources.inbox.discard(&snapshot) {
                        warn!(log, "a snapshot could not be removed"; "error" => %error);
                    }
                });
            }
            _ => {}
        }
    }

    fn installed(&mut self, message: Installed, context: &mut Context<Self>) {
        if message.incarnation != self.machine.incarnation() {
            return;
        }
        // Requests of this machine's clients may be among what the snapshot stands for: nobody applies them here any more.
        self.machine.shared.slots.gate.tell(Unsettled {
            reason: Refusal::Restarted,
        });
        self.step(Input::Installed(message.snapshot), context);
    }
}

fn install(shared: &Arc<Shared>, incarnation: u64, snapshot: Snapshot, log: Logger) {
    if let Some(installation) = Installation::prepare(shared, incarnation, snapshot, log) {
        shared.slots.storage.tell(Install {
            incarnation,
            installation,
        });
    }
}

impl Handler<Checkpointed> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Checkpointed, context: &mut Context<Self>) {
        self.enter(context);
        let applied = message.applied;
        self.step(Input::Checkpointed { applied }, context);
    }
}

impl Handler<SnapshotMoves> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: SnapshotMoves, context: &mut Context<Self>) {
        self.enter(context);
        if message.incarnation == self.machine.incarnation() {
            let SnapshotMoves { to, number, .. } = message;
            self.step(Input::SnapshotMoves { to, number }, context);
        }
    }
}

impl Handler<SnapshotEnded> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: SnapshotEnded, context: &mut Context<Self>) {
        self.enter(context);
        if message.incarnation == self.machine.incarnation() {
            let SnapshotEnded { to, number, .. } = message;
            self.step(Input::SnapshotEnded { to, number }, context);
        }
    }
}

impl Handler<SnapshotReceived> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: SnapshotReceived, context: &mut Context<Self>) {
        self.enter(context);
        let SnapshotReceived {
            from,
            term,
            snapshot,
        } = message;
        let input = Input::SnapshotReceived {
            from,
            term,
            snapshot,
        };
        self.step(input, context);
    }
}

impl Handler<Installed> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Installed, context: &mut Context<Self>) {
        self.enter(context);
        self.installed(message, context);
    }
}

impl Handler<InstallFailed> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: InstallFailed, context: &mut Context<Self>) {
        self.enter(context);
        if message.incarnation == self.machine.incarnation() {
            self.step(Input::InstallFailed(message.snapshot), context);
        }
    }
}
