//! The real etcdctl, in every output format, prints the same about our machines as about etcd's members.

use bytes::Buf;
use prost::Message;
use rm_proto::etcdserverpb::{
    DeleteRangeResponse, MemberListResponse, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse, response_op::Response,
};
use rm_tests::etcd::{Etcd, etcdctl, etcdctl_until, normalised, text};
use rm_tests::{Cluster, Settings};

const FORMATS: [&str; 5] = ["simple", "json", "fields", "protobuf", "table"];

/// Commands about keys, with what is typed into them. Each is given to one machine.
const KEYS: [(&[&str], &str); 24] = [
    (&["put", "fruit/apple", "red"], ""),
    (&["put", "fruit/banana", "yellow"], ""),
    (&["put", "fruit/cherry"], "dark red, typed in"),
    (&["put", "--prev-kv", "fruit/apple", "green"], ""),
    (&["put", "--ignore-value", "fruit/apple"], ""),
    (&["put", "--ignore-value", "fruit/nothing"], ""),
    (&["get", "fruit/apple"], ""),
    (&["get", "fruit/nothing"], ""),
    (&["get", "--prefix", "fruit/"], ""),
    (&["get", "--prefix", "--keys-only", "fruit/"], ""),
    (&["get", "--prefix", "--limit=2", "fruit/"], ""),
    (
        &[
            "get",
            "--prefix",
            "--sort-by=value",
            "--order=descend",
            "fruit/",
        ],
        "",
    ),
    (&["get", "--prefix", "--print-value-only", "fruit/"], ""),
    (&["get", "--from-key", "fruit/b"], ""),
    (&["get", "--rev=2", "fruit/apple"], ""),
    (&["get", "--rev=1000000", "fruit/apple"], ""),
    (&["get", "--consistency=s", "fruit/banana"], ""),
    (&["get", "fruit/a", "fruit/c"], ""),
    (
        &["txn", "--interactive"],
        "value(\"fruit/apple\") = \"green\"\n\nput fruit/date brown\nget fruit/apple\n\nget fruit/nothing\n\n",
    ),
    (
        &["txn", "--interactive"],
        "mod(\"fruit/apple\") < \"1\"\n\nput fruit/egg no\n\nget --prefix fruit/\ndel fruit/date\n\n",
    ),
    (
        &["txn", "--interactive"],
        "\nput twice a\nput twice b\n\n\n",
    ),
    (&["del", "fruit/nothing"], ""),
    (&["del", "--prev-kv", "fruit/banana"], ""),
    (&["del", "--prefix", "fruit/"], ""),
];

