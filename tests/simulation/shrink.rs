//! Makes a plan that fails smaller: leaves out actions, in ever smaller groups, while it still breaks the same property
//! (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).

use super::{Plan, Residual, Violation, run};

/// The smallest plan found within `runs_max` runs, and what it breaks.
pub fn shrink(plan: &Plan, violation: &Violation, runs_max: usize) -> (Plan, Violation) {
    let mut smallest = (plan.clone(), violation.clone());
    let mut runs = 0;
    let mut attempt = |candidate: Plan, smallest: &mut (Plan, Violation)| {
        runs += 1;
        let broken = run(&candidate, false).violation;
        let same = broken.filter(|broken| broken.property == violation.property);
        let fails = same.is_some();
        if let Some(broken) = same {
            *smallest = (candidate, broken);
        }
        (fails, runs >= runs_max)
    };
    // What comes after the violation has no part in it.
    let end = run(plan, false).micros;
    let mut candidate = plan.clone();
    candidate.actions.retain(|&(at, _)| at <= end);
    candidate.duration = candidate.duration.min(end + 1);
    attempt(candidate, &mut smallest);
    for simpler in [without_residual, without_wildness, without_lateness] {
        attempt(simpler(smallest.0.clone()), &mut smallest);
    }
    let mut size = smallest.0.actions.len().div_ceil(2);
    while size > 0 {
        let before = smallest.0.actions.len();
        let mut from = 0;
        while from < smallest.0.actions.len() {
            let mut candidate = smallest.0.clone();
            let to = (from + size).min(candidate.actions.len());
            candidate.actions.drain(from..to);
            let (fails, enough) = attempt(candidate, &mut smallest);
            if enough {
                return smallest;
            }
            if !fails {
                from += size;
            }
        }
        // One by one they are tried until none can be left out.
        if size > 1 || smallest.0.actions.len() == before {
            size /= 2;
        }
    }
    smallest
}

fn without_residual(mut plan: Plan) -> Plan {
    plan.residual = Residual::Nothing;
    plan
}

fn without_wildness(mut plan: Plan) -> Plan {
    plan.wild = false;
    plan
}

fn without_lateness(mut plan: Plan) -> Plan {
    plan.late = 0;
    plan
}
