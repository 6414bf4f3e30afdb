//! What must be refused: the client gets one refusal and the end, and nothing of it is forwarded, in whichever pieces
//! it comes.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::classes::{SMUGGLED, attacks};
use super::reader::{Rest, responses};
use super::stand::{Stand, is_made};
use super::support::DEADLINE;

/// A request on a connection of its own: whatever was forwarded before it has arrived. Its event is one more.
fn probe(stand: &Stand) {
    let heard = stand.send(&[b"GET /probe HTTP/1.1\r\nHost: a.com\r\n\r\n"]);
    assert_eq!(heard.fault, None);
    assert_eq!(heard.responses[0].status, 200);
}

/// Whether this text stands in what was forwarded.
fn has(stand: &Stand, text: &str) -> bool {
    stand.tap.seen(|seen| seen.bytes.windows(text.len()).any(|piece| piece == text.as_bytes()))
}

#[test]
fn nothing_of_an_attack_is_forwarded() {
    let stand = Stand::start(true);
    let (mut events, attacks) = (0, attacks());
    let good = b"GET /good HTTP/1.1\r\nHost: a.com\r\n\r\n";
    let kept = b"POST /good HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\n\r\nhello";
    for attack in &attacks {
        let shown = attack.bytes.escape_ascii();
        // Alone, behind good requests, and behind a body, each in one piece.
        for before in [&[][..], good, kept] {
            let bytes = [before, &attack.bytes].concat();
            let heard = stand.send(&[&bytes]);
            assert_eq!(heard.fault, None, "{}: {shown}", attack.class);
            let count = usize::from(!before.is_empty());
            assert_eq!(heard.requests.len(), count, "{}: {shown}", attack.class);
            assert_eq!(heard.responses[count].status, attack.status, "{}: {shown}", attack.class);
            assert!(heard.responses[..count].iter().all(|response| response.status == 200), "{shown}");
            events += heard.events();
        }
    }
    probe(&stand);
    for gone in ["attack", "smuggled"] {
        assert!(!has(&stand, gone), "`{gone}` was forwarded");
    }
    println!("{} attacks, each alone and behind two kinds of requests", attacks.len());
    stand.settle(events + 1);
}

#[test]
fn an_attack_in_pieces_is_refused_all_the_same() {
    let stand = Stand::start(true);
    let (mut events, mut sent) = (0, 0);
    for attack in attacks() {
        let bytes = &attack.bytes[..attack.bytes.len()];
        let own = bytes.len() - SMUGGLED.len();
        // Cut where its lines end, and within them.
        let mut cuts: Vec<usize> =
            (1..own).filter(|at| bytes[at - 1] == b'\n' || bytes[*at] == b'\n' || at % 29 == 0).collect();
        cuts.push(own);
        for cut in cuts {
            let heard = stand.send(&[&bytes[..cut], &bytes[cut..]]);
            let shown = bytes.escape_ascii();
            assert_eq!(heard.fault, None, "{} cut at {cut}: {shown}", attack.class);
            assert_eq!(heard.responses[0].status, attack.status, "{} cut at {cut}: {shown}", attack.class);
            events += heard.events();
            sent += 1;
            // A head may have gone on before its body broke, and then never looks whole.
            let may = matches!(heard.rest, Rest::BadBody(..));
            let broken = stand.tap.seen(|seen| std::mem::take(&mut seen.broken));
            assert!(may || broken.is_empty(), "{} cut at {cut}: {shown}", attack.class);
        }
    }
    probe(&stand);
    assert!(!has(&stand, "smuggled"));
    stand.tap.seen(|seen| {
        let whole =
            seen.requests.values().flatten().filter(|request| request.target.contains("attack")).count();
        assert_eq!(whole, 0, "an attack came through whole");
        assert_eq!(seen.faults, Vec::<String>::new());
    });
    println!("{sent} attacks in two pieces");
    stand.house.rows(events + 1);
}

#[test]
fn bombs_are_refused_by_their_size() {
    let stand = Stand::start(true);
    let fields = "X: y\r\n".repeat(101);
    let bombs = [
        (format!("GET /attack{} HTTP/1.1\r\nHost: a.com\r\n\r\n", "a".repeat(9_000)), 414),
        (format!("GET /attack?{} HTTP/1.1\r\nHost: a.com\r\n\r\n", "a".repeat(9_000)), 414),
        (format!("{} /attack HTTP/1.1\r\nHost: a.com\r\n\r\n", "A".repeat(9_000)), 414),
        (format!("GET /attack HTTP/1.1\r\nHost: a.com\r\n{fields}\r\n"), 431),
        (format!("GET /attack HTTP/1.1\r\nHost: a.com\r\nX: {}\r\n\r\n", "y".repeat(40_000)), 431),
        (format!("GET /attack HTTP/1.1\r\nHost: a.com\r\n{}: y\r\n\r\n", "x".repeat(40_000)), 431),
        (format!("GET /attack HTTP/1.1\r\nHost: a.com\r\nX: {}", "y".repeat(4 << 20)), 431),
        ("A".repeat(4 << 20), 414),
        (format!("GET /attack HTTP/1.1\r\nHost: a.com\r\n{}", "X: y\r\n".repeat(200_000)), 431),
        (
            format!(
                "POST /attack HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {}",
                "y".repeat(9_000)
            ),
            431,
        ),
        (
            format!(
                "POST /attack HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{fields}\r\n"
            ),
            431,
        ),
        ("POST /attack HTTP/1.1\r\nHost: a.com\r\nContent-Length: 65537\r\n\r\n".to_owned(), 413),
        (
            "POST /attack HTTP/1.1\r\nHost: a.com\r\nContent-Length: 18446744073709551613\r\n\r\n".to_owned(),
            413,
        ),
    ];
    let count = bombs.len() as u64;
    for (bomb, status) in bombs {
        let mut stream = TcpStream::connect(stand.house.gateway()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The gateway need not take all of it.
        let _written = stream.write_all(bomb.as_bytes());
        let mut got = Vec::new();
        let _reset = stream.read_to_end(&mut got);
        let shown = bomb[..bomb.len().min(80)].escape_debug();
        let (found, _) = responses(&got, &[], true);
        // A client that goes on sending for ever is reset at last, and may not see the answer.
        if bomb.len() < 1 << 20 {
            assert_eq!(found.len(), 1, "{shown}: {}", got.escape_ascii());
            assert!(
                found[0].status == status && found[0].closes && is_made(&found[0]),
                "{shown}: {}",
                found[0].status
            );
        }
    }
    probe(&stand);
    stand.tap.seen(|seen| {
        let whole =
            seen.requests.values().flatten().filter(|request| request.target.contains("attack")).count();
        assert_eq!((whole, seen.faults.len()), (0, 0));
    });
    stand.house.rows(count + 1);
}
