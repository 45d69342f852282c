//! What an operator may do with the members: each change goes to the leader, and is answered when it is complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rm_raft::{Change, ChangeRefused, Index, MachineId, Step};

use crate::members::{About, Listed};
use crate::port::{Port, Refusal};
use crate::report::Member;

/// The pause before a change that came too early is asked for again, and before another look whether LogicCenter has caught up.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// A machine that is to take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its name, which no member has.
    pub name: String,
    /// Where peers reach it.
    pub peer: rm_config::Address,
    /// Where clients reach it.
    pub client: rm_config::Address,
}

impl Newcomer {
    fn about(&self) -> About {
        About {
            name: self.name.clone(),
            peer: self.peer.to_string(),
            client: self.client.to_string(),
            data_id: None,
        }
    }
}

impl Port {
    /// The members, by the latest configuration that this machine knows to be committed.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.shared.members.committed().members.clone()
    }

    /// The members as of a moment after this was asked, as they are committed: what is only in force may be taken back. With
    /// them the entry up to which they are known, at least.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn members_now(&self) -> Result<(Arc<Vec<Member>>, Index), Refusal> {
        let (listed, applied) = self.listed_now().await?;
        Ok((listed.members.clone(), applied))
    }

    async fn listed_now(&self) -> Result<(Arc<Listed>, Index), Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        self.barrier().await?;
        // Of a snapshot the Applier hears before LogicCenter does, which tells the members.
        let applied = self.shared.board.applied();
        while self.shared.board.raft().commit < applied {
            if Instant::now() >= deadline {
                return Err(Refusal::TimedOut);
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
        Ok((self.shared.members.committed(), applied))
    }

    /// Admits a machine, as a learner or at once as a voter, and returns its number. The number belongs to this admission: a
    /// machine that is removed and added again is another one to Raft, since it has forgotten its votes.
    ///
    /// # Errors
    /// As [`Port::change_members`]; [`Refusal::AddressTaken`] if the peer address is a member's, [`Refusal::Operator`] if the name is.
    pub async fn add_member(
        &self,
        newcomer: &Newcomer,
        voter: bool,
        force: bool,
    ) -> Result<MachineId, Refusal> {
        let machine = self.new_machine_id(&newcomer.name);
        let about = newcomer.about().encode();
        let step = if voter {
            Step::AddVoter(machine, about)
        } else {
            Step::Add(machine, about)
        };
        self.change(force, |members| {
            check_free(members, newcomer, None)?;
            Ok(vec![step.clone()])
        })
        .await?;
        Ok(machine)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`Port::change_members`].
    pub async fn remove_member(&self, machine: MachineId, force: bool) -> Result<(), Refusal> {
        let plan = |_: &[Member]| Ok(vec![Step::Remove(machine)]);
        self.change(force, plan).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// As [`Port::change_members`].
    pub async fn promote_member(&self, machine: MachineId, force: bool) -> Result<(), Refusal> {
        let plan = |_: &[Member]| Ok(vec![Step::Promote(machine)]);
        let outcome = self.change(force, plan).await;
        self.meters().promotions.count(&outcome);
        outcome
    }

    /// Makes a voter a learner.
    ///
    /// # Errors
    /// As [`Port::change_members`].
    pub async fn demote_member(&self, machine: MachineId, force: bool) -> Result<(), Refusal> {
        let plan = |_: &[Member]| Ok(vec![Step::Demote(machine)]);
        self.change(force, plan).await
    }

    /// Tells all where a member is reached from now on.
    ///
    /// # Errors
    /// As [`Port::change_members`]; [`Refusal::AddressTaken`] if the peer address is another member's.
    pub async fn update_member(
        &self,
        machine: MachineId,
        peer: Option<&rm_config::Address>,
        client: Option<&rm_config::Address>,
    ) -> Result<(), Refusal> {
        self.change(false, |members| {
            let mut about = About::of(find(members, machine)?);
            if let Some(peer) = peer {
                check_address(members, peer, machine)?;
            }
            about.peer = peer.map_or(about.peer, ToString::to_string);
            about.client = client.map_or(about.client, ToString::to_string);
            Ok(vec![Step::Update(machine, about.encode())])
        })
        .await
    }

    /// Puts a new machine in the place of a member in one change, and returns its number. It may have the same name and
    /// addresses. It is a voter if the member was one.
    ///
    /// # Errors
    /// As [`Port::add_member`].
    pub async fn replace_member(
        &self,
        old: MachineId,
        newcomer: &Newcomer,
        force: bool,
    ) -> Result<MachineId, Refusal> {
        let machine = self.new_machine_id(&newcomer.name);
        let about = newcomer.about().encode();
        self.change(force, |members| {
            let standing = find(members, old)?.standing;
            check_free(members, newcomer, Some(old))?;
            let add = match standing {
                crate::report::Standing::Learner => Step::Add(machine, about.clone()),
                _ => Step::AddVoter(machine, about.clone()),
            };
            Ok(vec![Step::Remove(old), add])
        })
        .await?;
        Ok(machine)
    }

    /// A number that no machine of the domain ever had: made of the name and of a number that this machine gives but once.
    fn new_machine_id(&self, name: &str) -> MachineId {
        let identity = self.identity();
        let request = self.shared.resources.next_request_number();
        let admission = format!("{name}\0{:x}\0{request:x}", identity.machine.0);
        MachineId(rm_config::machine_id(&identity.domain, &admission))
    }

    /// Asks until the leader takes it up, if it is only too early for that. The steps are planned anew each time, and taken up
    /// only if the members are still those that they were planned for: of two changes at once, the later one sees what the earlier
    /// one did.
    async fn change(
        &self,
        force: bool,
        plan: impl Fn(&[Member]) -> Result<Vec<Step>, Refusal>,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        loop {
            let (listed, _) = self.listed_now().await?;
            let change = Change {
                steps: plan(&listed.members)?,
                force,
                based_on: listed.index,
            };
            let outcome = self.change_members(change).await;
            let too_early = matches!(
                outcome,
                Err(Refusal::Change(
                    ChangeRefused::UnderWay
                        | ChangeRefused::Outdated
                        | ChangeRefused::LeaderIsNew
                        | ChangeRefused::NotLeader
                        | ChangeRefused::Transferring
                ))
            );
            if !too_early || Instant::now() >= deadline {
                return outcome;
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
    }
}

fn find(members: &[Member], machine: MachineId) -> Result<&Member, Refusal> {
    let found = members.iter().find(|each| each.machine == machine);
    found.ok_or(Refusal::Change(ChangeRefused::NoSuchMachine(machine)))
}

/// Refuses a peer address that another member has: nobody would find either of the two. Of two names of one host nothing is known.
fn check_address(
    members: &[Member],
    peer: &rm_config::Address,
    machine: MachineId,
) -> Result<(), Refusal> {
    let peer = peer.to_string();
    let mut others = members.iter().filter(|each| each.machine != machine);
    match others.find(|each| each.peer == peer) {
        Some(other) => Err(Refusal::AddressTaken(format!(
            "{} has the peer address {peer} already: move or remove it first, or give another address",
            other.name
        ))),
        None => Ok(()),
    }
}

/// Refuses a name or an address that a member has, but for the one that is replaced.
fn check_free(
    members: &[Member],
    newcomer: &Newcomer,
    replaced: Option<MachineId>,
) -> Result<(), Refusal> {
    let mut others = members.iter().filter(|each| Some(each.machine) != replaced);
    let peer = newcomer.peer.to_string();
    let Some(other) = others.find(|each| each.name == newcomer.name || each.peer == peer) else {
        return Ok(());
    };
    let why = format!(
        "{} with the peer address {} is a member already: use `rmctl member replace` to put a new machine in its place, or \
         another name and address",
        other.name, other.peer
    );
    Err(match other.peer == peer {
        true => Refusal::AddressTaken(why),
        false => Refusal::Operator(why),
    })
}
