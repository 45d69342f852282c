//! `rmctl info`: every machine of the domain, side by side.

use comfy_table::Table;
use futures::future::join_all;
use serde::Serialize;

use crate::client::{Endpoint, Endpoints};
use crate::error::{Error, Result, describe};
use crate::output::{
    Format, grid, human_bytes, human_duration, print, print_json, print_table, right_align,
};
use crate::proto::{Follower, InfoRequest, InfoResponse, PeerRefusal, SnapshotTransfer};

/// Asks one endpoint for the list of machines, then every machine, and prints a row for each, and below a table a line for each
/// refusal.
///
/// # Errors
/// None of the endpoints answers. A machine that does not is a row with the reason.
pub(crate) async fn run(endpoints: &Endpoints, format: Format) -> Result<()> {
    let rows = collect(endpoints).await?;
    match format {
        Format::Json => print_json(&rows),
        Format::Table | Format::Text => {
            print_table(table(&rows), format)?;
            refusals(&rows)
                .iter()
                .try_for_each(|line| print(line.as_bytes()))
        }
    }
}

/// One machine as `-o json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Its name in the config.
    pub(crate) name: String,
    /// Where its clients reach it.
    pub(crate) client: String,
    /// Where its peers reach it.
    pub(crate) peer: String,
    /// Its place in the config's list, from one.
    pub(crate) number: usize,
    /// What it told of itself.
    #[serde(flatten)]
    pub(crate) state: State,
}

/// What a machine told, or why it did not.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum State {
    /// It answered.
    Reached(Box<Reached>),
    /// It did not.
    Silent {
        /// Why.
        error: String,
    },
}

/// What a machine told of itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reached {
    pub(crate) domain: String,
    /// The era of the domain, as `--force-new-domain` takes it.
    pub(crate) era: String,
    pub(crate) machine_id: u64,
    pub(crate) role: String,
    pub(crate) term: u64,
    /// The leader's name; none when it knows of none.
    pub(crate) leader: Option<String>,
    /// The longest time in which it heard nothing of that leader; none when it leads itself.
    pub(crate) leader_silence_ms: Option<u64>,
    pub(crate) first_index: u64,
    pub(crate) last_index: u64,
    pub(crate) commit_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) revision: i64,
    pub(crate) file_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) log_bytes: u64,
    /// How far it has got with each machine that it sends the log to.
    pub(crate) followers: Vec<Sent>,
    /// The snapshots that it sends, and the one that it receives.
    pub(crate) sending: Vec<Transfer>,
    pub(crate) receiving: Option<Transfer>,
    pub(crate) no_space: bool,
    pub(crate) refused: u64,
    /// The peers that refuse it, or that it refuses.
    pub(crate) refusals: Vec<Refusal>,
    /// How often it was started on its data.
    pub(crate) boot: u64,
    pub(crate) process: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) version: String,
    pub(crate) fault_injection: bool,
}

/// Why a machine does not speak to a peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refusal {
    /// The peer's name.
    pub(crate) peer: String,
    /// Which of the two refuses the other, and why, in the machine's own words.
    pub(crate) reason: String,
}

impl From<PeerRefusal> for Refusal {
    fn from(refusal: PeerRefusal) -> Self {
        Refusal {
            peer: refusal.peer,
            reason: refusal.reason,
        }
    }
}

/// How far a leader has got with one machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sent {
    /// The machine's name.
    pub(crate) peer: String,
    /// Up to where its durable log is known to match.
    pub(crate) matched_index: u64,
    /// What is on its way and not answered.
    pub(crate) inflight_requests: u64,
    pub(crate) inflight_entries: u64,
    pub(crate) inflight_bytes: u64,
}

impl Sent {
    fn new(follower: Follower, name: impl Fn(u64) -> String) -> Self {
        Sent {
            peer: name(follower.peer),
            matched_index: follower.matched_index,
            inflight_requests: follower.inflight_requests,
            inflight_entries: follower.inflight_entries,
            inflight_bytes: follower.inflight_bytes,
        }
    }
}

/// How far a snapshot has got.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Transfer {
    /// The name of the machine that it goes to, or comes from.
    pub(crate) peer: String,
    pub(crate) bytes: u64,
    pub(crate) bytes_all: u64,
}

impl Transfer {
    fn new(transfer: SnapshotTransfer, name: impl Fn(u64) -> String) -> Self {
        Transfer {
            peer: name(transfer.peer),
            bytes: transfer.bytes,
            bytes_all: transfer.bytes_all,
        }
    }

    fn percent(&self) -> u64 {
        (self.bytes * 100)
            .checked_div(self.bytes_all)
            .unwrap_or(100)
    }
}

