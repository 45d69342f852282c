//! Users, roles and permissions on real machines: judged the same on every machine, whoever dies meanwhile, and as etcd judges.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use rm_proto::etcdserverpb::auth_client::AuthClient;
use rm_proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest,
    AuthUserChangePasswordRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
    AuthenticateRequest, CompactionRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, MemberListRequest, PutRequest, StatusRequest, WatchCreateRequest,
};
use rm_proto::raftmachine::v1::{
    ActorsRequest, InfoRequest, KillActorRequest, LogLevelsRequest, MembersRequest,
};
use rm_tests::curl;
use rm_tests::leases::{grant, keep_alive};
use rm_tests::lines::in_time;
use rm_tests::raw::Raw;
use rm_tests::users::{
    DENIED, EMPTY, INVALID, add_user, assert_refused, authenticate, by, enable, get, put, service,
    settings, token,
};
use rm_tests::watching::Watching;
use rm_tests::{Client, Cluster, Settings, done, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_recognises_a_user_at_once_and_judges_it_alike() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    for machine in 0..3 {
        let alice = token(&client, machine, "alice").await;
        let root = token(&client, machine, "root").await;
        for other in 0..3 {
            put(&client, other, &alice, "a")
                .await
                .expect("is permitted");
            assert_eq!(
                get(&client, other, &alice, "a")
                    .await
                    .expect("is permitted"),
                1
            );
            assert_refused(put(&client, other, &alice, "c").await, DENIED.0, DENIED.1);
            assert_refused(get(&client, other, &alice, "c").await, DENIED.0, DENIED.1);
            put(&client, other, &root, "c").await.expect("root may all");
            assert_refused(client.put_on(other, "a", "").await, EMPTY.0, EMPTY.1);
            assert_refused(
                put(&client, other, "made.1", "a").await,
                INVALID.0,
                INVALID.1,
            );
            assert_refused(
                put(&client, other, "nonsense", "a").await,
                INVALID.0,
                INVALID.1,
            );
            let status = client
                .maintenance(other)
                .status(by(&alice, StatusRequest {}))
                .await;
            status.expect("anybody who is somebody may");
            let alarm = |action: AlarmAction| {
                by(
                    &alice,
                    AlarmRequest {
                        action: action.into(),
                        ..Default::default()
                    },
                )
            };
            let seen = client
                .maintenance(other)
                .alarm(alarm(AlarmAction::Get))
                .await;
            seen.expect("anybody who is somebody may");
            for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
                let changed = client.maintenance(other).alarm(alarm(action)).await;
                assert_refused(changed, DENIED.0, DENIED.1);
            }
            let kill = KillActorRequest {
                actor: "gate".into(),
                how: "panic".into(),
            };
            let kill = client.admin(other).kill_actor(by(&alice, kill)).await;
            assert_refused(kill, DENIED.0, DENIED.1);
        }
    }
    for machine in &cluster.machines {
        let health = curl::get(&format!("http://{}/health", machine.client));
        assert_eq!(health.json()["health"], "true", "probes need no permission");
    }
    let wrong = AuthenticateRequest {
        name: "alice".into(),
        password: "wrong".into(),
    };
    let failed = service(&client, 0).authenticate(wrong).await;
    let text = "etcdserver: authentication failed, invalid user ID or password";
    assert_refused(failed, Code::InvalidArgument, text);
    cluster.assert_nobody_panicked();
}

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

/// A token of a user, or of nobody while nobody needs one.
async fn token_if_needed(client: &Client, machine: usize, name: &str) -> Result<String, Status> {
    match authenticate(client, machine, name).await {
        Err(status) if status.message() == "etcdserver: authentication is not enabled" => {
            Ok("none".into())
        }
        token => token,
    }
}

async fn put_by(client: &Client, machine: usize, name: &str, key: &str) -> Result<i64, Status> {
    let token = token_if_needed(client, machine, name).await?;
    put(client, machine, &token, key).await
}

