//! Checks the `gateway` section: addresses, certificates, bounds.

use super::listen_tls;
use super::{ListenPlan, StreamKinds, TrustedNetworks};
use crate::accept::ServerNames;
use crate::config::{GatewayConfig, Limits, Listen, ProxyProtocol, StreamListen, Timeouts};
use event::Problem;
use http::HeaderName;
use std::net::SocketAddr;

/// What a listener of requests speaks after TLS.
const HTTP: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

pub(super) struct Front {
    pub listeners: Vec<ListenPlan>,
    pub threads: u16,
    pub trusted: TrustedNetworks,
    pub source_service_header: HeaderName,
}

pub(super) fn check(
    config: &GatewayConfig,
    names: &ServerNames,
    problems: &mut Vec<Problem>,
) -> Option<Front> {
    if config.listen.is_empty() {
        problems.push(
            Problem::new("gateway.listen", "no listener: nobody could connect")
                .hint("leave `listen` out for 0.0.0.0:8000"),
        );
    }
    let mut listeners = Vec::new();
    for (at, listen) in config.listen.iter().enumerate() {
        let path = format!("gateway.listen[{at}]");
        if config.listen[..at].iter().any(|other| other.name == listen.name) {
            problems.push(
                Problem::new(format!("{path}.name"), format!("`{}` is used twice", listen.name))
                    .hint("give each listener its own name"),
            );
        }
        check_proxy_protocol(config, listen.proxy_protocol, &path, problems);
        listeners.extend(check_listen(listen, &path, names, problems));
    }
    for (at, listen) in config.stream_listen.iter().enumerate() {
        let path = format!("gateway.stream_listen[{at}]");
        let others = config.stream_listen[..at].iter().map(|other| &other.name);
        if others.chain(config.listen.iter().map(|other| &other.name)).any(|other| *other == listen.name) {
            problems.push(
                Problem::new(format!("{path}.name"), format!("`{}` is used twice", listen.name))
                    .hint("give each listener its own name"),
            );
        }
        check_proxy_protocol(config, listen.proxy_protocol, &path, problems);
        listeners.extend(check_stream_listen(listen, &path, names, problems));
    }
    let mut trusted = TrustedNetworks::default();
    for (at, text) in config.trusted_ips.iter().enumerate() {
        if !trusted.add(text) {
            problems.push(
                Problem::new(
                    format!("gateway.trusted_ips[{at}]"),
                    format!("`{text}` is not an address or network"),
                )
                .hint("like 10.0.0.0/8 or 192.168.1.7"),
            );
        }
    }
    if !(0.0..=1.0).contains(&config.sample_ratio) {
        problems.push(Problem::new("gateway.sample_ratio", "must be from 0 to 1"));
    }
    check_limits(&config.limits, problems);
    check_timeouts(&config.timeouts, problems);
    if config.threads > event::spool::CORES_MAX {
        let most = event::spool::CORES_MAX;
        problems.push(Problem::new("gateway.threads", format!("must be at most {most}")));
    }
    let threads = match config.threads {
        0 => std::thread::available_parallelism()
            .map_or(1, |n| u16::try_from(n.get()).unwrap_or(u16::MAX).min(event::spool::CORES_MAX)),
        threads => threads,
    };
    let Ok(source_service_header) = HeaderName::try_from(config.source_service_header.as_str()) else {
        problems.push(Problem::new(
            "gateway.source_service_header",
            format!("`{}` is not a header name", config.source_service_header),
        ));
        return None;
    };
    Some(Front { listeners, threads, trusted, source_service_header })
}

fn check_proxy_protocol(
    config: &GatewayConfig,
    mode: ProxyProtocol,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    if mode != ProxyProtocol::Off && config.trusted_ips.is_empty() {
        problems.push(
            Problem::new(format!("{path}.proxy_protocol"), "nobody is trusted to say who the client is")
                .hint("name the load balancers in `gateway.trusted_ips`"),
        );
    }
}

fn check_listen(
    listen: &Listen,
    path: &str,
    names: &ServerNames,
    problems: &mut Vec<Problem>,
) -> Option<ListenPlan> {
    let addr = check_address(&listen.address, path, problems);
    let tls = match &listen.tls {
        None => None,
        Some(tls) => Some(listen_tls::server_config(tls, names, &HTTP, &format!("{path}.tls"), problems)?),
    };
    let (name, proxy_protocol) = (listen.name.clone(), listen.proxy_protocol);
    Some(ListenPlan { open: true, name, addr: addr?, tls, proxy_protocol, streams: None })
}

