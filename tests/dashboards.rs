//! Every query of every dashboard, with Grafana's variables filled in, run against a Prometheus that scrapes the
//! gateway and against the SQL endpoint. A panel without data fails, and so does one that shows nothing but zeros.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::client;
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, Site, Tollhouse};
use support::tool::Prometheus;

fn dashboard(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/grafana").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The names in a list of objects.
fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

/// The targets of all panels, each with its panel's title, and the checks that every panel must pass.
fn targets(dashboard: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let (mut ids, mut cells) = (HashSet::new(), HashSet::new());
    let inputs = names(&dashboard["__inputs"], "name");
    let required = names(&dashboard["__requires"], "id");
    for input in dashboard["__inputs"].as_array().unwrap() {
        assert!(required.contains(&input["pluginId"].as_str().unwrap().to_owned()), "{input}");
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let kind = panel["type"].as_str().unwrap();
        assert!(required.iter().any(|id| id == kind), "{title}: `{kind}` is not in __requires");
        let grid = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(grid("x") + grid("w") <= 24, "{title}: wider than the grid");
        for cell in (grid("x")..grid("x") + grid("w")).flat_map(|x| (0..grid("h")).map(move |y| (x, y))) {
            assert!(cells.insert((cell.0, grid("y") + cell.1)), "{title}: covers another panel");
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}: no description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
        for target in panel["targets"].as_array().unwrap() {
            let uid = target["datasource"]["uid"].as_str().unwrap();
            let input = uid.trim_start_matches("${").trim_end_matches('}');
            assert!(inputs.iter().any(|name| name == input), "{title}: {uid} is not asked for on import");
            all.push((title.to_owned(), target.clone()));
        }
    }
    assert!(!all.is_empty());
    all
}

fn filled(text: &str, values: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (name, value) in values {
        text = text.replace(name, value);
    }
    assert!(!text.contains('$'), "a variable that the test does not know: {text}");
    text
}

/// Traffic of every kind that a panel shows: with bodies, answered, failed, refused, without a route, of a known
/// consumer. Returns how many requests that is.
fn traffic(house: &Tollhouse) -> u64 {
    for _ in 0..10 {
        client::exchange(house.gateway(), "POST", "/open/echo", &[], b"twelve bytes").unwrap();
        house.get("/open/status/500", &[]);
        house.get("/private/bytes/100", &[("apikey", ALICE_KEY)]);
        house.get("/private/bytes/100", &[]);
        house.get("/nowhere", &[]);
    }
    50
}

/// What Grafana puts in place of the variables: for all services and routes, and for two that are picked.
const CHOICES: [(&str, &str); 2] = [(".*", ".*"), ("(open|private)", "(open-route|private-route)")];

#[test]
fn every_prometheus_query_has_data() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let prometheus = Prometheus::start(site.folder(), house.addr("metrics"));
    let dashboard = dashboard("gateway.json");
    let targets = targets(&dashboard);
    for ((title, target), (service, route)) in
        targets.iter().flat_map(|target| CHOICES.map(|choice| (target, choice)))
    {
        let expr = target["expr"].as_str().unwrap();
        let query = filled(expr, &[("$service", service), ("$route", route), ("$__rate_interval", "1m")]);
        let legend = target["legendFormat"].as_str().unwrap();
        eventually(title, || {
            // A rate exists once a counter has grown between two scrapes.
            traffic(&house);
            let series = prometheus.query(&query)?;
            let number =
                |series: &Value| series["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
            // Nothing is dropped here; everything else happens.
            let wanted = |value: f64| value.is_finite() && (value > 0.0 || query.contains("\"dropped\""));
            if !series.iter().filter_map(number).any(wanted) {
                return Err(format!("no value above 0 for {query}: {series:?}"));
            }
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                // A label that is empty is absent, as `reason` is for what is stored.
                if !series.iter().any(|series| series["metric"][label.0].is_string()) && label.0 != "reason" {
                    return Err(format!("{legend}: no label {} in {series:?}", label.0));
                }
            }
            // `or vector(0)` answers even for a metric that does not exist.
            for name in query.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()) {
                if name.starts_with("tollhouse_") && prometheus.query(&format!("count({name})"))?.is_empty() {
                    return Err(format!("no series is called {name}"));
                }
            }
            Ok(())
        });
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["definition"].as_str().unwrap();
        assert_eq!(variable["query"]["query"], query);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (selector, label) = inner.rsplit_once(", ").unwrap();
        let selector = filled(selector, &[("$service", ".*")]);
        let series = prometheus.query(&format!("count by ({label}) ({selector})")).unwrap();
        assert!(series.iter().any(|series| series["metric"][label].is_string()), "{query}: {series:?}");
    }
}

#[test]
fn every_sql_query_has_data() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let from = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() - 60_000;
    let (from, to) = (from.to_string(), (from + 3_600_000).to_string());
    house.rows(traffic(&house));
    for (title, target) in targets(&dashboard("consumers.json")) {
        assert_eq!(target["url"], "${sql_url}/sql", "{title}");
        let options = &target["url_options"];
        assert_eq!(
            (&options["method"], &options["body_content_type"]),
            (&"POST".into(), &"text/plain".into())
        );
        let values = [("${__from}", from.as_str()), ("${__to}", &to), ("${__interval_ms}", "15000")];
        let statement = options["data"].as_str().unwrap();
        let rows = house.sql(&filled(statement, &values));
        assert!(!rows.is_empty(), "{title}: no rows");
        // The range that was picked is kept to: before all of it there is nothing.
        let earlier = [("${__from}", "0"), ("${__to}", "1000"), ("${__interval_ms}", "15000")];
        assert_eq!(house.sql(&filled(statement, &earlier)), Vec::<Value>::new(), "{title}");
        for column in target["columns"].as_array().unwrap() {
            let name = column["selector"].as_str().unwrap();
            let is_number = column["type"] == "number";
            for row in &rows {
                let right = if is_number { row[name].is_number() } else { row[name].is_string() };
                assert!(right, "{title}: {name} is not as the dashboard says in {row}");
            }
            let is_something = |row: &Value| row[name].as_f64().is_none_or(|value| value > 0.0);
            assert!(rows.iter().any(is_something), "{title}: {name} is 0 in all of {rows:?}");
        }
        if target["format"] == "timeseries" {
            // Infinity makes one series per consumer only out of rows in the order of time.
            let times: Vec<&str> = rows.iter().map(|row| row["time"].as_str().unwrap()).collect();
            assert!(times.is_sorted(), "{title}: {times:?}");
        }
    }
}
