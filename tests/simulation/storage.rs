//! Storage of a machine: all that waits becomes durable in one commit, and only then leaves what promises it, as
//! actors/storage.rs does.

use rm_raft::{EntryId, Index, Input, Persist};

use super::action::Part;
use super::commit::Commit;
use super::coverage::State;
use super::machine::{Machine, Request};
use super::properties::{Check, Violation, require};
use super::world::{Event, World};

/// How long to wait before a commit that found no space is tried again.
const RETRY: u64 = 100_000;

impl World {
    /// LogicCenter asks Storage to make something durable.
    pub(crate) fn persist(&mut self, at: usize, persist: Persist) -> Check {
        let now = self.now;
        self.trace.line(now, || {
            let ids = persist.entries.iter().map(|entry| entry.id.to_string());
            let ids: Vec<String> = ids.collect();
            format!(
                "{} persists {:?} [{}]",
                at + 1,
                persist.hard_state,
                ids.join(" ")
            )
        });
        self.properties
            .asked(at, &persist, &self.machines[at].logic.log)?;
        self.note_persist(at, &persist);
        let machine = &mut self.machines[at];
        machine
            .logic
            .log
            .write(&persist.entries)
            .map_err(|text| Violation {
                property: "log matching",
                text,
            })?;
        self.properties.queued(&self.machines[at], &persist)?;
        self.ask_storage(at, Request::Persist(persist));
        Ok(())
    }

    /// Something is to be made durable, after all that was asked before. It is lost if Storage does not live.
    pub(crate) fn ask_storage(&mut self, at: usize, request: Request) {
        let machine = &mut self.machines[at];
        if machine.storage.up {
            machine.storage.waiting.push(request);
            let life = machine.storage.life;
            let due = self.now + machine.random.below(200);
            self.queue.push(due, Event::Pump { at, life });
        }
    }

    /// Begins a commit if something waits and the disk may.
    pub(crate) fn pump(&mut self, at: usize) -> Check {
        let now = self.now;
        let machine = &mut self.machines[at];
        let storage = &mut machine.storage;
        if storage.commit.is_some() {
            return Ok(());
        }
        if storage.waiting.is_empty() {
            if machine.applier.is_installing() {
                return Ok(()); // what the Applier has applied it tells afterwards
            }
            let load = std::mem::take(&mut storage.load);
            return if load { self.read_log(at) } else { Ok(()) };
        }
        let life = storage.life;
        if machine.full_until > now {
            self.coverage.reach(State::DiskFull);
            self.queue.push(now + RETRY, Event::Pump { at, life });
            let storage = &mut self.machines[at].storage;
            if std::mem::take(&mut storage.load) {
                // What an earlier LogicCenter asked for finds no space and is dropped.
                storage.waiting.clear();
                let applier = &mut self.machines[at].applier;
                applier.install = None;
                applier.install_is_asked = false;
                return self.read_log(at);
            }
            return Ok(());
        }
        let batch = std::mem::take(&mut storage.waiting);
        if batch.len() > 1 {
            self.coverage.reach(State::CommitsMerged);
        }
        let machine = &mut self.machines[at];
        let begin = now.max(machine.stalled_until);
        let micros = 100 + machine.random.below(self.plan.commit_max);
        let mut commit = Commit::new(begin, micros);
        if begin > now {
            commit.resume(begin, micros);
        }
        let done_at = commit.done_at;
        machine.storage.commit = Some((commit, batch));
        self.queue.push(done_at, Event::Committed { at, life });
        Ok(())
    }

    /// The commit is done, unless the disk has stalled meanwhile.
    pub(crate) fn committed(&mut self, at: usize) -> Check {
        let now = self.now;
        let machine = &mut self.machines[at];
        let life = machine.storage.life;
        let Some((commit, _)) = &mut machine.storage.commit else {
            return Ok(());
        };
        if machine.stalled_until > now || commit.done_at > now {
            let micros = 100 + machine.random.below(self.plan.commit_max);
            commit.resume(machine.stalled_until.max(now), micros);
            let done_at = commit.done_at;
            self.queue.push(done_at, Event::Committed { at, life });
            return Ok(());
        }
        let Some((_, batch)) = machine.storage.commit.take() else {
            return Ok(());
        };
        self.write(at, &batch)?;
        self.let_go(at, batch)?;
        self.pump(at)
    }

