//! Kong's order, attribute by attribute, and what a lookup costs.

use super::*;
use crate::config::{Entities, GatewayConfig};
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

/// No route here asks who calls.
fn callers() -> Callers<'static> {
    static NO_KEYS: std::sync::LazyLock<crate::auth::Keyring> = std::sync::LazyLock::new(Default::default);
    Callers { guards: &[], keyring: &NO_KEYS }
}

fn router(routes: Value) -> Router {
    let entities = json!({"services": [{"name": "s", "url": "http://127.0.0.1:9", "routes": routes}]});
    let entities: Entities = serde_json::from_value(entities).unwrap();
    crate::validate(&GatewayConfig::default(), &entities).unwrap().router
}

/// `METHOD host[:port]/path header=value ...`, with `tls=name` for a TLS client.
fn find(router: &Router, request: &str) -> Option<Matched> {
    let mut words = request.split(' ');
    let (method, url) = (words.next().unwrap().parse().unwrap(), words.next().unwrap());
    let (authority, path) = url.split_at(url.find('/').unwrap());
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let (mut headers, mut sni) = (HeaderMap::new(), None);
    for (name, value) in words.map(|word| word.split_once('=').unwrap()) {
        match name {
            "tls" => sni = Some(value),
            _ => {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
            }
        }
    }
    let asked = Asked {
        host,
        port: port.parse().unwrap(),
        path,
        method: &method,
        headers: &headers,
        query,
        callers: callers(),
        tls: sni.is_some(),
        sni: sni.filter(|name| !name.is_empty()),
    };
    router.find(&asked, &Caches::default())
}

fn name<'r>(router: &'r Router, request: &str) -> &'r str {
    let found = find(router, request).map(|matched| router.routes[matched.route].name.as_bytes());
    found.map_or("none", |name| std::str::from_utf8(name).unwrap())
}

#[test]
fn hosts_are_exact_wildcard_and_with_port() {
    let router = router(json!([
        {"name": "suffix", "hosts": ["*.example.com"]},
        {"name": "exact", "hosts": ["API.example.com."]},
        {"name": "prefix", "hosts": ["example.*"]},
        {"name": "port", "hosts": ["api.example.com:8080"], "paths": ["/p"]},
        {"name": "default port", "hosts": ["d.org:80"]},
        {"name": "wild port", "hosts": ["*.example.com:8443"]},
        {"name": "v6", "hosts": ["[::1]"]},
    ]));
    for (request, expected) in [
        ("GET x.example.com/", "suffix"),
        ("GET y.x.example.com/", "suffix"),
        ("GET api.example.com/", "exact"),
        ("GET api.example.com:8443/", "exact"),
        ("GET x.example.com:8443/", "wild port"),
        ("GET example.org/", "prefix"),
        ("GET example.co.uk:81/", "prefix"),
        ("GET other.org/", "none"),
        ("GET api.example.com:8080/p", "port"),
        ("GET api.example.com/p", "exact"),
        ("GET d.org/", "default port"),
        ("GET d.org:81/", "none"),
    ] {
        assert_eq!(name(&router, request), expected, "{request}");
    }
}

#[test]
fn paths_are_prefixes_and_the_longest_wins_then_the_oldest() {
    let router = router(json!([
        {"name": "all", "paths": ["/"]},
        {"name": "two", "paths": ["/a/b", "/z"]},
        {"name": "young", "paths": ["/a"], "created_at": 20},
        {"name": "undated", "paths": ["/a"]},
        {"name": "old", "paths": ["/a"], "created_at": 10},
        {"name": "first", "paths": ["/f"]},
        {"name": "second", "paths": ["/f"]},
    ]));
    for (request, expected) in [
        ("GET h/a/b/c", "two"),
        ("GET h/a/c", "old"),
        ("GET h/ab", "old"),
        ("GET h/x", "all"),
        ("GET h/zz", "two"),
        ("GET h/f", "first"),
    ] {
        assert_eq!(name(&router, request), expected, "{request}");
    }
    assert_eq!(find(&router, "GET h/a/b/c").unwrap().prefix_bytes, 4);
}

#[test]
fn expressions_come_before_prefixes_and_by_priority() {
    let router = router(json!([
        {"name": "prefix", "paths": ["/users/me/and/more"]},
        {"name": "number", "paths": [r"~/users/\d+$"]},
        {"name": "low", "paths": ["~/users/[a-z]+"], "regex_priority": 1},
        {"name": "high", "paths": ["~/users/me(?<rest>/.*)?$"], "regex_priority": 7},
        {"name": "both", "paths": ["/mixed/long", "~/mixed/[0-9]"]},
        {"name": "longer", "paths": ["/mixed/longer"], "regex_priority": 100},
    ]));
    for (request, expected) in [
        ("GET h/users/me/and/more", "high"),
        ("GET h/users/you", "low"),
        ("GET h/users/42", "number"),
        ("GET h/users/42/x", "none"),
        ("GET h/x/users/42", "none"),
        ("GET h/mixed/longer", "longer"),
        ("GET h/mixed/1", "both"),
    ] {
        assert_eq!(name(&router, request), expected, "{request}");
    }
    assert_eq!(find(&router, "GET h/users/you/x").unwrap().prefix_bytes, "/users/you".len());
}

