//! The format of frames: what is written is read again, what is damaged is refused, and the bytes do not change.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use rm_raft::{
    Body, Change, ChangeRefused, Configuration, Entry, EntryId, Index, MachineId, Message, Payload,
    Proposal, ReadId, ReadMode, Refusal, RequestId, Step, Term,
};
use rm_wire::{FrameError, decode, encode};

const HEADER_BYTES: usize = 12;

fn entry_id() -> impl Strategy<Value = EntryId> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| EntryId {
        term: Term(term),
        index: Index(index),
    })
}

fn request_id() -> impl Strategy<Value = RequestId> {
    (any::<u64>(), any::<u64>()).prop_map(|(machine, number)| RequestId {
        machine: MachineId(machine),
        number,
    })
}

fn proposal() -> impl Strategy<Value = Proposal> {
    (request_id(), vec(any::<u8>(), 0..64)).prop_map(|(request, command)| Proposal {
        request,
        command: command.into(),
    })
}

fn machine() -> impl Strategy<Value = MachineId> {
    any::<u64>().prop_map(MachineId)
}

fn about() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..32).prop_map(Bytes::from)
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let machines = || vec(machine(), 0..4);
    let about = btree_map(machine(), about(), 0..4);
    (machines(), machines(), machines(), about).prop_map(|(voters, outgoing, learners, about)| {
        Configuration {
            voters,
            outgoing,
            learners,
            about,
        }
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        proposal().prop_map(Payload::Command),
        (option::of(request_id()), configuration()).prop_map(|(request, configuration)| {
            Payload::Configuration {
                request,
                configuration: Box::new(configuration),
            }
        }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (entry_id(), payload()).prop_map(|(id, payload)| Entry { id, payload })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (machine(), about()).prop_map(|(machine, about)| Step::Add(machine, about)),
        (machine(), about()).prop_map(|(machine, about)| Step::AddVoter(machine, about)),
        machine().prop_map(Step::Promote),
        machine().prop_map(Step::Demote),
        machine().prop_map(Step::Remove),
        (machine(), about()).prop_map(|(machine, about)| Step::Update(machine, about)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let based_on = option::of(any::<u64>().prop_map(Index));
    (vec(step(), 0..5), any::<bool>(), based_on).prop_map(|(steps, force, based_on)| Change {
        steps,
        force,
        based_on,
    })
}

fn change_refused() -> impl Strategy<Value = ChangeRefused> {
    prop_oneof![
        Just(ChangeRefused::NotLeader),
        Just(ChangeRefused::UnderWay),
        Just(ChangeRefused::Outdated),
        Just(ChangeRefused::LeaderIsNew),
        Just(ChangeRefused::Transferring),
        Just(ChangeRefused::Empty),
        Just(ChangeRefused::MachineZero),
        machine().prop_map(ChangeRefused::NoSuchMachine),
        machine().prop_map(ChangeRefused::AlreadyMember),
        machine().prop_map(ChangeRefused::AlreadyVoter),
        machine().prop_map(ChangeRefused::AlreadyLearner),
        (machine(), any::<u64>(), any::<u64>()).prop_map(|(machine, matched, last)| {
            ChangeRefused::NotCaughtUp {
                machine,
                matched: Index(matched),
                last: Index(last),
            }
        }),
        Just(ChangeRefused::NoVoterLeft),
        (0..64_usize, 0..64_usize)
            .prop_map(|(heard, needed)| ChangeRefused::QuorumAtRisk { heard, needed }),
        Just(ChangeRefused::TooMany),
        machine().prop_map(ChangeRefused::AboutTooLong),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::NoLeader),
        Just(Refusal::NotLeader),
        Just(Refusal::Overloaded),
        Just(Refusal::NoSpace),
        Just(Refusal::Transferring)
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let number = any::<u64>;
    prop_oneof![
        entry_id().prop_map(|last| Body::PreVoteRequest { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteResponse { granted }),
        (entry_id(), any::<bool>()).prop_map(|(last, leader_gave_way)| Body::VoteRequest {
            last,
            leader_gave_way
        }),
        any::<bool>().prop_map(|granted| Body::VoteResponse { granted }),
        (entry_id(), vec(entry(), 0..5), number(), number()).prop_map(
            |(previous, entries, commit, round)| Body::AppendRequest {
                previous,
                entries: entries.into(),
                commit: Index(commit),
                round
            }
        ),
        (number(), number()).prop_map(|(matched, round)| Body::Appended {
            matched: Index(matched),
            round
        }),
        (number(), entry_id(), number()).prop_map(|(previous, hint, round)| {
            Body::AppendRejected {
                previous: Index(previous),
                hint,
                round,
            }
        }),
        (entry_id(), number()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        (number(), number(), any::<bool>(), number()).prop_map(|(round, last, full, loyal)| {
            Body::HeartbeatResponse {
                round,
                last: Index(last),
                full,
                loyal: Duration::from_micros(loyal),
            }
        }),
        vec(proposal(), 0..5).prop_map(|proposals| Body::Propose { proposals }),
        (vec(request_id(), 0..5), refusal())
            .prop_map(|(requests, reason)| Body::ProposeRefused { requests, reason }),
        (request_id(), change())
            .prop_map(|(request, change)| Body::ProposeChange { request, change }),
        (request_id(), change_refused())
            .prop_map(|(request, reason)| Body::ChangeRefused { request, reason }),
        entry_id().prop_map(|committed| Body::Removed { committed }),
        (number(), any::<bool>()).prop_map(|(read, lease)| Body::ReadIndexRequest {
            read: ReadId(read),
            mode: if lease {
                ReadMode::Lease
            } else {
                ReadMode::Quorum
            },
        }),
        Just(Body::CampaignNow),
        (number(), option::of(number())).prop_map(|(read, index)| Body::ReadIndexResponse {
            read: ReadId(read),
            index: index.map(Index)
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), body()).prop_map(|(term, body)| Message {
        term: Term(term),
        body,
    })
}

/// A frame with a right header and checksum around any body.
fn sealed(kind: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_slice(b"RM");
    frame.put_u8(1);
    frame.put_u8(kind);
    frame.put_u32(body.len() as u32);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), body);
    frame.put_u32(checksum);
    frame.put_slice(body);
    frame.freeze()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_again(message in message()) {
        prop_assert_eq!(decode(encode(&message)), Ok(message));
    }

    #[test]
    fn a_single_flipped_bit_is_always_noticed(message in message(), at in any::<prop::sample::Index>()) {
        let mut frame = BytesMut::from(&encode(&message)[..]);
        let bit = at.index(frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode(frame.freeze()).is_err());
    }

    #[test]
    fn a_frame_cut_short_is_always_noticed(message in message(), at in any::<prop::sample::Index>()) {
        let frame = encode(&message);
        let cut = at.index(frame.len());
        let noticed = matches!(
            decode(frame.slice(..cut)),
            Err(FrameError::Short { have, .. }) if have == cut
        );
        prop_assert!(noticed);
    }

    #[test]
    fn random_bytes_are_no_frame(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(bytes.into()).is_err());
    }

    /// Behind a right checksum the body alone decides; whatever is accepted says exactly what its bytes say.
    #[test]
    fn a_body_of_random_bytes_is_refused_or_means_just_these_bytes(
        kind in 14_u8..36,
        body in vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..120),
    ) {
        let frame = sealed(kind, &body);
        if let Ok(message) = decode(frame.clone()) {
            prop_assert_eq!(encode(&message), frame);
        }
    }
}

#[test]
fn a_command_is_a_slice_of_what_was_received() {
    let message = Message {
        term: Term(1),
        body: Body::Propose {
            proposals: vec![Proposal {
                request: RequestId::default(),
                command: Bytes::from_static(b"a command"),
            }],
        },
    };
    let frame = encode(&message);
    let place = frame.as_ptr_range();
    let Ok(Message {
        body: Body::Propose { proposals },
        ..
    }) = decode(frame)
    else {
        panic!("a proposal comes out of a proposal");
    };
    assert!(place.contains(&proposals[0].command.as_ptr()));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut frame = BytesMut::from(&sealed(18, &[])[..]);
    frame[2] = 2;
    let error = decode(frame.freeze()).expect_err("version 2 is not known");
    assert_eq!(error, FrameError::NewerVersion { found: 2 });
    assert!(
        error.to_string().contains("upgrade this machine"),
        "{error}"
    );
}

#[test]
fn a_list_that_claims_more_than_the_frame_holds_is_refused_before_anything_is_allocated() {
    let mut body = BytesMut::new();
    body.put_u64(1); // term
    body.put_u32(u32::MAX); // proposals
    let error = decode(sealed(25, &body)).expect_err("there are no proposals");
    assert_eq!(
        error,
        FrameError::Short {
            what: "proposals",
            have: 0,
            need: u32::MAX as usize * 20
        }
    );
}

#[test]
fn bytes_after_the_last_field_are_refused() {
    let mut frame = BytesMut::from(&sealed(27, &[0; 16])[..]);
    assert!(decode(frame.clone().freeze()).is_ok());
    frame.put_u8(0);
    assert_eq!(
        decode(frame.freeze()),
        Err(FrameError::Trailing { extra: 1 })
    );
    assert_eq!(
        decode(sealed(27, &[0; 17])),
        Err(FrameError::Trailing { extra: 1 })
    );
}

/// One message of each kind, with its frame in hexadecimal. These bytes are what machines of other versions send: a
/// change here needs a new version of the frames.
#[test]
fn the_bytes_of_each_kind_stay_as_they_are() {
    let id = |term, index| EntryId {
        term: Term(term),
        index: Index(index),
    };
    let request = RequestId {
        machine: MachineId(3),
        number: 9,
    };
    let proposal = Proposal {
        request,
        command: Bytes::from_static(b"put"),
    };
    let golden = include_str!("frames.golden");
    let bodies = vec![
        Body::PreVoteRequest { last: id(1, 2) },
        Body::PreVoteResponse { granted: true },
        Body::VoteRequest {
            last: id(1, 2),
            leader_gave_way: true,
        },
        Body::VoteResponse { granted: false },
        Body::AppendRequest {
            previous: id(1, 2),
            entries: vec![
                Entry {
                    id: id(7, 3),
                    payload: Payload::Empty,
                },
                Entry {
                    id: id(7, 4),
                    payload: Payload::Command(proposal.clone()),
                },
                Entry {
                    id: id(7, 5),
                    payload: Payload::Configuration {
                        request: Some(request),
                        configuration: Box::new(Configuration {
                            voters: vec![MachineId(1), MachineId(4)],
                            outgoing: vec![MachineId(1)],
                            learners: vec![MachineId(5)],
                            about: [(MachineId(4), Bytes::from_static(b"four"))].into(),
                        }),
                    },
                },
            ]
            .into(),
            commit: Index(2),
            round: 5,
        },
        Body::Appended {
            matched: Index(4),
            round: 5,
        },
        Body::AppendRejected {
            previous: Index(4),
            hint: id(1, 2),
            round: 5,
        },
        Body::Heartbeat {
            commit: id(1, 2),
            round: 5,
        },
        Body::HeartbeatResponse {
            round: 5,
            last: Index(4),
            full: true,
            loyal: Duration::from_millis(1_000),
        },
        Body::Propose {
            proposals: vec![proposal],
        },
        Body::ProposeRefused {
            requests: vec![request],
            reason: Refusal::Overloaded,
        },
        Body::ReadIndexRequest {
            read: ReadId(6),
            mode: ReadMode::Quorum,
        },
        Body::ReadIndexResponse {
            read: ReadId(6),
            index: Some(Index(4)),
        },
        Body::ProposeChange {
            request,
            change: Change {
                steps: vec![
                    Step::Add(MachineId(4), Bytes::from_static(b"four")),
                    Step::AddVoter(MachineId(5), Bytes::new()),
                    Step::Promote(MachineId(4)),
                    Step::Demote(MachineId(2)),
                    Step::Remove(MachineId(1)),
                    Step::Update(MachineId(3), Bytes::from_static(b"three")),
                ],
                force: true,
                based_on: Some(Index(4)),
            },
        },
        Body::ChangeRefused {
            request,
            reason: ChangeRefused::NotCaughtUp {
                machine: MachineId(4),
                matched: Index(1),
                last: Index(2),
            },
        },
        Body::Removed {
            committed: id(1, 2),
        },
        Body::CampaignNow,
        Body::ReadIndexRequest {
            read: ReadId(6),
            mode: ReadMode::Lease,
        },
    ];
    let mut written = String::new();
    for body in bodies {
        let name = format!("{body:?}");
        let name = name.split(' ').next().unwrap_or_default();
        let frame = encode(&Message {
            term: Term(7),
            body,
        });
        let (header, body) = frame.split_at(HEADER_BYTES);
        written += &format!("{name} {} {}\n", hex(header), hex(body));
    }
    assert_eq!(written, golden, "the format of frames has changed");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
