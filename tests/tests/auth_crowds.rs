//! Many who want to be recognised, or to change users and roles, at the same moment: none is in another's way, and who asks for too
//! much is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use rm_proto::etcdserverpb::auth_client::AuthClient;
use rm_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest, PutRequest,
    WatchCreateRequest,
};
use rm_proto::raftmachine::v1::InfoRequest;
use rm_tests::lines::in_time;
use rm_tests::raw::Raw;
use rm_tests::users::{assert_refused, authenticate, by, enable, put, service, settings, token};
use rm_tests::watching::Watching;
use rm_tests::{Cluster, Settings, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// Adds a role; who asks may.
async fn add_role(mut service: AuthClient<Channel>, root: String, name: String) {
    let add = AuthRoleAddRequest { name };
    loop {
        match service.role_add(by(&root, add.clone())).await {
            // The machine was too slow for itself, and may have added it.
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) if status.message() == "etcdserver: role name already exists" => return,
            outcome => {
                outcome.expect("root may all");
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_who_change_something_at_the_same_moment_are_not_in_each_others_way() {
    let cluster = Cluster::start(Settings::solo().with("auth.bcrypt_cost", 4)).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let root = token(&client, 0, "root").await;
    let mut adding = JoinSet::new();
    for number in 0..32 {
        let name = format!("role-{number}");
        adding.spawn(add_role(service(&client, 0), root.clone(), name));
    }
    in_time("all are added", adding.join_all()).await;
    cluster.assert_nobody_panicked();
}

/// Where whoever guesses passwords is. The others are at 127.0.0.1.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// How many guesses are under way at a time, over gRPC and over the gateway each: together they are more than may wait.
const GUESSES: usize = 90;

/// Guesses over gRPC, until it is dropped.
async fn guess(machine: SocketAddr, refused: &AtomicUsize) {
    let endpoint = Endpoint::from_shared(format!("http://{machine}")).expect("it is a URI");
    let channel = endpoint.local_address(Some(ELSEWHERE)).connect_lazy();
    loop {
        let request = AuthenticateRequest {
            name: "alice".into(),
            password: "guess".into(),
        };
        let guessed = AuthClient::new(channel.clone()).authenticate(request).await;
        note(guessed.expect_err("it is wrong").message(), refused).await;
    }
}

/// The same over the gateway, each time by a new connection.
async fn guess_by_post(machine: SocketAddr, refused: &AtomicUsize) {
    let document = r#"{"name":"alice","password":"guess"}"#;
    let length = document.len();
    let request = format!(
        "POST /v3/auth/authenticate HTTP/1.1\r\nHost: machine\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{document}"
    );
    loop {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        let bound = socket.bind((ELSEWHERE, 0).into());
        bound.expect("Linux has all of 127.0.0.0/8");
        let mut stream = socket.connect(machine).await.expect("it listens");
        let mut answer = String::new();
        let sent = stream.write_all(request.as_bytes()).await;
        sent.expect("it is taken");
        let read = stream.read_to_string(&mut answer).await;
        read.expect("it is answered");
        note(&answer, refused).await;
    }
}

async fn note(answer: &str, refused: &AtomicUsize) {
    if answer.contains("etcdserver: too many requests") {
        refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tries_many_passwords_at_once_is_refused_and_holds_up_nobody_elsewhere() {
    let cluster = Cluster::start(Settings::solo().with("auth.bcrypt_cost", 8)).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let root = token(&client, 0, "root").await;
    let machine = cluster.machines[0].client;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut guesses = JoinSet::new();
    for _ in 0..GUESSES {
        let counts = refused.clone();
        guesses.spawn(async move { guess(machine, &counts).await });
        let counts = refused.clone();
        guesses.spawn(async move { guess_by_post(machine, &counts).await });
    }
    for round in 1..=3 {
        let before = refused.load(Ordering::Relaxed);
        until("there is no room for one more guess", async || {
            let refused = refused.load(Ordering::Relaxed);
            (refused > before).then_some(()).ok_or(refused.to_string())
        })
        .await;
        let alice = authenticate(&client, 0, "alice").await;
        alice.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let change = AuthUserChangePasswordRequest {
            name: "bob".into(),
            password: "other".into(),
            ..Default::default()
        };
        let changed = service(&client, 0)
            .user_change_password(by(&root, change))
            .await;
        // There is no such user, which is seen when the password is hashed.
        assert_refused(
            changed,
            Code::FailedPrecondition,
            "etcdserver: user name not found",
        );
    }
    // None is ever right, and none gives up.
    let ended = guesses.try_join_next();
    assert!(ended.is_none(), "{ended:?}");
    guesses.abort_all();
}

/// etcd's Go client gives all its watchers up for good where their stream ends since something is exhausted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_waits_for_a_place_among_the_requests_where_it_can_be_judged() {
    let settings = settings()
        .with("timings.request_timeout_ms", 600_000)
        .with("limits.requests_max", 6);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let root = token(&client, 0, "root").await;
    let mut watching = Watching::open_by(&client, 0, &root)
        .await
        .expect("anybody may");
    // Without a leader the requests stay under way. Those from before it was lost would be given up.
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    until("there is no leader", async || {
        let info = client.admin(0).info(by(&root, InfoRequest {})).await;
        let leader = info
            .map_err(|status| status.to_string())?
            .into_inner()
            .leader;
        (leader == 0).then_some(()).ok_or(leader.to_string())
    })
    .await;
    let raw = Raw::connect(cluster.machines[0].client).await;
    let request = PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    let request = request.encode_to_vec();
    let (path, by_root) = ("/etcdserverpb.KV/Put", ("token", root.as_str()));
    let too_many = "etcdserver: too many requests";
    let mut held = Vec::new();
    until("all places are taken", async || {
        held.push(raw.call(path, &[by_root], &request).await);
        let headers = [by_root, ("grpc-timeout", "200m")];
        let status = raw.call(path, &headers, &request).await.end().await;
        let is_full = status.message() == too_many;
        is_full.then_some(()).ok_or(status.to_string())
    })
    .await;
    // Whoever looks after the machine is judged all the same.
    let info = client.admin(0).info(by(&root, InfoRequest {})).await;
    info.expect("it tells how it is");
    let watcher = WatchCreateRequest {
        key: "a".into(),
        ..Default::default()
    };
    watching.create(watcher).await;
    // By the same connection, so that the watcher is asked for before.
    for _ in 0..8 {
        let refused = put(&client, 0, &root, "a").await;
        assert_refused(refused, Code::ResourceExhausted, too_many);
    }
    held.clear();
    let told = watching.told().await;
    assert!(told.created && !told.canceled, "{told:?}");
}
