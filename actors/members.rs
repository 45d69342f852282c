//! The members of the domain as this machine knows them: what the configuration in force tells of each, and whom a machine
//! sends to and hears.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rm_raft::{Configuration, Configured, Index, MachineId};
use rm_wire::DataId;
use serde::{Deserialize, Serialize};

use crate::report::{Member, Standing};

/// The first byte of what is told about a machine; a later one will say that more follows.
const ABOUT_VERSION: u8 = 1;

/// How many machines that left are still heard and sent to, so that they learn of it when they come back.
const DEPARTED_MAX: usize = 16;

/// What the log tells of a machine beside its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    /// Where peers reach it, `host:port`.
    pub(crate) peer: String,
    /// Where clients reach it, `host:port`.
    pub(crate) client: String,
    /// The data that it lives on, once it was found there.
    pub(crate) data_id: Option<[u8; 16]>,
}

impl About {
    pub(crate) fn of(member: &Member) -> About {
        About {
            name: member.name.clone(),
            peer: member.peer.clone(),
            client: member.client.clone(),
            data_id: member.data_id.map(|id| id.0),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = vec![ABOUT_VERSION];
        let rest = postcard::to_stdvec(self).expect("texts and bytes can be written to memory");
        bytes.extend(rest);
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<About> {
        let (&version, rest) = bytes.split_first()?;
        if version != ABOUT_VERSION {
            return None;
        }
        postcard::from_bytes(rest).ok()
    }
}

/// The configuration of a domain that begins with these machines, all of them voters.
pub(crate) fn begun_with(members: &[Member]) -> Configuration {
    let mut configuration = Configuration::of_voters(members.iter().map(|each| each.machine));
    let about = members.iter();
    configuration.about = about
        .map(|each| (each.machine, About::of(each).encode()))
        .collect();
    configuration
}

/// The members that a configuration lists, by their names. Of a machine about which it tells nothing, as in a log of an
/// earlier version, `known` does.
pub(crate) fn listed(configuration: &Configuration, known: &[Member]) -> Vec<Member> {
    let member = |machine: MachineId| {
        let about = configuration.about.get(&machine);
        let standing = if configuration.voters.contains(&machine) {
            Standing::Voter
        } else if configuration.learners.contains(&machine) {
            Standing::Learner
        } else {
            Standing::Leaving
        };
        match about.and_then(|about| About::decode(about)) {
            Some(about) => Member {
                machine,
                name: about.name,
                peer: about.peer,
                client: about.client,
                standing,
                data_id: about.data_id.map(DataId),
            },
            None => match known.iter().find(|each| each.machine == machine) {
                Some(known) => Member {
                    standing,
                    ..known.clone()
                },
                None => Member {
                    machine,
                    name: machine.to_string(),
                    peer: String::new(),
                    client: String::new(),
                    standing,
                    data_id: None,
                },
            },
        }
    };
    let mut members: Vec<Member> = configuration.members().into_iter().map(member).collect();
    members.sort_by(|one, two| (&one.name, one.machine).cmp(&(&two.name, two.machine)));
    members
}

/// The members, those who left of late, and strangers that are connected.
pub(crate) struct Members {
    present: ArcSwap<Vec<Member>>,
    committed: ArcSwap<Listed>,
    departed: Mutex<VecDeque<Member>>,
    strangers: Mutex<Vec<Peer>>,
}

/// The members that a configuration lists, and the entry that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// None before the core told any.
    pub(crate) index: Option<Index>,
    pub(crate) members: Arc<Vec<Member>>,
}

/// Whom this machine sends to and hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) machine: MachineId,
    pub(crate) name: String,
    /// Where it listens, `host:port`.
    pub(crate) address: String,
    /// The data that it lives on, once the log tells.
    pub(crate) data_id: Option<DataId>,
    /// Whether only its own word tells of it: the log does not list it, or not yet.
    pub(crate) stranger: bool,
}

impl From<&Member> for Peer {
    fn from(member: &Member) -> Peer {
        Peer {
            machine: member.machine,
            name: member.name.clone(),
            address: member.peer.clone(),
            data_id: member.data_id,
            stranger: false,
        }
    }
}

