//! HTTP/2 towards services that speak HTTP/1: what would become another request, another line or another end there is
//! refused, and everything else becomes exactly one request.

use super::classes::SMUGGLED;
use super::frames::{Fate, Line, data, headers, send};
use super::reader::Request;
use super::stand::Stand;

fn line(name: &str, value: &str) -> Line {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// A request for `/h2`, each of its pseudo-headers as it is or as it is given here.
fn with(given: &[(&str, &str)]) -> Vec<Line> {
    let usual = [(":method", "POST"), (":scheme", "http"), (":path", "/h2"), (":authority", "a.com")];
    let mut lines: Vec<_> = usual
        .into_iter()
        .map(|(name, value)| given.iter().find(|one| one.0 == name).copied().unwrap_or((name, value)))
        .map(|(name, value)| line(name, value))
        .collect();
    let more = given.iter().filter(|(name, _)| !usual.iter().any(|(known, _)| known == name));
    lines.extend(more.map(|(name, value)| line(name, value)));
    lines
}

/// What was forwarded since the last look.
fn taken(stand: &Stand) -> Vec<Request> {
    stand.tap.seen(|seen| {
        assert_eq!(seen.faults, Vec::<String>::new());
        std::mem::take(&mut seen.requests).into_values().flatten().collect()
    })
}

#[test]
fn what_http_1_would_read_otherwise_is_refused() {
    let stand = Stand::start(true);
    let gateway = stand.house.gateway();
    let split = format!("a\r\n\r\n{SMUGGLED}");
    let path = format!("/h2 HTTP/1.1\r\nHost: a.com\r\n\r\n{SMUGGLED}");
    let method = format!("GET /h2 HTTP/1.1\r\nHost: a.com\r\n\r\n{SMUGGLED}GET");
    let mut blocks: Vec<Vec<Line>> = Vec::new();
    for value in ["a\r\nx-b: c", "a\nx-b: c", "a\rb", "a\0b", "\na", "a\r\n", "a\u{1}b", "a\u{7f}b", &split] {
        for name in ["x-a", "cookie", "user-agent", "accept", "x-forwarded-for", "content-type"] {
            blocks.push(with(&[(name, value)]));
        }
    }
    for name in [
        "",
        "x a",
        "x\ta",
        "x:a",
        "x\r\na",
        "x\na",
        "x\0",
        "X-Upper",
        "x(",
        "x\u{7f}",
        "\u{e4}",
        "x-a: b\r\nx-c",
        " x",
        "x ",
        ":",
        ":evil",
        ":status",
        ":path ",
    ] {
        blocks.push(with(&[(name, "1")]));
    }
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, chunked"),
        ("host", "b.com"),
        ("host", "a.com:81"),
        ("host", "u@a.com"),
        ("host", ""),
        ("content-length", "5"),
        ("content-length", "+0"),
        ("content-length", "0, 0"),
        ("content-length", "x"),
        ("content-length", "-1"),
        ("content-length", "18446744073709551616"),
    ] {
        blocks.push(with(&[(name, value)]));
    }
    for value in [
        "",
        "h2",
        "/h 2",
        "/h2\t",
        "/h2\r\n",
        "/h2\nx: y",
        "/h2\0",
        "/h2 HTTP/1.1",
        &path,
        "*",
        "http://b.com/",
        "?h2",
        "/%00",
        "/..%2fh2",
        "/h\\2",
        "/h2\u{7f}",
        "/h2?\u{7f}",
        "/h2?a b",
        "/h2?a\r\nb",
        "/h2?\0",
    ] {
        blocks.push(with(&[(":path", value)]));
    }
    for value in ["", "GE T", "GET\r\n", "GET\0", "G(T", "GET /h2 HTTP/1.1", "CONNECT", &method] {
        blocks.push(with(&[(":method", value)]));
    }
    for value in [
        "",
        "a.com b",
        "a.com\r\nx: y",
        "a.com\0",
        "u@a.com",
        "a.com/x",
        "a.com:x",
        "a.com:99999",
        "a.com?x",
        "a.com#x",
        "[::1",
        "a,b",
        "a.com\\b",
        "\u{e4}.com",
    ] {
        blocks.push(with(&[(":authority", value)]));
    }
    for value in ["", "ht tp", "http\r\n", "http\0", "http://b.com/?", "1http"] {
        blocks.push(with(&[(":scheme", value)]));
    }
    for missing in [":method", ":scheme", ":path", ":authority"] {
        blocks.push(with(&[]).into_iter().filter(|(name, _)| name != missing.as_bytes()).collect());
    }
    for twice in [(":method", "GET"), (":path", "/smuggled"), (":authority", "b.com"), (":scheme", "https")] {
        blocks.push([with(&[]), vec![line(twice.0, twice.1)]].concat());
        // A pseudo-header behind a header.
        let rest = with(&[]).into_iter().filter(|(name, _)| name != twice.0.as_bytes()).collect();
        blocks.push([rest, vec![line("x-a", "b"), line(twice.0, twice.1)]].concat());
    }
    for second in ["a.com", "b.com"] {
        blocks.push(with(&[("host", "a.com"), ("host", second)]));
    }
    for (one, two) in [("0", "5"), ("5", "0"), ("5", "6")] {
        blocks.push(with(&[("content-length", one), ("content-length", two)]));
    }
    let count = blocks.len();
    for block in blocks {
        let shown: Vec<_> = block
            .iter()
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        let fate = send(gateway, &headers(&block, true));
        assert_ne!(fate, Fate::Answered(200), "{shown:?}");
        assert!(taken(&stand).is_empty(), "{shown:?}");
    }
    // Bombs, in one frame and in many.
    for lines in [
        vec![line("x-a", &"y".repeat(40_000))],
        vec![line("x-a", "y"); 20_000],
        vec![line(&"x".repeat(40_000), "y")],
    ] {
        let fate = send(gateway, &headers(&[with(&[]), lines].concat(), true));
        assert_ne!(fate, Fate::Answered(200));
        assert!(taken(&stand).is_empty());
    }
    println!("{count} header blocks refused");
}

