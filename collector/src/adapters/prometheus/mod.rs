//! Events to Prometheus metrics.
//!
//! [`Recorder`] belongs to the intake thread and adds each event to plain memory: no lock, no allocation for a
//! label set that is known. Once per intake round it copies the series that changed into [`Published`], which
//! scrapes read. A scrape holds that lock for as long as it writes its page; a round that finds it taken goes
//! on and publishes with the next one, so a scrape never stalls intake, and each page is one consistent moment:
//! the sum of `tollhouse_http_requests_total` is the count of every histogram of the same page.

mod config;
mod family;
mod histogram;

mod bucket;
mod connections;
mod upkeep;

mod delta;

mod disk;

mod exposition;
mod hosts;
mod negotiate;
mod process;
mod targets;
mod text;

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Instant;

use event::rollup::status_class;
use event::{ABSENT_U32, RequestEvent, Run, Shape, Text};

pub use config::MetricsConfig;
pub(super) use exposition::{Context, render};
use family::{Family, OVERFLOW_ROW, Row, Snapshot};
use histogram::{Exemplar, Histogram};
pub(super) use negotiate::negotiate;

/// Values of the label `method`: the methods of RFC 9110 and RFC 5789, and one name for all others, as in the
/// OpenTelemetry conventions.
const METHODS: [&str; 10] =
    ["_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Requests of one (service, route, consumer).
#[derive(Clone, Debug)]
struct Traffic {
    requests: Vec<RequestCount>,
    duration: Histogram,
    request_bytes: u64,
    response_bytes: u64,
}

/// Requests of one method, status class and source; indices into [`METHODS`] and
/// `event::rollup::STATUS_CLASSES`.
#[derive(Clone, Copy, Debug)]
struct RequestCount {
    method: u8,
    status_class: u8,
    source_code: u8,
    source: &'static str,
    count: u64,
}

impl Row for Traffic {
    fn copy_to(&self, published: &mut Self) {
        published.requests.clone_from(&self.requests);
        self.duration.copy_to(&mut published.duration);
        published.request_bytes = self.request_bytes;
        published.response_bytes = self.response_bytes;
    }
}

/// Attempts at one (service, upstream).
#[derive(Clone, Debug)]
struct Upstream {
    duration: Histogram,
    /// Attempts by how they ended: `ok` or the name of the error.
    attempts: Vec<(&'static str, u64)>,
}

impl Row for Upstream {
    fn copy_to(&self, published: &mut Self) {
        self.duration.copy_to(&mut published.duration);
        published.attempts.clone_from(&self.attempts);
    }
}

impl Row for GatewayTime {
    fn copy_to(&self, published: &mut Self) {
        self.0.copy_to(&mut published.0);
    }
}

/// The time a request spent in the gateway itself.
#[derive(Clone, Debug)]
struct GatewayTime(Histogram);

/// Label sets made out of rows (several methods, classes or outcomes per row), under the same budget.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    series: usize,
    series_max: usize,
    overflowed: u64,
}

impl Budget {
    /// Whether one more label set fits; counts either way.
    fn admit(&mut self) -> bool {
        if self.series < self.series_max {
            self.series += 1;
            return true;
        }
        self.overflowed += 1;
        false
    }
}

/// What scrapes read.
#[derive(Debug)]
pub(super) struct Published {
    traffic: Snapshot<3, Traffic>,
    gateway: Snapshot<2, GatewayTime>,
    upstreams: Snapshot<2, Upstream>,
    requests: Budget,
    attempts: Budget,
    bounds_us: Arc<[u32]>,
    /// When intake last published.
    round: Option<Instant>,
}

impl Published {
    /// When intake last published; `None` before the first time.
    pub(super) fn last_round(&self) -> Option<Instant> {
        self.round
    }
}

/// [`Published`], shared between intake and scrapes.
pub(super) type Shared = Arc<Mutex<Published>>;

/// The rows of the families that an event goes to, and what else follows from its texts.
#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    traffic: usize,
    /// [`OVERFLOW_ROW`] as long as it is not known, like the next.
    gateway: usize,
    upstream: usize,
    method: u8,
}

