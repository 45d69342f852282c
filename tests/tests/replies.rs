//! Replies that clients have yet to take: on real machines they take no more memory than they may, and nobody holds it for ever.

use std::io::Read;

use bytes::Bytes;
use prost::Message;
use rm_proto::etcdserverpb::{
    DeleteRangeRequest, LeaseLeasesRequest, PutRequest, RangeRequest, RangeResponse,
};
use rm_proto::v3electionpb::{LeaderKey, LeaderResponse};
use rm_tests::curl::get;
use rm_tests::leases::{self, grant};
use rm_tests::lines::{Lines, await_standing, ended, leader, refusal, standing};
use rm_tests::prometheus::Page;
use rm_tests::raw::{Call, Raw};
use rm_tests::unread::{post, read_line, until_there};
use rm_tests::{Client, Cluster, Settings, until};
use tonic::{Code, Status, Streaming};

const MIB: usize = 1 << 20;

/// What all replies of the machine may take. A quarter of it is for small ones alone.
const REPLIES_BYTES: usize = 64 * MIB;

/// The values that a whole list has, each of [`MIB`].
const VALUES: usize = 12;

/// How many whole lists fit into the memory for large replies at once.
const LISTS: usize = 3;

/// How many replies of one value fit into the memory for small ones.
const SMALL: usize = 15;

/// What is left for the reply of a lock whose name has as much.
const UNTOLD_BYTES: usize = 64 << 10;

/// Longer than any test takes.
const LONG_MS: u64 = 600_000;

/// What comes to those who take nothing: the least with which HTTP takes a piece of an answer as a whole.
const DEAF_BYTES: u32 = 1;

const RANGE: &str = "/etcdserverpb.KV/Range";

const REFUSED: &str = "raftmachine: this machine holds as many replies as it may (limits.replies_bytes_max) until their clients take \
                       them: ask again later, or for fewer keys at a time";

const AFTER: &str =
    "raftmachine: the request was carried out, and this machine had no memory left for its reply";

const STOPPED: &str = "etcdserver: server stopped";

/// A machine with a list of large values and a small key beside it.
async fn machine(settings: Settings) -> (Cluster, Client) {
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for number in 0..VALUES {
        client.put(key(number), vec![b'v'; MIB]).await;
    }
    client.put("small", "value").await;
    (cluster, client)
}

/// One that waits for its clients, and lets them wait, as long as a test lasts.
fn patient() -> Settings {
    Settings::solo()
        .with("limits.replies_bytes_max", REPLIES_BYTES)
        .with("timings.request_timeout_ms", LONG_MS)
        .with("timings.reply_stall_ms", LONG_MS)
}

fn key(number: usize) -> String {
    format!("list/{number:02}")
}

fn list() -> RangeRequest {
    RangeRequest {
        key: "list/".into(),
        range_end: "list0".into(),
        ..Default::default()
    }
}

fn value() -> RangeRequest {
    RangeRequest {
        key: key(0).into(),
        ..Default::default()
    }
}

/// Who asks for this on a connection of its own, and takes nothing of the answer before it reads.
async fn ask(cluster: &Cluster, request: &RangeRequest) -> (Raw, Call) {
    call(cluster, RANGE, request).await
}

async fn call(cluster: &Cluster, path: &str, request: &impl Message) -> (Raw, Call) {
    let raw = Raw::connect(cluster.machines[0].client).await;
    let call = raw.call(path, &[], &request.encode_to_vec()).await;
    (raw, call)
}

/// The same, who lets next to nothing come.
async fn ask_deaf(cluster: &Cluster, request: &RangeRequest) -> (Raw, Call) {
    call_deaf(cluster, RANGE, request).await
}

async fn call_deaf(cluster: &Cluster, path: &str, request: &impl Message) -> (Raw, Call) {
    let raw = Raw::connect_deaf(cluster.machines[0].client, DEAF_BYTES).await;
    let call = raw.call(path, &[], &request.encode_to_vec()).await;
    (raw, call)
}

