//! The rules that a readable config must keep: names, addresses, paths and logs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::{Problem, did_you_mean};
use crate::identity::machine_id;
use crate::schema::{Config, Log, Machine, Sink};
use crate::{Address, certificates, jwt, numbers};

/// The logs of a machine, by the names that `log.actors` uses: one for each actor, and one for each part of a machine that
/// is no actor (`machine`, `supervisor` and `api`).
pub const LOGGERS: [&str; 13] = [
    "machine",
    "supervisor",
    "listener",
    "sender",
    "logic_center",
    "storage",
    "applier",
    "timer",
    "gate",
    "watcher",
    "compactor",
    "lessor",
    "api",
];

/// The longest domain and the longest name of a machine; the longest name that DNS has.
const NAME_BYTES_MAX: usize = 253;

/// Everything wrong with a config, whichever machine reads it.
pub(crate) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(check_name("domain", &config.domain));
    problems.extend(check_machines(&config.domain, &config.machines));
    problems.extend(check_metrics(&config.machines));
    problems.extend(check_path("data_dir", &config.data_dir));
    problems.extend(numbers::check(config));
    problems.extend(check_log(&config.log));
    problems.extend(certificates::check(config));
    problems.extend(jwt::check(config));
    problems
}

/// A name becomes part of paths, of certificates and of log records, so few characters are good.
fn check_name(key: &str, name: &str) -> Option<Problem> {
    let odd = name
        .chars()
        .find(|char| !(char.is_ascii_alphanumeric() || ".-_".contains(*char)));
    let text = if name.is_empty() {
        "is empty: write a name".to_owned()
    } else if let Some(odd) = odd {
        format!(
            "is {name:?}, which holds {odd:?}: use letters from a to z, digits, '.', '-' and '_'"
        )
    } else if name.starts_with(['.', '-']) {
        format!("is {name:?}: begin it with a letter or a digit")
    } else if name.len() > NAME_BYTES_MAX {
        format!(
            "is {} characters long: use {NAME_BYTES_MAX} or fewer",
            name.len()
        )
    } else {
        return None;
    };
    Some(Problem::new(key, text))
}

fn check_machines(domain: &str, machines: &[Machine]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if machines.is_empty() {
        problems.push(Problem::new(
            "machines",
            "is empty: list every machine of the domain",
        ));
    }
    let mut names = HashMap::new();
    let mut ids = HashMap::new();
    let mut peers = HashMap::new();
    let mut clients = HashMap::new();
    for (place, machine) in machines.iter().enumerate() {
        let key = |name| format!("machines[{place}].{name}");
        let name = &machine.name;
        problems.extend(check_name(&key("name"), name));
        if let Some(other) = names.insert(name, place) {
            let text = format!(
                "is {name:?}, as machines[{other}].name is: give each machine a name of its own"
            );
            problems.push(Problem::new(key("name"), text));
        } else if let Some(other) = ids.insert(machine_id(domain, name), place) {
            let text = format!(
                "is {name:?}, whose id is also that of machines[{other}]: choose another name"
            );
            problems.push(Problem::new(key("name"), text));
        }
        for (kind, address, others) in [
            ("peer", &machine.peer, &mut peers),
            ("client", &machine.client, &mut clients),
        ] {
            problems.extend(check_address(&key(kind), address));
            if let Some(other) = others.insert(address.canonical(), place) {
                let text = format!(
                    "is {address}, as machines[{other}].{kind} is: give each machine an address of its own"
                );
                problems.push(Problem::new(key(kind), text));
            }
        }
    }
    problems
}

/// A port for monitors may be that of all addresses of a host, and so the same on several hosts.
fn check_metrics(machines: &[Machine]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut others = HashMap::new();
    for (place, machine) in machines.iter().enumerate() {
        others.insert(
            machine.client.canonical(),
            format!("machines[{place}].client"),
        );
    }
    for (place, machine) in machines.iter().enumerate() {
        let Some(metrics) = &machine.metrics else {
            continue;
        };
        let key = format!("machines[{place}].metrics");
        let is_of_all = metrics
            .host
            .parse()
            .is_ok_and(|ip: IpAddr| ip.is_unspecified());
        let other = match is_of_all {
            true if metrics.port == machine.client.port => {
                Some(format!("machines[{place}].client"))
            }
            true => None,
            false => others.insert(metrics.canonical(), key.clone()),
        };
        if let Some(other) = other {
            let text = format!("is {metrics}, where {other} is: give it a port of its own");
            problems.push(Problem::new(key, text));
        }
    }
    problems
}

fn check_address(key: &str, address: &Address) -> Option<Problem> {
    let ip: IpAddr = address.host.parse().ok()?;
    let everybody = ip.is_unspecified() || ip.is_multicast();
    let text = format!(
        "is {address}, which is no single host's: write the address at which others reach this machine"
    );
    everybody.then(|| Problem::new(key, text))
}

pub(crate) fn check_path(key: &str, path: &Path) -> Option<Problem> {
    let Some(text) = path.to_str() else {
        return Some(Problem::new(
            key,
            format!("is {path:?}, which is not UTF-8: choose another path"),
        ));
    };
    let rest = text.replace("{name}", "");
    let text = if text.is_empty() {
        "is empty: write a path".to_owned()
    } else if text.contains('\0') {
        format!("is {text:?}, which holds a zero character: take it out")
    } else if rest.contains(['{', '}']) {
        format!("is {text:?}: the only word in braces that is replaced is {{name}}")
    } else {
        return None;
    };
    Some(Problem::new(key, text))
}

fn check_log(log: &Log) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in log
        .actors
        .keys()
        .filter(|name| !LOGGERS.contains(&name.as_str()))
    {
        let hint = did_you_mean(name, LOGGERS);
        let text = format!(
            "there is no log of this name{hint}: the logs are {}",
            LOGGERS.join(", ")
        );
        problems.push(Problem::new(
            format!("log.actors.{}", name.escape_debug()),
            text,
        ));
    }
    let mut paths: HashMap<&PathBuf, usize> = HashMap::new();
    for (place, sink) in log.sinks.iter().enumerate() {
        let (key, path) = match sink {
            Sink::File { path } => (format!("log.sinks[{place}].file.path"), path),
            Sink::Json { path: Some(path) } => (format!("log.sinks[{place}].json.path"), path),
            Sink::Terminal | Sink::Json { path: None } => continue,
        };
        problems.extend(check_path(&key, path));
        if let Some(other) = paths.insert(path, place) {
            let text = format!(
                "is {path:?}, where log.sinks[{other}] goes too: give each sink a file of its own"
            );
            problems.push(Problem::new(key, text));
        }
    }
    problems
}
