//! Users, roles and permissions on real machines: judged the same on every machine, whoever dies meanwhile, and as etcd judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rm_proto::authpb::{Permission, permission::Type};
use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use rm_proto::etcdserverpb::auth_client::AuthClient;
use rm_proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest,
    AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, AuthenticateRequest, DefragmentRequest,
    LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest, MemberListRequest,
    PutRequest, RangeRequest, SnapshotRequest, StatusRequest, WatchCreateRequest,
};
use rm_proto::raftmachine::v1::{
    ActorsRequest, InfoRequest, KillActorRequest, LogLevelsRequest, MembersRequest,
    SetLogLevelRequest,
};
use rm_tests::curl;
use rm_tests::etcd::{Etcd, etcdctl, normalised, text};
use rm_tests::leases::{grant, keep_alive};
use rm_tests::watching::Watching;
use rm_tests::{Client, Cluster, Settings, until};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The password of every user here.
const PASSWORD: &str = "secret";

/// Passwords that cost little.
fn settings() -> Settings {
    Settings::trio().with("auth.bcrypt_cost", 4)
}

/// A request with a token.
fn by<T>(token: &str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    let token = token.parse().expect("a token makes a header");
    request.metadata_mut().insert("token", token);
    request
}

fn service(client: &Client, machine: usize) -> AuthClient<Channel> {
    AuthClient::new(client.channel(machine))
}

/// Asks one machine after the other until one has done it.
macro_rules! done {
    ($client:expr, $token:expr, $method:ident, $request:expr) => {{
        let mut turn = 0;
        until(stringify!($method), async || {
            turn += 1;
            let mut service = service($client, turn % $client.machines());
            let done = service.$method(by($token, $request.clone())).await;
            done.map(drop).map_err(|status| status.to_string())
        })
        .await
    }};
}

/// A token of a user, from one machine, once.
async fn authenticate(client: &Client, machine: usize, name: &str) -> Result<String, Status> {
    let request = AuthenticateRequest {
        name: name.into(),
        password: PASSWORD.into(),
    };
    let answer = service(client, machine).authenticate(request).await?;
    Ok(answer.into_inner().token)
}

async fn token(client: &Client, machine: usize, name: &str) -> String {
    until("a user is recognised", async || {
        let token = authenticate(client, machine, name).await;
        token.map_err(|status| status.to_string())
    })
    .await
}

async fn add_user(client: &Client, token: &str, name: &str, role: &str) {
    let add = AuthUserAddRequest {
        name: name.into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    done!(client, token, user_add, add);
    let grant = AuthUserGrantRoleRequest {
        user: name.into(),
        role: role.into(),
    };
    done!(client, token, user_grant_role, grant);
}

/// Adds a role that permits to read and write one range, and a user that has it; then has permissions asked for.
async fn enable(client: &Client, key: &str, range_end: &str) {
    add_user(client, "none", "root", "root").await;
    let role = AuthRoleAddRequest {
        name: "some".into(),
    };
    done!(client, "none", role_add, role);
    let grant = AuthRoleGrantPermissionRequest {
        name: "some".into(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }),
    };
    done!(client, "none", role_grant_permission, grant);
    add_user(client, "none", "alice", "some").await;
    done!(client, "none", auth_enable, AuthEnableRequest {});
}

async fn put(client: &Client, machine: usize, token: &str, key: &str) -> Result<i64, Status> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: "value".into(),
        ..Default::default()
    };
    let answer = client.kv(machine).put(by(token, request)).await?;
    Ok(answer
        .into_inner()
        .header
        .map_or(0, |header| header.revision))
}

async fn get(client: &Client, machine: usize, token: &str, key: &str) -> Result<i64, Status> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    Ok(client
        .kv(machine)
        .range(by(token, request))
        .await?
        .into_inner()
        .count)
}

fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, text: &str) {
    let status = outcome.expect_err("it is not permitted");
    assert_eq!((status.code(), status.message()), (code, text));
}

const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const INVALID: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");

/// What a machine says that has waited in vain for a leader.
const LEADERLESS: [&str; 2] = ["etcdserver: no leader", "etcdserver: request timed out"];