/// Asks every machine of the domain at the same time.
pub(crate) async fn collect(endpoints: &Endpoints) -> Result<Vec<Row>> {
    let first = first_answer(endpoints).await?;
    let asked = first
        .machines
        .iter()
        .enumerate()
        .map(|(position, machine)| {
            let machines = &first.machines;
            async move {
                let state = match machine.client.parse::<Endpoint>() {
                    Ok(endpoint) => ask(endpoints, &endpoint).await,
                    Err(error) => Err(error.to_string()),
                };
                Row {
                    name: machine.name.clone(),
                    client: machine.client.clone(),
                    peer: machine.peer.clone(),
                    number: position + 1,
                    state: match state {
                        Ok(answer) => State::Reached(Box::new(Reached::new(answer, |id| {
                            let leader = machines.iter().find(|machine| machine.id == id);
                            leader.map_or_else(|| id.to_string(), |machine| machine.name.clone())
                        }))),
                        Err(error) => State::Silent { error },
                    },
                }
            }
        });
    Ok(join_all(asked).await)
}

/// The answer of the first endpoint that gives one.
async fn first_answer(endpoints: &Endpoints) -> Result<InfoResponse> {
    let mut failure = None;
    for endpoint in &endpoints.list {
        let only = Endpoints {
            list: vec![endpoint.clone()],
            ..endpoints.clone()
        };
        let answer = async {
            let link = only.any().await?;
            let answer = link.admin().info(InfoRequest {}).await;
            answer.map_err(link.failed("info"))
        };
        match answer.await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::Usage("no endpoint is given".to_owned())))
}

/// What one machine tells of itself, or a short reason why not.
async fn ask(
    endpoints: &Endpoints,
    endpoint: &Endpoint,
) -> std::result::Result<InfoResponse, String> {
    let link = match endpoints.connect(endpoint).await {
        Ok(link) => link,
        Err(Error::Unreachable { reason, .. }) => return Err(reason),
        Err(error) => return Err(error.to_string()),
    };
    match link.admin().info(InfoRequest {}).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(describe(&status)),
    }
}

impl Reached {
    fn new(answer: InfoResponse, name: impl Fn(u64) -> String) -> Self {
        Reached {
            leader: (answer.leader != 0).then(|| name(answer.leader)),
            domain: answer.domain,
            era: format!("{:016x}", answer.era),
            machine_id: answer.machine_id,
            role: answer.role,
            term: answer.term,
            leader_silence_ms: answer.leader_silence_ms,
            first_index: answer.first_index,
            log_bytes: answer.log_bytes,
            followers: answer
                .followers
                .into_iter()
                .map(|follower| Sent::new(follower, &name))
                .collect(),
            sending: answer
                .sending
                .into_iter()
                .map(|transfer| Transfer::new(transfer, &name))
                .collect(),
            receiving: answer
                .receiving
                .map(|transfer| Transfer::new(transfer, &name)),
            last_index: answer.last_index,
            commit_index: answer.commit_index,
            applied_index: answer.applied_index,
            revision: answer.revision,
            file_bytes: answer.file_bytes,
            used_bytes: answer.used_bytes,
            no_space: answer.no_space,
            refused: answer.refused,
            refusals: answer.refusals.into_iter().map(Refusal::from).collect(),
            boot: answer.boot,
            process: answer.process,
            uptime_ms: answer.uptime_ms,
            version: answer.version,
            fault_injection: answer.fault_injection,
        }
    }

    /// Whether it leads.
    pub(crate) fn leads(&self) -> bool {
        self.role == "leader"
    }
}

/// A row for each machine.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = grid([
        "#",
        "name",
        "client",
        "domain",
        "role",
        "term",
        "leader",
        "silence",
        "commit",
        "applied",
        "revision",
        "size",
        "log",
        "in flight",
        "snapshot",
        "boot",
        "up",
    ]);
    for row in rows {
        let mut cells = vec![row.number.to_string(), row.name.clone(), row.client.clone()];
        match &row.state {
            State::Reached(state) => cells.extend([
                state.domain.clone(),
                state.role.clone(),
                state.term.to_string(),
                state.leader.clone().unwrap_or_else(|| "none".to_owned()),
                silence(state),
                state.commit_index.to_string(),
                state.applied_index.to_string(),
                state.revision.to_string(),
                size(state),
                log(state),
                in_flight(state),
                snapshots(state),
                state.boot.to_string(),
                human_duration(state.uptime_ms),
            ]),
            State::Silent { error } => {
                cells.extend([String::new(), format!("not reached: {error}")]);
            }
        }
        table.add_row(cells);
    }
    right_align(&mut table, &[0, 5, 7, 8, 9, 10, 11, 12, 15, 16]);
    table
}

