//! What happens to the source's keys, in whole revisions, by a watch that is opened anew wherever it breaks.

use std::collections::VecDeque;

use futures::FutureExt;
use futures::channel::mpsc;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

use crate::client::Endpoint;
use crate::migrate::batch::{Batch, Write};
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::headed::Headed;
use crate::migrate::scope::Scope;
use crate::migrate::side::{Side, Silence};
use crate::proto::{
    Event, EventType, RequestUnion, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse,
};

/// The most bytes of one response: etcd splits a response of several events at its largest request.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// How many bytes of changes are enough to be written together.
const ENOUGH_BYTES: usize = 1 << 20;
/// What the smallest change counts for, in bytes, so that their number has a bound.
const SMALLEST_CHANGE: usize = 256;
/// How many requests may wait to be sent: one opens the watch, others ask for progress.
const REQUESTS_MAX: usize = 4;
/// What is asked, where an error names it.
const WATCHING: &str = "watching keys";

/// The changes of the source's keys, in their order.
pub(crate) struct Feed<'a> {
    source: &'a Side,
    scope: &'a Scope,
    stream: Option<Open>,
    silence: Silence,
    /// What was heard and not yet taken. It is one response, and as many that follow as are enough to be written together.
    heard: VecDeque<Event>,
    /// All changes up to this revision have been heard.
    whole: i64,
    /// The newest revision of the source that was heard of.
    newest: i64,
}

/// A watch.
struct Open {
    /// The connection that it goes by.
    number: u64,
    /// The machine that it comes from.
    endpoint: Endpoint,
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    /// What came last from them, and is not yet dealt with.
    next: Option<Told>,
}

/// What comes from a stream: a response, its end, or why it broke.
type Told = std::result::Result<Option<WatchResponse>, Status>;

impl Open {
    async fn told(&mut self) -> Told {
        match self.next.take() {
            Some(told) => told,
            None => self.responses.message().await,
        }
    }

    /// A response that is here already.
    fn told_already(&mut self) -> Option<WatchResponse> {
        if self.next.is_none() {
            self.next = self.responses.message().now_or_never();
        }
        match self.next.take()? {
            Ok(Some(response)) if !response.canceled => Some(response),
            other => {
                self.next = Some(other);
                None
            }
        }
    }
}

