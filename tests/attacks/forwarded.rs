//! What is odd and still a request: it is forwarded in one normal form, answered once, and what stands in a body stays
//! in it.

use super::classes::SMUGGLED;
use super::reader::{Request, Rest, all, field};
use super::stand::{Heard, Stand, id_of, is_made};
use super::support::site::ALICE_KEY;

/// What was forwarded of the one request that was answered last.
fn forwarded(stand: &Stand, heard: &Heard) -> Request {
    let id = id_of(heard.responses.last().unwrap());
    let found = stand.tap.seen(|seen| seen.requests.get(&id).cloned().unwrap_or_default());
    assert_eq!(found.len(), 1, "forwarded {} times: {heard:?}", found.len());
    found.into_iter().next().unwrap()
}

#[test]
fn a_body_nobody_wants_is_no_request() {
    let stand = Stand::start(true);
    let mut events = 0;
    let bytes = SMUGGLED.len();
    let after = "GET /after HTTP/1.1\r\nHost: a.com\r\n\r\n";
    // Wants a key, has no normal path, each with both framings: the body is read away, and the next request answered.
    for (target, status) in [("/private", 401), ("/%00", 400), ("/..%2f", 400)] {
        for (lines, body) in [
            (format!("Content-Length: {bytes}\r\n"), SMUGGLED.to_owned()),
            ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{bytes:x}\r\n{SMUGGLED}\r\n0\r\n\r\n")),
            (format!("Content-Length: {bytes}\r\nExpect: 100-continue\r\n"), SMUGGLED.to_owned()),
        ] {
            let first = format!("POST {target} HTTP/1.1\r\nHost: a.com\r\n{lines}\r\n");
            for pieces in [&[format!("{first}{body}{after}")][..], &[first, body, after.to_owned()]] {
                let pieces: Vec<_> = pieces.iter().map(String::as_bytes).collect();
                let heard = stand.send(&pieces);
                assert_eq!(heard.fault, None);
                let statuses: Vec<_> = heard.responses.iter().map(|response| response.status).collect();
                assert_eq!(statuses, [status, 200], "{target} {lines}");
                assert_eq!(forwarded(&stand, &heard).target, "/after");
                events += heard.events();
            }
        }
    }
    // One that is too long to be read away ends the connection.
    let first = "POST /private HTTP/1.1\r\nHost: a.com\r\nContent-Length: 10000000\r\n\r\n";
    let heard = stand.send(&[format!("{first}{SMUGGLED}").as_bytes()]);
    assert_eq!(heard.fault, None);
    events += heard.events();
    // With the key it is a body like any other, up to the service.
    let keyed = format!(
        "POST /private HTTP/1.1\r\nHost: a.com\r\napikey: {ALICE_KEY}\r\nContent-Length: {bytes}\r\n\r\n{SMUGGLED}{after}"
    );
    let heard = stand.send(&[keyed.as_bytes()]);
    assert_eq!((heard.fault.as_deref(), heard.responses.len()), (None, 2));
    events += heard.events();
    let smuggled = stand.tap.seen(|seen| {
        let targets = seen.requests.values().flatten().map(|request| request.target.clone());
        targets.filter(|target| target == "/smuggled").count()
    });
    assert_eq!(smuggled, 0);
    stand.settle(events);
}

#[test]
fn what_comes_before_a_101_is_no_tunnel() {
    let stand = Stand::start(true);
    let mut events = 0;
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: keep-alive, upgrade\r\nUpgrade: anything/1\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
    ] {
        let first = format!("GET /upgrade HTTP/1.1\r\nHost: a.com\r\n{lines}\r\n");
        // Nobody upgrades: what follows is read as what it is, a request or none.
        let heard = stand.send(&[format!("{first}GET /after HTTP/1.1\r\nHost: a.com\r\n\r\n").as_bytes()]);
        assert_eq!((heard.fault.as_deref(), heard.responses.len()), (None, 2), "{lines}");
        assert_eq!(forwarded(&stand, &heard).target, "/after");
        events += heard.events();
        let heard = stand.send(&[first.as_bytes(), b"\x81\x85tunnel"]);
        assert_eq!((heard.fault.as_deref(), heard.responses.len()), (None, 2), "{lines}");
        assert!(is_made(&heard.responses[1]) && heard.responses[1].status == 400, "{lines}");
        events += heard.events();
    }
    assert!(!stand.tap.seen(|seen| seen.bytes.windows(6).any(|piece| piece == b"tunnel")));
    stand.settle(events);
}

