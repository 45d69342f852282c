//! One of the two clusters: asked at one machine, and at the next where that one does not answer, until patience ends.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::client::{Endpoint, Endpoints, Link};
use crate::error::is_absence;
use crate::migrate::error::{MigrateError, Result, Which};
use crate::migrate::headed::Headed;
use crate::proto::{KeyValue, RangeRequest};
use crate::range::KeyRange;

/// The pause before a cluster is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// One of the two clusters.
pub(crate) struct Side {
    which: Which,
    endpoints: Endpoints,
    /// How long it is waited for once it does not answer.
    patience: Duration,
    /// Its keys that matter, which whoever asks may read.
    range: KeyRange,
    /// Its number, by the first answer; zero before that.
    cluster: Cell<u64>,
    held: RefCell<Held>,
}

/// The connection that is in use.
struct Held {
    link: Link,
    /// Its endpoint's place in the list.
    place: usize,
    /// How many connections there were before it.
    number: u64,
}

/// For how long a cluster has not answered.
#[derive(Default)]
pub(crate) struct Silence(Option<Instant>);

impl Silence {
    /// It has not answered, again.
    fn goes_on(&mut self) -> Duration {
        self.0.get_or_insert_with(Instant::now).elapsed()
    }

    /// It has answered.
    pub(crate) fn ends(&mut self) {
        self.0 = None;
    }
}

impl Side {
    /// Connects to the first endpoint that answers. Nothing is waited for: an address may be wrong. Those that answer are one cluster.
    pub(crate) async fn connect(
        which: Which,
        endpoints: Endpoints,
        patience: Duration,
        range: KeyRange,
    ) -> crate::error::Result<Side> {
        let mut failures = Vec::new();
        for (place, endpoint) in endpoints.list.iter().enumerate() {
            match endpoints.connect(endpoint).await {
                Ok(link) => {
                    let number = 0;
                    let held = RefCell::new(Held {
                        link,
                        place,
                        number,
                    });
                    let side = Side {
                        which,
                        endpoints,
                        patience,
                        range,
                        cluster: Cell::new(0),
                        held,
                    };
                    side.look_whose_they_are(place).await?;
                    return Ok(side);
                }
                Err(crate::error::Error::Unreachable { reason, .. }) => {
                    failures.push(format!("  {endpoint}: {reason}"));
                }
                Err(error) => return Err(error),
            }
        }
        Err(MigrateError::Unreachable { which, failures }.into())
    }

    /// Whether this endpoint and those after it are of one cluster, as far as they answer.
    async fn look_whose_they_are(&self, first: usize) -> Result<()> {
        let (link, _) = self.link();
        let others = self.endpoints.list[first + 1..].iter();
        let told = others.map(async |endpoint| {
            let link = self.endpoints.connect(endpoint).await.ok()?;
            Some((endpoint, self.whose(&link).await.ok()?))
        });
        if let Ok(cluster) = self.whose(&link).await {
            self.is_of(&link.endpoint, cluster)?;
        }
        for (endpoint, cluster) in join_all(told).await.into_iter().flatten() {
            self.is_of(endpoint, cluster)?;
        }
        Ok(())
    }

    /// The number of the cluster of which a machine is. It answers by itself, whether it knows a leader or not.
    async fn whose(&self, link: &Link) -> std::result::Result<u64, Status> {
        let request = RangeRequest {
            key: self.range.key.clone().into(),
            range_end: self.range.range_end.clone().into(),
            serializable: true,
            keys_only: true,
            limit: 1,
            ..RangeRequest::default()
        };
        Ok(link.kv().range(request).await?.cluster())
    }

    /// Compares the cluster that an answer names with that of the first answer.
    ///
    /// # Errors
    /// [`MigrateError::AnotherCluster`].
    pub(crate) fn is_of(&self, endpoint: &Endpoint, found: u64) -> Result<()> {
        let first = self.cluster.get();
        if first == 0 {
            self.cluster.set(found);
        }
        match found == 0 || first == 0 || found == first {
            true => Ok(()),
            false => Err(MigrateError::AnotherCluster {
                which: self.which,
                endpoint: endpoint.clone(),
                first,
                found,
            }),
        }
    }

    /// The connection that is in use, and its number.
    pub(crate) fn link(&self) -> (Link, u64) {
        let held = self.held.borrow();
        (held.link.clone(), held.number)
    }

