//! The rule files by themselves: promtool reads them and runs their tests, and each alert has its test and its runbook.

use std::process::Command;

use serde_json::Value;

use super::support::tool::{output, promtool};
use super::{path, text};

const FILES: [&str; 4] = ["tollhouse.rules", "tollhouse.alerts", "istio.rules", "kong.rules"];

/// The rules of a file.
pub fn rules(name: &str) -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&text(&format!("prometheus/{name}.yaml"))).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// A rule file whose every time is a sixtieth: an hour is a minute. Prometheus then sees in seconds what takes it minutes.
pub fn quicker(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        // A time stands in brackets, or after one of these words; in a name or a sentence it is no time.
        while let Some(at) = ["[", "offset ", "for: ", "interval: "]
            .iter()
            .filter_map(|mark| Some(rest.find(mark)? + mark.len()))
            .min()
        {
            let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
            let unit = rest[at + digits..].chars().next().unwrap_or(' ');
            let seconds = match unit {
                's' => 1.0 / 60.0,
                'm' => 1.0,
                'h' => 60.0,
                'd' => 1440.0,
                _ => 0.0,
            };
            out.push_str(&rest[..at]);
            match rest[at..at + digits].parse::<f64>() {
                Ok(number) if seconds > 0.0 => {
                    out.push_str(&format!("{}s", (number * seconds).ceil()));
                    rest = &rest[at + digits + 1..];
                }
                _ => rest = &rest[at..],
            }
        }
        out.push_str(rest);
    }
    out
}

#[test]
fn times_are_made_shorter() {
    let text =
        "  interval: 5m\n  expr: rate(a_rate5m[1h] offset 10m) and b[3d]\n  for: 0s\n  summary: 'for 5m'\n";
    let short = "  interval: 5s\n  expr: rate(a_rate5m[60s] offset 10s) and b[4320s]\n  for: 0s\n  summary: 'for 5m'\n";
    assert_eq!(quicker(text), short);
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let files = FILES.map(|name| path(&format!("prometheus/{name}.yaml")));
    output(Command::new(promtool()).args(["check", "rules", "--lint=all", "--lint-fatal"]).args(files));
    let said =
        output(Command::new(promtool()).args(["test", "rules"]).arg(path("prometheus/alerts_test.yaml")));
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn each_alert_is_tested_both_ways_and_has_a_runbook() {
    let tests: Value = serde_saphyr::from_str(&text("prometheus/alerts_test.yaml")).unwrap();
    let looks: Vec<&Value> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["promql_expr_test"].as_array().unwrap())
        .collect();
    let page = std::fs::read_to_string(path("../docs/runbooks.md")).unwrap();
    let alerts = rules("tollhouse.alerts");
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let of_it = |look: &&Value| look["expr"].as_str().unwrap().contains(&format!("alertname=\"{name}\""));
        let fires = |look: &&Value| look["exp_samples"].as_array().is_some_and(|samples| !samples.is_empty());
        let (firing, silent): (Vec<&Value>, Vec<&Value>) =
            looks.iter().copied().filter(of_it).partition(fires);
        assert!(!firing.is_empty(), "no test has {name} fire");
        assert!(!silent.is_empty(), "no test has {name} silent");

        for key in ["summary", "description"] {
            assert!(alert["annotations"][key].as_str().unwrap().len() > 20, "{name}: {key}");
        }
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(url, format!("docs/runbooks.md#{}", name.to_lowercase()));
        let (_, section) =
            page.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("{name} has no runbook"));
        let section = section.split("\n## ").next().unwrap();
        for part in ["**Meaning.**", "**Look.**", "**Do.**"] {
            assert!(section.contains(part), "the runbook of {name} has no {part}");
        }
    }
    let sections = page.lines().filter(|line| line.starts_with("## Tollhouse")).count();
    assert_eq!(sections, alerts.len(), "a runbook is of no alert");
}
