//! A fault that is injected makes a real Prometheus fire the alert that is meant for it, and no other one, and shows on the
//! panel that is meant for it. The rules are those of the files, with every time a sixtieth.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::boards::{all, targets};
use super::expand::{self, ALL};
use super::rules::quicker;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::Site;
use super::support::tool::Prometheus;
use super::world::Traffic;

/// What fires of the alerts about answers and upstreams, with the name of whom it is about.
fn firing(prometheus: &Prometheus) -> Result<BTreeSet<(String, String)>, String> {
    let series = prometheus.query(
        "ALERTS{alertstate=\"firing\",alertname=~\"Tollhouse(ErrorBudget.+|Upstream.+|GatewayErrors)\"}",
    )?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = |series: &Value| {
        let labels = &series["metric"];
        (text(&labels["alertname"]), text(&labels["service"]) + &text(&labels["upstream"]))
    };
    Ok(series.iter().map(named).collect())
}

/// What a panel of a dashboard shows now, by a label.
fn shown(
    prometheus: &Prometheus,
    board: &str,
    title: &str,
    label: &str,
) -> Result<Vec<(String, f64)>, String> {
    let boards = all("grafana");
    let (_, target) =
        targets(&boards[board]).find(|(known, _)| *known == title).expect("a panel of this title");
    let query = expand::promql(target["expr"].as_str().unwrap(), &[("instance", ALL), ("service", ALL)]);
    let series = prometheus.query(&query)?;
    let value = |series: &Value| {
        let value = series["value"][1].as_str()?.parse().ok()?;
        Some((series["metric"][label].as_str().unwrap_or_default().to_owned(), value))
    };
    Ok(series.iter().filter_map(value).collect())
}

fn of(values: &[(String, f64)], name: &str) -> f64 {
    values.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, value)| *value)
}

/// A service that answers, another one, and a pool of one target whose health is looked at.
fn site(origin: &Origin, target: &Origin) -> Site {
    let services = json!([
        { "name": "open", "url": format!("http://{}", origin.addr),
          "routes": [{ "name": "open-route", "paths": ["/open"] }] },
        { "name": "other", "url": format!("http://{}", origin.addr),
          "routes": [{ "name": "other-route", "paths": ["/private"] }] },
        { "name": "pooled", "host": "pool", "routes": [{ "name": "pooled-route", "paths": ["/pooled"] }] },
    ]);
    let checks = json!({ "active": {
        "http_path": "/status/200", "healthy": { "interval": 0.1, "successes": 1 },
        "unhealthy": { "interval": 0.1, "tcp_failures": 1 },
    }});
    Site::new(origin.addr)
        .set(&["services"], services)
        .set(&["upstreams"], json!([{ "name": "pool", "targets": [{ "target": target.addr.to_string() }], "healthchecks": checks }]))
}

#[test]
fn a_fault_fires_its_alert_and_shows_on_its_panel() {
    let (origin, target) = (Origin::start(), Origin::start());
    let site = site(&origin, &target);
    let house = site.run();
    let traffic = Traffic::calm(house.gateway());
    let [recording, alerts] = ["tollhouse.rules", "tollhouse.alerts"]
        .map(|name| quicker(&super::text(&format!("prometheus/{name}.yaml"))));
    let rules = [("rules.yaml", recording), ("alerts.yaml", alerts)];
    let prometheus = Prometheus::watch(site.folder(), "200ms", &[house.addr("metrics")], &rules);

    // All is well: the ratios are there, and are 0.
    eventually("ratios of three services", || {
        let ratios = shown(&prometheus, "slo", "Errors of the last five minutes", "service")?;
        let good = ["open", "other", "pooled"].iter().all(|name| of(&ratios, name) == 0.0);
        if good { Ok(()) } else { Err(format!("{ratios:?}")) }
    });
    assert_eq!(firing(&prometheus).unwrap(), BTreeSet::new());

    // Every second request of a route is answered 503.
    let mut broken = site.config().clone();
    broken["services"][0]["routes"][0]["fault"] =
        json!({ "abort": { "http_status": 503, "percentage": 50 } });
    site.replace(&broken.to_string());
    let wanted = |names: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        names.iter().map(|(alert, who)| ((*alert).to_owned(), (*who).to_owned())).collect()
    };
    let expected = wanted(&[("TollhouseErrorBudgetBurnFast", "open"), ("TollhouseGatewayErrors", "")]);
    eventually("the alerts of a service that fails", || match firing(&prometheus)? {
        fires if fires.is_superset(&expected) => Ok(()),
        fires => Err(format!("{fires:?}")),
    });
    eventually("errors on the panel", || {
        let ratios = shown(&prometheus, "gateway", "Error ratio by service", "service")?;
        let right = of(&ratios, "open") > 0.1 && of(&ratios, "other") == 0.0 && of(&ratios, "pooled") == 0.0;
        let burns = shown(&prometheus, "slo", "Burn of the error budget", "service")?;
        if right && of(&burns, "open") > 14.4 { Ok(()) } else { Err(format!("{ratios:?} {burns:?}")) }
    });

    // The only target of the pool dies, and nobody answers on its address.
    let address = target.addr.to_string();
    let health = |expected: f64| {
        eventually("the target on its panel", || {
            let targets = shown(&prometheus, "upstreams", "Targets", "address")?;
            if of(&targets, &address) == expected { Ok(()) } else { Err(format!("{targets:?}")) }
        });
    };
    health(1.0);
    drop(target);
    eventually("the alert of an upstream without a target", || {
        let fires = firing(&prometheus)?;
        let both = wanted(&[("TollhouseUpstreamDown", "pool"), ("TollhouseUpstreamTargetDown", "pool")]);
        if fires.is_superset(&both) { Ok(()) } else { Err(format!("{fires:?}")) }
    });
    health(0.0);
    eventually("the number of targets that are out", || {
        match shown(&prometheus, "gateway", "Targets out", "")? {
            out if out == [(String::new(), 1.0)] => Ok(()),
            out => Err(format!("{out:?}")),
        }
    });
    drop(traffic);
    let others = firing(&prometheus).unwrap();
    assert!(!others.iter().any(|(_, who)| who == "other"), "nothing is wrong with it: {others:?}");
}
