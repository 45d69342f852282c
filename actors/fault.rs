//! Fault points: named places in the actors where a test makes something go wrong. Compiled in always, idle unless
//! armed, and armed only when the config allows it.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ActorName;

/// A place where a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// When the actor begins to handle a message.
    Handler,
    /// When the actor starts.
    Started,
    /// In a future that the actor has spawned.
    Future,
    /// Inside a write transaction of Storage or Applier.
    Transaction,
    /// When Storage commits.
    Commit,
    /// When the Applier writes a checkpoint.
    Checkpoint,
    /// When the Sender sends a message.
    Send,
    /// While a snapshot is copied for the Sender.
    Copy,
    /// When a piece of a snapshot is read for the Sender.
    SendSnapshot,
    /// When a piece of a snapshot has come to the Listener.
    Receive,
    /// When a snapshot is whole, and LogicCenter is not told yet.
    Received,
    /// Before a snapshot is made ready for LogicCenter, and when a copy of the state has caught up with it.
    Prepare,
    /// Before Storage commits the installation of a snapshot.
    Install,
    /// After it, when nobody is told yet.
    Installed,
    /// Before the history is read from the disk for the Watcher.
    History,
}

const POINTS: [(&str, Point); 15] = [
    ("handler", Point::Handler),
    ("started", Point::Started),
    ("future", Point::Future),
    ("transaction", Point::Transaction),
    ("commit", Point::Commit),
    ("checkpoint", Point::Checkpoint),
    ("send", Point::Send),
    ("copy", Point::Copy),
    ("send_snapshot", Point::SendSnapshot),
    ("receive", Point::Receive),
    ("received", Point::Received),
    ("prepare", Point::Prepare),
    ("install", Point::Install),
    ("installed", Point::Installed),
    ("history", Point::History),
];

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        POINTS
            .into_iter()
            .find_map(|(name, point)| (name == text).then_some(point))
            .ok_or_else(|| {
                let names = POINTS.map(|(name, _)| name).join(", ");
                format!("there is no fault point {text:?}; the points are {names}")
            })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = POINTS.iter().find(|(_, point)| point == self);
        f.write_str(name.map_or("?", |(name, _)| name))
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The actor panics.
    Panic,
    /// The actor stops.
    Stop,
    /// The actor never comes back, until it is replaced.
    Hang,
    /// The actor comes back late.
    Delay(Duration),
    /// The disk fails.
    IoError,
    /// The disk is full.
    NoSpace,
    /// The message is lost.
    Lose,
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "panic" => Action::Panic,
            "stop" => Action::Stop,
            "hang" => Action::Hang,
            "io_error" => Action::IoError,
            "no_space" => Action::NoSpace,
            "lose" => Action::Lose,
            _ => match text.strip_prefix("delay:").map(str::parse) {
                Some(Ok(ms)) => Action::Delay(Duration::from_millis(ms)),
                _ => {
                    return Err(format!(
                        "there is no fault {text:?}; the faults are panic, stop, hang, delay:MS, io_error, no_space and lose"
                    ));
                }
            },
        })
    }
}

impl Action {
    /// Whether the fault can do anything at this point of this actor.
    pub(crate) fn strikes_at(self, point: Point, actor: ActorName) -> bool {
        let everywhere = matches!(self, Action::Panic | Action::Hang | Action::Delay(_));
        // On a thread that is no actor's, whose hang nobody would see.
        let aside = everywhere && self != Action::Hang || self.io_error().is_some();
        match point {
            Point::Handler => everywhere || self == Action::Stop,
            Point::Started => everywhere,
            Point::Future => self == Action::Panic,
            Point::Transaction => {
                let disk = actor == ActorName::Storage && self.io_error().is_some();
                actor.holds_writer_lock() && (everywhere || disk)
            }
            Point::Commit => {
                actor == ActorName::Storage && (everywhere || self.io_error().is_some())
            }
            Point::Checkpoint => {
                actor == ActorName::Applier && (everywhere || self.io_error().is_some())
            }
            Point::Send => actor == ActorName::Sender && (everywhere || self == Action::Lose),
            Point::Copy | Point::SendSnapshot => actor == ActorName::Sender && aside,
            Point::Receive | Point::Received => actor == ActorName::Listener && aside,
            Point::Prepare => actor == ActorName::LogicCenter && aside,
            Point::Install => {
                actor == ActorName::Storage && (everywhere || self.io_error().is_some())
            }
            Point::Installed => actor == ActorName::Storage && everywhere,
            Point::History => actor == ActorName::Watcher && aside,
        }
    }

    /// The error that a disk would give.
    pub(crate) fn io_error(self) -> Option<io::Error> {
        match self {
            Action::IoError => Some(rustix::io::Errno::IO.into()),
            Action::NoSpace => Some(rustix::io::Errno::NOSPC.into()),
            _ => None,
        }
    }
}

