//! The members of the domain as this machine knows them: what the configuration in force tells of each, and whom a machine
//! sends to and hears.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rm_raft::{Configuration, MachineId};
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

/// The members, and those who left of late.
pub(crate) struct Members {
    present: ArcSwap<Vec<Member>>,
    departed: Mutex<VecDeque<Member>>,
}

impl Members {
    pub(crate) fn new(members: Vec<Member>) -> Members {
        Members {
            present: ArcSwap::from_pointee(members),
            departed: Mutex::default(),
        }
    }

    /// Those of the configuration in force.
    pub(crate) fn present(&self) -> Arc<Vec<Member>> {
        self.present.load_full()
    }

    /// Another configuration is in force.
    pub(crate) fn set(&self, configuration: &Configuration) {
        let before = self.present();
        let members = listed(configuration, &before);
        let is_member = |machine| members.iter().any(|each| each.machine == machine);
        let mut departed = self.departed();
        departed.retain(|each| !is_member(each.machine));
        for gone in before.iter().filter(|each| !is_member(each.machine)) {
            if departed.len() == DEPARTED_MAX {
                departed.pop_front();
            }
            departed.push_back(gone.clone());
        }
        self.present.store(Arc::new(members));
    }

    /// Those whom this machine sends to and hears: all members, and those who left unless another machine took their place.
    pub(crate) fn peers(&self) -> Vec<Member> {
        let mut peers = self.present().to_vec();
        let present = peers.len();
        for gone in self.departed().iter() {
            let taken = |each: &Member| each.peer == gone.peer || each.name == gone.name;
            if !peers[..present].iter().any(taken) {
                peers.push(gone.clone());
            }
        }
        peers
    }

    /// The name of a machine, for the logs.
    pub(crate) fn name_of(&self, machine: MachineId) -> String {
        let peers = self.peers();
        let member = peers.iter().find(|each| each.machine == machine);
        member.map_or_else(|| machine.to_string(), |member| member.name.clone())
    }

    fn departed(&self) -> std::sync::MutexGuard<'_, VecDeque<Member>> {
        // Nothing panics half-way through a change of it.
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    #[test]
    fn who_left_is_a_peer_until_another_takes_its_place() {
        let members = Members::new(vec![member(1), member(2)]);
        members.set(&begun_with(&[member(1)]));
        assert_eq!(members.peers(), [member(1), member(2)]);
        let mut heir = member(3);
        heir.peer = member(2).peer;
        members.set(&begun_with(&[member(1), heir.clone()]));
        assert_eq!(members.peers(), [member(1), heir]);
    }
}