fn values_in(message: Result<Bytes, Status>) -> usize {
    let response = RangeResponse::decode(message.expect("it is answered"));
    let kvs = response.expect("it is a range").kvs;
    assert!(kvs.iter().all(|kv| kv.value == vec![b'v'; MIB]));
    kvs.len()
}

fn metric(cluster: &Cluster, name: &str) -> usize {
    number(cluster, &format!("raft_machine_replies_{name}"))
}

fn number(cluster: &Cluster, name: &str) -> usize {
    let url = format!("http://{}/metrics", cluster.machines[0].client);
    let page = Page::parse(&get(&url).body).unwrap_or_else(|error| panic!("{error}"));
    page.value(name, &[]) as usize
}

/// As many who take nothing of a list as there is room for.
async fn fill(cluster: &Cluster) -> Vec<(Raw, Call)> {
    let mut lists = Vec::new();
    for _ in 0..LISTS {
        lists.push(ask(cluster, &list()).await);
    }
    until("there is no room for another list", async || {
        let held = metric(cluster, "bytes");
        let is_full = held > LISTS * VALUES * MIB;
        is_full.then_some(()).ok_or(held.to_string())
    })
    .await;
    lists
}

async fn until_metric(cluster: &Cluster, name: &str, expected: usize) {
    until(&format!("{name} is {expected}"), async || {
        let found = metric(cluster, name);
        (found == expected).then_some(()).ok_or(found.to_string())
    })
    .await;
}