#[test]
fn a_path_has_one_form() {
    let stand = Stand::start(true);
    let mut events = 0;
    for (target, sent) in [
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E%2e/%2e/b", "/b"),
        ("/a/../../../b", "/b"),
        ("//a//b", "/a/b"),
        ("/./a/.", "/a/"),
        ("/%61%7e%5F", "/a~_"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%252e%252e%252fb", "/a%252e%252e%252fb"),
        ("/%25%32%65%25%32%65/b", "/%252e%252e/b"),
        ("/a;b/c;d=e", "/a;b/c;d=e"),
        ("/a%3f%23%20b", "/a%3F%23%20b"),
        ("/a%c3%a4", "/a%C3%A4"),
        ("/a?b=/../%2e%2e//c", "/a?b=/../%2e%2e//c"),
        ("/private/../a", "/a"),
        ("http://a.com", "/"),
        ("HTTP://A.com.:80/a/../b?c", "/b?c"),
        ("http://a.com?c", "/?c"),
    ] {
        let heard = stand.send(&[format!("GET {target} HTTP/1.1\r\nHost: a.com\r\n\r\n").as_bytes()]);
        assert_eq!(heard.fault, None);
        let found = forwarded(&stand, &heard);
        assert_eq!((found.target.as_str(), heard.responses[0].status), (sent, 200), "{target}");
        events += heard.events();
    }
    // Every way to the place behind the key asks for the key.
    for target in [
        "/private",
        "//private",
        "/./private",
        "/a/../private",
        "/%70rivate",
        "/a/%2e%2e/private/x",
        "/%2e/private",
        "http://a.com/private",
        "/private%2fx",
        "/private;x",
        "/private/%2e",
    ] {
        let heard = stand.send(&[format!("GET {target} HTTP/1.1\r\nHost: a.com\r\n\r\n").as_bytes()]);
        assert_eq!((heard.fault.as_deref(), heard.responses[0].status), (None, 401), "{target}");
        events += heard.events();
    }
    for target in [
        "/%",
        "/%4",
        "/%zz",
        "/%u002e",
        "/%00",
        "/a%0d%0aX:y",
        "/%0a",
        "/%7f",
        "/%1f",
        "/\\",
        "/a\\..\\private",
        "/..%2fprivate",
        "/..%5cprivate",
        "/%2e%2e%2fprivate",
        "/..;/private",
        "/..;x=y/private",
        "/.;/private",
        "/;/private",
        "/;x=y/private",
        "/a/%2e%2e;/private",
        "/%2e%2e%5c",
        "/a%2f..%2fb",
        "/%c0%ae%c0%ae/%00",
    ] {
        let heard = stand.send(&[format!("GET {target} HTTP/1.1\r\nHost: a.com\r\n\r\n").as_bytes()]);
        let first = &heard.responses[0];
        let refused = first.status == 400 && is_made(first);
        assert!(heard.fault.is_none() && refused, "{target}: {} {:?}", first.status, heard.fault);
        events += heard.events();
    }
    stand.settle(events);
}

#[test]
fn a_stranger_says_nothing_for_the_gateway() {
    let stand = Stand::start(true);
    let mut events = 0;
    let claims = [
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
        "X-Forwarded-For:",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Path: /evil",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-User: evil",
        "X-Forwarded-Evil: evil",
        "Forwarded: for=1.2.3.4;host=evil",
        "X-Real-IP: 1.2.3.4",
        "X-Request-Id: 11111111111111111111111111111111",
        "traceparent: evil",
        "X-Consumer-Id: evil",
        "X-Consumer-Username: evil",
        "X-Consumer-Custom-Id: evil",
        "X-Consumer-Groups: evil",
        "X-Credential-Identifier: evil",
        "X-Anonymous-Consumer: evil",
        "X_Consumer_Id: evil",
        "X-Consumer_Username: evil",
        "x_consumer-username: evil",
        "X_Credential_Identifier: evil",
        "X_Anonymous_Consumer: evil",
        "X_Forwarded_For: evil",
        "X-Forwarded_For: evil",
        "X_Forwarded_Proto: evil",
        "X_Real_IP: evil",
        "X_Request_Id: evil",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding_: chunked",
        "_Host: evil",
        "Proxy: http://evil",
        "Keep-Alive: evil",
        "Proxy-Connection: evil",
        "Proxy-Authorization: evil",
        "TE: gzip, evil",
        "Upgrade: evil",
        "HTTP2-Settings: evil",
        "Expect: evil",
        "Trailer: X-Consumer-Id",
    ];
    for claim in claims {
        let heard =
            stand.send(&[format!("GET /claim HTTP/1.1\r\nHost: a.com\r\n{claim}\r\n\r\n").as_bytes()]);
        assert_eq!((heard.fault.as_deref(), heard.responses.len()), (None, 1), "{claim}");
        let found = forwarded(&stand, &heard);
        let name = claim.split(':').next().unwrap().to_ascii_lowercase();
        let evil = |value: &[u8]| value.windows(4).any(|piece| piece == b"evil");
        let kept = ["_host", "transfer-encoding_", "trailer"].contains(&name.as_str());
        assert!(kept || !found.fields.iter().any(|(_, value)| evil(value)), "{claim}: {found:?}");
        events += heard.events();
    }
    // What `Connection` names goes, unless the gateway says it.
    let names = "Host, Content-Length, X-Forwarded-For, X-Forwarded-Host, X-Real-IP, X-Request-Id, traceparent, X-Own, Authorization";
    let text = format!(
        "POST /hop HTTP/1.1\r\nHost: a.com\r\nConnection: {names}, close\r\nX-Own: 1\r\nAuthorization: x\r\n\
         Content-Length: 5\r\n\r\nhello"
    );
    let heard = stand.send(&[text.as_bytes()]);
    assert_eq!(heard.fault, None);
    events += heard.events();
    let found = forwarded(&stand, &heard);
    assert_eq!((found.body.as_slice(), field(&found.fields, "x-own")), (&b"hello"[..], None));
    for kept in ["host", "authorization", "x-forwarded-host", "x-request-id", "x-real-ip", "traceparent"] {
        assert_eq!(all(&found.fields, kept).len(), 1, "{kept}");
    }
    stand.settle(events);
}

#[test]
fn old_and_odd_requests_are_answered_once() {
    let stand = Stand::start(true);
    let mut events = 0;
    for (text, count) in [
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.0\r\nHost: a\r\n\r\n", 1),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.0\r\n\r\n",
            2,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            1,
        ),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
            3,
        ),
        (
            "DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n03\r\nabc\r\n000\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            2,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            2,
        ),
    ] {
        let heard = stand.send(&[text.as_bytes()]);
        assert_eq!((heard.fault.as_deref(), heard.responses.len()), (None, count), "{text:?}");
        assert!(heard.responses.iter().all(|response| response.status == 200), "{text:?}");
        events += heard.events();
    }
    // A body that is announced and never comes whole is no whole request behind the gateway either.
    for text in [
        "POST /short HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        "POST /short HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "POST /short HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let heard = stand.send(&[text.as_bytes()]);
        assert_eq!(heard.fault, None);
        assert!(matches!(heard.rest, Rest::InBody(..)), "{text:?}");
        events += heard.events();
    }
    let odd = stand.tap.seen(|seen| {
        let targets = seen.requests.values().flatten().map(|request| request.target.clone());
        targets.filter(|target| target == "/smuggled" || target == "/short").count()
    });
    assert_eq!(odd, 0);
    stand.settle(events);
}
