//! The metrics of the ways to the other machines, and of how far the leader has got with them. Their number is that of the members.

use rm_actors::port::{FollowerStatus, MachineId, PeerTraffic, Port, Report};

use super::exposition::Page;

/// Writes what is known of the others.
pub(crate) fn write(page: &mut Page, port: &Port, report: &Report) {
    ways(page, port);
    followers(page, port, &report.followers);
    if let Some(silence_ms) = report.leader_silence_ms {
        page.gauge(
            "raft_machine_leader_silence_seconds",
            "The longest time without a word of the present leader since it is followed.",
        )
        .is(silence_ms as f64 / 1_000.0);
    }
}

/// A machine's number as etcd has it in labels.
pub(crate) fn hex(machine: MachineId) -> String {
    format!("{:x}", machine.0)
}

fn ways(page: &mut Page, port: &Port) {
    let ways = port.peer_traffic();
    if ways.is_empty() {
        return;
    }
    let mut sent = page.counter(
        "etcd_network_peer_sent_bytes_total",
        "Bytes of messages and snapshots that went to a peer.",
    );
    for (machine, way) in &ways {
        sent.sample(&[("To", &hex(*machine))], way.counts.sent_bytes);
    }
    let mut failures = page.counter(
        "etcd_network_peer_sent_failures_total",
        "Messages to a peer that were dropped: no room, or no connection could be made.",
    );
    for (machine, way) in &ways {
        failures.sample(&[("To", &hex(*machine))], way.counts.dropped);
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
    let timed = |way: &PeerTraffic| Some((way.name.clone(), way.round_trip?));
    let mut times = ways.values().filter_map(timed).peekable();
    if times.peek().is_some() {
        let mut round_trip = page.gauge(
            "raft_machine_peer_round_trip_seconds",
            "How long a packet to the peer and its answer take, smoothed.",
        );
        for (name, time) in times {
            round_trip.sample(&[("peer", &name)], time.as_secs_f64());
        }
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
