//! Every query of every panel and variable, expanded as Grafana expands it, against a real Prometheus and the PostgreSQL
//! door. A panel without data fails, and so does one that shows nothing but zeros where something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::boards::{self, all, targets};
use super::expand::{self, ALL, Picked, Range};
use super::support::eventually;
use super::support::tool::{Prometheus, escape};
use super::world::{World, psql, value};

/// What is picked: everything, and services of the demo and of the other host.
const CHOICES: [Picked<'static>; 2] = [
    &[("service", ALL), ("route", ALL), ("consumer", ALL), ("instance", ALL)],
    &[
        ("service", &["shop", "pooled", "private"]),
        ("route", &["shop", "pooled-route", "private-route"]),
        ("consumer", &["acme", "alice"]),
        ("instance", ALL),
    ],
];

/// Panels that show 0 while all is well, or while nothing is picked that could show more.
const ZERO: &[&str] = &[
    "Behind",
    "Bucket last complete",
    "Burn of the latency budget",
    "Circuit breakers: beyond a bound",
    "Connections turned away or cut",
    "Damaged files",
    "Drops by reason",
    "Ejections",
    "Error ratio by consumer",
    "Error ratio by route",
    "Events dropped",
    "Events on their way",
    "Label sets beyond the bound",
    "Merges that failed",
    "Requests beyond the bound",
    "Rows set aside",
    "Slow requests of the last five minutes",
    "Spans",
    "Spans waiting",
    "Targets",
    "Tried again",
    "Uploads",
    "Waiting for the bucket",
];

/// Tables that are empty while nothing is out of the ordinary.
const EMPTY: &[&str] = &["Changes of the configuration", "Unusual minutes"];

/// What the demo has none of, and the other host does.
const NOT_IN_THE_DEMO: &[&str] = &["Circuit breakers now", "Configurations"];

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn every_query_has_data() {
    let mut world = World::start();
    let boards = all("grafana");
    for (name, board) in &boards {
        for variable in boards::variables(board) {
            if variable["datasource"]["type"] == "prometheus" {
                prometheus_variable(&world.prometheus, name, variable);
            } else {
                let statement = variable["definition"].as_str().unwrap();
                let range = range(world.demo.postgres, "10 minutes");
                eventually(name, || {
                    match psql(world.demo.postgres, &expand::sql(statement, &[], &range, true))?.1.len() {
                        0 => Err(format!("no values: {statement}")),
                        _ => Ok(()),
                    }
                });
            }
        }
        for picked in CHOICES {
            for (title, target) in targets(board).filter(|(_, target)| target["expr"].is_string()) {
                prometheus_panel(&world.prometheus, &format!("{name}: {title}"), title, target, picked);
            }
        }
    }
    exemplars(&world, &boards["latency"]);
    statements(&world, &boards);
    world.quiet();
    while_nothing_is_live(&world, &boards);
    names_are_those_of_metrics(&world.prometheus, &boards);
    runbooks(&world);
}

fn prometheus_variable(prometheus: &Prometheus, name: &str, variable: &Value) {
    let query = variable["definition"].as_str().unwrap();
    let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
    let (selector, label) = inner.rsplit_once(", ").unwrap();
    let selector = expand::promql(selector, CHOICES[0]);
    eventually(&format!("{name}: {query}"), || {
        let series = prometheus.query(&format!("count by ({label}) ({selector})"))?;
        let found = series.iter().any(|series| series["metric"][label].is_string());
        if found { Ok(()) } else { Err(format!("{series:?}")) }
    });
}

/// The last value of each series of a query over an hour, or of this moment.
fn values(prometheus: &Prometheus, query: &str, target: &Value) -> Result<Vec<(Value, f64)>, String> {
    let now = now_s();
    let (target, key) = if target["instant"] == true {
        (format!("query?query={}", escape(query)), "value")
    } else {
        (format!("query_range?query={}&start={}&end={now}&step=15", escape(query), now - 3600), "values")
    };
    let answer = prometheus.ask(&target)?;
    let number = |series: &Value| {
        let point = if key == "value" { &series[key] } else { series[key].as_array()?.last()? };
        Some((series["metric"].clone(), point[1].as_str()?.parse().ok()?))
    };
    Ok(answer["result"].as_array().unwrap().iter().filter_map(number).collect())
}

