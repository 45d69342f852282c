//! What a machine knows of users and tokens once its process was started again, or its state written anew.

use std::future::Future;

use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use rm_proto::etcdserverpb::cluster_client::ClusterClient;
use rm_proto::etcdserverpb::kv_client::KvClient;
use rm_proto::etcdserverpb::lease_client::LeaseClient;
use rm_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use rm_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthUserChangePasswordRequest, AuthenticateRequest, CompactionRequest,
    DefragmentRequest, LeaseGrantRequest, LeaseKeepAliveRequest, MemberListRequest,
    MemberRemoveRequest, MoveLeaderRequest, SnapshotRequest, WatchCreateRequest,
};
use rm_proto::raftmachine::v1::admin_client::AdminClient;
use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_proto::raftmachine::v1::{ChangeMembersRequest, SetLogLevelRequest, TransferRequest};
use rm_tests::lines::ended;
use rm_tests::machine::Machine;
use rm_tests::members::{id_of, members};
use rm_tests::prometheus::Page;
use rm_tests::users::{
    EMPTY, INVALID, LEADERLESS, PASSWORD, assert_leaderless, assert_refused, authenticate, by,
    enable, get, put, service, settings, token,
};
use rm_tests::watching::Watching;
use rm_tests::{Cluster, Settings, curl, done, until};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_a_defragmentation() {
    let cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    for machine in 0..3 {
        let alice = token(&client, machine, "alice").await;
        let root = token(&client, machine, "root").await;
        let request = by(&root, DefragmentRequest {});
        let done = client.maintenance(machine).defragment(request).await;
        done.expect("root may all");
        for known in [&alice, &root] {
            put(&client, machine, known, "a")
                .await
                .expect("nothing has ended the token");
        }
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_the_password_and_with_the_process_that_knew_it() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let alice = token(&client, 0, "alice").await;
    let root = token(&client, 0, "root").await;
    put(&client, 2, &alice, "a").await.expect("is permitted");
    cluster.machines[2].kill();
    cluster.machines[2].start();
    until("it is told to come again", async || {
        match put(&client, 2, &alice, "a").await {
            Err(status) if (status.code(), status.message()) == INVALID => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Whoever brings a token that has ended may still prove itself.
    let proof = AuthenticateRequest {
        name: "alice".into(),
        password: PASSWORD.into(),
    };
    let proved = service(&client, 2).authenticate(by(&alice, proof)).await;
    proved.expect("the token does not matter");
    let again = token(&client, 2, "alice").await;
    put(&client, 2, &again, "a").await.expect("is permitted");
    put(&client, 0, &alice, "a")
        .await
        .expect("this machine knows it still");
    let change = AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "another".into(),
        ..Default::default()
    };
    done!(&client, &root, user_change_password, change);
    for machine in 0..3 {
        // Once it has applied the change.
        until("no token stands for the user", async || {
            match put(&client, machine, &again, "a").await {
                Err(status) if (status.code(), status.message()) == INVALID => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    assert!(authenticate(&client, 0, "alice").await.is_err());
}

/// The commit index that is durable lags behind: what the log ends with is applied again as if it were new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_log_ends_with_ends_with_the_process() {
    let settings = Settings::solo()
        .with("auth.bcrypt_cost", 4)
        .with("storage.checkpoint_interval_ms", 3_600_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let alice = token(&client, 0, "alice").await;
    cluster.kill_all();
    cluster.machines[0].start();
    until("it is told to come again", async || {
        match put(&client, 0, &alice, "a").await {
            Err(status) if (status.code(), status.message()) == INVALID => Ok(()),
            Ok(_) => panic!("the token lives again"),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// The state of the last checkpoint may be from before permissions were asked for, and the log tells only what is known to be committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_starts_lets_nobody_in_before_it_knows_whether_permissions_are_asked_for() {
    let settings = settings().with("storage.checkpoint_interval_ms", 3_600_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("c", "secret").await;
    enable(&client, "a", "c").await;
    let root = token(&client, 0, "root").await;
    assert_eq!(get(&client, 0, &root, "c").await.expect("root may all"), 1);
    cluster.kill_all();
    cluster.machines[0].start();
    until("it answers", async || {
        match client.get_on(0, "c", true).await {
            Err(status) if LEADERLESS.contains(&status.message()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_leaderless(client.status(0).await);
    let members = MemberListRequest::default();
    assert_leaderless(client.cluster(0).member_list(members).await);
    let taken = client.maintenance(0).snapshot(SnapshotRequest {}).await;
    assert_leaderless(taken.map(drop));
    let level = SetLogLevelRequest {
        actor: "gate".into(),
        level: "trace".into(),
    };
    let set = client.admin(0).set_log_level(level.clone()).await;
    assert_leaderless(set);
    // Its watchers are not refused for good, or its client would not ask for them again elsewhere.
    let mut watching = Watching::open(&client, 0).await.expect("anybody may");
    watching.create(all()).await;
    assert_leaderless(watching.response().await);

    cluster.machines[1].start();
    cluster.machines[2].start();
    let root = token(&client, 0, "root").await;
    let taken = by(&root, SnapshotRequest {});
    let taken = client.maintenance(0).snapshot(taken).await;
    taken.map(drop).expect("root may all");
    let set = client.admin(0).set_log_level(by(&root, level)).await;
    set.expect("root may all");
    let taken = client.maintenance(0).snapshot(SnapshotRequest {}).await;
    assert_refused(taken.map(drop), EMPTY.0, EMPTY.1);
}

/// A domain that never asked for permissions goes on to be read where there is no leader, also after its machines were started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_starts_and_has_seen_no_change_of_users_serves_what_it_has() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    assert!(client.get(0, "key").await.is_some());
    cluster.kill_all();
    cluster.machines[0].start();
    until("it answers", async || {
        let told = client.status(0).await;
        told.map_err(|status| status.to_string())
    })
    .await;
    let read = client.get_on(0, "key", true).await;
    read.expect("nobody needs permissions");
    let members = MemberListRequest::default();
    let told = client.cluster(0).member_list(members).await;
    told.expect("nobody needs permissions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_stream_of_a_watcher_that_cannot_be_judged_yet() {
    let settings = settings()
        .with("storage.checkpoint_interval_ms", 3_600_000)
        .with("timings.request_timeout_ms", 3_600_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    enable(&client, "a", "c").await;
    let root = token(&client, 0, "root").await;
    get(&client, 0, &root, "a").await.expect("root may all");
    cluster.kill_all();
    cluster.machines[0].start();
    let mut watching = until("a stream is open", async || {
        let watching = Watching::open(&client, 0).await;
        watching.map_err(|status| status.to_string())
    })
    .await;
    watching.create(all()).await;
    // What was sent before is heard before.
    curl::get(&format!("http://{}/version", cluster.machines[0].client));
    let (ended, _) = tokio::join!(watching.response(), cluster.machines[0].terminate());
    let ended = ended.expect_err("it stops");
    assert_eq!(ended.message(), "etcdserver: server stopped");
}

/// Its state is of a time when nobody needed permissions, and its log holds nothing that says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_starts_lets_nobody_change_the_domain_or_renew_a_lease_by_its_old_state() {
    let settings = settings()
        .with_timings_of_an_operator()
        .with("timings.request_timeout_ms", 3_600_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let put = client.put("a", "value").await;
    let revision = put.header.expect("every answer has one").revision;
    assert!(client.get(0, "a").await.is_some(), "it has caught up once");
    let of_another = id_of(&members(&client).await, &cluster.machines[2].name);
    let lease = LeaseGrantRequest { id: 7, ttl: 3_600 };
    let granted = LeaseClient::new(client.channel(0)).lease_grant(lease).await;
    granted.expect("it is granted");
    cluster.machines[0].terminate().await;
    cluster.leader().await;
    enable(&client, "a", "c").await;
    let root = token(&client, 1, "root").await;
    for machine in &cluster.machines[1..] {
        machine.pause_whole().await;
    }
    cluster.machines[0].start();
    until("nobody needs permissions yet", async || {
        let read = client.get_on(0, "a", true).await;
        read.map_err(|status| status.to_string())
    })
    .await;

    let channel = patient(&cluster.machines[0]);
    let compact = |compaction: Request<CompactionRequest>| {
        let mut service = KvClient::new(channel.clone());
        begun(async move { service.compact(compaction).await })
    };
    let alarm = |alarm: Request<AlarmRequest>| {
        let mut service = MaintenanceClient::new(channel.clone());
        begun(async move { service.alarm(alarm).await })
    };
    let remove = |removal: MemberRemoveRequest| {
        let mut service = ClusterClient::new(channel.clone());
        begun(async move { service.member_remove(removal).await })
    };
    let change = |change: ChangeMembersRequest| {
        let mut service = AdminClient::new(channel.clone());
        begun(async move { service.change_members(change).await })
    };
    let move_leader = |asked: MoveLeaderRequest| {
        let mut service = MaintenanceClient::new(channel.clone());
        begun(async move { service.move_leader(asked).await })
    };
    let transfer = |asked: TransferRequest| {
        let mut service = AdminClient::new(channel.clone());
        begun(async move { service.transfer(asked).await })
    };
    let renew = || {
        let mut service = LeaseClient::new(channel.clone());
        tokio::spawn(async move {
            let renewals = tokio_stream::iter([LeaseKeepAliveRequest { id: 7 }]);
            let answers = service.lease_keep_alive(renewals).await?;
            answers.into_inner().message().await.map(drop)
        })
    };
    let compaction = CompactionRequest {
        revision,
        physical: false,
    };
    let about_alarm = |action: AlarmAction| AlarmRequest {
        action: action.into(),
        alarm: AlarmType::Nospace.into(),
        member_id: of_another,
    };
    let of_nobody = [
        compact(Request::new(compaction)),
        alarm(Request::new(about_alarm(AlarmAction::Activate))),
        alarm(Request::new(about_alarm(AlarmAction::Deactivate))),
        remove(MemberRemoveRequest { id: of_another }),
        change(ChangeMembersRequest {
            change: Some(Change::Remove(of_another)),
            force: false,
        }),
        move_leader(MoveLeaderRequest {
            target_id: of_another,
        }),
        transfer(TransferRequest { to: of_another }),
        renew(),
    ];
    let of_root = [
        compact(by(&root, compaction)),
        alarm(by(&root, about_alarm(AlarmAction::Deactivate))),
    ];
    let all = of_nobody.len() + of_root.len();
    until("all of them are under way", async || {
        let started = changes_started(&cluster.machines[0]);
        let is_so = started == all as f64;
        is_so.then_some(()).ok_or(format!("{started} are"))
    })
    .await;
    for machine in &cluster.machines[1..] {
        machine.resume();
    }
    for asked in of_nobody {
        assert_refused(ended("nobody is told", asked).await, EMPTY.0, EMPTY.1);
    }
    for asked in of_root {
        ended("root is told", asked).await.expect("root may all");
    }
    cluster.assert_nobody_panicked();
}

/// A connection whose calls take as long as they take.
fn patient(machine: &Machine) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", machine.client));
    endpoint.expect("an address makes a URI").connect_lazy()
}

fn begun<T: 'static>(
    call: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
) -> JoinHandle<Result<(), Status>> {
    tokio::spawn(async move { call.await.map(drop) })
}

/// How many calls have begun on a machine that change the domain, or renew a lease.
fn changes_started(machine: &Machine) -> f64 {
    let page = curl::get(&format!("http://{}/metrics", machine.client)).body;
    let page = Page::parse(&page).expect("as Prometheus reads it");
    let started = |(service, method)| {
        let kind = match method {
            "LeaseKeepAlive" => "bidi_stream",
            _ => "unary",
        };
        let labels = [
            ("grpc_method", method),
            ("grpc_service", service),
            ("grpc_type", kind),
        ];
        page.value("grpc_server_started_total", &labels)
    };
    let methods = [
        ("etcdserverpb.KV", "Compact"),
        ("etcdserverpb.Maintenance", "Alarm"),
        ("etcdserverpb.Cluster", "MemberRemove"),
        ("raftmachine.v1.Admin", "ChangeMembers"),
        ("etcdserverpb.Maintenance", "MoveLeader"),
        ("raftmachine.v1.Admin", "Transfer"),
        ("etcdserverpb.Lease", "LeaseKeepAlive"),
    ];
    methods.map(started).iter().sum()
}

/// A watcher of everything.
fn all() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    }
}
