//! What the client was told, without what no two clusters have in common.

use std::collections::BTreeMap;
use std::fmt::Display;

use etcd_client::{Error, KeyValue, ResponseHeader};

/// Prints steps.
#[derive(Default)]
pub struct Told {
    names: BTreeMap<String, String>,
}

impl Told {
    /// Begins a scenario.
    pub fn scenario(&self, name: &str) {
        println!("== {name}");
    }

    /// Has a name stand for a value from now on.
    pub fn known(&mut self, name: impl Display, value: impl ToString) {
        self.names.insert(value.to_string(), format!("<{name}>"));
    }

    /// Prints what came of a call: what is made of its answer, or its error. The answer, if it was one.
    pub fn step<T>(
        &self,
        name: &str,
        answer: Result<T, Error>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.show(name, &show(&answer));
                Some(answer)
            }
            Err(Error::GRpcStatus(status)) => {
                self.show(name, &format!("{:?}: {}", status.code(), status.message()));
                None
            }
            Err(error) => {
                self.show(name, &error.to_string());
                None
            }
        }
    }

    /// Prints a step.
    pub fn show(&self, name: &str, text: &str) {
        println!("-- {name}");
        let named = |text: String, (value, name): (&String, &String)| text.replace(value, name);
        let text = self.names.iter().fold(text.to_owned(), named);
        for line in text.lines() {
            println!("|{line}");
        }
    }
}

/// Who answered, and at which revision.
pub fn header(header: Option<&ResponseHeader>) -> String {
    match header {
        Some(header) => format!(
            "{} of {} at {}",
            header.member_id(),
            header.cluster_id(),
            header.revision()
        ),
        None => "no header".to_owned(),
    }
}

/// All that is known of a key.
pub fn key(kv: &KeyValue) -> String {
    format!(
        "{} = {} created {} changed {} version {} lease {}",
        text(kv.key()),
        text(kv.value()),
        kv.create_revision(),
        kv.mod_revision(),
        kv.version(),
        kv.lease()
    )
}

/// Several keys, a line each.
pub fn keys(kvs: &[KeyValue]) -> String {
    kvs.iter().map(key).collect::<Vec<_>>().join("\n")
}

/// Bytes as a text; not all of a long one.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(80).collect()
}
