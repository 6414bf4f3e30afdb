//! The live view: one screen drawn from the last `Snapshot`, or one line per second when stdout is no terminal. It
//! only draws; `live` owns the terminal and the keys.

use super::paint::{Ink, Paint, count, cut, micros, percent, safe, sparkline, table, width};
use super::questions::{LedgerLine, Line, Snapshot, TO_TRY};
use super::tally::Counts;
use super::world::{self, Listen};

/// What one screen is drawn from.
pub struct Scene<'a> {
    /// Where to look.
    pub listen: &'a Listen,
    /// How the reader calls `tollhouse`.
    pub program: &'a str,
    /// The last answers in SQL; absent until the first ones.
    pub snapshot: Option<&'a Snapshot>,
    /// Why the last question failed, if it did.
    pub problem: Option<&'a str>,
    /// The clients' own ledger.
    pub counts: &'a Counts,
    /// Seconds since the start.
    pub seconds: u64,
}

impl Scene<'_> {
    /// One screen of at most `columns` times `rows` cells: what matters least stands last and is cut when it is small.
    pub fn screen(&self, paint: Paint, columns: usize, rows: usize) -> Vec<String> {
        let Self { listen, program, snapshot, problem, counts, seconds } = self;
        let empty = Snapshot::default();
        let shown = snapshot.unwrap_or(&empty);
        let title = paint.ink(Ink::Bold, "Tollhouse demo");
        let hint = paint.ink(Ink::Dim, &format!("{seconds} s   q or Ctrl-C ends it with a report"));
        let gap = columns.saturating_sub(width(&title) + width(&hint)).max(2);
        let mut out = vec![format!("{title}{}{hint}", " ".repeat(gap)), String::new()];
        if let Some(problem) = problem {
            out.push(paint.ink(Ink::Red, &safe(problem)));
        }
        out.extend(pulse(paint, shown, counts, columns));
        out.push(ledger_line(paint, &shown.ledger));
        for part in [tables(paint, shown, columns), places(paint, listen), tries(paint, listen, program)] {
            out.push(String::new());
            out.extend(part);
        }
        out.truncate(rows);
        out.iter().map(|line| cut(line, columns)).collect()
    }

    /// The same in one line, for logs and pipes.
    pub fn line(&self, paint: Paint) -> String {
        let Some(snapshot) = self.snapshot else { return format!("{:>4} s  starting", self.seconds) };
        if let Some(problem) = self.problem {
            return format!("{:>4} s  {}", self.seconds, safe(problem));
        }
        let (rate, errors, p50, p99) = rates(snapshot);
        format!(
            "{:>4} s  {rate:>6.0} requests/s  errors {errors:>6}  p50 {p50:>8}  p99 {p99:>8}  {}",
            self.seconds,
            ledger_line(paint, &snapshot.ledger)
        )
    }
}

/// Rate of the last whole second, error share, p50 and p99 of the last ten.
fn rates(snapshot: &Snapshot) -> (f64, String, String, String) {
    let rate = snapshot.per_second.last().copied().unwrap_or(0.0);
    match &snapshot.recent {
        Some(all) => (rate, percent(all.errors, all.requests), micros(all.p50_us), micros(all.p99_us)),
        None => (rate, "0 %".into(), "-".into(), "-".into()),
    }
}

fn pulse(paint: Paint, snapshot: &Snapshot, counts: &Counts, columns: usize) -> Vec<String> {
    let (rate, errors, p50, p99) = rates(snapshot);
    let room = columns.saturating_sub(28).clamp(1, 60);
    let from = snapshot.per_second.len().saturating_sub(room);
    let bars = paint.ink(Ink::Cyan, &sparkline(&snapshot.per_second[from..]));
    let label = |text: &str| paint.ink(Ink::Dim, text);
    let errors = if errors == "0 %" { errors } else { paint.ink(Ink::Yellow, &errors) };
    vec![
        format!("{} {}  {bars}", paint.ink(Ink::Bold, &format!("{rate:>7.0}")), label("requests/s")),
        format!(
            "{} {}   {} {}   {} {errors}   {}   {} {}",
            label("p50"),
            paint.ink(Ink::Bold, &p50),
            label("p99"),
            paint.ink(Ink::Bold, &p99),
            label("errors"),
            label("(last 10 s)"),
            label("open now"),
            count(counts.in_flight())
        ),
    ]
}

