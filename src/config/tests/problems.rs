//! What users read when a config is wrong: every text, word for word, as the scripts in `problems/` have it.
//!
//! Each block of a script starts from the same good config. `set KEY JSON` and `remove KEY` change it, a key written as
//! `machines.1.peer`; `text TEXT` takes the place of all of it; `local NAME` stands for the option. Then it is loaded,
//! and the problems are shown without the name of the file. `UPDATE_GOLDENFILES=1` writes the answers anew.

use std::error::Error;
use std::path::Path;

use goldenscript::{Block, Command, Context, Runner};
use serde_json::{Value, json};

/// A good config of three machines on loopback.
fn good() -> Value {
    json!({
        "domain": "csy.com",
        "machines": [
            { "name": "RM.01", "peer": "127.0.0.1:7600", "client": "127.0.0.1:2379" },
            { "name": "RM.02", "peer": "127.0.0.1:7601", "client": "127.0.0.1:22379" },
            { "name": "RM.03", "peer": "127.0.0.1:7602", "client": "127.0.0.1:32379" }
        ],
        "local": "RM.01"
    })
}

#[derive(Default)]
struct Script {
    config: Value,
    text: Option<String>,
    local: Option<String>,
}

impl Runner for Script {
    type Command = Command;

    fn start_block(&mut self, _: &Block) -> Result<String, Box<dyn Error>> {
        *self = Script {
            config: good(),
            ..Script::default()
        };
        Ok(String::new())
    }

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut arguments = command.consume_args();
        let mut next = || arguments.next_pos().map(str::to_owned);
        let first = next().ok_or("every command has an argument")?;
        match command.name.as_str() {
            "set" => {
                let value = next().ok_or("set takes a key and a value")?;
                *member(&mut self.config, &first) = serde_json::from_str(&value)?;
            }
            "remove" => {
                let (object, name) = first.rsplit_once('.').unwrap_or(("", &first));
                let object = member(&mut self.config, object).as_object_mut();
                object
                    .and_then(|members| members.remove(name))
                    .ok_or("it is not there")?;
            }
            "text" => self.text = Some(first),
            "local" => self.local = Some(first),
            other => return Err(format!("there is no command {other}").into()),
        }
        arguments.reject_next()?;
        Ok(String::new())
    }

    fn end_block(&mut self, _: &Block) -> Result<String, Box<dyn Error>> {
        let text = self.text.take().unwrap_or_else(|| self.config.to_string());
        let problems = problems(text.as_bytes(), self.local.as_deref());
        Ok(if problems.is_empty() {
            "good".to_owned()
        } else {
            problems.join("\n")
        })
    }
}

/// The value at a key as `machines.1.peer`, made where it is missing.
fn member<'a>(config: &'a mut Value, key: &str) -> &'a mut Value {
    let names = key.split('.').filter(|name| !name.is_empty());
    names.fold(config, |object, name| match name.parse::<usize>() {
        Ok(place) => &mut object[place],
        Err(_) => &mut object[name],
    })
}

/// The problems of a config text, a line each, without the name of the file.
fn problems(text: &[u8], local: Option<&str>) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    std::fs::write(&path, text).expect("the folder can be written");
    match rm_config::load(&path, local) {
        Ok(_) => Vec::new(),
        Err(error) => without_file(&error.to_string(), &path),
    }
}

fn without_file(text: &str, path: &Path) -> Vec<String> {
    let prefix = format!("{}: ", path.display());
    let line = |line: &str| match line.strip_prefix(&prefix) {
        Some(rest) => rest.to_owned(),
        None => panic!("the file is not named: {line}"),
    };
    text.lines().map(line).collect()
}

#[test]
fn each_problem_is_told_as_the_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/problems");
    let scripts = std::fs::read_dir(folder).expect("the scripts are there");
    let mut ran = 0;
    for script in scripts {
        let path = script.expect("the folder can be read").path();
        goldenscript::run(&mut Script::default(), path).expect("a script is sound");
        ran += 1;
    }
    assert!(ran >= 9, "scripts are missing: only {ran} were found");
}

#[test]
fn bytes_that_are_no_text() {
    assert_eq!(
        problems(b"{ \"domain\": \"a\xff\" }", None),
        ["line 1, column 15: invalid unicode code point: correct the JSON there"]
    );
    let deep = problems("[".repeat(100_000).as_bytes(), None);
    assert_eq!(
        deep,
        ["line 1, column 128: recursion limit exceeded: correct the JSON there"]
    );
    let large = problems(&vec![b' '; (16 << 20) + 1], None);
    assert_eq!(
        large,
        ["is larger than 16777216 bytes: give --config the path of a config"]
    );
}

#[test]
fn a_file_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    let error = rm_config::load(&path, None).expect_err("there is no file");
    assert_eq!(
        without_file(&error.to_string(), &path),
        [
            "cannot be read (No such file or directory (os error 2)): give --config the path of a config that this user can read"
        ]
    );
}

/// The pointers to everything in a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| pointers(member, &format!("{at}/{name}"), found)),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .for_each(|(place, element)| pointers(element, &format!("{at}/{place}"), found)),
        _ => {}
    }
}

#[test]
fn any_value_at_any_key_is_taken_or_told_under_that_key() {
    let loaded = rm_config::Effective::new(
        serde_json::from_value(good()).expect("it is a config"),
        Path::new("a.json"),
        None,
    );
    let whole: Value = serde_json::from_str(&loaded.expect("it is good").to_json()).expect("JSON");
    let mut keys = Vec::new();
    pointers(&whole, "", &mut keys);
    let values = json!([null, -1, 0, u64::MAX, "", "{", [], [[]], { "x": 1 }]);
    let mut told = 0;
    for key in &keys {
        for value in values.as_array().expect("a list") {
            let mut config = whole.clone();
            *config.pointer_mut(key).expect("the key is there") = value.clone();
            let section = key.split('/').nth(1).unwrap_or_default();
            for problem in problems(config.to_string().as_bytes(), None) {
                told += 1;
                let is_under_key = problem.starts_with(section) || problem.starts_with("local: ");
                assert!(is_under_key, "{value} at {key} makes: {problem}");
            }
        }
    }
    assert!(
        told > keys.len(),
        "only {told} problems at {} keys",
        keys.len()
    );
}

#[test]
fn a_flipped_bit_is_taken_or_told() {
    let good = good().to_string().into_bytes();
    let mut told = 0;
    for place in 0..good.len() {
        let mut flipped = good.clone();
        flipped[place] ^= 1 << (place % 8);
        told += usize::from(!problems(&flipped, Some("RM.01")).is_empty());
    }
    assert!(told > good.len() / 2, "only {told} flips were told");
}
