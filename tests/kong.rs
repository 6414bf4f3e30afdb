//! A Kong user's way in: a declarative file runs as it is, is converted, and what is not supported is said beforehand.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::client::Connection;
use support::origin::Origin;
use support::site::{Site, Tollhouse};

/// Each service is told by its status.
fn kong(origin: &Origin) -> String {
    format!(
        r#"
_format_version: "2.1"
_transform: false
services:
- name: users
  url: http://{addr}/status/201
  routes:
  - name: number
    paths: ['/users/\d+$']
    regex_priority: 10
  - name: users
    paths: [/users]
- name: shop
  host: shop.internal
  path: /status/202
  routes:
  - name: shop
    hosts: ["*.shop.example", "shop.example:8443"]
    methods: [GET, POST]
  - name: secure
    paths: [/secure]
    protocols: [https]
    https_redirect_status_code: 308
  plugins:
  - name: key-auth
    protocols: [https]
    config: {{key_names: [x-api-key]}}
routes:
- name: canary
  service: beta
  paths: [/users]
  headers: {{x-version: ["~*^(v2|beta)$"]}}
- name: kept
  service: {{name: beta}}
  paths: [/status/418]
  strip_path: false
upstreams:
- name: shop.internal
targets:
- {{target: "{addr}", weight: 10, upstream: shop.internal}}
consumers:
- username: alice
keyauth_credentials:
- {{consumer: alice, key: "{{vault://env/alice-key}}"}}
"#,
        addr = origin.addr
    )
    .replace(
        "services:\n- name: users",
        &format!("services:\n- {{name: beta, url: 'http://{}'}}\n- name: users", origin.addr),
    )
}

/// Method, target and headers.
type Ask = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const ASKED: &[Ask] = &[
    ("GET", "/users/42", &[]),
    ("GET", "/users/42/x", &[]),
    ("GET", "/users/status/418", &[("x-version", "BETA")]),
    ("GET", "/users", &[("x-version", "v3")]),
    ("GET", "/", &[("host", "a.shop.example")]),
    ("GET", "/", &[("host", "a.shop.example"), ("x-api-key", "s3cret-key")]),
    ("POST", "/", &[("host", "shop.example:8443"), ("x-api-key", "s3cret-key")]),
    ("GET", "/", &[("host", "shop.example"), ("x-api-key", "s3cret-key")]),
    ("DELETE", "/", &[("host", "a.shop.example")]),
    ("GET", "/secure/x?q=1", &[]),
    ("GET", "/status/418", &[]),
    ("GET", "/nowhere", &[]),
];

const EXPECTED: [u16; 12] = [201, 200, 418, 201, 401, 202, 202, 404, 404, 308, 418, 404];

fn launch(site: &Site, flag: &str, file: &Path, data: &str) -> Tollhouse {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.arg("run").arg(flag).arg(file).arg("--data").arg(site.folder().join(data)).stdin(Stdio::null());
    command.env("TOLLHOUSE_GATEWAY__LISTEN__0__ADDRESS", "127.0.0.1:0");
    command.env("TOLLHOUSE_ANALYTICS__LISTEN", "127.0.0.1:0");
    command.env("TOLLHOUSE_ANALYTICS__POSTGRES__LISTEN", "127.0.0.1:0");
    command.env("TOLLHOUSE_ANALYTICS__FLIGHT__LISTEN", "127.0.0.1:0");
    command.env("TOLLHOUSE_COLLECTOR__METRICS__LISTEN", "127.0.0.1:0").env("ALICE_KEY", "s3cret-key");
    site.launch("run", command)
}

fn answers(house: &Tollhouse) -> Vec<u16> {
    let ask = |(method, target, headers): &Ask| {
        let mut connection = Connection::open(house.gateway()).unwrap();
        connection.exchange(method, target, headers, b"").unwrap().status
    };
    ASKED.iter().map(ask).collect()
}

