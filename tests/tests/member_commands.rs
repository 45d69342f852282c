//! The commands by which an operator changes the members, `rmctl member` and `etcdctl member`, against real machines: what they do,
//! what they refuse, and with which reason.

use std::path::PathBuf;

use rm_tests::etcd::{etcdctl, text};
use rm_tests::members::{assert_leaves, begun_alone, id_of, members, standing};
use rm_tests::ports::claim;
use rm_tests::rmctl::{done, json, refused, run};
use rm_tests::{Cluster, Machine, Settings, until};
use serde_json::{Value, json};

/// The name and the standing of each member, as `rmctl` lists them.
fn listed(endpoints: &str) -> Vec<(String, String)> {
    let rows = json(endpoints, &["member", "list"]);
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| (text(row, "name"), text(row, "standing")))
        .collect()
}

fn all(members: &[(&str, &str)]) -> Vec<(String, String)> {
    let members = members.iter();
    members
        .map(|(name, standing)| ((*name).to_owned(), (*standing).to_owned()))
        .collect()
}

/// Runs a command until it does what it was asked: a machine that was started a moment ago has to be heard first.
async fn in_time(endpoints: &str, arguments: &[&str]) {
    until("the command is carried out", async || {
        let output = run(endpoints, arguments);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    })
    .await;
}

