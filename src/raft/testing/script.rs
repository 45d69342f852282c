//! Runs the scripts in `testscripts/`: one behaviour each, told by commands to a cluster whose network delivers only what it
//! is told to. `UPDATE_GOLDENFILES=1` writes what came out as what is expected: read it before you accept it.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster N [append=] [cache=] [inflight=] [inflight_entries=] [inflight_bytes=] [uncommitted=] [reads=] [gone=] [lease=PERCENT] [prefer=N] [patience=SPAN] [keep=] [keep_bytes=] [step=] [disk=manual]` | starts machines 1 to N |
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

mod arguments;
mod commands;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use goldenscript::{ArgumentConsumer, Command, Context};

use self::arguments::{empty_entries, entry_id, key, link, next, next_machine, span};
use super::clock::Clock;
use super::cluster::Cluster;
use super::machine::{Job, Machine};
use crate::{
    Config, Configuration, HardState, Index, Input, MachineId, ReadId, ReadMode, Role, Term,
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