fn prometheus_panel(prometheus: &Prometheus, what: &str, title: &str, target: &Value, picked: Picked<'_>) {
    let query = expand::promql(target["expr"].as_str().unwrap(), picked);
    let legend = target["legendFormat"].as_str().unwrap_or_default();
    eventually(what, || {
        let found = values(prometheus, &query, target)?;
        let wanted = |value: f64| value.is_finite() && (value != 0.0 || ZERO.contains(&title));
        if !found.iter().any(|(_, value)| wanted(*value)) {
            return Err(format!("nothing to see for {query}: {found:?}"));
        }
        for (label, _) in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
            // Of an upstream or the service, one is named; a reason is only where something was dropped.
            let may_lack =
                ["upstream", "service", "reason"].contains(&label) && legend.matches("{{").count() > 1;
            let named = found.iter().any(|(labels, _)| labels[label].is_string());
            if !named && !may_lack && !query.contains("vector(0)") {
                return Err(format!("{legend}: no label {label} in {found:?}"));
            }
        }
        Ok(())
    });
}

/// A dot on a graph is a request whose trace is known.
fn exemplars(world: &World, board: &Value) {
    let mut dots = 0;
    for (title, target) in targets(board).filter(|(_, target)| target["exemplar"] == true) {
        let query = escape(&expand::promql(target["expr"].as_str().unwrap(), CHOICES[0]));
        let now = now_s();
        let trace = eventually(title, || {
            let target = format!("query_exemplars?query={query}&start={}&end={}", now - 3600, now + 60);
            let series = world.prometheus.ask(&target)?;
            let trace = &series[0]["exemplars"][0]["labels"]["trace_id"];
            trace.as_str().map(str::to_owned).ok_or_else(|| format!("{series}"))
        });
        let statement = format!("SELECT count(*) FROM requests WHERE trace_id = '{trace}'");
        let known: u64 = [world.demo.postgres, world.centre.addr("postgres")]
            .map(|addr| value(addr, &statement).parse::<u64>().unwrap())
            .iter()
            .sum();
        assert!(known > 0, "{title}: no request of the trace {trace}");
        dots += 1;
    }
    assert!(dots >= 3, "heat map and percentiles have dots");
}

/// From so long ago until an hour from now.
fn range(addr: SocketAddr, ago: &str) -> Range {
    let at =
        |expression: &str| value(addr, &format!("SELECT {expression}")).replace(' ', "T").replace("+00", "Z");
    Range { from: at(&format!("now() - INTERVAL '{ago}'")), to: at("now() + INTERVAL '1 hour'") }
}

fn statements(world: &World, boards: &BTreeMap<String, Value>) {
    let demo = world.demo.postgres;
    let trace = value(
        demo,
        "SELECT trace_id FROM requests WHERE trace_id IS NOT NULL GROUP BY trace_id ORDER BY count(*) DESC LIMIT 1",
    );
    let trace = [trace.as_str()];
    let fixed: [(&str, &[&str]); 3] = [("trace", &trace), ("objective", &["0.999"]), ("period", &["30"])];
    let lately = range(demo, "10 minutes");
    let before = Range { from: "1970-01-01T00:00:00Z".into(), to: "1970-01-02T00:00:00.5Z".into() };
    let mut asked = BTreeSet::new();
    for (name, board) in boards {
        for (title, target) in targets(board).filter(|(_, target)| target["rawSql"].is_string()) {
            let what = format!("{name}: {title}");
            assert_eq!(
                (&target["rawQuery"], &target["editorMode"]),
                (&true.into(), &"code".into()),
                "{what}"
            );
            let statement = target["rawSql"].as_str().unwrap();
            let addr = if NOT_IN_THE_DEMO.contains(&title) { world.centre.addr("postgres") } else { demo };
            for (choice, with_time_bucket) in [(0, true), (1, false)] {
                let picked: Vec<_> = fixed.iter().chain(CHOICES[choice]).copied().collect();
                let expanded = expand::sql(statement, &picked, &lately, with_time_bucket);
                if !asked.insert(expanded.clone()) {
                    continue;
                }
                eventually(&what, || {
                    let (columns, rows) = psql(addr, &expanded)?;
                    if rows.is_empty() && !EMPTY.contains(&title) {
                        return Err(format!("no rows: {expanded}"));
                    }
                    // One of each column's values says something.
                    let blank = |at: usize| rows.iter().all(|row| row[at].is_empty());
                    let of_every_row =
                        ["requests", "value", "time", "id", "source", "ms", "trace_id", "address"];
                    for (at, column) in columns.iter().enumerate() {
                        if of_every_row.contains(&column.as_str()) && !rows.is_empty() && blank(at) {
                            return Err(format!("{column} is empty: {expanded}"));
                        }
                    }
                    if target["format"] == "time_series" {
                        // Grafana makes series only out of rows in the order of time.
                        assert_eq!(columns[0], "time", "{what}");
                        assert!(
                            rows.is_sorted_by(|one, next| one[0].len() < next[0].len() || one[0] <= next[0]),
                            "{what}: {rows:?}"
                        );
                    }
                    Ok(())
                });
                if statement.contains("$__timeFilter") && statement.contains("GROUP BY") {
                    let earlier = expand::sql(statement, &picked, &before, with_time_bucket);
                    assert_eq!(
                        psql(addr, &earlier).unwrap().1,
                        Vec::<Vec<String>>::new(),
                        "{what}: before all of it"
                    );
                }
            }
        }
    }
    assert!(asked.len() > 40, "{}", asked.len());
    // Marks on graphs; there need not be any.
    for board in boards.values() {
        let marks = board["annotations"]["list"].as_array().unwrap();
        for statement in marks.iter().filter_map(|mark| mark["target"]["rawSql"].as_str()) {
            let expanded = expand::sql(statement, &[], &lately, true);
            assert_eq!(psql(demo, &expanded).unwrap().0, ["time", "text", "tags"]);
        }
    }
}

