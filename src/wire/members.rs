//! Configurations, and changes of them, as fields of a frame, and back. The numbers are part of the format, as those of the codec.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use rm_raft::{Change, ChangeRefused, Configuration, Index, MachineId, RequestId, Step};

use crate::codec::{put_bool, put_list, put_request_id, take_list, take_request_id};
use crate::frame::{Fields, FrameError};

const MACHINE_BYTES: usize = 8;
/// What is told about a machine, without that itself: whose it is, and its length.
const ABOUT_BYTES: usize = MACHINE_BYTES + 4;
/// The least bytes of a step: what it is, and the machine.
const STEP_BYTES: usize = 1 + MACHINE_BYTES;

/// What a step of a change does.
mod step {
    pub(super) const ADD: u8 = 0;
    pub(super) const ADD_VOTER: u8 = 1;
    pub(super) const PROMOTE: u8 = 2;
    pub(super) const DEMOTE: u8 = 3;
    pub(super) const REMOVE: u8 = 4;
    pub(super) const UPDATE: u8 = 5;
}

/// Why a change was not begun.
mod reason {
    pub(super) const NOT_LEADER: u8 = 0;
    pub(super) const UNDER_WAY: u8 = 1;
    pub(super) const LEADER_IS_NEW: u8 = 2;
    pub(super) const EMPTY: u8 = 3;
    pub(super) const MACHINE_ZERO: u8 = 4;
    pub(super) const NO_SUCH_MACHINE: u8 = 5;
    pub(super) const ALREADY_MEMBER: u8 = 6;
    pub(super) const ALREADY_VOTER: u8 = 7;
    pub(super) const ALREADY_LEARNER: u8 = 8;
    pub(super) const NOT_CAUGHT_UP: u8 = 9;
    pub(super) const NO_VOTER_LEFT: u8 = 10;
    pub(super) const QUORUM_AT_RISK: u8 = 11;
    pub(super) const TOO_MANY: u8 = 12;
    pub(super) const ABOUT_TOO_LONG: u8 = 13;
    pub(super) const TRANSFERRING: u8 = 14;
    pub(super) const OUTDATED: u8 = 15;
}

/// The bytes that a configuration takes, and whose request it is.
pub(crate) fn configuration_bytes(configuration: &Configuration) -> usize {
    let Configuration {
        voters,
        outgoing,
        learners,
        about,
    } = configuration;
    let machines = voters.len() + outgoing.len() + learners.len();
    let about: usize = about.values().map(|about| ABOUT_BYTES + about.len()).sum();
    1 + 16 + 4 * 4 + machines * MACHINE_BYTES + about
}

/// The most bytes that a change takes.
pub(crate) fn change_bytes(change: &Change) -> usize {
    let step_bytes = |step: &Step| match step {
        Step::Add(_, about) | Step::AddVoter(_, about) | Step::Update(_, about) => {
            STEP_BYTES + 4 + about.len()
        }
        Step::Promote(_) | Step::Demote(_) | Step::Remove(_) => STEP_BYTES,
    };
    let steps: usize = change.steps.iter().map(step_bytes).sum();
    1 + 8 + steps
}

pub(crate) fn put_configuration(
    out: &mut BytesMut,
    request: &Option<RequestId>,
    configuration: &Configuration,
) {
    put_bool(out, request.is_some());
    if let Some(request) = request {
        put_request_id(out, request);
    }
    put_list(out, &configuration.voters, put_machine);
    put_list(out, &configuration.outgoing, put_machine);
    put_list(out, &configuration.learners, put_machine);
    let about: Vec<(&MachineId, &Bytes)> = configuration.about.iter().collect();
    put_list(out, &about, |out, (machine, about)| {
        put_machine(out, machine);
        put_bytes(out, about);
    });
}