impl<'a> Feed<'a> {
    /// The changes after a revision.
    pub(crate) fn new(source: &'a Side, scope: &'a Scope, revision: i64) -> Feed<'a> {
        Feed {
            source,
            scope,
            stream: None,
            silence: Silence::default(),
            heard: VecDeque::new(),
            whole: revision,
            newest: revision,
        }
    }

    /// Up to which revision all changes have been taken.
    pub(crate) fn taken(&self) -> i64 {
        match self.heard.front().map(revision) {
            Some(next) if next <= self.whole => next - 1,
            _ => self.whole,
        }
    }

    /// How many revisions there are that were not taken, by what was last heard.
    pub(crate) fn behind(&self) -> i64 {
        (self.newest - self.taken()).max(0)
    }

    /// Whether there is a watch.
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Waits for the next response. It may be given up at any time.
    ///
    /// # Errors
    /// [`MigrateError::Compacted`] if the source has compacted what comes next, a refusal, or the last failure where the source does not
    /// answer for too long.
    pub(crate) async fn listen(&mut self) -> Result<()> {
        loop {
            let failed = match &mut self.stream {
                None => match self.open().await {
                    Ok(open) => {
                        self.stream = Some(open);
                        continue;
                    }
                    Err(failed) => failed,
                },
                Some(open) => {
                    let told = open.told().await;
                    if let Ok(Some(response)) = &told {
                        self.source.is_of(&open.endpoint, response.cluster())?;
                    }
                    match told {
                        Ok(Some(response)) if response.canceled => {
                            let number = self.close();
                            if response.compact_revision > 0 {
                                return Err(MigrateError::Compacted(self.whole + 1));
                            }
                            (number, cancelled(response.cancel_reason))
                        }
                        Ok(Some(response)) => {
                            self.silence.ends();
                            self.hear(response);
                            return self.hear_what_is_there();
                        }
                        Ok(None) => (self.close(), Status::unavailable("the watch ended")),
                        Err(status) => (self.close(), status),
                    }
                }
            };
            let (number, status) = failed;
            let waited = self
                .source
                .wait_out(&mut self.silence, number, WATCHING, status);
            waited.await?;
        }
    }

    async fn open(&self) -> std::result::Result<Open, (u64, Status)> {
        let (link, number) = self.source.link();
        let endpoint = link.endpoint.clone();
        let (mut requests, taken) = mpsc::channel(REQUESTS_MAX);
        let range = self.scope.source();
        let create = WatchCreateRequest {
            key: range.key.into(),
            range_end: range.range_end.into(),
            start_revision: self.whole + 1,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        // etcd answers nothing before it is asked something, and the other end is here.
        let _ = requests.try_send(request(RequestUnion::CreateRequest(create)));
        let mut opening = Request::new(taken);
        // A machine that has lost the others ends the watch, rather than being silent.
        let metadata = opening.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        let mut watch = link.watch().max_decoding_message_size(RESPONSE_BYTES_MAX);
        match watch.watch(opening).await {
            Ok(responses) => Ok(Open {
                number,
                endpoint,
                requests,
                responses: responses.into_inner(),
                next: None,
            }),
            Err(status) => Err((number, status)),
        }
    }

    /// Changes that come one by one are written together where they come faster than they are written.
    fn hear_what_is_there(&mut self) -> Result<()> {
        let mut room = ENOUGH_BYTES;
        while let Some(open) = &mut self.stream
            && let Some(response) = open.told_already()
        {
            self.source.is_of(&open.endpoint, response.cluster())?;
            let pairs = response.events.iter().filter_map(|it| it.kv.as_ref());
            let bytes: usize = pairs.map(|pair| pair.key.len() + pair.value.len()).sum();
            self.hear(response);
            match room.checked_sub(bytes.max(SMALLEST_CHANGE)) {
                Some(rest) => room = rest,
                None => break,
            }
        }
        Ok(())
    }

    /// Gives the watch up. A revision that was heard in part is told again by the next one.
    fn close(&mut self) -> u64 {
        self.heard.retain(|event| revision(event) <= self.whole);
        self.stream.take().map_or(0, |open| open.number)
    }

    fn hear(&mut self, response: WatchResponse) {
        let told = response.header.map_or(0, |header| header.revision);
        self.newest = self.newest.max(told);
        let is_all = self
            .heard
            .back()
            .is_none_or(|it| revision(it) <= self.whole);
        match response.events.last().map(revision) {
            Some(last) => self.whole = self.whole.max(last - i64::from(response.fragment)),
            // A notice of progress: nothing else has happened up to there.
            None if !response.created && is_all => self.whole = self.whole.max(told),
            None => {}
        }
        self.heard.extend(response.events);
    }

    /// Asks how far the source has come where it changes nothing. A question more or less is no matter.
    pub(crate) fn ask_for_progress(&mut self) {
        if let Some(open) = &mut self.stream {
            let question = RequestUnion::ProgressRequest(WatchProgressRequest {});
            let _ = open.requests.try_send(request(question));
        }
    }

    /// Takes changes to write at the target, whole revisions up to this one; none if there are none yet. Revisions that change a key
    /// twice, or are together more than a transaction takes, are not taken together.
    pub(crate) fn take(&mut self, up_to: i64, operations_max: usize) -> Option<Vec<Write>> {
        let mut batch = Batch::new(operations_max);
        loop {
            let next = self.heard.front().map(revision);
            let next = next.filter(|next| *next <= self.whole.min(up_to));
            let revision_of = self
                .heard
                .iter()
                .take_while(|it| Some(revision(it)) == next);
            let writes: Vec<Write> = revision_of.map(|event| self.write(event)).collect();
            if next.is_none() || !(batch.is_empty() || batch.has_room_for(&writes)) {
                break;
            }
            self.heard.drain(..writes.len());
            writes.into_iter().for_each(|write| batch.push(write));
        }
        (!batch.is_empty()).then(|| batch.into_writes())
    }

    fn write(&self, event: &Event) -> Write {
        let mut pair = event.kv.clone().unwrap_or_default();
        pair.key = self.scope.renamed(&pair.key);
        match event.r#type() {
            EventType::Put => Write::put(pair),
            EventType::Delete => Write::Delete(pair.key),
        }
    }
}

/// Why a watch was ended. A token that has ended is proved anew by the next connection.
fn cancelled(reason: String) -> Status {
    match reason.contains("permission denied") && !reason.contains("token") {
        true => Status::permission_denied(reason),
        false => Status::unavailable(reason),
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |pair| pair.mod_revision)
}
