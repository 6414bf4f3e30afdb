//! What the demo asks in SQL, and the shapes of the answers. `view` asks for a `Snapshot` each second, `report` for
//! the whole run once. Statements stand here and nowhere else, so that a reader can copy them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::desk::{Desk, DeskError, Row, number, whole, word};
use super::graph::Edge;
use super::world::USER_AGENT;

/// The same meaning of an error as in the views: the service failed or could not be asked. A refused request (401,
/// 404) is none, nor is a client that went away.
const ERROR: &str = "status >= 500 OR outcome IN ('circuit_open', 'no_healthy_upstream', 'connect_failed', \
                     'upstream_reset', 'upstream_timeout', 'gateway_error', 'overloaded')";

/// Traffic of one consumer, service or route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Requests.
    pub requests: u64,
    /// Of these, those where the service failed, see `ERROR`.
    pub errors: u64,
    /// Bytes of bodies, both ways.
    pub bytes: u64,
    /// Median duration, microseconds.
    pub p50_us: f64,
    /// 95th percentile, microseconds.
    pub p95_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
}

/// One sink of `system.ledger`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerLine {
    /// Name of the sink.
    pub sink: String,
    /// Events written by this life of the gateway.
    pub produced: u64,
    /// Events found from earlier lives.
    pub recovered: u64,
    /// Events safely in the sink.
    pub stored: u64,
    /// Events dropped, for whatever reason.
    pub dropped: u64,
    /// Events on their way.
    pub in_flight: u64,
}

impl LedgerLine {
    /// True when every event is accounted for.
    pub fn balances(&self) -> bool {
        self.produced + self.recovered == self.stored + self.dropped + self.in_flight
    }
}

/// What the view shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Requests per second, one value per second of the last minute, oldest first; the running second is left out.
    pub per_second: Vec<f64>,
    /// All traffic of the last ten seconds.
    pub recent: Option<Line>,
    /// Consumers of the last ten seconds, busiest first.
    pub consumers: Vec<Line>,
    /// Routes of the last ten seconds, busiest first.
    pub routes: Vec<Line>,
    /// The ledger.
    pub ledger: Vec<LedgerLine>,
}

fn measures(name: &str) -> String {
    format!(
        "{name} AS name, count(*) AS requests, count(*) FILTER (WHERE {ERROR}) AS errors, \
         sum(request_bytes + response_bytes) AS bytes, \
         sketch_percentile(latency_sketch(duration_us), 0.5) AS p50_us, \
         sketch_percentile(latency_sketch(duration_us), 0.95) AS p95_us, \
         sketch_percentile(latency_sketch(duration_us), 0.99) AS p99_us"
    )
}

fn line(row: &Row) -> Line {
    Line {
        name: word(row, "name"),
        requests: whole(row, "requests"),
        errors: whole(row, "errors"),
        bytes: whole(row, "bytes"),
        p50_us: number(row, "p50_us"),
        p95_us: number(row, "p95_us"),
        p99_us: number(row, "p99_us"),
    }
}

const CONSUMER: &str = "coalesce(consumer, 'anonymous')";

async fn lines(desk: &Desk, name: &str, condition: &str, rows_max: u32) -> Result<Vec<Line>, DeskError> {
    let statement = format!(
        "SELECT {} FROM requests WHERE {condition} GROUP BY 1 ORDER BY requests DESC, name LIMIT {rows_max}",
        measures(name)
    );
    Ok(desk.query(&statement).await?.iter().map(line).collect())
}

/// The ledger of all sinks.
pub async fn ledger(desk: &Desk) -> Result<Vec<LedgerLine>, DeskError> {
    let statement = "SELECT sink, sum(produced) AS produced, sum(recovered) AS recovered, sum(stored) AS stored, \
                     sum(dropped) AS dropped, sum(in_flight) AS in_flight FROM system.ledger GROUP BY sink ORDER BY sink";
    let row = |row: &Row| LedgerLine {
        sink: word(row, "sink"),
        produced: whole(row, "produced"),
        recovered: whole(row, "recovered"),
        stored: whole(row, "stored"),
        dropped: whole(row, "dropped"),
        in_flight: whole(row, "in_flight"),
    };
    Ok(desk.query(statement).await?.iter().map(row).collect())
}

/// The state of the last seconds.
pub async fn snapshot(desk: &Desk) -> Result<Snapshot, DeskError> {
    // Seconds without a request have no group: their age tells where they were.
    let seconds = desk
        .query(
            "SELECT CAST(date_part('epoch', date_trunc('second', now())) - \
             date_part('epoch', date_trunc('second', time)) AS BIGINT) AS age, count(*) AS requests FROM requests \
             WHERE time >= date_trunc('second', now()) - INTERVAL '60 seconds' \
             AND time < date_trunc('second', now()) GROUP BY 1 ORDER BY 1 DESC",
        )
        .await?;
    let ages: Vec<(u64, u64)> =
        seconds.iter().map(|row| (whole(row, "age"), whole(row, "requests"))).collect();
    let recent = "time >= now() - INTERVAL '10 seconds'";
    Ok(Snapshot {
        per_second: per_second(&ages),
        recent: lines(desk, "'all'", recent, 1).await?.into_iter().next(),
        consumers: lines(desk, CONSUMER, recent, 6).await?,
        routes: lines(desk, "coalesce(route, 'none')", recent, 6).await?,
        ledger: ledger(desk).await?,
    })
}