fn addresses(machine: &Machine) -> [String; 4] {
    let (peer, client) = (machine.peer.to_string(), machine.client.to_string());
    ["--peer".to_owned(), peer, "--client".to_owned(), client]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rmctl_grows_a_domain_replaces_a_machine_and_shrinks_it() {
    let mut cluster = begun_alone(Settings::trio().of(3)).await;
    cluster.client().put("begun", "alone").await;
    let one = &cluster.machines[0].client.to_string();
    assert_eq!(listed(one), all(&[("RM.01", "voter")]));
    let add = |machine: &Machine, more: &[&str]| {
        let addresses = addresses(machine);
        let addresses = addresses.iter().map(String::as_str);
        let words = ["member", "add", &machine.name].into_iter();
        let words = words.chain(addresses).chain(more.iter().copied());
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    let words = |arguments: &[String]| -> String {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        done(one, &arguments)
    };

    let table = words(&add(&cluster.machines[1], &[]));
    assert!(
        table.contains("RM.02") && table.contains("learner"),
        "{table}"
    );
    let why = refused(one, &["member", "promote", "RM.02"], 1);
    assert!(why.contains("is not caught up"), "{why}");
    assert!(why.contains("force the change"), "{why}");
    let again = add(&cluster.machines[1], &[]);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let why = refused(one, &again, 1);
    assert!(why.contains("is a member already"), "{why}");
    let why = refused(one, &["member", "promote", "RM.09"], 2);
    assert!(
        why.contains("no member \"RM.09\": the members are RM.01, RM.02"),
        "{why}"
    );
    cluster.machines[1].start();
    in_time(one, &["member", "promote", "RM.02"]).await;
    let why = refused(one, &["member", "promote", "RM.02"], 1);
    assert!(why.contains("is a voter already"), "{why}");

    // A learner that never ran is no voter unless that is forced.
    words(&add(&cluster.machines[2], &[]));
    let why = refused(one, &["member", "promote", "RM.03"], 1);
    assert!(why.contains("is not caught up"), "{why}");
    done(one, &["member", "promote", "RM.03", "--force"]);
    let expected = [("RM.01", "voter"), ("RM.02", "voter"), ("RM.03", "voter")];
    assert_eq!(listed(one), all(&expected));
    let why = refused(one, &["member", "remove", "RM.02"], 1);
    assert!(
        why.contains("only 1 of the new voters were heard") && why.contains("2 are needed"),
        "{why}"
    );
    cluster.machines[2].start();
    until("the third machine is heard", async || {
        let info = cluster.client().info(2).await;
        let info = info.map_err(|status| status.to_string())?;
        match info.applied_index {
            0 => Err("it has applied nothing".to_owned()),
            _ => Ok(()),
        }
    })
    .await;

    // Its data is lost; the new machine has its name and addresses, and another number.
    let before = id_of(&members(&cluster.client()).await, "RM.02");
    cluster.machines[1].kill();
    std::fs::remove_dir_all(&cluster.machines[1].data).expect("the data can be removed");
    let addresses = addresses(&cluster.machines[1]);
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let replace = [&["member", "replace", "RM.02", "RM.02"], &addresses[..]].concat();
    in_time(one, &replace).await;
    assert_eq!(listed(one), all(&expected));
    assert_ne!(id_of(&members(&cluster.client()).await, "RM.02"), before);
    cluster.machines[1].start();
    in_time(one, &["member", "demote", "RM.02"]).await;
    let now = members(&cluster.client()).await;
    assert_eq!(standing(&now, "RM.02"), Some("learner"));
    in_time(one, &["member", "promote", "RM.02"]).await;
    in_time(one, &["member", "remove", "RM.02"]).await;
    assert_leaves(&mut cluster.machines[1]).await;
    let expected = [("RM.01", "voter"), ("RM.03", "voter")];
    assert_eq!(listed(one), all(&expected));
    cluster.assert_nobody_panicked();
}

/// The same config with the present addresses of a machine.
fn moved(cluster: &Cluster, place: usize) -> PathBuf {
    let machine = &cluster.machines[place];
    let text = std::fs::read_to_string(&machine.config).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["machines"][place]["client"] = json!(machine.client);
    config["machines"][place]["peer"] = json!(machine.peer);
    let file = cluster.folder().join("moved.json");
    std::fs::write(&file, config.to_string()).expect("the folder can be written");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rmctl_tells_all_where_a_machine_has_moved() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let place = (cluster.leader().await + 1) % 3;
    let other = cluster.machines[(place + 1) % 3].client.to_string();
    cluster.machines[place].kill();
    let ports = claim(1);
    let client = ports[0].address;
    cluster.machines[place].client = client;
    cluster.machines[place].config = moved(&cluster, place);
    let name = cluster.machines[place].name.clone();
    let client = client.to_string();
    in_time(&other, &["member", "update", &name, "--client", &client]).await;
    let why = refused(&other, &["member", "update", &name], 2);
    assert!(why.contains("--peer"), "{why}");
    cluster.machines[place].start();
    until("it is found there", async || {
        let rows = json(&other, &["info"]);
        let row = &rows[place];
        match row["client"] == client.as_str() && row["role"] == "follower" {
            true => Ok(()),
            false => Err(rows.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_tells_all_where_a_machine_has_moved() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let place = (cluster.leader().await + 1) % 3;
    let other = &cluster.machines[(place + 1) % 3];
    let (asked, taken) = (other.client.to_string(), other.peer);
    let name = cluster.machines[place].name.clone();
    let id = format!("{:x}", id_of(&members(&cluster.client()).await, &name));
    let update = |id: &str, url: &str| {
        let words = ["member", "update", id, &format!("--peer-urls={url}")];
        let output = etcdctl(&asked, "simple", &words, "");
        let told = text(&output);
        match output.status.success() {
            true => Ok(told),
            false => Err(told),
        }
    };
    let why = update("7", "http://127.0.0.1:1").expect_err("there is no such member");
    assert!(why.contains("member not found"), "{why}");
    let two = "http://127.0.0.1:1,http://127.0.0.1:2";
    let why = update(&id, two).expect_err("a machine has one address");
    assert!(why.contains("given member URLs are invalid"), "{why}");
    let why = update(&id, "http://127.0.0.1:1?client=x").expect_err("that is no address");
    assert!(why.contains("\"x\" is no address"), "{why}");
    let why = update(&id, &format!("http://{taken}")).expect_err("another is there");
    assert!(
        why.contains("etcdserver: Peer URLs already exists"),
        "{why}"
    );
    let taken = taken.to_string();
    let why = refused(&asked, &["member", "update", &name, "--peer", &taken], 1);
    assert!(
        why.contains(&format!("has the peer address {taken} already")),
        "{why}"
    );

    let ports = claim(4);
    for pair in ports.chunks_exact(2) {
        let (peer, client) = (pair[0].address, pair[1].address);
        cluster.machines[place].kill();
        (cluster.machines[place].peer, cluster.machines[place].client) = (peer, client);
        cluster.machines[place].config = moved(&cluster, place);
        cluster.machines[place].start();
        // It says itself where it has moved to, in the log alone: the others do not follow its word.
        let told = until("the change is committed", async || {
            update(&id, &format!("http://{peer}?client={client}"))
        })
        .await;
        assert!(told.contains(&format!("Member {id:>16} updated")), "{told}");
        let now = members(&cluster.client()).await;
        let moved = now.iter().find(|member| member.name == name);
        let moved = moved.expect("it is a member still");
        let addresses = [moved.peer.clone(), moved.client.clone()];
        assert_eq!(addresses, [peer.to_string(), client.to_string()]);
        cluster.client().put("after", peer.to_string()).await;
        cluster.same_everywhere().await;
    }

    // Without a client address in the URL, that stays.
    let own = cluster.machines[place].peer;
    update(&id, &format!("http://{own}")).expect("it may be told again");
    let now = members(&cluster.client()).await;
    let client = cluster.machines[place].client.to_string();
    assert!(now.iter().any(|member| member.client == client), "{now:?}");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_adds_promotes_and_removes_members() {
    let mut cluster = begun_alone(Settings::trio().of(3)).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    let one = cluster.machines[0].client.to_string();
    let member = |arguments: &[&str]| {
        let output = etcdctl(&one, "simple", &[&["member"], arguments].concat(), "");
        let told = text(&output);
        match output.status.success() {
            true => Ok(told),
            false => Err(told),
        }
    };
    let url = |machine: &Machine| {
        let Machine {
            name, peer, client, ..
        } = machine;
        format!("--peer-urls=http://{peer}?name={name}&client={client}")
    };
    let hexadecimal = async |name: &str| format!("{:x}", id_of(&members(&client).await, name));

    let why = member(&["add", "RM.02", "--peer-urls=http://127.0.0.1:1"]).expect_err("no name");
    assert!(
        why.contains("http://HOST:PORT?name=NAME&client=HOST:PORT"),
        "{why}"
    );
    let second = url(&cluster.machines[1]);
    // A second voter that does not run could stop the first.
    let why = member(&["add", "RM.02", &second]).expect_err("the quorum would be lost");
    assert!(why.contains("not enough started members"), "{why}");
    let told = member(&["add", "RM.02", "--learner", &second]).expect("a learner may come");
    assert!(told.contains("added to cluster"), "{told}");
    let taken = "etcdserver: Peer URLs already exists";
    let why = member(&["add", "RM.02", "--learner", &second]).expect_err("it is there");
    assert!(why.contains(taken), "{why}");
    // Under another name, too; but a name that is taken has no words of etcd's, whose members may have the same.
    let renamed = second.replace("name=RM.02", "name=RM.04");
    let why = member(&["add", "RM.04", "--learner", &renamed]).expect_err("RM.02 is there");
    assert!(why.contains(taken), "{why}");
    let same_name = url(&cluster.machines[2]).replace("name=RM.03", "name=RM.02");
    let why = member(&["add", "RM.02", "--learner", &same_name]).expect_err("it is there");
    assert!(why.contains("RM.02 with the peer address"), "{why}");
    assert!(why.contains("is a member already"), "{why}");
    let id = hexadecimal("RM.02").await;
    let told = member(&["list"]).expect("a list");
    let line = told.lines().find(|line| line.starts_with(&id));
    let line = line.unwrap_or_else(|| panic!("{id} is missing in {told}"));
    assert!(
        line.contains("RM.02") && line.ends_with("true"),
        "a learner: {line}"
    );
    let why = member(&["promote", &id]).expect_err("it has nothing");
    assert!(why.contains("in sync with leader"), "{why}");
    let why = member(&["promote", "7"]).expect_err("there is no such member");
    assert!(why.contains("member not found"), "{why}");
    cluster.machines[1].start();
    until("the learner is promoted", async || {
        member(&["promote", &id])
    })
    .await;
    let why = member(&["promote", &id]).expect_err("it is a voter");
    assert!(why.contains("can only promote a learner member"), "{why}");

    member(&["add", "RM.03", &url(&cluster.machines[2])]).expect("two of three run");
    let why = member(&["remove", &id]).expect_err("one of two would run");
    assert!(why.contains("not enough started members"), "{why}");
    let third = hexadecimal("RM.03").await;
    let told = member(&["remove", &third]).expect("it never ran");
    assert!(told.contains("removed from cluster"), "{told}");
    member(&["remove", &id]).expect("the first is left");
    assert_leaves(&mut cluster.machines[1]).await;
    let why = member(&["remove", &id]).expect_err("it is gone");
    assert!(why.contains("member not found"), "{why}");
    let own = hexadecimal("RM.01").await;
    let why = member(&["remove", &own]).expect_err("nobody would be left");
    assert!(why.contains("not enough started members"), "{why}");
    let told = member(&["list"]).expect("a list");
    assert_eq!(told.lines().count(), 1, "{told}");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_is_told_when_members_are_out_of_reach() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let listed = until("it is noted that each was started", async || {
        let listed = members(&client).await;
        let are_known = listed.iter().all(|member| !member.data_id.is_empty());
        are_known
            .then(|| listed.clone())
            .ok_or(format!("{listed:?}"))
    })
    .await;
    let list = text(&etcdctl(
        &cluster.machines[0].client.to_string(),
        "simple",
        &["member", "list"],
        "",
    ));
    let ids = list.lines().filter_map(|line| line.split_once(','));
    let ids: Vec<u64> = ids
        .map(|(id, _)| u64::from_str_radix(id, 16).expect("an id"))
        .collect();
    assert_eq!(ids.len(), 3, "{list}");
    assert!(ids.is_sorted(), "{list}");
    // Who leads after it has never heard of it.
    let leader = cluster.leader().await;
    cluster.machines[leader].kill();
    client.put("key", "other").await;
    let left = [(leader + 1) % 3, (leader + 2) % 3].map(|machine| &cluster.machines[machine]);
    let endpoints = left.map(|machine| machine.client.to_string()).join(",");
    let other = format!("{:x}", id_of(&listed, &left[0].name));
    let newcomer = "--peer-urls=http://127.0.0.1:1?name=RM.04&client=127.0.0.1:2";
    for change in [&["add", "RM.04", newcomer][..], &["remove", &other]] {
        let told = text(&etcdctl(
            &endpoints,
            "simple",
            &[&["member"], change].concat(),
            "",
        ));
        assert!(told.contains("etcdserver: unhealthy cluster"), "{told}");
    }
    assert_eq!(members(&client).await, listed, "nothing has changed");
    cluster.assert_nobody_panicked();
}