/// A line for each refusal. They are too long for a column, and as a rule there are none.
fn refusals(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for row in rows {
        let State::Reached(state) = &row.state else {
            continue;
        };
        for Refusal { peer, reason } in &state.refusals {
            lines.push(format!("{} does not speak to {peer}: {reason}", row.name));
        }
    }
    lines
}

fn size(state: &Reached) -> String {
    let full = if state.no_space { ", disk full" } else { "" };
    format!("{}{full}", human_bytes(state.file_bytes))
}

/// The entries that the log holds, and their bytes.
fn log(state: &Reached) -> String {
    let entries = (state.last_index + 1).saturating_sub(state.first_index);
    format!("{entries}, {}", human_bytes(state.log_bytes))
}

fn silence(state: &Reached) -> String {
    let longest = state.leader_silence_ms;
    longest.map_or_else(String::new, |ms| format!("{ms} ms"))
}

/// The machines to which something is on its way that they have not answered.
fn in_flight(state: &Reached) -> String {
    let busy = state.followers.iter().filter(|it| it.inflight_requests > 0);
    let told = busy.map(|follower| {
        let (peer, requests) = (&follower.peer, follower.inflight_requests);
        format!(
            "to {peer} {requests}, {}",
            human_bytes(follower.inflight_bytes)
        )
    });
    told.collect::<Vec<_>>().join(", ")
}

fn snapshots(state: &Reached) -> String {
    let sending = state.sending.iter();
    let sending = sending.map(|to| format!("to {} {} %", to.peer, to.percent()));
    let receiving = state.receiving.iter();
    let receiving = receiving.map(|from| format!("from {} {} %", from.peer, from.percent()));
    sending.chain(receiving).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_machine_that_does_not_answer_is_a_row_with_the_reason() {
        let (fake, absent) = (Fake::start(), Fake::absent());
        fake.name_machines(&[fake.endpoint().to_string(), absent.to_string()]);
        // The first is not there either: the second is asked for the list.
        let list = vec![absent, fake.endpoint()];
        let endpoints = Endpoints::plain(list, Duration::from_secs(5));
        let rows = collect(&endpoints).await.expect("rows");
        assert_eq!(rows.len(), 2);
        let shown = table(&rows).to_string();
        assert!(
            shown.contains("leader") && shown.contains("not reached"),
            "{shown}"
        );
        let json = serde_json::to_value(&rows).expect("JSON");
        assert_eq!(json[0]["leader"], "RM.01");
        assert_eq!(json[0]["term"], 3);
        assert_eq!(json[0]["leader_silence_ms"], 107);
        assert!(shown.contains("107 ms"), "{shown}");
        assert!(json[1]["error"].is_string() && json[1]["term"].is_null());
    }

    #[tokio::test]
    async fn a_machine_that_is_refused_says_by_whom_and_why() {
        let fake = Fake::start();
        let endpoints = Endpoints::plain(vec![fake.endpoint()], Duration::from_secs(5));
        let rows = collect(&endpoints).await.expect("rows");
        assert!(refusals(&rows).is_empty());

        fake.tell_refusal("RM.02", "it refuses this machine");
        let rows = collect(&endpoints).await.expect("rows");
        assert_eq!(
            refusals(&rows),
            ["RM.01 does not speak to RM.02: it refuses this machine"]
        );
        let json = serde_json::to_value(&rows).expect("JSON");
        assert_eq!(json[0]["refusals"][0]["peer"], "RM.02");
        assert_eq!(json[0]["refusals"][0]["reason"], "it refuses this machine");
    }

    #[tokio::test]
    async fn what_is_on_its_way_to_a_follower_is_shown_unless_it_is_nothing() {
        let fake = Fake::start();
        fake.name_machines(&[fake.endpoint(), fake.endpoint()].map(|it| it.to_string()));
        for (peer, inflight_requests) in [(2, 3), (3, 0)] {
            fake.tell_follower(Follower {
                peer,
                matched_index: 40,
                inflight_requests,
                inflight_entries: 5,
                inflight_bytes: 6 << 10,
            });
        }
        let endpoints = Endpoints::plain(vec![fake.endpoint()], Duration::from_secs(5));
        let rows = collect(&endpoints).await.expect("rows");
        let State::Reached(leader) = &rows[0].state else {
            panic!("it answers");
        };
        assert_eq!(in_flight(leader), "to RM.02 3, 6.00 KiB");
        assert!(table(&rows).to_string().contains("to RM.02 3"));
        let json = serde_json::to_value(&rows).expect("JSON");
        let told = &json[0]["followers"][0];
        assert_eq!(
            (&told["peer"], &told["matched_index"]),
            (&"RM.02".into(), &40.into())
        );
        assert_eq!(told["inflight_requests"], 3);
        assert_eq!(told["inflight_entries"], 5);
        assert_eq!(told["inflight_bytes"], 6 << 10);
    }
}
