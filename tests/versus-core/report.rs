//! The table: medians over the rounds, and ratios to the first core.

use std::fmt::Write as _;

use crate::measure::Round;

/// A Markdown table with a row for each core and batch size.
pub(crate) fn table(names: &[&str], sections: &[(usize, Vec<Vec<Round>>)]) -> String {
    let mut text = String::from(
        "| batch | core | proposals/s | lowest, highest | times slower than the first | processor ns a proposal | allocations a proposal |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (batch, systems) in sections {
        for (name, rounds) in names.iter().zip(systems) {
            // A round of one core stands beside the round of the other that came just before: what else the host did then
            // slowed both.
            let pairs = systems[0].iter().zip(rounds);
            let slower = median(pairs.map(|(first, this)| first.per_second() / this.per_second()));
            let rates = || rounds.iter().map(Round::per_second);
            writeln!(
                text,
                "| {batch} | {name} | {} | {}, {} | {slower:.2} | {:.0} | {:.2} |",
                thousands(median(rates())),
                thousands(rates().fold(f64::INFINITY, f64::min)),
                thousands(rates().fold(0.0, f64::max)),
                median(rounds.iter().map(Round::processor_ns)),
                median(rounds.iter().map(Round::allocations)),
            )
            .expect("a string takes all");
        }
    }
    text
}

/// The value in the middle; of two, the lower.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// A number with a comma before every three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
