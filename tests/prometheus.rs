//! A strict reader of Prometheus' text format: it takes nothing that a server of Prometheus might take otherwise.

use std::collections::BTreeMap;

use regex::Regex;

use crate::curl::get;
use crate::machine::Machine;

/// The labels of a sample, by name.
pub type Labels = BTreeMap<String, String>;

/// The samples of one name, with what the page says of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// By the sample's name, which a histogram's differ in, and by labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

/// A page, by the names of the families.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page(pub BTreeMap<String, Family>);

impl Page {
    /// What a machine tells at its client port.
    ///
    /// # Panics
    ///
    /// When it does not answer, or not in the format.
    pub fn of(machine: &Machine) -> Page {
        let answer = get(&format!("http://{}/metrics", machine.client));
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
        Page::parse(&answer.body).unwrap_or_else(|error| panic!("{error} in:\n{}", answer.body))
    }

    /// Reads a page.
    ///
    /// # Errors
    ///
    /// The line that is wrong, and why.
    pub fn parse(text: &str) -> Result<Page, String> {
        let mut page = Page::default();
        let mut open: Option<(String, Family)> = None;
        let mut help = None;
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(said) = line.strip_prefix("# HELP ") {
                let Some((name, text)) = said.split_once(' ') else {
                    return wrong("help without a text");
                };
                if text.is_empty() || help.replace(name.to_owned()).is_some() {
                    return wrong("help without a text or without its type");
                }
                page.take(open.take())?;
            } else if let Some(said) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = said.split_once(' ') else {
                    return wrong("a type without a kind");
                };
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return wrong("an unknown kind");
                }
                if help.take().as_deref() != Some(name) {
                    return wrong("a type without its help");
                }
                let family = Family {
                    kind: kind.to_owned(),
                    samples: BTreeMap::new(),
                };
                open = Some((name.to_owned(), family));
            } else {
                let Some((family, Family { kind, samples })) = &mut open else {
                    return wrong("a sample without its type");
                };
                let (name, labels, value) = sample(line)?;
                let suffix = name.strip_prefix(family.as_str());
                let fits = match kind.as_str() {
                    "histogram" => {
                        suffix.is_some_and(|it| ["_bucket", "_sum", "_count"].contains(&it))
                    }
                    _ => suffix == Some(""),
                };
                if !fits {
                    return wrong("a sample of another family");
                }
                if kind != "gauge" && !(value.is_finite() && value >= 0.0) {
                    return wrong("no count");
                }
                if samples.insert((name, labels), value).is_some() {
                    return wrong("told twice");
                }
            }
        }
        page.take(open)?;
        match help {
            None => Ok(page),
            Some(name) => Err(format!("{name} has help only")),
        }
    }

    fn take(&mut self, family: Option<(String, Family)>) -> Result<(), String> {
        let Some((name, family)) = family else {
            return Ok(());
        };
        if family.samples.is_empty() {
            return Err(format!("{name} has no sample"));
        }
        if family.kind == "histogram" {
            histograms(&name, &family)?;
        }
        match self.0.insert(name.clone(), family) {
            None => Ok(()),
            Some(_) => Err(format!("{name} is there twice")),
        }
    }

    /// One sample.
    ///
    /// # Panics
    ///
    /// When it is not there.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = labels.iter();
        let wanted = wanted.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let wanted: Labels = wanted.collect();
        let families = self.0.values();
        let mut samples = families.flat_map(|family| &family.samples);
        let found = samples.find(|((each, labels), _)| each == name && *labels == wanted);
        let (_, value) = found.unwrap_or_else(|| panic!("there is no {name} {labels:?}"));
        *value
    }

    /// What went down since an earlier page of the same process though it only goes up, or is gone.
    pub fn fallen_since(&self, earlier: &Page) -> Vec<String> {
        let families = earlier.0.iter();
        let counted = families.filter(|(_, family)| family.kind != "gauge");
        let samples =
            counted.flat_map(|(name, family)| family.samples.iter().map(move |it| (name, it)));
        let fallen = samples.filter_map(|(family, (sample, before))| {
            let now = self.0.get(family).map(|family| &family.samples);
            match now.and_then(|now| now.get(sample)) {
                Some(now) if now >= before => None,
                Some(now) => Some(format!("{sample:?} fell from {before} to {now}")),
                None => Some(format!("{sample:?} is gone")),
            }
        });
        fallen.collect()
    }
}

/// The name, the labels and the value of a sample's line.
fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let pattern = r#"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)$"#;
    let whole = Regex::new(pattern).expect("the pattern is valid");
    let label = r#"([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)"#;
    let label = Regex::new(label).expect("the pattern is valid");
    let Some(parts) = whole.captures(line) else {
        return Err(format!("no sample: {line:?}"));
    };
    let mut labels = Labels::new();
    let mut length = 0;
    let text = parts.get(2).map_or("", |labels| labels.as_str());
    for found in label.captures_iter(text) {
        length += found[0].len();
        if labels
            .insert(found[1].to_owned(), found[2].to_owned())
            .is_some()
        {
            return Err(format!("a label twice: {line:?}"));
        }
    }
    if length != text.len() || text.ends_with(',') {
        return Err(format!("labels that do not follow on each other: {line:?}"));
    }
    let value = parts[3].parse();
    let value = value.map_err(|error| format!("no number: {line:?}: {error}"))?;
    Ok((parts[1].to_owned(), labels, value))
}

