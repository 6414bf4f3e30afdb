//! A canary in every place a secret travels, and a search for it in everything Tollhouse writes or says: the spool, hot
//! files, Parquet (raw and decoded), rows, metrics, spans, the most talkative log, and what a refused client is told.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::client::{self, Connection};
use support::eventually;
use support::jaeger::Jaeger;
use support::origin::Origin;
use support::site::{ALICE_KEY, Site};
use support::tool;

const WRONG_KEY: &str = "canary-wrong-key-4f00";
const BEARER: &str = "canary-bearer-71c2";
const COOKIE: &str = "canary-cookie-88ab";
const QUERY: &str = "canary-query-30de";
const BODY: &str = "canary-body-5b9d";
const PROXY_AUTH: &str = "canary-proxy-e610";
const TRACE: &str = "a1c8e07f5b6d2e917c5a1f0de2b94d36";
/// In the path, where it is meant to be seen: the search must be able to find something.
const SEEN: &str = "canary-seen-0001";

const CANARIES: [&str; 7] = [ALICE_KEY, WRONG_KEY, BEARER, COOKIE, QUERY, BODY, PROXY_AUTH];

/// What was searched and what was found.
#[derive(Default)]
struct Search {
    found: Vec<String>,
    /// Places that hold what is meant to be seen.
    seen: Vec<String>,
}

impl Search {
    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.found
            .extend(CANARIES.iter().filter(|text| holds(text)).map(|text| format!("{text} in {place}")));
        if holds(SEEN) {
            self.seen.push(place.to_owned());
        }
    }

    fn folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                self.folder(&path);
                continue;
            }
            // A socket holds nothing to read.
            if kind.is_socket() {
                continue;
            }
            // A file may have been sealed and unlinked in the meantime.
            match std::fs::read(&path) {
                Ok(bytes) => self.bytes(&path.display().to_string(), &bytes),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", path.display()),
            }
        }
    }

    fn saw(&self, part: &str) -> bool {
        self.seen.iter().any(|place| place.contains(part))
    }
}

/// Every value of every Parquet file, as text.
fn decoded(requests: &Path) -> String {
    let script = "import sys, glob, pyarrow.parquet as p\n\
        for f in sorted(glob.glob(sys.argv[1] + '/**/*.parquet', recursive=True)):\n\
        \x20   r = p.ParquetFile(f)\n    print(r.metadata.metadata, r.schema_arrow)\n\
        \x20   for row in r.read().to_pylist():\n        print(row)\n";
    tool::output(Command::new(tool::python()).args(["-c", script]).arg(requests))
}

#[test]
fn no_secret_is_ever_written() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let jaeger = Jaeger::start(site.folder());
    // Everything is sealed at the end, and nothing before: hot files and spool are searched with their rows in them.
    let site =
        site.set(&["collector", "otlp"], jaeger.otlp("http")).set(&["log"], json!({ "level": "trace" }));
    let house = site.run();
    let traceparent = format!("00-{TRACE}-1122334455667788-01");
    let (bearer, cookie) = (format!("Bearer {BEARER}"), format!("session={COOKIE}; other=1"));
    let basic = format!("Basic {PROXY_AUTH}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Cookie", &cookie),
        ("Proxy-Authorization", &basic),
        ("traceparent", &traceparent),
        ("User-Agent", "secrets/1"),
    ];
    let with = |key: &'static str| {
        let mut all = headers.to_vec();
        all.push(("apikey", key));
        all
    };
    let target = format!("/private/{SEEN}/headers?token={QUERY}");
    let reply = client::get(house.gateway(), &target, &with(ALICE_KEY)).unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains(BEARER), "the canaries did reach the upstream");
    assert!(!reply.text().contains(ALICE_KEY), "hide_credentials hides the key from the upstream");

    let mut search = Search::default();
    let mut told = |reply: client::Reply, status: u16| {
        assert_eq!(reply.status, status, "{}", reply.text());
        search.bytes("what a client is told", format!("{:?} {}", reply.headers, reply.text()).as_bytes());
    };
    told(client::get(house.gateway(), &target, &with(WRONG_KEY)).unwrap(), 401);
    let by_query = format!("/private/{SEEN}/echo?apikey={WRONG_KEY}");
    told(client::get(house.gateway(), &by_query, &headers).unwrap(), 401);
    told(client::get(house.gateway(), &format!("/nowhere/{SEEN}?token={QUERY}"), &headers).unwrap(), 404);
    let upload = format!("/private/{SEEN}/count");
    let reply =
        client::exchange(house.gateway(), "POST", &upload, &with(ALICE_KEY), BODY.as_bytes()).unwrap();
    assert_eq!((reply.status, reply.text()), (200, BODY.len().to_string()));
    let by_query = format!("/private/{SEEN}/status/503?apikey={ALICE_KEY}");
    assert_eq!(client::get(house.gateway(), &by_query, &headers).unwrap().status, 503);
    // Not HTTP, with secrets in it: a refusal that quotes what it refuses would give them away.
    let mut connection = Connection::open(house.gateway()).unwrap();
    let broken =
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization : {bearer}\r\nCookie: {cookie}\r\n\r\n");
    connection.write(broken.as_bytes()).unwrap();
    let (status, refused) = connection.read_head().unwrap();
    let mut body = Vec::new();
    connection.read_body(&refused, |piece| body.extend_from_slice(piece)).unwrap();
    told(client::Reply { status, headers: refused, body }, 400);
    // h2 too, whose library logs by itself.
    let curl = ["--silent", "--max-time", "20", "--http2-prior-knowledge", "--output", "/dev/null"];
    let fields = headers.iter().flat_map(|(name, value)| ["--header".to_owned(), format!("{name}: {value}")]);
    let key = ["--header".to_owned(), format!("apikey: {ALICE_KEY}")];
    let url = format!("http://{}{target}", house.gateway());
    tool::output(Command::new("curl").args(curl).args(fields).args(key).arg(url));
    house.rows(8);

    search.bytes("rows", format!("{:?}", house.sql("SELECT * FROM requests")).as_bytes());
    for page in ["text/plain;version=0.0.4", "application/openmetrics-text"] {
        let reply = client::get(house.addr("metrics"), "/metrics", &[("Accept", page)]).unwrap();
        search.bytes("metrics", &reply.body);
    }
    let spans = eventually("all traces in Jaeger", || {
        let answer = jaeger.ask("/api/traces?service=tollhouse&limit=100&lookback=1h")?;
        let spans =
            answer["data"].as_array().into_iter().flatten().filter_map(|trace| trace["spans"].as_array());
        let servers =
            spans.flatten().filter(|span| support::jaeger::tag(span, "span.kind") == "server").count();
        if servers >= 7 { Ok(answer) } else { Err(format!("{servers} server spans: {answer}")) }
    });
    search.bytes("spans", spans.to_string().as_bytes());
    search.folder(&site.data());
    assert!(
        search.saw("rows") && search.saw("spans") && search.saw("/hot/"),
        "the search is blind: {:?}",
        search.seen
    );
    assert!(search.saw("/spool/"), "the search of the spool is blind: {:?}", search.seen);

    assert!(house.terminate().success());
    search.folder(&site.data());
    let rows = decoded(&site.data().join("requests"));
    search.bytes("decoded Parquet", rows.as_bytes());
    assert!(search.saw("decoded Parquet"), "the search of Parquet is blind: {rows}");
    let log = std::fs::read(site.folder().join("run.log")).unwrap();
    assert!(log.len() > 1000, "not the talkative log that was asked for: {} bytes", log.len());
    search.bytes("the log", &log);
    assert_eq!(search.found, Vec::<String>::new());
}
