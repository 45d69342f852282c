//! That every fault fits the core, and that the simulator finds faults, makes what it takes small, and tells of it.

use std::process::Command;

use crate::copy::Copy;
use crate::fault::{Fault, Place, faults};
use crate::{BRIEF_EFFORT, root};

/// Faults of different kinds that few seeds are enough to find, and the property that each breaks.
const PLANTED: [(&str, &str); 4] = [
    ("quorum_of_half", "committed is durable"),
    ("vote_forgotten_by_a_restart", "monotonic"),
    ("vote_kept_over_terms", "liveness"),
    ("window_without_a_bound", "bounded in flight"),
];
/// Where they are looked for: among the seeds of every day (tests/simulation.rs), which break nothing without a fault.
const SHARE: [&str; 4] = ["--seeds", "0..20", "--seconds", "4"];

#[test]
fn every_fault_fits_the_project_as_it_is() {
    let root = root().expect("the tests run in the workspace");
    let all = |place| faults(&root, place).expect("each is a fault");
    let (core, around) = (all(Place::Core), all(Place::Around));
    assert!(!core.is_empty() && !around.is_empty());
    let misfits = core.iter().chain(&around);
    let misfits = misfits.filter_map(|fault| fault.planted(&root).err());
    let testless = around.iter().filter_map(|fault| fault.test().err());
    let misfits: Vec<String> = misfits.chain(testless).map(|it| it.to_string()).collect();
    assert!(misfits.is_empty(), "{misfits:#?}");
}

#[test]
fn the_simulator_finds_planted_faults_and_makes_them_small() {
    let root = root().expect("the tests run in the workspace");
    let faults = faults(&root, Place::Core).expect("each is a fault");
    let copy = Copy::new(&root).expect("the simulator can be copied");
    for (name, property) in PLANTED {
        let named = |fault: &&Fault| fault.name == name;
        let fault = faults.iter().find(named).expect("it is one of them");
        copy.plant(&root, fault).expect("it fits");
        copy.build().expect("the core with a fault can be built");
        println!("planted: {name}");
        let told = violation_told(copy.simulator().args(SHARE));
        assert_shrunk(&told, property);
        assert_trace(&told);
        assert_repeated(&told, property, &copy);
        // Where the core as it is had such a fault, or the simulator were wrong about it, no catch would be believed.
        let refused = copy.require_silence(BRIEF_EFFORT);
        assert!(refused.is_err(), "{name} is taken for a sound core");
    }
}

/// What the simulator prints, which is to find something.
fn violation_told(simulator: &mut Command) -> String {
    let output = simulator.output().expect("the simulator can run");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{simulator:?}:\n{told}");
    told
}

/// Fewer actions are left than were drawn, these are listed, and they break the same property.
fn assert_shrunk(told: &str, property: &str) {
    let number = |text: &str| text.parse::<usize>().expect("it is a number");
    let drawn = number(between(told, "\nshrunk from ", " actions to "));
    let left = number(between(told, " actions to ", ", "));
    assert!(left < drawn, "{left} of {drawn} actions are left");
    let list = between(told, "\nshrunk from ", "\n\n").lines().skip(1);
    assert_eq!(list.count(), left, "{told}");
    let end = between(told, "\nthe end of its trace:\n", "\nagain: ");
    assert!(end.contains(&format!("\n{property}: ")), "{end}");
}

/// Each line says when, and some which machine sends what to which.
fn assert_trace(told: &str) {
    let trace = between(told, "\nthe end of its trace:\n", "\n\n");
    for line in trace.lines() {
        let (when, what) = line.split_once(' ').expect("more than a time");
        assert!(when.parse::<f64>().is_ok() && !what.is_empty(), "{line}");
    }
    assert!(
        trace.contains(" -> ") && trace.contains("Message"),
        "{trace}"
    );
}

/// The seed that is named breaks the same in the same way when the line is typed that is given for it.
fn assert_repeated(told: &str, property: &str, copy: &Copy) {
    let breaks = format!(" breaks {property}: ");
    let mut lines = told.lines();
    let found = lines.find_map(|line| line.split_once(&breaks));
    let (seed, what) = found.unwrap_or_else(|| panic!("nothing breaks {property}:\n{told}"));
    let again = between(told, "\nagain: simulate ", "\n");
    assert!(again.starts_with(&format!("--{seed} ")), "{again}");
    let told_again = violation_told(copy.simulator().args(again.split(' ')));
    let same = format!("{property}: {what}");
    assert!(told_again.lines().any(|line| line == same), "{told_again}");
}

/// What stands between these two in a text.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).map(|(_, rest)| rest);
    let found = rest.and_then(|rest| rest.split_once(after));
    found
        .unwrap_or_else(|| panic!("nothing between {before:?} and {after:?}:\n{text}"))
        .0
}