    /// Asks until there is an answer, or a refusal that will not pass. What is asked may be carried out more than once.
    ///
    /// # Errors
    /// The refusal, or the last failure once patience has ended; [`MigrateError::AnotherCluster`].
    pub(crate) async fn ask<T: Headed>(
        &self,
        what: &'static str,
        ask: impl AsyncFn(Link) -> std::result::Result<T, Status>,
    ) -> Result<T> {
        let mut silence = Silence::default();
        loop {
            let (link, number) = self.link();
            let endpoint = link.endpoint.clone();
            match ask(link).await {
                Ok(answer) => {
                    self.is_of(&endpoint, answer.cluster())?;
                    return Ok(answer);
                }
                Err(status) => self.wait_out(&mut silence, number, what, status).await?,
            }
        }
    }

    /// Waits a little after a failure that may pass, and turns to the next machine.
    ///
    /// # Errors
    /// The failure, where it will not pass or has lasted for too long.
    pub(crate) async fn wait_out(
        &self,
        silence: &mut Silence,
        number: u64,
        what: &'static str,
        status: Status,
    ) -> Result<()> {
        if !passes(&status) || silence.goes_on() >= self.patience {
            return Err(self.refused(what, status));
        }
        sleep(PAUSE).await;
        self.turn_to_the_next(number).await
    }

    fn refused(&self, what: &'static str, status: Status) -> MigrateError {
        MigrateError::Refused {
            which: self.which,
            endpoint: self.held.borrow().link.endpoint.clone(),
            what,
            status: Box::new(status),
        }
    }

    /// Connects to the machine after the one that failed, unless somebody has already. It must answer, and as the same cluster: what is
    /// written at another's machine is written before its answer tells whose it is.
    async fn turn_to_the_next(&self, failed: u64) -> Result<()> {
        let place = {
            let held = self.held.borrow();
            if held.number != failed {
                return Ok(());
            }
            (held.place + 1) % self.endpoints.list.len()
        };
        let endpoint = &self.endpoints.list[place];
        let connected = match self.endpoints.connect(endpoint).await {
            Ok(link) => self.whose(&link).await.ok().map(|cluster| (link, cluster)),
            Err(_) => None,
        };
        if let Some((_, cluster)) = &connected {
            self.is_of(endpoint, *cluster)?;
        }
        let mut held = self.held.borrow_mut();
        if held.number != failed {
            return Ok(());
        }
        held.place = place;
        // Else the old connection is tried again, which dials anew by itself.
        if let Some((link, _)) = connected {
            held.link = link;
            held.number += 1;
        }
        Ok(())
    }

    /// One key as it is.
    pub(crate) async fn pair(&self, key: &Bytes) -> Result<Option<KeyValue>> {
        let request = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let read = async |link: Link| link.kv().range(request.clone()).await;
        let answer = self.ask("looking at a key", read).await?.into_inner();
        Ok(answer.kvs.into_iter().next())
    }

    /// Some key of the range with its mod revision, and without its value; none if the range has none.
    pub(crate) async fn any_key(&self) -> Result<Option<KeyValue>> {
        let request = RangeRequest {
            key: self.range.key.clone().into(),
            range_end: self.range.range_end.clone().into(),
            keys_only: true,
            limit: 1,
            ..RangeRequest::default()
        };
        let read = async |link: Link| link.kv().range(request.clone()).await;
        let answer = self.ask("looking at a key", read).await?.into_inner();
        Ok(answer.kvs.into_iter().next())
    }

    /// The newest revision, how many keys there are in a range, and the cluster's number.
    pub(crate) async fn standing(&self, range: &KeyRange) -> Result<Standing> {
        let request = RangeRequest {
            key: range.key.clone().into(),
            range_end: range.range_end.clone().into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let count = async |link: Link| link.kv().range(request.clone()).await;
        let answer = self.ask("counting the keys", count).await?.into_inner();
        let header = answer.header.unwrap_or_default();
        Ok(Standing {
            revision: header.revision,
            cluster: header.cluster_id,
            keys: u64::try_from(answer.count).unwrap_or(0),
        })
    }
}

/// How it stands with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its newest revision.
    pub(crate) revision: i64,
    /// Its number.
    pub(crate) cluster: u64,
    /// How many keys the range has.
    pub(crate) keys: u64,
}

/// Whether a failure may pass by itself, or at another machine. Tokens end, and are forgotten by a machine that was started again.
fn passes(status: &Status) -> bool {
    let text = status.message();
    is_absence(status)
        || status.code() == Code::Unauthenticated
        || text.contains("too many requests")
        || text.contains("revision of auth store is old")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_machine_or_time_may_mend_is_waited_out() {
        for status in [
            Status::unavailable("etcdserver: no leader"),
            Status::unauthenticated("etcdserver: invalid auth token"),
            Status::resource_exhausted("etcdserver: too many requests"),
        ] {
            assert!(passes(&status), "{status}");
        }
        for status in [
            Status::permission_denied("etcdserver: permission denied"),
            Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
        ] {
            assert!(!passes(&status), "{status}");
        }
    }
}
