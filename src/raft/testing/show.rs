//! How scripts show what a core says.

use crate::{
    Body, Change, Configuration, Effect, Entry, EntryId, MachineId, Member, Message, Payload,
    Persist, Proposal, ReadMode, Refusal, Role, Step, TransferOutcome,
};

/// Several things, with spaces between.
pub(super) fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(" ")
}

pub(super) fn machine(id: Option<MachineId>) -> String {
    id.map_or("none".into(), |id| id.to_string())
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NoLeader => "no leader",
        Refusal::NotLeader => "not leader",
        Refusal::Overloaded => "overloaded",
        Refusal::NoSpace => "no space",
        Refusal::Transferring => "transferring",
    }
}

fn outcome(outcome: TransferOutcome) -> &'static str {
    match outcome {
        TransferOutcome::Done => "done",
        TransferOutcome::Replaced => "replaced",
        TransferOutcome::TimedOut => "timed out",
        TransferOutcome::AnotherLeads => "another leads",
        TransferOutcome::NotLeader => "not leader",
        TransferOutcome::NotVoter => "not a voter",
        TransferOutcome::Unheard => "unheard",
    }
}

/// An entry as index@term, with its command.
pub(super) fn entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Empty => entry.id.to_string(),
        Payload::Command(command) => format!("{}={}", entry.id, proposal(command)),
        Payload::Configuration {
            configuration: what,
            ..
        } => format!("{}={}", entry.id, configuration(what)),
    }
}

/// A configuration as its voters, `from` those being left, `with` the learners.
pub(super) fn configuration(configuration: &Configuration) -> String {
    let ids = |ids: &[MachineId]| {
        let numbers: Vec<String> = ids.iter().map(MachineId::to_string).collect();
        numbers.join(",")
    };
    let mut text = format!("voters:{}", ids(&configuration.voters));
    if configuration.is_joint() {
        text += &format!("/from:{}", ids(&configuration.outgoing));
    }
    if !configuration.learners.is_empty() {
        text += &format!("/learners:{}", ids(&configuration.learners));
    }
    text
}

fn proposal(proposal: &Proposal) -> String {
    let text = String::from_utf8_lossy(&proposal.command);
    match text.len() {
        0..=8 => text.into_owned(),
        long => format!("{}({long} bytes)", &text[..1]),
    }
}

/// A range of entries, short.
pub(super) fn ids(entries: &[Entry]) -> String {
    list(entries, |entry| entry.id.to_string())
}

fn id(id: &EntryId) -> String {
    id.to_string()
}

pub(super) fn message(message: &Message) -> String {
    let body = match &message.body {
        Body::PreVoteRequest { last } => format!("PreVoteRequest last={}", id(last)),
        Body::PreVoteResponse { granted } => format!("PreVoteResponse {}", yes(*granted)),
        Body::VoteRequest {
            last,
            leader_gave_way,
        } => {
            let gave_way = if *leader_gave_way {
                " leader gave way"
            } else {
                ""
            };
            format!("VoteRequest last={}{gave_way}", id(last))
        }
        Body::VoteResponse { granted } => format!("VoteResponse {}", yes(*granted)),
        Body::AppendRequest {
            previous,
            entries,
            commit,
            round,
        } => format!(
            "AppendRequest previous={} entries=[{}] commit={commit} round={round}",
            id(previous),
            list(entries, entry)
        ),
        Body::Appended { matched, round } => format!("Appended matched={matched} round={round}"),
        Body::AppendRejected {
            previous,
            hint,
            round,
        } => format!(
            "AppendRejected previous={previous} hint={} round={round}",
            id(hint)
        ),
        Body::Heartbeat { commit, round } => {
            format!("Heartbeat commit={} round={round}", id(commit))
        }
        Body::HeartbeatResponse {
            round,
            last,
            full,
            loyal,
        } => {
            let full = if *full { " full" } else { "" };
            let loyal = match loyal.as_millis() {
                0 => String::new(),
                millis => format!(" loyal={millis}ms"),
            };
            format!("HeartbeatResponse round={round} last={last}{full}{loyal}")
        }
        Body::Propose { proposals } => format!("Propose [{}]", list(proposals, proposal)),
        Body::ProposeRefused { requests, reason } => {
            format!("ProposeRefused {} ({})", requests.len(), refusal(*reason))
        }
        Body::ProposeChange { change, .. } => format!("ProposeChange {}", steps(change)),
        Body::ChangeRefused { reason, .. } => format!("ChangeRefused {reason}"),
        Body::Removed { committed } => format!("Removed committed={}", id(committed)),
        Body::ReadIndexRequest { read, mode } => {
            let mode = match mode {
                ReadMode::Quorum => "",
                ReadMode::Lease => " by lease",
            };
            format!("ReadIndexRequest read={}{mode}", read.0)
        }
        Body::CampaignNow => "CampaignNow".into(),
        Body::ReadIndexResponse { read, index } => {
            let index = index.map_or("none".into(), |index| index.to_string());
            format!("ReadIndexResponse read={} index={index}", read.0)
        }
    };
    let (name, rest) = body.split_once(' ').unwrap_or((&body, ""));
    format!("{name} term={} {rest}", message.term)
        .trim_end()
        .into()
}

