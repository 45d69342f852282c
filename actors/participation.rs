//! How a machine's part in the domain begins and ends: the configurations that its core starts with, and its removal.

use rm_raft::{Configuration, Configured, Index};
use rm_store::Loaded;
use slog::{Logger, warn};

use crate::machine::Shared;
use crate::members::begun_with;
use crate::port::Port;

/// The configurations of the log, after the one that is in force at its base.
pub(crate) fn configurations(shared: &Shared, log: &Loaded) -> Vec<Configured> {
    let mut configurations = log.configurations.clone();
    let first = configurations.first();
    if first.is_none_or(|first| first.index > log.base.index) {
        configurations.insert(0, begun(shared));
    }
    configurations
}

/// The configuration that is in force until the log or the state tells of another. A machine that joins takes part in nothing
/// before.
pub(crate) fn begun(shared: &Shared) -> Configured {
    Configured {
        index: Index(0),
        configuration: match shared.resources.owner().joined {
            Some(_) => Configuration::default(),
            None => begun_with(&shared.members.present()),
        },
    }
}

/// How a machine learnt that it takes part no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// By its own log, or from a peer that proved itself: it is noted, and the data is not opened again.
    Certain,
    /// From whoever answered at a member's client address: nothing is noted, and a machine that is started again asks again.
    Heard,
}

/// This machine takes part no more, for good: its number is never given again.
pub(crate) fn leave(shared: &Shared, log: &Logger) {
    warn!(
        log,
        "THIS MACHINE WAS REMOVED from its domain and stops; its data is kept"
    );
    if let Err(error) = shared.resources.note_removed() {
        warn!(log, "that it was removed cannot be noted"; "error" => %error);
    }
    shared.departure.send_replace(Some(Departure::Certain));
}

impl Port {
    /// A member told, as of a moment after it was asked, that this machine takes part no more. It stops.
    pub fn learn_removed(&self) {
        self.shared.departure.send_modify(|departure| {
            departure.get_or_insert(Departure::Heard);
        });
    }
}
