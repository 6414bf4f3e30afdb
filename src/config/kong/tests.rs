//! Kong files, and what a native tree makes of them.

use std::collections::BTreeMap;

use super::super::{Config, FileFormat, Loaded, Report, Role, Sources, convert, load, validate};

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(text: &str, vars: BTreeMap<String, String>) -> Result<Loaded<Config>, Report> {
    let file = Some(("kong.yml".to_owned(), text.to_owned()));
    let loaded = load(Sources { file, vars, format: FileFormat::Kong, ..Sources::default() })?;
    validate(&loaded, Role::Proxy).map(|_| loaded)
}

fn good(text: &str) -> Loaded<Config> {
    read(text, vars(&[("SECRET_KEY", "s3cret"), ("MINE_B", "b")]))
        .unwrap_or_else(|report| panic!("{}", report.lines()))
}

fn problems(text: &str) -> String {
    read(text, BTreeMap::new()).err().map(|report| report.lines()).unwrap_or_default()
}

pub(crate) const WHOLE: &str = r#"
_format_version: "3.0"
_transform: true
_workspace: default
_comment: of the shop
_info: {select_tags: [a], defaults: {}}
services:
- id: 9a2f5b5e-0000-4000-8000-000000000001
  name: orders
  url: http://127.0.0.1:9000/base
  retries: 3
  path: null
  tls_verify: false
  created_at: 1700000000
  updated_at: 1700000000
  tags: [shop]
  routes:
  - name: nested
    paths: [/orders, '~/o/(?<id>\d+)$']
    regex_priority: 5
    request_buffering: true
    response_buffering: true
    https_redirect_status_code: 426
    created_at: 1600000000
  plugins:
  - name: key-auth
    protocols: [grpc, grpcs, http, https, ws, wss]
    config: {key_names: [apikey], anonymous: null, hide_credentials: true}
routes:
- name: flat
  hosts: ['*.example.com']
  headers: {x-version: [v2]}
  service: orders
- name: by-id
  paths: [/id]
  service: {id: 9a2f5b5e-0000-4000-8000-000000000001}
upstreams:
- name: pool.internal
  algorithm: round-robin
  hash_on: none
  hash_fallback: none
  hash_on_cookie_path: /
  slots: 10000
  use_srv_name: false
  healthchecks:
    threshold: 0
    active: {type: http, concurrency: 10, timeout: 1, healthy: {interval: 0, successes: 0, http_statuses: [200]}}
    passive: {type: http, unhealthy: {http_failures: 0, timeouts: 0}}
targets:
- {target: "127.0.0.1:9001", weight: 10, upstream: pool.internal}
- {target: "127.0.0.1:9002", upstream: {name: pool.internal}}
consumers:
- username: alice
  custom_id: "007"
keyauth_credentials:
- {consumer: alice, key: '{vault://env/secret-key}', created_at: 1}
- {consumer: {username: alice}, key: '{vault://mine/b}'}
- {consumer: alice, key: '${{ env "SECRET_KEY" }}2', id: c}
vaults:
- {name: env, prefix: mine, config: {prefix: mine_}}
plugins:
- {name: key-auth, route: flat}
certificates: []
"#;

#[test]
fn a_whole_file_becomes_a_native_one() {
    let loaded = good(&WHOLE.replace("${{ env \"SECRET_KEY\" }}2", "${SECRET_KEY}2"));
    let entities = loaded.value.entities();
    assert_eq!(entities.services[0].routes[0].created_at, Some(1_600_000_000));
    assert_eq!(entities.upstreams[0].targets.len(), 2);
    let keys: Vec<_> =
        entities.consumers[0].keyauth_credentials.iter().map(|credential| credential.key.as_str()).collect();
    assert_eq!(keys, ["s3cret", "b", "s3cret2"]);
    assert_eq!(loaded.value.gateway.headers.len(), 5);
    assert!(loaded.notes().is_empty(), "{:?}", loaded.notes());
}

