//! What a leader has under way to others, and holds for them, is bounded by its config (rules 20 and 21), and so are the reads
//! that wait on a machine: counted from what a core takes and hands out, not from what it holds.

use std::collections::{BTreeMap, BTreeSet};

use rm_raft::{
    Body, Config, Entry, Index, Input, MachineId, Message, Raft, ReadId, Role, Status, Term, Time,
};

use super::{Check, require};
use crate::simulation::machine::Machine;

/// More than the largest entry that there is in a run, a change of members included, in bytes.
const ANY_ENTRY_MAX: usize = 600;

/// What each machine has under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    machines: Vec<Leadership>,
}

/// What is under way in one term that a core led.
#[derive(Debug, Default)]
struct Leadership {
    leads: bool,
    life: u64,
    term: Term,
    /// To each machine, since it was last heard.
    appends: BTreeMap<MachineId, Appends>,
    /// From whom how many messages came since the last effects. Each of them may make room for as much as may be on its way at all,
    /// and what the core hands out at the end it may have begun to send at any of them.
    heard: BTreeMap<MachineId, usize>,
    /// Whether members have changed since then.
    configured: bool,
    snapshots: BTreeMap<MachineId, Sending>,
    /// Reads of other machines that have no answer.
    reads: BTreeSet<(MachineId, ReadId)>,
}

/// How many appends with entries, and what is in them.
#[derive(Clone, Copy, Debug, Default)]
struct Appends {
    count: usize,
    entries: usize,
    bytes: usize,
}

/// A snapshot that was sent and not acknowledged.
#[derive(Debug)]
struct Sending {
    number: u64,
    at_least: Index,
    /// Until when no other is to be sent.
    until: Time,
}

impl InFlight {
    pub(super) fn new(machines: usize) -> InFlight {
        InFlight {
            machines: (0..machines).map(|_| Leadership::default()).collect(),
        }
    }

    /// A core took an input: it has nothing under way if it leads no more, or not yet.
    pub(super) fn stepped(&mut self, place: usize, life: u64, status: &Status) {
        let led = &mut self.machines[place];
        let leads = status.role == Role::Leader;
        if !leads || (led.leads, led.life, led.term) != (true, life, status.term) {
            *led = Leadership {
                leads,
                life,
                term: status.term,
                ..Leadership::default()
            };
        }
    }

    /// A core is about to take an input.
    pub(crate) fn given(
        &mut self,
        place: usize,
        core: &Raft,
        config: &Config,
        now: Time,
        input: &Input,
    ) {
        let led = &mut self.machines[place];
        if !led.leads {
            return;
        }
        match input {
            Input::Received { from, message } => {
                let is_member = core.configured().configuration.contains(*from);
                led.hears(*from, is_member, message);
            }
            Input::SnapshotMoves { to, number } => {
                // One that is overdue is given up, and may be sent again.
                let sending = led.sending(*to, *number);
                if let Some(sending) = sending.filter(|sending| now < sending.until) {
                    sending.until = now.after(config.snapshot_timeout);
                }
            }
            Input::SnapshotEnded { to, number } => {
                if let Some(sending) = led.sending(*to, *number) {
                    sending.until = sending.until.min(now.after(config.election_timeout));
                }
            }
            _ => {}
        }
    }

    /// The members change: whoever comes anew is sent everything anew.
    pub(super) fn configured(&mut self, place: usize) {
        let led = &mut self.machines[place];
        led.configured = true;
        led.appends.clear();
        led.snapshots.clear();
    }

