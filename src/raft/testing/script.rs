//! Runs the scripts in `testscripts/`: one behaviour each, told by commands to a cluster whose network delivers only what it
//! is told to. `UPDATE_GOLDENFILES=1` writes what came out as what is expected: read it before you accept it.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster N [append=] [cache=] [inflight=] [uncommitted=] [reads=] [gone=] [lease=PERCENT] [prefer=N] [patience=SPAN] [keep=] [keep_bytes=] [step=] [disk=manual]` | starts machines 1 to N |
//! | `clock N PERCENT` | machine N's clock moves by so much in a hundred units of time |
//! | `elect N` | lets machine N win an election and bring all others up to date |
//! | `timeout N` | moves the clock to what machine N waits for, and lets only N see it; not if it is paused |
//! | `tick SPAN` | moves the clock for all; nothing is delivered |
//! | `jump SPAN` | moves the clock by so much at once |
//! | `run SPAN` | moves the clock for all, and delivers all that is sent |
//! | `join N` | starts machine N, which is in no configuration and knows of none |
//! | `change N STEP.. [force] [on=INDEX]` | a client of machine N wants other members: `add-M`, `addvoter-M`, `promote-M`, `demote-M`, `remove-M`, `update-M` |
//! | `members` | shows the configuration that each machine's log holds last, and what it takes itself for |
//! | `propose N COMMAND.. [size=]`, `read N NUMBER [mode=lease]` | clients come to machine N |
//! | `deliver [A-B] [at=PLACE]` | delivers all that is on its way, or on the way from A to B, or the message at a place there; not to a paused machine or over a link that is cut |
//! | `drop [A-B] [at=]`, `copy A-B at=` | loses, repeats messages |
//! | `cut A-B..`, `isolate N`, `heal` | lets nothing pass from A to B; from and to N; ends all that |
//! | `disk N manual`, `disk N auto` | whether machine N's disk waits to be told |
//! | `disk N full`, `disk N free` | machine N hears that its disk is full, or has space again |
//! | `persist N [jobs]`, `merge N` | the disk does its next jobs; all of them in one commit with one notice |
//! | `persisted N term= last=` | machine N gets this notice of Storage, which the script makes up |
//! | `entries N ENTRY..` | machine N gets these entries from Storage, which the script makes up |
//! | `forget N` | the disk loses what it was asked to read |
//! | `checkpoint N [INDEX]` | machine N's state is durable, all of it or up to an index |
//! | `checkpointed N ENTRY` | machine N gets this notice, which the script makes up |
//! | `snapshot A-B [told=false]` | the snapshot that A is to send to B arrives, and A hears of that |
//! | `snapshot A-B term= last=` | B gets a snapshot from A that the script makes up |
//! | `fail A-B`, `sent A-B` | A hears that the snapshot to B has ended; it is lost |
//! | `moves A-B NUMBER`, `ended A-B NUMBER` | A hears that its snapshot of this number to B moves on, or has ended |
//! | `crash N`, `restart N [applied=] [lease=PERCENT] [lease=off] [gone=] [election=SPAN]` | the config may be another one than before |
//! | `pause N`, `resume N` | machine N sees neither the clock nor messages, as a process that is stopped |
//! | `prefer N M` | machine N is told that M is preferred as the leader from now on |
//! | `gone N M` | machine N hears that M's process ended |
//! | `campaign N` | machine N, which led until a moment ago, stands at once |
//! | `transfer N [TO]` | machine N, if it leads, is to hand over |
//! | `heartbeat A-B ..`, `append A-B .. ENTRY..`, `vote A-B ..`, `prevote A-B ..`, `appended A-B ..`, `rejected A-B ..`, `campaignnow A-B`, `removed A-B ..` | B gets this message from A |
//! | `status`, `log`, `disks`, `network`, `applied`, `deadlines` | shows |
//! | `gather N`, `perform N` | machine N's effects wait for all that comes; are performed |
//! | `batch N PROPOSALS` | machine N gets this many inputs of one proposal each, before its effects are performed |

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context};

