//! A run: each step at etcd and at our machines, and what both told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use rm_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
use rm_tests::etcd::Etcd;
use rm_tests::watching::{everything, from};
use rm_tests::{Client, Cluster, Settings};

use crate::answers::{Answer, answer};
use crate::requests::Maker;
use crate::steps::{Question, Step};
use crate::streams::{Log, NO_WATCHER, Stream, Told};

/// The number of the watcher of all keys in each stream.
const ALL: i64 = 0;

/// The number of the watcher by which a member of etcd shows that it has told all others what they missed.
const LATE: i64 = 1_000;

/// The key that is put so that all streams are told something.
const MARK: &str = "mark";

/// The most watchers of a stream.
const WATCHERS_MAX: usize = 12;

/// The largest request, in bytes, here and there: so large responses go in fragments here from this on, in etcd from 512 KiB more on.
const REQUEST_BYTES_MAX: usize = 800 * 1024;

/// How often streams tell of progress by themselves, in milliseconds: the least that etcd takes.
const PROGRESS_INTERVAL_MS: u64 = 100;

/// What a run has seen of all that it is to see.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) refused: usize,
    pub(crate) events: usize,
    pub(crate) watchers: usize,
    pub(crate) watchers_refused: usize,
    pub(crate) watchers_compacted: usize,
    pub(crate) watchers_cancelled: usize,
    pub(crate) notices: usize,
    /// Those that watchers were told without asking, here and there.
    pub(crate) own_notices: [usize; 2],
    /// The fragments with more to come, here and there.
    pub(crate) fragments: [usize; 2],
}

impl Seen {
    /// Proves that a run was as rich as it should be.
    pub(crate) fn assert_all(&self) {
        let [ours, theirs] = [0, 1].map(|side| [self.own_notices[side], self.fragments[side]]);
        let watchers = [
            self.watchers,
            self.watchers_refused,
            self.watchers_compacted,
            self.watchers_cancelled,
        ];
        let counts = [&[self.refused, self.events], &watchers[..], &ours, &theirs].concat();
        assert!(counts.iter().all(|count| *count > 0), "{self:?}");
    }
}

/// The streams at one member of each cluster, and the watchers in them that a client knows of.
struct Pair {
    ours: Stream,
    theirs: Stream,
    watchers: BTreeMap<i64, WatchCreateRequest>,
    /// Whether a watcher began in the past since a member of etcd has shown last that it has told everything.
    is_late: bool,
}

impl Pair {
    fn both(&self) -> [&Stream; 2] {
        [&self.ours, &self.theirs]
    }
}

pub(crate) struct Comparison {
    seed: u64,
    cluster: Cluster,
    _etcd: Etcd,
    ours: Client,
    theirs: Client,
    pairs: Vec<Pair>,
    maker: Maker,
    /// The revisions that deleted something.
    deleting: BTreeSet<i64>,
    /// What is done now, as a text for whoever looks for the difference.
    now: String,
    seen: Seen,
}

impl Comparison {
    pub(crate) async fn start(seed: u64) -> Comparison {
        let settings = Settings::trio()
            .with_timings_of_an_operator()
            .with("limits.request_bytes_max", REQUEST_BYTES_MAX)
            .with("watch.progress_interval_ms", PROGRESS_INTERVAL_MS);
        let cluster = Cluster::start(settings).await;
        let etcd = Etcd::start_with(&[
            format!("--max-request-bytes={REQUEST_BYTES_MAX}"),
            format!("--experimental-watch-progress-notify-interval={PROGRESS_INTERVAL_MS}ms"),
        ])
        .await;
        let endpoints = etcd.endpoints.iter();
        let theirs = Client::new(endpoints.map(|it| it.parse().expect("an address")));
        let mut comparison = Comparison {
            seed,
            ours: cluster.client(),
            cluster,
            theirs,
            _etcd: etcd,
            pairs: Vec::new(),
            maker: Maker::new(seed),
            deleting: BTreeSet::new(),
            now: "before the first step".to_owned(),
            seen: Seen::default(),
        };
        for member in 0..3 {
            let pair = comparison.open(member, 1).await;
            comparison.pairs.push(pair);
        }
        comparison
    }

    /// Opens a stream at a member of each, with a watcher of all keys.
    async fn open(&mut self, member: usize, start_revision: i64) -> Pair {
        let all = WatchCreateRequest {
            prev_kv: true,
            fragment: true,
            ..from(start_revision, everything())
        };
        Pair {
            ours: Stream::open(&self.ours, member, all.clone()).await,
            theirs: Stream::open(&self.theirs, member, all).await,
            watchers: BTreeMap::new(),
            is_late: start_revision > 0,
        }
    }

