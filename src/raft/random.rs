//! Random numbers from a seed: the same seed gives the same numbers, on every machine and in every build.

use std::time::Duration;

/// A SplitMix64 generator. Good enough to keep election timeouts apart, and nothing else is drawn from it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A span from `shortest` up to, without reaching, `longest`.
    pub(crate) fn span(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let width = longest.saturating_sub(shortest).as_micros() as u64;
        shortest + Duration::from_micros(self.next() % width.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_in_their_range_and_differ() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_millis(200));
        let mut random = Random::new(1);
        let spans: Vec<_> = (0..100).map(|_| random.span(shortest, longest)).collect();
        assert!(spans.iter().all(|&span| shortest <= span && span < longest));
        assert!(spans.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn an_empty_range_gives_its_start() {
        let span = Duration::from_millis(5);
        assert_eq!(Random::new(9).span(span, span), span);
    }
}
