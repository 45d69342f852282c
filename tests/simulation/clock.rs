//! The clock of one machine: nobody set it, it goes too slow or too fast, and it jumps.

use rm_raft::Time;

/// What a machine's clock shows at a moment of the simulation. It is monotonic, as the clock of a real machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The moment from which it goes at the present rate.
    since: u64,
    /// What it showed then.
    shown: u64,
    /// How much it moves in a hundred units of time.
    percent: u64,
}

impl Clock {
    pub(crate) fn new(offset: u64, percent: u64) -> Clock {
        Clock {
            since: 0,
            shown: offset,
            percent,
        }
    }

    /// What it shows at this moment.
    pub(crate) fn at(&self, moment: u64) -> Time {
        let micros = self.shown + (moment - self.since) * self.percent / 100;
        Time { micros }
    }

    /// The moment at which it shows this, or `now` if it is past.
    pub(crate) fn when(&self, time: Time, now: u64) -> u64 {
        let left = time.micros.saturating_sub(self.at(now).micros);
        now + (left * 100).div_ceil(self.percent)
    }

    /// From now on it goes at this rate.
    pub(crate) fn set_rate(&mut self, now: u64, percent: u64) {
        self.shown = self.at(now).micros;
        self.since = now;
        self.percent = percent;
    }

    /// It leaps ahead, as after a virtual machine was moved.
    pub(crate) fn jump(&mut self, now: u64, micros: u64) {
        self.shown = self.at(now).micros + micros;
        self.since = now;
    }
}
