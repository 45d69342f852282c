//! How a machine that hears no leader learns that it takes part no more: it asks the members.
//!
//! The leader tells whom it removes, and whoever asks for votes is told too. But a learner never asks, and a machine that was
//! away for long may find nobody at its peer port's other ends who still knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rm_actors::port::{MachineId, Member, Port};
use rm_proto::raftmachine::v1::{Machine, MembersResponse};
use slog::{info, warn};

use crate::certificates::Certificates;
use crate::join::ask;

/// For how many election timeouts no leader must be known before the members are asked.
const LONELY_TIMEOUTS: u32 = 5;

/// The longest pause between two questions; each is twice the one before.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Asks the members, whenever no leader is known for long, whether this machine is one of them still, and has it stop if it is
/// not. For as long as it is polled.
pub async fn learn_of_removal(port: Port, certificates: Certificates) {
    let timeout = Duration::from_millis(port.config().timings.election_timeout_ms);
    let log = port.logger();
    let mut pause = timeout * LONELY_TIMEOUTS;
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(timeout).await;
        if port.report().leader.is_some() {
            (pause, since) = (timeout * LONELY_TIMEOUTS, Instant::now());
            continue;
        }
        if since.elapsed() < pause {
            continue;
        }
        match find_out(&port, &certificates).await {
            Ok(true) => {
                info!(
                    log,
                    "no leader for long: the members list this machine still, and it waits"
                )
            }
            Ok(false) => {
                warn!(
                    log,
                    "no leader for long: the members do not list this machine any more"
                );
                return port.learn_removed();
            }
            Err(reasons) => {
                info!(log, "no leader for long: whether this machine is a member still, nobody tells"; "asked" => reasons)
            }
        }
        (pause, since) = ((pause * 2).min(PAUSE_MAX), Instant::now());
    }
}

/// Whether the members list this machine, as the first says that can tell.
async fn find_out(port: &Port, certificates: &Certificates) -> Result<bool, String> {
    let own = Own::of(port);
    let mut reasons = Vec::new();
    for address in neighbours(port) {
        let answer = ask(&address, certificates).await;
        match answer.and_then(|answer| own.is_in(&answer)) {
            Ok(listed) => return Ok(listed),
            Err(reason) => reasons.push(format!("{address}: {reason}")),
        }
    }
    Err(reasons.join("; "))
}

/// The client addresses of the others, by the log and by the config: either may be out of date.
fn neighbours(port: &Port) -> BTreeSet<String> {
    let (own, members) = (port.identity(), port.members());
    let listed = members.iter().filter(|each| each.machine != own.machine);
    let listed = listed.map(|each| each.client.clone());
    let machines = port.config().machines.iter();
    let configured = machines.filter(|each| each.name != own.name);
    let configured = configured.map(|each| each.client.to_string());
    let all = listed.chain(configured);
    all.filter(|address| !address.is_empty()).collect()
}

/// What this machine knows, by which it tells an answer of its own domain from any other.
struct Own {
    domain: String,
    era: u64,
    machine: MachineId,
    commit_index: u64,
    /// The data that each member was found on, as far as the log tells.
    data_ids: BTreeMap<u64, Vec<u8>>,
}

impl Own {
    fn of(port: &Port) -> Own {
        let identity = port.identity();
        let members = port.members();
        let data_id = |each: &Member| Some((each.machine.0, each.data_id?.0.to_vec()));
        Own {
            domain: identity.domain.clone(),
            era: identity.era.0,
            machine: identity.machine,
            commit_index: port.report().commit.0,
            data_ids: members.iter().filter_map(data_id).collect(),
        }
    }

    /// Whether the answer lists this machine; what is no answer of its domain says nothing.
    fn is_in(&self, answer: &MembersResponse) -> Result<bool, String> {
        if (&answer.domain, answer.era) != (&self.domain, self.era) {
            return Err("it belongs to another domain, or another era of it".to_owned());
        }
        // A domain that was begun anew under the same name has another log, on other data.
        let is_other = |each: &Machine| {
            let known = self.data_ids.get(&each.id);
            known.is_some_and(|known| !each.data_id.is_empty() && *known != each.data_id)
        };
        if let Some(other) = answer.machines.iter().find(|each| is_other(each)) {
            return Err(format!(
                "to it {} is on other data than this machine's log tells: it is a domain of the same name that was begun anew",
                other.name
            ));
        }
        if answer.applied_index < self.commit_index {
            return Err(
                "it has less of the log than this machine knows to be committed".to_owned(),
            );
        }
        let mut machines = answer.machines.iter();
        Ok(machines.any(|each| each.id == self.machine.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_same_domain_era_and_log_says_that_a_machine_was_removed() {
        let own = Own {
            domain: "example.com".to_owned(),
            era: 9,
            machine: MachineId(7),
            commit_index: 100,
            data_ids: BTreeMap::from([(1, vec![1; 16]), (7, vec![7; 16])]),
        };
        let answer = |domain: &str, era, applied_index, id| MembersResponse {
            domain: domain.to_owned(),
            era,
            applied_index,
            machines: vec![Machine {
                id,
                ..Machine::default()
            }],
        };
        assert_eq!(own.is_in(&answer("example.com", 9, 100, 7)), Ok(true));
        assert_eq!(own.is_in(&answer("example.com", 9, 100, 8)), Ok(false));
        for other in [
            answer("other.example", 9, 100, 8),
            answer("example.com", 8, 100, 8),
            answer("example.com", 9, 99, 8),
        ] {
            own.is_in(&other).expect_err("it says nothing");
        }
        let on = |id, data| {
            let mut answer = answer("example.com", 9, 1_000, id);
            answer.machines[0].data_id = vec![data; 16].into();
            answer
        };
        assert_eq!(own.is_in(&on(1, 1)), Ok(false));
        assert_eq!(own.is_in(&on(7, 7)), Ok(true));
        for begun_anew in [on(1, 2), on(7, 2)] {
            own.is_in(&begun_anew)
                .expect_err("its log may be longer, and is another one");
        }
    }
}
