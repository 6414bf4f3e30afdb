//! Each rule: what is refused and why, and next to it what must still pass.

use std::task::Poll;

use super::super::{METHOD_KEPT_BYTES_MAX, Rule, StrictIo, StrictLimits, TARGET_KEPT_BYTES_MAX};
use super::{Pieces, drain, flush, limits, read, run};

/// Inputs that pass whole, with the number of heads in them.
pub(super) fn accepted() -> Vec<(Vec<u8>, u64)> {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a.com\r\n\r\n").into_bytes();
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}").into_bytes();
    let mut inputs = vec![
        (get("Host: a\r\n"), 1),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), 1),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n".to_vec(), 1),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1),
        (b"M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1),
        (target("/a/%2e%2E/b?q=%00{}|^\\[]"), 1),
        (target("http://a.com"), 1),
        (target("http://a.com?q=1"), 1),
        (target("HTTP://A.com:80/x"), 1),
        (target("http://a.com./x"), 1),
        (b"GET https://a.com:443/ HTTP/1.1\r\nHost: a.com\r\n\r\n".to_vec(), 1),
        (b"GET http://a.com/ HTTP/1.0\r\n\r\n".to_vec(), 1),
        (get("hOST: \t a.com:8080 \t\r\nX-Empty:\r\nX-Tab: a\tb\r\nX-High: \u{e9}\r\n"), 1),
        (get("Host: [::1]:8080\r\n"), 1),
        (get("Host: [2001:db8::192.0.2.1]\r\n"), 1),
        (get("Host: a_b-c.D.1.:65535\r\n"), 1),
        (post("Content-Length: 5\r\n\r\nhello"), 1),
        (post("content-length:0\r\n\r\n"), 1),
        (post("Content-Length: \t 5 \t\r\n\r\nhe\n\0\r"), 1),
        (post("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 1),
        (
            post(&format!(
                "transfer-encoding:  Chunked\r\n\r\n5\r\nhello\r\n00aB\r\n{}\r\n0\r\n\r\n",
                "\r\n\0".repeat(57)
            )),
            1,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\n\r\n0000000000000001\r\nx\r\n0\r\nX-Sum: 1\r\nX-Two:\r\n\r\n",
            ),
            1,
        ),
        (post("Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"), 1),
        // HTTP/1.0 knows no upgrade; without `Connection: upgrade` it is none.
        (b"GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(), 1),
        (get("Host: a\r\nUpgrade: h2c\r\n"), 1),
    ];
    // Every one of them again twice in a row, and all in one line of requests.
    let twice: Vec<_> = inputs.iter().map(|(input, heads)| (input.repeat(2), heads * 2)).collect();
    let chain = (inputs.concat_inputs(), inputs.len() as u64);
    inputs.extend(twice);
    inputs.push(chain);
    inputs
}

trait Concat {
    fn concat_inputs(&self) -> Vec<u8>;
}

impl Concat for Vec<(Vec<u8>, u64)> {
    fn concat_inputs(&self) -> Vec<u8> {
        self.iter().flat_map(|(input, _)| input.clone()).collect()
    }
}

/// Inputs whose (only) message is refused.
pub(super) fn refused() -> Vec<(Vec<u8>, Rule)> {
    let mut inputs: Vec<(Vec<u8>, Rule)> = Vec::new();
    let mut add = |input: &str, rule: Rule| inputs.push((input.as_bytes().to_vec(), rule));
    // Line ends and control bytes.
    add("GET / HTTP/1.1\nHost: a\r\n\r\n", Rule::BareLf);
    add("GET / HTTP/1.1\r\nHost: a\n\r\n", Rule::BareLf);
    add("GET / HTTP/1.1\r\nHost: a\r\n\n", Rule::BareLf);
    add("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::BareLf);
    add("GET / HTTP/1.1\rHost: a\r\n\r\n", Rule::BareCr);
    add("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Rule::BareCr);
    add("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Rule::BareCr);
    add("\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::BareCr);
    add("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Rule::ControlByte);
    add("GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", Rule::ControlByte);
    add("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", Rule::ControlByte);
    add("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Rule::ControlByte);
    add("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::LeadingLines);
    // The request line.
    add("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine);
    add("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine);
    add("GET / a HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine);
    add("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Rule::RequestLine);
    add("GET /\r\nHost: a\r\n\r\n", Rule::RequestLine);
    add("GET\r\nHost: a\r\n\r\n", Rule::RequestLine);
    add(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Method);
    add("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Method);
    add("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Method);
    add("\u{16}\u{3}\u{1}", Rule::Method);
    add("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET a.com:80 HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    add("GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target);
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/1.10", "HTTP/01.1", "http/1.1", "HTTP/1,1", ""]
    {
        add(&format!("GET / {version}\r\nHost: a\r\n\r\n"), Rule::Version);
    }
    add("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Rule::Version);
    add("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n", Rule::Connect);
    add("CONNECT /x HTTP/1.0\r\n\r\n", Rule::Connect);
    add(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(87)), Rule::RequestLineTooLong);
    add(&"G".repeat(200), Rule::RequestLineTooLong);
    // Header lines.
    add("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Rule::LeadingSpace);
    add("GET / HTTP/1.1\r\n\tX: a\r\nHost: a\r\n\r\n", Rule::LeadingSpace);
    add("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Rule::ObsFold);
    add("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", Rule::ObsFold);
    add("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Rule::SpaceBeforeColon);
    add("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Rule::SpaceBeforeColon);
    add("GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\nHost: a\r\n\r\n", Rule::SpaceBeforeColon);
    add("GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", Rule::FieldName);
    add("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Rule::FieldName);
    add("GET / HTTP/1.1\r\nHost: a\r\nX@y: b\r\n\r\n", Rule::FieldName);
    add("GET / HTTP/1.1\r\nHost: a\r\n\u{e9}: b\r\n\r\n", Rule::FieldName);
    add(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(8)), Rule::TooManyFields);
    add(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(400)), Rule::HeadTooLarge);
    add(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(369)), Rule::HeadTooLarge);
    // Host.
    add("GET / HTTP/1.1\r\n\r\n", Rule::HostMissing);
    add("GET / HTTP/1.1\r\nHos: a\r\nXHost: a\r\n\r\n", Rule::HostMissing);
    add("GET http://a/ HTTP/1.1\r\n\r\n", Rule::HostMissing);
    add("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Rule::HostDuplicate);
    add("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Rule::HostDuplicate);
    for host in [
        "",
        " ",
        "u@a",
        "u:p@a",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a\tb",
        "a,b",
        "a:b",
        "a:",
        "a:+1",
        "a:0",
        "a:080",
        "a:65536",
        "a:111111",
        "a:80:80",
        ":80",
        ".",
        ".a",
        "a..b",
        "a\\b",
        "a%20b",
        "\u{e9}",
        "[::1",
        "::1",
        "[]",
        "[g::]",
        "[::1]a",
        "[::1%25eth0]",
        "[v1.a]",
        "a[::1]",
        "http://a",
        "\"a\"",
        "a;b",
        "(a)",
        "{a}",
    ] {
        add(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Rule::HostMalformed);
    }
    add(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(255)), Rule::HostMalformed);
    add("GET / HTTP/1.0\r\nHost:\r\n\r\n", Rule::HostMalformed);
    for (target, host) in
        [("http://a/", "b"), ("http://a:81/", "a"), ("https://a:80/", "a"), ("http://a/", "a:8080")]
    {
        add(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), Rule::HostMismatch);
    }
    // Framing.
    let mut framed =
        |lines: &str, rule: Rule| add(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\nxx"), rule);
    framed("Content-Length: 2\r\nContent-Length: 2\r\n", Rule::ContentLengthDuplicate);
    framed("Content-Length: 2\r\ncontent-length: 3\r\n", Rule::ContentLengthDuplicate);
    for value in [
        "2, 2",
        "2,2",
        "2 2",
        "+2",
        "-2",
        "0x2",
        "2_0",
        "02",
        "00",
        "",
        " ",
        "2.0",
        "2e1",
        "\u{664}",
        "\"2\"",
        "2;",
        "18446744073709551616",
        "18446744073709551615",
        "18446744073709551614",
        "99999999999999999999999",
    ] {
        framed(&format!("Content-Length: {value}\r\n"), Rule::ContentLengthMalformed);
    }
    framed("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", Rule::LengthAndEncoding);
    framed("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", Rule::LengthAndEncoding);
    framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Rule::EncodingDuplicate);
    framed("Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n", Rule::EncodingDuplicate);
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunke",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "\tchunked",
        "chunked ",
        "chunked\t",
        "ch unked",
        "cow",
        "\u{a0}chunked",
    ] {
        framed(&format!("Transfer-Encoding: {value}\r\n"), Rule::EncodingUnknown);
    }
    framed("Transfer-Encoding: \x0bchunked\r\n", Rule::ControlByte);
    framed("Transfer-Encoding:\r\n chunked\r\n", Rule::EncodingUnknown);
    framed("X: y\r\n Transfer-Encoding: chunked\r\n", Rule::ObsFold);
    add("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Rule::EncodingOnHttp10);
    // Chunks and trailers.
    let mut chunked = |body: &str, rule: Rule| {
        add(&format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), rule);
    };
    for size in [
        "+2",
        "-2",
        "0x2",
        "0X2",
        "2_0",
        " 2",
        "2 ",
        "\t2",
        "2\t",
        "",
        "g",
        "\u{b}2",
        "00000000000000002",
        "2,",
    ] {
        chunked(&format!("{size}\r\nxx\r\n0\r\n\r\n"), Rule::ChunkSize);
    }
    chunked("2;a=b\r\nxx\r\n0\r\n\r\n", Rule::ChunkExtension);
    chunked("2;\r\nxx\r\n0\r\n\r\n", Rule::ChunkExtension);
    chunked("0;\nx\r\n\r\n", Rule::ChunkExtension);
    chunked("10000\r\n", Rule::ChunkTooLarge);
    chunked("ffffffffffffffff\r\n", Rule::ChunkTooLarge);
    chunked("2\nxx\r\n0\r\n\r\n", Rule::BareLf);
    chunked("\nxx\r\n0\r\n\r\n", Rule::BareLf);
    chunked("2\rxx\r\n0\r\n\r\n", Rule::BareCr);
    for end in ["\n", "\r", "\r\r\n", "x\r\n", "", " \r\n"] {
        chunked(&format!("2\r\nxx{end}0\r\n\r\n"), Rule::ChunkEnd);
    }
    chunked("0\n\r\n", Rule::BareLf);
    chunked("0\r\n\n", Rule::BareLf);
    chunked("0\r\n\rx", Rule::BareCr);
    chunked("0\r\nX: a\n\r\n", Rule::BareLf);
    chunked("0\r\nX: a\0\r\n\r\n", Rule::ControlByte);
    chunked("0\r\n X: a\r\n\r\n", Rule::LeadingSpace);
    chunked("0\r\nX: a\r\n b\r\n\r\n", Rule::ObsFold);
    chunked("0\r\nX : a\r\n\r\n", Rule::SpaceBeforeColon);
    chunked("0\r\nGET / HTTP/1.1\r\n\r\n", Rule::SpaceBeforeColon);
    chunked("0\r\n: a\r\n\r\n", Rule::FieldName);
    for name in ["Content-Length", "transfer-encoding", "HOST", "Authorization", "X-Forwarded-For", "Trailer"]
    {
        chunked(&format!("0\r\nX: a\r\n{name}: 1\r\n\r\n"), Rule::TrailerForbidden);
    }
    chunked(&format!("0\r\n{}\r\n", "X:\r\n".repeat(9)), Rule::TooManyFields);
    chunked(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(60)), Rule::TrailersTooLarge);
    chunked(&format!("0\r\nX: {}\r\nY: {}\r\n\r\n", "y".repeat(25), "y".repeat(25)), Rule::TrailersTooLarge);
    inputs
}

#[test]
fn good_requests_pass_unchanged() {
    for (input, heads) in accepted() {
        let shown = String::from_utf8_lossy(&input).into_owned();
        let outcome = run(&[&input], 4096);
        assert_eq!(outcome.rule(), None, "{shown:?}");
        assert_eq!(outcome.passed, input, "{shown:?}");
        assert_eq!(outcome.heads_seen, heads, "{shown:?}");
    }
}

#[test]
fn bad_requests_are_refused_and_nothing_of_them_passes() {
    let before = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n";
    for (input, rule) in refused() {
        let shown = String::from_utf8_lossy(&input).into_owned();
        for lead in [&b""[..], before] {
            let whole = [lead, &input].concat();
            let outcome = run(&[&whole], 4096);
            assert_eq!(outcome.rule(), Some(rule), "{shown:?}");
            assert_eq!(outcome.passed, lead, "{shown:?}");
            assert_eq!(outcome.heads_seen, u64::from(!lead.is_empty()), "{shown:?}");
            assert!(!outcome.violation.unwrap().in_body, "{shown:?}");
        }
    }
}

#[test]
fn every_rule_has_a_status_and_the_table_covers_each() {
    for (_, rule) in refused() {
        let expected = match rule {
            Rule::Connect => 405,
            Rule::RequestLineTooLong => 414,
            Rule::HeadTooLarge | Rule::TooManyFields | Rule::TrailersTooLarge => 431,
            _ => 400,
        };
        assert_eq!(rule.status(), expected);
        assert!(!rule.reason().is_empty());
    }
    let covered: std::collections::HashSet<Rule> = refused().into_iter().map(|(_, rule)| rule).collect();
    assert_eq!(covered.len(), Rule::TrailersTooLarge as usize + 1);
}

#[test]
fn bounds_are_inclusive() {
    let line = "GET / HTTP/1.1";
    let head = format!("{line}\r\nHost: a\r\nX: 1\r\n\r\n");
    let exact = StrictLimits {
        head_bytes_max: head.len(),
        header_count_max: 2,
        request_line_bytes_max: line.len(),
        ..limits()
    };
    let rule = |limits: StrictLimits| {
        let (mut io, handle) = StrictIo::new(Pieces::new([head.as_bytes()]), limits);
        drain(&mut io, &handle, 4096).rule()
    };
    assert_eq!(rule(exact), None);
    assert_eq!(rule(StrictLimits { head_bytes_max: head.len() - 1, ..exact }), Some(Rule::HeadTooLarge));
    assert_eq!(rule(StrictLimits { header_count_max: 1, ..exact }), Some(Rule::TooManyFields));
    assert_eq!(
        rule(StrictLimits { request_line_bytes_max: line.len() - 1, ..exact }),
        Some(Rule::RequestLineTooLong)
    );
}

#[test]
fn the_record_gets_method_and_target_bounded() {
    let limits = StrictLimits::default();
    let violation = |input: String| {
        let (mut io, handle) = StrictIo::new(Pieces::new([input.as_bytes()]), limits);
        drain(&mut io, &handle, 4096).violation.unwrap()
    };
    let seen = violation("\r\nPUT /a?b=c HTTP/1.1\r\nHost: a\r\nBad name: x\r\n\r\n".into());
    assert_eq!((seen.method.as_deref(), seen.target.as_deref()), (Some(&b"PUT"[..]), Some(&b"/a?b=c"[..])));
    let seen = violation("POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz".into());
    assert_eq!((seen.method.as_deref(), seen.target.as_deref()), (Some(&b"POST"[..]), Some(&b"/b"[..])));
    let seen = violation(format!("{} /{} HTTP/1.1\r\n\r\n", "M".repeat(99), "t".repeat(4000)));
    assert_eq!(seen.method.unwrap().len(), METHOD_KEPT_BYTES_MAX);
    assert_eq!(seen.target.unwrap().len(), TARGET_KEPT_BYTES_MAX);
    let seen = violation("\u{16}".into());
    assert_eq!((seen.method, seen.target), (None, None));
}

#[test]
fn a_later_violation_waits_for_the_exchange_under_way() {
    let good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut io, handle) =
        StrictIo::new(Pieces::new([[&good[..], b"BAD\r\n\r\n"].concat().as_slice()]), limits());
    assert_eq!(ready(read(&mut io, 4096)), good);
    let exchange = handle.exchange();
    assert!(read(&mut io, 4096).is_pending());
    flush(&mut io);
    assert!(read(&mut io, 4096).is_pending(), "the exchange is still open");
    drop(exchange);
    assert!(read(&mut io, 4096).is_pending(), "its last bytes are not flushed");
    flush(&mut io);
    assert!(matches!(read(&mut io, 4096), Poll::Ready(Err(_))));
}

#[test]
fn a_violation_in_a_body_fails_its_own_exchange_at_once() {
    let head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut io, handle) = StrictIo::new(Pieces::new([&head[..], b"2\r\nhi\r\n2;\r\n"]), limits());
    assert_eq!(ready(read(&mut io, 4096)), head);
    let _exchange = handle.exchange();
    assert_eq!(ready(read(&mut io, 4096)), b"2\r\nhi\r\n");
    assert!(matches!(read(&mut io, 4096), Poll::Ready(Err(_))));
    let violation = handle.violation().unwrap();
    assert!(violation.in_body);
    assert_eq!((violation.method, violation.target), (None, None));
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: keep-alive, Upgrade\r\n\r\n";

#[test]
fn bytes_after_an_upgrade_are_held_until_it_is_decided() {
    // The tunnel: bytes that are no HTTP come out once it is on, and only then; no more than the bound is read ahead.
    let early = vec![b'\n'; 100];
    let (mut io, handle) =
        StrictIo::new(Pieces::new([[UPGRADE, b"\0"].concat().as_slice(), &early]), limits());
    assert_eq!(ready(read(&mut io, 4096)), UPGRADE);
    let exchange = handle.exchange();
    assert!(read(&mut io, 4096).is_pending());
    assert_eq!(io.pending_len(), limits().held_bytes_max);
    handle.tunnel();
    drop(exchange);
    let mut tunnelled = Vec::new();
    while tunnelled.len() < 101 {
        tunnelled.extend(ready(read(&mut io, 7)));
    }
    assert_eq!(tunnelled, [&b"\0"[..], &early].concat());
    assert_eq!(handle.violation(), None);

    // No tunnel: the next request, by the usual rules.
    for (next, rule) in [(&b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"[..], None), (b"\0", Some(Rule::Method))] {
        let (mut io, handle) = StrictIo::new(Pieces::new([[UPGRADE, next].concat().as_slice()]), limits());
        assert_eq!(ready(read(&mut io, 4096)), UPGRADE);
        let exchange = handle.exchange();
        assert!(!matches!(read(&mut io, 4096), Poll::Ready(Ok(bytes)) if !bytes.is_empty()));
        drop(exchange);
        flush(&mut io);
        let outcome = drain(&mut io, &handle, 4096);
        assert_eq!(outcome.rule(), rule);
        assert_eq!(outcome.passed, if rule.is_none() { next } else { b"" });
    }
}

#[test]
fn into_inner_gives_tunnel_bytes_and_no_others() {
    for (tunnel, expected) in [(true, &b"early"[..]), (false, b"")] {
        let (mut io, handle) =
            StrictIo::new(Pieces::new([[UPGRADE, b"early"].concat().as_slice()]), limits());
        assert_eq!(ready(read(&mut io, 4096)), UPGRADE);
        if tunnel {
            handle.tunnel();
        }
        assert_eq!(io.into_inner().1, expected);
    }
}

#[test]
fn the_clock_runs_while_a_head_is_incomplete() {
    let pieces: [&[u8]; 4] = [b"GET / HT", b"TP/1.1\r\nHost: a\r\n", b"\r\n", b"G"];
    let (mut io, handle) = StrictIo::new(Pieces::new(pieces), limits());
    assert_eq!(handle.head_started_at(), None);
    assert_eq!(ready(read(&mut io, 4096)).len(), 27);
    assert_eq!(handle.head_started_at(), None);
    assert_eq!(ready(read(&mut io, 4096)), b"");
    let began = handle.head_started_at().unwrap();
    assert_eq!(handle.heads_seen(), 1);
    let exchange = handle.exchange();
    assert_eq!(handle.head_started_at(), None, "nobody is slow while the gateway is");
    drop(exchange);
    assert!(handle.head_started_at().unwrap() > began);
}

fn ready(polled: Poll<std::io::Result<Vec<u8>>>) -> Vec<u8> {
    match polled {
        Poll::Ready(Ok(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}
