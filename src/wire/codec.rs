//! Raft messages as frames, and back. Decoding copies nothing: commands are slices of the bytes that came.
//!
//! The body of every message starts with the sender's term; the fields follow in the order of [`Body`]'s. The
//! numbers below are the format: they never change their meaning, and a number once used is never used again.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rm_raft::{
    Body, Entry, EntryId, Index, MachineId, Message, Payload, Proposal, ReadId, ReadMode, Refusal,
    RequestId, Term,
};

use crate::frame::{self, Fields, FrameError};
use crate::members;

/// What a frame's body is.
mod kind {
    pub(super) const PRE_VOTE_REQUEST: u8 = 16;
    pub(super) const PRE_VOTE_RESPONSE: u8 = 17;
    pub(super) const VOTE_REQUEST: u8 = 18;
    pub(super) const VOTE_RESPONSE: u8 = 19;
    pub(super) const APPEND_REQUEST: u8 = 20;
    pub(super) const APPENDED: u8 = 21;
    pub(super) const APPEND_REJECTED: u8 = 22;
    pub(super) const HEARTBEAT: u8 = 23;
    // 24 was a heartbeat response that did not tell of space.
    pub(super) const PROPOSE: u8 = 25;
    pub(super) const PROPOSE_REFUSED: u8 = 26;
    pub(super) const READ_INDEX_REQUEST: u8 = 27;
    pub(super) const READ_INDEX_RESPONSE: u8 = 28;
    // 29 was one that did not tell of loyalty.
    // 30 was a proposed change that did not tell what it was based on.
    pub(super) const CHANGE_REFUSED: u8 = 31;
    pub(super) const CAMPAIGN_NOW: u8 = 32;
    /// A read index request whose read is content with a lease.
    pub(super) const READ_INDEX_BY_LEASE_REQUEST: u8 = 33;
    pub(super) const REMOVED: u8 = 34;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 35;
    pub(super) const PROPOSE_CHANGE: u8 = 36;
}

const TERM_BYTES: usize = 8;
const ENTRY_ID_BYTES: usize = 16;
const REQUEST_ID_BYTES: usize = 16;
/// A proposal without its command: the request and the command's length.
const PROPOSAL_BYTES: usize = REQUEST_ID_BYTES + 4;
/// An entry without its payload: its id and what its payload is.
const ENTRY_BYTES: usize = ENTRY_ID_BYTES + 1;

const PAYLOAD_EMPTY: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_CONFIGURATION: u8 = 2;

const REFUSAL_NO_LEADER: u8 = 0;
const REFUSAL_NOT_LEADER: u8 = 1;
const REFUSAL_OVERLOADED: u8 = 2;
const REFUSAL_NO_SPACE: u8 = 3;
const REFUSAL_TRANSFERRING: u8 = 4;

/// The message as one frame.
///
/// # Panics
/// On a message of 4 GiB or more, which the limits of the Raft core exclude.
pub fn encode(message: &Message) -> Bytes {
    let mut frame = frame::begin(kind_of(&message.body), body_bytes(&message.body));
    frame.put_u64(message.term.0);
    put_body(&mut frame, &message.body);
    frame::seal(frame)
}