impl Members {
    pub(crate) fn new(members: Vec<Member>) -> Members {
        let committed = Listed {
            index: None,
            members: Arc::new(members.clone()),
        };
        Members {
            present: ArcSwap::from_pointee(members),
            committed: ArcSwap::from_pointee(committed),
            departed: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    /// Those of the configuration in force.
    pub(crate) fn present(&self) -> Arc<Vec<Member>> {
        self.present.load_full()
    }

    /// Those of the latest configuration that is committed: whoever it lists stays so until another is.
    pub(crate) fn committed(&self) -> Arc<Listed> {
        self.committed.load_full()
    }

    /// Another configuration is committed.
    pub(crate) fn set_committed(&self, configured: &Configured) {
        self.committed.store(Arc::new(Listed {
            index: Some(configured.index),
            members: Arc::new(listed(&configured.configuration, &self.present())),
        }));
    }

    /// Another configuration is in force.
    pub(crate) fn set(&self, configuration: &Configuration) {
        let before = self.present();
        let members = listed(configuration, &before);
        let is_member = |machine| members.iter().any(|each| each.machine == machine);
        let mut departed = lock(&self.departed);
        departed.retain(|each| !is_member(each.machine));
        for gone in before.iter().filter(|each| !is_member(each.machine)) {
            if departed.len() == DEPARTED_MAX {
                departed.pop_front();
            }
            departed.push_back(gone.clone());
        }
        self.present.store(Arc::new(members));
    }

    /// Those whom this machine sends to and hears: all members, those who left unless another machine is at their address, and
    /// strangers that are connected, so that they can be answered. The name of one who left may have gone to another: it has yet
    /// to learn that it left.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let present = self.present();
        let mut peers: Vec<Peer> = present.iter().map(Peer::from).collect();
        for gone in lock(&self.departed).iter() {
            if present.iter().all(|each| each.peer != gone.peer) {
                peers.push(gone.into());
            }
        }
        for stranger in lock(&self.strangers).iter() {
            if peers.iter().all(|each| each.machine != stranger.machine) {
                peers.push(stranger.clone());
            }
        }
        peers
    }

    /// A stranger is connected, or another one has its number.
    pub(crate) fn meet(&self, stranger: &rm_wire::Identity) {
        let mut strangers = lock(&self.strangers);
        strangers.retain(|each| each.machine != stranger.id);
        strangers.push(Peer {
            machine: stranger.id,
            name: stranger.name.clone(),
            address: stranger.address.clone(),
            data_id: None,
            stranger: true,
        });
    }

    /// A machine is connected no more, or none is any more; false if none of them was a stranger.
    pub(crate) fn lose_sight(&self, machine: Option<MachineId>) -> bool {
        let mut strangers = lock(&self.strangers);
        let before = strangers.len();
        strangers.retain(|each| machine.is_some_and(|machine| each.machine != machine));
        strangers.len() < before
    }

    /// The name of a machine, for the logs.
    pub(crate) fn name_of(&self, machine: MachineId) -> String {
        let peers = self.peers();
        let peer = peers.iter().find(|each| each.machine == machine);
        peer.map_or_else(|| machine.to_string(), |peer| peer.name.clone())
    }
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics half-way through a change of it.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u64) -> Member {
        Member {
            machine: MachineId(number),
            name: format!("RM.{number:02}"),
            peer: format!("127.0.0.1:{number}"),
            client: format!("127.0.0.2:{number}"),
            standing: Standing::Voter,
            data_id: (number == 1).then_some(DataId([7; 16])),
        }
    }

    #[test]
    fn what_is_told_about_a_machine_is_read_as_it_was_written_and_nothing_else_is() {
        for number in [1, 2] {
            let about = About::of(&member(number));
            assert_eq!(About::decode(&about.encode()), Some(about));
        }
        assert_eq!(About::decode(b""), None);
        assert_eq!(About::decode(&[2, 0, 0, 0, 0]), None);
        assert_eq!(About::decode(&[ABOUT_VERSION, 200]), None);
    }

    #[test]
    fn a_configuration_tells_all_of_its_members() {
        let all = [member(1), member(2)];
        assert_eq!(listed(&begun_with(&all), &[]), all);
        let bare = Configuration::of_voters([MachineId(1), MachineId(2)]);
        assert_eq!(listed(&bare, &all), all, "what is known stands in");
    }

    fn peers(of: &[Member]) -> Vec<Peer> {
        of.iter().map(Peer::from).collect()
    }

    #[test]
    fn who_left_is_a_peer_until_another_is_at_its_address() {
        let members = Members::new(vec![member(1), member(2)]);
        members.set(&begun_with(&[member(1)]));
        assert_eq!(members.peers(), peers(&[member(1), member(2)]));
        let mut heir = member(3);
        heir.name = member(2).name;
        members.set(&begun_with(&[member(1), heir.clone()]));
        let all = [member(1), heir.clone(), member(2)];
        assert_eq!(members.peers(), peers(&all), "the name alone is no place");
        heir.peer = member(2).peer;
        members.set(&begun_with(&[member(1), heir.clone()]));
        assert_eq!(members.peers(), peers(&[member(1), heir]));
    }

    #[test]
    fn a_stranger_is_a_peer_while_it_is_connected_and_until_it_is_listed() {
        let members = Members::new(vec![member(1)]);
        let stranger = rm_wire::Identity {
            domain: "csy.com".into(),
            era: 0,
            name: member(2).name,
            id: MachineId(2),
            address: member(2).peer,
            incarnation: 1,
            data_id: DataId([2; 16]),
        };
        members.meet(&stranger);
        members.meet(&stranger);
        let met = Peer {
            stranger: true,
            ..Peer::from(&member(2))
        };
        assert_eq!(members.peers(), [peers(&[member(1)]), vec![met]].concat());
        members.set(&begun_with(&[member(1), member(2)]));
        assert_eq!(members.peers(), peers(&[member(1), member(2)]));
        assert!(members.lose_sight(Some(MachineId(2))));
        assert!(!members.lose_sight(None), "no stranger is left");
    }
}
