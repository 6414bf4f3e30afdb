//! The traffic of the demo: an open-loop generator. Requests start when they are due, whether or not earlier ones
//! have been answered, so a slow gateway shows as latency and is not hidden by a client that waits for it. What is
//! open at once is bounded; an arrival above the bound is not sent and counted as shed.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Uri, header};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::body::Payload;
use super::chance::Chance;
use super::client::{Client, Reading};
use super::tally::Tally;
use super::world::{CALLERS, Caller, USER_AGENT};

/// Requests open at once, at most.
const OPEN_MAX: usize = 512;
/// After the end of the traffic, answers are awaited for this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// One kind of request, and how often it comes among the others.
struct Kind {
    share: u32,
    method: Method,
    path: &'static str,
    body: Sending,
    reading: Reading,
}

enum Sending {
    Nothing,
    Json,
    Upload,
}

/// The mix, in shares. Aborts are of answers that stream for seconds: the client is surely gone before their end.
fn mix() -> Vec<Kind> {
    use Reading::{AbortAfter, Whole};
    use Sending::{Json, Nothing, Upload};
    let kind = |share, method, path, body, reading| Kind { share, method, path, body, reading };
    vec![
        kind(400, Method::GET, "/shop/", Nothing, Whole),
        kind(180, Method::POST, "/shop/checkout", Json, Whole),
        kind(180, Method::GET, "/search/?q=lantern", Nothing, Whole),
        kind(110, Method::GET, "/catalog/items/7", Nothing, Whole),
        kind(60, Method::GET, "/orders/mine", Nothing, Whole),
        kind(25, Method::GET, "/catalog/items/gone", Nothing, Whole),
        kind(15, Method::GET, "/nowhere", Nothing, Whole),
        kind(10, Method::GET, "/catalog/images/7.jpg", Nothing, Whole),
        kind(8, Method::POST, "/catalog/import", Upload, Whole),
        kind(10, Method::GET, "/catalog/export", Nothing, AbortAfter { bytes: 64 * 1024 }),
        kind(2, Method::GET, "/catalog/export", Nothing, Whole),
    ]
}

/// Sends `rate` requests per second until `stop`, then waits for the answers that are still open.
pub async fn run(client: Arc<Client>, tally: Arc<Tally>, rate: f64, stop: CancellationToken) {
    let mix = Arc::new(mix());
    let permits = Arc::new(Semaphore::new(OPEN_MAX));
    let mut due = Instant::now();
    let mut once = 0..mix.len();
    loop {
        due += Chance::new().gap(rate);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep_until(due) => {}
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tally.shed();
            continue;
        };
        // Every kind once, by somebody with a key, so that the shortest run shows them all; then by chance.
        let (caller, chosen) = match once.next() {
            Some(kind) => (CALLERS[0], kind),
            None => (
                CALLERS[Chance::new().zipf(CALLERS.len())],
                choose(&mix, Chance::new().between(0, u64::MAX - 1)),
            ),
        };
        // A refused upload may be cut before its answer is read: then nobody could tell whether it counts.
        let uploads = matches!(mix[chosen].body, Sending::Upload);
        let caller = if uploads && !caller.known { CALLERS[0] } else { caller };
        let (client, mix) = (Arc::clone(&client), Arc::clone(&mix));
        tokio::spawn(async move {
            let kind = &mix[chosen];
            client.call(Some(caller.name), request(kind, &caller), kind.reading).await;
            drop(permit);
        });
    }
    // All permits back: nothing is open. What is open after the time-out shows in the tally as in flight.
    let _ = timeout(DRAIN_TIMEOUT, permits.acquire_many(OPEN_MAX as u32)).await;
}

fn choose(mix: &[Kind], draw: u64) -> usize {
    let total: u64 = mix.iter().map(|kind| u64::from(kind.share)).sum();
    let mut left = draw % total;
    for (index, kind) in mix.iter().enumerate() {
        match left.checked_sub(u64::from(kind.share)) {
            Some(rest) => left = rest,
            None => return index,
        }
    }
    mix.len() - 1
}

fn request(kind: &Kind, caller: &Caller) -> Request<Payload> {
    let body = match kind.body {
        Sending::Nothing => Payload::empty(),
        Sending::Json => Payload::of("{\"item\":7,\"count\":1}"),
        Sending::Upload => Payload::fill(Chance::new().between(300_000, 3_000_000)),
    };
    let mut request = Request::new(body);
    *request.method_mut() = kind.method.clone();
    *request.uri_mut() = Uri::from_static(kind.path);
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("demo.local"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(key) = caller.key {
        headers.insert("apikey", HeaderValue::from_static(key));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let mix = mix();
        let total: u32 = mix.iter().map(|kind| kind.share).sum();
        let mut seen = vec![0_u32; mix.len()];
        for draw in 0..u64::from(total) {
            seen[choose(&mix, draw)] += 1;
        }
        assert_eq!(seen, mix.iter().map(|kind| kind.share).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_carries_its_callers_key_and_nothing_else() {
        let mix = mix();
        let keyed = request(&mix[0], &CALLERS[0]);
        assert_eq!(keyed.headers()["apikey"], "demo-key-acme");
        let anonymous = CALLERS.iter().find(|caller| caller.key.is_none()).unwrap();
        assert!(!request(&mix[0], anonymous).headers().contains_key("apikey"));
    }
}
