//! Users, roles and permissions on real machines: judged the same on every machine, whoever dies meanwhile, and as etcd judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use rm_proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthUserChangePasswordRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
    LeaseKeepAliveRequest, StatusRequest, WatchCreateRequest,
};
use rm_proto::raftmachine::v1::KillActorRequest;
use rm_tests::curl;
use rm_tests::leases::{grant, keep_alive};
use rm_tests::users::{
    DENIED, EMPTY, INVALID, add_user, assert_refused, authenticate, by, enable, get, put, service,
    settings, token,
};
use rm_tests::watching::Watching;
use rm_tests::{Client, Cluster, done, until};
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
