//! Every query of every dashboard, with Grafana's variables filled in, run against a Prometheus that scrapes the
//! gateway and against the SQL endpoint. A panel without data fails.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, Site, Tollhouse};
use support::tool::Prometheus;

fn dashboard(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/grafana").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The targets of all panels, each with its panel's title, and the checks that every panel must pass.
fn targets(dashboard: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut ids = std::collections::HashSet::new();
    let inputs: Vec<_> =
        dashboard["__inputs"].as_array().unwrap().iter().map(|input| &input["name"]).collect();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}: no description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
        for target in panel["targets"].as_array().unwrap() {
            let uid = target["datasource"]["uid"].as_str().unwrap();
            let input = uid.trim_start_matches("${").trim_end_matches('}');
            assert!(inputs.iter().any(|name| *name == input), "{title}: {uid} is not asked for on import");
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

/// Traffic with successes, failures and a known consumer.
fn traffic(house: &Tollhouse) {
    for _ in 0..10 {
        house.get("/open/echo", &[]);
        house.get("/open/status/500", &[]);
        house.get("/private/bytes/100", &[("apikey", ALICE_KEY)]);
    }
}

#[test]
fn every_prometheus_query_has_data() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let prometheus = Prometheus::start(site.folder(), house.addr("metrics"));
    let dashboard = dashboard("gateway.json");
    for (title, target) in targets(&dashboard) {
        let expr = target["expr"].as_str().unwrap();
        let query = filled(expr, &[("$service", ".*"), ("$route", ".*"), ("$__rate_interval", "1m")]);
        eventually(&title, || {
            // A rate exists once a counter has grown between two scrapes.
            traffic(&house);
            let series = prometheus.query(&query)?;
            let number =
                |series: &Value| series["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
            if !series.iter().filter_map(number).any(f64::is_finite) {
                return Err(format!("no finite value for {query}: {series:?}"));
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
        let query = variable["query"].as_str().unwrap();
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
    traffic(&house);
    house.rows(30);
    for (title, target) in targets(&dashboard("consumers.json")) {
        assert_eq!(target["url"], "${sql_url}/sql", "{title}");
        let options = &target["url_options"];
        assert_eq!(
            (&options["method"], &options["body_content_type"]),
            (&"POST".into(), &"text/plain".into())
        );
        let values = [("${__from}", from.as_str()), ("${__to}", &to), ("${__interval_ms}", "15000")];
        let rows = house.sql(&filled(options["data"].as_str().unwrap(), &values));
        assert!(!rows.is_empty(), "{title}: no rows");
        for column in target["columns"].as_array().unwrap() {
            let name = column["selector"].as_str().unwrap();
            for row in &rows {
                let right = match column["type"].as_str().unwrap() {
                    "number" => row[name].is_number(),
                    _ => row[name].is_string(),
                };
                assert!(right, "{title}: {name} is not as the dashboard says in {row}");
            }
        }
    }
}
