//! The page about the config tells the truth: it has every key, with the default that `--check` prints, and the bounds that are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use rm_config::load;
use rm_tests::binary::raft_machine;
use serde_json::{Map, Value, json};

const PAGE: &str = include_str!("../../docs/config.md");

/// No key of a config.
const NO_KEY: &str = "zzzzzzzz";

/// Choices that are readable and refused all the same.
const REFUSED: [(&str, &str); 1] = [("supervision.brain.strategy", "one_for_one")];

/// What the page says of a key.
#[derive(Debug)]
struct Row {
    key: String,
    /// `None` where the key must be given.
    default: Option<Value>,
    /// The least and the most, or the choices.
    range: Vec<String>,
}

impl Row {
    fn bounds(&self) -> Option<(u64, u64)> {
        let numbers: Result<Vec<u64>, _> = self.range.iter().map(|text| text.parse()).collect();
        match numbers.as_deref() {
            Ok([least, most]) => Some((*least, *most)),
            _ => None,
        }
    }
}

/// What stands between single backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// All keys of the page, in its order; a row may be about several.
fn rows() -> Vec<Row> {
    let is_head = |line: &&str| line.starts_with("| key | default | least, most |");
    assert!(
        PAGE.lines().filter(is_head).count() > 10,
        "the page has tables"
    );
    let mut is_table = false;
    let mut rows = Vec::new();
    for line in PAGE.lines() {
        if is_head(&line) {
            is_table = true;
        } else if !line.starts_with('|') {
            is_table = false;
        } else if is_table && !line.starts_with("|--") {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let default = quoted(cells[2]).next();
            let default =
                default.map(|text| serde_json::from_str(text).expect("a default is JSON"));
            assert!(default.is_some() || cells[2] == "needed", "{line}");
            rows.extend(quoted(cells[1]).map(|key| Row {
                key: key.to_owned(),
                default: default.clone(),
                range: quoted(cells[3]).map(str::to_owned).collect(),
            }));
        }
    }
    rows
}

/// The least that a config must say.
fn least_config() -> Value {
    json!({
        "domain": "d",
        "machines": [ { "name": "RM.01", "peer": "127.0.0.1:7600", "client": "127.0.0.1:2379" } ],
    })
}

/// Where a key stands in a document.
fn pointer(key: &str) -> String {
    format!("/{}", key.replace("[]", ".0").replace('.', "/"))
}

/// Puts a value into a config, in objects that are made where they are missing.
fn set(config: &mut Value, key: &str, value: Value) {
    let path = pointer(key);
    let mut place = config;
    for part in path.split('/').skip(1) {
        place = match place {
            Value::Array(elements) => &mut elements[0],
            Value::Null => {
                *place = Value::Object(Map::new());
                &mut place[part]
            }
            _ => &mut place[part],
        };
    }
    *place = value;
}

/// What is wrong with a config, by its keys.
fn problems(config: &Value) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("config.json");
    fs::write(&path, config.to_string()).expect("the folder can be written");
    let error = load(&path, None).expect_err("the config is wrong");
    let problems = error.problems.into_iter();
    problems
        .map(|problem| (problem.key.replace("[0]", "[]"), problem.text))
        .collect()
}

/// What `--check` prints.
fn checked(config: &Value) -> Value {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("config.json");
    fs::write(&path, config.to_string()).expect("the folder can be written");
    let output = Command::new(raft_machine())
        .args([Path::new("--check"), Path::new("--config"), &path])
        .output()
        .expect("the binary can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// The keys under which a document has a value; an object without members, as a map, is one.
fn leaves(value: &Value, key: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let key = match key {
                    "" => name.clone(),
                    _ => format!("{key}.{name}"),
                };
                leaves(value, &key, found);
            }
        }
        Value::Array(elements) if key == "machines" => {
            leaves(&elements[0], "machines[]", found);
        }
        value => drop(found.insert(key.to_owned(), value.clone())),
    }
}