/// The seats of the clients and routes that were met last, each in a place that follows from the two. A power of two.
const SEATS: usize = 4_096;

/// A client and a route, and their seat.
type Taken = ([Shape; 2], Seat);

/// The intake side.
#[derive(Debug)]
pub(super) struct Recorder {
    since_us: i64,
    observed: u64,
    traffic: Family<3, Traffic>,
    seats: Box<[Option<Taken>]>,
    gateway: Family<2, GatewayTime>,
    upstreams: Family<2, Upstream>,
    requests: Budget,
    attempts: Budget,
    published: Shared,
}

impl Recorder {
    /// A recorder of the events from `since_us` (UTC microseconds) on.
    pub(super) fn new(config: &MetricsConfig, since_us: i64) -> Self {
        let bounds_us: Arc<[u32]> = config.duration_bounds_us.as_slice().into();
        let series_max = config.series_max as usize;
        let budget = Budget { series_max, ..Budget::default() };
        let histogram = Histogram::new(Arc::clone(&bounds_us));
        let published = Published {
            traffic: Snapshot::default(),
            gateway: Snapshot::default(),
            upstreams: Snapshot::default(),
            requests: budget,
            attempts: budget,
            bounds_us,
            round: None,
        };
        let traffic = Traffic {
            requests: Vec::new(),
            duration: histogram.clone(),
            request_bytes: 0,
            response_bytes: 0,
        };
        Self {
            since_us,
            observed: 0,
            traffic: Family::new(series_max, traffic),
            seats: vec![None; SEATS].into_boxed_slice(),
            gateway: Family::new(series_max, GatewayTime(histogram.clone())),
            upstreams: Family::new(series_max, Upstream { duration: histogram, attempts: Vec::new() }),
            requests: budget,
            attempts: budget,
            published: Arc::new(Mutex::new(published)),
        }
    }

    /// What scrapes read.
    pub(super) fn published(&self) -> Shared {
        Arc::clone(&self.published)
    }

    /// Events counted so far.
    pub(super) fn observed(&self) -> u64 {
        self.observed
    }

    /// Adds one event.
    pub(super) fn observe(&mut self, event: &RequestEvent<'_>) {
        let head = event.head;
        if head.time_us < self.since_us {
            return;
        }
        self.observed += 1;
        let exemplar = (head.sampled != 0 && head.trace_id != [0; 16]).then(|| Exemplar {
            trace_id: head.trace_id,
            value_us: head.duration_us,
            time_us: head.time_us.saturating_add(i64::from(head.duration_us)),
        });
        let (shapes, mut seat) = self.seat(event);
        self.observe_traffic(seat, event, exemplar);
        let before = (seat.gateway, seat.upstream);
        if head.gateway_us != ABSENT_U32 {
            if seat.gateway == OVERFLOW_ROW {
                seat.gateway = self.gateway.row_of([service(event), route(event)]);
            }
            self.gateway.touch(seat.gateway).0.observe(head.gateway_us);
        }
        // A service with a plain URL has an upstream without a name; its attempts count all the same.
        let attempted = event.attempts().next().is_some();
        if attempted || event.text(Text::Upstream).is_some() {
            if seat.upstream == OVERFLOW_ROW {
                let upstream = event.text(Text::Upstream).unwrap_or_default();
                seat.upstream = self.upstreams.row_of([service(event), upstream]);
            }
            self.observe_upstream(seat.upstream, event, exemplar);
        }
        if let Some(shapes) = shapes.filter(|_| before != (seat.gateway, seat.upstream)) {
            self.seats[place(shapes)] = Some((shapes, seat));
        }
    }

