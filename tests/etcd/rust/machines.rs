//! What is about the machines: status, hashes, snapshots, defragmentation, alarms, and who belongs to it.

use etcd_client::{AlarmAction, AlarmResponse, AlarmType, Client, Error};

use crate::told::{Told, header, key};

/// Has names stand for what is particular to the cluster, and the first machine lead.
pub async fn introduce(told: &mut Told, clients: &mut [Client]) -> Result<(), Error> {
    let listed = clients[0].member_list().await?;
    told.known(
        "cluster",
        listed.header().map_or(0, |header| header.cluster_id()),
    );
    let mut first = 0;
    for member in listed.members() {
        told.known(format!("id of {}", member.name()), member.id());
        if member.name() == "m0" {
            first = member.id();
        }
    }
    loop {
        let mut leaders = Vec::new();
        for client in clients.iter_mut() {
            leaders.push(client.status().await?.leader());
        }
        if leaders.iter().all(|leader| *leader == first) {
            return Ok(());
        }
        for client in clients.iter_mut() {
            // Refused by who does not lead.
            let _ = client.move_leader(first).await;
        }
    }
}

/// Maintenance, through a leader and a follower.
pub async fn machines(
    told: &mut Told,
    leader: &mut Client,
    other: &mut Client,
) -> Result<(), Error> {
    let [ours, theirs] = [leader.status().await?, other.status().await?];
    for status in [&ours, &theirs] {
        told.show(
            "status",
            &format!("{} learner {}", status.leader(), status.is_learner()),
        );
    }
    let hashes = [
        leader.hash_kv(0).await?.hash(),
        other.hash_kv(0).await?.hash(),
    ];
    told.show(
        "hashes",
        if hashes[0] == hashes[1] {
            "the same"
        } else {
            "not the same"
        },
    );
    let mut snapshot = other.snapshot().await?;
    let (mut bytes, mut left) = (0, 0);
    while let Some(piece) = snapshot.message().await? {
        bytes += piece.blob().len();
        left = piece.remaining_bytes();
    }
    told.show(
        "a snapshot",
        &format!("and {} bytes, {left} left", bytes % 512),
    );
    told.step("defragmented", other.defragment().await, |_| {
        "done".to_owned()
    });
    let member = ours.leader();
    for (name, action) in [
        ("raised", AlarmAction::Activate),
        ("all", AlarmAction::Get),
        ("disarmed", AlarmAction::Deactivate),
        ("none", AlarmAction::Get),
    ] {
        let mut options = etcd_client::AlarmOptions::new();
        options.with_member(member);
        let answer = leader
            .alarm(action, AlarmType::Nospace, Some(options))
            .await;
        told.step(name, answer, alarms);
        let put = other.put("alarmed", name, None).await;
        told.step("put", put, |_| "done".to_owned());
    }
    let got = other.get("alarmed", None).await;
    told.step("what was put", got, |answer| {
        answer.kvs().first().map_or("nothing".into(), key)
    });
    told.step(
        "asked of another to lead",
        other.move_leader(member).await,
        |answer| header(answer.header()),
    );
    told.step("nobody is to lead", leader.move_leader(1).await, |answer| {
        header(answer.header())
    });
    told.step(
        "nobody is removed",
        leader.member_remove(1).await,
        |answer| header(answer.header()),
    );
    told.step(
        "nobody is promoted",
        leader.member_promote(1).await,
        |answer| header(answer.header()),
    );
    Ok(())
}

fn alarms(answer: &AlarmResponse) -> String {
    let all = answer.alarms().iter();
    let shown = all.map(|alarm| format!("{} {:?}", alarm.member_id(), alarm.alarm()));
    shown.collect::<Vec<_>>().join("\n")
}
