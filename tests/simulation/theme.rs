//! The rhythm that some runs have besides the faults that are drawn one by one: it leads to states that chance alone seldom
//! reaches.

use super::action::{Action, Blow, Halt, Move, Target};
use super::random::Random;

/// What a run turns on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    /// Nothing but chance.
    Chance,
    /// Leader after leader is struck soon after its election, often with the same other machine on its side of the cut, whose
    /// disk may be slow. That is how figure 8 of the paper comes about, and how entries are removed and written anew.
    Leaders,
    /// Leaders hold leases on clocks at the edge of their bound, and lose their place while these run: by a cut, because they
    /// hand over, or because a follower that forgot its promise votes for another.
    Leases,
    /// Leader after leader, of an even number of voters, is asked to take a vote away as soon as it is elected, and is cut off
    /// at once: two in turn may find majorities that do not meet (raft-dev, July 2015).
    Voters,
}

impl Theme {
    /// The theme of a run; with `always`, there is one.
    pub(super) fn draw(random: &mut Random, always: bool) -> Theme {
        match random.below(1000) {
            0..400 if !always => Theme::Chance,
            0..760 => Theme::Leaders,
            760..880 => Theme::Leases,
            _ => Theme::Voters,
        }
    }

    /// Out of a thousand, how many kinds of faults a run has besides.
    pub(super) fn kinds(self) -> u64 {
        match self {
            Theme::Chance | Theme::Leaders => 450,
            Theme::Leases | Theme::Voters => 80,
        }
    }

    /// What it does to so many machines until the end, in time's order but for what belongs together.
    pub(super) fn actions(
        self,
        mut random: Random,
        machines: usize,
        end: u64,
    ) -> Vec<(u64, Action)> {
        let mut actions = Vec::new();
        let random = &mut random;
        match self {
            Theme::Chance => {}
            _ if machines == 1 => {}
            Theme::Leaders => leaders(random, machines, end, &mut actions),
            Theme::Leases => leases(random, machines, end, &mut actions),
            Theme::Voters => voters(random, machines, end, &mut actions),
        }
        actions.retain(|&(at, _)| at < end);
        actions
    }
}

fn leaders(random: &mut Random, machines: usize, end: u64, actions: &mut Vec<(u64, Action)>) {
    let pace = random.pick(&[100_000, 200_000, 300_000]);
    let friend = random.below(machines as u64) as usize;
    let alone = random.pick(&[0, 500, 900]);
    let stalls = random.pick(&[0, 0, 300]);
    let latency = random.pick(&[100, 1_000, 8_000, 20_000]);
    let mut at = random.below(end / 4);
    actions.push((at, Action::Latency(latency)));
    while at < end {
        let blow = match random.below(1000) {
            0..100 => Blow::Crash(random.below(2 * pace)),
            100..150 => Blow::Pause(random.below(3 * pace)),
            150..200 => Blow::Halt(Halt {
                span: random.below(3 * pace),
                counted: random.chance(400),
            }),
            _ if random.chance(alone) => Blow::Isolate,
            _ => Blow::Minority(friend),
        };
        // Any of the moments in which something happens, which lie closer together soon after the election.
        let delay: u64 = 1 << random.between(8, 18);
        let delay = random.below(delay);
        actions.push((at, Action::Ambush(delay, blow, None)));
        if random.chance(stalls) {
            let stall = Action::Stall(Target::Machine(friend), random.between(pace, 8 * pace));
            actions.push((at, stall));
        }
        at += random.between(pace / 2, pace * 2);
    }
}

fn leases(random: &mut Random, machines: usize, end: u64, actions: &mut Vec<(u64, Action)>) {
    let mut at = random.between(200_000, 600_000);
    while at < end {
        let friend = random.below(machines as u64) as usize;
        let leader = Target::Leader(friend);
        match random.below(5) {
            0 => actions.push((at, Action::Isolate(leader))),
            1 => {
                // Whom it tells to campaign hears it, and it hears of nothing that comes of that.
                let to = random.chance(500).then_some(friend);
                actions.push((at, Action::Transfer(leader, to)));
                actions.push((at, Action::Deafen(leader)));
            }
            2 => {
                // The others have lost patience by the time the one that still follows forgets.
                actions.push((at, Action::Minority(leader, friend)));
                at += random.between(150_000, 400_000);
                actions.push((at, Action::Isolate(leader)));
                let down = random.between(1_000, 15_000);
                actions.push((at, Action::Crash(Target::Machine(friend), down)));
            }
            3 => actions.push((at, Action::Pause(leader, random.between(20_000, 200_000)))),
            _ => {
                let span = random.between(20_000, 400_000);
                let counted = true;
                actions.push((at, Action::Halt(leader, Halt { span, counted })));
            }
        }
        at += random.between(150_000, 350_000);
        actions.push((at, Action::Heal));
        at += random.between(100_000, 300_000);
    }
}

fn voters(random: &mut Random, machines: usize, end: u64, actions: &mut Vec<(u64, Action)>) {
    let latency = random.pick(&[50, 500, 2_000]);
    actions.push((0, Action::Latency(latency)));
    let mut at = random.between(100_000, 400_000);
    while at < end {
        let friend = random.below(machines as u64) as usize;
        let blow = match random.chance(500) {
            true => Blow::Isolate,
            false => Blow::Minority(friend),
        };
        let asked = random.chance(800).then_some(Move::Demote(friend));
        // Mostly before a majority has the first entry of its term.
        let delay = random.below(2 * latency);
        actions.push((at, Action::Ambush(delay, blow, asked)));
        if random.chance(250) {
            actions.push((at + 20_000, Action::Heal));
        }
        let promote = Action::Change {
            asked: Target::Leader(friend),
            moves: [Some(Move::Promote(friend)), None],
            force: false,
        };
        actions.push((at + 40_000, promote));
        at += random.between(60_000, 250_000);
    }
}