/// Requests by age in seconds, oldest first, as one value per second up to the last whole one.
fn per_second(ages: &[(u64, u64)]) -> Vec<f64> {
    let oldest = ages.first().map_or(0, |(age, _)| *age);
    let at =
        |second| ages.iter().find(|(age, _)| *age == second).map_or(0.0, |(_, requests)| *requests as f64);
    (1..=oldest).rev().map(at).collect()
}

/// The whole run in numbers from SQL.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Rows of the table since the start of the demo.
    pub rows: u64,
    /// Of these, sent by the demo itself; the others are the reader's own.
    pub rows_demo: u64,
    /// Rows of the demo by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Rows of the demo without a status: the client left before the head of an answer.
    pub headless: u64,
    /// Rows by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Rows that took longer than a second.
    pub slow: u64,
    /// Traffic by consumer.
    pub consumers: Vec<Line>,
    /// Traffic by service.
    pub services: Vec<Line>,
    /// Who calls whom.
    pub edges: Vec<Edge>,
}

impl Summary {
    /// Requests of all edges of the call graph.
    pub fn edges(&self) -> u64 {
        self.edges.iter().map(|edge| edge.requests).sum()
    }
}

/// Rows of all, and of the demo, since `since` (a timestamp in UTC as SQL reads it).
async fn rows(desk: &Desk, since: &str) -> Result<(u64, u64), DeskError> {
    let statement = format!(
        "SELECT count(*) AS total, count(*) FILTER (WHERE starts_with(user_agent, '{USER_AGENT}')) AS of_demo \
         FROM requests WHERE time >= TIMESTAMP '{since}'"
    );
    let answer = desk.query(&statement).await?;
    Ok(answer.first().map_or((0, 0), |row| (whole(row, "total"), whole(row, "of_demo"))))
}

/// Asks for the whole run since `since`.
pub async fn summary(desk: &Desk, since: &str) -> Result<Summary, DeskError> {
    let run = format!("time >= TIMESTAMP '{since}'");
    let (rows, rows_demo) = rows(desk, since).await?;
    let statuses = desk
        .query(&format!(
            "SELECT status, count(*) AS requests FROM requests WHERE {run} \
             AND starts_with(user_agent, '{USER_AGENT}') GROUP BY status ORDER BY status"
        ))
        .await?;
    let outcomes = desk
        .query(&format!("SELECT outcome, count(*) AS requests FROM requests WHERE {run} GROUP BY outcome"))
        .await?;
    let slow = desk
        .query(&format!("SELECT count(*) AS slow FROM requests WHERE {run} AND duration_us > 1000000"))
        .await?;
    let edges = desk.query("SELECT caller, callee, requests, errors, p99_ms FROM call_graph").await?;
    let (headless, answered): (Vec<&Row>, Vec<&Row>) =
        statuses.iter().partition(|row| row.get("status").is_none_or(serde_json::Value::is_null));
    let answered = answered.into_iter();
    Ok(Summary {
        rows,
        rows_demo,
        statuses: answered.map(|row| (whole(row, "status") as u16, whole(row, "requests"))).collect(),
        headless: headless.iter().map(|row| whole(row, "requests")).sum(),
        outcomes: outcomes.iter().map(|row| (word(row, "outcome"), whole(row, "requests"))).collect(),
        slow: slow.first().map_or(0, |row| whole(row, "slow")),
        consumers: lines(desk, CONSUMER, &run, 20).await?,
        services: lines(desk, "coalesce(service, 'none')", &run, 20).await?,
        edges: edges.iter().map(edge).collect(),
    })
}

fn edge(row: &Row) -> Edge {
    Edge {
        caller: word(row, "caller"),
        callee: word(row, "callee"),
        requests: whole(row, "requests"),
        errors: whole(row, "errors"),
        p99_us: number(row, "p99_ms") * 1_000.0,
    }
}

/// Statements for the reader to try, with what each one shows.
pub const TO_TRY: [(&str, &str); 3] = [
    ("who asks", "SELECT * FROM consumers"),
    ("who calls whom", "SELECT * FROM call_graph"),
    ("does it add up", "SELECT * FROM system.ledger"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_requests_is_a_zero() {
        assert_eq!(per_second(&[(4, 10), (3, 20), (1, 5)]), [10.0, 20.0, 0.0, 5.0]);
        assert_eq!(per_second(&[(3, 7)]), [7.0, 0.0, 0.0]);
        assert!(per_second(&[]).is_empty());
    }

    #[test]
    fn a_ledger_line_balances_only_to_the_row() {
        let mut line = LedgerLine {
            sink: "parquet".into(),
            produced: 10,
            recovered: 2,
            stored: 9,
            dropped: 1,
            in_flight: 2,
        };
        assert!(line.balances());
        line.stored = 8;
        assert!(!line.balances());
    }
}
