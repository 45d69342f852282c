//! The clock of one machine: nobody set it, it goes too slow or too fast, it jumps, and it may stand still.

use rm_raft::Time;

/// What a machine's clock shows at a moment of the simulation. It is monotonic, as the clock of a real machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The moment from which it goes at the present rate; until then it stands still.
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
        let micros = self.shown + moment.saturating_sub(self.since) * self.percent / 100;
        Time { micros }
    }

    /// The moment at which it shows this, or `now` if it is past.
    pub(crate) fn when(&self, time: Time, now: u64) -> u64 {
        let left = time.micros.saturating_sub(self.at(now).micros);
        now.max(self.since) + (left * 100).div_ceil(self.percent)
    }

    /// From now on it goes at this rate.
    pub(crate) fn set_rate(&mut self, now: u64, percent: u64) {
        self.shown = self.at(now).micros;
        self.since = self.since.max(now);
        self.percent = percent;
    }

    /// It stands still until this moment, and goes on from what it shows now: what a hypervisor freezes learns of nothing.
    pub(crate) fn stop(&mut self, now: u64, until: u64) {
        self.shown = self.at(now).micros;
        self.since = self.since.max(until);
    }

    /// If it stands still, it goes on now.
    pub(crate) fn go_on(&mut self, now: u64) {
        self.since = self.since.min(now);
    }

    /// It leaps ahead, as after a virtual machine was moved.
    pub(crate) fn jump(&mut self, now: u64, micros: u64) {
        self.shown = self.at(now).micros + micros;
        self.since = self.since.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_goes_on_from_where_it_was() {
        let mut clock = Clock::new(1_000, 50);
        clock.stop(100, 300);
        let shown = |clock: &Clock, moment| clock.at(moment).micros;
        assert_eq!(
            [100, 200, 300, 400].map(|at| shown(&clock, at)),
            [1_050, 1_050, 1_050, 1_100]
        );
        assert_eq!(clock.when(Time { micros: 1_060 }, 200), 320);
        clock.set_rate(200, 100);
        assert_eq!(shown(&clock, 310), 1_060);
        clock.stop(400, 900);
        clock.go_on(500);
        assert_eq!(shown(&clock, 600), 1_250);
    }
}
