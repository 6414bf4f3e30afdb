//! The documentation, executed: each shell command of the README and of the page on SQL runs as it is written, each SQL
//! statement answers with rows, each link and path leads somewhere.
//!
//! Only what cannot be the same twice on one machine is put in: free ports for the standard ones, an origin for the
//! reader's service, a short time for the demo. `tests/run` is asked for its help: it cannot run inside itself.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::client;
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, Site, Tollhouse};
use support::tool::{output, python};

const BINARY: &str = env!("CARGO_BIN_EXE_tollhouse");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block: its language, its text, the line that it begins in.
struct Block {
    language: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { language: language.to_owned(), text: String::new(), line: index + 2 });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    found
}

/// The reader's folder and what runs in it.
struct Reader {
    site: Site,
    origin: Origin,
    house: Option<Tollhouse>,
}

impl Reader {
    /// A folder with `tollhouse` in the path, and in `target/release` as after a build.
    fn new() -> Self {
        let origin = Origin::start();
        let site = Site::new(origin.addr);
        let reader = Self { site, origin, house: None };
        fs::create_dir_all(reader.folder().join("target/release")).unwrap();
        fs::create_dir_all(reader.folder().join("tests")).unwrap();
        fs::create_dir_all(reader.folder().join("bin")).unwrap();
        std::os::unix::fs::symlink(root().join("tests/run"), reader.folder().join("tests/run")).unwrap();
        let script = reader.folder().join("target/release/tollhouse");
        // `query` looks at the standard port, which is the only thing that is not as in the documentation.
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = query ]; then shift; exec {BINARY} query --url \"http://$SQL\" \"$@\"; fi\nexec {BINARY} \"$@\"\n"
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&script, reader.folder().join("bin/tollhouse")).unwrap();
        reader
    }

    fn folder(&self) -> PathBuf {
        self.site.folder().to_owned()
    }

    fn address(&self, name: &str) -> String {
        self.house.as_ref().map_or("127.0.0.1:1".to_owned(), |house| house.addr(name).to_string())
    }

    /// The text with the addresses of this machine.
    fn filled(&self, text: &str) -> String {
        let service = self.origin.addr.to_string();
        [("8000", "gateway"), ("8100", "metrics"), ("8200", "sql"), ("8432", "postgres"), ("8815", "flight")]
            .iter()
            .fold(text.to_owned(), |text, (port, name)| {
                text.replace(&format!("127.0.0.1:{port}"), &self.address(name))
            })
            .replace("127.0.0.1:3000", &service)
            .replace("127.0.0.1:9001", &service)
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        let path = format!("{}:{}", self.folder().join("bin").display(), std::env::var("PATH").unwrap());
        shell.arg("-c").arg(command).current_dir(self.folder()).stdin(Stdio::null()).env("PATH", path);
        shell.env("SQL", self.address("sql"));
        shell
    }

    /// Does what the documentation says.
    fn obey(&mut self, line: &str) {
        let line = line.replace("cargo run --release --", "target/release/tollhouse");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["target/release/tollhouse" | "tollhouse", "run", ..] => self.serve(&line),
            ["target/release/tollhouse", "demo"] => {
                let said = self.finish(&format!(
                    "{line} --duration 2s --rate 100 --port 0 --metrics-port 0 --sql-port 0 --postgres-port 0"
                ));
                assert!(said.contains("The books balance, to the row."), "{said}");
            }
            ["tests/run"] => assert!(self.finish("tests/run --help").contains("Checks everything")),
            _ => {
                let command = self.filled(&line);
                // A row is there a fraction of a second after its response.
                let said = eventually(&command, || match self.finish(&command) {
                    said if said.contains("(0 rows)") || said.trim() == "[]" => Err(said),
                    said => Ok(said),
                });
                if line.starts_with("curl -i") {
                    assert!(said.starts_with("HTTP/1.1 200 "), "{command}: {said}");
                }
            }
        }
    }

    /// A command that stays: in place of the one before, until the next one.
    fn serve(&mut self, line: &str) {
        self.leave();
        let mut command = self.shell(&format!("exec {}", self.filled(line)));
        command
            .env("TOLLHOUSE_GATEWAY__LISTEN", "[{name: gateway, address: '127.0.0.1:0'}]")
            .env("TOLLHOUSE_COLLECTOR__METRICS__LISTEN", "127.0.0.1:0")
            .env("TOLLHOUSE_ANALYTICS__LISTEN", "127.0.0.1:0")
            .env("TOLLHOUSE_ANALYTICS__POSTGRES__LISTEN", "127.0.0.1:0")
            .env("TOLLHOUSE_ANALYTICS__FLIGHT__LISTEN", "127.0.0.1:0");
        self.house = Some(self.site.launch("docs", command));
    }

    fn leave(&mut self) {
        if let Some(house) = self.house.take() {
            assert!(house.terminate().success());
        }
    }

    /// A command that ends well and says something, or writes a file.
    fn finish(&self, command: &str) -> String {
        let output = self.shell(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {}\n{said}\n{errors}", output.status);
        let written = command.split_once("--output ").and_then(|(_, rest)| rest.split_whitespace().next());
        match written {
            Some(file) => assert!(fs::metadata(self.folder().join(file)).unwrap().len() > 0, "{command}"),
            None => assert!(!said.trim().is_empty(), "{command}: says nothing\n{errors}"),
        }
        said
    }

    /// All blocks of a page in their order.
    fn read(&mut self, page: &str) -> usize {
        let mut done = 0;
        for block in blocks(page) {
            eprintln!("{page} line {}:\n{}", block.line, block.text);
            match block.language.as_str() {
                "sh" => block.text.lines().for_each(|line| {
                    self.obey(line);
                    done += 1;
                }),
                "yaml" if block.text.starts_with("# tollhouse.yaml") => {
                    fs::write(self.folder().join("tollhouse.yaml"), self.filled(&block.text)).unwrap();
                }
                "sql" => {
                    let rows = || self.house.as_ref().unwrap().try_sql(&block.text);
                    // What the gateway leaves from time to time is there a moment after its start.
                    eventually(&format!("{page} line {}", block.line), || match rows() {
                        Ok(rows) if rows.is_empty() => Err(format!("no rows\n{}", block.text)),
                        Ok(_) => Ok(()),
                        Err(error) => panic!("{page} line {}: {error}", block.line),
                    });
                    done += 1;
                }
                "python" => {
                    let program = self.filled(&block.text);
                    let said = output(Command::new(python()).arg("-c").arg(program));
                    assert!(!said.trim().is_empty(), "{page} line {}: says nothing", block.line);
                    done += 1;
                }
                "text" => {}
                other => panic!("{page} line {}: nobody runs `{other}`", block.line),
            }
        }
        done
    }
}

