//! The metrics of the ways to the other machines, and of how far the leader has got with them. Their number is that of the members.

use std::collections::BTreeMap;

use rm_actors::port::{FollowerStatus, HeardPeer, MachineId, PeerTraffic, Port, Report};

use super::hex;
use crate::web::exposition::Page;

/// Writes what is known of the others.
pub(super) fn write(page: &mut Page, port: &Port, report: &Report) {
    known(page, port);
    let ways = port.peer_traffic();
    if !ways.is_empty() {
        connections(page, &hex(port.identity().machine), &ways);
        sent(page, &ways);
        sent_snapshots(page, &ways, report);
    }
    let heard = port.heard_peers();
    if !heard.is_empty() {
        received(page, &heard);
        received_snapshots(page, &heard, report);
    }
    followers(page, port, &report.followers);
    page.counter(
        "raft_machine_peer_refused_total",
        "Connections, frames and datagrams that the peer port refused.",
    )
    .is(report.refused);
    page.gauge(
        "raft_machine_snapshots_sending",
        "Snapshots on their way to other machines.",
    )
    .is(report.sending.len());
    page.gauge(
        "raft_machine_snapshots_receiving",
        "Snapshots on their way to this machine.",
    )
    .is(i32::from(report.receiving.is_some()));
    if let Some(silence_ms) = report.leader_silence_ms {
        page.gauge(
            "raft_machine_leader_silence_seconds",
            "The longest time without a word of the present leader since it is followed.",
        )
        .is(silence_ms as f64 / 1_000.0);
    }
}

fn known(page: &mut Page, port: &Port) {
    let local = hex(port.identity().machine);
    let mut known = page.gauge(
        "etcd_network_known_peers",
        "The members, this machine among them, as labels.",
    );
    for member in port.members().iter() {
        let labels = [("Local", local.as_str()), ("Remote", &hex(member.machine))];
        known.sample(&labels, 1);
    }
}

fn connections(page: &mut Page, local: &str, ways: &BTreeMap<MachineId, PeerTraffic>) {
    let mut active = page.gauge(
        "etcd_network_active_peers",
        "Whether there is a connection to the peer.",
    );
    for (machine, way) in ways {
        let labels = [("Local", local), ("Remote", &hex(*machine))];
        active.sample(&labels, i32::from(way.connected));
    }
    let mut lost = page.counter(
        "etcd_network_disconnected_peers_total",
        "Connections to the peer that were lost.",
    );
    for (machine, way) in ways {
        let labels = [("Local", local), ("Remote", &hex(*machine))];
        // Of those that were made, one at most is there.
        lost.sample(&labels, way.counts.connections - u64::from(way.connected));
    }
    let mut connected = page.gauge(
        "raft_machine_peer_connected",
        "Whether there is a connection to the peer.",
    );
    for way in ways.values() {
        connected.sample(&[("peer", &way.name)], i32::from(way.connected));
    }
    let mut connections = page.counter(
        "raft_machine_peer_connections_total",
        "Connections to the peer that were made.",
    );
    for way in ways.values() {
        connections.sample(&[("peer", &way.name)], way.counts.connections);
    }
    let mut round_trips = page.histograms(
        "etcd_network_peer_round_trip_time_seconds",
        "How long a packet to the peer and its answer take, smoothed, looked at every second.",
    );
    for (machine, way) in ways {
        round_trips.distribution(&[("To", &hex(*machine))], &way.round_trips);
    }
    let timed = |way: &PeerTraffic| Some((way.name.clone(), way.round_trip?));
    let mut times = ways.values().filter_map(timed).peekable();
    if times.peek().is_some() {
        let mut round_trip = page.gauge(
            "raft_machine_peer_round_trip_seconds",
            "The same at the last look.",
        );
        for (name, time) in times {
            round_trip.sample(&[("peer", &name)], time.as_secs_f64());
        }
    }
}

fn sent(page: &mut Page, ways: &BTreeMap<MachineId, PeerTraffic>) {
    let mut sent = page.counter(
        "etcd_network_peer_sent_bytes_total",
        "Bytes of messages and snapshots that went to a peer.",
    );
    for (machine, way) in ways {
        sent.sample(&[("To", &hex(*machine))], way.counts.sent_bytes);
    }
    let mut failures = page.counter(
        "etcd_network_peer_sent_failures_total",
        "Messages to a peer that were dropped: no room, or no connection could be made.",
    );
    for (machine, way) in ways {
        failures.sample(&[("To", &hex(*machine))], way.counts.dropped);
    }
}

