//! etcd's services of locks and elections.

use etcd_client::{
    Client, Error, LeaderKey, LeaseGrantOptions, LockOptions, ProclaimOptions, ResignOptions,
};

use crate::told::{Told, header, key, text};

/// A lock that one has, and another waits for on another machine.
pub async fn locks(told: &mut Told, client: &mut Client, other: &mut Client) -> Result<(), Error> {
    for lease in [11, 12] {
        client
            .lease_grant(600, Some(LeaseGrantOptions::new().with_id(lease)))
            .await?;
    }
    let first = client
        .lock("lock", Some(LockOptions::new().with_lease(11)))
        .await?;
    told.show("locked", &text(first.key()));
    let mut waiting = other.clone();
    let second = tokio::spawn(async move {
        waiting
            .lock("lock", Some(LockOptions::new().with_lease(12)))
            .await
    });
    while other.get("lock/c", None).await?.count() == 0 {
        tokio::task::yield_now().await;
    }
    let unlocked = client.unlock(first.key()).await;
    told.step("unlocked", unlocked, |answer| header(answer.header()));
    let second = second
        .await
        .map_err(|error| Error::Internal(error.to_string()))?;
    if let Some(second) = told.step("locked by who waited", second, |answer| text(answer.key())) {
        let unlocked = other.unlock(second.key()).await;
        told.step("unlocked then", unlocked, |answer| header(answer.header()));
        let again = other.unlock(second.key()).await;
        told.step("unlocked again", again, |answer| header(answer.header()));
    }
    let gone = client
        .lock("lock", Some(LockOptions::new().with_lease(13)))
        .await;
    told.step("with a lease that is not there", gone, |answer| {
        text(answer.key())
    });
    Ok(())
}

/// An election: who leads, what it says, and who comes then.
pub async fn elections(
    told: &mut Told,
    client: &mut Client,
    other: &mut Client,
) -> Result<(), Error> {
    let nobody = client.leader("chair").await;
    told.step("nobody leads", nobody, |answer| {
        answer.kv().map_or("nobody".into(), key)
    });
    let mut won = client.campaign("chair", "one", 11).await?;
    let first = won.take_leader().unwrap_or_default();
    told.show("won", &described(&first));
    let mut observed = other.observe("chair").await?;
    told.show("observed", &next(&mut observed).await?);
    let said = client
        .proclaim(
            "one, again",
            Some(ProclaimOptions::new().with_leader(first.clone())),
        )
        .await;
    told.step("proclaimed", said, |answer| header(answer.header()));
    told.show("observed then", &next(&mut observed).await?);
    let mut waiting = other.clone();
    let second = tokio::spawn(async move { waiting.campaign("chair", "two", 12).await });
    while other.get("chair/c", None).await?.count() == 0 {
        tokio::task::yield_now().await;
    }
    let resigned = client
        .resign(Some(ResignOptions::new().with_leader(first.clone())))
        .await;
    told.step("resigned", resigned, |answer| header(answer.header()));
    let second = second
        .await
        .map_err(|error| Error::Internal(error.to_string()))?;
    told.step("won then", second, |answer| {
        answer.leader().map_or("nobody".into(), described)
    });
    told.show("observed at last", &next(&mut observed).await?);
    let leads = client.leader("chair").await;
    told.step("leads", leads, |answer| {
        answer.kv().map_or("nobody".into(), key)
    });
    let late = client
        .proclaim("too late", Some(ProclaimOptions::new().with_leader(first)))
        .await;
    told.step("proclaimed by who leads no more", late, |answer| {
        header(answer.header())
    });
    Ok(())
}

/// The next thing that an observer is told.
async fn next(observed: &mut etcd_client::ObserveStream) -> Result<String, Error> {
    let answer = observed.message().await?;
    Ok(answer.map_or("the end".to_owned(), |answer| {
        answer.kv().map_or("nobody".into(), key)
    }))
}

fn described(leader: &LeaderKey) -> String {
    let (name, key) = (text(leader.name()), text(leader.key()));
    format!("{name}: {key} at {} with {}", leader.rev(), leader.lease())
}
