//! From text to [`Config`], gathering everything that does not fit, where serde would stop at the first.
//!
//! The shape is written once, in the schema. To find every fault, each value of a text that does not fit is put alone
//! into a config that is otherwise good: what serde says of that is the value's own fault.

use serde_json::{Map, Value};

use crate::error::{Problem, did_you_mean};
use crate::schema::{Config, Machine, Tls};
use crate::{ClientTls, Jwt, SignMethod, TlsVersion};

/// What could be read of a config, and what could not.
pub(crate) struct Parsed {
    /// The config; stand-ins are in the place of what could not be read.
    pub(crate) config: Config,
    /// What could not be read.
    pub(crate) problems: Vec<Problem>,
}

/// Reads a config.
///
/// # Errors
/// Where the text is no JSON, or says a thing twice, nothing else can be said about it.
pub(crate) fn parse(text: &[u8]) -> Result<Parsed, Problem> {
    let fault = serde_json::from_slice::<Config>(text).err();
    let mut given: Value = serde_json::from_slice(text).map_err(|error| at_line(&error))?;
    let Value::Object(members) = &mut given else {
        let text = format!("is {}: write an object, {{ ... }}", shown(&given));
        return Err(Problem::new("", text));
    };
    let mut examiner = Examiner {
        template: template(),
        problems: Vec::new(),
    };
    if fault.is_some() {
        examiner.object("", "", members);
    }
    let mut whole = defaults();
    merge(&mut whole, given);
    match (serde_json::from_value(whole), fault) {
        (Ok(_), Some(fault)) if examiner.problems.is_empty() => Err(at_line(&fault)),
        (Ok(config), _) => Ok(Parsed {
            config,
            problems: examiner.problems,
        }),
        (Err(error), fault) => Err(at_line(&fault.unwrap_or(error))),
    }
}

fn at_line(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&text);
    Problem::new(
        format!("line {line}, column {column}"),
        format!("{text}: correct the JSON there"),
    )
}

/// A config of defaults, onto which what is given is laid. (A half-given group of supervision keeps its own strategy.)
fn defaults() -> Value {
    serde_json::to_value(Config::new("", Vec::new())).expect("the default config is JSON")
}