#[test]
fn headers_are_values_or_expressions_without_case() {
    let router = router(json!([
        {"name": "one", "headers": {"X-Version": ["v1", "v2"]}},
        {"name": "two", "headers": {"x-version": ["v1"], "x-tenant": ["acme"]}},
        {"name": "regex", "headers": {"x-version": ["~*^v[3-9]$"]}},
        {"name": "plain", "paths": ["/"]},
    ]));
    for (request, expected) in [
        ("GET h/ X-Version=V2", "one"),
        ("GET h/ x-version=v1 x-tenant=ACME", "two"),
        ("GET h/ x-version=v1 x-tenant=other", "one"),
        ("GET h/ x-version=V7", "regex"),
        ("GET h/ x-version=v10", "plain"),
        ("GET h/ x-version=no x-version=v1", "one"),
        ("GET h/", "plain"),
    ] {
        assert_eq!(name(&router, request), expected, "{request}");
    }
}

#[test]
fn names_of_tls_are_asked_of_tls_only() {
    let router = router(json!([
        {"name": "sni", "snis": ["a.example.com"], "paths": ["/"]},
        {"name": "plain", "paths": ["/"]},
    ]));
    for (request, expected) in [
        ("GET h/ tls=A.example.com", "sni"),
        ("GET h/ tls=b.example.com", "plain"),
        ("GET h/ tls=", "plain"),
        ("GET h/", "sni"),
    ] {
        assert_eq!(name(&router, request), expected, "{request}");
    }
}

/// Each pair: the first is taken before the second, whichever stands first in the file.
#[test]
fn each_attribute_has_its_weight() {
    let (host, header) = (json!(["h.x"]), json!({"x": ["1"]}));
    let pairs = [
        // More kinds of attributes, whatever they are.
        (json!({"methods": ["GET"], "snis": ["s.x"]}), json!({"hosts": host})),
        (json!({"paths": ["/a"], "methods": ["GET"]}), json!({"paths": ["/a/b"]})),
        // Of as many: host, header, path, method, SNI.
        (json!({"hosts": host}), json!({"headers": header})),
        (json!({"headers": header}), json!({"paths": ["/a/b"]})),
        (json!({"paths": ["/"]}), json!({"methods": ["GET"]})),
        (json!({"methods": ["GET"]}), json!({"snis": ["s.x"]})),
        (json!({"hosts": host, "snis": ["s.x"]}), json!({"headers": header, "paths": ["/a/b"]})),
        // Plain before wildcard hosts, then wildcard hosts with a port.
        (json!({"hosts": host, "paths": ["/"]}), json!({"hosts": ["*.x"], "paths": ["/a/b"]})),
        (json!({"hosts": host}), json!({"hosts": ["h.x", "*.y"]})),
        (json!({"hosts": ["*.x:80"]}), json!({"hosts": ["h.*"]})),
        (
            json!({"hosts": host, "headers": header}),
            json!({"hosts": ["*.x:80"], "headers": {"x": ["1"], "y": ["2"]}}),
        ),
        // More headers before expressions, these before the longest path.
        (
            json!({"headers": {"x": ["1"], "y": ["2"]}, "paths": ["/"]}),
            json!({"headers": header, "paths": ["~/a"]}),
        ),
        (json!({"paths": ["~/a"]}), json!({"paths": ["/a/b"]})),
        (json!({"paths": ["~/a"], "regex_priority": 2}), json!({"paths": ["~/a/b"], "regex_priority": 1})),
        (json!({"paths": ["/a/b"]}), json!({"paths": ["/a"], "regex_priority": 9})),
        (json!({"paths": ["/a"], "created_at": 1}), json!({"paths": ["/a"], "created_at": 2})),
        (json!({"paths": ["~/a"], "created_at": 1}), json!({"paths": ["~/a/b"], "created_at": 2})),
    ];
    for (mut winner, mut loser) in pairs {
        winner["name"] = json!("winner");
        loser["name"] = json!("loser");
        for routes in [json!([winner, loser]), json!([loser, winner])] {
            let found = router(routes.clone());
            assert_eq!(name(&found, "GET h.x/a/b x=1 y=2 tls=s.x"), "winner", "{routes:#}");
        }
    }
}

