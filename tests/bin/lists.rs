//! A client that lists keys over and over, until its standard input ends: what `tests/versus/lists` has beside clients that put or get. Says
//! `ready` by a line on standard output once the first list has come. The figures are a line of JSON there.
//!
//! Exit code 1, and the reason on standard error, when a list is refused, or does not have as many keys as there are.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use rm_proto::etcdserverpb::kv_client::KvClient;
use rm_proto::etcdserverpb::{RangeRequest, RangeResponse};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

/// What is listed, and the end of that range: the keys that `rmctl bench` puts.
const PREFIX: &str = "bench/";
const PREFIX_END: &str = "bench0";

/// How much of a list may be on its way: as much as it is, or each window of it would be waited for.
const WINDOW_BYTES: u32 = 16 << 20;

/// The longest list that the figures tell apart, in microseconds.
const LIST_US_MAX: u64 = 600_000_000;

/// Lists keys over and over.
#[derive(Parser)]
struct Options {
    /// A machine's client port, `host:port`.
    #[arg(long)]
    endpoint: String,
    /// How many keys there are.
    #[arg(long)]
    keys: u64,
    /// How they are asked for.
    #[arg(long, value_enum)]
    how: How,
    /// The keys of a page.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..))]
    page: i64,
    /// Ask the machine itself, without asking the others whether it is up to date.
    #[arg(long)]
    serializable: bool,
}

/// How keys are asked for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// All at once.
    Whole,
    /// All at once, the last changed first.
    Sorted,
    /// One page after the other, at the revision of the first.
    Pages,
    /// Only their number.
    Count,
}

/// What makes a run void.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let told = match run(&Options::parse()).await {
        Ok(figures) => writeln!(std::io::stdout(), "{figures}").map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lists: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<serde_json::Value, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{}", options.endpoint))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let client = KvClient::new(endpoint.connect().await?).max_decoding_message_size(usize::MAX);
    list(client.clone(), options).await?;
    writeln!(std::io::stdout(), "ready")?;
    std::io::stdout().flush()?;

    let is_over = Arc::new(AtomicBool::new(false));
    let tell = is_over.clone();
    std::thread::spawn(move || {
        // Whatever comes of it, there is no more to wait for.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        tell.store(true, Ordering::Relaxed);
    });
    let mut times = Histogram::<u64>::new_with_bounds(1, LIST_US_MAX, 2)?;
    while !is_over.load(Ordering::Relaxed) {
        times.record(list(client.clone(), options).await?.as_micros() as u64)?;
    }
    Ok(json!({
        "lists": times.len(),
        "list_ms_p50": times.value_at_quantile(0.5) as f64 / 1_000.0,
        "list_ms_max": times.max() as f64 / 1_000.0,
    }))
}

/// Lists all keys once; how long it took.
async fn list(mut client: KvClient<Channel>, options: &Options) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut request = RangeRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        serializable: options.serializable,
        ..RangeRequest::default()
    };
    match options.how {
        How::Whole => {}
        How::Sorted => {
            request.set_sort_order(rm_proto::etcdserverpb::range_request::SortOrder::Descend);
            request.set_sort_target(rm_proto::etcdserverpb::range_request::SortTarget::Mod);
        }
        How::Pages => request.limit = options.page,
        How::Count => request.count_only = true,
    }
    let mut listed = 0;
    loop {
        let response = client.range(request.clone()).await?.into_inner();
        listed += match options.how {
            How::Count => response.count as u64,
            _ => response.kvs.len() as u64,
        };
        if !response.more {
            break;
        }
        go_on_after(&mut request, response)?;
    }
    if listed != options.keys {
        return Err(format!("{listed} keys were listed, not {}", options.keys).into());
    }
    Ok(began.elapsed())
}

/// Has a request ask for the next page.
fn go_on_after(request: &mut RangeRequest, page: RangeResponse) -> Result<(), Failure> {
    let last = page.kvs.last().ok_or("more keys, and none of them")?;
    request.key = [&last.key[..], &[0]].concat().into();
    if request.revision == 0 {
        request.revision = page.header.ok_or("a reply without a header")?.revision;
    }
    Ok(())
}
