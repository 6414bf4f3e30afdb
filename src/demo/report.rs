//! The report at the end of the demo: tables, the call graph and the reconciliation, as text or as JSON. Everything
//! in it was measured: `Summary` by SQL, `Counts` by the clients, `Check` compares them.

use serde_json::{Value, json};

use super::audit::Check;
use super::graph;
use super::paint::{Ink, Paint, bytes, count, micros, percent, safe, table};
use super::questions::{Line, Summary};
use super::tally::Counts;
use super::world::SERVICES;

/// All that the report says.
pub struct Report {
    /// Seconds of traffic.
    pub seconds: f64,
    /// The clients' own ledger.
    pub counts: Counts,
    /// The answers in SQL.
    pub summary: Summary,
    /// The reconciliation.
    pub checks: Vec<Check>,
}

impl Report {
    /// True when every check agrees.
    pub fn is_reconciled(&self) -> bool {
        self.checks.iter().all(Check::is_good)
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let Self { seconds, counts, summary, checks } = self;
        let checks: Vec<Value> = checks
            .iter()
            .map(|check| {
                json!({
                    "what": check.what, "expected": check.expected, "found": check.found,
                    "allowance": check.allowance, "good": check.is_good(),
                })
            })
            .collect();
        json!({
            "seconds": seconds,
            "reconciled": self.is_reconciled(),
            "client": {
                "sent": counts.sent, "sent_by_traffic": counts.sent_edge, "by_status": counts.by_status,
                "by_caller": counts.by_caller, "aborted": counts.aborted, "truncated": counts.truncated,
                "unanswered": counts.unanswered, "shed": counts.shed,
                "request_bytes": counts.bytes_up, "response_bytes": counts.bytes_down,
            },
            "sql": summary,
            "checks": checks,
        })
    }

    /// The report as lines of text.
    pub fn to_text(&self, paint: Paint) -> String {
        let mut out = vec![String::new()];
        self.opening(paint, &mut out);
        let mut part = |title: &str, lines: Vec<String>| {
            out.push(String::new());
            out.push(paint.ink(Ink::Bold, title));
            out.extend(lines.into_iter().map(|line| format!("  {line}")));
        };
        let note = |text: &str| vec![paint.ink(Ink::Dim, text)];
        let consumers = traffic_table(paint, "consumer", &self.summary.consumers);
        part("Consumers", [consumers, note(&with_keys())].concat());
        let services = traffic_table(paint, "service", &self.summary.services);
        part("Services", [services, note(ERRORS_ARE)].concat());
        part("Status classes", self.classes(paint));
        part("How requests ended", self.outcomes(paint));
        part("Call graph", graph::draw(paint, &self.summary.edges));
        part("Reconciliation", self.reconciliation(paint));
        out.push(String::new());
        out.push(if self.is_reconciled() {
            format!("{} {}", paint.mark(true), paint.ink(Ink::Green, "The books balance, to the row."))
        } else {
            format!("{} {}", paint.mark(false), paint.ink(Ink::Red, "The books do not balance."))
        });
        out.push(String::new());
        out.join("\n")
    }

    fn opening(&self, paint: Paint, out: &mut Vec<String>) {
        let Counts { sent, sent_edge, aborted, truncated, unanswered, shed, bytes_up, bytes_down, .. } =
            &self.counts;
        let rate = *sent as f64 / self.seconds.max(0.001);
        out.push(paint.ink(Ink::Bold, &format!("Tollhouse demo: {:.1} s of traffic", self.seconds)));
        out.push(format!(
            "  The clients sent {} requests ({rate:.0}/s): {} by consumers, {} by services to one another.",
            count(*sent),
            count(*sent_edge),
            count(sent - sent_edge)
        ));
        out.push(format!(
            "  Bodies: {} up, {} down. Aborted by the client: {}. Broken off: {}. No answer: {}.",
            bytes(*bytes_up),
            bytes(*bytes_down),
            count(*aborted),
            count(*truncated),
            count(*unanswered)
        ));
        if *shed > 0 {
            let text = format!("  Not sent, too many were open: {}.", count(*shed));
            out.push(paint.ink(Ink::Yellow, &text));
        }
        let own = self.summary.rows.saturating_sub(self.summary.rows_demo);
        if own > 0 {
            out.push(format!("  And {} of your own.", count(own)));
        }
    }

    fn classes(&self, paint: Paint) -> Vec<String> {
        let statuses = &self.summary.statuses;
        let total = statuses.values().sum::<u64>() + self.summary.headless;
        let mut rows = Vec::new();
        for class in 1..=5_u16 {
            let requests: u64 =
                statuses.iter().filter(|(status, _)| **status / 100 == class).map(|(_, n)| n).sum();
            if requests == 0 {
                continue;
            }
            let parts: Vec<String> = statuses
                .iter()
                .filter(|(status, _)| **status / 100 == class)
                .map(|(status, n)| format!("{status}: {}", count(*n)))
                .collect();
            rows.push(vec![
                format!("{class}xx"),
                parts.join("  "),
                count(requests),
                percent(requests, total),
            ]);
        }
        if self.summary.headless > 0 {
            let left = "the client left before an answer".to_owned();
            let requests = self.summary.headless;
            rows.push(vec!["none".to_owned(), left, count(requests), percent(requests, total)]);
        }
        table(paint, 2, &["class", "by status", "requests", "share"], &rows)
    }

