//! Synthetic requests with the cardinality and the shape of real ones. The same seed gives the same rows.

use event::{Attempt, AttemptError, AuthMethod, Draft, Outcome, Source, Text, TlsVersion, ip_bytes};

/// Services.
pub const SERVICES: usize = 40;
/// Consumers.
pub const CONSUMERS: usize = 5_000;
const ROUTES_PER_SERVICE: usize = 3;
const AGENTS: usize = 60;
const HOSTS: usize = 6;
const CLIENTS: u32 = 50_000;
const IDS: u64 = 20_000;
/// Places of a table that turns a random number into a Zipf-distributed one.
const TABLE: usize = 1 << 16;
const VERBS: [&str; ROUTES_PER_SERVICE] = ["list", "item", "search"];
const NAMES: [&str; 8] = ["orders", "billing", "catalog", "users", "stock", "search", "mail", "reports"];

/// Makes requests, one after the other.
pub struct Traffic {
    chance: Chance,
    services: Vec<u16>,
    consumers: Vec<u16>,
    consumer_names: Vec<String>,
    service_names: Vec<String>,
    agents: Vec<String>,
    path: String,
}

/// Name of a service.
pub fn service(index: usize) -> String {
    format!("{}-{}", NAMES[index % NAMES.len()], index / NAMES.len() + 1)
}