/// The sink that speaks for all: what is in Parquet is what SQL answers from.
const SINK: &str = "parquet";

/// The ledger in one line: the sum of all sinks is not a number anybody wants, so Parquet speaks for all, unless
/// another one does not balance.
fn ledger_line(paint: Paint, ledger: &[LedgerLine]) -> String {
    let shown = ledger.iter().max_by_key(|line| (!line.balances(), line.sink == SINK));
    let Some(line) = shown else { return paint.ink(Ink::Dim, "ledger - no events yet") };
    let LedgerLine { sink, produced, recovered, stored, dropped, in_flight } = line;
    let sign = if line.balances() { "=" } else { "≠" };
    format!(
        "{} {} {} events {sign} {} in {} + {} dropped + {} in flight",
        paint.ink(Ink::Dim, "ledger"),
        paint.mark(line.balances()),
        count(produced + recovered),
        count(*stored),
        safe(sink),
        if *dropped > 0 { paint.ink(Ink::Red, &count(*dropped)) } else { count(*dropped) },
        count(*in_flight),
    )
}

/// Room for a name, so that two tables fit side by side into 80 columns.
const NAME_COLUMNS: usize = 13;
/// Between the two tables, where there is room.
const GUTTER: usize = 5;
/// Where there is less, they stand below one another.
const GUTTER_MIN: usize = 2;

fn short_table(paint: Paint, head: &str, lines: &[Line]) -> Vec<String> {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let errors = percent(line.errors, line.requests);
            vec![
                paint.ink(Ink::Cyan, &format!("{:<NAME_COLUMNS$}", cut(&safe(&line.name), NAME_COLUMNS))),
                format!("{:.0}/s", line.requests as f64 / 10.0),
                if line.errors > 0 { paint.ink(Ink::Yellow, &errors) } else { errors },
                format!("{:>8}", micros(line.p99_us)),
            ]
        })
        .collect();
    table(paint, 1, &[head, "rate", "errors", "p99"], &rows)
}

/// Consumers and routes, side by side where there is room.
fn tables(paint: Paint, snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let left = short_table(paint, "top consumers", &snapshot.consumers);
    let right = short_table(paint, "top routes", &snapshot.routes);
    let widest = |lines: &[String]| lines.iter().map(|line| width(line)).max().unwrap_or(0);
    let room = columns.saturating_sub(widest(&left) + widest(&right));
    let wide = widest(&left) + room.min(GUTTER);
    if room < GUTTER_MIN {
        return left.into_iter().chain([String::new()]).chain(right).collect();
    }
    let height = left.len().max(right.len());
    (0..height)
        .map(|index| {
            let one = left.get(index).map_or("", String::as_str);
            let two = right.get(index).map_or("", String::as_str);
            format!("{one}{}{two}", " ".repeat(wide - width(one))).trim_end().to_owned()
        })
        .collect()
}

/// The addresses to open.
pub fn places(paint: Paint, listen: &Listen) -> Vec<String> {
    let place =
        |what: &str, url: String| format!("{} {}", paint.ink(Ink::Dim, what), paint.ink(Ink::Cyan, &url));
    vec![
        // Of the last minutes only: an hour would be empty but for its end.
        place("console ", format!("http://{}/#/overview?range=5m", listen.sql)),
        place("gateway ", format!("http://{}/shop?apikey={}", listen.gateway, world::KEY)),
        place("metrics ", format!("http://{}/metrics", listen.metrics)),
        place("SQL     ", format!("http://{}/sql?q=SELECT+*+FROM+services", listen.sql)),
        place("        ", format!("postgresql://{}/tollhouse", listen.postgres)),
    ]
}