/// Commands about the machines, given to all of them.
const MACHINES: [&[&str]; 3] = [
    &["endpoint", "status"],
    &["endpoint", "health"],
    &["member", "list"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_about_keys_what_it_prints_about_etcd() {
    let (cluster, etcd) = both().await;
    for (machine, format) in (0..3).flat_map(|machine| FORMATS.map(|format| (machine, format))) {
        for (arguments, input) in KEYS {
            let ours = cluster.machines[machine].client.to_string();
            let ours = etcdctl(&ours, format, arguments, input);
            let theirs = etcdctl(&etcd.endpoints[machine], format, arguments, input);
            let what = format!("{arguments:?} as {format} from machine {machine}");
            assert_eq!(ours.status, theirs.status, "{what}: {}", text(&ours));
            if format == "protobuf" && ours.status.success() {
                let (ours, theirs) = (&ours.stdout[..], &theirs.stdout[..]);
                assert_eq!(
                    decoded(arguments, ours),
                    decoded(arguments, theirs),
                    "{what}"
                );
            } else {
                assert_eq!(
                    normalised(&text(&ours)),
                    normalised(&text(&theirs)),
                    "{what}"
                );
            }
        }
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_about_machines_what_it_prints_about_etcd() {
    let (cluster, etcd) = both().await;
    for (format, arguments) in FORMATS.into_iter().flat_map(|f| MACHINES.map(|m| (f, m))) {
        let ours = etcdctl(&cluster.endpoints(), format, arguments, "");
        let theirs = etcdctl(&etcd.endpoints.join(","), format, arguments, "");
        let what = format!("{arguments:?} as {format}: {}", text(&ours));
        assert_eq!(ours.status, theirs.status, "{what}");
        if format == "protobuf" && ours.status.success() {
            let (ours, theirs) = (&ours.stdout[..], &theirs.stdout[..]);
            assert_eq!(members(ours), members(theirs), "{what}");
        } else {
            assert_eq!(rows(&text(&ours)), rows(&text(&theirs)), "{what}");
        }
    }
}

/// Watches of what has happened.
const WATCHES: [&[&str]; 5] = [
    &["watch", "--prefix", "fruit/", "--rev=2"],
    &["watch", "fruit/apple", "fruit/c", "--rev=2"],
    &["watch", "fruit/last", "--rev=2"],
    &["watch", "--prefix", "--prev-kv", "fruit/", "--rev=2"],
    &["watch", "--prefix", "", "--rev=2"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_watches_keys_as_it_watches_them_in_etcd() {
    let (cluster, etcd) = both().await;
    let changes: [&[&str]; 6] = [
        &["put", "fruit/apple", "red"],
        &["put", "fruit/banana", "yellow"],
        &["put", "fruit/apple", "green"],
        &["del", "--prefix", "fruit/"],
        &["put", "fruit/apple", "brown"],
        &["put", "fruit/last", "the last one"],
    ];
    for endpoints in [cluster.endpoints(), etcd.endpoints.join(",")] {
        for change in changes {
            let done = etcdctl(&endpoints, "simple", change, "");
            assert!(done.status.success(), "{}", text(&done));
        }
    }
    for (machine, format) in
        (0..3).flat_map(|machine| ["simple", "json", "fields"].map(|format| (machine, format)))
    {
        for arguments in WATCHES {
            // A range that ends before the last key is told of the apple last.
            let ends_early = arguments.contains(&"fruit/c");
            let last = match (format, ends_early) {
                ("json", true) => "YnJvd24=",
                ("json", false) => "dGhlIGxhc3Qgb25l",
                ("fields", true) => "\"brown\"\n\"Lease\" : 0",
                ("fields", false) => "\"the last one\"\n\"Lease\" : 0",
                (_, true) => "brown",
                (_, false) => "the last one",
            };
            let ours = cluster.machines[machine].client.to_string();
            let ours = etcdctl_until(&ours, format, arguments, last);
            let theirs = etcdctl_until(&etcd.endpoints[machine], format, arguments, last);
            assert_eq!(
                normalised(&ours),
                normalised(&theirs),
                "{arguments:?} as {format}"
            );
        }
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_compacts_and_prints_what_it_prints_about_etcd() {
    let (cluster, etcd) = both().await;
    let same = |machine: usize, format: &str, arguments: &[&str]| {
        let ours = cluster.machines[machine].client.to_string();
        let ours = etcdctl(&ours, format, arguments, "");
        let theirs = etcdctl(&etcd.endpoints[machine], format, arguments, "");
        let what = format!("{arguments:?} as {format} from machine {machine}");
        assert_eq!(ours.status, theirs.status, "{what}: {}", text(&ours));
        assert_eq!(
            normalised(&text(&ours)),
            normalised(&text(&theirs)),
            "{what}"
        );
        ours.status.success()
    };
    for (revision, is_carried_out) in [("-1", false), ("0", true), ("0", false)] {
        assert_eq!(
            same(0, "simple", &["compaction", "--", revision]),
            is_carried_out
        );
    }
    // The key space begins with revision one, and each put makes one more.
    let mut newest = 1;
    for (machine, physical) in (0..3).flat_map(|machine| [(machine, false), (machine, true)]) {
        for format in ["simple", "json"] {
            for value in ["red", "green", "blue"] {
                assert!(same(machine, format, &["put", "fruit", value]));
                newest += 1;
            }
            let [old, now, future] = [newest - 1, newest, newest + 1].map(|at| at.to_string());
            let compact = |revision: &str| {
                let mut arguments = vec!["compaction", revision];
                arguments.extend(physical.then_some("--physical"));
                same(machine, format, &arguments)
            };
            assert!(compact(&old));
            assert!(!compact(&old), "it is compacted already");
            assert!(!compact(&future));
            assert!(compact(&now));
            assert!(!same(machine, format, &["get", "fruit", "--rev", &old]));
            assert!(same(machine, format, &["get", "fruit", "--rev", &now]));
        }
    }
    cluster.assert_nobody_panicked();
}

async fn both() -> (Cluster, Etcd) {
    let cluster = Cluster::start(Settings::trio()).await;
    (cluster, Etcd::start().await)
}

/// The normalised lines, or the elements of a JSON list, in an order of their own; small numbers differ by chance here.
fn rows(text: &str) -> Vec<String> {
    let mut rows: Vec<String> = normalised(text)
        .replace("},{", "},\n{")
        .lines()
        .map(|line| line.trim_matches(['[', ']', ',']).trim().to_owned())
        .map(|line| {
            let cells: Vec<&str> = line
                .split_inclusive([',', '|'])
                .map(without_number)
                .collect();
            cells.concat()
        })
        .collect();
    rows.sort();
    rows
}

/// A cell of a table, with `N` for a bare number.
fn without_number(cell: &str) -> &str {
    let bare = cell.trim_matches([' ', ',', '|']);
    match !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "N",
        false => cell,
    }
}

/// A response as text, without what is particular to one cluster.
fn decoded(arguments: &[&str], bytes: &[u8]) -> String {
    match arguments[0] {
        "put" => {
            let mut put: PutResponse = message(bytes);
            blank(&mut put.header);
            format!("{put:?}")
        }
        "get" => {
            let mut range: RangeResponse = message(bytes);
            blank(&mut range.header);
            format!("{range:?}")
        }
        "del" => {
            let mut delete: DeleteRangeResponse = message(bytes);
            blank(&mut delete.header);
            format!("{delete:?}")
        }
        "txn" => {
            let mut txn: TxnResponse = message(after_prompts(bytes));
            blank(&mut txn.header);
            for response in txn.responses.iter_mut().filter_map(|r| r.response.as_mut()) {
                match response {
                    Response::ResponseRange(range) => blank(&mut range.header),
                    Response::ResponsePut(put) => blank(&mut put.header),
                    Response::ResponseDeleteRange(delete) => blank(&mut delete.header),
                    Response::ResponseTxn(txn) => blank(&mut txn.header),
                }
            }
            format!("{txn:?}")
        }
        other => panic!("{other} has no response that is known here"),
    }
}

/// The names and the number of the members' addresses.
fn members(bytes: &[u8]) -> Vec<(String, usize, usize, bool)> {
    let list: MemberListResponse = message(bytes);
    let member = |m: rm_proto::etcdserverpb::Member| {
        (
            m.name,
            m.peer_ur_ls.len(),
            m.client_ur_ls.len(),
            m.is_learner,
        )
    };
    let mut members: Vec<_> = list.members.into_iter().map(member).collect();
    members.sort();
    members
}

/// etcdctl asks for the parts of a transaction on the same stream; the answer follows the last question.
fn after_prompts(bytes: &[u8]) -> &[u8] {
    let prompt = b"failure requests (get, put, del):\n";
    let place = bytes
        .windows(prompt.len())
        .position(|window| window == prompt);
    &bytes[place.expect("etcdctl asks") + prompt.len()..]
}

fn message<M: Message + Default>(bytes: impl Buf) -> M {
    M::decode(bytes).expect("etcdctl prints a message")
}

/// Leaves only the revision.
fn blank(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = u64::from(header.cluster_id != 0);
        header.member_id = u64::from(header.member_id != 0);
        header.raft_term = u64::from(header.raft_term != 0);
    }
}