use super::clock::Clock;
use super::cluster::{Cluster, Shipment};
use super::machine::{Job, Machine};
use crate::{
    Body, Change, Config, Configuration, Entries, Entry, EntryId, HardState, Index, Input,
    MachineId, Message, Payload, Proposal, ReadId, ReadMode, RequestId, Role, Snapshot, Step, Term,
};

type Outcome = Result<(), Box<dyn Error>>;

impl goldenscript::Runner for Cluster {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        self.perform_command(&command.name, &mut args)?;
        args.reject_next()?;
        Ok(std::mem::take(&mut self.output))
    }
}

/// The next positional argument.
fn next<T: FromStr>(args: &mut ArgumentConsumer<'_>) -> Result<T, Box<dyn Error>> {
    let text = args.next_pos().ok_or("an argument is missing")?;
    text.parse()
        .map_err(|_| format!("{text} is not understood").into())
}

/// A keyed argument.
fn key<T: FromStr>(
    args: &mut ArgumentConsumer<'_>,
    name: &str,
    default: T,
) -> Result<T, Box<dyn Error>> {
    match args.take_key(name) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("{name}={text} is not understood").into()),
        None => Ok(default),
    }
}

fn next_machine(args: &mut ArgumentConsumer<'_>) -> Result<MachineId, Box<dyn Error>> {
    next(args).map(MachineId)
}

/// A link, as `1-2`.
fn link(text: &str) -> Result<(MachineId, MachineId), Box<dyn Error>> {
    let (from, to) = text.split_once('-').ok_or("a link is FROM-TO")?;
    Ok((MachineId(from.parse()?), MachineId(to.parse()?)))
}

/// An entry's name, as `index@term`.
fn entry_id(text: &str) -> Result<EntryId, Box<dyn Error>> {
    let (index, term) = text.split_once('@').ok_or("an entry is INDEX@TERM")?;
    Ok(EntryId {
        term: Term(term.parse()?),
        index: Index(index.parse()?),
    })
}

/// Entries without a command, by their names.
fn empty_entries(args: &mut ArgumentConsumer<'_>) -> Result<Entries, Box<dyn Error>> {
    let mut entries = Vec::new();
    while let Some(text) = args.next_pos() {
        let id = entry_id(text)?;
        let payload = Payload::Empty;
        entries.push(Entry { id, payload });
    }
    Ok(entries.into())
}

/// A step of a change; what is told about a machine is the step that told it.
fn step(what: &str, machine: MachineId) -> Result<Step, String> {
    let about = Bytes::copy_from_slice(what.as_bytes());
    Ok(match what {
        "add" => Step::Add(machine, about),
        "addvoter" => Step::AddVoter(machine, about),
        "promote" => Step::Promote(machine),
        "demote" => Step::Demote(machine),
        "remove" => Step::Remove(machine),
        "update" => Step::Update(machine, about),
        _ => return Err(format!("no step {what}")),
    })
}

fn span(text: &str) -> Result<Duration, Box<dyn Error>> {
    let millis = text.strip_suffix("ms").ok_or("a span is in ms")?;
    Ok(Duration::from_millis(millis.parse()?))
}

