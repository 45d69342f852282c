//! The commands that take more than a line.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::ArgumentConsumer;

use super::Outcome;
use super::arguments::{empty_entries, entry_id, key, link, next, next_machine, span, step};
use crate::testing::cluster::{Cluster, Shipment};
use crate::testing::machine::Machine;
use crate::{
    Body, Change, Config, Configuration, Index, Input, MachineId, Message, Proposal, RequestId,
    Snapshot, Term,
};

impl Cluster {
    pub(super) fn start_cluster(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let count = next(args)?;
        let config = Config {
            local: MachineId(0),
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            disk_patience: match args.take_key("patience") {
                Some(text) => span(text)?,
                None => Duration::from_millis(4000),
            },
            seed: key(args, "seed", 1)?,
            inflight_requests_max: key(args, "inflight", 4)?,
            inflight_entries_max: key(args, "inflight_entries", 1 << 16)?,
            inflight_bytes_max: key(args, "inflight_bytes", 1 << 20)?,
            append_bytes_max: key(args, "append", 1 << 16)?,
            uncommitted_bytes_max: key(args, "uncommitted", 1 << 20)?,
            log_cache_bytes_max: key(args, "cache", 1 << 20)?,
            reads_max: key(args, "reads", 8)?,
            trust_peer_gone: key(args, "gone", false)?,
            lease_drift_percent: args.take_key("lease").map(str::parse).transpose()?,
            may_have_promised: false,
            priorities: match args.take_key("prefer") {
                Some(text) => BTreeMap::from([(MachineId(text.parse()?), 1)]),
                None => BTreeMap::new(),
            },
            compaction_keep_entries: key(args, "keep", 1 << 20)?,
            compaction_keep_bytes: key(args, "keep_bytes", 1 << 30)?,
            compaction_wait_entries: key(args, "wait", 1 << 20)?,
            compaction_wait_bytes: key(args, "wait_bytes", 1 << 30)?,
            compaction_step_entries: key(args, "step", 1)?,
            snapshot_timeout: Duration::from_millis(5000),
        };
        if args.take_key("disk") == Some("manual") {
            self.manual.extend((1..=count).map(MachineId));
        }
        self.config = Some(config.clone());
        let first = Configuration::of_voters((1..=count).map(MachineId));
        for &local in &first.voters {
            let config = Config {
                local,
                ..config.clone()
            };
            let machine = Machine::new(config, first.clone(), self.now);
            self.machines.insert(local, machine);
        }
        Ok(())
    }

    pub(super) fn change(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let machine = next_machine(args)?;
        let mut change = Change {
            based_on: args
                .take_key("on")
                .map(|on| on.parse())
                .transpose()?
                .map(Index),
            ..Change::default()
        };
        while let Some(text) = args.next_pos() {
            match text.split_once('-') {
                Some((what, id)) => change.steps.push(step(what, MachineId(id.parse()?))?),
                None => change.force = text == "force",
            }
        }
        self.requests += 1;
        let number = self.requests;
        let request = RequestId { machine, number };
        self.input(machine, Input::Change { request, change });
        Ok(())
    }

    pub(super) fn propose(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_machine(args)?;
        let size = key(args, "size", 0)?;
        let mut proposals = Vec::new();
        while let Some(text) = args.next_pos() {
            let mut command = text.to_owned();
            while command.len() < size {
                command += text;
            }
            proposals.push(self.proposal(id, &command));
        }
        self.input(id, Input::Propose(proposals));
        Ok(())
    }

    fn proposal(&mut self, machine: MachineId, command: &str) -> Proposal {
        self.requests += 1;
        let number = self.requests;
        Proposal {
            request: RequestId { machine, number },
            command: Bytes::copy_from_slice(command.as_bytes()),
        }
    }

    pub(super) fn batch(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_machine(args)?;
        for number in 0..next(args)? {
            let proposal = self.proposal(id, &format!("c{number}"));
            self.step(id, Input::Propose(vec![proposal]));
        }
        self.perform(id);
        Ok(())
    }

    pub(super) fn deliver(&mut self, args: &mut ArgumentConsumer<'_>, keep: bool) -> Outcome {
        let Some(text) = args.next_pos() else {
            if keep {
                self.deliver_all();
            } else {
                self.links.clear();
            }
            return Ok(());
        };
        let (from, to) = link(text)?;
        if keep && self.cut.contains(&(from, to)) {
            return Err("nothing passes there".into());
        }
        if keep && self.paused.contains(&to) {
            return Err(format!("machine {to} is paused").into());
        }
        let place: usize = key(args, "at", 0)?;
        let queue = self.links.entry((from, to)).or_default();
        let messages: Vec<Message> = match place {
            0 => queue.drain(..).collect(),
            _ => vec![queue.remove(place - 1).ok_or("nothing is there")?],
        };
        if messages.is_empty() {
            return Err("nothing is there".into());
        }
        for message in messages {
            if keep {
                self.input(to, Input::Received { from, message });
            }
        }
        Ok(())
    }

    /// Gives a machine a snapshot: one that is on its way, or one that the script makes up.
    pub(super) fn snapshot(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let (from, to) = link(args.next_pos().ok_or("which link?")?)?;
        let told = key(args, "told", true)?;
        let Some(last) = args.take_key("last") else {
            let shipment = self.shipments.remove(&(from, to));
            let shipment = shipment.ok_or("no snapshot is on its way")?;
            let number = shipment.number;
            self.unload(from, to, shipment);
            if told {
                self.input(from, Input::SnapshotEnded { to, number });
            }
            return Ok(());
        };
        let last = entry_id(last)?;
        let content = self.content(last);
        let configured = self.machine(to)?.configured_in(&content);
        let shipment = Shipment {
            number: 0,
            term: Term(key(args, "term", 1)?),
            content,
            snapshot: Snapshot { last, configured },
        };
        self.unload(from, to, shipment);
        Ok(())
    }

    /// Gives a machine a message that the script makes up.
    pub(super) fn inject(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let (from, to) = link(args.next_pos().ok_or("which link?")?)?;
        let term = Term(key(args, "term", 1)?);
        let round = key(args, "round", 0)?;
        let commit = args.take_key("commit").unwrap_or("0@0");
        let last = entry_id(args.take_key("last").unwrap_or("0@0"))?;
        let body = match name {
            "heartbeat" => Body::Heartbeat {
                commit: entry_id(commit)?,
                round,
            },
            "vote" => Body::VoteRequest {
                last,
                leader_gave_way: false,
            },
            "removed" => Body::Removed {
                committed: entry_id(args.take_key("committed").unwrap_or("0@0"))?,
            },
            "prevote" => Body::PreVoteRequest { last },
            "campaignnow" => Body::CampaignNow,
            "appended" => Body::Appended {
                matched: Index(key(args, "matched", 0)?),
                round,
            },
            "rejected" => Body::AppendRejected {
                previous: Index(key(args, "at", 0)?),
                hint: last,
                round,
            },
            _ => {
                let previous = entry_id(args.take_key("previous").unwrap_or("0@0"))?;
                Body::AppendRequest {
                    previous,
                    entries: empty_entries(args)?,
                    commit: entry_id(commit)?.index,
                    round,
                }
            }
        };
        let message = Message { term, body };
        self.input(to, Input::Received { from, message });
        Ok(())
    }
}