    /// Makes so many steps, then looks at all that was told.
    pub(crate) async fn run(mut self, steps: usize) -> Seen {
        for number in 0..steps {
            let member = self.maker.rng.usize(0..3);
            let watchers: Vec<i64> = self.pairs[member].watchers.keys().copied().collect();
            let step = self.maker.step(&watchers);
            self.now = format!("step {number}, through member {member}: {step:#?}");
            self.step(member, step).await;
        }
        self.now = "after the last step".to_owned();
        self.settle(&[0, 1, 2]).await;
        for pair in &self.pairs {
            pair.count(&mut self.seen);
        }
        self.cluster.same_everywhere().await;
        self.cluster.assert_nobody_panicked();
        self.seen
    }

    async fn step(&mut self, member: usize, step: Step) {
        match step {
            Step::Ask(question) => self.ask(member, question).await,
            Step::AskTwice(question) => {
                self.ask(member, question.clone()).await;
                self.ask(member, question).await;
            }
            Step::Watch(request) if self.pairs[member].watchers.len() < WATCHERS_MAX => {
                self.watch(member, request).await;
            }
            Step::Watch(_) => {
                let first = self.pairs[member].watchers.keys().next().copied();
                self.cancel(member, first.unwrap_or(NO_WATCHER)).await;
            }
            Step::Cancel(id) => self.cancel(member, id).await,
            Step::Progress => self.settle(&[member]).await,
            Step::Reopen => {
                self.settle(&[member]).await;
                self.pairs[member].count(&mut self.seen);
                self.pairs[member] = self.open(member, 0).await;
            }
        }
    }

    async fn ask(&mut self, member: usize, question: Question) {
        if question.is_answered_locally() {
            self.catch_up().await;
        }
        if let Question::Compact(_) = question {
            self.settle(&[0, 1, 2]).await;
        }
        let (our, their) = tokio::join!(
            answer(&self.ours, member, question.clone()),
            answer(&self.theirs, member, question.clone()),
        );
        self.same("the answers", &our.text, &their.text);
        self.note(&question, &their);
    }

    /// Keeps what the next steps are made up from.
    fn note(&mut self, question: &Question, answer: &Answer) {
        self.seen.refused += usize::from(answer.is_refusal);
        self.maker.newest = self.maker.newest.max(answer.revision.unwrap_or(0));
        if let (Question::Compact(request), false) = (question, answer.is_refusal) {
            self.maker.compacted = request.revision;
        }
    }

    /// Waits until each member has applied all that was answered: what a member of etcd answers by itself may else be older.
    async fn catch_up(&self) {
        for client in [&self.ours, &self.theirs] {
            let read = async |member| {
                let read = RangeRequest {
                    key: MARK.into(),
                    count_only: true,
                    ..RangeRequest::default()
                };
                let read = client.range_on(member, read).await;
                read.expect("there is a leader");
            };
            tokio::join!(read(0), read(1), read(2));
        }
    }

    /// Asks for a watcher in both streams of a member.
    async fn watch(&mut self, member: usize, mut request: WatchCreateRequest) {
        let start = request.start_revision;
        // etcd 3.4 forgets deletions at the compacted revision itself (etcd #19179).
        if start == self.maker.compacted && self.deleting.contains(&start) {
            request.start_revision += 1;
        }
        self.catch_up().await;
        let pair = &self.pairs[member];
        tokio::join!(
            pair.ours.create(request.clone()),
            pair.theirs.create(request.clone())
        );
        let answered = pair.both().map(|stream| stream.look(|log| log.answered));
        self.same("the numbers of watchers", &answered[0], &answered[1]);
        let id = answered[0];
        if id == NO_WATCHER {
            self.seen.watchers_refused += 1;
            return;
        }
        let start = request.start_revision;
        if start != 0 && start < self.maker.compacted {
            return self.end_compacted(member, id).await;
        }
        self.seen.watchers += 1;
        let pair = &mut self.pairs[member];
        pair.is_late |= start != 0 && start <= self.maker.newest;
        pair.watchers.insert(id, request);
    }

    /// A watcher wants what is compacted, and is told so by both.
    async fn end_compacted(&mut self, member: usize, id: i64) {
        self.seen.watchers_compacted += 1;
        let pair = &self.pairs[member];
        let is_compacted = |told: &Told| matches!(told, Told::Compacted { .. });
        for stream in pair.both() {
            let is_told = |told: &Vec<Told>| told.last().is_some_and(is_compacted);
            let is_over = |log: &Log| log.told.get(&id).is_some_and(is_told);
            stream
                .until("a watcher is told that it wants what is compacted", is_over)
                .await;
        }
        // In etcd its number is free only once the client ends it, which is told once more.
        pair.theirs.end(id).await;
        pair.theirs.take_back(id);
    }

    async fn cancel(&mut self, member: usize, id: i64) {
        // An event that is on its way when its watcher is ended comes in etcd after the end, or never.
        self.settle(&[member]).await;
        let pair = &mut self.pairs[member];
        if pair.watchers.remove(&id).is_some() {
            tokio::join!(pair.ours.end(id), pair.theirs.end(id));
            self.seen.watchers_cancelled += 1;
        } else {
            // Of one that is not there both say nothing.
            tokio::join!(pair.ours.cancel(id), pair.theirs.cancel(id));
        }
    }