fn assert_leaderless<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.expect_err("who asks is not known");
    assert!(LEADERLESS.contains(&status.message()), "{status:?}");
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tries_many_passwords_at_once_is_refused_and_holds_up_nobody_else() {
    let cluster = Cluster::start(Settings::solo().with("auth.bcrypt_cost", 8)).await;
    let (guesser, client) = (cluster.client(), cluster.client());
    enable(&client, "a", "c").await;
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let mut service = service(&guesser, 0);
        guesses.spawn(async move {
            let request = AuthenticateRequest {
                name: "alice".into(),
                password: "guess".into(),
            };
            let guessed = service.authenticate(request).await;
            guessed.expect_err("it is wrong")
        });
    }
    let is_refusal = |status: &Status| status.message() == "etcdserver: too many requests";
    let first = guesses.join_next().await.expect("there are guesses");
    let mut refused = usize::from(is_refusal(&first.expect("it only asks")));
    let alice = authenticate(&client, 0, "alice").await;
    alice.expect("there is room for others");
    while let Some(guessed) = guesses.join_next().await {
        refused += usize::from(is_refusal(&guessed.expect("it only asks")));
    }
    assert!(refused > 0, "as many are looked at as one likes");
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

/// A watcher of everything.
fn all() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    }
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
    let look = LeaseTimeToLiveRequest { id: 7, keys: false };
    let told = leases().lease_time_to_live(look).await;
    assert_refused(told, EMPTY.0, EMPTY.1);
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

/// Commands about users, roles and permissions, with what is typed into them. Each is given to one machine after the other.
const COMMANDS: [(&[&str], &str); 37] = [
    (&["role", "add", "fruit"], ""),
    (&["role", "add", "fruit"], ""),
    (
        &["role", "grant-permission", "fruit", "readwrite", "apple"],
        "",
    ),
    (
        &["role", "grant-permission", "--prefix", "fruit", "read", "b"],
        "",
    ),
    (
        &[
            "role",
            "grant-permission",
            "--from-key",
            "fruit",
            "write",
            "x",
        ],
        "",
    ),
    (&["role", "get", "fruit"], ""),
    (&["role", "list"], ""),
    (&["user", "add", "root:secret"], ""),
    (&["user", "add", "alice:secret"], ""),
    (&["user", "add", "alice:secret"], ""),
    (&["user", "add", "bob", "--no-password"], ""),
    (&["user", "list"], ""),
    (&["auth", "enable"], ""),
    (&["user", "grant-role", "root", "root"], ""),
    (&["user", "grant-role", "alice", "fruit"], ""),
    (&["user", "grant-role", "alice", "nothing"], ""),
    (&["user", "get", "alice"], ""),
    (&["user", "get", "nobody"], ""),
    (&["auth", "enable"], ""),
    (&["put", "apple", "red"], ""),
    (&["--user=alice:secret", "put", "apple", "red"], ""),
    (&["--user=alice:secret", "get", "apple"], ""),
    (&["--user=alice:secret", "put", "banana", "yellow"], ""),
    (&["--user=alice:secret", "get", "--prefix", "b"], ""),
    (&["--user=alice:secret", "get", "--prefix", ""], ""),
    (&["--user=alice:wrong", "get", "apple"], ""),
    (&["--user=nobody:secret", "get", "apple"], ""),
    (&["--user=alice:secret", "user", "list"], ""),
    (&["--user=alice:secret", "user", "get", "alice"], ""),
    (&["--user=alice:secret", "role", "get", "fruit"], ""),
    (&["--user=root:secret", "user", "list"], ""),
    (
        &[
            "--user=root:secret",
            "role",
            "revoke-permission",
            "fruit",
            "apple",
        ],
        "",
    ),
    (&["--user=alice:secret", "put", "apple", "red"], ""),
    (
        &[
            "--user=root:secret",
            "user",
            "revoke-role",
            "alice",
            "fruit",
        ],
        "",
    ),
    (&["--user=root:secret", "user", "delete", "alice"], ""),
    (&["--user=root:secret", "role", "delete", "fruit"], ""),
    (&["--user=root:secret", "auth", "disable"], ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_about_users_what_it_prints_about_etcd() {
    let cluster = Cluster::start(settings()).await;
    let etcd = Etcd::start().await;
    for (number, (arguments, input)) in COMMANDS.into_iter().enumerate() {
        let machine = number % 3;
        let ours = cluster.machines[machine].client.to_string();
        let ours = etcdctl(&ours, "simple", arguments, input);
        let theirs = etcdctl(&etcd.endpoints[machine], "simple", arguments, input);
        let what = format!("{arguments:?} from machine {machine}: {}", text(&ours));
        assert_eq!(ours.status, theirs.status, "{what}");
        assert_eq!(
            normalised(&text(&ours)),
            normalised(&text(&theirs)),
            "{what}"
        );
    }
    cluster.assert_nobody_panicked();
}