#[test]
fn a_kong_file_runs_and_its_conversion_decides_the_same() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let (file, native) = (site.folder().join("kong.yml"), site.folder().join("native.yaml"));
    fs::write(&file, kong(&origin)).unwrap();
    let house = launch(&site, "--kong", &file, "first");
    assert_eq!(answers(&house), EXPECTED);
    let reply = house.get("/users/42", &[]);
    for name in ["x-kong-upstream-latency", "x-kong-proxy-latency"] {
        assert!(reply.header(name).unwrap().parse::<u32>().is_ok(), "{name}: {:?}", reply.headers);
    }
    assert_eq!(reply.header("x-kong-request-id").unwrap().len(), 32);
    assert!(reply.header("via").unwrap().contains("tollhouse") && reply.header("x-request-id").is_none());
    let reply = house.get("/nowhere", &[]);
    assert!(reply.header("x-kong-response-latency").unwrap().parse::<u32>().is_ok());
    assert!(reply.header("x-kong-request-id").is_some() && reply.header("server").is_some());
    for note in
        ["is a regular expression in format 2.1", "services[2].plugins[0].protocols: restricts nothing"]
    {
        assert!(house.log().contains(note), "{note} is missing in\n{}", house.log());
    }
    drop(house);

    let mut convert = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    // Without the variable: what is written refers to it.
    convert.arg("convert").arg(&file).arg("-o").arg(&native);
    assert!(convert.output().unwrap().status.success());
    assert!(fs::read_to_string(&native).unwrap().contains("${ALICE_KEY}"));
    assert!(!convert.output().unwrap().status.success(), "it does not write over a file");
    let house = launch(&site, "--config", &native, "second");
    assert_eq!(answers(&house), EXPECTED);
}