#[test]
fn the_readme_works_from_its_first_line_to_its_last() {
    let mut reader = Reader::new();
    assert!(reader.read("README.md") >= 10);
    reader.leave();
}

#[test]
fn every_statement_on_the_page_about_sql_answers() {
    let mut reader = Reader::new();
    let plan = serde_json::json!({"standard": {"base_fee": "9", "price_per_thousand": "0.25"}});
    // The configurations on the page are examples: this house goes on with its own.
    let still = serde_json::json!({"watch_interval_ms": 0});
    let pool = serde_json::json!([{"name": "pool", "targets": [{"target": "127.0.0.1:1"}]}]);
    reader.site = reader.site.set(&["analytics", "plans"], plan).set(&["reload"], still);
    reader.site = reader.site.set(&["upstreams"], pool);
    reader.house = Some(reader.site.run());
    let house = reader.house.as_ref().unwrap();
    let mut next = reader.site.config().clone();
    next["services"][0]["retries"] = 1.into();
    reader.site.replace(&next.to_string());
    house.signal(libc::SIGHUP);
    eventually("a change in config.changes", || {
        match house.number("SELECT count(*) AS n FROM config.changes") {
            1 => Ok(()),
            other => Err(format!("{other}")),
        }
    });
    // The trace that the page asks for, and one request of every kind that it shows.
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    house.get("/open/echo", &[trace]);
    house.get("/private/bytes/100", &[("apikey", ALICE_KEY)]);
    house.get("/private/bytes/100", &[]);
    house.get("/open/status/500", &[]);
    house.get("/nowhere", &[]);
    client::exchange(house.gateway(), "POST", "/open/count", &[], b"twelve bytes").unwrap();
    house.rows(6);
    assert!(reader.read("docs/sql.md") >= 20);

    let page = fs::read_to_string(root().join("docs/sql.md")).unwrap();
    let house = reader.house.as_ref().unwrap();
    for row in house.sql("SHOW TABLES") {
        let (schema, table) = (row["table_schema"].as_str().unwrap(), row["table_name"].as_str().unwrap());
        let name = if schema == "public" { table.to_owned() } else { format!("{schema}.{table}") };
        let known = schema == "information_schema" || page.contains(&format!("`{name}`"));
        assert!(known, "docs/sql.md does not mention {name}");
    }
    for view in [
        "consumers",
        "services",
        "routes",
        "upstreams",
        "errors",
        "traces",
        "call_graph",
        "traffic_1m",
        "traffic_series(now() - INTERVAL '1 hour')",
        "slo_report()",
        "billing('standard', to_char(now(), '%Y-%m'))",
        "trace('4bf92f3577b34da6a3ce929d0e0e4736')",
    ] {
        let first = house.sql(&format!("SELECT * FROM {view} LIMIT 1")).remove(0);
        for column in first.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{column}`")), "docs/sql.md does not mention {view}.{column}");
        }
    }
}

/// Pages for people, each with the folder that its links begin in.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("dashboards/README.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    pages
}

#[test]
fn every_link_and_every_path_in_the_documentation_exists() {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() {
                let headings = fs::read_to_string(&target).unwrap();
                let is_there = headings.lines().filter_map(|line| line.strip_prefix('#')).any(|heading| {
                    let words = heading.trim_start_matches('#').trim().to_lowercase();
                    let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                    kept.collect::<String>().replace(' ', "-") == anchor
                });
                assert!(is_there, "{}: {link}: no such heading", page.display());
            }
            links += 1;
        }
        for code in text.split('`').skip(1).step_by(2) {
            let parts = ["event/", "proxy/", "collector/", "analytics/", "src/", "tests/", "benches/"];
            if parts.iter().any(|part| code.starts_with(part)) && !code.contains([' ', '*', '<', '{']) {
                assert!(root().join(code).exists(), "{}: `{code}` does not exist", page.display());
            }
        }
    }
    assert!(links > 10);
}
