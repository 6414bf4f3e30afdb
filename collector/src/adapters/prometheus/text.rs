//! Writes samples in the two text formats that Prometheus reads.
//!
//! `prometheus-client` has the OpenMetrics text format only, and its exemplars can be made by nobody but its own
//! histograms (one lock each); both formats are a page of rules, so this file spells them out:
//!
//! | | OpenMetrics 1.0 | text 0.0.4 |
//! | --- | --- | --- |
//! | family name of a counter in TYPE and HELP | without `_total` | with `_total` |
//! | info family | type `info`, name without `_info` | type `gauge`, name with `_info` |
//! | `# UNIT` | if the family has one | never |
//! | exemplars | after the value of a bucket | never |
//! | end | `# EOF` | nothing |

use std::fmt::Write;

use super::histogram::{Exemplar, Histogram};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.0, with exemplars.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Classic,
}

impl Format {
    /// The media type of a page.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// A page being written: families one after the other, each with its samples.
#[derive(Debug)]
pub(super) struct Page {
    out: String,
    format: Format,
    /// Name of the family being written, without the suffix that its kind adds.
    family: &'static str,
    kind: Kind,
}

impl Page {
    pub(super) fn new(format: Format, capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity), format, family: "", kind: Kind::Gauge }
    }

    /// Begins a family. `name` is without `_total` and `_info` and ends in `unit`, if there is one. `help` is
    /// plain: no line feed, quote or backslash.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, unit: Option<&str>, help: &str) {
        debug_assert!(!help.contains(['\n', '"', '\\']) && unit.is_none_or(|unit| name.ends_with(unit)));
        (self.family, self.kind) = (name, kind);
        let (suffix, kind) = match (self.format, kind) {
            (Format::Classic, Kind::Counter) => ("_total", "counter"),
            (Format::Classic, Kind::Info) => ("_info", "gauge"),
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
            (_, Kind::Gauge) => ("", "gauge"),
            (_, Kind::Histogram) => ("", "histogram"),
        };
        self.push(&["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.push(&["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    /// One whole number; `labels` are rendered by [`label`].
    pub(super) fn integer(&mut self, labels: &str, value: u64) {
        self.name(self.suffix(), labels, "");
        self.end_integer(value);
    }

    /// One fraction; `labels` are rendered by [`label`].
    pub(super) fn float(&mut self, labels: &str, value: f64) {
        self.name(self.suffix(), labels, "");
        self.push_float(value);
        self.out.push('\n');
    }

    /// All samples of one histogram, in seconds; `bounds` are the rendered upper bounds of all but the last.
    pub(super) fn histogram(&mut self, labels: &str, histogram: &Histogram, bounds: &[String]) {
        let mut count = 0;
        for (bucket, observed) in histogram.buckets.iter().enumerate() {
            count += observed;
            self.name("_bucket", labels, bounds.get(bucket).map_or("+Inf", String::as_str));
            write_infallible(&mut self.out, format_args!("{count}"));
            match histogram.exemplars.get(bucket) {
                Some(exemplar) if self.format == Format::OpenMetrics && exemplar.is_set() => {
                    self.exemplar(exemplar);
                }
                _ => {}
            }
            self.out.push('\n');
        }
        self.name("_sum", labels, "");
        self.push_float(histogram.sum_us as f64 / 1e6);
        self.out.push('\n');
        self.name("_count", labels, "");
        self.end_integer(count);
    }

    /// The page, ended as its format demands.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    fn name(&mut self, suffix: &str, labels: &str, bound: &str) {
        self.push(&[self.family, suffix]);
        match (labels.is_empty(), bound.is_empty()) {
            (true, true) => self.out.push(' '),
            (false, true) => self.push(&["{", labels, "} "]),
            (true, false) => self.push(&["{le=\"", bound, "\"} "]),
            (false, false) => self.push(&["{", labels, ",le=\"", bound, "\"} "]),
        }
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.out.push_str(" # {trace_id=\"");
        for byte in exemplar.trace_id {
            for digit in [byte >> 4, byte & 15] {
                self.out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        self.out.push_str("\"} ");
        self.push_float(f64::from(exemplar.value_us) / 1e6);
        let (seconds, micros) =
            (exemplar.time_us.div_euclid(1_000_000), exemplar.time_us.rem_euclid(1_000_000));
        if seconds >= 0 {
            write_infallible(&mut self.out, format_args!(" {seconds}.{micros:06}"));
        }
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part);
        }
    }

    fn end_integer(&mut self, value: u64) {
        write_infallible(&mut self.out, format_args!("{value}\n"));
    }

    fn push_float(&mut self, value: f64) {
        write_infallible(&mut self.out, format_args!("{value:?}"));
    }
}