fn told(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_replies_at_once_all_arrive_and_take_no_more_memory_than_they_may() {
    const CLIENTS: usize = 30;
    let (cluster, client) = machine(patient()).await;
    let process = cluster.machines[0].process();
    process.forget_peak();
    let before = process.peak_bytes();
    let mut asked = Vec::new();
    for _ in 0..CLIENTS {
        asked.push(ask(&cluster, &list()).await);
    }
    until_metric(&cluster, "waiting", CLIENTS - LISTS).await;
    let held = metric(&cluster, "bytes");
    assert!(LISTS * VALUES * MIB < held && held < REPLIES_BYTES);
    // Nobody who wants little waits for them.
    let small = client.get_on(0, "small", false).await;
    assert!(small.is_ok_and(|kv| kv.is_some_and(|kv| kv.value == "value")));
    let reading = asked.into_iter().map(|(raw, mut call)| {
        tokio::spawn(async move {
            let _connection = raw;
            values_in(call.message().await)
        })
    });
    for read in reading.collect::<Vec<_>>() {
        assert_eq!(read.await.expect("it is answered"), VALUES);
    }
    until_metric(&cluster, "bytes", 0).await;
    assert_eq!(metric(&cluster, "refused_total"), 0);
    // Without a bound they take 360 MiB. The pages of the state's file count, too.
    let grown = process.peak_bytes().saturating_sub(before);
    let most = REPLIES_BYTES + 40 * MIB;
    assert!(grown < most as u64, "it took {} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_never_reads_is_given_up_and_others_are_served() {
    // Twice as many as there is room for.
    const SILENT: usize = 2 * LISTS;
    let settings = patient().with("timings.reply_stall_ms", 2_000);
    let (cluster, client) = machine(settings).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(ask(&cluster, &list()).await);
    }
    let (_raw, mut call) = ask(&cluster, &list()).await;
    assert_eq!(values_in(call.message().await), VALUES);
    until_metric(&cluster, "given_up_total", SILENT).await;
    for (raw, call) in silent {
        // However it ends: the machine closes it.
        let _ = raw.ended().await;
        drop(call);
    }
    until_metric(&cluster, "bytes", 0).await;
    assert!(client.get_on(0, "small", false).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_too_late_is_told_so() {
    // The connection is closed only after the same time again.
    let settings = patient().with("timings.reply_stall_ms", 10_000);
    let (cluster, _client) = machine(settings).await;
    let (_raw, call) = ask(&cluster, &list()).await;
    until_metric(&cluster, "given_up_total", 1).await;
    assert_eq!(call.end().await.code(), Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lets_not_even_little_come_is_sent_away() {
    let settings = patient().with("timings.reply_stall_ms", 500);
    let (cluster, client) = machine(settings).await;
    let small = RangeRequest {
        key: "small".into(),
        ..Default::default()
    };
    let (raw, call) = ask_deaf(&cluster, &small).await;
    let _ = raw.ended().await;
    drop(call);
    until_metric(&cluster, "bytes", 0).await;
    assert!(client.get_on(0, "small", false).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_reply_turns_out_to_have_no_room_is_told_that_it_was_carried_out() {
    let (cluster, client) = machine(patient()).await;
    let _lists = fill(&cluster).await;
    let delete = DeleteRangeRequest {
        key: list().key,
        range_end: list().range_end,
        prev_kv: true,
    };
    let refused = client.kv(0).delete_range(delete).await;
    let refused = refused.expect_err("its reply has no room");
    assert_eq!(told(&refused), (Code::ResourceExhausted, AFTER));
    assert!(
        client
            .get_on(0, key(0), false)
            .await
            .is_ok_and(|kv| kv.is_none())
    );

    assert_eq!(metric(&cluster, "refused_total"), 1);
}

/// A write that tells what was before.
fn telling_put() -> PutRequest {
    PutRequest {
        key: "small".into(),
        value: "other".into(),
        prev_kv: true,
        ..Default::default()
    }
}

/// As many who take nothing of one value as there is room for: there is none for one more.
async fn fill_but_for_little(cluster: &Cluster) -> Vec<(Raw, Call)> {
    let mut values = Vec::new();
    for _ in 0..SMALL {
        values.push(ask_deaf(cluster, &value()).await);
    }
    until("no value has room beside them", async || {
        let held = metric(cluster, "bytes");
        (held > SMALL * MIB).then_some(()).ok_or(held.to_string())
    })
    .await;
    values
}

/// The same until less than so much is left for small replies.
async fn fill_but_for(cluster: &Cluster, client: &Client, bytes: usize) -> Vec<(Raw, Call)> {
    let mut values = fill_but_for_little(cluster).await;
    let left = || REPLIES_BYTES / 4 - metric(cluster, "bytes");
    client.put("rest", vec![b'v'; left() - bytes]).await;
    let rest = RangeRequest {
        key: "rest".into(),
        ..Default::default()
    };
    values.push(ask_deaf(cluster, &rest).await);
    until("little is left", async || {
        let left = left();
        (left < bytes).then_some(()).ok_or(left.to_string())
    })
    .await;
    values
}

/// As many who take nothing of one value as there is room for, and one who waits.
async fn fill_small(cluster: &Cluster) -> Vec<(Raw, Call)> {
    let mut values = Vec::new();
    for _ in 0..=SMALL {
        values.push(ask_deaf(cluster, &value()).await);
    }
    until_metric(cluster, "waiting", 1).await;
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_room_to_tell_before_it_is_carried_out() {
    let (cluster, client) = machine(patient()).await;
    let values = fill_small(&cluster).await;
    let writer = client.clone();
    let put = tokio::spawn(async move { writer.kv(0).put(telling_put()).await });
    until_metric(&cluster, "waiting", 2).await;
    // What tells nothing waits for nobody.
    client.put("other", "value").await;
    drop(values);
    let response = put.await.expect("it ends").expect("there is room again");
    let before = response.into_inner().prev_kv.expect("it was there");
    assert_eq!(before.value, "value");
    until_metric(&cluster, "bytes", 0).await;
}

/// It counts four times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_by_json_keeps_what_was_set_aside_for_it_however_many_wait_for_room() {
    let (cluster, _client) = machine(patient()).await;
    let mut values = fill_but_for_little(&cluster).await;
    values.push(ask_deaf(&cluster, &value()).await);
    until_metric(&cluster, "waiting", 1).await;
    let put = r#"{"key":"c21hbGw=","value":"b3RoZXI=","prev_kv":true}"#;
    let mut stream = post(cluster.machines[0].client, "/v3/kv/put", put);
    for waiting in 2..=4 {
        until_metric(&cluster, "waiting", waiting).await;
        values.push(ask_deaf(&cluster, &value()).await);
    }
    // Enough for the first, who waits for twice a value, and for the write, and not for those behind them.
    drop(values.drain(..2));
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it is answered");
    assert!(text.contains(r#""value":"dmFsdWU=""#), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_too_long_for_room_to_tell_is_refused_and_not_carried_out() {
    let settings = patient().with("timings.request_timeout_ms", 2_000);
    let (cluster, client) = machine(settings).await;
    // Less than any such write wants.
    let values = fill_but_for(&cluster, &client, 2_048).await;
    let refused = client.kv(0).put(telling_put()).await;
    let refused = refused.expect_err("there is no room");
    assert_eq!(told(&refused), (Code::ResourceExhausted, REFUSED));
    drop(values);
    until_metric(&cluster, "bytes", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_could_not_be_told_of_leaves_the_line() {
    let (cluster, client) = machine(patient()).await;
    let values = fill_but_for(&cluster, &client, UNTOLD_BYTES).await;
    let name = "l".repeat(UNTOLD_BYTES);
    grant(&client, 7, 600).await;
    let lines = Lines::new([cluster.machines[0].client]);
    let (code, text) = refusal(lines.lock(0, &name, 7).await);
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, AFTER));
    drop(values);
    await_standing(&client, &name, 0).await;
}

/// The machine that was asked applies late: by the time that it knows, the place was shared, left, and taken anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_could_not_be_told_of_takes_none_from_a_later_call() {
    let (cluster, client) = machine(patient().of(3)).await;
    let _values = fill_but_for(&cluster, &client, UNTOLD_BYTES).await;
    let name = "l".repeat(UNTOLD_BYTES);
    grant(&client, 7, 600).await;
    assert_eq!(standing(&client, 0, &name).await.len(), 0);
    let before = transactions(&cluster, 1);
    let known = transactions(&cluster, 0);
    client
        .arm_fault(0, "applier", "transaction", "delay:10000", 1)
        .await;
    let lines = Lines::new(cluster.machines.iter().map(|machine| machine.client));
    let untold = tokio::spawn({
        let (lines, name) = (lines.clone(), name.clone());
        async move { lines.lock(0, &name, 7).await }
    });
    until("the place is taken", async || {
        let keys = standing(&client, 1, &name).await.len();
        (keys == 1).then_some(()).ok_or(format!("{keys} keys"))
    })
    .await;
    let shared = lines.lock(1, &name, 7).await.expect("it is the first");
    lines.unlock(1, shared).await.expect("it is there");
    let held = lines.lock(1, &name, 7).await.expect("it is the first");
    assert_eq!(transactions(&cluster, 0), known, "it knows too early");
    let (code, text) = refusal(ended("it is told", untold).await);
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, AFTER));
    // Those of the three calls, and the one by which the first leaves.
    until_transactions(&cluster, 1, before + 4).await;
    let keys = standing(&client, 1, &name).await;
    assert!(keys == [held], "the lock is held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_could_not_be_told_of_once_more_stays_with_the_call_that_was_told() {
    let (cluster, client) = machine(patient()).await;
    grant(&client, 7, 600).await;
    let lines = Lines::new([cluster.machines[0].client]);
    let name = "l".repeat(UNTOLD_BYTES);
    let held = lines.lock(0, &name, 7).await.expect("it is the first");
    let values = fill_but_for(&cluster, &client, UNTOLD_BYTES).await;
    let before = transactions(&cluster, 0);
    let (code, text) = refusal(lines.lock(0, &name, 7).await);
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, AFTER));
    until_transactions(&cluster, 0, before + 2).await;
    drop(values);
    let keys = standing(&client, 0, &name).await;
    assert!(keys == [held], "the lock is held");
}

/// How many transactions a machine has applied.
fn transactions(cluster: &Cluster, machine: usize) -> usize {
    Page::of(&cluster.machines[machine]).value("etcd_mvcc_txn_total", &[]) as usize
}

async fn until_transactions(cluster: &Cluster, machine: usize, expected: usize) {
    until(&format!("{expected} are applied"), async || {
        let found = transactions(cluster, machine);
        (found == expected).then_some(()).ok_or(found.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waits_too_long_for_room_is_refused() {
    let settings = patient().with("timings.request_timeout_ms", 1_000);
    let (cluster, client) = machine(settings).await;
    let _lists = fill(&cluster).await;
    let (_raw, call) = ask(&cluster, &list()).await;
    let refused = call.end().await;
    assert_eq!(metric(&cluster, "refused_total"), 1);
    assert_eq!(told(&refused), (Code::ResourceExhausted, REFUSED));
    assert!(client.get_on(0, "small", false).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_holds_the_memory_that_it_takes_until_it_is_read() {
    const VALUES: usize = 4;
    let (cluster, client) = machine(patient()).await;
    let range = r#"{"key":"bGlzdC8=","range_end":"bGlzdDA=","limit":4}"#;
    grant(&client, 7, 600).await;
    for number in 0..VALUES {
        let key = format!("{number}{}", "k".repeat(MIB));
        leases::put(&client, &key, 7).await;
    }
    let keys = r#"{"ID":"7","keys":true}"#;
    for (path, body) in [("/v3/kv/range", range), ("/v3/lease/timetolive", keys)] {
        let mut stream = post(cluster.machines[0].client, path, body);
        until("its memory is held", async || {
            let held = metric(&cluster, "bytes");
            (held > 4 * VALUES * MIB)
                .then_some(())
                .ok_or(held.to_string())
        })
        .await;
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it is answered");
        let bytes = text.len();
        assert!(bytes > VALUES * MIB && text.ends_with("}"), "{bytes}");
        until_metric(&cluster, "bytes", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_leases_holds_its_memory_however_short_it_is() {
    const LEASES: usize = 50;
    let (cluster, client) = machine(patient()).await;
    for id in 1..=LEASES {
        grant(&client, id as i64, 600).await;
    }
    let path = "/etcdserverpb.Lease/LeaseLeases";
    let list = call_deaf(&cluster, path, &LeaseLeasesRequest {}).await;
    until("its memory is held", async || {
        let held = metric(&cluster, "bytes");
        // 16 bytes each as they are read, and as they are encoded.
        (held > 2 * 16 * LEASES)
            .then_some(())
            .ok_or(held.to_string())
    })
    .await;
    drop(list);
    until_metric(&cluster, "bytes", 0).await;
}

const OBSERVE: &str = "/v3electionpb.Election/Observe";

/// A machine with a leader of an election, whose value has so many bytes.
async fn machine_with_a_leader(
    settings: Settings,
    value_bytes: usize,
) -> (Cluster, Lines, LeaderKey) {
    let (cluster, client) = machine(settings).await;
    grant(&client, 7, 600).await;
    let lines = Lines::new([cluster.machines[0].client]);
    let value = "v".repeat(value_bytes);
    let led = lines.campaign(0, "e", 7, &value).await.expect("it leads");
    (cluster, lines, led)
}

/// The value of whoever leads, as an observer is told it next.
async fn value_told(observing: &mut Streaming<LeaderResponse>) -> Result<Bytes, Status> {
    let told = observing.message().await?.expect("it goes on");
    Ok(told.kv.expect("somebody leads").value)
}

/// An observer that has yet to be told a value, for which there is no room, and those who hold that.
async fn waiting_observer(
    cluster: &Cluster,
    lines: &Lines,
    led: &LeaderKey,
) -> (Streaming<LeaderResponse>, Vec<(Raw, Call)>) {
    let mut observing = lines.observe(0, "e").await.expect("it is open");
    value_told(&mut observing).await.expect("somebody leads");
    let values = fill_but_for_little(cluster).await;
    let value = "w".repeat(MIB);
    lines.proclaim(0, led, &value).await.expect("it leads");
    until_metric(cluster, "waiting", 1).await;
    (observing, values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_observer_is_told_counts_until_it_is_taken() {
    // A small one is gathered with others, and a large one is handed over at once.
    for value_bytes in [1_000, MIB] {
        let (cluster, lines, _) = machine_with_a_leader(patient(), value_bytes).await;
        let deaf = call_deaf(&cluster, OBSERVE, &leader("e")).await;
        until("what it is told is counted", async || {
            let held = metric(&cluster, "bytes");
            (held > value_bytes).then_some(()).ok_or(held.to_string())
        })
        .await;
        let held = metric(&cluster, "bytes");
        assert!(held > value_bytes, "it is no more: {held}");
        drop(deaf);
        until_metric(&cluster, "bytes", 0).await;
        let mut observing = lines.observe(0, "e").await.expect("it is open");
        let told = value_told(&mut observing).await.expect("somebody leads");
        assert_eq!(told.len(), value_bytes);
        // While it waits for the next.
        until_metric(&cluster, "bytes", 0).await;
    }
}

/// HTTP/1 copies what it sends, so that nothing is known of the bytes themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_observer_by_http_1_is_told_counts_until_it_is_taken() {
    // More than the kernel has room for.
    const VALUE_BYTES: usize = 7 * MIB;
    // More than the head of the answer.
    const BEGUN_BYTES: usize = 4_096;
    let settings = patient().with("limits.request_bytes_max", 8 * MIB);
    let (cluster, _lines, _) = machine_with_a_leader(settings, VALUE_BYTES).await;
    let mut stream = post(
        cluster.machines[0].client,
        "/v3/election/observe",
        r#"{"name":"ZQ=="}"#,
    );
    until_there(&stream, BEGUN_BYTES).await;
    let held = metric(&cluster, "bytes");
    assert!(held > VALUE_BYTES, "it is no more: {held}");
    read_line(&mut stream);
    // While it waits for the next.
    until_metric(&cluster, "bytes", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_takes_nothing_is_sent_away() {
    let settings = patient().with("timings.reply_stall_ms", 2_000);
    let (cluster, _lines, _) = machine_with_a_leader(settings, MIB).await;
    let (raw, call) = call_deaf(&cluster, OBSERVE, &leader("e")).await;
    let _ = raw.ended().await;
    drop(call);
    until_metric(&cluster, "bytes", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_waits_for_room_longer_than_any_request() {
    let settings = patient().with("timings.request_timeout_ms", 1_000);
    let (cluster, lines, led) = machine_with_a_leader(settings, MIB).await;
    let (mut observing, values) = waiting_observer(&cluster, &lines, &led).await;
    // Who came later has waited in vain.
    let (_raw, call) = ask_deaf(&cluster, &value()).await;
    assert_eq!(told(&call.end().await), (Code::ResourceExhausted, REFUSED));
    drop(values);
    let told = value_told(&mut observing).await.expect("it goes on");
    assert_eq!(told, vec![b'w'; MIB]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_observer_waits_for_room_for_keeps_no_events_from_watchers() {
    let (cluster, lines, led) = machine_with_a_leader(patient(), MIB).await;
    let (_observing, _values) = waiting_observer(&cluster, &lines, &led).await;
    until("nothing waits for watchers", async || {
        let waits = number(&cluster, "raft_machine_watch_backlog_bytes");
        (waits == 0).then_some(()).ok_or(waits.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_waits_for_room_is_told_that_the_machine_stops() {
    let (mut cluster, lines, led) = machine_with_a_leader(patient(), MIB).await;
    let (mut observing, _values) = waiting_observer(&cluster, &lines, &led).await;
    let (_, end) = tokio::join!(cluster.machines[0].terminate(), value_told(&mut observing));
    let end = end.expect_err("it stops");
    assert_eq!(told(&end), (Code::Unavailable, STOPPED));
}
