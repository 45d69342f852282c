//! What etcd's advisories on permissions tell of: who may not know a thing is told nothing of it, whichever call it asks.

use rm_proto::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, CompactionRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, MemberListRequest, PutRequest, StatusRequest, WatchCreateRequest,
};
use rm_proto::raftmachine::v1::{ActorsRequest, InfoRequest, LogLevelsRequest, MembersRequest};
use rm_tests::Cluster;
use rm_tests::leases::{grant, keep_alive};
use rm_tests::users::{DENIED, EMPTY, assert_refused, by, enable, service, settings, token};
use rm_tests::watching::Watching;

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
