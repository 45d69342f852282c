//! etcd's status of a machine, with every field of etcd 3.6, and the calls of the same service that are refused by name.

use rm_proto::etcdserverpb::downgrade_request::DowngradeAction;
use rm_proto::etcdserverpb::{DowngradeInfo, DowngradeRequest};
use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_tests::members::{begun_alone, change, newcomer, standing};
use rm_tests::{Cluster, Settings, until};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_tells_what_the_machine_knows_of_itself() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    for number in 0..50 {
        client.put(format!("key {number}"), vec![7; 10_000]).await;
    }
    until("status and info agree", async || {
        let status = client
            .status(0)
            .await
            .map_err(|status| status.to_string())?;
        let info = client.info(0).await.map_err(|status| status.to_string())?;
        let told = (status.raft_index, status.raft_applied_index);
        let known = (info.commit_index, info.applied_index);
        let same = told == known && (status.leader, status.raft_term) == (info.leader, info.term);
        match same && status.db_size >= 50 * 10_000 {
            true => Ok(()),
            false => Err(format!("{status:?} and {info:?}")),
        }
    })
    .await;
    let status = client.status(0).await.expect("it answers");
    assert_eq!(status.version, "3.6.0");
    assert!(!status.storage_version.is_empty());
    assert!(status.errors.is_empty(), "{:?}", status.errors);
    assert!(!status.is_learner);
    assert!(0 < status.db_size_in_use && status.db_size_in_use <= status.db_size);
    assert!(status.db_size <= status.db_size_quota, "{status:?}");
    assert_eq!(status.downgrade_info, Some(DowngradeInfo::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_says_that_it_is_one() {
    let mut cluster = begun_alone(Settings::trio().of(2)).await;
    let client = cluster.client();
    let name = cluster.machines[1].name.clone();
    let add = newcomer(&cluster.machines[1], false);
    let wanted = |_: &[_]| Some(Change::Add(add.clone()));
    change(&client, wanted, |now| standing(now, &name).is_some()).await;
    cluster.machines[1].start();
    // It knows its leader a moment before it has received what makes it one.
    until("the learner says so", async || {
        match client.status(1).await {
            Ok(status) if status.is_learner => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let leader = client.status(0).await.expect("it answers");
    assert!(!leader.is_learner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_downgrade_is_refused_by_its_name() {
    let cluster = Cluster::start(Settings::solo()).await;
    let mut maintenance = cluster.client().maintenance(0);
    for action in [
        DowngradeAction::Validate,
        DowngradeAction::Enable,
        DowngradeAction::Cancel,
    ] {
        let request = DowngradeRequest {
            action: action.into(),
            version: "3.5.0".to_owned(),
        };
        let refused = maintenance.downgrade(request).await;
        let refused = refused.expect_err("it is not served");
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(
            refused.message().contains(action.as_str_name()),
            "{refused}"
        );
    }
    let request = DowngradeRequest {
        action: 9,
        version: String::new(),
    };
    let refused = maintenance.downgrade(request).await;
    let refused = refused.expect_err("there is no such action");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}
