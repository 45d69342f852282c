//! Probes: is the machine alive, and can it serve. etcd's three, with its words: `/health` for its monitors since 3.0,
//! `/livez` and `/readyz` with their checks for Kubernetes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use form_urlencoded::parse;
use http::{Response, StatusCode};
use rm_actors::port::{Consistency, Port, Query, Range, Refusal, RequestError};
use rm_proto::etcdserverpb::AlarmType;
use serde_json::json;
use tonic::body::Body;

use super::answer;
use super::exposition::Page;
use crate::alarm::alarms;
use crate::error::refused;

/// One question about the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// No damage of the data was found.
    DataCorruption,
    /// This machine answers from what it has.
    SerializableRead,
    /// A quorum confirms a read.
    LinearizableRead,
    /// It is no learner, which etcd's clients are not to be sent to.
    NonLearner,
}

/// Checks under one name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    name: &'static str,
    checks: &'static [Check],
}

/// Whether a restart would help. What others must do for it is no part of that.
const LIVE: Probe = Probe {
    name: "livez",
    checks: &[Check::SerializableRead],
};

/// Whether clients can be sent here.
const READY: Probe = Probe {
    name: "readyz",
    checks: &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ],
};

/// All probes with checks.
static PROBES: [Probe; 2] = [LIVE, READY];

/// The most checks of a probe.
const CHECKS_MAX: usize = READY.checks.len();

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Why it does not hold.
    async fn run(self, port: &Port) -> Result<(), String> {
        match self {
            Check::DataCorruption => no_alarm(port, AlarmType::Corrupt),
            Check::SerializableRead => read(port, Consistency::Serializable).await,
            Check::LinearizableRead => read(port, Consistency::Quorum).await,
            Check::NonLearner if port.report().is_learner => {
                Err("not supported for learner".to_owned())
            }
            Check::NonLearner => Ok(()),
        }
    }
}

/// What a path of checks names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The place of the probe.
    probe: usize,
    /// The place of the one check that is wanted; none for all.
    check: Option<usize>,
}

impl Asked {
    /// What a path names, if it does.
    pub(crate) fn at(path: &str) -> Option<Asked> {
        let path = path.strip_prefix('/')?;
        let (probe, check) = match path.split_once('/') {
            Some((probe, check)) => (probe, Some(check)),
            None => (path, None),
        };
        let probe = PROBES.iter().position(|each| each.name == probe)?;
        let mut checks = PROBES[probe].checks.iter();
        let check = match check {
            Some(name) => Some(checks.position(|check| check.name() == name)?),
            None => None,
        };
        Some(Asked { probe, check })
    }

    /// The checks that are wanted, with their places.
    fn checks(self) -> impl Iterator<Item = (usize, Check)> {
        let checks = PROBES[self.probe].checks.iter().copied().enumerate();
        checks.filter(move |(place, _)| self.check.is_none_or(|wanted| wanted == *place))
    }
}

/// Runs checks but for those that the query excludes, and says which failed; with `verbose` all of them.
pub(crate) async fn run(port: &Port, asked: Asked, query: &str, tally: &Tally) -> Response<Body> {
    let excluded = values(query, "exclude");
    let mut report = String::new();
    let mut holds = true;
    for (place, check) in asked.checks() {
        let name = check.name();
        if excluded.contains(name) {
            continue;
        }
        let outcome = check.run(port).await;
        tally.checks[asked.probe][place].count(outcome.is_ok());
        match outcome {
            Ok(()) => report += &format!("[+]{name} ok\n"),
            Err(reason) => {
                holds = false;
                report += &format!("[-]{name} failed: {reason}\n");
            }
        }
    }
    let verbose = parse(query.as_bytes()).any(|(key, _)| key == "verbose");
    match holds {
        true if verbose => answer::text(StatusCode::OK, report + "ok\n"),
        true => answer::text(StatusCode::OK, "ok\n"),
        false => answer::text(StatusCode::SERVICE_UNAVAILABLE, report),
    }
}

/// Whether the machine can serve. With `serializable=true` it need know no leader; `exclude=NOSPACE` passes over that alarm.
pub(crate) async fn health(port: &Port, query: &str, tally: &Tally) -> Response<Body> {
    let excluded = values(query, "exclude");
    let mut wishes = parse(query.as_bytes());
    let serializable = wishes.find(|(key, _)| key == "serializable");
    let serializable = serializable.is_some_and(|(_, value)| value == "true");
    let outcome = wellness(port, &excluded, serializable).await;
    tally.health.count(outcome.is_ok());
    match outcome {
        Ok(()) => {
            let health = json!({ "health": "true", "reason": "" }).to_string();
            answer::text(StatusCode::OK, health)
        }
        Err(reason) => {
            let health = json!({ "health": "false", "reason": reason }).to_string();
            answer::text(StatusCode::SERVICE_UNAVAILABLE, health + "\n")
        }
    }
}