#[test]
fn arguments_and_cookies_decide_after_kongs_attributes_and_before_age() {
    let router = router(json!([
        {"name": "plain", "paths": ["/a"], "created_at": 1},
        {"name": "argument", "paths": ["/a"], "query_args": {"v": ["2", "~*^beta"]}},
        {"name": "both", "paths": ["/a"], "query_args": {"v": ["2"]}, "cookies": {"sid": ["~*"]}},
        {"name": "longer", "paths": ["/a/b"]},
        {"name": "alone", "query_args": {"debug": ["~*"]}},
        {"name": "encoded", "hosts": ["e"], "query_args": {"a b": ["x&y"]}},
    ]));
    for (request, expected) in [
        ("GET h/a", "plain"),
        ("GET h/a?v=2", "argument"),
        ("GET h/a?w=1&v=3&v=BETA-7", "argument"),
        ("GET h/a?v=x-beta", "plain"),
        ("GET h/a?V=2", "plain"),
        ("GET h/a?v=2 cookie=a=1;sid=", "both"),
        ("GET h/a?v=2 cookie=SID=1", "argument"),
        ("GET h/a/b?v=2 cookie=sid=1", "longer"),
        ("GET h/x?debug", "alone"),
        ("GET h/x", "none"),
        ("GET e/?a+b=x%26y", "encoded"),
        ("GET e/?a+b=x", "none"),
    ] {
        assert_eq!(name(&router, request), expected, "{request}");
    }
}

#[test]
fn what_does_not_hold_is_passed_over() {
    let router = router(json!([
        {"name": "put", "hosts": ["h"], "paths": ["/a"], "methods": ["PUT"], "headers": {"x": ["1"]}},
        {"name": "get", "paths": ["/a"], "methods": ["GET"]},
        {"name": "host", "hosts": ["h"]},
    ]));
    for (request, expected) in
        [("PUT h/a x=1", "put"), ("PUT h/a", "host"), ("GET h/a x=1", "get"), ("PUT other/a x=1", "none")]
    {
        assert_eq!(name(&router, request), expected, "{request}");
    }
}

/// So many routes, of every kind, over hosts of their own, shared hosts and no host.
fn many(count: usize) -> Router {
    let routes = (0..count).map(|n| match n % 5 {
        0 => json!({"hosts": [format!("h{n}.example.com")], "paths": [format!("/v1/r{n}")]}),
        1 => json!({"hosts": ["shared.example.com"], "paths": [format!("/v1/items/{n:05}/parts")]}),
        2 => json!({"paths": [format!("/any/{n}/"), format!("/other/{n}/deep/er")], "methods": ["GET"]}),
        3 => json!({"hosts": ["shared.example.com"], "paths": [format!("~/re/{n}/(?<id>[0-9]+)$")]}),
        _ => json!({"hosts": [format!("*.w{n}.org")], "paths": [format!("/w/{n}")], "headers": {"x": ["1"]}}),
    });
    router(routes.collect())
}

#[test]
fn ten_thousand_routes_cost_a_lookup_as_much_as_ten() {
    let requests = [
        ("h0.example.com", "/v1/r0/x"),
        ("shared.example.com", "/v1/items/00001/parts/9"),
        ("anything.net", "/other/2/deep/er"),
        ("shared.example.com", "/re/3/77"),
        ("a.b.w4.org", "/w/4"),
        ("nobody.net", "/no/such/path"),
    ];
    let counted = |router: &Router| {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x"), HeaderValue::from_static("1"))]);
        let caches = Caches::default();
        requests.map(|(host, path)| {
            let method = &Method::GET;
            let headers = &headers;
            let (query, callers, tls, sni) = (None, callers(), false, None);
            let asked = Asked { host, port: 80, path, method, headers, query, callers, tls, sni };
            let mut checks = 0;
            let found = router.search(&asked, &caches, &mut checks).map(|matched| matched.route);
            (found, checks)
        })
    };
    let few = counted(&many(10));
    assert_eq!(few.map(|(found, _)| found), [Some(0), Some(1), Some(2), Some(3), Some(4), None]);
    assert!(few.iter().all(|(_, checks)| *checks <= 1), "{few:?}");
    assert_eq!(counted(&many(10_000)), few);
}

/// One request to the path that all routes share.
fn shared<'a>(method: &'a Method, headers: &'a HeaderMap, query: Option<&'a str>) -> Asked<'a> {
    let (path, callers) = ("/p/x", callers());
    Asked { host: "h", port: 80, path, method, headers, query, callers, tls: false, sni: None }
}