fn steps(change: &Change) -> String {
    let step = |step: &Step| match step {
        Step::Add(machine, _) => format!("add-{machine}"),
        Step::AddVoter(machine, _) => format!("addvoter-{machine}"),
        Step::Promote(machine) => format!("promote-{machine}"),
        Step::Demote(machine) => format!("demote-{machine}"),
        Step::Remove(machine) => format!("remove-{machine}"),
        Step::Update(machine, _) => format!("update-{machine}"),
    };
    let force = if change.force { " force" } else { "" };
    list(&change.steps, step) + force
}

pub(super) fn member(member: Member) -> &'static str {
    match member {
        Member::Voter => "voter",
        Member::Learner => "learner",
        Member::Outgoing => "outgoing",
        Member::Removed => "removed",
        Member::None => "none",
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

fn persist(persist: &Persist) -> String {
    let Persist {
        hard_state,
        entries,
        then,
    } = persist;
    let mut text = format!(
        "persist term={} vote={} commit={} entries=[{}]",
        hard_state.term,
        machine(hard_state.vote),
        hard_state.commit,
        ids(entries)
    );
    if !then.is_empty() {
        text += &format!(" then {} to send", then.len());
    }
    text
}

pub(super) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Persist(what) => persist(what),
        Effect::Send { to, message: what } => {
            format!("-> {}: {}", list(to, |id| id.to_string()), message(what))
        }
        Effect::ReadEntries { from, up_to, .. } => format!("read entries {from}..{up_to}"),
        Effect::Apply { up_to, entries } => {
            format!("apply up to {up_to} [{}]", list(entries, entry))
        }
        Effect::Compact { up_to } => format!("compact up to {up_to}"),
        Effect::SendSnapshot { to, at_least, .. } => {
            format!("send a snapshot to {to}, of {at_least} at least")
        }
        Effect::Install(snapshot) => format!("install the snapshot of {}", snapshot.last),
        Effect::Discard(snapshot) => format!("discard the snapshot of {}", snapshot.last),
        Effect::Readable { read, index } => format!("read {} is readable at {index}", read.0),
        Effect::ReadRefused { read, reason } => {
            format!("read {} refused ({})", read.0, refusal(*reason))
        }
        Effect::ChangeRefused { request, reason } => {
            format!("change {} refused: {reason}", request.number)
        }
        Effect::Refused { requests, reason } => {
            let numbers = list(requests, |request| request.number.to_string());
            format!("proposals {numbers} refused ({})", refusal(*reason))
        }
        Effect::Transferred { to, outcome: how } => {
            format!("transfer to {}: {}", machine(*to), outcome(*how))
        }
    }
}
