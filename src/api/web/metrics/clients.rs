//! The metrics of what clients ask, and of how much goes to and fro for that.

use crate::arrival::Arrivals;
use crate::calls::{Broken, CODES, Calls, Method};
use crate::connection::Traffic;
use crate::web::exposition::Page;

pub(super) fn write(page: &mut Page, calls: &Calls, traffic: &Traffic, arrivals: &Arrivals) {
    connections(page, traffic);
    requests(page, arrivals);
    versions(page, calls);
    methods(page, calls.methods());
    let mut broken = page.counter(
        "etcd_network_server_stream_failures_total",
        "Clients' streams of which a message could not be read.",
    );
    for what in Broken::ALL {
        let labels = [("Type", "receive"), ("API", what.name())];
        broken.sample(&labels, calls.broken(what));
    }
}

fn connections(page: &mut Page, traffic: &Traffic) {
    page.gauge("raft_machine_client_connections", "Connections of clients.")
        .is(traffic.connections());
    page.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes that came from clients, of HTTP and of the frames around it, too.",
    )
    .is(traffic.received_bytes());
    page.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes that went to clients, of HTTP and of the frames around it, too.",
    )
    .is(traffic.sent_bytes());
}

fn requests(page: &mut Page, arrivals: &Arrivals) {
    page.gauge(
        "raft_machine_requests_arriving_bytes",
        "What has come of requests that are not whole yet, in bytes.",
    )
    .is(arrivals.arriving());
    page.gauge(
        "raft_machine_requests_waiting_bytes",
        "What is held of requests that are whole and not answered yet, in bytes.",
    )
    .is(arrivals.waiting());
    page.counter(
        "raft_machine_requests_given_up_total",
        "Requests that were refused because too much was held of those that were not answered yet.",
    )
    .is(arrivals.given_up());
}

fn versions(page: &mut Page, calls: &Calls) {
    let mut requests = page.counter(
        "etcd_server_client_requests_total",
        "Calls that have begun, by the version of etcd's API that their clients say they are of.",
    );
    for (kind, version, count) in calls.versions() {
        if count > 0 {
            let labels = [("type", kind), ("client_api_version", &version)];
            requests.sample(&labels, count);
        }
    }
}

fn methods(page: &mut Page, methods: &[Method]) {
    let mut started = page.counter("grpc_server_started_total", "Calls that have begun.");
    for method in methods {
        started.sample(&labels(method), method.started());
    }
    let mut handled = page.counter(
        "grpc_server_handled_total",
        "Calls that have ended, by the code that they ended with.",
    );
    for method in methods {
        for (code, count) in CODES.into_iter().zip(method.handled()) {
            // Success stands there from the begin, so that a first one is seen as a rise.
            if count > 0 || code == CODES[0] {
                let labels = [&[("grpc_code", code)][..], &labels(method)].concat();
                handled.sample(&labels, count);
            }
        }
    }
    let mut received = page.counter(
        "grpc_server_msg_received_total",
        "Messages that clients have sent.",
    );
    for method in methods {
        received.sample(&labels(method), method.received());
    }
    let mut sent = page.counter(
        "grpc_server_msg_sent_total",
        "Messages that clients were sent.",
    );
    for method in methods {
        sent.sample(&labels(method), method.sent());
    }
    let mut times = page.histograms(
        "grpc_server_handling_seconds",
        "How long the calls took that have ended.",
    );
    for method in methods.iter().filter(|method| method.started() > 0) {
        times.distribution(&labels(method), &method.times);
    }
}

fn labels(method: &Method) -> [(&str, &str); 3] {
    [
        ("grpc_method", method.name.as_str()),
        ("grpc_service", &method.service),
        ("grpc_type", method.kind),
    ]
}
