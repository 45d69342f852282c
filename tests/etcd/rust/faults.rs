//! Writes, watches, locks and keeps a lease alive, while machines are killed and the lead is moved, until the input ends.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, KeyValue, LeaseGrantOptions, LockOptions,
    PutOptions, Txn, TxnOp, WatchOptions,
};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// A machine that is killed takes its calls along, and one that has no leader answers nothing.
const CALL_MAX: Duration = Duration::from_secs(5);

/// The lease that is kept alive.
const KEPT: i64 = 77;

/// What several tasks note.
type Notes<T> = Arc<Mutex<Vec<T>>>;

/// Runs until the input ends, and looks then at all that was told.
pub async fn faults(addresses: &[String]) -> Result<(), Error> {
    // Calls that are made again and again are closures, which do not go from thread to thread.
    LocalSet::new().run_until(endure(addresses)).await
}

async fn endure(addresses: &[String]) -> Result<(), Error> {
    let options = ConnectOptions::new().with_timeout(CALL_MAX);
    let client = Client::connect(addresses, Some(options)).await?;
    let id = LeaseGrantOptions::new().with_id(KEPT);
    insist(async || client.clone().lease_grant(60, Some(id.clone())).await).await;
    let leased = PutOptions::new().with_lease(KEPT);
    insist(async || {
        client
            .clone()
            .put("kept", "alive", Some(leased.clone()))
            .await
    })
    .await;
    insist(async || client.clone().put("sum", "0", None).await).await;
    let versions: Notes<i64> = Notes::default();
    let watching = spawn_local(watch(client.clone(), versions.clone()));
    let done = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let tries: Notes<bool> = Notes::default();
    let adding = [(); 2].map(|()| spawn_local(add(client.clone(), tries.clone())));
    let count = write(&client, &done).await;
    for each in adding {
        // What it was at is lost with it, as if its machine had died.
        each.abort();
    }
    let newest = key(&client, "counter").await?;
    check(
        number(&newest)? == count,
        format!("{count} was acknowledged, and {newest:?} is there"),
    )?;
    while (noted(&versions).len() as i64) < newest.version() && !watching.is_finished() {
        tokio::task::yield_now().await;
    }
    let seen = noted(&versions).clone();
    let all: Vec<i64> = (1..=newest.version()).collect();
    check(
        seen == all,
        format!("of {} versions the watch saw {seen:?}", newest.version()),
    )?;
    let total = number(&key(&client, "sum").await?)?;
    let tries = noted(&tries).clone();
    let added = tries.iter().filter(|is_done| **is_done).count();
    // Of what failed nobody knows whether it was done.
    let holds = 0 < added && added <= total && total <= tries.len();
    check(
        holds,
        format!(
            "{added} of {} tries under the lock make {total}",
            tries.len()
        ),
    )?;
    let kept = key(&client, "kept").await?;
    check(
        kept.version() == 1,
        format!("the key of the lease is another: {kept:?}"),
    )?;
    println!("{count} writes, each seen once; {total} additions under the lock");
    Ok(())
}

/// Makes a call until it is answered.
async fn insist<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Counts, renews the lease, and says each number once it is acknowledged; how far it came.
async fn write<T>(client: &Client, done: &JoinHandle<T>) -> usize {
    let mut count = 0;
    while !done.is_finished() {
        count += 1;
        insist(async || client.clone().put("counter", count.to_string(), None).await).await;
        insist(async || client.clone().lease_keep_alive(KEPT).await).await;
        println!("{count}");
    }
    count
}

/// Notes the version of every write that it is told; where a stream ends it goes on in another, after what it was told last.
async fn watch(mut client: Client, versions: Notes<i64>) {
    let mut revision = 1;
    loop {
        let options = WatchOptions::new().with_start_revision(revision);
        let Ok(mut stream) = client.watch("counter", Some(options)).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while let Ok(Some(answer)) = stream.message().await {
            for kv in answer.events().iter().filter_map(|event| event.kv()) {
                noted(&versions).push(kv.version());
                revision = kv.mod_revision() + 1;
            }
        }
    }
}

/// Adds one to a number that nobody else may touch, again and again; notes of each try whether it was done.
async fn add(client: Client, tries: Notes<bool>) {
    loop {
        let lease = insist(async || client.clone().lease_grant(20, None).await)
            .await
            .id();
        if add_once(client.clone(), lease, &tries).await.is_err() {
            tokio::task::yield_now().await;
        }
        // With it goes the place in the line, whatever has failed.
        insist(async || match client.clone().lease_revoke(lease).await {
            Err(Error::GRpcStatus(status)) if status.message().contains("lease not found") => {
                Ok(())
            }
            other => other.map(drop),
        })
        .await;
    }
}

/// Adds one, as long as the lock is its own.
async fn add_once(mut client: Client, lease: i64, tries: &Notes<bool>) -> Result<(), Error> {
    let options = LockOptions::new().with_lease(lease);
    let lock = client.lock("adders", Some(options)).await?;
    let sum = number(&key(&client, "sum").await?)?;
    let place = {
        let mut tries = noted(tries);
        tries.push(false);
        tries.len() - 1
    };
    let txn = Txn::new()
        .when([Compare::create_revision(lock.key(), CompareOp::Greater, 0)])
        .and_then([TxnOp::put("sum", (sum + 1).to_string(), None)]);
    let is_done = client.txn(txn).await?.succeeded();
    noted(tries)[place] = is_done;
    client.unlock(lock.key()).await.map(drop)
}

/// A key that must be there.
async fn key(client: &Client, name: &str) -> Result<KeyValue, Error> {
    let mut answer = insist(async || client.clone().get(name, None).await).await;
    let found = answer.take_kvs().pop();
    found.ok_or_else(|| Error::Internal(format!("{name} is not there")))
}

fn number(kv: &KeyValue) -> Result<usize, Error> {
    let text = kv.value_str()?;
    text.parse()
        .map_err(|_| Error::Internal(format!("{text} is no number")))
}

fn noted<T>(notes: &Notes<T>) -> MutexGuard<'_, Vec<T>> {
    notes.lock().unwrap_or_else(|error| error.into_inner())
}

fn check(holds: bool, otherwise: String) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Internal(otherwise))
    }
}