/// The message in a frame; `frame` holds exactly that frame.
///
/// # Errors
/// When the bytes are anything else; the error says what is wrong with them.
pub fn decode(frame: Bytes) -> Result<Message, FrameError> {
    let frame = frame::open(frame)?;
    let mut fields = Fields::of(frame.body);
    let term = Term(fields.u64("term")?);
    let body = take_body(frame.kind, &mut fields)?;
    fields.end()?;
    Ok(Message { term, body })
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::PreVoteRequest { .. } => kind::PRE_VOTE_REQUEST,
        Body::PreVoteResponse { .. } => kind::PRE_VOTE_RESPONSE,
        Body::VoteRequest { .. } => kind::VOTE_REQUEST,
        Body::VoteResponse { .. } => kind::VOTE_RESPONSE,
        Body::AppendRequest { .. } => kind::APPEND_REQUEST,
        Body::Appended { .. } => kind::APPENDED,
        Body::AppendRejected { .. } => kind::APPEND_REJECTED,
        Body::Heartbeat { .. } => kind::HEARTBEAT,
        Body::HeartbeatResponse { .. } => kind::HEARTBEAT_RESPONSE,
        Body::Propose { .. } => kind::PROPOSE,
        Body::ProposeRefused { .. } => kind::PROPOSE_REFUSED,
        Body::ReadIndexRequest { mode, .. } => match mode {
            ReadMode::Quorum => kind::READ_INDEX_REQUEST,
            ReadMode::Lease => kind::READ_INDEX_BY_LEASE_REQUEST,
        },
        Body::ReadIndexResponse { .. } => kind::READ_INDEX_RESPONSE,
        Body::ProposeChange { .. } => kind::PROPOSE_CHANGE,
        Body::ChangeRefused { .. } => kind::CHANGE_REFUSED,
        Body::Removed { .. } => kind::REMOVED,
        Body::CampaignNow => kind::CAMPAIGN_NOW,
    }
}

/// About how many bytes the body takes, never less: one allocation serves the frame.
fn body_bytes(body: &Body) -> usize {
    const FIXED_FIELDS: usize = 48;
    let lists = match body {
        Body::AppendRequest { entries, .. } => entries.iter().map(entry_bytes).sum(),
        Body::Propose { proposals } => proposals.iter().map(proposal_bytes).sum(),
        Body::ProposeRefused { requests, .. } => requests.len() * REQUEST_ID_BYTES,
        Body::ProposeChange { change, .. } => members::change_bytes(change),
        _ => 0,
    };
    TERM_BYTES + FIXED_FIELDS + lists
}

fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES
        + match &entry.payload {
            Payload::Empty => 0,
            Payload::Command(proposal) => proposal_bytes(proposal),
            Payload::Configuration { configuration, .. } => {
                members::configuration_bytes(configuration)
            }
        }
}

fn proposal_bytes(proposal: &Proposal) -> usize {
    PROPOSAL_BYTES + proposal.command.len()
}

fn put_body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::PreVoteRequest { last } => put_entry_id(out, *last),
        Body::PreVoteResponse { granted } | Body::VoteResponse { granted } => {
            put_bool(out, *granted)
        }
        Body::VoteRequest {
            last,
            leader_gave_way,
        } => {
            put_entry_id(out, *last);
            put_bool(out, *leader_gave_way);
        }
        Body::AppendRequest {
            previous,
            entries,
            commit,
            round,
        } => {
            put_entry_id(out, *previous);
            put_list(out, entries, put_entry);
            out.put_u64(commit.0);
            out.put_u64(*round);
        }
        Body::Appended { matched, round } => {
            out.put_u64(matched.0);
            out.put_u64(*round);
        }
        Body::AppendRejected {
            previous,
            hint,
            round,
        } => {
            out.put_u64(previous.0);
            put_entry_id(out, *hint);
            out.put_u64(*round);
        }
        Body::Heartbeat { commit, round } => {
            put_entry_id(out, *commit);
            out.put_u64(*round);
        }
        Body::HeartbeatResponse {
            round,
            last,
            full,
            loyal,
        } => {
            out.put_u64(*round);
            out.put_u64(last.0);
            put_bool(out, *full);
            out.put_u64(u64::try_from(loyal.as_micros()).unwrap_or(u64::MAX));
        }
        Body::Propose { proposals } => put_list(out, proposals, put_proposal),
        Body::ProposeRefused { requests, reason } => {
            put_list(out, requests, put_request_id);
            out.put_u8(refusal_number(*reason));
        }
        Body::ProposeChange { request, change } => {
            put_request_id(out, request);
            members::put_change(out, change);
        }
        Body::ChangeRefused { request, reason } => {
            put_request_id(out, request);
            members::put_change_refused(out, reason);
        }
        Body::Removed { committed } => put_entry_id(out, *committed),
        Body::ReadIndexRequest { read, mode: _ } => out.put_u64(read.0),
        Body::CampaignNow => {}
        Body::ReadIndexResponse { read, index } => {
            out.put_u64(read.0);
            put_bool(out, index.is_some());
            out.put_u64(index.unwrap_or_default().0);
        }
    }
}