/// Reads a configuration. Whether it keeps its invariants the core looks at, as of all that a message says.
pub(crate) fn take_configuration(
    fields: &mut Fields,
) -> Result<(Option<RequestId>, Configuration), FrameError> {
    let request = match fields.bool("whether somebody waits for the configuration")? {
        true => Some(take_request_id(fields)?),
        false => None,
    };
    let voters = take_list(fields, "voters", MACHINE_BYTES, take_machine)?;
    let outgoing = take_list(fields, "outgoing voters", MACHINE_BYTES, take_machine)?;
    let learners = take_list(fields, "learners", MACHINE_BYTES, take_machine)?;
    let told = take_list(
        fields,
        "what is told about machines",
        ABOUT_BYTES,
        |fields| Ok((take_machine(fields)?, take_bytes(fields)?)),
    )?;
    if let Some(pair) = told.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        return Err(FrameError::Value {
            what: "a machine after the one before",
            found: pair[1].0.0,
        });
    }
    let about: BTreeMap<MachineId, Bytes> = told.into_iter().collect();
    let configuration = Configuration {
        voters,
        outgoing,
        learners,
        about,
    };
    Ok((request, configuration))
}

pub(crate) fn put_change(out: &mut BytesMut, change: &Change) {
    put_bool(out, change.force);
    put_bool(out, change.based_on.is_some());
    if let Some(index) = change.based_on {
        out.put_u64(index.0);
    }
    put_list(out, &change.steps, |out, step| {
        let (what, machine, about) = match step {
            Step::Add(machine, about) => (step::ADD, machine, Some(about)),
            Step::AddVoter(machine, about) => (step::ADD_VOTER, machine, Some(about)),
            Step::Promote(machine) => (step::PROMOTE, machine, None),
            Step::Demote(machine) => (step::DEMOTE, machine, None),
            Step::Remove(machine) => (step::REMOVE, machine, None),
            Step::Update(machine, about) => (step::UPDATE, machine, Some(about)),
        };
        out.put_u8(what);
        put_machine(out, machine);
        if let Some(about) = about {
            put_bytes(out, about);
        }
    });
}

pub(crate) fn take_change(fields: &mut Fields) -> Result<Change, FrameError> {
    Ok(Change {
        force: fields.bool("force")?,
        based_on: match fields.bool("whether it is based on an entry")? {
            true => Some(Index(fields.u64("the entry that it is based on")?)),
            false => None,
        },
        steps: take_list(fields, "steps", STEP_BYTES, take_step)?,
    })
}

fn take_step(fields: &mut Fields) -> Result<Step, FrameError> {
    let what = fields.u8("step")?;
    let machine = take_machine(fields)?;
    Ok(match what {
        step::ADD => Step::Add(machine, take_bytes(fields)?),
        step::ADD_VOTER => Step::AddVoter(machine, take_bytes(fields)?),
        step::PROMOTE => Step::Promote(machine),
        step::DEMOTE => Step::Demote(machine),
        step::REMOVE => Step::Remove(machine),
        step::UPDATE => Step::Update(machine, take_bytes(fields)?),
        found => {
            return Err(FrameError::Value {
                what: "step",
                found: found.into(),
            });
        }
    })
}

