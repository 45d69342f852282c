//! How the members of a run change, and what a quorum of them is, counted without the core.

use bytes::Bytes;
use rm_raft::{Change, Configuration, Input, MachineId, RequestId, Step};

use super::action::Move;
use super::properties::Check;
use super::world::World;

/// Whether more than half of the voters say yes, while joint of either side.
pub(crate) fn is_quorum(configuration: &Configuration, yes: impl Fn(MachineId) -> bool) -> bool {
    let majority = |side: &[MachineId]| 2 * side.iter().filter(|&&id| yes(id)).count() > side.len();
    let outgoing = &configuration.outgoing;
    majority(&configuration.voters) && (outgoing.is_empty() || majority(outgoing))
}

impl World {
    /// A client of a machine wants other members. Many changes are refused: they come at a wrong time, or their steps do not go
    /// together.
    pub(crate) fn change_members(
        &mut self,
        at: usize,
        moves: [Option<Move>; 2],
        force: bool,
    ) -> Check {
        if self.is_paused(at) || self.machines[at].gate.down_until > self.now {
            return Ok(());
        }
        let known_by = self.leader().unwrap_or(at);
        let configuration = self.machines[known_by].logic.log.configured().configuration;
        let leader = self.machines[known_by].id;
        let moves = moves.into_iter().flatten();
        let steps = moves.filter_map(|each| self.step_of(each, &configuration, leader));
        let steps = steps.collect();
        let machine = &mut self.machines[at];
        machine.gate.next += 1;
        let request = RequestId {
            machine: machine.id,
            number: machine.boot << 32 | machine.gate.next,
        };
        let change = Change {
            steps,
            force,
            based_on: None,
        };
        self.trace
            .line(self.now, || format!("{} is asked for {change:?}", at + 1));
        self.input(at, Input::Change { request, change })
    }

    /// The step of a move: about one of the machines of whom it makes sense, if there is one.
    fn step_of(
        &self,
        each: Move,
        configuration: &Configuration,
        leader: MachineId,
    ) -> Option<Step> {
        let ids = self.machines.iter().map(|machine| machine.id);
        let strangers: Vec<MachineId> = ids.filter(|&id| !configuration.contains(id)).collect();
        let pick = |ids: &[MachineId], number: usize| {
            let place = number.checked_rem(ids.len())?;
            ids.get(place).copied()
        };
        Some(match each {
            Move::Join(number) => Step::Add(pick(&strangers, number)?, Bytes::new()),
            Move::JoinAsVoter(number) => Step::AddVoter(pick(&strangers, number)?, Bytes::new()),
            Move::Promote(number) => Step::Promote(pick(&configuration.learners, number)?),
            Move::Demote(number) => Step::Demote(pick(&configuration.voters, number)?),
            Move::Leave(number) => Step::Remove(pick(&configuration.members(), number)?),
            Move::Moves(number) => {
                let address = Bytes::copy_from_slice(&number.to_be_bytes());
                Step::Update(pick(&configuration.members(), number)?, address)
            }
            Move::LeaderLeaves => Step::Remove(leader),
        })
    }

    /// Whether every configuration that any machine holds for the latest has a quorum among those of whom this is true.
    pub(crate) fn quorum_remains(&self, among: impl Fn(usize) -> bool) -> bool {
        let logs = self
            .machines
            .iter()
            .flat_map(|machine| [&machine.disk.log, &machine.logic.log]);
        logs.map(|log| log.configured().configuration)
            .filter(|configuration| !configuration.voters.is_empty())
            .all(|configuration| is_quorum(&configuration, |id| among(id.0 as usize - 1)))
    }

    /// Whether any machine could be elected, as their logs are (§5.4.1, §6), if a candidate can have the votes of whom this is true. It
    /// stands if it has a vote by the configuration that its own log holds, or by the one that it knows to be committed, and is counted
    /// by the former.
    pub(crate) fn anybody_can_win(&self, lets_vote: impl Fn(usize, usize) -> bool) -> bool {
        let last = |at: usize| self.machines[at].logic.log.last();
        let can_win = |at: usize| {
            let machine = &self.machines[at];
            let log = &machine.logic.log;
            let commit = machine.status().map(|status| status.commit);
            let commit = commit.unwrap_or_default().max(log.base().index);
            let committed = log.configured_at(commit).configuration;
            let configuration = log.configured().configuration;
            let gives_vote = |id: MachineId| {
                let voter = id.0 as usize - 1;
                lets_vote(at, voter) && last(voter) <= last(at)
            };
            let stands = configuration.has_vote(machine.id) || committed.has_vote(machine.id);
            stands && is_quorum(&configuration, gives_vote)
        };
        (0..self.machines.len()).any(|at| lets_vote(at, at) && can_win(at))
    }

    /// The places of all members, by the configuration of whoever leads; none while that changes, or while nobody leads.
    pub(crate) fn members(&self) -> Option<Vec<usize>> {
        let leader = self.leader()?;
        let configuration = self.machines[leader].logic.log.configured().configuration;
        let members = configuration.members().into_iter();
        (!configuration.is_joint()).then(|| members.map(|id| id.0 as usize - 1).collect())
    }
}

#[cfg(test)]
mod tests {
    use rm_raft::{Entry, EntryId, Index, Payload, Term};

    use crate::simulation::log_image::LogImage;
    use crate::simulation::{Plan, Scale};

    use super::*;

    const SCALE: Scale = Scale {
        seconds: 1,
        all_faults: false,
    };

    /// Four voters at their beginning.
    fn four() -> World {
        let mut plans = (0..1_000).map(|seed| Plan::draw(seed, SCALE));
        let plan = plans.find(|plan| plan.founders == 4);
        let mut world = World::new(plan.expect("some begin with four"), false);
        for place in 0..4 {
            world.machines[place].logic.log = LogImage::new(world.plan.begun_with(place));
        }
        world
    }

    /// A machine's log gets an entry more.
    fn lengthen(world: &mut World, at: usize) {
        let log = &mut world.machines[at].logic.log;
        let id = EntryId {
            term: Term(2),
            index: Index(log.last().index.0 + 1),
        };
        let payload = Payload::Empty;
        log.write(&[Entry { id, payload }]).expect("it follows");
    }

    #[test]
    fn whoever_has_the_votes_of_a_majority_with_no_longer_log_can_win() {
        let mut world = four();
        let without_the_last = |_, voter| voter != 3;
        assert!(world.anybody_can_win(|_, _| true));
        assert!(world.anybody_can_win(without_the_last), "three of four");
        assert!(!world.anybody_can_win(|candidate, voter| candidate == voter));
        // Its vote goes to nobody whose log is shorter; it may win itself.
        lengthen(&mut world, 2);
        assert!(world.anybody_can_win(without_the_last));
        // As where its disk stalls and the last is dead: then only two of four vote for any other.
        let it_does_not_stand = |candidate, voter| voter != 3 && candidate != 2;
        assert!(!world.anybody_can_win(it_does_not_stand), "two of four");
        lengthen(&mut world, 0);
        assert!(world.anybody_can_win(it_does_not_stand), "as long a log");
    }
}