/// Histograms, told apart by their labels: of each, steps that rise to an endless one, which counts all.
fn histograms(name: &str, family: &Family) -> Result<(), String> {
    let mut all: BTreeMap<Labels, BTreeMap<(String, Labels), f64>> = BTreeMap::new();
    for ((sample, labels), value) in &family.samples {
        let mut own = labels.clone();
        own.remove("le");
        let mut le = labels.clone();
        le.retain(|label, _| label == "le");
        let samples = all.entry(own).or_default();
        samples.insert((sample.clone(), le), *value);
    }
    let checked = |(labels, samples)| {
        histogram(name, samples).map_err(|error| format!("{error} with {labels:?}"))
    };
    all.iter().try_for_each(checked)
}

fn histogram(name: &str, samples: &BTreeMap<(String, Labels), f64>) -> Result<(), String> {
    let number = |suffix: &str| {
        let sample = samples.get(&(format!("{name}{suffix}"), Labels::new()));
        sample
            .copied()
            .ok_or_else(|| format!("{name} has no {suffix}"))
    };
    let (count, _) = (number("_count")?, number("_sum")?);
    let mut steps = Vec::new();
    for ((sample, labels), value) in samples {
        if sample.ends_with("_bucket") {
            let bound = labels.get("le").and_then(|bound| bound.parse::<f64>().ok());
            let bound = bound.ok_or_else(|| format!("{name} has a step without a bound"))?;
            steps.push((bound, *value));
        }
    }
    steps.sort_by(|one, other| one.0.total_cmp(&other.0));
    let rises = steps
        .windows(2)
        .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
    match steps.last() {
        Some((bound, all)) if *bound == f64::INFINITY && *all == count && rises => Ok(()),
        _ => Err(format!(
            "{name} has no steps that rise to all of {count}: {steps:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a A.\n# TYPE a counter\na{x=\"1\",y=\"\\\"\\n\"} 7\na 8.5\n# HELP b B.\n# TYPE b histogram\nb_bucket{le=\"0.5\"} 1\nb_bucket{le=\"+Inf\"} 2\nb_sum 1.5\nb_count 2\nb_bucket{op=\"x\",le=\"+Inf\"} 3\nb_sum{op=\"x\"} 1\nb_count{op=\"x\"} 3\n";

    #[test]
    fn a_page_is_read() {
        let page = Page::parse(GOOD).expect("it is right");
        assert_eq!(page.value("a", &[("x", "1"), ("y", "\\\"\\n")]), 7.0);
        assert_eq!(page.value("b_bucket", &[("le", "+Inf")]), 2.0);
        assert_eq!(page.0["b"].kind, "histogram");
    }

    #[test]
    fn what_is_not_in_the_format_is_refused() {
        for (good, bad) in [
            ("# HELP a A.\n", ""),
            ("# TYPE a counter\n", ""),
            ("counter", "number"),
            ("a 8.5", "c 8.5"),
            ("a 8.5", "a -1"),
            ("a 8.5", "a NaN"),
            ("a 8.5", "a"),
            ("a 8.5", "a{x=\"1\",y=\"\\\"\\n\"} 7"),
            ("x=\"1\"", "x=1"),
            ("x=\"1\",", "x=\"1\""),
            ("y=", "x="),
            ("\\n\"", "\\t\""),
            ("le=\"+Inf\"} 2", "le=\"+Inf\"} 3"),
            ("le=\"0.5\"} 1", "le=\"0.5\"} 3"),
            ("b_sum 1.5\n", ""),
            ("b_count 2\n", "b_count 2"),
            ("b_count{op=\"x\"} 3\n", ""),
            ("b_count{op=\"x\"} 3", "b_count{op=\"x\"} 2"),
            (
                "# HELP b B.\n# TYPE b histogram",
                "# HELP a B.\n# TYPE a histogram",
            ),
        ] {
            assert!(GOOD.contains(good), "{good:?}");
            let text = GOOD.replacen(good, bad, 1);
            assert!(Page::parse(&text).is_err(), "{bad:?} for {good:?}");
        }
    }

    #[test]
    fn a_count_that_falls_is_found_and_a_gauge_may() {
        let page = |text: &str| Page::parse(text).expect("it is right");
        let before = page(GOOD);
        assert_eq!(before.fallen_since(&before), [""; 0]);
        assert_eq!(
            page(&GOOD.replace("a 8.5", "a 8"))
                .fallen_since(&before)
                .len(),
            1
        );
        assert_eq!(
            page(&GOOD.replace("a 8.5\n", ""))
                .fallen_since(&before)
                .len(),
            1
        );
        let gauge = |value: &str| page(&GOOD.replace("counter", "gauge").replace("a 8.5", value));
        assert_eq!(gauge("a 8").fallen_since(&gauge("a 9")), [""; 0]);
    }
}
