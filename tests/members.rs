//! Who takes part in a domain, and changes of that, as an operator makes them.

use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_proto::raftmachine::v1::{
    AddMember, ChangeMembersRequest, Machine as Listed, MembersRequest, ReplaceMember,
};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::settings::Settings;
use crate::wait::until;
use serde_json::{Value, json};

/// Machines of which only the first runs, as a domain of its own; the others join when they are started.
///
/// # Panics
///
/// When the folder cannot be written.
pub async fn begun_alone(machines: usize) -> Cluster {
    let settings = Settings {
        machines,
        ..Settings::trio()
    };
    let mut cluster = Cluster::prepare(settings).await;
    let text = std::fs::read_to_string(&cluster.machines[0].config).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    let first = config["machines"][0].clone();
    config["machines"] = json!([first]);
    let alone = cluster.folder().join("alone.json");
    std::fs::write(&alone, config.to_string()).expect("the folder can be written");
    cluster.machines[0].config = alone;
    cluster.machines[0].start();
    for machine in &mut cluster.machines[1..] {
        machine.join = true;
    }
    cluster
}

/// The members as any machine tells them.
///
/// # Panics
///
/// When none does in time.
pub async fn members(client: &Client) -> Vec<Listed> {
    let mut turn = 0;
    until("the members are told", async || {
        turn += 1;
        let asked = client.admin(turn % client.machines());
        match asked.clone().members(MembersRequest {}).await {
            Ok(answer) => Ok(answer.into_inner().machines),
            Err(status) => Err(status.to_string()),
        }
    })
    .await
}

/// The number of a member.
///
/// # Panics
///
/// When there is none of this name.
pub fn id_of(members: &[Listed], name: &str) -> u64 {
    let found = members.iter().find(|member| member.name == name);
    found.unwrap_or_else(|| panic!("{name} is no member")).id
}

/// Asks one machine after the other for a change, until the members are as it makes them.
///
/// # Panics
///
/// When they are not in time.
pub async fn change(
    client: &Client,
    wanted: impl Fn(&[Listed]) -> Option<Change>,
    is_done: impl Fn(&[Listed]) -> bool,
) {
    let mut turn = 0;
    until("the members are changed", async || {
        let before = members(client).await;
        if is_done(&before) {
            return Ok(());
        }
        turn += 1;
        let request = ChangeMembersRequest {
            change: wanted(&before),
            force: false,
        };
        let asked = client.admin(turn % client.machines());
        match asked.clone().change_members(request).await {
            Ok(_) => Err("it was done: look again".to_owned()),
            Err(status) => Err(format!("{status} with {before:?}")),
        }
    })
    .await;
}

/// The request that admits a machine.
pub fn newcomer(machine: &Machine, voter: bool) -> AddMember {
    AddMember {
        name: machine.name.clone(),
        peer: machine.peer.to_string(),
        client: machine.client.to_string(),
        voter,
    }
}

/// How a member takes part, if it is one.
pub fn standing<'a>(members: &'a [Listed], name: &str) -> Option<&'a str> {
    let found = members.iter().find(|member| member.name == name);
    found.map(|member| member.standing.as_str())
}

/// Admits a machine, starts it, and lets it vote once it has caught up.
///
/// # Panics
///
/// When that is not done in time.
pub async fn admit(cluster: &mut Cluster, client: &Client, place: usize) {
    let name = cluster.machines[place].name.clone();
    let add = newcomer(&cluster.machines[place], false);
    let wanted = |_: &[Listed]| Some(Change::Add(add.clone()));
    change(client, wanted, |now| standing(now, &name).is_some()).await;
    cluster.machines[place].start();
    let wanted = |now: &[Listed]| Some(Change::Promote(id_of(now, &name)));
    change(client, wanted, |now| standing(now, &name) == Some("voter")).await;
}

/// Puts an empty machine of the same name in the place of one, which is killed, and waits until it has applied something.
///
/// # Panics
///
/// When the data cannot be removed, or when it is not done in time.
pub async fn replace(cluster: &mut Cluster, client: &Client, place: usize) {
    let machine = &mut cluster.machines[place];
    if machine.runs() {
        machine.kill();
    }
    std::fs::remove_dir_all(&machine.data).expect("the data can be removed");
    machine.join = true;
    let name = machine.name.clone();
    let old = id_of(&members(client).await, &name);
    let new = newcomer(&cluster.machines[place], true);
    let wanted = |_: &[Listed]| {
        Some(Change::Replace(ReplaceMember {
            old,
            new: Some(new.clone()),
        }))
    };
    // The number belongs to the admission, so that the new machine is told from the old one.
    let is_done = |now: &[Listed]| {
        let others = now.iter().all(|member| member.standing == "voter");
        others && now.iter().all(|member| member.id != old)
    };
    change(client, wanted, is_done).await;
    cluster.machines[place].start();
    until("the new machine has caught up", async || {
        let info = client.info(place).await.map_err(|it| it.to_string())?;
        match info.applied_index {
            0 => Err("it has applied nothing".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

/// Has a member removed.
///
/// # Panics
///
/// When it is not in time.
pub async fn remove(client: &Client, name: &str) {
    let wanted = |now: &[Listed]| Some(Change::Remove(id_of(now, name)));
    change(client, wanted, |now| standing(now, name).is_none()).await;
}

/// Sees the process of a machine that was removed say so and end well.
///
/// # Panics
///
/// When it does not in time.
pub async fn assert_leaves(machine: &mut Machine) {
    let status = machine.end().await;
    let log = machine.log();
    assert_eq!(status.code(), Some(0), "{status}:\n{log}");
    assert!(log.contains("was removed"), "{log}");
}

/// Removes a machine, and sees its process end well.
///
/// # Panics
///
/// When it does not in time.
pub async fn dismiss(cluster: &mut Cluster, client: &Client, place: usize) {
    remove(client, &cluster.machines[place].name).await;
    assert_leaves(&mut cluster.machines[place]).await;
}
