//! The load generator: many clients on few connections, each sending its next request when its last is answered.
//!
//! Each thread has a runtime, connections, clients and figures of its own, so nothing is locked on the way of a request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rm_tls::Dialler;
use tokio::runtime;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::client::Endpoint;
use crate::error::{Error, Result};
use crate::http2::Connection;
use crate::statistics::Tally;
use crate::workload::{Keys, Workload};

/// How long a client waits after a failure, so that a dead machine is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What a load is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The machines; connections go round them.
    pub(crate) endpoints: Vec<Endpoint>,
    /// How to dial them by TLS, if not in plain.
    pub(crate) dialler: Option<Dialler>,
    /// What is asked.
    pub(crate) workload: Workload,
    /// Concurrent requests.
    pub(crate) clients: usize,
    /// Connections that they share.
    pub(crate) connections: usize,
    /// Threads of the generator.
    pub(crate) threads: usize,
    /// Load before anything is measured.
    pub(crate) warmup: Duration,
    /// When it ends.
    pub(crate) end: End,
    /// How long a request may take.
    pub(crate) timeout: Duration,
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After so many requests, the warm-up not counted.
    After(u64),
    /// After so long, the warm-up not counted.
    At(Duration),
}

impl End {
    /// How long the load lasts, where that is known beforehand; else zero.
    pub(crate) fn duration(self) -> Duration {
        match self {
            End::After(_) => Duration::ZERO,
            End::At(duration) => duration,
        }
    }
}

/// What the threads share while a load runs, and who watches it may read.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Requests given to clients, of those that count.
    taken: AtomicU64,
    /// Requests that are over, of those that count.
    finished: AtomicU64,
    /// A thread could not reach its machines: the others need not begin.
    abandoned: AtomicBool,
}

impl Progress {
    /// Requests that are over, the warm-up not counted.
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }
}

/// Figures of all threads, and how long the measured part took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
}

/// Runs a load on threads of its own and calls `watch` now and then until it is over.
///
/// # Errors
/// A machine that cannot be reached at the start. Requests that fail later are counted instead.
pub(crate) fn run(plan: &Plan, mut watch: impl FnMut(&Progress)) -> Result<Outcome> {
    let connections = plan.connections.clamp(1, plan.clients.max(1));
    let threads = plan.threads.clamp(1, connections);
    let progress = Arc::new(Progress::default());
    let start = Arc::new(Barrier::new(threads));
    let running: Vec<_> = (0..threads)
        .map(|number| {
            let share = Share {
                plan: plan.clone(),
                connections: (number..connections).step_by(threads).collect(),
                clients: (number..plan.clients.max(1)).step_by(threads).collect(),
                progress: progress.clone(),
                start: start.clone(),
            };
            thread::spawn(move || share.run())
        })
        .collect();
    while running.iter().any(|thread| !thread.is_finished()) {
        thread::park_timeout(Duration::from_millis(100));
        watch(&progress);
    }
    let mut whole = Outcome::default();
    for thread in running {
        let part = thread
            .join()
            .map_err(|_| Error::Panicked("a thread of the load generator"))??;
        whole.tally.merge(&part.tally);
        whole.elapsed = whole.elapsed.max(part.elapsed);
    }
    Ok(whole)
}

/// What one thread does.
struct Share {
    plan: Plan,
    connections: Vec<usize>,
    clients: Vec<usize>,
    progress: Arc<Progress>,
    start: Arc<Barrier>,
}

impl Share {
    fn run(self) -> Result<Outcome> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("cannot start the load generator"));
        match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, self.run_here()),
            Err(error) => {
                self.progress.abandoned.store(true, Ordering::Relaxed);
                self.start.wait();
                Err(error)
            }
        }
    }

    async fn run_here(self) -> Result<Outcome> {
        let opened = self.open().await;
        if opened.is_err() {
            self.progress.abandoned.store(true, Ordering::Relaxed);
        }
        self.start.wait();
        let connections = opened?;
        if self.progress.abandoned.load(Ordering::Relaxed) {
            return Ok(Outcome::default());
        }
        let begin = Instant::now();
        let clock = Clock {
            measure_from: begin + self.plan.warmup,
            end: self.plan.end,
        };
        let tally = Rc::new(RefCell::new(Tally::default()));
        let clients: Vec<_> = self
            .clients
            .iter()
            .enumerate()
            .map(|(position, &number)| {
                let client = Client {
                    connection: connections[position % connections.len()].clone(),
                    keys: self.plan.workload.keys(number),
                    workload: self.plan.workload.clone(),
                    clock,
                    progress: self.progress.clone(),
                    tally: tally.clone(),
                };
                tokio::task::spawn_local(client.run())
            })
            .collect();
        for client in clients {
            client
                .await
                .map_err(|_| Error::Panicked("a client of the load generator"))?;
        }
        Ok(Outcome {
            elapsed: clock.measure_from.elapsed(),
            tally: tally.take(),
        })
    }

    /// Dials every connection of this thread, so that dialling is no part of what is measured.
    async fn open(&self) -> Result<Vec<Rc<Connection>>> {
        let mut opened = Vec::new();
        for &number in &self.connections {
            let endpoint = &self.plan.endpoints[number % self.plan.endpoints.len()];
            let method = self.plan.workload.method();
            let connection = Connection::new(
                endpoint,
                method,
                self.plan.timeout,
                self.plan.dialler.clone(),
            );
            connection
                .open()
                .await
                .map_err(|reason| Error::Unreachable {
                    endpoint: endpoint.clone(),
                    reason,
                })?;
            opened.push(Rc::new(connection));
        }
        Ok(opened)
    }
}