#[test]
fn a_body_is_as_long_as_it_says() {
    let stand = Stand::start(true);
    let gateway = stand.house.gateway();
    for (length, pieces) in [
        ("5", &[][..]),
        ("5", &["abc"]),
        ("5", &["abc", "d"]),
        ("5", &["abcdefgh"]),
        ("5", &["abc", "defgh"]),
        ("0", &["a"]),
        ("0", &[SMUGGLED]),
        ("1", &[SMUGGLED]),
    ] {
        let mut frames = headers(&with(&[("content-length", length)]), false);
        for piece in pieces {
            frames.extend(data(piece.as_bytes(), false));
        }
        frames.extend(data(b"", true));
        let fate = send(gateway, &frames);
        assert_ne!(fate, Fate::Answered(200), "{length} {pieces:?}");
        assert!(taken(&stand).is_empty(), "{length} {pieces:?}");
    }
    // Trailers that say too much end the request or stay behind.
    for (name, value) in [
        (":path", "/smuggled"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("host", "b.com"),
        ("x-a", "b\r\nc: d"),
        ("X-A", "b"),
        ("x-consumer-id", "1"),
        ("x-forwarded-for", "1"),
        ("authorization", "x"),
    ] {
        let mut frames = headers(&with(&[]), false);
        frames.extend(data(b"abc", false));
        frames.extend(headers(&[line(name, value)], true));
        send(gateway, &frames);
        for request in taken(&stand) {
            assert_eq!(
                (request.body.as_slice(), request.trailers.len()),
                (&b"abc"[..], 0),
                "{name}: {value}"
            );
        }
    }
}

#[test]
fn what_is_right_becomes_one_request() {
    let stand = Stand::start(true);
    let gateway = stand.house.gateway();
    let all = |given: &[(&str, &str)], pieces: &[&str]| {
        let mut frames = headers(&with(given), pieces.is_empty());
        for (at, piece) in pieces.iter().enumerate() {
            frames.extend(data(piece.as_bytes(), at + 1 == pieces.len()));
        }
        let fate = send(gateway, &frames);
        assert_eq!(fate, Fate::Answered(200), "{given:?} {pieces:?}");
        let mut found = taken(&stand);
        assert_eq!(found.len(), 1, "{given:?} {pieces:?}");
        let request = found.remove(0);
        assert_eq!(request.body, pieces.concat().as_bytes(), "{given:?}");
        request
    };
    let mut events = 0;
    let mut one = |given: &[(&str, &str)], pieces: &[&str]| {
        events += 1;
        all(given, pieces)
    };
    let length = SMUGGLED.len().to_string();
    one(&[], &[]);
    one(&[], &[SMUGGLED]);
    one(&[], &["0\r\n\r\n", SMUGGLED]);
    one(&[("content-length", &length)], &[SMUGGLED]);
    one(&[("content-length", "0")], &[]);
    one(&[(":method", "GET")], &[SMUGGLED]);
    one(&[(":method", "DELETE"), ("content-length", "5")], &["ab", "cde"]);
    for (path, sent) in
        [("/a/%2e%2e/b", "/b"), ("//a", "/a"), ("/a?b=c#d", "/a?b=c"), ("/a?b{}|^", "/a?b{}|^")]
    {
        assert_eq!(one(&[(":path", path)], &[]).target, sent, "{path}");
    }
    let own = [
        ("x_consumer_username", "root"),
        ("x-consumer-username", "root"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
    ];
    one(&own, &[]);
    one(
        &[
            ("forwarded", "for=1"),
            ("x_forwarded_for", "1"),
            ("proxy", "x"),
            ("expect", "100-continue"),
            ("te", "trailers"),
        ],
        &["a"],
    );
    one(
        &[
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
            ("http2-settings", "x"),
            ("proxy-authorization", "x"),
        ],
        &[],
    );
    one(&[("host", "a.com")], &[]);
    one(&[("host", "A.com.:80")], &[]);
    stand.settle(events);
}