/// Upper bounds as they stand in `le`: seconds, always with a fraction, the same in both formats, so that a
/// change of format renames no series.
pub(super) fn render_bounds(bounds_us: &[u32]) -> Vec<String> {
    bounds_us.iter().map(|bound| format!("{:?}", f64::from(*bound) / 1e6)).collect()
}

/// Appends one label to a rendered set: backslash, quote and line feed escaped, as both formats demand.
pub(super) fn label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        labels.push_str(&rest[..at]);
        labels.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    labels.push_str(rest);
    labels.push('"');
}

fn write_infallible(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format, 0);
        page.family("a_bytes", Kind::Counter, Some("bytes"), "Bytes.");
        let mut labels = String::new();
        label(&mut labels, "x", "1\\2\"3\n4");
        page.integer(&labels, 7);
        page.family("b", Kind::Info, None, "Build.");
        page.integer("", 1);
        page.family("c_seconds", Kind::Histogram, Some("seconds"), "Time.");
        let mut histogram = Histogram::new(vec![500, 1_000_000].into());
        let bucket = histogram.observe(1_500);
        let exemplar = Exemplar { trace_id: [0xab; 16], value_us: 1_500, time_us: 1_700_000_000_000_042 };
        histogram.exemplify(bucket, exemplar);
        page.histogram("y=\"z\"", &histogram, &render_bounds(&[500, 1_000_000]));
        page.finish()
    }

    #[test]
    fn openmetrics() {
        let trace_id = "ab".repeat(16);
        let expected = format!(
            "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
             a_bytes_total{{x=\"1\\\\2\\\"3\\n4\"}} 7\n\
             # HELP b Build.\n# TYPE b info\nb_info 1\n\
             # HELP c_seconds Time.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\n\
             c_seconds_bucket{{y=\"z\",le=\"0.0005\"}} 0\n\
             c_seconds_bucket{{y=\"z\",le=\"1.0\"}} 1 # {{trace_id=\"{trace_id}\"}} 0.0015 1700000000.000042\n\
             c_seconds_bucket{{y=\"z\",le=\"+Inf\"}} 1\n\
             c_seconds_sum{{y=\"z\"}} 0.0015\nc_seconds_count{{y=\"z\"}} 1\n# EOF\n"
        );
        assert_eq!(page(Format::OpenMetrics), expected);
    }

    #[test]
    fn classic() {
        let expected = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\n\
             a_bytes_total{x=\"1\\\\2\\\"3\\n4\"} 7\n\
             # HELP b_info Build.\n# TYPE b_info gauge\nb_info 1\n\
             # HELP c_seconds Time.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{y=\"z\",le=\"0.0005\"} 0\nc_seconds_bucket{y=\"z\",le=\"1.0\"} 1\n\
             c_seconds_bucket{y=\"z\",le=\"+Inf\"} 1\n\
             c_seconds_sum{y=\"z\"} 0.0015\nc_seconds_count{y=\"z\"} 1\n";
        assert_eq!(page(Format::Classic), expected);
    }
}