struct Armed {
    actor: ActorName,
    point: Point,
    action: Action,
    times: u64,
}

/// The faults that are armed in one machine.
#[derive(Default)]
pub(crate) struct Faults {
    /// How many are armed; read before the lock is taken, so that idle points cost a load.
    count: AtomicUsize,
    armed: Mutex<Vec<Armed>>,
}

impl Faults {
    /// Arms a fault in place of an earlier one at the same point; zero `times` only disarms that.
    pub(crate) fn arm(&self, actor: ActorName, point: Point, action: Action, times: u64) {
        self.disarm(actor, point);
        let mut armed = self.armed.lock().unwrap_or_else(|e| e.into_inner());
        if times > 0 {
            armed.push(Armed {
                actor,
                point,
                action,
                times,
            });
        }
        self.count.store(armed.len(), Ordering::Release);
    }

    /// Disarms what is armed at a point; false if nothing is, since it has struck.
    pub(crate) fn disarm(&self, actor: ActorName, point: Point) -> bool {
        let mut armed = self.armed.lock().unwrap_or_else(|e| e.into_inner());
        let before = armed.len();
        armed.retain(|fault| (fault.actor, fault.point) != (actor, point));
        self.count.store(armed.len(), Ordering::Release);
        armed.len() < before
    }

    /// What goes wrong at this point now, if anything; uses up one of the fault's times.
    pub(crate) fn strike(&self, actor: ActorName, point: Point) -> Option<Action> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut armed = self.armed.lock().unwrap_or_else(|e| e.into_inner());
        let fault = armed
            .iter_mut()
            .find(|fault| (fault.actor, fault.point) == (actor, point))?;
        let action = fault.action;
        fault.times -= 1;
        armed.retain(|fault| fault.times > 0);
        self.count.store(armed.len(), Ordering::Release);
        Some(action)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The words for all actions, as the refusal of another one has them.
    const ACTIONS: [&str; 7] = [
        "panic", "stop", "hang", "delay:MS", "io_error", "no_space", "lose",
    ];

    #[test]
    fn a_fault_strikes_as_often_as_it_was_armed_for_and_only_at_its_point() {
        let faults = Faults::default();
        faults.arm(ActorName::Storage, Point::Commit, Action::NoSpace, 2);
        assert_eq!(faults.strike(ActorName::Storage, Point::Handler), None);
        assert_eq!(faults.strike(ActorName::Applier, Point::Commit), None);
        for _ in 0..2 {
            assert_eq!(
                faults.strike(ActorName::Storage, Point::Commit),
                Some(Action::NoSpace)
            );
        }
        assert_eq!(faults.strike(ActorName::Storage, Point::Commit), None);
    }

    #[test]
    fn arming_a_point_again_replaces_what_was_armed_there() {
        let faults = Faults::default();
        faults.arm(ActorName::Sender, Point::Send, Action::Lose, 9);
        faults.arm(ActorName::Sender, Point::Send, Action::Panic, 0);
        assert_eq!(faults.strike(ActorName::Sender, Point::Send), None);
    }

    /// The manual's row of a point and an actor has just the actions that can do something there.
    #[test]
    fn the_manual_has_what_can_strike_where() {
        let page = include_str!("../docs/operations.md");
        let (_, table) = page
            .split_once("| point | actor | actions |\n")
            .expect("the manual has the table");
        let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
        let mut told = BTreeSet::new();
        for row in rows {
            let quoted = |cell: usize| {
                let text = row.split('|').nth(cell).unwrap_or_default();
                let words = text.split('`').skip(1).step_by(2);
                words.map(str::to_owned).collect::<Vec<_>>()
            };
            let mut actors = quoted(2);
            if actors.is_empty() {
                actors.extend(ActorName::ALL.map(|actor| actor.to_string()));
            }
            for actor in actors {
                let actions = quoted(3).into_iter();
                told.extend(actions.map(|action| (quoted(1)[0].clone(), actor.clone(), action)));
            }
        }
        let mut known = BTreeSet::new();
        for (name, point) in POINTS {
            for actor in ActorName::ALL {
                for word in ACTIONS {
                    let action: Action = word.replace("MS", "1").parse().expect("is an action");
                    if action.strikes_at(point, actor) {
                        let word = word.trim_end_matches(":MS");
                        known.insert((name.to_owned(), actor.to_string(), word.to_owned()));
                    }
                }
            }
        }
        assert_eq!(told, known);
    }

    #[test]
    fn names_are_read_and_wrong_ones_are_answered_with_the_right_ones() {
        assert_eq!(
            "delay:20".parse(),
            Ok(Action::Delay(Duration::from_millis(20)))
        );
        assert_eq!("checkpoint".parse(), Ok(Point::Checkpoint));
        assert!(
            "delay:x"
                .parse::<Action>()
                .unwrap_err()
                .contains("delay:MS")
        );
        assert!("nowhere".parse::<Point>().unwrap_err().contains("handler"));
    }
}
