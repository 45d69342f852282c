//! Requests by curl, to a machine and to etcd, and what their answers have in common.

use rm_tests::Machine;
use rm_tests::curl::{Answer, curl};
use rm_tests::etcd::Etcd;
use serde_json::{Value, json};

pub(crate) fn post(address: &str, path: &str, body: &str) -> Answer {
    let url = format!("http://{address}{path}");
    curl(&["--data-binary", body, &url])
}

pub(crate) fn posted(machine: &Machine, path: &str, body: &Value) -> Answer {
    post(&machine.client.to_string(), path, &body.to_string())
}

/// What a call that must succeed answers.
pub(crate) fn done(machine: &Machine, path: &str, body: &Value) -> Value {
    let answer = posted(machine, path, body);
    assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// What etcd answers.
pub(crate) fn etcds(etcd: &Etcd, path: &str, body: &str) -> Answer {
    without_trailers(post(&etcd.endpoints[0], path, body))
}

/// curl prints trailers behind the body.
pub(crate) fn without_trailers(mut answer: Answer) -> Answer {
    if let Some(end) = answer.body.find("Grpc-Trailer-") {
        answer.body.truncate(end);
    }
    answer
}

/// The status that etcd has since 3.6, with the second version of grpc-gateway, for an answer of the one before.
pub(crate) fn status_since_3_6(answer: &Answer) -> u16 {
    match answer.status {
        // A condition that is not met.
        412 => 400,
        status => status,
    }
}

/// Leaves out what two clusters cannot have in common: who answers, in which term, and what a lease has left.
pub(crate) fn comparable(mut answer: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for particular in ["cluster_id", "member_id", "raft_term"] {
                    fields.remove(particular);
                }
                if let Some(left) = fields.get_mut("TTL") {
                    *left = json!("TTL");
                }
                fields.values_mut().for_each(clean);
            }
            Value::Array(values) => values.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut answer);
    answer
}