impl Cluster {
    fn perform_command(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        match name {
            "cluster" => self.start_cluster(args)?,
            "elect" => {
                let id = next_machine(args)?;
                self.timeout(id)?;
                self.deliver_all();
                self.run_clock(Duration::from_millis(200), true);
                if self.status(id)?.role != Role::Leader {
                    return Err("it does not lead".into());
                }
            }
            "timeout" => {
                let id = next_machine(args)?;
                self.timeout(id)?;
            }
            "tick" | "run" => {
                let duration = span(args.next_pos().ok_or("how long?")?)?;
                self.run_clock(duration, name == "run");
            }
            "jump" => {
                self.now = self.now.after(span(args.next_pos().ok_or("how long?")?)?);
                self.run_clock(Duration::from_millis(10), false);
            }
            "join" => {
                let id = next_machine(args)?;
                let config = Config {
                    local: id,
                    ..self.config.clone().ok_or("no cluster to join")?
                };
                let machine = Machine::new(config, Configuration::default(), self.now);
                self.machines.insert(id, machine);
            }
            "change" => self.change(args)?,
            "members" => self.show_members(),
            "propose" => self.propose(args)?,
            "batch" => self.batch(args)?,
            "read" => {
                let id = next_machine(args)?;
                let read = ReadId(next(args)?);
                let mode = match args.take_key("mode") {
                    Some("lease") => ReadMode::Lease,
                    _ => ReadMode::Quorum,
                };
                self.input(id, Input::Read { read, mode });
            }
            "deliver" | "drop" => self.deliver(args, name == "deliver")?,
            "copy" => {
                let link = link(args.next_pos().ok_or("which link?")?)?;
                let place: usize = key(args, "at", 1)?;
                let queue = self.links.get_mut(&link).ok_or("nothing is there")?;
                let message = queue.get(place - 1).ok_or("nothing is there")?.clone();
                queue.push_back(message);
            }
            "cut" => {
                while let Some(text) = args.next_pos() {
                    self.cut.insert(link(text)?);
                }
            }
            "isolate" => {
                let id = next_machine(args)?;
                let others = self.machines.keys().filter(|&&other| other != id);
                let links = others.flat_map(|&other| [(id, other), (other, id)]);
                self.cut.extend(links);
            }
            "heal" => self.cut.clear(),
            "disk" => {
                let id = next_machine(args)?;
                match args.next_pos() {
                    Some("manual") => {
                        self.manual.insert(id);
                    }
                    Some("auto") => {
                        self.manual.remove(&id);
                        self.perform(id);
                    }
                    Some("full") => self.input(id, Input::Space { full: true }),
                    Some("free") => self.input(id, Input::Space { full: false }),
                    _ => return Err("manual, auto, full or free?".into()),
                }
            }
            "persist" => {
                let id = next_machine(args)?;
                let jobs = match args.next_pos() {
                    Some(count) => count.parse()?,
                    None => usize::MAX,
                };
                self.persist(id, jobs);
            }
            "merge" => {
                let id = next_machine(args)?;
                self.merge(id);
            }
            "persisted" => {
                let id = next_machine(args)?;
                let last = entry_id(args.take_key("last").ok_or("up to which entry?")?)?;
                let hard_state = HardState {
                    term: Term(key(args, "term", 1)?),
                    ..HardState::default()
                };
                self.input(id, Input::Persisted { hard_state, last });
            }
            "entries" => {
                let id = next_machine(args)?;
                let entries = empty_entries(args)?;
                self.input(id, Input::EntriesRead { entries });
            }
            "forget" => {
                let id = next_machine(args)?;
                let machine = self.machine(id)?;
                machine.jobs.retain(|job| !matches!(job, Job::Read { .. }));
            }
            "checkpoint" => {
                let id = next_machine(args)?;
                let machine = self.machine(id)?;
                let up_to = match args.next_pos() {
                    Some(index) => index.parse()?,
                    None => machine.applied.len() as u64,
                };
                let input = machine
                    .save(Index(up_to))
                    .ok_or("it has not applied that")?;
                self.input(id, input);
            }
            "checkpointed" => {
                let id = next_machine(args)?;
                let applied = entry_id(args.next_pos().ok_or("which entry?")?)?;
                self.input(id, Input::Checkpointed { applied });
            }
            "snapshot" => self.snapshot(args)?,
            "fail" | "sent" => {
                let (from, to) = link(args.next_pos().ok_or("which link?")?)?;
                let shipment = self.shipments.remove(&(from, to));
                let number = shipment.ok_or("no snapshot is on its way")?.number;
                self.input(from, Input::SnapshotEnded { to, number });
            }
            "moves" | "ended" => {
                let (from, to) = link(args.next_pos().ok_or("which link?")?)?;
                let number = next(args)?;
                let input = match name {
                    "moves" => Input::SnapshotMoves { to, number },
                    _ => Input::SnapshotEnded { to, number },
                };
                self.input(from, input);
            }
            "spoil" => {
                let id = next_machine(args)?;
                let snapshot = self.machine(id)?.spoil();
                let snapshot = snapshot.ok_or("it installs nothing")?;
                self.input(id, Input::InstallFailed(snapshot));
            }
            "crash" => {
                let id = next_machine(args)?;
                self.machine(id)?.crash();
            }
            "restart" => {
                let id = next_machine(args)?;
                let now = self.clock(id).at(self.now);
                let machine = self.machine(id)?;
                let applied = key(args, "applied", machine.applied.len() as u64)?;
                let config = &mut machine.config;
                config.may_have_promised |= config.lease_drift_percent.is_some();
                match args.take_key("lease") {
                    None => {}
                    Some("off") => config.lease_drift_percent = None,
                    Some(percent) => config.lease_drift_percent = Some(percent.parse()?),
                }
                config.trust_peer_gone = key(args, "gone", config.trust_peer_gone)?;
                if let Some(text) = args.take_key("election") {
                    config.election_timeout = span(text)?;
                }
                machine.start(now, Index(applied));
                self.perform(id);
            }
            "gather" => {
                self.gathering.insert(next_machine(args)?);
            }
            "perform" => {
                let id = next_machine(args)?;
                self.gathering.remove(&id);
                self.perform(id);
            }
            "pause" => {
                self.paused.insert(next_machine(args)?);
            }
            "resume" => {
                self.paused.remove(&next_machine(args)?);
            }
            "clock" => {
                let (id, percent) = (next_machine(args)?, next(args)?);
                let offset = Duration::ZERO;
                self.clocks.insert(id, Clock { offset, percent });
            }
            "transfer" => {
                let id = next_machine(args)?;
                let to = args.next_pos().map(str::parse).transpose()?;
                let to = to.map(MachineId);
                self.input(id, Input::Transfer { to });
            }
            "prefer" => {
                let (id, preferred) = (next_machine(args)?, next_machine(args)?);
                self.input(id, Input::Prefer(BTreeMap::from([(preferred, 1)])));
            }
            "gone" => {
                let (id, other) = (next_machine(args)?, next_machine(args)?);
                self.input(id, Input::PeerGone(other));
            }
            "campaign" => {
                let id = next_machine(args)?;
                self.input(id, Input::Campaign);
            }
            "heartbeat" | "append" | "appended" | "rejected" | "vote" | "prevote" | "removed"
            | "campaignnow" => {
                self.inject(name, args)?;
            }
            "status" => self.show_status(),
            "log" => self.show_logs(|machine| machine.log()),
            "disks" => self.show_logs(|machine| machine.disk.log.clone()),
            "applied" => self.show_logs(|machine| machine.applied.clone()),
            "network" => self.show_network(),
            "deadlines" => self.show_deadlines(),
            _ => return Err(format!("no command {name}").into()),
        }
        Ok(())
    }

    fn start_cluster(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
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

    fn change(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
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

    fn propose(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
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

    fn batch(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_machine(args)?;
        for number in 0..next(args)? {
            let proposal = self.proposal(id, &format!("c{number}"));
            self.step(id, Input::Propose(vec![proposal]));
        }
        self.perform(id);
        Ok(())
    }

    fn deliver(&mut self, args: &mut ArgumentConsumer<'_>, keep: bool) -> Outcome {
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
    fn snapshot(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
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
    fn inject(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
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

#[test]
fn scripts_say_what_comes_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");
    let files = std::fs::read_dir(folder).expect("the scripts are there");
    let mut paths: Vec<_> = files
        .map(|file| file.expect("a folder can be read").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 50, "no script is lost");
    let fails = |path: &std::path::PathBuf| {
        let run = || goldenscript::run(&mut Cluster::default(), path);
        !matches!(std::panic::catch_unwind(run), Ok(Ok(())))
    };
    let failed: Vec<_> = paths
        .iter()
        .filter(|path| fails(path))
        .filter_map(|path| path.file_name())
        .collect();
    assert!(failed.is_empty(), "these scripts differ: {failed:?}");
}