/// Statements to try, and the way to one's own traffic: `program` as the reader can type it.
pub fn tries(paint: Paint, listen: &Listen, program: &str) -> Vec<String> {
    // `tollhouse query` finds the standard port by itself.
    let url = if listen.sql.port() == 8200 { String::new() } else { format!("--url http://{} ", listen.sql) };
    let queries = TO_TRY.map(|(what, statement)| (what, format!("query {url}\"{statement}\"")));
    let own = ("before your own service", "run --upstream http://127.0.0.1:3000".to_owned());
    let line = |(what, command): (&str, String)| {
        format!("  {program} {command}  {}", paint.ink(Ink::Dim, &format!("# {what}")))
    };
    let head = paint.ink(Ink::Dim, "to try in another terminal:");
    std::iter::once(head).chain(queries.into_iter().chain([own]).map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Snapshot {
        let line = |name: &str| Line {
            name: name.into(),
            requests: 1_000,
            errors: 20,
            bytes: 5,
            p50_us: 3_000.0,
            p95_us: 9_000.0,
            p99_us: 99_000.0,
        };
        Snapshot {
            per_second: (0..60).map(f64::from).collect(),
            recent: Some(line("all")),
            consumers: vec![line("acme"), line("globex")],
            routes: vec![line("shop")],
            ledger: vec![LedgerLine {
                sink: "parquet".into(),
                produced: 5_000,
                recovered: 0,
                stored: 4_990,
                dropped: 0,
                in_flight: 10,
            }],
        }
    }

    #[test]
    fn every_size_of_terminal_is_kept_to() {
        let address = ([127, 0, 0, 1], 8000).into();
        let listen = Listen { gateway: address, metrics: address, sql: address, postgres: address };
        let (snapshot, counts) = (shown(), Counts::default());
        for snapshot in [None, Some(&snapshot)] {
            let program = "tollhouse";
            let scene =
                Scene { listen: &listen, program, snapshot, problem: None, counts: &counts, seconds: 7 };
            for (columns, rows) in [(0, 0), (1, 1), (20, 5), (80, 24), (120, 40), (300, 100)] {
                let lines = scene.screen(Paint { colour: true }, columns, rows);
                assert!(lines.len() <= rows);
                assert!(lines.iter().all(|line| width(line) <= columns), "{columns}x{rows}: {lines:#?}");
            }
        }
    }

    #[test]
    fn a_screen_tells_rate_percentiles_ledger_and_where_to_go() {
        let address = ([127, 0, 0, 1], 8000).into();
        let listen = Listen { gateway: address, metrics: address, sql: address, postgres: address };
        let (snapshot, counts) = (shown(), Counts::default());
        let program = "target/release/tollhouse";
        let snapshot_now = Some(&snapshot);
        let scene = Scene {
            listen: &listen,
            program,
            snapshot: snapshot_now,
            problem: None,
            counts: &counts,
            seconds: 7,
        };
        let text = scene.screen(Paint { colour: false }, 120, 40).join("\n");
        for part in [
            "59 requests/s  ▁",
            "p99 99.0 ms   errors 2.0 %   (last 10 s)   open now 0",
            "ledger ✔ 5,000 events = 4,990 in parquet + 0 dropped + 10 in flight",
            "acme",
            "console  http://127.0.0.1:8000/#/overview?range=5m",
            "http://127.0.0.1:8000/metrics",
            "  target/release/tollhouse query --url http://127.0.0.1:8000 \"SELECT * FROM consumers",
            "  target/release/tollhouse run --upstream http://127.0.0.1:3000",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let mut broken = snapshot.clone();
        broken.ledger[0].stored = 1;
        let scene = Scene { snapshot: Some(&broken), ..scene };
        assert!(scene.line(Paint { colour: false }).contains("✘"));
    }
}