fn check_stream_listen(
    listen: &StreamListen,
    path: &str,
    names: &ServerNames,
    problems: &mut Vec<Problem>,
) -> Option<ListenPlan> {
    let addr = check_address(&listen.address, path, problems);
    let tls = match &listen.tls {
        None => None,
        // What is spoken inside is nobody's business here: no protocol is chosen.
        Some(tls) => Some(listen_tls::server_config(tls, names, &[], &format!("{path}.tls"), problems)?),
    };
    let kinds = if tls.is_some() || listen.passthrough { StreamKinds::Tls } else { StreamKinds::Tcp };
    let (name, proxy_protocol) = (listen.name.clone(), listen.proxy_protocol);
    Some(ListenPlan { open: true, name, addr: addr?, tls, proxy_protocol, streams: Some(kinds) })
}

fn check_address(address: &str, path: &str, problems: &mut Vec<Problem>) -> Option<SocketAddr> {
    let addr = address.parse::<SocketAddr>();
    if addr.is_err() {
        problems.push(
            Problem::new(format!("{path}.address"), format!("`{address}` is not ip:port"))
                .hint("like 0.0.0.0:8000 or [::]:8443"),
        );
    }
    addr.ok()
}

fn check_limits(limits: &Limits, problems: &mut Vec<Problem>) {
    let mut within = |name: &str, value: u64, least: u64, most: u64| {
        if !(least..=most).contains(&value) {
            problems.push(Problem::new(
                format!("gateway.limits.{name}"),
                format!("must be from {least} to {most}"),
            ));
        }
    };
    let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    within("connections_max", size(limits.connections_max), 1, 1 << 24);
    within("connections_refused_max", size(limits.connections_refused_max), 0, 1 << 16);
    within("retry_after_s", u64::from(limits.retry_after_s), 0, 86_400);
    within("proxy_header_bytes_max", size(limits.proxy_header_bytes_max), 232, 65_551);
    within("client_hello_bytes_max", size(limits.client_hello_bytes_max), 512, 65_536);
    within("h2_resets_max", u64::from(limits.h2_resets_max), 1, 1 << 24);
    within("h2_control_frames_max", u64::from(limits.h2_control_frames_max), 10, 1 << 24);
    within("h2_errors_max", size(limits.h2_errors_max), 1, 1 << 24);
    within("header_bytes_max", size(limits.header_bytes_max), 1024, 1 << 20);
    within("header_count_max", size(limits.header_count_max), 8, 4096);
    within("request_line_bytes_max", size(limits.request_line_bytes_max), 256, 65_534);
    within("response_unsent_bytes_max", u64::from(limits.response_unsent_bytes_max), 0, 1 << 30);
    within("chunk_bytes_max", limits.chunk_bytes_max, 1, i64::MAX as u64);
    within("trailer_bytes_max", size(limits.trailer_bytes_max), 256, 16_383);
    within("drain_bytes_max", size(limits.drain_bytes_max), 0, 1 << 30);
    within("held_bytes_max", size(limits.held_bytes_max), 1, 1 << 20);
    within("h2_streams_max", u64::from(limits.h2_streams_max), 1, 1 << 16);
    within("upstream_idle_max", size(limits.upstream_idle_max), 0, 1 << 20);
    within("upstream_streams_max", size(limits.upstream_streams_max), 1, 1 << 16);
    within("response_header_bytes_max", size(limits.response_header_bytes_max), 8192, 1 << 20);
}

fn check_timeouts(timeouts: &Timeouts, problems: &mut Vec<Problem>) {
    /// A year: beyond it a number is a mistake.
    const LONGEST_MS: u64 = 31_536_000_000;
    for (name, value, most) in [
        ("header_timeout_ms", timeouts.header_timeout_ms, LONGEST_MS),
        ("idle_timeout_ms", timeouts.idle_timeout_ms, LONGEST_MS),
        ("body_idle_timeout_ms", timeouts.body_idle_timeout_ms, LONGEST_MS),
        ("tunnel_idle_timeout_ms", timeouts.tunnel_idle_timeout_ms, LONGEST_MS),
        ("stream_idle_timeout_ms", timeouts.stream_idle_timeout_ms, LONGEST_MS),
        ("upstream_idle_timeout_ms", timeouts.upstream_idle_timeout_ms, LONGEST_MS),
        ("linger_timeout_ms", timeouts.linger_timeout_ms, 600_000),
        ("sweep_interval_ms", timeouts.sweep_interval_ms, 10_000),
    ] {
        if !(1..=most).contains(&value) {
            problems.push(Problem::new(
                format!("gateway.timeouts.{name}"),
                format!("must be from 1 to {most} milliseconds"),
            ));
        }
    }
}