    fn outcomes(&self, paint: Paint) -> Vec<String> {
        let mut outcomes: Vec<(&String, &u64)> = self.summary.outcomes.iter().collect();
        outcomes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut rows: Vec<Vec<String>> = outcomes
            .into_iter()
            .map(|(name, n)| vec![safe(name), count(*n), percent(*n, self.summary.rows)])
            .collect();
        let slow = self.summary.slow;
        rows.push(vec!["(slower than 1 s)".to_owned(), count(slow), percent(slow, self.summary.rows)]);
        table(paint, 1, &["outcome", "requests", "share"], &rows)
    }

    fn reconciliation(&self, paint: Paint) -> Vec<String> {
        let wide = self.checks.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
        let line = |check: &Check| {
            let sign = if check.is_good() { "=" } else { "≠" };
            let note = if check.allowance > 0 && check.found != check.expected {
                paint.ink(Ink::Dim, &format!("  (up to {} unanswered may count)", count(check.allowance)))
            } else {
                String::new()
            };
            format!(
                "{} {:<wide$}  {:>10} {sign} {}{note}",
                paint.mark(check.is_good()),
                check.what,
                count(check.expected),
                count(check.found)
            )
        };
        self.checks.iter().map(line).collect()
    }
}

/// Traffic by name as a table.
fn traffic_table(paint: Paint, head: &str, lines: &[Line]) -> Vec<String> {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let errors = percent(line.errors, line.requests);
            vec![
                paint.ink(Ink::Cyan, &safe(&line.name)),
                count(line.requests),
                count(line.errors),
                if line.errors > 0 { paint.ink(Ink::Yellow, &errors) } else { errors },
                bytes(line.bytes),
                micros(line.p50_us),
                micros(line.p95_us),
                micros(line.p99_us),
            ]
        })
        .collect();
    table(paint, 1, &[head, "requests", "errors", "error rate", "bytes", "p50", "p95", "p99"], &rows)
}

/// What the reader asks at the sight of an error rate of 0 % beside so many 401.
const ERRORS_ARE: &str = "an error: 5xx or no answer of the service; 401, 404 and hanging up are none";

/// Some consumers are services.
fn with_keys() -> String {
    let names: Vec<&str> =
        SERVICES.iter().filter(|service| service.key.is_some()).map(|service| service.name).collect();
    format!("{}: services, with API keys of their own", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::graph::Edge;

    fn report() -> Report {
        let line = Line {
            name: "acme".into(),
            requests: 1_200,
            errors: 12,
            bytes: 3_400_000,
            p50_us: 2_100.0,
            p95_us: 40_000.0,
            p99_us: 1_200_000.0,
        };
        let mut counts = Counts { sent: 1_200, sent_edge: 700, aborted: 7, ..Counts::default() };
        counts.by_status.extend([(200, 1_188), (404, 12)]);
        let edge =
            Edge { caller: "acme".into(), callee: "shop".into(), requests: 9, errors: 0, p99_us: 10.0 };
        let mut summary =
            Summary { rows: 1_203, rows_demo: 1_200, slow: 3, headless: 3, ..Summary::default() };
        summary.statuses.extend([(200, 1_188), (404, 12)]);
        summary.outcomes.insert("ok".into(), 1_203);
        summary.consumers.push(line);
        summary.edges.push(edge);
        let what = "requests sent by the clients = rows in SQL".to_owned();
        let checks = vec![Check { what, expected: 1_200, found: 1_200, allowance: 0 }];
        Report { seconds: 5.0, counts, summary, checks }
    }

    #[test]
    fn text_tells_numbers_graph_and_verdict() {
        let text = report().to_text(Paint { colour: false });
        for part in [
            "1,200 requests (240/s): 700 by consumers, 500 by services",
            "Aborted by the client: 7",
            "And 3 of your own.",
            "acme         1,200      12       1.0 %  3.4 MB  2.1 ms  40.0 ms  1.20 s",
            "4xx    404: 12                                 12   1.0 %",
            "none   the client left before an answer         3   0.2 %",
            "acme    ───▶ shop           9     0 %  10 µs",
            "✔ requests sent by the clients = rows in SQL       1,200 = 1,200",
            "The books balance, to the row.",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_wrong_count_is_a_red_cross_in_text_and_false_in_json() {
        let mut report = report();
        report.checks[0].found = 1_199;
        let text = report.to_text(Paint { colour: true });
        assert!(text.contains("\x1b[31m✘\x1b[0m") && text.contains("≠ 1,199"), "{text}");
        let json = report.to_json();
        assert_eq!((&json["reconciled"], &json["checks"][0]["good"]), (&json!(false), &json!(false)));
        assert_eq!(json["client"]["aborted"], 7);
        assert_eq!(json["sql"]["edges"][0]["callee"], "shop");
    }
}