/// The objects in which keys of the page stand, the whole among them.
fn objects(rows: &[Row]) -> BTreeSet<String> {
    let mut objects = BTreeSet::from([String::new()]);
    for row in rows {
        let mut key = row.key.as_str();
        while let Some((object, _)) = key.rsplit_once('.') {
            objects.insert(object.to_owned());
            key = object;
        }
    }
    objects
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let rows = rows();
    let objects = objects(&rows);
    let member = |object: &str, name: &str| match object {
        "" => name.to_owned(),
        _ => format!("{object}.{name}"),
    };
    let mut config = least_config();
    for object in &objects {
        set(&mut config, &member(object, NO_KEY), json!(0));
    }
    let problems = problems(&config);
    let mut keys = BTreeSet::new();
    for object in &objects {
        let text = &problems[&member(object, NO_KEY)];
        let (_, names) = text
            .split_once("the keys here are ")
            .expect("the refusal has the keys");
        keys.extend(names.split(", ").map(|name| member(object, name)));
    }
    // Each object is told of by its members.
    let is_object = |key: &String| objects.contains(key) || key == "machines";
    keys.retain(|key| !is_object(key));
    let told: Vec<&String> = rows.iter().map(|row| &row.key).collect();
    let told_once: BTreeSet<String> = told.iter().map(|key| (*key).clone()).collect();
    assert_eq!(told.len(), told_once.len(), "a key is told of once");
    assert_eq!(told_once, keys);
}

#[test]
fn the_page_has_the_defaults_that_check_prints() {
    let mut config = least_config();
    // What stands for the machine's name is replaced by it.
    config["machines"][0]["name"] = json!("name");
    let mut printed = BTreeMap::new();
    leaves(&checked(&config), "", &mut printed);
    for row in rows() {
        let printed = printed.remove(&row.key).unwrap_or(Value::Null);
        match (row.key.as_str(), row.default) {
            (_, None) => assert_ne!(printed, Value::Null, "{} is needed", row.key),
            // These follow from others, as the page says.
            ("local", Some(default)) => {
                assert_eq!((default, printed), (Value::Null, json!("name")))
            }
            ("timings.disk_patience_ms", Some(default)) => {
                assert_eq!((default, printed), (Value::Null, json!(4_000)));
            }
            ("data_dir", Some(default)) => {
                assert_eq!(
                    (default, printed),
                    (json!("data/{name}"), json!("data/name"))
                );
            }
            (key, Some(default)) => assert_eq!(default, printed, "the default of {key}"),
        }
    }
    assert_eq!(printed, BTreeMap::new(), "the page lacks these");
}

#[test]
fn the_page_has_the_bounds_that_are_kept() {
    let rows = rows();
    let bounded = rows
        .iter()
        .filter_map(|row| Some((&row.key, row.bounds()?)));
    let bounded: Vec<(&String, (u64, u64))> = bounded.collect();
    assert!(bounded.len() > 50, "{}", bounded.len());
    // One key of two counts, by the mode.
    for mode in ["periodic", "revisions"] {
        let counts = |key: &str| match key.rsplit_once(".retention_") {
            Some((_, of)) => (of == "seconds") == (mode == "periodic"),
            None => true,
        };
        let mut config = least_config();
        set(&mut config, "storage.auto_compaction.mode", json!(mode));
        set(&mut config, "auth.jwt.sign_method", json!("ES256"));
        for (key, (_, most)) in &bounded {
            set(&mut config, key, json!(most + 1));
        }
        let beyond = problems(&config);
        for (key, (least, _)) in &bounded {
            set(&mut config, key, json!(least.saturating_sub(1)));
        }
        let below = problems(&config);
        for (key, (least, most)) in bounded.iter().filter(|(key, _)| counts(key)) {
            let text = format!("is {}: write {most} or less", most + 1);
            assert_eq!(beyond.get(*key), Some(&text), "{key}");
            if *least > 0 {
                let text = format!("is {}: write {least} or more", least - 1);
                assert_eq!(below.get(*key), Some(&text), "{key}");
            }
        }
    }
    for row in &rows {
        let is_number = row.default.as_ref().is_some_and(Value::is_number);
        let has_none = ["limits.quota_bytes", "storage.verify_bytes_max"].contains(&&*row.key);
        assert_eq!(is_number && row.bounds().is_none(), has_none, "{}", row.key);
    }
}

#[test]
fn the_page_has_the_words_that_may_be_chosen() {
    let rows = rows();
    let is_choice = |row: &&Row| !row.range.is_empty() && row.bounds().is_none();
    let choices: Vec<&Row> = rows.iter().filter(is_choice).collect();
    assert!(choices.len() > 5, "{choices:?}");
    let mut config = least_config();
    for row in &choices {
        set(&mut config, &row.key, json!("?"));
    }
    let wrong = problems(&config);
    for Row { key, range, .. } in choices {
        let (_, words) = wrong[key].split_once("write one of ").expect("it has them");
        let good = words
            .split(", ")
            .filter(|word| !REFUSED.contains(&(key.as_str(), *word)));
        assert_eq!(&good.collect::<Vec<_>>(), range, "{key}");
    }
    for (key, word) in REFUSED {
        let mut config = least_config();
        set(&mut config, key, json!(word));
        assert!(problems(&config)[key].contains(word), "{key}");
    }
}