    /// Waits until the streams of these members have told all that has happened, and compares that.
    async fn settle(&mut self, members: &[usize]) {
        // Who waits for what is to come is told of no progress here, as in etcd 3.6; etcd 3.4 tells them too (etcd #20221).
        let watchers = members
            .iter()
            .flat_map(|&it| self.pairs[it].watchers.values());
        let last_start = watchers.map(|it| it.start_revision).max().unwrap_or(0);
        self.mark().await;
        while self.maker.newest < last_start {
            self.mark().await;
        }
        if members.iter().any(|&member| self.pairs[member].is_late) {
            self.catch_up().await;
            for &member in members {
                self.pairs[member].tell_late(self.maker.newest).await;
            }
            self.mark().await;
        }
        for &member in members {
            let newest = self.maker.newest;
            let pair = &self.pairs[member];
            for stream in pair.both() {
                let is_told = |log: &Log| log.newest(ALL) >= newest;
                stream
                    .until("the watcher of all keys is told everything", is_told)
                    .await;
            }
            // etcd 3.4 tells of progress what is not told yet (etcd #15220): now all is, there.
            tokio::join!(pair.ours.progress(), pair.theirs.progress());
            self.seen.notices += 1;
            self.compare(member);
        }
    }

    /// Puts a key of which the watchers of all keys are told.
    async fn mark(&mut self) {
        let put = PutRequest {
            key: MARK.into(),
            ..PutRequest::default()
        };
        let (our, their) = tokio::join!(
            answer(&self.ours, 0, Question::Put(put.clone())),
            answer(&self.theirs, 0, Question::Put(put.clone())),
        );
        self.same("the answers to the put of a mark", &our.text, &their.text);
        self.note(&Question::Put(put), &their);
    }

    /// Compares what the two streams of a member have told.
    fn compare(&mut self, member: usize) {
        let pair = &self.pairs[member];
        let (ours, theirs) = (pair.ours.take(), pair.theirs.take());
        let ids: BTreeSet<i64> = ours.keys().chain(theirs.keys()).copied().collect();
        for id in ids {
            let none = Vec::new();
            let (our, their) = (
                ours.get(&id).unwrap_or(&none),
                theirs.get(&id).unwrap_or(&none),
            );
            let request = pair.watchers.get(&id);
            let what = format!("what watcher {id} of member {member} is told: {request:#?}");
            self.same_told(&what, our, their);
            let wrong = our.iter().find(|told| matches!(told, Told::Wrong(_)));
            assert_eq!(wrong, None, "{what}");
        }
        for told in ours.get(&ALL).into_iter().flatten() {
            if let Told::Event(event) = told {
                self.seen.events += 1;
                let kv = event.kv.as_ref().expect("an event has a key");
                if kv.version == 0 {
                    self.deleting.insert(kv.mod_revision);
                }
            }
        }
        for stream in pair.both() {
            let asked =
                |id: &i64| *id == ALL || pair.watchers.get(id).is_some_and(|it| it.fragment);
            let unasked = stream.look(|log| log.fragmented.iter().copied().find(|id| !asked(id)));
            assert_eq!(unasked, None, "a watcher is told in fragments unasked");
        }
    }

    /// Of two lists only the first difference is told, and where it is.
    fn same_told(&self, what: &str, our: &[Told], their: &[Told]) {
        let pairs = our.iter().zip(their);
        let same = pairs.take_while(|(our, their)| our == their).count();
        let next = |told: &[Told]| format!("{:#?}", told.get(same));
        let lengths = format!("{} told here and {} there", our.len(), their.len());
        let what = format!("{what}\nthe first {same} are the same of {lengths}");
        self.same(&what, &next(our), &next(their));
    }

    fn same<T: PartialEq + Display>(&self, what: &str, our: &T, their: &T) {
        if our != their {
            let (seed, now) = (self.seed, &self.now);
            panic!("RM_SEED={seed}, {now}\n{what}\nours: {our}\nof etcd: {their}");
        }
    }
}

impl Pair {
    /// Has the member of etcd tell late watchers what they missed, by one more that is late: it looks after all of them at once.
    async fn tell_late(&mut self, newest: i64) {
        if !std::mem::take(&mut self.is_late) {
            return;
        }
        let late = WatchCreateRequest {
            key: MARK.into(),
            start_revision: newest,
            watch_id: LATE,
            ..WatchCreateRequest::default()
        };
        self.theirs.create(late).await;
        let is_told = |log: &Log| log.newest(LATE) >= newest;
        self.theirs
            .until("a late watcher is told what it missed", is_told)
            .await;
        self.theirs.end(LATE).await;
        self.theirs.forget(LATE);
    }

    fn count(&self, seen: &mut Seen) {
        for (side, stream) in self.both().into_iter().enumerate() {
            seen.own_notices[side] += stream.look(|log| log.own_notices);
            seen.fragments[side] += stream.look(|log| log.fragments);
        }
    }
}
