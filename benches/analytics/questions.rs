//! The questions, in the words of each engine, and what makes two answers agree.

use std::time::Duration;

use serde_json::Value;

use crate::house::BEGIN_US;
use crate::traffic;

/// Most that a percentile may be off.
const RELATIVE_ERROR_MAX: f64 = 0.01;

/// What a question cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// By the clock.
    pub wall: Duration,
    /// User and system time of the engine's process.
    pub cpu: Duration,
}

/// An answer with its cost.
pub struct Answer {
    pub rows: Vec<Vec<Value>>,
    pub cost: Cost,
}

/// Something that answers SQL.
pub trait Engine {
    fn ask(&mut self, sql: &str) -> Result<Answer, String>;
}

/// One question.
pub struct Question {
    pub name: &'static str,
    pub tollhouse: String,
    /// The ways in which DuckDB can answer it; the fastest counts.
    pub duckdb: Vec<String>,
    /// An exact answer, with the percentile of the same rank.
    pub exact: String,
    /// Columns that are percentiles.
    pub percentiles: Vec<usize>,
    /// Whether it is one of the six.
    pub counts: bool,
}

/// The six, and the look-up of a row by its trace.
pub fn all(trace_id: &str) -> Vec<Question> {
    let hours = |count: i64| BEGIN_US + count * 1_800_000_000;
    let (from, to) = (instant(hours(7)), instant(hours(9)));
    let service = traffic::service(3);
    let hour = format!("service = '{service}' AND time >= '{from}' AND time < '{to}'");
    // Lists of all values are what an exact rank costs; only the check asks for them.
    let exact =
        |p: &str| format!("list_sort(list(duration_us))[1 + CAST(floor({p} * (count(*) - 1)) AS BIGINT)]");
    let top = |count: &str| {
        format!(
            "SELECT consumer, count(*) AS requests, sum(response_bytes){count} AS bytes FROM requests \
             GROUP BY consumer ORDER BY requests DESC, consumer LIMIT 10"
        )
    };
    let errors = "SELECT service, route, status, count(*) AS errors FROM requests WHERE status >= 500 \
                  GROUP BY service, route, status ORDER BY errors DESC, service, route, status LIMIT 20";
    let minute = "epoch_us(time) // 60000000";
    let look_up = |id: &str| format!("SELECT service, path, status FROM requests WHERE trace_id = {id}");
    let of_bytes = look_up(&format!("from_hex('{trace_id}')"));
    vec![
        Question {
            name: "top consumers",
            tollhouse: top(""),
            duckdb: vec![top("::BIGINT")],
            exact: top("::BIGINT"),
            percentiles: vec![],
            counts: true,
        },
        Question {
            name: "p50, p95, p99 by service",
            tollhouse: "SELECT service, count(*) AS requests, latency_percentile(duration_us, 0.5) AS p50, \
                        latency_percentile(duration_us, 0.95) AS p95, latency_percentile(duration_us, 0.99) AS p99 \
                        FROM requests GROUP BY service ORDER BY service"
                .into(),
            duckdb: ["quantile_disc", "approx_quantile"]
                .map(|quantile| {
                    format!(
                        "SELECT service, count(*), {quantile}(duration_us, [0.5, 0.95, 0.99]) FROM requests \
                         GROUP BY service ORDER BY service"
                    )
                })
                .into(),
            exact: format!(
                "SELECT service, count(*), {}, {}, {} FROM requests GROUP BY service ORDER BY service",
                exact("0.5"),
                exact("0.95"),
                exact("0.99")
            ),
            percentiles: vec![2, 3, 4],
            counts: true,
        },
        percentile_by("p99 by consumer", "consumer", "consumer", &exact("0.99"), ""),
        percentile_by(
            "p99 by minute",
            "CAST(date_trunc('minute', time) AS BIGINT) / 60000000",
            minute,
            &exact("0.99"),
            "",
        ),
        percentile_by("one hour of one service", "route", "route", &exact("0.99"), &format!("WHERE {hour} ")),
        Question {
            name: "top errors",
            tollhouse: errors.into(),
            duckdb: vec![errors.into()],
            exact: errors.into(),
            percentiles: vec![],
            counts: true,
        },
        Question {
            name: "one trace by its id",
            tollhouse: look_up(&format!("'{trace_id}'")),
            duckdb: vec![of_bytes.clone()],
            exact: of_bytes,
            percentiles: vec![],
            counts: false,
        },
    ]
}

fn percentile_by(name: &'static str, ours: &str, theirs: &str, exact: &str, filter: &str) -> Question {
    let ask = |key: &str, quantile: &str| {
        format!(
            "SELECT {key} AS key, count(*) AS requests, {quantile} AS p99 FROM requests {filter}\
             GROUP BY 1 ORDER BY 1"
        )
    };
    Question {
        name,
        tollhouse: ask(ours, "latency_percentile(duration_us, 0.99)"),
        duckdb: ["quantile_disc(duration_us, 0.99)", "approx_quantile(duration_us, 0.99)"]
            .map(|quantile| ask(theirs, quantile))
            .into(),
        exact: ask(theirs, exact),
        percentiles: vec![2],
        counts: true,
    }
}

/// RFC 3339 of a time on the first of March 2026.
fn instant(time_us: i64) -> String {
    let minutes = (time_us - BEGIN_US) / 60_000_000;
    format!("2026-03-01T{:02}:{:02}:00Z", minutes / 60, minutes % 60)
}

/// Whether an answer is the exact one, save for the error that a sketch may make.
pub fn agree(question: &Question, found: &[Vec<Value>], exact: &[Vec<Value>]) -> Result<(), String> {
    let differ = |what: String| Err(format!("{}: the answers differ: {what}", question.name));
    if found.len() != exact.len() || found.is_empty() {
        return differ(format!("{} and {} rows", found.len(), exact.len()));
    }
    for (row, (found, exact)) in found.iter().zip(exact).enumerate() {
        for (column, (found, exact)) in found.iter().zip(exact).enumerate() {
            let same = match (question.percentiles.contains(&column), found.as_f64(), exact.as_f64()) {
                (true, Some(found), Some(exact)) => (found - exact).abs() <= exact * RELATIVE_ERROR_MAX,
                (false, Some(found), Some(exact)) => found == exact,
                _ => found == exact,
            };
            if !same {
                return differ(format!("row {row}, column {column}: {found} and {exact}"));
            }
        }
    }
    Ok(())
}