pub(crate) fn put_change_refused(out: &mut BytesMut, refused: &ChangeRefused) {
    let (number, machine) = match refused {
        ChangeRefused::NotLeader => (reason::NOT_LEADER, None),
        ChangeRefused::UnderWay => (reason::UNDER_WAY, None),
        ChangeRefused::Outdated => (reason::OUTDATED, None),
        ChangeRefused::LeaderIsNew => (reason::LEADER_IS_NEW, None),
        ChangeRefused::Transferring => (reason::TRANSFERRING, None),
        ChangeRefused::Empty => (reason::EMPTY, None),
        ChangeRefused::MachineZero => (reason::MACHINE_ZERO, None),
        ChangeRefused::NoSuchMachine(machine) => (reason::NO_SUCH_MACHINE, Some(machine)),
        ChangeRefused::AlreadyMember(machine) => (reason::ALREADY_MEMBER, Some(machine)),
        ChangeRefused::AlreadyVoter(machine) => (reason::ALREADY_VOTER, Some(machine)),
        ChangeRefused::AlreadyLearner(machine) => (reason::ALREADY_LEARNER, Some(machine)),
        ChangeRefused::NotCaughtUp { machine, .. } => (reason::NOT_CAUGHT_UP, Some(machine)),
        ChangeRefused::NoVoterLeft => (reason::NO_VOTER_LEFT, None),
        ChangeRefused::QuorumAtRisk { .. } => (reason::QUORUM_AT_RISK, None),
        ChangeRefused::TooMany => (reason::TOO_MANY, None),
        ChangeRefused::AboutTooLong(machine) => (reason::ABOUT_TOO_LONG, Some(machine)),
    };
    out.put_u8(number);
    if let Some(machine) = machine {
        put_machine(out, machine);
    }
    match refused {
        ChangeRefused::NotCaughtUp { matched, last, .. } => {
            out.put_u64(matched.0);
            out.put_u64(last.0);
        }
        ChangeRefused::QuorumAtRisk { heard, needed } => {
            out.put_u32(count(*heard));
            out.put_u32(count(*needed));
        }
        _ => {}
    }
}

pub(crate) fn take_change_refused(fields: &mut Fields) -> Result<ChangeRefused, FrameError> {
    Ok(match fields.u8("reason of the refusal")? {
        reason::NOT_LEADER => ChangeRefused::NotLeader,
        reason::UNDER_WAY => ChangeRefused::UnderWay,
        reason::OUTDATED => ChangeRefused::Outdated,
        reason::LEADER_IS_NEW => ChangeRefused::LeaderIsNew,
        reason::TRANSFERRING => ChangeRefused::Transferring,
        reason::EMPTY => ChangeRefused::Empty,
        reason::MACHINE_ZERO => ChangeRefused::MachineZero,
        reason::NO_SUCH_MACHINE => ChangeRefused::NoSuchMachine(take_machine(fields)?),
        reason::ALREADY_MEMBER => ChangeRefused::AlreadyMember(take_machine(fields)?),
        reason::ALREADY_VOTER => ChangeRefused::AlreadyVoter(take_machine(fields)?),
        reason::ALREADY_LEARNER => ChangeRefused::AlreadyLearner(take_machine(fields)?),
        reason::NOT_CAUGHT_UP => ChangeRefused::NotCaughtUp {
            machine: take_machine(fields)?,
            matched: Index(fields.u64("matched index")?),
            last: Index(fields.u64("last index")?),
        },
        reason::NO_VOTER_LEFT => ChangeRefused::NoVoterLeft,
        reason::QUORUM_AT_RISK => ChangeRefused::QuorumAtRisk {
            heard: fields.u32("voters that were heard")? as usize,
            needed: fields.u32("voters that are needed")? as usize,
        },
        reason::TOO_MANY => ChangeRefused::TooMany,
        reason::ABOUT_TOO_LONG => ChangeRefused::AboutTooLong(take_machine(fields)?),
        found => {
            return Err(FrameError::Value {
                what: "the reason of the refusal",
                found: found.into(),
            });
        }
    })
}

fn put_machine(out: &mut BytesMut, machine: &MachineId) {
    out.put_u64(machine.0);
}

fn take_machine(fields: &mut Fields) -> Result<MachineId, FrameError> {
    Ok(MachineId(fields.u64("machine")?))
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    out.put_u32(count(bytes.len()));
    out.put_slice(bytes);
}

/// Bytes behind their length, copied: they are few and are kept for long, and a slice would keep the whole frame.
fn take_bytes(fields: &mut Fields) -> Result<Bytes, FrameError> {
    let length = fields.u32("length of what is told about a machine")?;
    let bytes = fields.slice("what is told about a machine", length as usize)?;
    Ok(Bytes::copy_from_slice(&bytes))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a frame has less than 4 GiB, and a domain few machines")
}