/// When measuring begins and when sending ends.
#[derive(Clone, Copy)]
struct Clock {
    measure_from: Instant,
    end: End,
}

/// One client: a request after the other.
struct Client {
    connection: Rc<Connection>,
    keys: Keys,
    workload: Workload,
    clock: Clock,
    progress: Arc<Progress>,
    tally: Rc<RefCell<Tally>>,
}

impl Client {
    async fn run(mut self) {
        loop {
            let begin = Instant::now();
            let measured = begin >= self.clock.measure_from;
            if measured && !self.take(begin) {
                return;
            }
            let request = self.workload.request(self.keys.next());
            let answer = self.connection.call(request).await;
            if measured {
                self.progress.finished.fetch_add(1, Ordering::Relaxed);
            }
            match answer {
                Ok(answer) if measured => {
                    let empty = self.workload.is_empty(answer);
                    self.tally.borrow_mut().succeeded(begin.elapsed(), empty);
                }
                Ok(_) => {}
                Err(error) => {
                    if measured {
                        self.tally.borrow_mut().failed(|| error.to_string());
                    }
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Whether one more request is wanted.
    fn take(&self, now: Instant) -> bool {
        match self.clock.end {
            End::At(duration) => now < self.clock.measure_from + duration,
            End::After(total) => self.progress.taken.fetch_add(1, Ordering::Relaxed) < total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::workload::Order;

    fn plan(endpoints: Vec<Endpoint>, workload: Workload) -> Plan {
        Plan {
            endpoints,
            dialler: None,
            workload,
            clients: 8,
            connections: 3,
            threads: 2,
            warmup: Duration::ZERO,
            end: End::After(500),
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn exactly_the_asked_number_of_puts_arrives_with_the_asked_keys_and_sizes() {
        let fake = Fake::start();
        let workload = Workload::put(256, 1_000, Order::Sequential, 1);
        let outcome = run(&plan(vec![fake.endpoint()], workload), |_| ()).expect("a run");
        let summary = outcome.tally.summary(outcome.elapsed);
        assert_eq!((summary.requests, summary.failed), (500, 0));
        let stored = fake.keys();
        assert_eq!(stored.len(), 500, "sequential keys differ");
        assert!(stored.values().all(|value| value.len() == 256));
    }

    #[test]
    fn gets_of_keys_that_are_not_there_are_told_apart() {
        let fake = Fake::start();
        let mut filling = plan(
            vec![fake.endpoint()],
            Workload::put(8, 10, Order::Sequential, 1),
        );
        filling.end = End::After(10);
        run(&filling, |_| ()).expect("a run");
        let present = Workload::get(10, Order::Random, 1, true);
        let outcome = run(&plan(vec![fake.endpoint()], present), |_| ()).expect("a run");
        assert_eq!(outcome.tally.summary(outcome.elapsed).empty, 0);
        fake.clear();
        let absent = Workload::get(10, Order::Random, 1, true);
        let outcome = run(&plan(vec![fake.endpoint()], absent), |_| ()).expect("a run");
        assert_eq!(outcome.tally.summary(outcome.elapsed).empty, 500);
    }

    #[test]
    fn an_answer_with_an_error_is_counted_and_its_text_kept() {
        let fake = Fake::start();
        fake.refuse("etcdserver: no leader");
        let mut small = plan(
            vec![fake.endpoint()],
            Workload::put(8, 10, Order::Random, 1),
        );
        small.end = End::After(9);
        let outcome = run(&small, |_| ()).expect("a run");
        let summary = outcome.tally.summary(outcome.elapsed);
        assert_eq!((summary.requests, summary.failed), (0, 9));
        let text = summary.first_failure.expect("a text");
        assert!(text.contains("no leader"), "{text}");
    }

    #[test]
    fn a_machine_that_is_not_there_ends_the_run_before_it_begins() {
        let workload = Workload::put(8, 10, Order::Random, 1);
        let error = run(&plan(vec![Fake::absent()], workload), |_| ()).expect_err("nobody there");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn a_load_by_time_ends_by_itself() {
        let fake = Fake::start();
        let mut short = plan(
            vec![fake.endpoint()],
            Workload::put(8, 10, Order::Random, 1),
        );
        short.warmup = Duration::from_millis(20);
        short.end = End::At(Duration::from_millis(50));
        let outcome = run(&short, |_| ()).expect("a run");
        assert!(outcome.elapsed >= Duration::from_millis(50));
        assert!(outcome.tally.summary(outcome.elapsed).requests > 0);
    }
}
