//! Leases: granted, renewed on a stream, looked at, revoked.

use etcd_client::{Client, Error, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions};

use crate::told::{Told, header, key, text};

/// A lease and its keys.
pub async fn leases(told: &mut Told, client: &mut Client, other: &mut Client) -> Result<(), Error> {
    let granted = client
        .lease_grant(1000, Some(LeaseGrantOptions::new().with_id(77)))
        .await;
    told.step("granted", granted, |answer| {
        format!("{} for {}", answer.id(), answer.ttl())
    });
    let again = client
        .lease_grant(10, Some(LeaseGrantOptions::new().with_id(77)))
        .await;
    told.step("an id that is taken", again, |answer| {
        answer.id().to_string()
    });
    for ttl in [0, 1, -1, 9_000_000_001] {
        let granted = client.lease_grant(ttl, None).await;
        if let Some(granted) = told.step(&format!("for {ttl}"), granted, |answer| {
            answer.ttl().to_string()
        }) {
            client.lease_revoke(granted.id()).await?;
        }
    }
    client
        .put("held/a", "1", Some(PutOptions::new().with_lease(77)))
        .await?;
    let got = other.get("held/a", None).await?;
    told.show("its key", &got.kvs().first().map_or("nothing".into(), key));
    let (mut keeper, mut renewals) = other.lease_keep_alive(77).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let renewed = renewals.message().await?;
        told.show(
            "renewed",
            &format!("{:?}", renewed.map(|answer| (answer.id(), answer.ttl()))),
        );
    }
    let listed = client.leases().await;
    told.step("all", listed, |answer| {
        let ids = answer.leases().iter().map(|lease| lease.id().to_string());
        ids.collect::<Vec<_>>().join("\n")
    });
    for name in ["looked at", "looked at, once it is gone"] {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let about = client.lease_time_to_live(77, Some(options)).await;
        told.step(name, about, |answer| {
            let keys = answer
                .keys()
                .iter()
                .map(|key| text(key))
                .collect::<Vec<_>>();
            let is_left = answer.ttl() > 990;
            format!(
                "{} of {}, still {is_left}, {keys:?}",
                answer.id(),
                answer.granted_ttl()
            )
        });
        let revoked = client.lease_revoke(77).await;
        told.step("revoked", revoked, |answer| header(answer.header()));
    }
    let late = other.lease_keep_alive(77).await;
    told.step("renewed, once it is gone", late, |_| "renewed".to_owned());
    Ok(())
}
