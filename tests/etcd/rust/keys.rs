//! Puts, ranges, deletions, transactions and compaction.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::told::{Told, header, key, keys as all};

/// Keys with each option, and their past.
pub async fn keys(told: &mut Told, client: &mut Client, other: &mut Client) -> Result<(), Error> {
    for (name, value) in [("a", "4"), ("b", "2"), ("c", "1"), ("d", "3"), ("b", "2")] {
        let put = client.put(format!("tree/{name}"), value, None).await;
        told.step("put", put, |answer| header(answer.header()));
    }
    let options = PutOptions::new().with_prev_key();
    let put = client.put("tree/a", "5", Some(options)).await;
    told.step("put, with what was before", put, |answer| {
        answer.prev_key().map_or("nothing".into(), key)
    });
    for (name, options) in [
        ("keep the value", PutOptions::new().with_ignore_value()),
        ("keep the lease", PutOptions::new().with_ignore_lease()),
        (
            "a lease that is not there",
            PutOptions::new().with_lease(4321),
        ),
    ] {
        let put = client.put("tree/a", "", Some(options)).await;
        told.step(name, put, |answer| header(answer.header()));
    }
    let tree = || GetOptions::new().with_prefix();
    let now = other.get("tree/", Some(tree())).await?;
    let newest = now.header().map_or(0, |header| header.revision());
    for (name, options) in [
        ("a prefix", tree()),
        ("limited", tree().with_limit(2)),
        ("keys only", tree().with_keys_only()),
        ("counted", tree().with_count_only()),
        (
            "by value",
            tree().with_sort(SortTarget::Value, SortOrder::Descend),
        ),
        (
            "by version",
            tree().with_sort(SortTarget::Version, SortOrder::Descend),
        ),
        ("serializable", tree().with_serializable()),
        ("of the past", tree().with_revision(4)),
        ("of the future", tree().with_revision(newest + 1000)),
        ("changed since", tree().with_min_mod_revision(newest - 1)),
        ("changed until", tree().with_max_mod_revision(4)),
        ("created since", tree().with_min_create_revision(4)),
        ("created until", tree().with_max_create_revision(3)),
        ("a range", GetOptions::new().with_range("tree/c")),
        ("from a key on", GetOptions::new().with_from_key()),
    ] {
        let got = client.get("tree/", Some(options)).await;
        told.step(name, got, |answer| {
            format!(
                "{}\ncount {} more {}",
                all(answer.kvs()),
                answer.count(),
                answer.more()
            )
        });
    }
    for (name, options) in [
        ("delete", DeleteOptions::new().with_prev_key()),
        (
            "delete a prefix",
            DeleteOptions::new().with_prefix().with_prev_key(),
        ),
    ] {
        let deleted = client.delete("tree/a", Some(options)).await;
        told.step(name, deleted, |answer| {
            format!("{}\n{}", answer.deleted(), all(answer.prev_kvs()))
        });
    }
    for (name, revision, options) in [
        ("compact", 3, None),
        ("compact again", 3, None),
        ("compact what is to come", newest + 1000, None),
        (
            "compact, and wait",
            newest,
            Some(CompactionOptions::new().with_physical()),
        ),
    ] {
        let compacted = client.compact(revision, options).await;
        told.step(name, compacted, |answer| header(answer.header()));
    }
    let past = client.get("tree/", Some(tree().with_revision(2))).await;
    told.step("what is compacted", past, |answer| all(answer.kvs()));
    Ok(())
}

/// Transactions: each comparison, each operation, one in the other.
pub async fn transactions(told: &mut Told, client: &mut Client) -> Result<(), Error> {
    client.put("t/a", "1", None).await?;
    for (name, compare) in [
        ("value", Compare::value("t/a", CompareOp::Equal, "1")),
        (
            "not the value",
            Compare::value("t/a", CompareOp::NotEqual, "1"),
        ),
        ("version", Compare::version("t/a", CompareOp::Greater, 0)),
        (
            "created",
            Compare::create_revision("t/nothing", CompareOp::Equal, 0),
        ),
        ("changed", Compare::mod_revision("t/a", CompareOp::Less, 3)),
        ("lease", Compare::lease("t/a", CompareOp::Equal, 0)),
        (
            "every key of a prefix",
            Compare::version("t/", CompareOp::Equal, 1).with_prefix(),
        ),
        (
            "every key of a range",
            Compare::value("t/", CompareOp::Equal, "2").with_range("t0"),
        ),
    ] {
        let txn = Txn::new()
            .when([compare])
            .and_then([TxnOp::get("t/a", None)]);
        told.step(name, client.txn(txn).await, outcome);
    }
    let inner = Txn::new()
        .when([Compare::version("t/b", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("t/b", "nested", None)])
        .or_else([TxnOp::delete("t/b", None)]);
    for name in ["one in the other", "one in the other, again"] {
        let txn = Txn::new().and_then([
            TxnOp::put("t/c", "3", Some(PutOptions::new().with_prev_key())),
            TxnOp::txn(inner.clone()),
            TxnOp::get("t/", Some(GetOptions::new().with_prefix())),
        ]);
        told.step(name, client.txn(txn).await, outcome);
    }
    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    told.step("a key twice", client.txn(twice).await, outcome);
    Ok(())
}

fn outcome(answer: &TxnResponse) -> String {
    let mut lines = vec![format!(
        "{} at {}",
        answer.succeeded(),
        header(answer.header())
    )];
    for each in answer.op_responses() {
        lines.push(match each {
            TxnOpResponse::Put(put) => format!("put, before {:?}", put.prev_key().map(key)),
            TxnOpResponse::Get(get) => format!("got\n{}", all(get.kvs())),
            TxnOpResponse::Delete(delete) => format!("deleted {}", delete.deleted()),
            TxnOpResponse::Txn(txn) => format!("within: {}", txn.succeeded()),
        });
    }
    lines.join("\n")
}
