//! The order of the demo: services up, Tollhouse up, traffic on, view until the end; then traffic off, books read,
//! report out, Tollhouse down.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::desk::{Desk, DeskError};
use super::house::House;
use super::live::{self, Mode};
use super::paint::{Ink, Paint};
use super::questions::{self, Snapshot};
use super::report::Report;
use super::tally::Tally;
use super::view::{self, Scene};
use super::world::{self, Listen};
use super::{DemoArgs, DemoError, audit, services, traffic};

/// The view asks for new numbers this often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Tollhouse is ready within this time.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_PAUSE: Duration = Duration::from_millis(20);
/// Rows may take this long from the last answer to all the sinks.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// The newest numbers, or why there are none.
type Latest = watch::Receiver<Option<Result<Snapshot, String>>>;

/// Runs the demo to its end and prints the report.
pub fn play(args: &DemoArgs) -> Result<(), DemoError> {
    let paint = Paint::for_stdout();
    let data = Data::open(args.data.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("demo")
        .enable_all()
        .build()
        .map_err(io("start a runtime"))?;
    start_log(&data.path)?;
    let stop = CancellationToken::new();
    runtime.block_on(async { stop_on_signals(&stop, &data) }).map_err(io("listen for signals"))?;
    let tally = Arc::new(Tally::default());
    let gateway: services::Gateway = Arc::new(OnceLock::new());
    let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string();

    let services = runtime.block_on(services::start(&gateway)).map_err(io("start the sample services"))?;
    let house = open_house(args, &data, &services, &runtime)?;
    let listen = house.listen;
    let desk = Desk { sql: listen.sql, metrics: listen.metrics };
    if let Err(error) = runtime.block_on(ready(&desk)) {
        runtime.block_on(house.stop());
        return Err(error);
    }
    let client = Arc::new(Client::new(listen.gateway, Arc::clone(&tally)));
    // Set once, here: nobody else holds the cell before the first request.
    let _ = gateway.set(Arc::clone(&client));

    let started = Instant::now();
    let sending = runtime.spawn(traffic::run(client, Arc::clone(&tally), f64::from(args.rate), stop.clone()));
    let latest = ask(&runtime, desk, stop.clone());
    let mode = Mode::choose(args.json);
    let program = program();
    if mode == Mode::Lines {
        let lines = [view::places(paint, &listen), view::tries(paint, &listen, &program)];
        print(&lines.concat().join("\n"))?;
    }
    let until = args.duration.map(|duration| started + duration);
    let shown = live::show(mode, paint, &stop, until, |draw| {
        let latest = latest.borrow();
        let (snapshot, problem) = match latest.as_ref() {
            None => (None, None),
            Some(Ok(snapshot)) => (Some(snapshot), None),
            Some(Err(problem)) => (None, Some(problem.as_str())),
        };
        let (counts, seconds) = (tally.counts(), started.elapsed().as_secs());
        draw(&Scene { listen: &listen, program: &program, snapshot, problem, counts: &counts, seconds });
    });
    stop.cancel();
    let seconds = started.elapsed().as_secs_f64();
    if mode != Mode::Silent && shown.is_ok() {
        print(&paint.ink(Ink::Dim, "Traffic has ended; waiting for the last rows ..."))?;
    }
    let report = runtime.block_on(async {
        // A traffic task that panicked leaves its requests open, which the checks show.
        let _ = sending.await;
        conclude(&desk, &tally, &since, seconds).await
    });
    runtime.block_on(house.stop());
    shown.map_err(io("draw on the terminal"))?;
    let report = report?;
    let text = if args.json { format!("{:#}", report.to_json()) } else { report.to_text(paint) };
    print(&text)?;
    if report.is_reconciled() { Ok(()) } else { Err(DemoError::NotReconciled) }
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> DemoError {
    move |source| DemoError::Io { doing, source }
}

fn print(text: &str) -> Result<(), DemoError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(io("print"))
}

/// The data folder; a temporary one goes when this is dropped, after Tollhouse has gone.
struct Data {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Data {
    fn open(named: Option<&Path>) -> Result<Self, DemoError> {
        if let Some(path) = named {
            std::fs::create_dir_all(path).map_err(io("make the data folder"))?;
            let mut entries = std::fs::read_dir(path).map_err(io("read the data folder"))?;
            if entries.next().is_some() {
                return Err(DemoError::NotEmpty(path.to_owned()));
            }
            return Ok(Self { path: path.to_owned(), temporary: None });
        }
        let folder = tempfile::Builder::new().prefix("tollhouse-demo-").tempdir();
        let folder = folder.map_err(io("make a temporary folder"))?;
        Ok(Self { path: folder.path().to_owned(), temporary: Some(folder) })
    }
}

/// How the reader called this program, to be typed again in another terminal of the same folder; what the shell found
/// by itself it will find again.
fn program() -> String {
    match std::env::args().next() {
        Some(name) if name.contains('/') && name.contains(' ') => format!("'{name}'"),
        Some(name) if name.contains('/') => name,
        _ => "tollhouse".to_owned(),
    }
}

/// Warnings go to a file: the terminal belongs to the view.
fn start_log(data: &Path) -> Result<(), DemoError> {
    let file = std::fs::File::create(data.join("tollhouse.log")).map_err(io("open its log"))?;
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    let installed = log.with_writer(Mutex::new(file)).try_init();
    installed.map_err(std::io::Error::other).map_err(io("start its log"))
}

fn open_house(
    args: &DemoArgs,
    data: &Data,
    services: &services::Services,
    runtime: &Runtime,
) -> Result<House, DemoError> {
    let listen = Listen {
        gateway: address(args.port, 8000),
        metrics: address(args.metrics_port, 8100),
        sql: address(args.sql_port, 8200),
        postgres: address(args.postgres_port, 8432),
    };
    let text = world::yaml(&listen, &services.targets);
    let file = data.path.join("tollhouse.yaml");
    std::fs::write(&file, &text).map_err(io("write its configuration"))?;
    let _inside = runtime.enter();
    House::start(&file.to_string_lossy(), text, &data.path)
        .map_err(|failure| DemoError::House(Box::new(failure)))
}

/// The port asked for; else the standard one; else, said aloud, a free one.
fn address(asked: Option<u16>, standard: u16) -> SocketAddr {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = asked {
        return at(port);
    }
    if TcpListener::bind(at(standard)).is_ok() {
        return at(standard);
    }
    eprintln!("port {standard} is taken: a free one is used instead");
    at(0)
}

async fn ready(desk: &Desk) -> Result<(), DemoError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    while !desk.is_ready().await {
        if Instant::now() >= deadline {
            return Err(DeskError::Timeout.into());
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
    Ok(())
}

/// The first signal ends the traffic, the second the process. To be called on the runtime.
fn stop_on_signals(stop: &CancellationToken, data: &Data) -> std::io::Result<()> {
    let temporary = data.temporary.as_ref().map(|folder| folder.path().to_owned());
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signal = signal(kind)?;
        let (stop, temporary) = (stop.clone(), temporary.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if stop.is_cancelled() {
                    // Asked twice: no report. What cannot be removed now is in the system's temporary folder.
                    live::restore();
                    let _ = temporary.as_ref().map(std::fs::remove_dir_all);
                    std::process::exit(130);
                }
                stop.cancel();
            }
        });
    }
    Ok(())
}

fn ask(runtime: &Runtime, desk: Desk, stop: CancellationToken) -> Latest {
    let (sender, receiver) = watch::channel(None);
    runtime.spawn(async move {
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            tick.tick().await;
            let answer = questions::snapshot(&desk).await.map_err(|error| error.to_string());
            sender.send_replace(Some(answer));
        }
    });
    receiver
}

/// Asks until the last rows have arrived everywhere. What is still wrong after the time-out stands in the report.
async fn conclude(desk: &Desk, tally: &Tally, since: &str, seconds: f64) -> Result<Report, DemoError> {
    let counts = tally.counts();
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let summary = questions::summary(desk, since).await?;
        let prometheus = desk.counter(audit::COUNTER).await?;
        let ledger = questions::ledger(desk).await?;
        let is_idle = ledger.iter().all(|line| line.in_flight == 0);
        let checks = audit::checks(&counts, &summary, prometheus, &ledger);
        let report = Report { seconds, counts: counts.clone(), summary, checks };
        if (is_idle && report.is_reconciled()) || Instant::now() >= deadline {
            return Ok(report);
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}