#[test]
fn a_converted_file_is_the_same_and_holds_no_secret() {
    let environment = vars(&[("SECRET_KEY", "s3cret"), ("MINE_B", "b")]);
    for text in [WHOLE.replace("${{ env \"SECRET_KEY\" }}2", "$${literal}"), OLD.to_owned()] {
        let file = ("kong.yml".to_owned(), text.clone());
        let native = convert::<Config>(file, BTreeMap::new()).unwrap().native;
        assert!(!native.contains("s3cret") && !native.contains("vault"), "{native}");
        let file = Some(("t.yaml".to_owned(), native.clone()));
        let again = load::<Config>(Sources { file, vars: environment.clone(), ..Sources::default() });
        let again = again.unwrap_or_else(|report| panic!("{}\n{native}", report.lines()));
        let first = read(&text, environment.clone()).unwrap_or_else(|report| panic!("{}", report.lines()));
        let tree = |config: &Config| serde_json::to_value((config.entities(), &config.gateway)).unwrap();
        assert_eq!(tree(&first.value), tree(&again.value), "{native}");
    }
}

pub(crate) const OLD: &str = r#"
_format_version: "2.1"
services:
- name: s
  host: 127.0.0.1
  routes:
  - paths: ['/a/\d+', /plain-path_~1.0/%20, '/v(1|2)/x']
"#;

#[test]
fn older_formats_guess_expressions_and_say_so() {
    let loaded = good(OLD);
    let paths = &loaded.value.services[0].routes[0].paths;
    assert_eq!(*paths, [r"~/a/\d+", "/plain-path_~1.0/%20", "~/v(1|2)/x"]);
    let notes = loaded.notes();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].starts_with("line 7: services[0].routes[0].paths[0]: ") && notes[0].contains(r"`~/a/\d+`")
    );
    let found = problems(&OLD.replace("'/v(1|2)/x'", "~/v"));
    assert!(found.contains("kong.yml:7:45: services[0].routes[0].paths[2]: "), "{found}");
    assert_eq!(good(&OLD.replace("2.1", "1.1")).notes().len(), 2);
    let marked = problems(&OLD.replace("2.1", "3.0"));
    assert!(marked.contains("services[0].routes[0].paths[0]: "), "{marked}");
}

#[test]
fn everything_wrong_comes_at_once_with_its_place_in_the_kong_file() {
    let found = problems(
        r#"_format_version: "3.0"
services:
- name: a b
  url: http://127.0.0.1:1
  ca_certificates: [x]
  colour: red
  routes:
  - {name: r, paths: [/], priority: 1, methods: ["GETT "]}
upstreams:
- name: 10.0.0.1
  hash_fallback: ip
targets:
- {target: "no port:x", upstream: 10.0.0.1}
- {target: "127.0.0.1:1", upstream: nobody}
- {target: "127.0.0.1:1"}
consumers:
- username: a
keyauth_credentials:
- {consumer: a, key: "{vault://hcv/x}"}
- {consumer: a, key: "{vault://env/a/b}"}
- {consumer: a, key: k, ttl: 5}
- {consumer: a, key: "${NOT_SET}"}
jwt_secrets: [{consumer: a}]
vaults: [{name: hcv, prefix: v}]
sevices: []
plugins:
- {name: rate-limiting, config: {minute: 5}}
"#,
    );
    for line in [
        "kong.yml:3:9: services[0].name: `a b` is not a name that Kong allows",
        "kong.yml:8:27: services[0].routes[0].priority: `priority` is not supported",
        "kong.yml:10:9: upstreams[0].name: ",
        "kong.yml:14:27: targets[1].upstream: there is no upstream `nobody`",
        "kong.yml:15:3: targets[2]: `upstream` is missing",
        "keyauth_credentials[0].key: there is no vault `hcv`",
        "keyauth_credentials[1].key: of a secret that is JSON",
        "keyauth_credentials[2].ttl: `ttl` is not supported",
        "keyauth_credentials[3].key: the environment variable NOT_SET is not set",
        "kong.yml:23:1: jwt_secrets: is not supported (the plugin jwt is not in this version; key-auth is)",
        "vaults[0].name: vault `hcv` is not supported",
        "sevices: unknown key `sevices` (did you mean `services`?)",
        "services[0].colour: unknown key `colour`",
    ] {
        assert!(found.contains(line), "{line} is missing in\n{found}");
    }
    let found = problems(
        "_format_version: \"3.0\"\nupstreams: [{name: u}]\ntargets:\n- {target: 'a b', upstream: u}\nplugins:\n- {name: acl}\n",
    );
    assert!(found.contains("kong.yml:4:12: targets[0].target: `a b` is not host:port"), "{found}");
    assert!(found.contains("kong.yml:6:10: plugins[0].name: plugin `acl` is not in this version"), "{found}");
}

