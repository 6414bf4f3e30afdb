//! Generated requests of realistic variety: a dozen routes, some hundreds of paths and clients, fifty consumers, a few
//! user agents, random ids. The same number gives the same request, in every arm and in every run.

use event::{Attempt, AttemptError, Draft, Outcome, Source, Text, ip_bytes};
use std::net::IpAddr;

const ROUTES: u64 = 12;
const PATHS_PER_ROUTE: u64 = 35;
const CONSUMERS: u64 = 50;
const CLIENTS: u64 = 400;
/// Requests that are made ahead; their texts repeat, their numbers and ids do not. A power of two.
const SHAPES: u64 = 8_192;
/// Microseconds between two requests.
pub const SPACING_US: i64 = 50;

const USER_AGENTS: [&str; 4] = [
    "curl/8.5.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "python-requests/2.32.3",
    "okhttp/4.12.0",
];

/// What repeats of a request.
pub struct Shape {
    pub method: &'static str,
    pub host: &'static str,
    pub path: String,
    pub user_agent: &'static str,
    pub consumer: String,
    pub credential: String,
    pub route: String,
    pub service: String,
    pub upstream: String,
    pub content_type: &'static str,
    pub addr: String,
    pub client: IpAddr,
    pub status: u16,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// One request: what repeats, and its own numbers.
pub struct Request<'a> {
    pub shape: &'a Shape,
    pub time_us: i64,
    pub request_id: [u8; 16],
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub upstream_span_id: [u8; 8],
    pub gateway_us: u32,
    pub upstream_us: u32,
    pub body_us: u32,
}

/// The traffic.
pub struct Traffic {
    shapes: Vec<Shape>,
    begin_us: i64,
}

impl Traffic {
    /// Traffic whose first request comes at a time (UTC microseconds).
    pub fn new(begin_us: i64) -> Self {
        Self { shapes: (0..SHAPES).map(shape).collect(), begin_us }
    }

    /// The request of a number.
    pub fn request(&self, number: u64) -> Request<'_> {
        let random = mix(number);
        let (low, high) = (random as u32, (random >> 32) as u32);
        let id = |salt: u64| random.wrapping_mul(salt) ^ (random >> 29);
        let wide = |salt: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&id(salt).to_le_bytes());
            bytes[8..].copy_from_slice(&id(salt ^ 0x9e37_79b9).to_le_bytes());
            bytes
        };
        // Most answers come quickly, a few take a hundred times as long.
        let upstream_us = 300 + low % 700 + if low.is_multiple_of(50) { high % 60_000 } else { high % 900 };
        Request {
            shape: &self.shapes[(random % SHAPES) as usize],
            time_us: self.begin_us + SPACING_US * number as i64 - i64::from(high % 500),
            request_id: wide(0xd6e8_feb8_6659_fd93),
            trace_id: wide(0xa076_1d64_78bd_642f),
            span_id: id(0xe703_7ed1_a0b4_28db).to_le_bytes(),
            upstream_span_id: id(0x8ebc_6af0_9c88_c6e3).to_le_bytes(),
            gateway_us: 20 + (low >> 8) % 40,
            upstream_us,
            body_us: (high >> 8) % 30,
        }
    }
}

impl Request<'_> {
    /// Fills a draft as the gateway does on the request's journey.
    pub fn fill(&self, draft: &mut Draft) {
        let shape = self.shape;
        draft.reset(self.time_us);
        let head = &mut draft.head;
        head.config_version = 7;
        head.request_id = self.request_id;
        head.trace_id = self.trace_id;
        head.span_id = self.span_id;
        head.upstream_span_id = self.upstream_span_id;
        head.client_ip = ip_bytes(shape.client);
        head.peer_ip = head.client_ip;
        head.auth_method = event::AuthMethod::KeyAuth as u8;
        head.outcome = Outcome::Ok as u8;
        head.source = Source::Upstream as u8;
        head.status = shape.status;
        head.upstream_status = shape.status;
        head.request_bytes = shape.request_bytes;
        head.response_bytes = shape.response_bytes;
        head.duration_us = self.duration_us();
        head.gateway_us = self.gateway_us;
        head.upstream_us = self.upstream_us;
        head.first_byte_us = self.upstream_us + self.gateway_us / 2;
        head.response_body_us = self.body_us;
        // The connection was there already.
        (head.queue_us, head.auth_us, head.request_body_us) = (0, 1, 0);
        draft.text(Text::Listener, b"http");
        draft.text(Text::Host, shape.host.as_bytes());
        draft.text(Text::Path, shape.path.as_bytes());
        draft.text(Text::Method, shape.method.as_bytes());
        draft.text(Text::UserAgent, shape.user_agent.as_bytes());
        draft.text(Text::Route, shape.route.as_bytes());
        draft.text(Text::Service, shape.service.as_bytes());
        draft.text(Text::Upstream, shape.upstream.as_bytes());
        draft.text(Text::Consumer, shape.consumer.as_bytes());
        draft.text(Text::CredentialId, shape.credential.as_bytes());
        draft.attempt(&Attempt {
            addr: shape.addr.as_bytes(),
            status: shape.status,
            error: AttemptError::None,
            start_us: self.gateway_us / 2,
            duration_us: self.upstream_us,
            reused: true,
            span_id: self.upstream_span_id,
        });
        draft.text(Text::UpstreamAddr, shape.addr.as_bytes());
        draft.text(Text::ContentType, shape.content_type.as_bytes());
    }

    pub fn duration_us(&self) -> u32 {
        self.gateway_us + self.upstream_us + self.body_us
    }
}

fn shape(number: u64) -> Shape {
    let random = mix(number ^ 0x5851_f42d_4c95_7f2d);
    let pick = |shift: u32, among: u64| (random >> shift) % among;
    // Few routes, paths and consumers have most of the traffic.
    let skewed = |shift: u32, among: u64| pick(shift, among) * pick(shift + 7, among) / among;
    let (route, consumer) = (skewed(0, ROUTES), skewed(9, CONSUMERS));
    let service = route / 2;
    Shape {
        method: ["GET", "GET", "GET", "POST", "PUT"][pick(20, 5) as usize],
        host: ["api.example.com", "shop.example.com"][pick(23, 2) as usize],
        path: format!("/api/v1/resource-{route}/items/{}", skewed(25, PATHS_PER_ROUTE)),
        user_agent: USER_AGENTS[pick(33, 4) as usize],
        consumer: format!("customer-{consumer:03}"),
        credential: format!("credential-{:08x}", mix(consumer) as u32),
        route: format!("resource-{route}"),
        service: format!("service-{service}"),
        upstream: format!("service-{service}.internal"),
        content_type: ["application/json", "application/json", "text/html; charset=utf-8"]
            [pick(37, 3) as usize],
        addr: format!("10.1.{service}.{}:8080", 1 + pick(39, 3)),
        client: IpAddr::from([10, 20, pick(41, CLIENTS / 100) as u8, pick(43, 100) as u8]),
        status: [200, 200, 200, 200, 200, 200, 201, 204, 304, 404][pick(46, 10) as usize],
        request_bytes: if pick(50, 4) == 0 { 100 + pick(52, 900) } else { 0 },
        response_bytes: 200 + pick(54, 60) * 17,
    }
}

/// Spread without a generator's state (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
