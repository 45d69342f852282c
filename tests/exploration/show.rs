//! How a step is told.

use rm_raft::{Body, Entry, MachineId, Message, Payload, Role};

use super::catalog::Catalog;
use super::machine::{MACHINES, Step};
use super::state::{Action, State};

/// What happens, and what the machine is after it.
pub(crate) fn step(action: Action, after: &State, catalog: &Catalog) -> String {
    let facts = catalog.facts(after.machines()[action.place]);
    let role = match facts.role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    let ids = |log: &[(rm_raft::EntryId, u64)]| {
        let ids: Vec<String> = log.iter().map(|(id, _)| id.to_string()).collect();
        ids.join(" ")
    };
    let done = self::action(action, catalog);
    let log = format!(
        "log [{}], durable [{}]",
        ids(&facts.log),
        ids(&facts.durable)
    );
    format!(
        "{done}\n      now {role} in term {}, {log}, commit {}",
        facts.term, facts.commit
    )
}

/// What happens.
pub(crate) fn action(action: Action, catalog: &Catalog) -> String {
    let machine = MACHINES[action.place];
    let what = match action.step {
        Step::Receive(number) => {
            let (from, text) = catalog.message(number);
            let again = action.link.is_some_and(|(_, again)| again);
            let again = if again { ", which will come again" } else { "" };
            format!("hears of {from}: {}{again}", message(text))
        }
        Step::Timeout => "loses patience".into(),
        Step::Heartbeat => "is due for a heartbeat".into(),
        Step::Campaign => "stands for election at once".into(),
        Step::Work => "makes durable what its disk was asked first".into(),
        Step::Notice => "learns that its disk has done a job".into(),
        Step::Crash => "crashes and starts again".into(),
        Step::Propose(number) => format!("is asked by a client for command {number}"),
    };
    format!("{machine} {what}")
}

fn message(message: &Message) -> String {
    let term = message.term;
    match &message.body {
        Body::VoteRequest { last, .. } => format!("VoteRequest in term {term}, last {last}"),
        Body::VoteResponse { granted } => format!("VoteResponse in term {term}, granted {granted}"),
        Body::AppendRequest {
            previous,
            entries,
            commit,
            ..
        } => {
            let entries: Vec<String> = entries.iter().map(entry).collect();
            let entries = entries.join(" ");
            format!("AppendRequest in term {term}, after {previous}: [{entries}], commit {commit}")
        }
        Body::Appended { matched, .. } => format!("Appended in term {term}, up to {matched}"),
        Body::AppendRejected { previous, hint, .. } => {
            format!("AppendRejected in term {term}, nothing at {previous}, hint {hint}")
        }
        Body::Heartbeat { commit, .. } => format!("Heartbeat in term {term}, commit {commit}"),
        body => format!("{body:?} in term {term}"),
    }
}

fn entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Empty => entry.id.to_string(),
        Payload::Command(proposal) => format!("{}=command {}", entry.id, proposal.request.number),
        Payload::Configuration { configuration, .. } => {
            let numbers = |machines: &[MachineId]| {
                let numbers: Vec<String> = machines.iter().map(MachineId::to_string).collect();
                numbers.join(" ")
            };
            let voters = numbers(&configuration.voters);
            if configuration.is_joint() {
                let outgoing = numbers(&configuration.outgoing);
                format!("{}=voters {voters}, leaving {outgoing}", entry.id)
            } else {
                format!("{}=voters {voters}", entry.id)
            }
        }
    }
}
