//! What a leader sends to its followers' logs: each append once for all who need the same, from memory or read back from
//! Storage.

use smallvec::{SmallVec, smallvec};

use crate::leader::Leader;
use crate::node::Node;
use crate::progress::{Next, Progress};
use crate::raft::State;
use crate::{Body, Entries, Entry, EntryId, FollowerStatus, Index, MachineId, Machines, Raft};

impl Raft {
    /// How far this machine has got with each that it sends the log to, in the order of their numbers; none unless it leads.
    pub fn followers(&self) -> impl Iterator<Item = FollowerStatus> {
        let followers = match &self.state {
            State::Leader(leader) => Some(&leader.followers),
            State::Follower(_) | State::Candidate(_) => None,
        };
        let each = followers.into_iter().flatten();
        each.map(|(&machine, follower)| follower.status(machine))
    }
}

/// One append for all followers that need the same.
struct Append {
    /// The first entry.
    from: Index,
    /// The last; before `from` if there is none.
    up_to: Index,
    to: Machines,
}

/// Nearly always all followers need the same.
type Appends = SmallVec<[Append; 1]>;

impl Append {
    /// Adds a follower to those of the append that it needs.
    fn share(appends: &mut Appends, from: Index, up_to: Index, machine: MachineId) {
        match appends
            .iter_mut()
            .find(|append| append.from == from && append.up_to == up_to)
        {
            Some(append) => append.to.push(machine),
            None => appends.push(Append {
                from,
                up_to,
                to: smallvec![machine],
            }),
        }
    }
}

impl Leader {
    /// Sends appends; followers that need the same share one message.
    pub(crate) fn replicate(&mut self, node: &mut Node) {
        let mut appends = Appends::new();
        let machines: Machines = self.followers.keys().copied().collect();
        for machine in machines {
            self.send_snapshot(node, machine);
            while let Some((from, up_to)) = self.next_append(node, machine) {
                Append::share(&mut appends, from, up_to, machine);
            }
        }
        // Each follower gets its requests in the order of the log.
        appends.sort_by_key(|append| (append.from, append.up_to));
        for Append { from, up_to, to } in appends {
            let Some(previous) = node.log.id_at(from.previous()) else {
                continue;
            };
            let entries = node.log.entries(from, up_to);
            self.send_append(node, to, previous, entries);
        }
    }

    fn send_append(&self, node: &mut Node, to: Machines, previous: EntryId, entries: Entries) {
        let body = Body::AppendRequest {
            previous,
            entries,
            commit: node.commit,
            round: self.confirmation.round(),
        };
        node.send_to_all(to, body);
    }

    /// Has a snapshot sent to a follower that lacks what the log no longer holds, once; and asks it again when the news of that is
    /// overdue. One that is not heard gets none until it is.
    fn send_snapshot(&mut self, node: &mut Node, machine: MachineId) {
        let base = node.log.base().index;
        let Some(follower) = self.followers.get_mut(&machine) else {
            return;
        };
        follower.snapshot_elapsed(base, node.now);
        if !follower.needs_snapshot(base) || !self.heard_lately(node, machine) {
            return;
        }
        if self.is_spared(node, machine) {
            return;
        }
        let number = node.send_snapshot(machine, base);
        let until = node.now.after(node.config.snapshot_timeout);
        if let Some(follower) = self.followers.get_mut(&machine) {
            follower.snapshot_sent(number, base, until);
        }
    }

    /// The range of the next append for a follower, which counts as sent; none if there is nothing to send, or if it must be
    /// read from Storage first.
    fn next_append(&mut self, node: &mut Node, machine: MachineId) -> Option<(Index, Index)> {
        let last = node.log.last().index;
        let follower = self.followers.get(&machine)?;
        if follower.needs_snapshot(node.log.base().index) {
            return None;
        }
        if self.is_spared(node, machine) {
            return None;
        }
        let from = follower.next;
        let window_end = follower.window_end(&node.config);
        let in_memory = from >= node.log.first_in_memory();
        let up_to = match follower.next_to_send(last, &node.config) {
            Next::Nothing => return None,
            Next::Entries if in_memory && from <= last => {
                let chunk_end = node.log.chunk_end(from, node.config.append_bytes_max);
                chunk_end.min(window_end)
            }
            Next::Entries if follower.is_replicating() => {
                self.read_entries(node, machine, from, window_end);
                return None;
            }
            Next::Empty | Next::Entries => from.previous(),
        };
        let bytes = node.log.bytes_between(from.previous(), up_to);
        let follower = self.followers.get_mut(&machine)?;
        follower.sent(up_to, bytes, node.now);
        follower.told_commit = follower.told_commit.max(node.commit.min(up_to));
        Some((from, up_to))
    }

    /// Asks Storage for the entries that a follower lacks and that are no longer in memory, as far as its window reaches; again
    /// after a while, since the request or its answer may be lost; once for all followers that lack the same.
    fn read_entries(
        &mut self,
        node: &mut Node,
        machine: MachineId,
        from: Index,
        window_end: Index,
    ) {
        let patience = node.config.heartbeat_interval;
        let asked = |follower: &Progress| {
            follower.next == from
                && follower
                    .reading
                    .is_some_and(|at| node.now.since(at) < patience)
        };
        let is_asked = self.followers.values().any(asked);
        if let Some(follower) = self.followers.get_mut(&machine)
            && !(is_asked && follower.reading.is_some())
        {
            follower.reading = Some(node.now);
        }
        if !is_asked {
            let up_to = node.log.first_in_memory().previous();
            node.read_entries(from, up_to.min(window_end));
        }
    }

    /// Storage read entries that some follower lacks: each is sent what its window has room for.
    pub(crate) fn entries_read(&mut self, node: &mut Node, entries: Entries) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let (from, up_to) = (first.id.index, last.id.index);
        let mut indexes = from.0..;
        let sound = entries
            .iter()
            .all(|entry| indexes.next() == Some(entry.id.index.0) && node.log.holds(entry.id));
        let Some(previous) = node.log.id_at(from.previous()).filter(|_| sound) else {
            return;
        };
        let count = |up_to: Index| (up_to.next().0 - from.0) as usize;
        let mut appends = Appends::new();
        for (&machine, follower) in &mut self.followers {
            if follower
                .reading
                .take_if(|_| follower.next == from)
                .is_some()
            {
                let up_to = up_to.min(follower.window_end(&node.config));
                let bytes = entries[..count(up_to)].iter().map(Entry::size).sum();
                follower.sent(up_to, bytes, node.now);
                Append::share(&mut appends, from, up_to, machine);
            }
        }
        for Append { up_to, to, .. } in appends {
            self.send_append(node, to, previous, entries.part(0..count(up_to)));
        }
    }
}
