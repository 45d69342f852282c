//! What was measured, what it means, and what of it is too much.

use std::time::Duration;

use rm_tests::Client;
use rm_tests::host::StoodStill;
use rm_tests::silence::silence_max;

/// How much of its throughput a leader must keep.
const RATIO_MIN: f64 = 0.7;

/// The most anonymous memory that the leader and the machine that catches up may take, whatever the size of the state: with the default
/// limits each was seen at less than half of it.
const ANONYMOUS_MAX: u64 = 256 << 20;

/// The machines that are judged, in the order of their figures.
const MACHINES: [&str; 3] = ["leader", "third machine", "machine that catches up"];

/// The figures that are judged.
pub(crate) struct Measured {
    pub(crate) rates: Rates,
    /// The most anonymous memory that was seen, in bytes, of the leader and of the machine that catches up.
    pub(crate) anonymous: [u64; 2],
    /// Puts that failed.
    pub(crate) failed: u64,
    /// Of the machine that catches up, and of the third; none of a machine that follows nobody.
    pub(crate) silences: [Option<Duration>; 2],
    /// The host, in the same time as the silences of the third machine.
    pub(crate) stood_still: StoodStill,
    /// Before and after.
    pub(crate) terms: [u64; 2],
    /// Whether any actor of each machine was restarted meanwhile, in the order of [`MACHINES`]. A restarted LogicCenter has forgotten the
    /// silences before.
    pub(crate) restarted: [bool; 3],
}

/// Puts a second that the leader acknowledged.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    /// With all three machines, before one of them went down.
    pub(crate) three_before: f64,
    /// While one was down.
    pub(crate) two: f64,
    /// While it caught up.
    pub(crate) during: f64,
    /// With all three again.
    pub(crate) three_after: f64,
}

impl Rates {
    /// What part of its throughput the leader kept, of the better that it has with three machines; not a number when it has none.
    fn kept(self) -> f64 {
        self.during / self.three_before.max(self.three_after)
    }

    fn tell(self) {
        println!("three machines, before: {:.0} puts/s", self.three_before);
        println!("two, while one is down: {:.0} puts/s", self.two);
        println!("while it catches up: {:.0} puts/s", self.during);
        println!("three machines, after: {:.0} puts/s", self.three_after);
        println!("kept of the better with three machines: {:.2}", self.kept());
        println!("kept of that with two: {:.2}", self.during / self.two);
    }
}

/// The longest silences of the leader that each of these machines tells of.
pub(crate) async fn silences(client: &Client, places: [usize; 2]) -> [Option<Duration>; 2] {
    let mut silences = [None; 2];
    for (silence, place) in silences.iter_mut().zip(places) {
        let told = client.info_until(place).await.leader_silence_ms;
        *silence = told.map(Duration::from_millis);
    }
    silences
}

impl Measured {
    /// Prints it.
    pub(crate) fn tell(&self) {
        self.rates.tell();
        println!("puts that failed: {}", self.failed);
        println!(
            "leader_silence_ms of `rmctl info`, the longest time from one message of the leader (append, heartbeat or answer) to the next, \
             as they come to the machine's LogicCenter, since it has followed this leader:"
        );
        for (name, silence) in [MACHINES[2], MACHINES[1]].iter().zip(self.silences) {
            match silence {
                Some(silence) => println!("    {name}: {} ms", silence.as_millis()),
                None => println!("    {name}: it follows nobody"),
            }
        }
        println!(
            "the host let nobody run for {:.0?} at once, {:.0?} in all",
            self.stood_still.longest, self.stood_still.whole
        );
        println!(
            "term before and after: {}, {}",
            self.terms[0], self.terms[1]
        );
    }

    /// What is too much.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let kept = self.rates.kept();
        if kept.is_nan() || kept < RATIO_MIN {
            faults.push(format!(
                "the leader kept {kept:.2} of its throughput, at least {RATIO_MIN} is right"
            ));
        }
        for (name, bytes) in [MACHINES[0], MACHINES[2]].iter().zip(self.anonymous) {
            if bytes > ANONYMOUS_MAX {
                faults.push(format!(
                    "the {name} took {} MiB of anonymous memory, at most {} is right",
                    bytes >> 20,
                    ANONYMOUS_MAX >> 20
                ));
            }
        }
        if self.failed > 0 {
            faults.push(format!("{} puts failed, none is right", self.failed));
        }
        let Some(bound) = silence_max(self.stood_still) else {
            let longest = self.stood_still.longest;
            faults.push(format!(
                "the host let nobody run for {longest:.0?} at once, so that nothing can be said: run it again where less goes on"
            ));
            return faults;
        };
        for silence in self.silences {
            match silence {
                None => faults.push("a machine follows nobody in the end".to_owned()),
                Some(silence) if silence > bound => faults.push(format!(
                    "the leader was silent for {silence:?}, at most {bound:.0?} is right on this host"
                )),
                Some(_) => {}
            }
        }
        if self.terms[0] != self.terms[1] {
            faults.push("there was an election".to_owned());
        }
        for (name, _) in MACHINES.iter().zip(self.restarted).filter(|(_, it)| *it) {
            faults.push(format!("an actor of the {name} was restarted"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of it as it should be.
    fn sound() -> Measured {
        let silence = Some(Duration::from_millis(200));
        Measured {
            rates: Rates {
                three_before: 90.0,
                two: 120.0,
                during: RATIO_MIN * 100.0,
                three_after: 100.0,
            },
            anonymous: [ANONYMOUS_MAX; 2],
            failed: 0,
            silences: [silence; 2],
            stood_still: StoodStill::default(),
            terms: [3, 3],
            restarted: [false; 3],
        }
    }

    #[test]
    fn each_figure_that_is_too_much_is_a_fault() {
        let silence = |ms| Some(Duration::from_millis(ms));
        assert_eq!(sound().faults(), [""; 0]);
        let spoiled: [fn(&mut Measured); 9] = [
            |it| it.rates.during -= 1.0,
            |it| it.rates.three_before = 101.0,
            |it| (it.rates.three_before, it.rates.three_after) = (f64::NAN, f64::NAN),
            |it| it.anonymous[1] += 1,
            |it| it.failed = 1,
            |it| it.silences[1] = None,
            |it| it.terms[1] = 4,
            |it| it.restarted[2] = true,
            |it| it.stood_still.longest = Duration::from_secs(1),
        ];
        for spoil in spoiled {
            let mut measured = sound();
            spoil(&mut measured);
            assert_eq!(measured.faults().len(), 1, "{:?}", measured.faults());
        }
        let mut measured = sound();
        measured.silences = [silence(201), silence(260)];
        assert_eq!(measured.faults().len(), 2);
        measured.stood_still.longest = Duration::from_millis(50);
        assert_eq!(measured.faults().len(), 1);
    }
}
