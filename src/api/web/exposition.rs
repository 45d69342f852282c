//! The text format of Prometheus, version 0.0.4: families of samples, each with its kind and what it tells.

use std::fmt::{Display, Write};

use rm_actors::port::Histogram;

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

    /// How large something was, each time.
    pub(crate) fn histogram(&mut self, name: &'static str, help: &str, of: &Histogram) {
        self.histograms(name, help).distribution(&[], of);
    }

    /// A family of the same.
    pub(crate) fn histograms(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        Family {
            page: self,
            head: Some(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")),
            name,
        }
    }

    /// The whole page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one name. Without any, the page has nothing of it.
pub(crate) struct Family<'p> {
    page: &'p mut Page,
    /// What stands before the first.
    head: Option<String>,
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

    /// One histogram, told from the others by its labels.
    pub(crate) fn distribution(&mut self, labels: &[(&str, &str)], of: &Histogram) {
        let of = of.read();
        let mut bucket = |bound: &str, count| {
            let labels = [labels, &[("le", bound)]].concat();
            self.line("_bucket", &labels, count);
        };
        for (bound, count) in of.steps {
            bucket(&bound.to_string(), count);
        }
        bucket("+Inf", of.count);
        self.line("_sum", labels, of.sum);
        self.line("_count", labels, of.count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut self.page.text;
        text.push_str(&self.head.take().unwrap_or_default());
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
        page.gauge("nobody", "Of which there is none.");
        let mut calls = page.counter("calls_total", "Calls.");
        calls.sample(&[("method", "Put"), ("why", "a \"b\\\n")], 7);
        calls.sample(&[("method", "Get"), ("why", "")], 0.5);
        let flushes = Histogram::of_times(&[125, 8_000_000]);
        for micros in [100, 4_000_000, 8_399_900] {
            flushes.add_time(Duration::from_micros(micros));
        }
        page.histogram("flush_seconds", "Flushes.", &flushes);
        let mut work = page.histograms("work_seconds", "Work.");
        let none = Histogram::of_times(&[1_000_000]);
        work.distribution(&[("op", "Put")], &none);
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
flush_seconds_sum 12.4
flush_seconds_count 3
# HELP work_seconds Work.
# TYPE work_seconds histogram
work_seconds_bucket{op=\"Put\",le=\"1\"} 0
work_seconds_bucket{op=\"Put\",le=\"+Inf\"} 0
work_seconds_sum{op=\"Put\"} 0
work_seconds_count{op=\"Put\"} 0
";
        assert_eq!(page.into_text(), expected);
    }
}