fn merge(base: &mut Value, given: Value) {
    match (base, given) {
        (Value::Object(base), Value::Object(given)) => {
            for (name, value) in given {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, given) => *base = given,
    }
}

/// A config with every key, in which each value is of the right kind. Its texts stand in for unreadable ones, so no
/// good config holds them.
fn template() -> Value {
    let address = || "unreadable.invalid:1".parse().expect("is an address");
    let machine = Machine {
        name: "?".to_owned(),
        peer: address(),
        client: address(),
        metrics: Some(address()),
        priority: 0,
    };
    let mut config = Config::new("?", vec![machine]);
    config.local = Some("?".to_owned());
    config.timings.disk_patience_ms = Some(0);
    config.reads.clock_drift_percent = Some(0);
    config.storage.auto_compaction.retention_seconds = Some(0);
    config.storage.auto_compaction.retention_revisions = Some(0);
    config.peers.tls = Some(Tls {
        ca: "?".into(),
        certificate: "?".into(),
        key: "?".into(),
    });
    let file = || Some("?".into());
    config.clients.tls = Some(ClientTls {
        certificate: "?".into(),
        key: "?".into(),
        ca: file(),
        client_ca: file(),
        client_revoked: file(),
        version_min: TlsVersion::default(),
    });
    config.auth.jwt = Some(Jwt {
        sign_method: SignMethod::Rs256,
        private_key: file(),
        public_key: file(),
        ttl_seconds: 0,
    });
    serde_json::to_value(config).expect("the template is JSON")
}

struct Examiner {
    template: Value,
    problems: Vec<Problem>,
}

impl Examiner {
    /// Examines an object: `key` is where it is in the given text, `pointer` where in the template. What does not fit
    /// is replaced from the template.
    fn object(&mut self, key: &str, pointer: &str, given: &mut Map<String, Value>) {
        let known = self.members(pointer);
        let mut unknown = Vec::new();
        for (name, value) in given.iter_mut() {
            let place = Place {
                key: member_key(key, name),
                pointer,
                name,
            };
            match known.get(name) {
                None if !known.is_empty() => {
                    unknown.push(name.clone());
                    self.problems.push(unknown_key(place.key, name, &known));
                }
                // An empty object of the template is a map, where every name is good.
                None => {
                    if !self.fits(&place, value, &Value::from("")) {
                        unknown.push(name.clone());
                    }
                }
                Some(expected) => self.member(&place, value, expected),
            }
        }
        for name in unknown {
            given.remove(&name);
        }
        for (name, stand_in) in &known {
            let without = |members: &mut Map<String, Value>| drop(members.remove(name));
            if !given.contains_key(name) && self.probe(pointer, without).is_err() {
                let text = "is missing: add it, as the samples in config/ do";
                self.problems
                    .push(Problem::new(member_key(key, name), text));
                given.insert(name.clone(), stand_in.clone());
            }
        }
    }

    fn member(&mut self, place: &Place, value: &mut Value, expected: &Value) {
        let pointer = format!("{}/{}", place.pointer, place.name);
        match (expected, value) {
            (Value::Object(_), Value::Object(members)) => {
                self.object(&place.key, &pointer, members)
            }
            (Value::Array(examples), Value::Array(elements)) => {
                for (number, element) in elements.iter_mut().enumerate() {
                    let key = format!("{}[{number}]", place.key);
                    self.element(Place { key, ..*place }, element, &examples[0]);
                }
            }
            (expected, value) => {
                if !self.fits(place, value, expected) {
                    *value = expected.clone();
                }
            }
        }
    }

    fn element(&mut self, place: Place, element: &mut Value, expected: &Value) {
        if let (Value::Object(_), Value::Object(members)) = (expected, &mut *element) {
            let pointer = format!("{}/{}/0", place.pointer, place.name);
            return self.object(&place.key, &pointer, members);
        }
        let list = Value::Array(vec![element.clone()]);
        let with =
            |members: &mut Map<String, Value>| drop(members.insert(place.name.to_owned(), list));
        if let Err(error) = self.probe(place.pointer, with) {
            let text = unfit(&place, element, expected, &error.to_string());
            self.problems.push(Problem::new(place.key, text));
            *element = expected.clone();
        }
    }

    fn fits(&mut self, place: &Place, value: &Value, expected: &Value) -> bool {
        let with = |members: &mut Map<String, Value>| {
            members.insert(place.name.to_owned(), value.clone());
        };
        let Err(error) = self.probe(place.pointer, with) else {
            return true;
        };
        let text = unfit(place, value, expected, &error.to_string());
        self.problems.push(Problem::new(place.key.clone(), text));
        false
    }

    /// What serde says when one object of the template is changed.
    fn probe(
        &self,
        pointer: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), serde_json::Error> {
        let mut config = self.template.clone();
        let members = config.pointer_mut(pointer).and_then(Value::as_object_mut);
        change(members.expect("the pointer was made while walking the template"));
        serde_json::from_value::<Config>(config).map(drop)
    }

    fn members(&self, pointer: &str) -> Map<String, Value> {
        let members = self.template.pointer(pointer).and_then(Value::as_object);
        members.cloned().unwrap_or_default()
    }
}

/// Where a value stands: its key in the given text, and its object and name in the template.
struct Place<'a> {
    key: String,
    pointer: &'a str,
    name: &'a str,
}

fn member_key(object: &str, name: &str) -> String {
    let name = name.escape_debug();
    match object {
        "" => name.to_string(),
        _ => format!("{object}.{name}"),
    }
}

fn unknown_key(key: String, name: &str, known: &Map<String, Value>) -> Problem {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let hint = did_you_mean(name, names.iter().copied());
    let text = format!("is not a key{hint}: the keys here are {}", names.join(", "));
    Problem::new(key, text)
}

/// Why a value does not fit where another kind was expected, and what to write. `fault` is what serde says.
fn unfit(place: &Place, given: &Value, expected: &Value, fault: &str) -> String {
    let wanted = match (expected, given) {
        (Value::String(_), Value::String(written)) => return unfit_text(written, fault),
        _ if place.pointer == "/log"
            && place.name == "sinks"
            && !given.is_string()
            && expected.is_string() =>
        {
            r#""terminal", { "file": { "path": "..." } } or { "json": { "path": "..." } }"#
        }
        (Value::Number(_), Value::Number(number)) if number.is_u64() => "a smaller number",
        (Value::Number(_), _) => "a whole number from 0 on, without quotes",
        (Value::Bool(_), _) => "true or false, without quotes",
        (Value::String(_), _) => "a text, in quotes",
        (Value::Array(_), _) => "a list, [ ... ]",
        (Value::Object(_) | Value::Null, _) => "an object, { ... }",
    };
    format!("is {}: write {wanted}", shown(given))
}

/// Why a text is not one of those that are meant, or no address.
fn unfit_text(written: &str, fault: &str) -> String {
    // serde: unknown variant `a`, expected one of `b`, `c`
    let words: Vec<&str> = fault.split('`').skip(3).step_by(2).collect();
    if !fault.starts_with("unknown variant") || words.is_empty() {
        return fault.to_owned();
    }
    let hint = did_you_mean(written, words.iter().copied());
    format!("is {written:?}{hint}: write one of {}", words.join(", "))
}

/// A value as it was written, cut short.
fn shown(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