impl Traffic {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            services: zipf(SERVICES, 0.8),
            consumers: zipf(CONSUMERS, 0.7),
            consumer_names: (0..CONSUMERS).map(|index| format!("consumer-{index:04}")).collect(),
            service_names: (0..SERVICES).map(service).collect(),
            agents: (0..AGENTS)
                .map(|index| format!("client-sdk/{}.{} (linux)", index / 10, index % 10))
                .collect(),
            path: String::new(),
        }
    }

    /// Fills a draft with the next request, received at `time_us`.
    pub fn next(&mut self, draft: &mut Draft, time_us: i64) {
        use std::fmt::Write;
        draft.reset(time_us);
        let service = usize::from(self.services[self.chance.below(TABLE as u64) as usize]);
        let consumer = usize::from(self.consumers[self.chance.below(TABLE as u64) as usize]);
        let verb = self.chance.below(ROUTES_PER_SERVICE as u64) as usize;
        let (status, outcome, source) = self.ending(service);
        let writes = verb == 1 && self.chance.below(4) == 0;

        // The median differs from service to service, from 1.5 ms to 60 ms.
        let median = 1_500.0 * 40_f64.powf(service as f64 / SERVICES as f64);
        let upstream_us = match outcome {
            Outcome::UpstreamTimeout => 30_000_000,
            _ => (median * (0.7 * self.chance.normal()).exp()) as u32,
        };
        let gateway_us = (60.0 * (0.4 * self.chance.normal()).exp()) as u32;
        let begun_us = gateway_us / 2;
        let upstream = source == Source::Upstream || outcome == Outcome::UpstreamTimeout;
        let body_us = if source == Source::Upstream { upstream_us / 16 } else { 0 };
        let duration_us = if upstream { gateway_us + upstream_us + body_us } else { gateway_us };

        let ids: [u64; 6] = std::array::from_fn(|_| self.chance.next());
        let head = &mut draft.head;
        head.request_id = join(ids[0], ids[1]);
        head.trace_id = join(ids[2], ids[3]);
        head.span_id = ids[4].to_le_bytes();
        head.config_version = 7;
        head.duration_us = duration_us;
        head.gateway_us = gateway_us;
        head.auth_us = 3 + (ids[0] % 5) as u32;
        head.status = status;
        head.outcome = outcome as u8;
        head.source = source as u8;
        head.auth_method = AuthMethod::KeyAuth as u8;
        head.tls_version = TlsVersion::Tls13 as u8;
        head.sampled = 1;
        head.request_bytes = if writes { (400.0 * self.chance.normal().exp()) as u64 } else { 0 };
        head.response_bytes = (2_000.0 * (1.1 * self.chance.normal()).exp()) as u64;
        let client = self.chance.below(CLIENTS.into()) as u32;
        head.client_ip = ip_bytes(std::net::Ipv4Addr::from(0x0a00_0000 + client).into());
        head.peer_ip = ip_bytes(std::net::Ipv4Addr::new(10, 255, 0, (client % 4) as u8).into());
        if upstream {
            head.upstream_us = upstream_us;
            if source == Source::Upstream {
                head.first_byte_us = begun_us + upstream_us;
                head.response_body_us = body_us;
            }
            head.upstream_span_id = ids[5].to_le_bytes();
            if source == Source::Upstream {
                head.upstream_status = status;
            }
        }

        self.path.clear();
        let name = &self.service_names[service];
        let target = self.chance.below(IDS);
        write!(self.path, "/{name}/{}/{target}", VERBS[verb]).expect("a String takes any text");
        draft.text(Text::Listener, b"public");
        draft.text(Text::Method, if writes { b"POST" } else { b"GET" });
        draft.text(Text::Host, format!("api{}.example.com", service % HOSTS).as_bytes());
        draft.text(Text::Path, self.path.as_bytes());
        draft.text(Text::Consumer, self.consumer_names[consumer].as_bytes());
        draft.text(Text::CredentialId, &self.consumer_names[consumer].as_bytes()[9..]);
        draft.text(Text::UserAgent, self.agents[consumer % AGENTS].as_bytes());
        draft.text(Text::Route, format!("{name}-{}", VERBS[verb]).as_bytes());
        draft.text(Text::Service, name.as_bytes());
        draft.text(Text::Upstream, name.as_bytes());
        draft.text(Text::ContentType, b"application/json");
        if upstream {
            let addr = format!("10.1.{service}.{}:8080", 1 + target % 3);
            draft.text(Text::UpstreamAddr, addr.as_bytes());
            draft.attempt(&Attempt {
                addr: addr.as_bytes(),
                status: draft.head.upstream_status,
                error: match outcome {
                    Outcome::UpstreamTimeout => AttemptError::ReadTimeout,
                    _ => AttemptError::None,
                },
                start_us: begun_us,
                duration_us: upstream_us,
                reused: true,
                span_id: ids[5].to_le_bytes(),
            });
        }
    }

    /// Status, outcome and who answered. Every fifth service fails four times as often.
    fn ending(&mut self, service: usize) -> (u16, Outcome, Source) {
        let weight = if service.is_multiple_of(5) { 4 } else { 1 };
        match self.chance.below(100_000) {
            at if at < 300 * weight => (500, Outcome::Ok, Source::Upstream),
            at if at < 400 * weight => (503, Outcome::NoHealthyUpstream, Source::Gateway),
            at if at < 450 * weight => (504, Outcome::UpstreamTimeout, Source::Gateway),
            at if at < 3_500 => (404, Outcome::Ok, Source::Upstream),
            at if at < 4_300 => (429, Outcome::RateLimited, Source::Gateway),
            at if at < 8_000 => (201, Outcome::Ok, Source::Upstream),
            at if at < 10_000 => (304, Outcome::Ok, Source::Upstream),
            _ => (200, Outcome::Ok, Source::Upstream),
        }
    }
}

fn join(high: u64, low: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_le_bytes());
    id[8..].copy_from_slice(&low.to_le_bytes());
    id
}

/// A table whose even draw is Zipf-distributed; every value has at least one place.
fn zipf(values: usize, exponent: f64) -> Vec<u16> {
    let weights: Vec<f64> = (1..=values).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let mut table = Vec::with_capacity(TABLE);
    for (value, weight) in weights.iter().enumerate() {
        let places = (weight / total * (TABLE - values) as f64) as usize + 1;
        table.extend(std::iter::repeat_n(value as u16, places));
    }
    let first = table[0];
    table.resize(TABLE, first);
    table
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let [first, second] = [(); 2].map(|()| ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64);
        (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
    }
}