    /// Where an event goes: as the last one of its client and its route, or by its texts.
    #[inline]
    fn seat(&mut self, event: &RequestEvent<'_>) -> (Option<[Shape; 2]>, Seat) {
        let shapes =
            event.shape(Run::Client).zip(event.shape(Run::Route)).map(|(client, route)| [client, route]);
        if let Some(shapes) = shapes
            && let Some((_, seat)) = self.seats[place(shapes)].filter(|(taken, _)| *taken == shapes)
        {
            return (Some(shapes), seat);
        }
        let consumer = event.text(Text::Consumer).unwrap_or_default();
        let traffic = self.traffic.row_of([service(event), route(event), consumer]);
        let method = method_index(event.text(Text::Method).unwrap_or_default());
        let seat = Seat { traffic, method, ..Seat::default() };
        // Each event of the overflow row is counted by the look for its row, so that has no seat.
        let shapes = shapes.filter(|_| traffic != OVERFLOW_ROW);
        if let Some(shapes) = shapes {
            self.seats[place(shapes)] = Some((shapes, seat));
        }
        (shapes, seat)
    }

    fn observe_traffic(&mut self, seat: Seat, event: &RequestEvent<'_>, exemplar: Option<Exemplar>) {
        let head = event.head;
        let traffic = self.traffic.touch(seat.traffic);
        let bucket = traffic.duration.observe(head.duration_us);
        if let Some(exemplar) = exemplar {
            traffic.duration.exemplify(bucket, exemplar);
        }
        traffic.request_bytes = traffic.request_bytes.wrapping_add(head.request_bytes);
        traffic.response_bytes = traffic.response_bytes.wrapping_add(head.response_bytes);
        let (method, status_class) = (seat.method, status_class(head.status));
        let known = traffic.requests.iter_mut().find(|known| {
            known.method == method && known.status_class == status_class && known.source_code == head.source
        });
        match known {
            Some(known) => known.count += 1,
            None if seat.traffic == OVERFLOW_ROW => self.requests.overflowed += 1,
            None if self.requests.admit() => traffic.requests.push(RequestCount {
                method,
                status_class,
                source_code: head.source,
                source: event.source().as_str(),
                count: 1,
            }),
            None => {}
        }
    }

    fn observe_upstream(&mut self, row: usize, event: &RequestEvent<'_>, exemplar: Option<Exemplar>) {
        let overflow = row == OVERFLOW_ROW;
        let upstream = self.upstreams.touch(row);
        let upstream_us = event.head.upstream_us;
        let mut attempted = false;
        for attempt in event.attempts() {
            attempted = true;
            let outcome = match attempt.error {
                event::AttemptError::None => "ok",
                error => error.as_str(),
            };
            match upstream.attempts.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, count)) => *count += 1,
                None if overflow => self.attempts.overflowed += 1,
                None if self.attempts.admit() => upstream.attempts.push((outcome, 1)),
                None => {}
            }
        }
        // An upstream that was chosen but never tried (open circuit, no healthy target) has no duration.
        if attempted && upstream_us != ABSENT_U32 {
            let bucket = upstream.duration.observe(upstream_us);
            if let Some(exemplar) = exemplar {
                upstream.duration.exemplify(bucket, Exemplar { value_us: upstream_us, ..exemplar });
            }
        }
    }

    /// Publishes what changed, unless a scrape is reading just now: then the next round does.
    pub(super) fn flush(&mut self) {
        let shared = Arc::clone(&self.published);
        match shared.try_lock() {
            Ok(mut published) => self.publish(&mut published),
            Err(TryLockError::Poisoned(poisoned)) => self.publish(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Publishes what changed, after the scrape that is reading, if any.
    pub(super) fn flush_last(&mut self) {
        let shared = Arc::clone(&self.published);
        let mut published = shared.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(&mut published);
    }

    fn publish(&mut self, published: &mut Published) {
        self.traffic.publish(&mut published.traffic);
        self.gateway.publish(&mut published.gateway);
        self.upstreams.publish(&mut published.upstreams);
        published.requests = self.requests;
        published.attempts = self.attempts;
        published.round = Some(Instant::now());
    }
}

fn service<'a>(event: &RequestEvent<'a>) -> &'a [u8] {
    event.text(Text::Service).unwrap_or_default()
}

