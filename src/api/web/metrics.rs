//! The page for Prometheus: etcd's metrics under etcd's names where the same thing is there, and the machine's own, which begin
//! with `raft_machine_`.
//!
//! A look at it copies numbers that are posted anyway. It asks no actor, and what it has the system tell is read on a thread that
//! may block. The labels are names of methods, codes, checks, commands, versions of etcd and actors, of which there is a fixed number,
//! and of members.

mod actors;
mod clients;
mod data;
mod keyspace;
mod peers;
mod process;
mod replies;
mod server;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Response, StatusCode};
use rm_actors::port::{MachineId, Port};
use tonic::body::Body;

use super::answer;
use super::exposition::{CONTENT_TYPE, Page};
use super::probes::Tally;
use crate::arrival::Arrivals;
use crate::calls::Calls;
use crate::connection::Traffic;

/// All that the page is made of.
#[derive(Clone)]
pub(crate) struct Metrics {
    port: Port,
    calls: Arc<Calls>,
    traffic: Arc<Traffic>,
    arrivals: Arc<Arrivals>,
    tally: Arc<Tally>,
    /// When the process began, in seconds since 1970.
    started: u64,
}

impl Metrics {
    pub(crate) fn new(
        port: Port,
        calls: Arc<Calls>,
        traffic: Arc<Traffic>,
        arrivals: Arc<Arrivals>,
        tally: Arc<Tally>,
    ) -> Metrics {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let uptime = port.report().uptime_ms / 1_000;
        Metrics {
            started: now.unwrap_or_default().as_secs().saturating_sub(uptime),
            port,
            calls,
            traffic,
            arrivals,
            tally,
        }
    }

    /// The page.
    pub(crate) async fn page(self) -> Response<Body> {
        let text = tokio::task::spawn_blocking(move || self.text()).await;
        match text {
            Ok(text) => {
                let mut answer = answer::text(StatusCode::OK, text);
                let kind = HeaderValue::from_static(CONTENT_TYPE);
                answer
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, kind);
                answer
            }
            Err(error) => answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the metrics cannot be told: {error}\n"),
            ),
        }
    }

    fn text(&self) -> String {
        let report = self.port.report();
        let mut page = Page::default();
        server::write(&mut page, &self.port, &report);
        peers::write(&mut page, &self.port, &report);
        data::write(&mut page, &self.port, &report);
        keyspace::write(&mut page, &self.port, &report);
        clients::write(&mut page, &self.calls, &self.traffic, &self.arrivals);
        replies::write(&mut page, &self.port);
        self.tally.write(&mut page);
        actors::write(&mut page, &self.port);
        process::write(&mut page, self.started);
        page.into_text()
    }
}

/// A machine's number as etcd has it in labels.
fn hex(machine: MachineId) -> String {
    format!("{:x}", machine.0)
}
