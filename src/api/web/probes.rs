//! Probes: is the machine alive, and can it serve. etcd's three, with its words: `/health` for its monitors since 3.0,
//! `/livez` and `/readyz` with their checks for Kubernetes.

use std::collections::BTreeSet;

use bytes::Bytes;
use form_urlencoded::parse;
use http::{Response, StatusCode};
use rm_actors::port::{Consistency, Port, Query, Range, Standing};
use rm_proto::etcdserverpb::AlarmType;
use serde_json::json;
use tonic::body::Body;

use super::answer;
use crate::error::refused;
use crate::maintenance::alarms;

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

/// What `/livez` asks: whether a restart would help. What others must do for it is no part of that.
const LIVE: &[Check] = &[Check::SerializableRead];

/// What `/readyz` asks: whether clients can be sent here.
const READY: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

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
            Check::NonLearner if is_learner(port) => Err("not supported for learner".to_owned()),
            Check::NonLearner => Ok(()),
        }
    }
}

/// The checks at a path: all of a probe, or one of them.
pub(crate) fn checks_at(path: &str) -> Option<&'static [Check]> {
    let (probe, check) = match path.strip_prefix('/')?.split_once('/') {
        Some((probe, check)) => (probe, Some(check)),
        None => (path.strip_prefix('/')?, None),
    };
    let all = match probe {
        "livez" => LIVE,
        "readyz" => READY,
        _ => return None,
    };
    match check {
        None => Some(all),
        Some(name) => {
            let place = all.iter().position(|check| check.name() == name)?;
            Some(&all[place..=place])
        }
    }
}

/// Runs checks but for those that the query excludes, and says which failed; with `verbose` all of them.
pub(crate) async fn run(port: &Port, checks: &[Check], query: &str) -> Response<Body> {
    let excluded = values(query, "exclude");
    let mut report = String::new();
    let mut holds = true;
    for check in checks {
        let name = check.name();
        if excluded.contains(name) {
            continue;
        }
        match check.run(port).await {
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
pub(crate) async fn health(port: &Port, query: &str) -> Response<Body> {
    let excluded = values(query, "exclude");
    let mut wishes = parse(query.as_bytes());
    let serializable = wishes.find(|(key, _)| key == "serializable");
    let serializable = serializable.is_some_and(|(_, value)| value == "true");
    match wellness(port, &excluded, serializable).await {
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
    let outcome = port.query(Query::Range(range), consistency).await;
    let refusal = outcome.map(drop).map_err(refused);
    refusal.map_err(|status| status.message().to_owned())
}

fn no_alarm(port: &Port, alarm: AlarmType) -> Result<(), String> {
    match raised(port).any(|raised| raised == alarm) {
        true => Err(format!("alarm activated: {}", alarm.as_str_name())),
        false => Ok(()),
    }
}

/// The alarms that are raised.
fn raised(port: &Port) -> impl Iterator<Item = AlarmType> {
    let alarms = alarms(port.identity(), &port.report(), AlarmType::None.into());
    alarms.into_iter().map(|member| member.alarm())
}

fn is_learner(port: &Port) -> bool {
    let local = port.identity().machine;
    let members = port.members();
    let member = members.iter().find(|member| member.machine == local);
    member.is_some_and(|member| member.standing == Standing::Learner)
}

/// All that a query says of one word, but for nothing.
fn values(query: &str, word: &str) -> BTreeSet<String> {
    let said = parse(query.as_bytes()).filter(|(key, value)| key == word && !value.is_empty());
    said.map(|(_, value)| value.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_all_checks_of_a_probe_or_one() {
        assert_eq!(checks_at("/livez"), Some(LIVE));
        assert_eq!(checks_at("/readyz"), Some(READY));
        let one = checks_at("/readyz/linearizable_read");
        assert_eq!(one, Some(&[Check::LinearizableRead][..]));
        assert_eq!(checks_at("/livez/linearizable_read"), None);
        assert_eq!(checks_at("/readyz/"), None);
        assert_eq!(checks_at("/ready"), None);
        assert_eq!(checks_at("/"), None);
    }

    #[test]
    fn a_query_may_say_a_word_several_times() {
        let query = "exclude=NOSPACE&exclude=a%20b&exclude=&excluded=c&verbose";
        let expected = BTreeSet::from(["NOSPACE".to_owned(), "a b".to_owned()]);
        assert_eq!(values(query, "exclude"), expected);
    }
}
