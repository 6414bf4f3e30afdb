//! The fixed part of a record: plain numbers that are copied into the spool as they stand.

use bytemuck::{Pod, Zeroable};
use std::net::{IpAddr, Ipv6Addr};

/// An absent duration: null in SQL.
pub const ABSENT_U32: u32 = u32::MAX;
/// An absent status: null in SQL.
pub const ABSENT_U16: u16 = u16::MAX;
/// An absent signed number: null in SQL.
pub const ABSENT_I64: i64 = i64::MIN;

/// Fixed fields of an event. Times and durations are microseconds, sizes bytes; an id of zeros is absent.
///
/// The enums of this crate are stored as their byte (`Outcome::Ok as u8`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "each field is described once, with its column, in `columns`")]
pub struct Head {
    pub time_us: i64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub config_version: u64,
    pub limit_remaining: i64,
    pub request_id: [u8; 16],
    pub trace_id: [u8; 16],
    pub client_ip: [u8; 16],
    pub peer_ip: [u8; 16],
    pub span_id: [u8; 8],
    pub parent_span_id: [u8; 8],
    pub upstream_span_id: [u8; 8],
    pub duration_us: u32,
    pub gateway_us: u32,
    pub upstream_us: u32,
    pub queue_us: u32,
    pub auth_us: u32,
    pub limit_us: u32,
    pub cache_us: u32,
    pub dns_us: u32,
    pub connect_us: u32,
    pub tls_us: u32,
    pub first_byte_us: u32,
    pub request_body_us: u32,
    pub response_body_us: u32,
    pub status: u16,
    pub upstream_status: u16,
    pub grpc_status: u16,
    pub role: u8,
    pub protocol: u8,
    pub scheme: u8,
    pub source: u8,
    pub outcome: u8,
    pub cache_status: u8,
    pub auth_method: u8,
    pub tls_version: u8,
    pub sampled: u8,
    reserved: [u8; 5],
}

impl Head {
    /// A head of which nothing is known but when the request came, in microseconds since 1970 (UTC).
    pub fn new(time_us: i64) -> Self {
        Self {
            time_us,
            limit_remaining: ABSENT_I64,
            gateway_us: ABSENT_U32,
            upstream_us: ABSENT_U32,
            queue_us: ABSENT_U32,
            auth_us: ABSENT_U32,
            limit_us: ABSENT_U32,
            cache_us: ABSENT_U32,
            dns_us: ABSENT_U32,
            connect_us: ABSENT_U32,
            tls_us: ABSENT_U32,
            first_byte_us: ABSENT_U32,
            request_body_us: ABSENT_U32,
            response_body_us: ABSENT_U32,
            status: ABSENT_U16,
            upstream_status: ABSENT_U16,
            grpc_status: ABSENT_U16,
            ..Self::zeroed()
        }
    }
}

/// An address as 16 bytes; IPv4 is mapped into IPv6 (RFC 4291, section 2.5.5.2).
pub fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of 16 bytes; none for all zeros.
pub fn ip_from_bytes(bytes: [u8; 16]) -> Option<IpAddr> {
    (bytes != [0; 16]).then(|| Ipv6Addr::from(bytes).to_canonical())
}
