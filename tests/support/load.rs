//! Load with a ledger of its own: which responses a client has received whole, and when. What the gateway stored is
//! held against it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Connection;
use super::site::Tollhouse;

/// One client's ledger.
#[derive(Default)]
pub struct Ledger {
    /// Id of each response received whole, and when its last byte was read.
    pub received: Vec<(String, Instant)>,
    /// When each of them was asked for, and how long it took.
    pub took: Vec<(Instant, Duration)>,
    /// Exchanges that broke, or that were answered with something other than 200.
    pub failed: Vec<String>,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Ledger>>,
}

impl Load {
    /// Starts `clients` connections that each send one request after another to `target`.
    pub fn start(addr: SocketAddr, target: &str, clients: usize) -> Self {
        Self::begin(addr, target, clients, (false, Duration::ZERO))
    }

    /// The same with a connection of its own for each request.
    pub fn start_fresh(addr: SocketAddr, target: &str, clients: usize) -> Self {
        Self::begin(addr, target, clients, (true, Duration::ZERO))
    }

    /// The same with a pause after each response: not all that the machine has, while it does other things as well.
    pub fn start_paced(addr: SocketAddr, target: &str, clients: usize, pause: Duration) -> Self {
        Self::begin(addr, target, clients, (false, pause))
    }

    fn begin(addr: SocketAddr, target: &str, clients: usize, how: (bool, Duration)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let clients = (0..clients)
            .map(|_| {
                let (stop, done, target) = (Arc::clone(&stop), Arc::clone(&done), target.to_owned());
                std::thread::spawn(move || work(addr, &target, how, &stop, &done))
            })
            .collect();
        Self { stop, done, clients }
    }

    /// Responses received so far by all clients.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Waits until `more` further responses have come.
    pub fn wait(&self, more: u64) {
        let goal = self.done() + more;
        super::eventually("responses under load", || {
            let done = self.done();
            if done >= goal { Ok(()) } else { Err(format!("{done} of {goal}")) }
        });
    }

    /// Ends the clients after the exchange each is in, and joins their ledgers.
    pub fn stop(self) -> Ledger {
        self.stop.store(true, Relaxed);
        let mut all = Ledger::default();
        for client in self.clients {
            let mut ledger = client.join().expect("a load client does not panic");
            all.received.append(&mut ledger.received);
            all.took.append(&mut ledger.took);
            all.failed.append(&mut ledger.failed);
        }
        all
    }
}

impl Ledger {
    /// The 99th percentile of the exchanges that began in a span of time.
    pub fn p99(&self, from: Instant, until: Instant) -> Duration {
        let within = self.took.iter().filter(|(asked, _)| (from..until).contains(asked));
        let mut took: Vec<_> = within.map(|(_, took)| *took).collect();
        assert!(took.len() >= 500, "{} exchanges are too few for a percentile", took.len());
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

/// One client: it ends when told to, or when its connection breaks and no new one can be had.
fn work(
    addr: SocketAddr,
    target: &str,
    (fresh, pause): (bool, Duration),
    stop: &AtomicBool,
    done: &AtomicU64,
) -> Ledger {
    let mut ledger = Ledger::default();
    'connections: while !stop.load(Relaxed) {
        let mut connection = match Connection::open(addr) {
            Ok(connection) => connection,
            Err(error) => {
                // Whoever waits for this client's responses sees why there are none.
                eprintln!("a client under load ends: {error}");
                ledger.failed.push(format!("connect: {error}"));
                break;
            }
        };
        while !stop.load(Relaxed) {
            let asked = Instant::now();
            match connection.exchange("GET", target, &[], b"") {
                Ok(reply) if reply.status == 200 => {
                    let now = Instant::now();
                    ledger.received.push((reply.request_id(), now));
                    ledger.took.push((asked, now - asked));
                    done.fetch_add(1, Relaxed);
                    let last =
                        reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                    if fresh || last {
                        continue 'connections;
                    }
                    if !pause.is_zero() {
                        std::thread::sleep(pause);
                    }
                }
                Ok(reply) => ledger.failed.push(format!("{} {}", reply.status, reply.text())),
                Err(error) => {
                    ledger.failed.push(format!("exchange: {error}"));
                    continue 'connections;
                }
            }
        }
    }
    ledger
}

/// The ids of all rows, each with how often it is there; checked against the count, so that a row limit cannot go
/// unnoticed.
pub fn stored(house: &Tollhouse) -> HashMap<String, u64> {
    let mut ids = HashMap::new();
    for row in house.sql("SELECT encode(request_id, 'hex') AS id FROM requests") {
        *ids.entry(row["id"].as_str().expect("an id is text").to_owned()).or_insert(0) += 1;
    }
    let count = house.number("SELECT count(*) AS n FROM requests");
    assert_eq!(ids.values().sum::<u64>(), count, "the ids read are not all the rows");
    ids
}

/// Fails unless each of `received` has a row and no id has two.
pub fn assert_exact<'a>(stored: &HashMap<String, u64>, received: impl IntoIterator<Item = &'a str>) {
    let doubles: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(doubles.is_empty(), "stored more than once: {doubles:?}");
    let received: HashSet<_> = received.into_iter().collect();
    let lost: Vec<_> = received.iter().filter(|id| !stored.contains_key(**id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} received responses have no row, as {:?}",
        lost.len(),
        received.len(),
        lost[0]
    );
}