fn take_body(kind: u8, fields: &mut Fields) -> Result<Body, FrameError> {
    Ok(match kind {
        kind::PRE_VOTE_REQUEST => Body::PreVoteRequest {
            last: take_entry_id(fields, "last entry")?,
        },
        kind::PRE_VOTE_RESPONSE => Body::PreVoteResponse {
            granted: fields.bool("granted")?,
        },
        kind::VOTE_REQUEST => Body::VoteRequest {
            last: take_entry_id(fields, "last entry")?,
            leader_gave_way: fields.bool("leader gave way")?,
        },
        kind::VOTE_RESPONSE => Body::VoteResponse {
            granted: fields.bool("granted")?,
        },
        kind::APPEND_REQUEST => Body::AppendRequest {
            previous: take_entry_id(fields, "previous entry")?,
            entries: take_list(fields, "entries", ENTRY_BYTES, take_entry)?.into(),
            commit: Index(fields.u64("commit index")?),
            round: fields.u64("round")?,
        },
        kind::APPENDED => Body::Appended {
            matched: Index(fields.u64("matched index")?),
            round: fields.u64("round")?,
        },
        kind::APPEND_REJECTED => Body::AppendRejected {
            previous: Index(fields.u64("previous index")?),
            hint: take_entry_id(fields, "hint")?,
            round: fields.u64("round")?,
        },
        kind::HEARTBEAT => Body::Heartbeat {
            commit: take_entry_id(fields, "committed entry")?,
            round: fields.u64("round")?,
        },
        kind::HEARTBEAT_RESPONSE => Body::HeartbeatResponse {
            round: fields.u64("round")?,
            last: Index(fields.u64("last index")?),
            full: fields.bool("full")?,
            loyal: Duration::from_micros(fields.u64("loyalty")?),
        },
        kind::PROPOSE => Body::Propose {
            proposals: take_list(fields, "proposals", PROPOSAL_BYTES, take_proposal)?,
        },
        kind::PROPOSE_REFUSED => Body::ProposeRefused {
            requests: take_list(fields, "requests", REQUEST_ID_BYTES, take_request_id)?,
            reason: take_refusal(fields)?,
        },
        kind::READ_INDEX_REQUEST => Body::ReadIndexRequest {
            read: ReadId(fields.u64("read id")?),
            mode: ReadMode::Quorum,
        },
        kind::READ_INDEX_BY_LEASE_REQUEST => Body::ReadIndexRequest {
            read: ReadId(fields.u64("read id")?),
            mode: ReadMode::Lease,
        },
        kind::READ_INDEX_RESPONSE => Body::ReadIndexResponse {
            read: ReadId(fields.u64("read id")?),
            index: take_optional_index(fields)?,
        },
        kind::PROPOSE_CHANGE => Body::ProposeChange {
            request: take_request_id(fields)?,
            change: members::take_change(fields)?,
        },
        kind::CHANGE_REFUSED => Body::ChangeRefused {
            request: take_request_id(fields)?,
            reason: members::take_change_refused(fields)?,
        },
        kind::REMOVED => Body::Removed {
            committed: take_entry_id(fields, "committed entry")?,
        },
        kind::CAMPAIGN_NOW => Body::CampaignNow,
        found => return Err(FrameError::Kind { found }),
    })
}

pub(crate) fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(value.into());
}

pub(crate) fn put_list<T>(out: &mut BytesMut, items: &[T], put: impl Fn(&mut BytesMut, &T)) {
    let count = u32::try_from(items.len()).expect("a frame has less than 4 GiB");
    out.put_u32(count);
    for item in items {
        put(out, item);
    }
}

pub(crate) fn take_list<T>(
    fields: &mut Fields,
    what: &'static str,
    item_bytes: usize,
    take: impl Fn(&mut Fields) -> Result<T, FrameError>,
) -> Result<Vec<T>, FrameError> {
    let count = fields.count(what, item_bytes)?;
    (0..count).map(|_| take(fields)).collect()
}

