//! Sends snapshots: the Sender's part of compaction. Copying and reading are done on threads that may block; what runs on the
//! Sender's own only waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle};
use rm_raft::{Index, MachineId};
use rm_store::SnapshotFile;
use rm_wire::{SnapshotDigest, SnapshotFault, SnapshotHeader, SnapshotOutcome, SnapshotSource};
use slog::{debug, info, warn};

use crate::ActorName;
use crate::fault::Point;
use crate::machine::{Derived, Shared};
use crate::message::{SendSnapshot, SnapshotEnded, SnapshotMoves, StopSnapshots};
use crate::sender::Sender;
use crate::snapshot_maker::{Made, MakeError};

/// The transfers that go on, by the machine that they go to.
#[derive(Default)]
pub(crate) struct Sending(BTreeMap<MachineId, Transfer>);

struct Transfer {
    request: SendSnapshot,
    /// The last entry of what is sent, once that is known.
    last: Option<Index>,
    /// How much of it had gone at the last look.
    bytes: u64,
    began: Instant,
    future: SpawnHandle,
}

impl Sender {
    /// Begins to send a snapshot. One that is on its way there already and does as well goes on, on behalf of whoever asks now.
    pub(crate) fn send_snapshot(&mut self, request: SendSnapshot, context: &mut Context<Self>) {
        if let Some(transfer) = self.sending.0.get_mut(&request.to) {
            let serves = transfer.last.is_none_or(|last| last >= request.at_least);
            if serves && transfer.request.term == request.term {
                transfer.request = request;
                return;
            }
        }
        let shared = self.machine().shared.clone();
        let at_least = request.at_least;
        let making = async move { shared.resources.maker.obtain(&shared, at_least).await };
        let to = request.to;
        let future = actix::fut::wrap_future::<_, Self>(making);
        let future = future.map(move |made, sender, context| sender.made(to, made, context));
        let future = context.spawn(future);
        let transfer = Transfer {
            request,
            last: None,
            bytes: 0,
            began: Instant::now(),
            future,
        };
        if let Some(earlier) = self.sending.0.insert(to, transfer) {
            context.cancel_future(earlier.future);
        }
    }

    /// There is a snapshot to send, or there is none to be had.
    fn made(
        &mut self,
        to: MachineId,
        made: Result<Arc<Made>, MakeError>,
        context: &mut Context<Self>,
    ) {
        let Some(transfer) = self.sending.0.get_mut(&to) else {
            return;
        };
        let made = match made {
            Ok(made) => made,
            Err(error) => return self.failed(to, &error.to_string()),
        };
        transfer.last = Some(made.last.index);
        let term = transfer.request.term;
        let Some(outbound) = &self.outbound else {
            return self.failed(to, "the machine stops");
        };
        let description = made.file.description();
        let (configured, configuration) = made.configuration.clone();
        let header = SnapshotHeader {
            term,
            id: description.id.0,
            last: made.last,
            length: description.bytes,
            configuration,
            configured,
        };
        let source = Source {
            to,
            file: made.file.clone(),
            shared: self.machine.shared.clone(),
        };
        info!(self.machine.log, "a snapshot is sent"; "to" => self.machine.shared.name_of(to),
            "last" => %made.last, "bytes" => description.bytes);
        let sending =
            actix::fut::wrap_future::<_, Self>(outbound.send_snapshot(to, header, source));
        let sent = sending.map(move |outcome, sender, _| match outcome {
            Ok(outcome) => sender.sent(to, outcome),
            Err(error) => sender.failed(to, &error.to_string()),
        });
        let future = context.spawn(sent);
        if let Some(transfer) = self.sending.0.get_mut(&to) {
            transfer.future = future;
        }
    }

    fn sent(&mut self, to: MachineId, outcome: SnapshotOutcome) {
        if let Some(transfer) = self.sending.0.get(&to) {
            let transfers = self.machine.shared.board.traffic.sent_to(to);
            transfers.done.add_time(transfer.began.elapsed());
        }
        info!(self.machine.log, "a snapshot is sent to its end"; "to" => self.machine.shared.name_of(to), "outcome" => ?outcome);
        self.ended(to);
    }

