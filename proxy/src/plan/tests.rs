//! Every problem is reported, with its path.

use crate::config::{Entities, GatewayConfig};
use crate::validate;

fn problems(entities: serde_json::Value) -> Vec<String> {
    let entities: Entities = serde_json::from_value(entities).unwrap();
    match validate(&GatewayConfig::default(), &entities) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|problem| problem.path).collect(),
    }
}

#[test]
fn a_whole_file_is_planned() {
    let found = problems(serde_json::json!({
        "services": [{
            "name": "orders", "url": "http://127.0.0.1:9000/base",
            "routes": [{"name": "r", "paths": ["/orders"], "methods": ["GET"], "hosts": ["*.example.com"]}],
            "plugins": [{"name": "key-auth", "config": {"key_names": ["x-key"]}}],
        }, {"name": "pool", "host": "group", "connect_timeout": 100}],
        "routes": [{"paths": ["/pool"], "service": {"name": "pool"}}],
        "upstreams": [{"name": "group", "targets": [{"target": "[::1]:9001"}, {"target": "host", "weight": 0}]}],
        "consumers": [{"username": "alice", "keyauth_credentials": [{"key": "k"}]}],
        "plugins": [{"name": "key-auth", "route": "r"}, {"name": "key-auth", "service": "pool"}],
    }));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn all_problems_come_at_once_with_their_paths() {
    let found = problems(serde_json::json!({
        "services": [
            {"name": "a", "url": "ftp://x", "routes": [
                {"paths": ["ok"]}, {"paths": ["/fine", "~/re(?=x)"], "methods": ["get", "GETT "]},
                {"service": "a", "hosts": ["a.*.b"], "headers": {"host": ["x"], "a b": ["x"], "x": ["~*("], "y": []}},
                {"snis": ["*.x", "10.0.0.1"], "protocols": ["http"], "path_handling": "v2", "regex_priority": -1},
                {"paths": ["/"], "https_redirect_status_code": 303}]},
            {"name": "a", "host": "h", "read_timeout": 0, "path": "/a//b"},
        ],
        "routes": [{"paths": ["/x"], "service": "nobody"}, {"paths": ["/y"]}],
        "upstreams": [{"name": "u", "algorithm": "latency", "hash_on": "header", "hash_fallback": "cookie", "slots": 1, "targets": [{"target": "a b"}]}],
        "consumers": [{"keyauth_credentials": [{"key": ""}]}],
        "plugins": [{"name": "rate-limiting"}, {"name": "key-auth", "config": {"key_name": []}}],
    }));
    for path in [
        "services[0].url",
        "services[1].name",
        "services[1].read_timeout",
        "services[1].path",
        "services[0].routes[0].paths[0]",
        "services[0].routes[1].paths[1]",
        "services[0].routes[1].methods[0]",
        "services[0].routes[1].methods[1]",
        "services[0].routes[2].headers.host",
        "services[0].routes[2].headers.a b",
        "services[0].routes[2].headers.x[0]",
        "services[0].routes[2].headers.y",
        "services[0].routes[3].snis",
        "services[0].routes[3].snis[0]",
        "services[0].routes[3].snis[1]",
        "services[0].routes[3].path_handling",
        "services[0].routes[3].regex_priority",
        "services[0].routes[4].https_redirect_status_code",
        "services[0].routes[2].service",
        "services[0].routes[2].hosts[0]",
        "routes[0].service",
        "routes[1].service",
        "upstreams[0].hash_on",
        "upstreams[0].hash_on_header",
        "upstreams[0].hash_on_cookie",
        "upstreams[0].slots",
        "upstreams[0].targets[0].target",
        "consumers[0]",
        "consumers[0].keyauth_credentials[0].key",
        "plugins[0].name",
        "plugins[1].config",
    ] {
        assert!(found.iter().any(|found| found == path), "{path} is missing in {found:#?}");
    }
}

#[test]
fn conditions_beyond_kong_are_checked() {
    let found = problems(serde_json::json!({
        "services": [{"name": "s", "host": "h", "routes": [
            {"paths": ["/"], "query_args": {"": ["x"], "a": [], "b": ["~*("]}, "cookies": {"a b": ["x"], "c": ["~*["]}},
            {"consumers": ["alice", "nobody"]},
        ]}],
        "consumers": [{"username": "alice"}],
    }));
    let routes = |number: usize, field: &str| format!("services[0].routes[{number}].{field}");
    let expected = [
        (0, "query_args."),
        (0, "query_args.a"),
        (0, "query_args.b[0]"),
        (0, "cookies.a b"),
        (0, "cookies.c[0]"),
        (1, "consumers[1]"),
        (1, "consumers"),
    ];
    assert_eq!(found, expected.map(|(number, field)| routes(number, field)));
}

#[test]
fn destinations_and_subsets_are_checked() {
    let found = problems(serde_json::json!({
        "services": [
            {"name": "s", "host": "u", "routes": [
                {"paths": ["/0"], "weighted_destinations": [
                    {"service": "nobody"}, {"service": "s", "upstream": "u"}, {"subset": "v9"}, {"weight": 70000}]},
                {"paths": ["/1"], "weighted_destinations": [{"weight": 0}], "sticky": {"hash_on": "header", "hash_on_cookie": "c"}},
                {"paths": ["/2"], "sticky": {"hash_on": "consumer"}},
                {"paths": ["/3"], "weighted_destinations": [{"service": "guarded"}]},
                {"paths": ["/4"], "weighted_destinations": [{"service": "guarded"}], "plugins": [{"name": "key-auth"}]},
            ]},
            {"name": "guarded", "host": "h", "plugins": [{"name": "key-auth"}]},
        ],
        "routes": [
            {"paths": ["/5"], "weighted_destinations": [{"service": "s"}, {"service": "s", "subset": "v1"}]},
            {"paths": ["/6"], "weighted_destinations": [{"service": "s"}, {"subset": "v1"}]},
        ],
        "upstreams": [{"name": "u", "targets": [
            {"target": "a:1", "labels": {"version": "v1"}}, {"target": "b:1", "weight": 0, "labels": {"version": "v2"}}],
            "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v1", "labels": {}},
                {"name": "v2", "labels": {"version": "v2"}}, {"labels": {"version": "v1"}}]}],
    }));
    let mut expected = vec![
        "upstreams[0].subsets[1].name",
        "upstreams[0].subsets[1].labels",
        "upstreams[0].subsets[2].labels",
        "upstreams[0].subsets[3].name",
        "services[0].routes[0].weighted_destinations[0].service",
        "services[0].routes[0].weighted_destinations[1]",
        "services[0].routes[0].weighted_destinations[2].subset",
        "services[0].routes[0].weighted_destinations[3].weight",
        "services[0].routes[1].sticky.hash_on_header",
        "services[0].routes[1].sticky.hash_on_cookie",
        "services[0].routes[1].weighted_destinations",
        "services[0].routes[2].sticky",
        "services[0].routes[2].sticky.hash_on",
        "services[0].routes[3].weighted_destinations[0].service",
        "routes[1].service",
        "routes[1].weighted_destinations[1]",
    ];
    let mut found: Vec<_> = found.iter().map(String::as_str).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn rewrites_redirects_and_faults_are_checked() {
    let mut found = problems(serde_json::json!({
        "services": [{"name": "s", "host": "h", "routes": [
            {"paths": ["/0"], "rewrite": {}, "redirect": {"status": 200, "scheme": "ftp", "host": "a:1", "port": 0}},
            {"paths": ["/1"], "rewrite": {"path": "/$1"}},
            {"paths": ["~/(?<id>x)", "/plain"], "redirect": {"prefix": "/$id"}},
            {"paths": ["~/(?<id>x)", "~/(?<id>y)"], "redirect": {"prefix": "/${id}/$0"}},
            {"paths": ["/4"], "rewrite": {"path": "no", "prefix": "/a b"}, "strip_path": true},
            {"paths": ["/5"], "rewrite": {"regex": {"pattern": "(a)", "substitution": "$2"}, "host": "x/y"}, "preserve_host": true},
            {"paths": ["/6"], "rewrite": {"regex": {"pattern": "(", "substitution": "$"}}},
            {"paths": ["/7"], "redirect": {}, "weighted_destinations": [{"weight": 1}]},
            {"paths": ["/8"], "rewrite": {"path": "/a?b"}},
            {"paths": ["/9"], "fault": {}},
            {"paths": ["/10"], "fault": {"delay": {"percentage": 101.0}, "abort": {"http_status": 200}}},
        ]}],
        "upstreams": [{"name": "u", "hash_on": "uri_capture", "hash_fallback": "uri_capture", "hash_fallback_uri_capture": "a b"}],
    }));
    let mut expected = vec!["upstreams[0].hash_on_uri_capture", "upstreams[0].hash_fallback_uri_capture"];
    let routes = [
        "0].rewrite",
        "0].rewrite",
        "0].redirect.status",
        "0].redirect.scheme",
        "0].redirect.host",
        "0].redirect.port",
        "1].rewrite.path",
        "2].redirect.prefix",
        "4].rewrite",
        "4].rewrite.path",
        "4].strip_path",
        "5].preserve_host",
        "5].rewrite.host",
        "5].rewrite.regex.substitution",
        "6].rewrite.regex.pattern",
        "7].redirect",
        "7].weighted_destinations",
        "8].rewrite.path",
        "9].fault",
        "10].fault.delay.fixed_delay_ms",
        "10].fault.delay.percentage",
        "10].fault.abort.http_status",
        "10].fault.abort.percentage",
    ]
    .map(|route| format!("services[0].routes[{route}"));
    expected.extend(routes.iter().map(String::as_str));
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn ids_are_unique_for_each_kind() {
    let found = problems(serde_json::json!({
        "services": [{"id": "1", "host": "a", "routes": [{"id": "1", "paths": ["/"]}]}, {"id": "1", "host": "b"}],
        "routes": [{"id": "1", "paths": ["/"], "service": "1"}],
        "upstreams": [{"id": "1", "name": "u"}, {"id": "1", "name": "v"}],
        "consumers": [{"id": "1", "username": "a"}, {"id": "1", "username": "b"}],
    }));
    assert_eq!(found, ["upstreams[1].id", "services[1].id", "routes[0].id", "consumers[1].id"]);
}

#[test]
fn what_upstreams_have_beyond_kong_is_checked() {
    let found = problems(serde_json::json!({
        "services": [{"name": "s", "host": "h", "retries": 16}],
        "upstreams": [
            {"name": "a", "outlier_detection": {"consecutive_5xx": 0, "interval": 0, "base_ejection_time": 60,
                "max_ejection_time": 59, "max_ejection_percent": 101}},
            {"name": "b", "circuit_breaker": {"max_connections": 0, "max_requests": 4_000_000_000u32, "max_retries": 0}},
            {"name": "c", "algorithm": "random", "slow_start": {"window": 0, "aggression": 0, "min_weight_percent": 0}},
            {"name": "d", "algorithm": "sticky-sessions"},
            {"name": "e", "sticky_sessions_cookie": "a b", "sticky_sessions_cookie_path": "in"},
            {"name": "f", "sticky_sessions_cookie_path": "/in"},
            // As dumps of Kong write it out.
            {"name": "g", "sticky_sessions_cookie_path": "/", "use_srv_name": false},
            {"name": "h", "outlier_detection": {}, "circuit_breaker": {}, "slow_start": {}},
        ],
    }));
    let expected = [
        "upstreams[0].outlier_detection.consecutive_5xx",
        "upstreams[0].outlier_detection.max_ejection_percent",
        "upstreams[0].outlier_detection.interval",
        "upstreams[0].outlier_detection.max_ejection_time",
        "upstreams[1].circuit_breaker.max_connections",
        "upstreams[1].circuit_breaker.max_requests",
        "upstreams[2].slow_start",
        "upstreams[2].slow_start.window",
        "upstreams[2].slow_start.aggression",
        "upstreams[2].slow_start.min_weight_percent",
        "upstreams[3].sticky_sessions_cookie",
        "upstreams[4].sticky_sessions_cookie",
        "upstreams[4].sticky_sessions_cookie",
        "upstreams[4].sticky_sessions_cookie_path",
        "upstreams[5].sticky_sessions_cookie_path",
        "services[0].retries",
    ];
    assert_eq!(found, expected);
    let states = crate::config::UpstreamStates { interval_ms: 9, rows_max: 0 };
    let config = GatewayConfig { upstream_states: states, ..GatewayConfig::default() };
    let paths: Vec<_> = validate(&config, &Entities::default())
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(paths, ["gateway.upstream_states.interval_ms", "gateway.upstream_states.rows_max"]);
}