fn received(page: &mut Page, heard: &BTreeMap<MachineId, HeardPeer>) {
    let mut received = page.counter(
        "etcd_network_peer_received_bytes_total",
        "Bytes of messages and snapshots that came from a peer.",
    );
    for (machine, peer) in heard {
        received.sample(&[("From", &hex(*machine))], peer.bytes);
    }
    let mut failures = page.counter(
        "etcd_network_peer_received_failures_total",
        "Connections of a peer that were closed for what came on them.",
    );
    for (machine, peer) in heard {
        failures.sample(&[("From", &hex(*machine))], peer.broken);
    }
}

fn sent_snapshots(page: &mut Page, ways: &BTreeMap<MachineId, PeerTraffic>, report: &Report) {
    let mut sending = page.gauge(
        "etcd_network_snapshot_send_inflights_total",
        "Whether a snapshot is on its way to a peer.",
    );
    for machine in ways.keys() {
        let is_sent = report.sending.iter().any(|sent| sent.peer == *machine);
        sending.sample(&[("To", &hex(*machine))], i32::from(is_sent));
    }
    let mut done = page.counter(
        "etcd_network_snapshot_send_success",
        "Snapshots that were sent to their end.",
    );
    for (machine, way) in ways {
        let count = way.snapshots.done.read().count;
        done.sample(&[("To", &hex(*machine))], count);
    }
    let mut failed = page.counter(
        "etcd_network_snapshot_send_failures",
        "Snapshots that were not sent to their end.",
    );
    for (machine, way) in ways {
        let count = way.snapshots.failed.read();
        failed.sample(&[("To", &hex(*machine))], count);
    }
    let mut times = page.histograms(
        "etcd_network_snapshot_send_total_duration_seconds",
        "How long it took to make a snapshot and send it to its end.",
    );
    for (machine, way) in ways {
        times.distribution(&[("To", &hex(*machine))], &way.snapshots.done);
    }
}

fn received_snapshots(page: &mut Page, heard: &BTreeMap<MachineId, HeardPeer>, report: &Report) {
    let mut receiving = page.gauge(
        "etcd_network_snapshot_receive_inflights_total",
        "Whether a snapshot is on its way from a peer.",
    );
    for machine in heard.keys() {
        let is_received = report.receiving.iter().any(|from| from.peer == *machine);
        receiving.sample(&[("From", &hex(*machine))], i32::from(is_received));
    }
    let mut done = page.counter(
        "etcd_network_snapshot_receive_success",
        "Snapshots that came whole and sound.",
    );
    for (machine, peer) in heard {
        let count = peer.snapshots.done.read().count;
        done.sample(&[("From", &hex(*machine))], count);
    }
    let mut failed = page.counter(
        "etcd_network_snapshot_receive_failures",
        "Snapshots that did not come whole and sound.",
    );
    for (machine, peer) in heard {
        let count = peer.snapshots.failed.read();
        failed.sample(&[("From", &hex(*machine))], count);
    }
    let mut times = page.histograms(
        "etcd_network_snapshot_receive_total_duration_seconds",
        "How long it took to receive a snapshot that came whole and sound.",
    );
    for (machine, peer) in heard {
        times.distribution(&[("From", &hex(*machine))], &peer.snapshots.done);
    }
}

/// What a leader knows of those that it sends the log to.
fn followers(page: &mut Page, port: &Port, followers: &[FollowerStatus]) {
    if followers.is_empty() {
        return;
    }
    let members = port.members();
    let name = |machine: MachineId| {
        let member = members.iter().find(|member| member.machine == machine);
        // One that is only just admitted has no name yet that is committed.
        member.map_or_else(|| hex(machine), |member| member.name.clone())
    };
    let named: Vec<(String, &FollowerStatus)> = followers
        .iter()
        .map(|follower| (name(follower.machine), follower))
        .collect();
    let mut matched = page.gauge(
        "raft_machine_follower_matched_index",
        "Up to where the machine's durable log is known to match the leader's.",
    );
    for (name, follower) in &named {
        matched.sample(&[("peer", name)], follower.matched.0);
    }
    let mut requests = page.gauge(
        "raft_machine_follower_inflight_requests",
        "Appends on their way to the machine and not answered.",
    );
    for (name, follower) in &named {
        requests.sample(&[("peer", name)], follower.requests);
    }
    let mut entries = page.gauge(
        "raft_machine_follower_inflight_entries",
        "Entries in these appends.",
    );
    for (name, follower) in &named {
        entries.sample(&[("peer", name)], follower.entries);
    }
    let mut bytes = page.gauge(
        "raft_machine_follower_inflight_bytes",
        "Bytes of these entries.",
    );
    for (name, follower) in &named {
        bytes.sample(&[("peer", name)], follower.bytes);
    }
}