/// Takes the role from alice and gives it back, has permissions asked for and not, by one machine after the other, until it is told to stop
/// and has done each of it.
async fn change_permissions(client: Client, stop: Arc<AtomicBool>) {
    let mut done = [false; 4];
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) || done.contains(&false) {
        let machine = turn % client.machines();
        let what = turn % 4;
        turn += 1;
        let Ok(root) = token_if_needed(&client, machine, "root").await else {
            continue;
        };
        let mut service = service(&client, machine);
        let changed = match what {
            0 => {
                let revoke = AuthUserRevokeRoleRequest {
                    name: "alice".into(),
                    role: "some".into(),
                };
                let revoked = service.user_revoke_role(by(&root, revoke)).await;
                revoked.map(drop)
            }
            1 => {
                let disabled = service.auth_disable(by(&root, AuthDisableRequest {})).await;
                disabled.map(drop)
            }
            2 => {
                let grant = AuthUserGrantRoleRequest {
                    user: "alice".into(),
                    role: "some".into(),
                };
                service.user_grant_role(by(&root, grant)).await.map(drop)
            }
            _ => {
                let enabled = service.auth_enable(by(&root, AuthEnableRequest {})).await;
                enabled.map(drop)
            }
        };
        done[what] |= changed.is_ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_14571_machines_agree_though_permissions_change_while_they_die() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let stop = Arc::new(AtomicBool::new(false));
    let changer = tokio::spawn(change_permissions(client.clone(), stop.clone()));
    let writer = {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                // Permitted or not, or lost with the machine.
                let _ = put_by(&client, turn % 3, "alice", "b").await;
                turn += 1;
            }
        })
    };
    for round in 0..6 {
        let machine = round % 3;
        cluster.machines[machine].kill();
        for other in [(machine + 1) % 3, machine] {
            until("writes go on", async || {
                let written = put_by(&client, other, "root", "z").await;
                written.map_err(|status| status.to_string())
            })
            .await;
            if other != machine {
                cluster.machines[machine].start();
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("it only writes");
    changer.await.expect("it only changes permissions");

    let root = token_if_needed(&client, 0, "root").await;
    let root = root.expect("all machines are there");
    let grant = AuthUserGrantRoleRequest {
        user: "alice".into(),
        role: "some".into(),
    };
    done!(&client, &root, user_grant_role, grant);
    done!(&client, &root, auth_enable, AuthEnableRequest {});
    for machine in 0..3 {
        let alice = token(&client, machine, "alice").await;
        put(&client, machine, &alice, "b")
            .await
            .expect("is permitted");
        assert_refused(put(&client, machine, &alice, "z").await, DENIED.0, DENIED.1);
    }
    let root = token(&client, 0, "root").await;
    done!(&client, &root, auth_disable, AuthDisableRequest {});
    // The tables of users and roles, too.
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_lives_through_changes_of_users_and_is_judged_by_them() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    grant(&client, 7, 600).await;
    enable(&client, "a", "c").await;
    let (alice, root) = (
        token(&client, 1, "alice").await,
        token(&client, 1, "root").await,
    );
    let mut watching = Watching::open_by(&client, 1, &alice)
        .await
        .expect("anybody may");
    let (renewals, taken) = tokio::sync::mpsc::channel(1);
    let taken = tokio_stream::wrappers::ReceiverStream::new(taken);
    let mut answers = keep_alive(&client, 1, by(&alice, taken))
        .await
        .expect("anybody may");
    let watcher = WatchCreateRequest {
        key: "a".into(),
        range_end: "c".into(),
        ..Default::default()
    };
    for round in 0..3 {
        watching.create(watcher.clone()).await;
        let told = watching.told().await;
        assert!(told.created && !told.canceled, "{told:?}");
        let renewal = LeaseKeepAliveRequest { id: 7 };
        renewals.send(renewal).await.expect("the stream is open");
        let renewed = answers.message().await.expect("is permitted");
        assert_eq!(renewed.map(|it| it.ttl), Some(600));
        add_user(&client, &root, &format!("user-{round}"), "some").await;
    }
    let revoke = AuthUserRevokeRoleRequest {
        name: "alice".into(),
        role: "some".into(),
    };
    done!(&client, &root, user_revoke_role, revoke);
    until("the stream is judged by the change", async || {
        watching.create(watcher.clone()).await;
        let told = watching.told().await;
        told.canceled
            .then_some(())
            .ok_or_else(|| format!("{told:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_q8m4_xhhv_38mg_nobody_is_told_of_members_leases_or_alarms() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    grant(&client, 7, 600).await;
    enable(&client, "a", "c").await;
    let alice = token(&client, 1, "alice").await;
    let members = MemberListRequest::default();
    let told = client.cluster(1).member_list(members).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let told = client.cluster(1).member_list(by(&alice, members)).await;
    told.expect("anybody who is somebody may");
    let leases = || rm_tests::leases::service(&client, 1);
    let told = leases().lease_leases(LeaseLeasesRequest {}).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let list = async || {
        leases()
            .lease_leases(by(&alice, LeaseLeasesRequest {}))
            .await
    };
    let told = list().await.expect("nothing hangs on it");
    assert_eq!(told.into_inner().leases.len(), 1);
    let look = LeaseTimeToLiveRequest { id: 7, keys: false };
    let told = leases().lease_time_to_live(look).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    // How much is left says nothing of keys; those that hang on it are for those who may read them.
    let put = PutRequest {
        key: "z".into(),
        value: "not hers".into(),
        lease: 7,
        ..PutRequest::default()
    };
    let root = token(&client, 1, "root").await;
    let done = client.kv(1).put(by(&root, put)).await;
    done.expect("root may");
    let told = leases().lease_time_to_live(by(&alice, look)).await;
    told.expect("anybody who is somebody may");
    assert_refused(list().await, DENIED.0, DENIED.1);
    let with_keys = LeaseTimeToLiveRequest { id: 7, keys: true };
    let told = leases().lease_time_to_live(by(&alice, with_keys)).await;
    assert_refused(told, DENIED.0, DENIED.1);
    let told = service(&client, 1).auth_status(AuthStatusRequest {}).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let told = service(&client, 1)
        .auth_status(by(&alice, AuthStatusRequest {}))
        .await;
    assert_refused(told, DENIED.0, DENIED.1);
    let told = client.maintenance(1).alarm(AlarmRequest::default()).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let told = client.maintenance(1).status(StatusRequest {}).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    assert_refused(client.info(1).await, EMPTY.0, EMPTY.1);
    let mut admin = client.admin(1);
    let told = admin.info(by(&alice, InfoRequest {})).await;
    told.expect("anybody who is somebody may");
    let told = admin.actors(ActorsRequest {}).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let told = admin.log_levels(LogLevelsRequest {}).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let told = admin.members(MembersRequest {}).await;
    told.expect("a machine that is to join must find the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_q8m4_xhhv_38mg_only_administrators_compact() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let revision = client
        .put("a", "kept")
        .await
        .header
        .expect("each has one")
        .revision;
    enable(&client, "a", "c").await;
    let compaction = CompactionRequest {
        revision,
        physical: false,
    };
    let told = client.kv(1).compact(compaction).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
    let alice = token(&client, 1, "alice").await;
    let told = client.kv(1).compact(by(&alice, compaction)).await;
    assert_refused(told, DENIED.0, DENIED.1);
    let root = token(&client, 1, "root").await;
    let told = client.kv(1).compact(by(&root, compaction)).await;
    told.expect("root may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_never_changed_to_none() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let root = token(&client, 1, "root").await;
    for hashed_password in ["", "JDJhJDA0JGFiY2RlZmdoaWprbG1ub3BxcnN0dQ=="] {
        let change = AuthUserChangePasswordRequest {
            name: "alice".into(),
            password: String::new(),
            hashed_password: hashed_password.into(),
        };
        let told = service(&client, 1)
            .user_change_password(by(&root, change))
            .await;
        let refusal = told.expect_err("there is no password");
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    }
    // It is what it was.
    token(&client, 1, "alice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_xg4h_6gfc_h4m8_a_watch_needs_the_whole_range_and_a_lease_all_its_keys() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    grant(&client, 7, 600).await;
    enable(&client, "a", "").await;
    let alice = token(&client, 1, "alice").await;
    let root = token(&client, 1, "root").await;
    for (key, range_end, is_permitted) in [
        ("a", "", true),
        ("a", "\0", false),
        ("a", "b", false),
        ("a", "a\0", true),
        ("b", "", false),
        ("", "\0", false),
    ] {
        let mut watching = Watching::open_by(&client, 1, &alice)
            .await
            .expect("anybody may");
        let request = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            ..Default::default()
        };
        watching.create(request).await;
        let told = watching.told().await;
        assert!(told.created);
        assert_eq!(
            told.canceled, !is_permitted,
            "{key:?} to {range_end:?}: {told:?}"
        );
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(told.cancel_reason, if is_permitted { "" } else { reason });
    }
    let renew = async |token: &str| {
        let request = tokio_stream::iter([LeaseKeepAliveRequest { id: 7 }]);
        let mut answers = keep_alive(&client, 1, by(token, request)).await?;
        answers
            .message()
            .await
            .map(|answer| answer.map(|it| it.ttl))
    };
    let attach = async |token: &str, key: &'static str| {
        let request = PutRequest {
            key: key.into(),
            lease: 7,
            ..Default::default()
        };
        client.kv(1).put(by(token, request)).await
    };
    attach(&alice, "a").await.expect("is permitted");
    assert_eq!(renew(&alice).await.expect("is permitted"), Some(600));
    attach(&root, "b").await.expect("root may all");
    assert_refused(renew(&alice).await, DENIED.0, DENIED.1);
    assert_refused(attach(&alice, "a").await, DENIED.0, DENIED.1);
    assert_eq!(renew(&root).await.expect("root may all"), Some(600));
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