#[test]
fn ten_thousand_routes_of_one_path_are_told_apart_without_a_look_at_each() {
    type Make = fn(usize) -> Value;
    let kinds: [(Make, &str, usize); 5] = [
        (|n| json!({"headers": {"x-tenant": [format!("T{n}"), format!("other-{n}")]}}), "x-tenant: t7777", 1),
        // A name of its own for each.
        (|n| json!({"headers": {(format!("x-{n}")): ["1"]}}), "x-7777: 1", 1),
        (|n| json!({"query_args": {"tenant": [n.to_string()]}, "methods": ["GET"]}), "?a=1&tenant=7777", 1),
        (
            |n| json!({"cookies": {"sid": [n.to_string()]}, "headers": {"x": ["~*^[0-9]"]}}),
            "cookie: a=b; sid=7777",
            1,
        ),
        // A pair of values for each: a hundredth share one.
        (
            |n| json!({"headers": {"a": [(n / 100).to_string()], "b": [(n % 100).to_string()]}, "methods": ["GET", "PUT"]}),
            "a: 77, b: 77",
            200,
        ),
    ];
    for (make, sent, checks_max) in kinds {
        let routes = (0..10_000).map(|n| {
            let mut route = make(n);
            route["paths"] = json!(["/p"]);
            route
        });
        let router = router(routes.collect());
        let query = sent.strip_prefix('?');
        let lines = sent.split(", ").filter_map(|line| line.split_once(": "));
        let mut headers: HeaderMap = lines
            .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        headers.insert("x", HeaderValue::from_static("5"));
        let mut checks = 0;
        let found = router.search(&shared(&Method::GET, &headers, query), &Caches::default(), &mut checks);
        assert_eq!(found.map(|matched| matched.route), Some(7_777), "{sent}");
        assert!(checks <= checks_max, "{sent}: {checks} checks");
        let mut checks = 0;
        let found =
            router.search(&shared(&Method::GET, &HeaderMap::new(), None), &Caches::default(), &mut checks);
        assert!(found.is_none() && checks == 0, "{sent}: {checks} checks for nothing");
    }
}

#[test]
fn what_is_found_is_what_a_look_at_each_finds() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let number = |random: &mut rand::rngs::StdRng| random.random_range(0..4).to_string();
    for _ in 0..30 {
        let routes = (0..random.random_range(8..60)).map(|_| {
            let mut route = json!({"paths": ["/p"]});
            if random.random_bool(0.5) {
                let value = if random.random_bool(0.2) { "~*[12]".into() } else { number(&mut random) };
                route["headers"] = json!({"a": [value, number(&mut random)], "b": [number(&mut random)]});
            }
            if random.random_bool(0.4) {
                let method = ["GET", "PUT"][random.random_range(0..2)];
                route["methods"] = json!([method]);
            }
            if random.random_bool(0.3) {
                route["query_args"] = json!({"q": [number(&mut random)]});
            }
            if random.random_bool(0.3) {
                route["cookies"] = json!({"c": [number(&mut random), "~*9"]});
            }
            route
        });
        let router = router(routes.collect());
        let caches = Caches::default();
        for _ in 0..200 {
            let line = |name: &'static str, value: String| {
                (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
            };
            let lines = [
                line("a", number(&mut random)),
                line("b", number(&mut random)),
                line("cookie", format!("x=1; c={}", number(&mut random))),
            ];
            let headers: HeaderMap = lines.into_iter().filter(|_| random.random_bool(0.7)).collect();
            let method = [Method::GET, Method::PUT, Method::POST][random.random_range(0..3)].clone();
            let query = random.random_bool(0.5).then(|| format!("x&q={}", number(&mut random)));
            let asked = shared(&method, &headers, query.as_deref());
            let each =
                router.entries.iter().find_map(|entry| router.check(entry, "/p".len(), &asked, &caches));
            assert_eq!(router.find(&asked, &caches), each);
        }
    }
}

#[test]
fn what_only_a_look_at_each_tells_apart_is_bounded() {
    let refused = |value: &str, max: usize| {
        let routes: Vec<_> = (0..20)
            .map(|n| json!({"paths": ["/p"], "headers": {"x": [value.replace('#', &n.to_string())]}}))
            .collect();
        let entities = json!({"services": [{"name": "s", "url": "http://127.0.0.1:9", "routes": routes}]});
        let mut gateway = GatewayConfig::default();
        gateway.limits.routes_scanned_max = max;
        let entities: Entities = serde_json::from_value(entities).unwrap();
        let problems = crate::validate(&gateway, &entities).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
    };
    assert_eq!(refused("~*^#$", 19), ["gateway.limits.routes_scanned_max"]);
    assert!(refused("~*^#$", 20).is_empty() && refused("#", 1).is_empty());
}