/// The same statements of a gateway that has had nothing to do for a while: all rows are sealed.
fn while_nothing_is_live(world: &World, boards: &BTreeMap<String, Value>) {
    let centre = world.centre.addr("postgres");
    eventually("all rows to be sealed", || {
        let live = psql(centre, "SELECT coalesce(sum(rows), 0) FROM system.files WHERE kind = 'hot'")?.1;
        if live[0][0] == "0" { Ok(()) } else { Err(format!("{live:?}")) }
    });
    let trace = "0".repeat(32);
    let trace = [trace.as_str()];
    let fixed: [(&str, &[&str]); 3] = [("trace", &trace), ("objective", &["0.999"]), ("period", &["30"])];
    let picked: Vec<_> = fixed.iter().chain(CHOICES[0]).copied().collect();
    let lately = range(centre, "10 minutes");
    for (title, target) in boards.values().flat_map(targets) {
        if let Some(statement) = target["rawSql"].as_str() {
            let answer = psql(centre, &expand::sql(statement, &picked, &lately, true));
            assert!(answer.is_ok(), "{title}: {answer:?}");
        }
    }
}

/// Words of an expression that are names of Tollhouse's metrics or recorded ones.
fn metric_names(expr: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c == '_' || c == ':' || c.is_ascii_alphanumeric();
    expr.split(move |c| !is_of_name(c))
        .filter(|word| word.contains("tollhouse_") || word.starts_with("tollhouse:"))
}

/// An expression that names no metric finds nothing, and says nothing either.
fn names_are_those_of_metrics(prometheus: &Prometheus, boards: &BTreeMap<String, Value>) {
    let known = prometheus.ask("label/__name__/values").unwrap();
    let known: BTreeSet<&str> = known.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut text: String = ["tollhouse.rules", "tollhouse.alerts", "istio.rules", "kong.rules"]
        .map(|name| super::text(&format!("prometheus/{name}.yaml")))
        .concat();
    for (_, target) in boards.values().flat_map(targets) {
        text += target["expr"].as_str().unwrap_or_default();
        text += "\n";
    }
    let mut named = 0;
    for name in metric_names(&text) {
        assert!(known.contains(name), "no metric is called {name}");
        named += 1;
    }
    assert!(named > 300, "{named}");
}

/// What the runbooks ask is asked: each statement and each query answers without an error.
fn runbooks(world: &World) {
    let page = std::fs::read_to_string(super::path("../docs/runbooks.md")).unwrap();
    let mut asked = [0, 0];
    for block in page.split("\n```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').unwrap();
        match language {
            "sql" => {
                psql(world.centre.addr("postgres"), text).unwrap();
                asked[0] += 1;
            }
            "promql" => {
                world.prometheus.query(text).unwrap();
                asked[1] += 1;
            }
            "sh" | "text" | "yaml" => {}
            other => panic!("nobody runs `{other}`"),
        }
    }
    assert!(asked[0] > 8 && asked[1] > 8, "{asked:?}");
}
