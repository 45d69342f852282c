//! How far an exploration goes: what is small, and what is left out.

/// The most messages that any bound may allow on one link.
pub(crate) const LINK_MAX: usize = 4;

/// What is counted and limited. Whatever goes beyond is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Whether it starts where the first machine was elected in term 1, and its first entry is durable on itself alone. Else where
    /// no machine was ever run.
    pub starts_led: bool,
    /// The latest term.
    pub term_max: u64,
    /// The last index of a log.
    pub log_max: u64,
    /// The most messages on their way from one machine to another, at most four. Where one more is sent, each way to lose one
    /// of them is explored.
    pub link_max: usize,
    /// The most requests that wait for one disk.
    pub jobs_max: usize,
    /// How often a machine crashes, in all.
    pub crashes_max: u8,
    /// How many messages are delivered twice.
    pub repeats_max: u8,
    /// How many commands clients propose.
    pub proposals_max: u8,
    /// How often a leader's heartbeat is due, or a candidate asks again.
    pub heartbeats_max: u8,
    /// How often a machine loses patience: a follower or candidate stands for election, a leader that hears nobody steps down.
    pub timeouts_max: u8,
    /// How often a machine stands at once, without a pre-vote and whatever it hears, as one that led a moment ago.
    /// Elections are safe whenever they are held, so this is the shorter way to many of them.
    pub campaigns_max: u8,
    /// Whether disks take their time: what is to be durable is so at a later step, and a crash may come first. Else at once.
    pub slow_disks: bool,
    /// Whether a core may learn late what its disk has done. Else in the same step.
    pub late_notices: bool,
    /// Whether a message that promises what is not durable counts as a fault. Else only what follows from it does.
    pub checks_promises: bool,
    /// Whether an append carries one entry at most. Else all that there are.
    pub single_entries: bool,
}

impl Bounds {
    /// A configuration by its name.
    pub fn named(name: &str) -> Option<Bounds> {
        let small = Bounds {
            starts_led: false,
            term_max: 2,
            log_max: 2,
            link_max: 2,
            jobs_max: 2,
            crashes_max: 1,
            repeats_max: 0,
            proposals_max: 0,
            heartbeats_max: 0,
            timeouts_max: 0,
            campaigns_max: 2,
            slow_disks: true,
            late_notices: false,
            checks_promises: true,
            single_entries: true,
        };
        match name {
            "small" => Some(small),
            "elections" => Some(Bounds {
                timeouts_max: 4,
                campaigns_max: 0,
                ..small
            }),
            "votes" => Some(Bounds {
                term_max: 1,
                log_max: 1,
                link_max: 1,
                checks_promises: false,
                ..small
            }),
            "figure-8" => Some(Bounds {
                term_max: 4,
                log_max: 2,
                starts_led: true,
                link_max: 1,
                crashes_max: 0,
                campaigns_max: 3,
                slow_disks: false,
                ..small
            }),
            "large" => Some(Bounds {
                starts_led: false,
                term_max: 4,
                log_max: 4,
                link_max: 3,
                jobs_max: 3,
                crashes_max: 2,
                repeats_max: 1,
                proposals_max: 2,
                heartbeats_max: 2,
                timeouts_max: 3,
                campaigns_max: 4,
                slow_disks: true,
                late_notices: true,
                checks_promises: true,
                single_entries: true,
            }),
            _ => None,
        }
    }
}
