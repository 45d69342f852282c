//! For how long the leader may be silent to the machines that follow it, while something goes on that must delay no heartbeat.

use std::time::Duration;

use crate::host::StoodStill;

/// For how long a machine may hear nothing of its leader: two heartbeats of an operator's config are due within it, so that one may
/// come late, and five such times are an election timeout.
pub const SILENCE_MAX: Duration = Duration::from_millis(200);

/// How much of it may be the host's: less than what is the machines' own.
const EXCUSED_MAX: Duration = Duration::from_millis(150);

/// The bound on a silence on a host that let no thread run meanwhile, now and then. One silence holds one such time, however many
/// there were. None where the host did so for so long at once that most of a silence may be its own: nothing can be said then.
pub fn silence_max(host: StoodStill) -> Option<Duration> {
    (host.longest <= EXCUSED_MAX).then(|| SILENCE_MAX + host.longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_of_the_host_is_taken_out_and_no_more() {
        let bound = |whole, longest| {
            let [whole, longest] = [whole, longest].map(Duration::from_millis);
            let bound = silence_max(StoodStill { whole, longest });
            bound.map(|it| it.as_millis())
        };
        assert_eq!(bound(0, 0), Some(200));
        assert_eq!(bound(2_000, 70), Some(270));
        assert_eq!(bound(500, 150), Some(350));
        assert_eq!(bound(500, 151), None);
    }
}
