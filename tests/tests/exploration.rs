//! Every state of three cores within small bounds, and faults planted to see that it would find them.

use std::time::Duration;

use rm_tests::exploration::{Bounds, Report, Verdict, explore, explore_planted};

/// So long that it is the bounds that end an exploration.
const PATIENCE: Duration = Duration::from_secs(600);

fn explored(name: &str, depth: usize) -> Report {
    let bounds = Bounds::named(name).expect("it is one of them");
    let report = explore(&bounds, depth, PATIENCE, |_| ());
    if let Verdict::Violation { property, trace } = &report.verdict {
        panic!("violation of {property}\n{}", trace.join("\n"));
    }
    report
}

#[test]
fn no_property_is_broken_within_twelve_steps() {
    let report = explored("small", 12);
    assert_eq!((report.verdict, report.depth), (Verdict::Stopped, 12));
}

#[test]
fn no_property_is_broken_within_ten_steps_of_elections_by_time() {
    let report = explored("elections", 10);
    assert_eq!((report.verdict, report.depth), (Verdict::Stopped, 10));
}

#[test]
fn no_property_is_broken_by_any_way_to_vote_in_one_term() {
    assert_eq!(explored("votes", usize::MAX).verdict, Verdict::Complete);
}

#[test]
fn planted_faults_are_found() {
    for (mutant, bounds, property) in [
        (
            "commit_of_an_earlier_term",
            "figure-8",
            "leader completeness",
        ),
        ("vote_before_it_is_durable", "votes", "election safety"),
    ] {
        let arguments = ["--bounds", bounds, "--mutant", mutant].map(String::from);
        let told = explore_planted(mutant, &arguments).expect("it can be built");
        let told = told.unwrap_or_else(|| panic!("{mutant} is not found"));
        let violation = format!("violation of {property}");
        assert!(told.contains(&violation), "{mutant}: {told}");
    }
}