fn route<'a>(event: &RequestEvent<'a>) -> &'a [u8] {
    event.text(Text::Route).unwrap_or_default()
}

/// Where the seat of a client and a route is.
fn place([client, route]: [Shape; 2]) -> usize {
    client.index.wrapping_mul(0x9e37_79b1).wrapping_add(route.index) as usize % SEATS
}

/// Index into [`METHODS`]; methods are case-sensitive (RFC 9110, section 9.1).
fn method_index(method: &[u8]) -> u8 {
    match method {
        b"GET" => 1,
        b"HEAD" => 2,
        b"POST" => 3,
        b"PUT" => 4,
        b"DELETE" => 5,
        b"CONNECT" => 6,
        b"OPTIONS" => 7,
        b"TRACE" => 8,
        b"PATCH" => 9,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::spool::{LaneReader, Spool, SpoolConfig};
    use event::{Attempt, AttemptError, Draft, Shapes};

    #[test]
    fn methods_map_to_their_names() {
        for (index, method) in METHODS.iter().enumerate().skip(1) {
            assert_eq!(usize::from(method_index(method.as_bytes())), index);
        }
        assert_eq!(METHODS[usize::from(method_index(b"get"))], "_OTHER");
    }

    /// With as many series as are allowed, and with fewer than there are label sets.
    #[test]
    fn clients_and_routes_that_are_known_count_as_their_texts_do() {
        let folder = tempfile::tempdir().unwrap();
        let (_spool, mut writers) = Spool::open(&SpoolConfig::default(), folder.path(), "n", 1).unwrap();
        let mut draft = Draft::new();
        for number in 0..2_000_u32 {
            draft.reset(1);
            draft.head.duration_us = number;
            draft.head.status = 200 + (number % 300) as u16;
            draft.head.gateway_us = if number % 5 == 0 { ABSENT_U32 } else { number % 90 };
            draft.head.upstream_us = number % 70;
            draft.text(Text::Service, format!("service-{}", number % 4).as_bytes());
            draft.text(Text::Route, format!("route-{}", number % 12).as_bytes());
            draft.text(Text::Method, if number % 3 == 0 { b"GET" } else { b"POST" });
            if number % 7 > 0 {
                draft.text(Text::Consumer, format!("consumer-{}", number % 3).as_bytes());
            }
            if number % 11 > 5 {
                draft.text(Text::Upstream, format!("upstream-{}", number % 2).as_bytes());
            }
            if number % 2 == 0 {
                draft.attempt(&Attempt {
                    addr: b"a",
                    status: 200,
                    error: if number % 13 == 0 { AttemptError::Reset } else { AttemptError::None },
                    start_us: 1,
                    duration_us: 1,
                    reused: true,
                    span_id: [1; 8],
                });
            }
            writers[0].append(&draft).unwrap();
        }
        for series_max in [10_000, 7] {
            let config = MetricsConfig { series_max, ..MetricsConfig::default() };
            let mut shapes = Shapes::new();
            let [by_shape, by_text] = [Some(&mut shapes), None].map(|shapes| {
                let mut recorder = Recorder::new(&config, 0);
                let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
                let read = reader.read_shapes(10_000, shapes, |event| recorder.observe(event));
                assert_eq!((read.unwrap(), recorder.observed()), (2_000, 2_000));
                recorder.flush_last();
                let published = recorder.published();
                let Published { traffic, gateway, upstreams, requests, attempts, .. } =
                    &*published.lock().unwrap();
                format!("{traffic:?} {gateway:?} {upstreams:?} {requests:?} {attempts:?}")
            });
            assert_eq!(by_shape, by_text);
        }
    }
}
