//! The fault that stays when all others end.

use std::collections::BTreeSet;

use super::random::Random;

/// A fault that the machines must live with: those that can still reach a majority go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// None.
    Nothing,
    /// A machine is lost for good.
    Dead(usize),
    /// A machine hears nobody.
    Deaf(usize),
    /// Nobody hears a machine.
    Mute(usize),
    /// Two machines do not reach each other.
    Parted(usize, usize),
    /// A machine's disk does nothing.
    Stalled(usize),
    /// A machine's disk has only its reserve left.
    Low(usize),
}

impl Residual {
    /// One that so many machines can live with, or none.
    pub(crate) fn draw(random: &mut Random, machines: usize) -> Residual {
        if machines == 1 {
            return Residual::Nothing;
        }
        let one = random.below(machines as u64) as usize;
        let other = (one + 1 + random.below(machines as u64 - 1) as usize) % machines;
        match random.below(13) {
            0 => Residual::Dead(one),
            1 => Residual::Deaf(one),
            2 => Residual::Mute(one),
            3 => Residual::Parted(one, other),
            4 => Residual::Stalled(one),
            5 => Residual::Low(one),
            _ => Residual::Nothing,
        }
    }

    /// The machines from which nothing can be expected. Of two apart, either may be the one without a leader.
    pub(crate) fn afflicts(self) -> BTreeSet<usize> {
        match self {
            Residual::Nothing => BTreeSet::new(),
            Residual::Dead(at)
            | Residual::Deaf(at)
            | Residual::Mute(at)
            | Residual::Stalled(at)
            | Residual::Low(at) => [at].into(),
            Residual::Parted(one, other) => [one, other].into(),
        }
    }

    /// Whether one machine can have the vote of another, or its own.
    pub(crate) fn lets_vote(self, candidate: usize, voter: usize) -> bool {
        match self {
            Residual::Nothing | Residual::Low(_) => true,
            Residual::Dead(at)
            | Residual::Deaf(at)
            | Residual::Mute(at)
            | Residual::Stalled(at) => candidate != at && voter != at,
            Residual::Parted(one, other) => {
                ![(one, other), (other, one)].contains(&(candidate, voter))
            }
        }
    }
}