/// Why the machine is not well, in etcd's words.
async fn wellness(
    port: &Port,
    excluded: &BTreeSet<String>,
    serializable: bool,
) -> Result<(), String> {
    for alarm in raised(port) {
        let name = alarm.as_str_name();
        if !excluded.contains(name) {
            return Err(format!("ALARM {name}"));
        }
    }
    if !serializable && port.report().leader.is_none() {
        return Err("RAFT NO LEADER".to_owned());
    }
    let consistency = match serializable {
        true => Consistency::Serializable,
        false => Consistency::Quorum,
    };
    let outcome = read(port, consistency).await;
    outcome.map_err(|reason| format!("RANGE ERROR:{reason}"))
}

/// Reads one key, whether it is there or not.
async fn read(port: &Port, consistency: Consistency) -> Result<(), String> {
    let range = Range {
        key: Bytes::from_static(b"\0"),
        limit: 1,
        keys_only: true,
        ..Range::default()
    };
    match port.query(Query::Range(range), consistency).await {
        // Probes need no permission: who is told that it may not read could have been told what it read.
        Ok(_) | Err(Refusal::Request(RequestError::Auth(_))) => Ok(()),
        Err(refusal) => Err(refused(refusal).message().to_owned()),
    }
}

fn no_alarm(port: &Port, alarm: AlarmType) -> Result<(), String> {
    match raised(port).any(|raised| raised == alarm) {
        true => Err(format!("alarm activated: {}", alarm.as_str_name())),
        false => Ok(()),
    }
}

/// The alarms that are raised.
fn raised(port: &Port) -> impl Iterator<Item = AlarmType> {
    let alarms = alarms(port.identity(), &port.report(), AlarmType::None);
    alarms.into_iter().map(|member| member.alarm())
}

/// All that a query says of one word, but for nothing.
fn values(query: &str, word: &str) -> BTreeSet<String> {
    let said = parse(query.as_bytes()).filter(|(key, value)| key == word && !value.is_empty());
    said.map(|(_, value)| value.into_owned()).collect()
}

/// How often checks held, and how often they did not.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    health: Outcomes,
    /// By probe and check, in the order of [`PROBES`].
    checks: [[Outcomes; CHECKS_MAX]; PROBES.len()],
}

#[derive(Debug, Default)]
struct Outcomes {
    held: AtomicU64,
    failed: AtomicU64,
    /// What it came to last.
    holds: AtomicBool,
}

impl Outcomes {
    fn count(&self, holds: bool) {
        self.holds.store(holds, Ordering::Relaxed);
        let counted = if holds { &self.held } else { &self.failed };
        counted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tally {
    /// Tells it, under etcd's names.
    pub(crate) fn write(&self, page: &mut Page) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        page.counter("etcd_server_health_success", "How often /health told well.")
            .is(read(&self.health.held));
        page.counter("etcd_server_health_failures", "How often /health told ill.")
            .is(read(&self.health.failed));
        let mut checks = page.counter(
            "etcd_server_healthchecks_total",
            "How often each check of /livez and /readyz was made, by what it came to.",
        );
        for (probe, counted) in PROBES.iter().zip(&self.checks) {
            for (check, outcomes) in probe.checks.iter().zip(counted) {
                for (status, count) in [("success", &outcomes.held), ("error", &outcomes.failed)] {
                    let labels = [
                        ("type", probe.name),
                        ("name", check.name()),
                        ("status", status),
                    ];
                    checks.sample(&labels, read(count));
                }
            }
        }
        let mut last = page.gauge(
            "etcd_server_healthcheck",
            "Whether each check of /livez and /readyz held when it was made last.",
        );
        for (probe, counted) in PROBES.iter().zip(&self.checks) {
            for (check, outcomes) in probe.checks.iter().zip(counted) {
                if read(&outcomes.held) + read(&outcomes.failed) > 0 {
                    let labels = [("type", probe.name), ("name", check.name())];
                    let holds = outcomes.holds.load(Ordering::Relaxed);
                    last.sample(&labels, i32::from(holds));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_all_checks_of_a_probe_or_one() {
        let names = |path: &str| {
            let asked = Asked::at(path)?;
            let names: Vec<&str> = asked.checks().map(|(_, check)| check.name()).collect();
            Some((PROBES[asked.probe].name, names.join(" ")))
        };
        let all = "data_corruption serializable_read linearizable_read non_learner";
        assert_eq!(names("/readyz"), Some(("readyz", all.to_owned())));
        let one = "serializable_read".to_owned();
        assert_eq!(names("/livez"), Some(("livez", one.clone())));
        assert_eq!(names("/readyz/serializable_read"), Some(("readyz", one)));
        for path in ["/livez/linearizable_read", "/readyz/", "/ready", "/", ""] {
            assert_eq!(names(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_may_say_a_word_several_times() {
        let query = "exclude=NOSPACE&exclude=a%20b&exclude=&excluded=c&verbose";
        let expected = BTreeSet::from(["NOSPACE".to_owned(), "a b".to_owned()]);
        assert_eq!(values(query, "exclude"), expected);
    }
}
