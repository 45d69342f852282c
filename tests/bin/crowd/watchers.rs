//! Watchers of one prefix. Each must be told of every put once, and in order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use rm_proto::etcdserverpb::kv_client::KvClient;
use rm_proto::etcdserverpb::watch_client::WatchClient;
use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_stream::{self as stream, StreamExt};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::{Failure, await_begin, connect, share};

/// What is watched, and the end of that range.
const PREFIX: &str = "crowd/";
const PREFIX_END: &str = "crowd0";

/// How many keys are put, in turn.
const KEYS: u64 = 1_000;

/// The largest delay that the figures tell apart, in microseconds.
const DELAY_US_MAX: u64 = 600_000_000;

/// What is put, and who watches.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Watchers, spread over the streams.
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Puts a second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// The size of a value; it begins with the time at which it was due.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=1_000_000))]
    value_bytes: u64,
}

/// Runs the load; its figures.
pub(crate) async fn run(options: &crate::Options, load: &Options) -> Result<Value, Failure> {
    let channels = connect(options).await?;
    let streams = options.connections * options.streams;
    let puts = load.rate * options.seconds;
    let mut opened = Vec::with_capacity(streams);
    for number in 0..streams {
        let channel = channels[number % channels.len()].clone();
        opened.push(open(channel, share(load.watchers, streams, number)).await?);
    }
    await_begin().await?;

    let began = Instant::now();
    let mut listeners = JoinSet::new();
    for listener in opened {
        listeners.spawn(listener.listen(puts, began));
    }
    let putting = tokio::spawn(put_all(
        channels,
        load.rate,
        puts,
        load.value_bytes as usize,
        began,
    ));
    let mut delays = delays();
    while let Some(heard) = listeners.join_next().await {
        delays.add(heard??)?;
    }
    let all_told = began.elapsed();
    let last_put = putting.await??;
    Ok(json!({
        "events": delays.len(),
        "puts": puts,
        "put_seconds": last_put.as_secs_f64(),
        "seconds": all_told.as_secs_f64(),
        "delay_ms_p50": delays.value_at_quantile(0.5) as f64 / 1_000.0,
        "delay_ms_p99": delays.value_at_quantile(0.99) as f64 / 1_000.0,
    }))
}

fn delays() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DELAY_US_MAX, 2).expect("the bounds are right")
}

/// One stream and its watchers.
struct Listener {
    responses: Streaming<WatchResponse>,
    /// What each was told: how many puts, and the revision of the last.
    told: HashMap<i64, (u64, i64)>,
}

/// Opens a stream, and waits until its watchers are there.
async fn open(channel: Channel, watchers: usize) -> Result<Listener, Failure> {
    let create = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The stream of requests stays open, or etcd would take the client for gone.
    let requests = stream::iter(vec![request; watchers]).chain(stream::pending());
    let mut client = WatchClient::new(channel);
    let mut responses = client.watch(requests).await?.into_inner();
    let mut told = HashMap::new();
    while told.len() < watchers {
        match responses.message().await? {
            Some(response) if response.created && !response.canceled => {
                told.insert(response.watch_id, (0, 0));
            }
            other => return Err(format!("a watcher was not made: {other:?}").into()),
        }
    }
    Ok(Listener { responses, told })
}

impl Listener {
    /// Listens until all its watchers were told of all; how late.
    async fn listen(mut self, puts: u64, began: Instant) -> Result<Histogram<u64>, Failure> {
        let mut delays = delays();
        let mut missing = puts * self.told.len() as u64;
        while missing > 0 {
            let response = self.responses.message().await?;
            let response = response.ok_or("a stream of watchers ended")?;
            let told = self.told.get_mut(&response.watch_id);
            let (count, revision) = told.ok_or_else(|| format!("nobody's: {response:?}"))?;
            if response.canceled {
                return Err(format!("a watcher was ended: {response:?}").into());
            }
            let now_us = began.elapsed().as_micros() as u64;
            for event in response.events {
                let kv = event.kv.ok_or("an event without a key")?;
                if kv.mod_revision <= *revision || *count == puts {
                    return Err(format!("told twice or too late: {kv:?}").into());
                }
                (*revision, *count) = (kv.mod_revision, *count + 1);
                missing -= 1;
                delays.record(now_us.saturating_sub(due_us(&kv.value)?))?;
            }
        }
        Ok(delays)
    }
}

fn due_us(value: &[u8]) -> Result<u64, Failure> {
    let due = value.first_chunk().ok_or("a value that nobody put")?;
    Ok(u64::from_be_bytes(*due))
}

/// Puts at a rate, whether those before are answered or not; when the last one was.
async fn put_all(
    channels: Vec<Channel>,
    rate: u64,
    puts: u64,
    value_bytes: usize,
    began: Instant,
) -> Result<Duration, Failure> {
    let mut under_way = JoinSet::new();
    for (number, channel) in (0..puts).zip(channels.iter().cycle()) {
        let due = Duration::from_micros(number * 1_000_000 / rate);
        tokio::time::sleep_until((began + due).into()).await;
        let mut value = vec![0; value_bytes];
        value[..8].copy_from_slice(&(due.as_micros() as u64).to_be_bytes());
        let request = PutRequest {
            key: format!("{PREFIX}{}", number % KEYS).into(),
            value: Bytes::from(value),
            ..PutRequest::default()
        };
        let mut client = KvClient::new(channel.clone());
        under_way.spawn(async move { client.put(request).await.map(drop) });
        while let Some(put) = under_way.try_join_next() {
            put??;
        }
    }
    while let Some(put) = under_way.join_next().await {
        put??;
    }
    Ok(began.elapsed())
}
