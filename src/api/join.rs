//! How a machine with an empty folder learns by which number it was admitted: it asks the members.

use std::time::Duration;

use rm_actors::port::{Era, MachineId};
use rm_actors::{Admission, Neighbour};
use rm_proto::raftmachine::v1::admin_client::AdminClient;
use rm_proto::raftmachine::v1::{MembersRequest, MembersResponse};

use crate::certificates::Certificates;

/// The standing of a machine that another one takes the place of, until that is complete.
const LEAVING: &str = "leaving";

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a machine cannot join, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It was not admitted so far.
    #[error("{0} is no member yet: run `rmctl member add {0} --peer HOST:PORT --client HOST:PORT`")]
    NotAdmitted(String),
    /// Nobody answers.
    #[error("no member answers: {0}")]
    NoAnswer(String),
    /// The members are those of another domain.
    #[error(
        "the machines of the config belong to the domain {theirs:?}, and this one to {ours:?}: correct domain or machines in the config"
    )]
    Domain {
        /// Theirs.
        theirs: String,
        /// This machine's.
        ours: String,
    },
    /// It had data under that number, and has forgotten it.
    #[error(
        "{0} has lived on other data, and is not the same machine without it: run `rmctl member replace {0} {0} --peer HOST:PORT \
         --client HOST:PORT`, and start it again with --join"
    )]
    DataLost(String),
}

impl JoinError {
    /// Whether it may come to be otherwise while this machine waits.
    pub fn may_pass(&self) -> bool {
        matches!(self, JoinError::NotAdmitted(_) | JoinError::NoAnswer(_))
    }
}

/// Asks the members at these client addresses, one after the other, by which number this machine was admitted.
///
/// A member answers as of a moment after the question, so that an earlier admission under the same name is not taken for
/// this one.
///
/// # Errors
/// [`JoinError`] says why there is none.
pub async fn find_admission(
    domain: &str,
    name: &str,
    members: &[String],
    certificates: &Certificates,
) -> Result<Admission, JoinError> {
    let mut failures = Vec::new();
    for address in members {
        match ask(address, certificates).await {
            Ok(answer) => return admission(domain, name, answer),
            Err(reason) => failures.push(format!("{address}: {reason}")),
        }
    }
    Err(JoinError::NoAnswer(failures.join("; ")))
}

pub(crate) async fn ask(
    address: &str,
    certificates: &Certificates,
) -> Result<MembersResponse, String> {
    let channel = certificates.connect(address, PATIENCE).await?;
    let answer = AdminClient::new(channel).members(MembersRequest {}).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.message().to_owned())
}

fn admission(domain: &str, name: &str, answer: MembersResponse) -> Result<Admission, JoinError> {
    if answer.domain != domain {
        return Err(JoinError::Domain {
            theirs: answer.domain,
            ours: domain.to_owned(),
        });
    }
    // While a machine is replaced by one of its name both are listed, and the one that leaves is not to come back.
    let mut machines = answer.machines.iter();
    let own = machines.find(|machine| machine.name == name && machine.standing != LEAVING);
    let own = own.ok_or_else(|| JoinError::NotAdmitted(name.to_owned()))?;
    if !own.data_id.is_empty() {
        return Err(JoinError::DataLost(name.to_owned()));
    }
    let machine = MachineId(own.id);
    let members = answer.machines.into_iter().map(|machine| Neighbour {
        id: machine.id,
        name: machine.name,
        peer: machine.peer,
        client: machine.client,
    });
    Ok(Admission {
        machine,
        members: members.collect(),
        era: Era(answer.era),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rm_proto::raftmachine::v1::Machine;

    fn answer(has_data: bool) -> MembersResponse {
        MembersResponse {
            domain: "example.com".to_owned(),
            era: 9,
            applied_index: 0,
            machines: vec![Machine {
                id: 7,
                name: "RM.04".to_owned(),
                data_id: vec![1; if has_data { 16 } else { 0 }].into(),
                ..Machine::default()
            }],
        }
    }

    #[test]
    fn a_machine_takes_the_number_by_which_it_was_admitted_and_the_era_of_the_domain() {
        let admitted = admission("example.com", "RM.04", answer(false)).expect("it was");
        assert_eq!((admitted.machine, admitted.era), (MachineId(7), Era(9)));
        assert_eq!(admitted.members.len(), 1);
    }

    #[test]
    fn the_number_of_one_that_leaves_is_not_taken() {
        let mut answer = answer(false);
        let new = answer.machines[0].clone();
        let old = Machine {
            id: 3,
            standing: "leaving".to_owned(),
            data_id: vec![1; 16].into(),
            ..new.clone()
        };
        answer.machines = vec![old.clone(), new];
        let admitted = admission("example.com", "RM.04", answer.clone()).expect("it was");
        assert_eq!(admitted.machine, MachineId(7));
        answer.machines = vec![old];
        let refusal = admission("example.com", "RM.04", answer).expect_err("nobody comes");
        assert!(refusal.may_pass(), "{refusal}");
    }

    #[test]
    fn who_is_no_member_waits_and_who_lost_its_data_or_is_elsewhere_does_not() {
        let refusal = admission("example.com", "RM.05", answer(false)).expect_err("no member");
        assert!(refusal.may_pass(), "{refusal}");
        let refusal = admission("example.com", "RM.04", answer(true)).expect_err("it had data");
        assert!(!refusal.may_pass() && refusal.to_string().contains("member replace"));
        let refusal = admission("other.example", "RM.04", answer(false)).expect_err("elsewhere");
        assert!(!refusal.may_pass(), "{refusal}");
    }
}