#[test]
fn what_is_no_kong_file_is_said_to_be_none() {
    assert!(problems("services: []\n").contains("_format_version: is missing"));
    assert!(problems("_format_version: '4.0'\n").contains("_format_version: `4.0` is not supported"));
    assert!(problems("- a\n").contains("not a Kong declarative file"));
    assert!(
        problems("_format_version: 3.0\n_transform: maybe\n").contains("_transform: must be true or false")
    );
    assert!(
        problems("_format_version: 3.0\ngateway: {threads: 1}\n").contains("gateway: unknown key `gateway`")
    );
    assert_eq!(problems("_format_version: 1.1\n"), "");
}

/// nginx, under Kong, passes a request on that cannot be sent or gets no answer, unless it may do harm.
#[test]
fn services_try_again_what_kong_tries_again() {
    use proxy::config::RetryOn::{ConnectFailure, FiveXx, RefusedStream, Reset};
    let on = |text: &str| {
        let service = good(text).value.services.remove(0);
        service.retry.map(|retry| retry.retry_on).unwrap_or_default()
    };
    let plain = "_format_version: '3.0'\nservices: [{name: s, host: h.test}]\n";
    assert_eq!(on(plain), [ConnectFailure, RefusedStream, Reset]);
    let own = "_format_version: '3.0'\nservices: [{name: s, host: h.test, retry: {retry_on: [5xx]}}]\n";
    assert_eq!(on(own), [FiveXx]);
}

#[test]
fn what_kong_takes_for_more_or_less_than_it_says_is_told() {
    let text = "_format_version: '3.0'\nservices:\n- name: s\n  host: h.test\n  retries: RETRIES\n  plugins:\n  \
                - name: key-auth\n    protocols: PROTOCOLS\n";
    let read = |retries: &str, protocols: &str| {
        let loaded = good(&text.replace("RETRIES", retries).replace("PROTOCOLS", protocols));
        (loaded.value.services[0].retries, loaded.notes().to_owned())
    };
    let more = "line 5: services[0].retries: a request is tried again 15 times at most, rather than 32767";
    assert_eq!(read("32767", "[http, https]"), (Some(15), vec![more.to_owned()]));
    for protocols in ["[http, https]", "[https, grpc, http]", "[]"] {
        assert_eq!(read("15", protocols), (Some(15), vec![]), "{protocols}");
    }
    for protocols in ["[https]", "[http]", "[grpc, grpcs]"] {
        let (_, notes) = read("0", protocols);
        let says = "line 8: services[0].plugins[0].protocols: restricts nothing, as in Kong";
        assert!(notes.len() == 1 && notes[0].starts_with(says), "{protocols}: {notes:?}");
    }
    for (retries, protocols, path) in [
        ("32768", "[http, https]", "kong.yml:5:12: services[0].retries: "),
        ("-1", "[http, https]", "kong.yml:5:12: services[0].retries: "),
        ("1", "[tcp]", "kong.yml:8:17: services[0].plugins[0].protocols[0]: "),
        ("1", "[http, tls]", "kong.yml:8:23: services[0].plugins[0].protocols[1]: "),
    ] {
        let found = problems(&text.replace("RETRIES", retries).replace("PROTOCOLS", protocols));
        assert!(found.contains(path), "{path} is missing in\n{found}");
    }
}