    fn failed(&mut self, to: MachineId, reason: &str) {
        self.count_failure(to);
        warn!(self.machine.log, "a snapshot was not sent to its end"; "to" => self.machine.shared.name_of(to), "reason" => reason);
        self.ended(to);
    }

    fn count_failure(&self, to: MachineId) {
        let transfers = self.machine.shared.board.traffic.sent_to(to);
        transfers.failed.add(1);
    }

    fn ended(&mut self, to: MachineId) {
        if let Some(Transfer { request, .. }) = self.sending.0.remove(&to) {
            self.machine.shared.slots.logic_center.tell(SnapshotEnded {
                incarnation: request.incarnation,
                to,
                number: request.number,
            });
        }
    }

    /// Tells of the transfers that have moved since the last look, or whose snapshot is still being made.
    pub(crate) fn tell_of_moves(&mut self) {
        let snapshots = self.machine.shared.board.snapshots();
        for (&to, transfer) in &mut self.sending.0 {
            let bytes = snapshots.sending.get(&to).map_or(0, |&(bytes, _)| bytes);
            if transfer.last.is_none() || bytes != transfer.bytes {
                transfer.bytes = bytes;
                self.machine.shared.slots.logic_center.tell(SnapshotMoves {
                    incarnation: transfer.request.incarnation,
                    to,
                    number: transfer.request.number,
                });
            }
        }
    }

    /// Breaks all transfers off: this machine leads no more, and the next leader sends what is still lacking.
    fn stop_snapshots(&mut self, context: &mut Context<Self>) {
        for (to, transfer) in std::mem::take(&mut self.sending.0) {
            debug!(self.machine.log, "a snapshot is broken off"; "to" => self.machine.shared.name_of(to));
            self.count_failure(to);
            context.cancel_future(transfer.future);
        }
    }

    /// Removes the snapshot that lies here for nobody.
    pub(crate) fn tidy_snapshots(&mut self, context: &mut Context<Self>) {
        if !self.sending.0.is_empty() {
            return;
        }
        let shared = self.machine.shared.clone();
        let base = shared.board.raft().base;
        let tidying = async move { shared.resources.maker.tidy(&shared, base).await };
        let tidying = actix::fut::wrap_future::<_, Self>(tidying);
        context.spawn(tidying.map(|outcome, sender, _| {
            if let Err(error) = outcome {
                debug!(sender.machine.log, "the last snapshot could not be looked after"; "error" => %error);
            }
        }));
    }
}

impl Drop for Sender {
    /// What goes with a Sender's life, LogicCenter need not wait for.
    fn drop(&mut self) {
        let unfinished: Vec<MachineId> = self.sending.0.keys().copied().collect();
        for to in unfinished {
            self.count_failure(to);
            self.ended(to);
        }
    }
}

/// The file of a snapshot, as the wire reads it.
struct Source {
    to: MachineId,
    file: Arc<SnapshotFile>,
    shared: Arc<Shared>,
}

impl SnapshotSource for Source {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SnapshotFault> {
        self.shared
            .strike_disk_of(ActorName::Sender, Point::SendSnapshot)?;
        let count = self.file.read(offset, buffer)?;
        if count < buffer.len() {
            return Err("its file is shorter than it was".into());
        }
        let (sent, all) = (offset + count as u64, self.file.description().bytes);
        self.shared.board.post_sending(self.to, Some((sent, all)));
        Ok(())
    }

    fn digest(&mut self) -> Result<SnapshotDigest, SnapshotFault> {
        Ok(self.file.description().id.0)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.board.post_sending(self.to, None);
    }
}

impl Handler<SendSnapshot> for Sender {
    type Result = ();
    fn handle(&mut self, message: SendSnapshot, context: &mut Context<Self>) {
        self.enter(context);
        self.send_snapshot(message, context);
    }
}

impl Handler<StopSnapshots> for Sender {
    type Result = ();
    fn handle(&mut self, _: StopSnapshots, context: &mut Context<Self>) {
        self.enter(context);
        self.stop_snapshots(context);
    }
}
