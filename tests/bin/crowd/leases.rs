//! Leases that are kept alive: each is renewed when a third of its time is over, as etcd's client does, and none may end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rm_proto::etcdserverpb::lease_client::LeaseClient;
use rm_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::{Failure, await_begin, connect, share};

/// How often a stream looks which of its leases are to be renewed (etcd's client: retryConnWait).
const LOOK: Duration = Duration::from_millis(500);

/// How many looks fit into a third of the time of a lease, for one second of it.
const LOOKS_A_SECOND: u64 = 2;

/// The largest delay that the figures tell apart, in microseconds.
const DELAY_US_MAX: u64 = 600_000_000;

/// How many streams have their leases granted at a time, and how many each at a time.
const GRANTING_STREAMS: usize = 32;
const GRANTS_OF_A_STREAM: usize = 8;

/// Which leases there are.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leases, spread over the streams.
    #[arg(long, default_value_t = 100_000)]
    leases: usize,
    /// The time of each, in seconds; a multiple of three.
    #[arg(long, default_value_t = 60)]
    ttl: u64,
}

/// Runs the load; its figures.
pub(crate) async fn run(options: &crate::Options, load: &Options) -> Result<Value, Failure> {
    let channels = connect(options).await?;
    let streams = options.connections * options.streams;
    let ids: Vec<i64> = (1..=load.leases as i64).collect();
    let granting = Instant::now();
    let room = Arc::new(Semaphore::new(GRANTING_STREAMS));
    let end = watch::Sender::new(None);
    let (granted, mut are_granted) = mpsc::channel::<()>(1);
    let mut left = &ids[..];
    let mut keeping = JoinSet::new();
    for number in 0..streams {
        let (own, others) = left.split_at(share(ids.len(), streams, number));
        left = others;
        let channel = channels[number % channels.len()].clone();
        let (ids, ttl, window) = (own.to_vec(), load.ttl, end.subscribe());
        let (room, granted) = (room.clone(), granted.clone());
        // Each keeps its leases alive from then on at which it has them: to grant all may take longer than their time.
        keeping.spawn(async move {
            let place = room.acquire_owned().await?;
            let keeper = Keeper::grant(channel, ids, ttl as i64).await?;
            drop((place, granted));
            keeper.keep(ttl, window).await
        });
    }
    drop(granted);
    tokio::select! {
        _ = are_granted.recv() => {}
        Some(ended) = keeping.join_next() => ended?.map(drop)?,
    }
    let granting = granting.elapsed();
    await_begin().await?;
    let began = Instant::now();
    let window = (began, began + Duration::from_secs(options.seconds));
    end.send_replace(Some(window));
    let mut delays = delays();
    while let Some(kept) = keeping.join_next().await {
        delays.add(kept??)?;
    }
    let seconds = began.elapsed();
    let there = LeaseClient::new(channels[0].clone())
        .max_decoding_message_size(64 << 20)
        .lease_leases(LeaseLeasesRequest {})
        .await?;
    let there = there.into_inner().leases.len();
    if there != ids.len() {
        return Err(format!("{there} leases are left of {}", ids.len()).into());
    }
    Ok(json!({
        "leases": there,
        "granted_per_second": ids.len() as f64 / granting.as_secs_f64(),
        "renewals": delays.len(),
        "seconds": seconds.as_secs_f64(),
        "per_second": delays.len() as f64 / options.seconds as f64,
        "delay_ms_p50": delays.value_at_quantile(0.5) as f64 / 1_000.0,
        "delay_ms_p99": delays.value_at_quantile(0.99) as f64 / 1_000.0,
    }))
}

fn delays() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DELAY_US_MAX, 2).expect("the bounds are right")
}

/// One stream and its leases.
struct Keeper {
    ids: Vec<i64>,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

impl Keeper {
    /// Has its leases granted, and opens a stream for them.
    async fn grant(channel: Channel, ids: Vec<i64>, ttl: i64) -> Result<Keeper, Failure> {
        let mut granting = JoinSet::new();
        for part in ids.chunks(ids.len().div_ceil(GRANTS_OF_A_STREAM).max(1)) {
            let (part, mut client) = (part.to_vec(), LeaseClient::new(channel.clone()));
            granting.spawn(async move {
                for id in part {
                    client.lease_grant(LeaseGrantRequest { ttl, id }).await?;
                }
                Ok::<(), Failure>(())
            });
        }
        while let Some(granted) = granting.join_next().await {
            granted??;
        }
        let (requests, receiver) = mpsc::channel(ids.len().max(1));
        // A machine may begin to answer with the first request.
        let id = *ids.first().ok_or("a stream without a lease")?;
        requests.send(LeaseKeepAliveRequest { id }).await?;
        let mut client = LeaseClient::new(channel);
        let receiver = ReceiverStream::new(receiver);
        let mut responses = client.lease_keep_alive(receiver).await?.into_inner();
        responses.message().await?.ok_or("a stream ended")?;
        Ok(Keeper {
            ids,
            requests,
            responses,
        })
    }

    /// Renews its leases, a part of them at each look, until the window is over; how long each renewal took that was asked for in it.
    async fn keep(
        mut self,
        ttl: u64,
        window: watch::Receiver<Option<(Instant, Instant)>>,
    ) -> Result<Histogram<u64>, Failure> {
        let mut delays = delays();
        let mut look = tokio::time::interval(LOOK);
        let rounds = (ttl * LOOKS_A_SECOND / 3) as usize;
        for round in (0..rounds).cycle() {
            look.tick().await;
            let asked = Instant::now();
            let window = *window.borrow();
            if window.is_some_and(|(_, end)| asked >= end) {
                break;
            }
            let due = self.ids.iter().skip(round).step_by(rounds);
            let due: Vec<i64> = due.copied().collect();
            for id in &due {
                self.requests
                    .send(LeaseKeepAliveRequest { id: *id })
                    .await?;
            }
            for id in due {
                let renewed = self.responses.message().await?.ok_or("a stream ended")?;
                if (renewed.id, renewed.ttl) != (id, ttl as i64) {
                    return Err(format!("lease {id} was not renewed: {renewed:?}").into());
                }
                if window.is_some_and(|(begin, _)| asked >= begin) {
                    delays.record(asked.elapsed().as_micros() as u64)?;
                }
            }
        }
        Ok(delays)
    }
}
