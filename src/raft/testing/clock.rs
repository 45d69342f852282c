//! The clock of one machine of a simulation or a script: nobody set it, and it goes too slow or too fast.

use std::time::Duration;

use crate::Time;

/// What a machine's clock shows at a moment of the simulation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// What it shows at the beginning.
    pub(super) offset: Duration,
    /// How much it moves in a hundred units of time.
    pub(super) percent: u64,
}

impl Clock {
    /// What the clock shows at this moment.
    pub(super) fn at(&self, moment: Time) -> Time {
        let moved = Duration::from_micros(moment.micros * self.percent / 100);
        Time::default().after(self.offset + moved)
    }

    /// The first moment of the simulation at which the clock shows this time.
    pub(super) fn moment(&self, time: Time) -> Time {
        let moved = time.since(Time::default().after(self.offset));
        let micros = (moved.as_micros() as u64 * 100).div_ceil(self.percent);
        Time { micros }
    }
}

impl Default for Clock {
    /// A clock that is right.
    fn default() -> Clock {
        Clock {
            offset: Duration::ZERO,
            percent: 100,
        }
    }
}
