//! Every machine refuses what etcd refuses, with etcd's codes and texts.

use rm_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op::Request,
};
use rm_tests::client::operation;
use rm_tests::{Client, Cluster, Settings, until};
use tonic::{Code, Status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_refuses_what_etcd_refuses() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    for machine in 0..client.machines() {
        refusals(&client, machine).await;
    }
    assert_eq!(client.dump(0).await, [], "nothing was written");
    cluster.assert_nobody_panicked();
}

async fn refusals(client: &Client, machine: usize) {
    let mut kv = client.kv(machine);
    let no_key = "etcdserver: key is not provided";
    refused(
        kv.put(PutRequest::default()).await,
        Code::InvalidArgument,
        no_key,
    );
    refused(
        kv.range(RangeRequest::default()).await,
        Code::InvalidArgument,
        no_key,
    );
    refused(
        kv.delete_range(DeleteRangeRequest::default()).await,
        Code::InvalidArgument,
        no_key,
    );

    let put = |key: &'static str| PutRequest {
        key: key.into(),
        ..Default::default()
    };
    let missing = PutRequest {
        ignore_value: true,
        ..put("never written")
    };
    refused(
        kv.put(missing).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    let both = PutRequest {
        ignore_value: true,
        value: "v".into(),
        ..put("key")
    };
    refused(
        kv.put(both).await,
        Code::InvalidArgument,
        "etcdserver: value is provided",
    );
    let leased = PutRequest {
        lease: 12_345,
        ..put("key")
    };
    refused(
        kv.put(leased).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let large = PutRequest {
        value: vec![0; 1_600_000].into(),
        ..put("key")
    };
    refused(
        kv.put(large).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );

    let future = RangeRequest {
        key: "key".into(),
        revision: 1 << 40,
        ..Default::default()
    };
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(kv.range(future).await, Code::OutOfRange, text);

    let twice = vec![operation(Request::RequestPut(put("key"))); 2];
    let twice = TxnRequest {
        success: twice,
        ..Default::default()
    };
    let text = "etcdserver: duplicate key given in txn request";
    refused(kv.txn(twice).await, Code::InvalidArgument, text);
    let read = operation(Request::RequestRange(RangeRequest {
        key: "key".into(),
        ..Default::default()
    }));
    let many = TxnRequest {
        success: vec![read; 129],
        ..Default::default()
    };
    let text = "etcdserver: too many operations in txn request";
    refused(kv.txn(many).await, Code::InvalidArgument, text);
}

/// Two nested transactions of so many puts each.
fn nested_puts(first: usize, second: usize) -> TxnRequest {
    let nested = |name: &str, count| {
        let puts = (0..count).map(|number| {
            operation(Request::RequestPut(PutRequest {
                key: format!("{name}/{number}").into(),
                ..Default::default()
            }))
        });
        operation(Request::RequestTxn(TxnRequest {
            success: puts.collect(),
            ..Default::default()
        }))
    };
    TxnRequest {
        success: vec![nested("first", first), nested("second", second)],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_22139_the_operations_of_nested_transactions_count_together() {
    let settings = Settings::trio().with("limits.transaction_operations_max", 10);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    // Each of the two would be within the limit for itself. They are operations, too.
    let text = "etcdserver: too many operations in txn request";
    for machine in 0..client.machines() {
        let beyond = client.kv(machine).txn(nested_puts(4, 5)).await;
        refused(beyond, Code::InvalidArgument, text);
    }
    assert_eq!(client.dump(0).await, [], "nothing was written");
    until("as many as there may be are carried out", async || {
        let within = client.kv(0).txn(nested_puts(4, 4)).await;
        within.map_err(|status| status.to_string())
    })
    .await;
    assert_eq!(client.dump(0).await.len(), 8);
    cluster.assert_nobody_panicked();
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}