fn put_entry_id(out: &mut BytesMut, id: EntryId) {
    out.put_u64(id.term.0);
    out.put_u64(id.index.0);
}

fn take_entry_id(fields: &mut Fields, what: &'static str) -> Result<EntryId, FrameError> {
    Ok(EntryId {
        term: Term(fields.u64(what)?),
        index: Index(fields.u64(what)?),
    })
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put_entry_id(out, entry.id);
    match &entry.payload {
        Payload::Empty => out.put_u8(PAYLOAD_EMPTY),
        Payload::Command(proposal) => {
            out.put_u8(PAYLOAD_COMMAND);
            put_proposal(out, proposal);
        }
        Payload::Configuration {
            request,
            configuration,
        } => {
            out.put_u8(PAYLOAD_CONFIGURATION);
            members::put_configuration(out, request, configuration);
        }
    }
}

fn take_entry(fields: &mut Fields) -> Result<Entry, FrameError> {
    let id = take_entry_id(fields, "entry")?;
    let payload = match fields.u8("payload")? {
        PAYLOAD_EMPTY => Payload::Empty,
        PAYLOAD_COMMAND => Payload::Command(take_proposal(fields)?),
        PAYLOAD_CONFIGURATION => {
            let (request, configuration) = members::take_configuration(fields)?;
            Payload::Configuration {
                request,
                configuration: Box::new(configuration),
            }
        }
        found => {
            return Err(FrameError::Value {
                what: "payload",
                found: found.into(),
            });
        }
    };
    Ok(Entry { id, payload })
}

fn put_proposal(out: &mut BytesMut, proposal: &Proposal) {
    put_request_id(out, &proposal.request);
    let length = u32::try_from(proposal.command.len()).expect("a frame has less than 4 GiB");
    out.put_u32(length);
    out.put_slice(&proposal.command);
}

fn take_proposal(fields: &mut Fields) -> Result<Proposal, FrameError> {
    let request = take_request_id(fields)?;
    let length = fields.u32("length of the command")?;
    Ok(Proposal {
        request,
        command: fields.slice("command", length as usize)?,
    })
}

pub(crate) fn put_request_id(out: &mut BytesMut, request: &RequestId) {
    out.put_u64(request.machine.0);
    out.put_u64(request.number);
}

pub(crate) fn take_request_id(fields: &mut Fields) -> Result<RequestId, FrameError> {
    Ok(RequestId {
        machine: MachineId(fields.u64("machine of the request")?),
        number: fields.u64("number of the request")?,
    })
}

fn take_optional_index(fields: &mut Fields) -> Result<Option<Index>, FrameError> {
    let known = fields.bool("whether the index is known")?;
    let index = fields.u64("index")?;
    match (known, index) {
        (true, index) => Ok(Some(Index(index))),
        (false, 0) => Ok(None),
        (false, found) => Err(FrameError::Value {
            what: "an index that is not known",
            found,
        }),
    }
}

fn refusal_number(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::NoLeader => REFUSAL_NO_LEADER,
        Refusal::NotLeader => REFUSAL_NOT_LEADER,
        Refusal::Overloaded => REFUSAL_OVERLOADED,
        Refusal::NoSpace => REFUSAL_NO_SPACE,
        Refusal::Transferring => REFUSAL_TRANSFERRING,
    }
}

fn take_refusal(fields: &mut Fields) -> Result<Refusal, FrameError> {
    match fields.u8("reason of the refusal")? {
        REFUSAL_NO_LEADER => Ok(Refusal::NoLeader),
        REFUSAL_NOT_LEADER => Ok(Refusal::NotLeader),
        REFUSAL_OVERLOADED => Ok(Refusal::Overloaded),
        REFUSAL_NO_SPACE => Ok(Refusal::NoSpace),
        REFUSAL_TRANSFERRING => Ok(Refusal::Transferring),
        found => Err(FrameError::Value {
            what: "the reason of the refusal",
            found: found.into(),
        }),
    }
}
