//! The text format of Prometheus, version 0.0.4: families of samples, each with its kind and what it tells.

use std::fmt::{Display, Write};

use rm_actors::port::Distribution;

/// What a page of this format says of itself.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page in the making.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// A family of numbers that only go up.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// A family of numbers that go up and down.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// How long something took, in seconds.
    pub(crate) fn histogram(&mut self, name: &'static str, help: &str, of: &Distribution) {
        let mut family = self.family(name, "histogram", help);
        for (bound, count) in &of.steps {
            let bound = bound.as_secs_f64().to_string();
            family.line("_bucket", &[("le", &bound)], count);
        }
        family.line("_bucket", &[("le", "+Inf")], of.count);
        family.line("_sum", &[], of.sum.as_secs_f64());
        family.line("_count", &[], of.count);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        self.text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: self, name }
    }

    /// The whole page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one name.
pub(crate) struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// Its only sample.
    pub(crate) fn is(mut self, value: impl Display) {
        self.line("", &[], value);
    }

    /// One sample, told from the others by its labels.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        text.push_str(suffix);
        for (place, (label, value)) in labels.iter().enumerate() {
            text.push(if place == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    letter => text.push(letter),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        writeln!(text, " {value}").expect("a text takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_page_is_in_the_format_whatever_a_label_says() {
        let mut page = Page::default();
        page.gauge("leader", "Whether there is one.").is(1);
        let mut calls = page.counter("calls_total", "Calls.");
        calls.sample(&[("method", "Put"), ("why", "a \"b\\\n")], 7);
        calls.sample(&[("method", "Get"), ("why", "")], 0.5);
        page.histogram(
            "flush_seconds",
            "Flushes.",
            &Distribution {
                steps: vec![(Duration::from_micros(125), 1), (Duration::from_secs(8), 2)],
                count: 3,
                sum: Duration::from_millis(12_500),
            },
        );
        let expected = "\
# HELP leader Whether there is one.
# TYPE leader gauge
leader 1
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{method=\"Put\",why=\"a \\\"b\\\\\\n\"} 7
calls_total{method=\"Get\",why=\"\"} 0.5
# HELP flush_seconds Flushes.
# TYPE flush_seconds histogram
flush_seconds_bucket{le=\"0.000125\"} 1
flush_seconds_bucket{le=\"8\"} 2
flush_seconds_bucket{le=\"+Inf\"} 3
flush_seconds_sum 12.5
flush_seconds_count 3
";
        assert_eq!(page.into_text(), expected);
    }
}