    /// A batch is on the disk.
    pub(crate) fn write(&mut self, at: usize, batch: &[Request]) -> Check {
        for request in batch {
            let Machine { disk, received, .. } = &mut self.machines[at];
            let persist = match request {
                Request::Persist(persist) => persist,
                Request::Compact(up_to) => {
                    disk.log.compact(*up_to);
                    continue;
                }
                Request::Install(snapshot) => {
                    if disk.log.last() == EntryId::default() {
                        self.coverage.reach(State::JoinedBySnapshot);
                    }
                    disk.log.install(snapshot);
                    let content = received.remove(&snapshot.last);
                    disk.state = content.ok_or_else(|| Violation {
                        property: "a snapshot that is installed is there",
                        text: format!("that of {} was thrown away", snapshot.last),
                    })?;
                    let installed = snapshot.last.index;
                    self.properties.monotonic.state(at, installed)?;
                    continue;
                }
            };
            disk.log.write(&persist.entries).map_err(|text| Violation {
                property: "log matching",
                text,
            })?;
            disk.hard_state = persist.hard_state;
            let (last, commit) = (disk.log.last(), persist.hard_state.commit);
            require(commit <= last.index, "monotonic", || {
                format!("the durable commit index {commit} is beyond the log, which ends at {last}")
            })?;
            self.properties.written(at, &self.machines[at])?;
        }
        self.note_written(at);
        Ok(())
    }

    /// Sends what rests on a batch, and tells LogicCenter.
    fn let_go(&mut self, at: usize, batch: Vec<Request>) -> Check {
        let now = self.now;
        let hard_state = self.machines[at].disk.hard_state;
        let last = self.machines[at].disk.log.last();
        self.trace.line(now, || {
            format!(
                "{} has durable {hard_state:?} and the log up to {last}",
                at + 1
            )
        });
        let mut notices = Vec::new();
        for request in batch {
            match request {
                Request::Persist(persist) => {
                    notices.retain(|notice| matches!(notice, Input::Installed(_)));
                    notices.push(Input::Persisted { hard_state, last });
                    for (to, message) in persist.then {
                        self.coverage.reach(State::PromiseWaited);
                        self.send(at, to, message)?;
                    }
                }
                Request::Install(snapshot) => {
                    self.end_install(at, snapshot.last)?;
                    notices.push(Input::Installed(snapshot));
                }
                Request::Compact(_) => {}
            }
        }
        let machine = &mut self.machines[at];
        if machine.logic.core.is_none() {
            return Ok(()); // an earlier LogicCenter asked for it
        }
        let logic = machine.logic.life;
        // In order; but what was sent may be answered before the core hears of it.
        let late = self.hostile && machine.random.chance(100);
        let longest = if late { self.plan.notice_max } else { 50 };
        let due = now + machine.random.below(longest);
        let due = due.max(machine.storage.heard_at);
        machine.storage.heard_at = due;
        for input in notices {
            self.machines[at].storage.unheard.push_back(last);
            let input = Box::new(input);
            self.queue.push(due, Event::Persisted { at, logic, input });
        }
        Ok(())
    }

    /// Reads what is durable, for a LogicCenter that begins with it.
    fn read_log(&mut self, at: usize) -> Check {
        if self.read_fails(at, Part::Storage) {
            self.coverage.reach(State::LoadFailed);
            return Ok(());
        }
        self.load(at)
    }

    /// Whether the next read of a disk fails; the life of the part that reads is over then.
    pub(crate) fn read_fails(&mut self, at: usize, reader: Part) -> bool {
        let machine = &mut self.machines[at];
        let fails = std::mem::take(&mut machine.read_fails);
        if fails {
            let down = machine.random.below(20_000);
            self.fail(at, reader, down);
        }
        fails
    }

    /// Reads entries for the core.
    pub(crate) fn read_back(
        &mut self,
        at: usize,
        from: Index,
        up_to: Index,
        bytes_max: usize,
    ) -> Check {
        if self.read_fails(at, Part::Storage) {
            return Ok(());
        }
        let entries = self.machines[at]
            .disk
            .log
            .read(from, up_to, bytes_max)
            .into();
        self.input(at, Input::EntriesRead { entries })
    }
}
