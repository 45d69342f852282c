//! Receives snapshots from peers, on threads that may block, and tells LogicCenter of each that is whole and sound.

use std::sync::Arc;
use std::time::Instant;

use rm_raft::{Configured, Index, MachineId, Snapshot, Term};
use rm_store::{Description, SnapshotId};
use rm_wire::{
    IncomingSnapshot, SnapshotDigest, SnapshotFault, SnapshotHeader, SnapshotSink, SnapshotStart,
};
use slog::info;

use crate::ActorName;
use crate::fault::Point;
use crate::machine::Shared;
use crate::message::SnapshotReceived;
use crate::peer_traffic::Transfers;
use crate::snapshot_inbox::{Arrived, Found};

/// What the Listener has its receiving half hand snapshots to.
pub(crate) struct Sink {
    pub(crate) shared: Arc<Shared>,
}

impl SnapshotSink for Sink {
    fn begin(
        &self,
        from: MachineId,
        header: &SnapshotHeader,
    ) -> Result<SnapshotStart, SnapshotFault> {
        let shared = &self.shared;
        let snapshot = described(header)?;
        // The core answers the leader that it has all this already.
        if header.last.index <= shared.board.raft().commit {
            tell(shared, from, header.term, snapshot);
            return Ok(SnapshotStart::AlreadyHere);
        }
        let description = Description {
            id: SnapshotId(header.id),
            bytes: header.length,
        };
        match shared.resources.inbox.offered(description.id)? {
            Found::Nothing => {}
            Found::Same(snapshot) => {
                tell(shared, from, header.term, snapshot);
                return Ok(SnapshotStart::AlreadyHere);
            }
            Found::SameInstalling => return Ok(SnapshotStart::AlreadyHere),
            Found::OtherInstalling => return Err("another snapshot is being installed".into()),
        }
        let incoming = shared.resources.snapshots.receive(description)?;
        let log = shared.logs.logger(ActorName::Listener.as_str());
        info!(log, "a snapshot is received"; "from" => shared.name_of(from), "last" => %header.last,
            "bytes" => header.length, "resumed_at" => incoming.received());
        Ok(SnapshotStart::From {
            offset: incoming.received(),
            incoming: Box::new(Receiving {
                transfers: Some(shared.board.traffic.received_from(from)),
                began: Instant::now(),
                from,
                term: header.term,
                snapshot,
                incoming: Some(incoming),
                shared: shared.clone(),
            }),
        })
    }
}

/// What a header says of a snapshot to the core.
fn described(header: &SnapshotHeader) -> Result<Snapshot, SnapshotFault> {
    let configuration = rm_store::decode_configuration(&header.configuration)
        .ok_or("its configuration cannot be read by this version: upgrade this machine")?;
    Ok(Snapshot {
        last: header.last,
        configured: Configured {
            index: header.configured,
            configuration,
        },
    })
}

/// Whether a state ends with the entry, and has the configuration, that its sender told. A state without one is of a domain whose
/// members never changed.
fn holds_what_was_told(peek: &rm_kv::Peek, snapshot: &Snapshot) -> bool {
    let Configured {
        index,
        configuration,
    } = &snapshot.configured;
    let same = match &peek.configuration {
        Some(held) => {
            held.index == *index && held.bytes == rm_store::encode_configuration(configuration)
        }
        None => *index == Index(0),
    };
    same && peek.applied == snapshot.last
}

fn tell(shared: &Shared, from: MachineId, term: Term, snapshot: Snapshot) {
    shared.slots.logic_center.tell(SnapshotReceived {
        from,
        term,
        snapshot,
    });
}

/// A snapshot that is being received.
struct Receiving {
    from: MachineId,
    term: Term,
    snapshot: Snapshot,
    /// None once it is finished.
    incoming: Option<rm_store::Incoming>,
    /// Where it is counted; none once it is.
    transfers: Option<Arc<Transfers>>,
    began: Instant,
    shared: Arc<Shared>,
}

impl IncomingSnapshot for Receiving {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotFault> {
        self.shared
            .strike_disk_of(ActorName::Listener, Point::Receive)?;
        let incoming = self.incoming.as_mut().ok_or("it is complete")?;
        incoming.append(offset, bytes)?;
        let (received, all) = (incoming.received(), incoming.description().bytes);
        let progress = Some((self.from, received, all));
        self.shared.board.post_receiving(progress);
        Ok(())
    }

    fn finish(mut self: Box<Self>, digest: SnapshotDigest) -> Result<(), SnapshotFault> {
        let incoming = self.incoming.take().ok_or("it is complete")?;
        if incoming.description().id != SnapshotId(digest) {
            return Err("the digest at its end is not the one that it was offered with".into());
        }
        let received = incoming.finish()?;
        let options = self.shared.resources.states.verified();
        let peek = rm_kv::peek(&received.inspect(&options)?)?;
        if !holds_what_was_told(&peek, &self.snapshot) {
            received.discard()?;
            return Err("its state is another than the one that was told of".into());
        }
        self.shared
            .strike_disk_of(ActorName::Listener, Point::Received)?;
        let snapshot = self.snapshot.clone();
        let arrived = Arrived {
            snapshot: snapshot.clone(),
            received,
        };
        self.shared.resources.inbox.put(arrived);
        if let Some(transfers) = self.transfers.take() {
            transfers.done.add_time(self.began.elapsed());
        }
        tell(&self.shared, self.from, self.term, snapshot);
        Ok(())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.shared.board.post_receiving(None);
        if let Some(transfers) = &self.transfers {
            transfers.failed.add(1);
        }
    }
}