    /// A message leaves a machine.
    pub(super) fn sent(&mut self, machine: &Machine, to: MachineId, message: &Message) -> Check {
        let led = &mut self.machines[machine.id.0 as usize - 1];
        if message.term != led.term || machine.logic.life != led.life {
            return Ok(());
        }
        match &message.body {
            Body::AppendRequest { entries, .. } if !entries.is_empty() => {
                led.appends(machine, to, entries)
            }
            Body::ReadIndexResponse { read, .. } => {
                led.reads.remove(&(to, *read));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A core wants a snapshot sent.
    pub(crate) fn snapshot(
        &mut self,
        machine: &Machine,
        now: Time,
        to: MachineId,
        number: u64,
        at_least: Index,
    ) -> Check {
        let led = &mut self.machines[machine.id.0 as usize - 1];
        let until = now.after(machine.config.snapshot_timeout);
        let sending = Sending {
            number,
            at_least,
            until,
        };
        let before = led.snapshots.insert(to, sending);
        let is_over = before.is_none_or(|before| now >= before.until);
        require(is_over, "bounded in flight", || {
            format!(
                "{} sends {to} a snapshot, and the last one is under way or failed just now",
                machine.id
            )
        })
    }

    /// A core handed out all its effects.
    pub(super) fn flushed(&mut self, machine: &Machine) -> Check {
        let reads_max = machine.config.reads_max;
        let own = machine.logic.reads.len();
        require(own <= reads_max, "bounded in flight", || {
            format!("{own} batches of reads wait on {}", machine.id)
        })?;
        let led = &mut self.machines[machine.id.0 as usize - 1];
        if led.life != machine.logic.life {
            // What the core before it had still to say died with it.
            *led = Leadership::default();
        }
        for to in std::mem::take(&mut led.heard).into_keys() {
            led.appends.remove(&to);
        }
        led.configured = false;
        let others = led.reads.len();
        // As many as wait may be in the round under way.
        require(others <= 2 * reads_max, "bounded in flight", || {
            format!("{others} reads of other machines wait on {}", machine.id)
        })
    }
}

impl Leadership {
    /// A message comes: whoever sent it may have room again.
    fn hears(&mut self, from: MachineId, is_member: bool, message: &Message) {
        if message.term != self.term {
            return;
        }
        *self.heard.entry(from).or_default() += 1;
        match &message.body {
            // A read of a machine that takes no part may not be heard.
            Body::ReadIndexRequest { read, .. } if is_member => {
                self.reads.insert((from, *read));
            }
            Body::Appended { matched, .. } => {
                self.snapshots
                    .retain(|to, sending| *to != from || *matched < sending.at_least);
            }
            _ => {}
        }
    }

    /// The snapshot of this number, if it is the last one that was sent to a machine.
    fn sending(&mut self, to: MachineId, number: u64) -> Option<&mut Sending> {
        let sending = self.snapshots.get_mut(&to);
        sending.filter(|sending| sending.number == number)
    }

    /// An append with entries leaves.
    fn appends(&mut self, machine: &Machine, to: MachineId, entries: &[Entry]) -> Check {
        let config = &machine.config;
        let bytes: usize = entries.iter().map(Entry::size).sum();
        let count = entries.len();
        let fits = count == 1 || bytes <= config.append_bytes_max;
        let fits = fits && count <= config.inflight_entries_max;
        require(fits, "bounded in flight", || {
            format!(
                "{} sends {count} entries of {bytes} bytes at once",
                machine.id
            )
        })?;
        if self.configured {
            return Ok(());
        }
        let times = 1 + self.heard.get(&to).copied().unwrap_or_default();
        let sent = self.appends.entry(to).or_default();
        sent.count += 1;
        sent.entries += count;
        sent.bytes += bytes;
        let bytes_max = config.inflight_bytes_max + config.append_bytes_max.max(ANY_ENTRY_MAX);
        let fits = sent.count <= times * config.inflight_requests_max
            && sent.entries <= times * config.inflight_entries_max
            && sent.bytes <= times * bytes_max;
        let sent = *sent;
        require(fits, "bounded in flight", || {
            format!(
                "{} sends {sent:?} to {to}, from which {} messages came meanwhile",
                machine.id,
                times - 1
            )
        })
    }
}
