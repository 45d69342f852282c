//! Times that a test measured, told in a few words.

use std::time::Duration;

/// The shortest, the median and the longest, in milliseconds: `0.3 / 0.5 / 12.0`; a dash when there are none.
pub fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    match times[..] {
        [] => "-".to_owned(),
        [shortest, .., longest] => {
            let median = times[times.len() / 2];
            [shortest, median, longest].map(milliseconds).join(" / ")
        }
        [only] => [only; 3].map(milliseconds).join(" / "),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_the_sorted_times() {
        let times = [30, 1, 7].map(Duration::from_millis);
        assert_eq!(spread(&times), "1.0 / 7.0 / 30.0");
        assert_eq!(spread(&[Duration::from_micros(250)]), "0.2 / 0.2 / 0.2");
        assert_eq!(spread(&[]), "-");
    }
}
