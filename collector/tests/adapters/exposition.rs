//! A strict reader of both text formats: what it accepts, every scraper does.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// Labels, value and time of the exemplar.
    pub exemplar: Option<(BTreeMap<String, String>, f64, f64)>,
}

/// All samples of a page.
#[derive(Debug)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// Samples of one name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// Sum over all samples of one name.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// The one sample that has these labels among its own.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|has| has == value))
        };
        let found: Vec<_> = self.of(name).filter(has).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0].value
    }
}

/// Reads a page, and panics with the line at the first breach of its format.
pub fn read(page: &str, open_metrics: bool) -> Samples {
    let mut samples: Vec<Sample> = Vec::new();
    let mut families: BTreeSet<String> = BTreeSet::new();
    let mut series: BTreeSet<String> = BTreeSet::new();
    let (mut family, mut kind, mut helped) = (String::new(), String::new(), String::new());
    assert!(page.ends_with('\n'), "the last line must end");
    assert_eq!(page.ends_with("\n# EOF\n"), open_metrics, "only OpenMetrics ends in EOF");
    assert_eq!(page.matches("\n# EOF").count(), usize::from(open_metrics));
    for line in page.trim_end_matches("# EOF\n").lines() {
        assert!(!line.is_empty(), "empty line");
        assert!(!line.contains(['\r', '\0']), "{line:?}");
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match word {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "family {name} twice");
                    helped = name.to_owned();
                }
                "TYPE" => {
                    assert_eq!(helped, name, "{line}");
                    let kinds: &[&str] = if open_metrics {
                        &["counter", "gauge", "histogram", "info"]
                    } else {
                        &["counter", "gauge", "histogram"]
                    };
                    assert!(kinds.contains(&rest), "{line}");
                    assert!(!open_metrics || !name.ends_with("_total"), "{line}");
                    assert!(open_metrics || rest != "counter" || name.ends_with("_total"), "{line}");
                    (family, kind) = (name.to_owned(), rest.to_owned());
                }
                "UNIT" => {
                    assert!(open_metrics && name == family && name.ends_with(&format!("_{rest}")), "{line}")
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let sample = read_sample(line, open_metrics);
        let suffixes: &[&str] = match (kind.as_str(), open_metrics) {
            ("counter", true) => &["_total"],
            ("info", true) => &["_info"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let suffix =
            sample.name.strip_prefix(&family).unwrap_or_else(|| panic!("outside its family: {line}"));
        assert!(suffixes.contains(&suffix), "{line} in {family} ({kind})");
        assert_eq!(suffix == "_bucket", sample.labels.contains_key("le"), "{line}");
        assert!(sample.exemplar.is_none() || suffix == "_bucket", "{line}");
        assert!(series.insert(format!("{}{:?}", sample.name, sample.labels)), "series twice: {line}");
        if kind == "counter" || kind == "histogram" {
            assert!(sample.value >= 0.0, "{line}");
        }
        samples.push(sample);
    }
    check_histograms(&samples);
    Samples(samples)
}

fn read_sample(line: &str, open_metrics: bool) -> Sample {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c| !is_name(c)).unwrap();
    let (name, rest) = line.split_at(end);
    assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{line}");
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest),
        None => (BTreeMap::new(), rest),
    };
    let rest = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    let (value, exemplar) = match rest.split_once(" # {") {
        Some((value, exemplar)) => (value, Some(exemplar)),
        None => (rest, None),
    };
    let exemplar = exemplar.map(|text| {
        assert!(open_metrics, "exemplar in the classic format: {line}");
        let (labels, rest) = read_labels(text);
        let length: usize =
            labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        assert!(length <= 128, "{line}");
        let (value, time) = rest.trim_start().split_once(' ').unwrap();
        let exemplar = (labels, value.parse::<f64>().unwrap(), time.parse::<f64>().unwrap());
        let upper: f64 = line.split("le=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert!(exemplar.1 <= upper, "the exemplar is not of its bucket: {line}");
        exemplar
    });
    let value = value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
    Sample { name: name.to_owned(), labels, value, exemplar }
}

/// Reads labels after the opening brace; gives what follows the closing one.
fn read_labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty(), "{text}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("open label value: {text}")) {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    character @ ('\\' | '"') => character,
                    other => panic!("escape of {other:?}: {text}"),
                }),
                (_, character) => value.push(character),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice: {text}");
        rest = &after[end + 1..];
        match rest.as_bytes()[0] {
            b',' => rest = &rest[1..],
            b'}' => return (labels, &rest[1..]),
            _ => panic!("{text}"),
        }
    }
}

/// Buckets rise, the last is unbounded and equals the count, which stands in `_count`.
fn check_histograms(samples: &[Sample]) {
    let mut open: Option<(f64, f64)> = None;
    let mut infinite = None;
    for sample in samples {
        if sample.name.ends_with("_bucket") {
            let upper: f64 = sample.labels["le"].parse().unwrap();
            if let Some((bound, count)) = open {
                assert!(upper > bound && sample.value >= count, "{sample:?}");
            }
            open = Some((upper, sample.value));
            if upper.is_infinite() {
                infinite = Some(sample.value);
                open = None;
            }
        } else if sample.name.ends_with("_count") {
            assert_eq!(infinite.take(), Some(sample.value), "{sample:?}");
        }
    }
    assert!(open.is_none() && infinite.is_none(), "a histogram without its end");
}