#[test]
fn a_file_is_said_to_be_wrong_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    fs::write(&file, "_format_version: '3.0'\nplugins:\n- name: rate-limiting\n- name: cors\n").unwrap();
    for command in [&["run", "--kong"][..], &["check", "--kong"], &["convert"]] {
        let mut tollhouse = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
        let output = tollhouse.args(command).arg(&file).env_clear().output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{errors}");
        for place in
            ["kong.yml:3:9: plugins[0].name: plugin `rate-limiting`", "kong.yml:4:9: plugins[1].name: "]
        {
            assert!(errors.contains(place), "{errors}");
        }
    }
    let mut both = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    let output = both.args(["run", "--kong", "k.yml", "--upstream", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// A certificate of an authority.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// A certificate of some names with its key.
fn leaf() -> (String, String) {
    let names = ["a.example.com", "127.0.0.1"].map(str::to_owned);
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    (signed.cert.pem(), signed.signing_key.serialize_pem())
}

#[test]
fn tls_of_a_kong_file_is_as_in_kong() {
    let (authority, leaf) = (authority(), leaf());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    let text = r#"
_format_version: "3.0"
services:
- {name: blind, url: "https://127.0.0.1:9", routes: [{paths: [/blind]}]}
- {name: told, url: "https://127.0.0.1:9", tls_verify: false, ca_certificates: [a], routes: [{paths: [/told]}]}
- {name: seeing, protocol: https, host: 127.0.0.1, tls_verify: true, routes: [{paths: [/seeing]}]}
- {name: asking, url: "grpcs://127.0.0.1:9", ca_certificates: [a], routes: [{paths: [/asking]}]}
- {name: clear, url: "http://127.0.0.1:9", tls_verify: false, routes: [{paths: [/clear]}]}
certificates: [{id: c, cert: "{vault://env/CERT}", key: "{vault://env/KEY}", snis: [{name: a.example.com}]}]
ca_certificates: [{id: a, cert: "{vault://env/AUTHORITY}"}]
"#;
    fs::write(&file, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    check.args(["check", "--kong"]).arg(&file).env_clear();
    let output =
        check.envs([("CERT", &leaf.0), ("KEY", &leaf.1), ("AUTHORITY", &authority)]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{said}");
    for line in [
        "line 4: services[0]: the certificate of its upstream is not verified, as in Kong",
        "line 5: services[1]: `ca_certificates` is not used",
    ] {
        assert!(said.contains(line), "{line} is missing in\n{said}");
    }
    assert!(
        !["services[2]", "services[3]", "services[4]"].iter().any(|place| said.contains(place)),
        "{said}"
    );
    let mut convert = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    let native = String::from_utf8(convert.arg("convert").arg(&file).output().unwrap().stdout).unwrap();
    let native: Value = serde_saphyr::from_str(&native).unwrap();
    let field = |at: usize, name: &str| native["services"][at][name].clone();
    let verifies: Vec<Value> = (0..5).map(|at| field(at, "tls_verify")).collect();
    assert_eq!(verifies, [Value::from(false), false.into(), true.into(), Value::Null, Value::Null]);
    assert_eq!((field(2, "port"), field(0, "port")), (80.into(), Value::Null));
    assert_eq!(native["gateway"]["listen"][1]["address"], "0.0.0.0:8443");
}

/// The fields that an entity cannot do without, where a row's example does not give them.
fn needed(entity: &str) -> &'static [(&'static str, &'static str)] {
    match entity {
        "services" => &[("name", "s"), ("host", "127.0.0.1")],
        "routes" => &[("name", "r"), ("service", "s"), ("paths", "[/]")],
        "upstreams" => &[("name", "u.x")],
        "targets" => &[("target", "'127.0.0.1:1'"), ("upstream", "u.x")],
        "consumers" => &[("username", "c")],
        "keyauth_credentials" => &[("consumer", "c"), ("key", "k")],
        "plugins" => &[("name", "key-auth")],
        "vaults" => &[("name", "env"), ("prefix", "p")],
        "certificates" => &[("cert", "'{vault://env/CERT}'"), ("key", "'{vault://env/KEY}'")],
        "snis" => &[("name", "a.example.com"), ("certificate", "9a2f5b5e-0000-4000-8000-00000000000a")],
        "ca_certificates" => {
            &[("id", "9a2f5b5e-0000-4000-8000-00000000000b"), ("cert", "'{vault://env/AUTHORITY}'")]
        }
        _ => &[],
    }
}

/// A file with one entity that has the example's field.
fn tried(entity: &str, example: &str) -> String {
    let field = example.split(':').next().unwrap();
    let stream =
        ["tcp", "tls", "udp"].iter().any(|protocol| example.contains(&format!("protocols: [{protocol}")));
    let stream = entity == "routes" && stream;
    let given =
        |name: &str| name == field || (field == "url" && name == "host") || (stream && name == "paths");
    let rest = needed(entity).iter().filter(|(name, _)| !given(name));
    let fields: Vec<String> = rest.map(|(name, value)| format!("{name}: {value}")).collect();
    let body = [fields, vec![example.to_owned()]].concat().join(", ");
    let mut file = format!("_format_version: '3.0'\n{entity}:\n- {{{body}}}\n");
    for (other, entry) in [
        (
            "services",
            if stream { "{name: s, host: 127.0.0.1, protocol: tcp}" } else { "{name: s, host: 127.0.0.1}" },
        ),
        ("upstreams", "{name: u.x}"),
        ("consumers", "{username: c}"),
        (
            "certificates",
            "{id: 9a2f5b5e-0000-4000-8000-00000000000a, cert: '{vault://env/CERT}', key: '{vault://env/KEY}'}",
        ),
        ("ca_certificates", "{id: 9a2f5b5e-0000-4000-8000-00000000000b, cert: '{vault://env/AUTHORITY}'}"),
    ] {
        if other != entity {
            file += &format!("{other}:\n- {entry}\n");
        }
    }
    if entity != "routes" {
        file += "routes:\n- {name: r, service: {name: s}, paths: [/]}\n";
    }
    // A service under trial may have another name.
    if entity == "services" {
        file.replace("routes:\n- {name: r, service: {name: s}, paths: [/]}\n", "")
    } else {
        file
    }
}

#[test]
fn every_field_of_the_table_is_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kong-compatibility.md");
    let text = fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    let (mut rows, mut wrong) = (0, Vec::new());
    let (authority, leaf) = (authority(), leaf());
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
        let [entity, field, status, example, _] = cells[..] else {
            panic!("not a row of five cells: {line}")
        };
        fs::write(&file, tried(entity, &example.replace("\\|", "|"))).unwrap();
        let mut tollhouse = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
        let output = tollhouse
            .args(["check", "--json", "--kong"])
            .arg(&file)
            .env_clear()
            .envs([("A", "a"), ("CERT", &leaf.0), ("KEY", &leaf.1), ("AUTHORITY", &authority)])
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = answer["problems"].as_array().unwrap();
        let places = [entity.to_owned(), format!("{entity}[0].{field}"), format!("{entity}[0]")];
        let named = problems.iter().all(|problem| {
            let path = problem["path"].as_str().unwrap();
            places.iter().any(|place| {
                path == place
                    || path.starts_with(&format!("{place}."))
                    || path.starts_with(&format!("{place}["))
            }) && problem["line"].is_u64()
        });
        let holds = match status {
            "supported" | "mapped" => answer["ok"] == true,
            "refused" => answer["ok"] == false && named,
            other => panic!("`{other}` is no status: {line}"),
        };
        rows += 1;
        if !holds {
            wrong.push(format!("{line}\n{}\n{answer:#}", fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 150, "only {rows} rows");
}
