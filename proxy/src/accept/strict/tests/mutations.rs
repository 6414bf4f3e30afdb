//! Random mutations of valid requests: whatever the guard accepts, two other readers must see as exactly the same
//! requests and bodies. One is httparse with a straightforward framing reader (what hyper does), the other a reader
//! that forgives all it can (bare LF, white space anywhere), as careless servers do. A request appended to each
//! input tells where each reader thinks that the last body ends.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::StrictLimits;
use super::super::machine::Machine;
use super::super::readers::{PROBE, by_forgiving, by_httparse, guard, reader};

const ROUNDS: usize = 60_000;

const SEEDS: [&str; 7] = [
    "GET /a?b=c HTTP/1.1\r\nHost: a.com\r\nAccept: */*\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 11\r\n\r\nhello world",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nb\r\n hello worl\r\n0\r\n\r\n",
    "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
    "GET http://a.com/ HTTP/1.1\r\nHost: a.com:80\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /in HTTP/1.1\r\nHost: b\r\n\r\nx",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
];

const MORSELS: [&str; 28] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    "\0",
    "\x0b",
    ":",
    ",",
    ";",
    "0",
    "1",
    "5",
    "f",
    "-",
    "+",
    "0x",
    "_",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "chunked",
    "Host: b\r\n",
    "GET / HTTP/1.1\r\nHost: c\r\n\r\n",
    "HTTP/1.0",
    "0\r\n\r\n",
    ";ext=1",
];

fn mutate(rng: &mut StdRng, input: &mut Vec<u8>) {
    let at = rng.random_range(0..=input.len());
    match rng.random_range(0..5) {
        0 => drop(input.drain(at..(at + rng.random_range(1..4)).min(input.len()))),
        1 => {
            let piece = input[at..(at + rng.random_range(1..40)).min(input.len())].to_vec();
            let to = rng.random_range(0..=input.len());
            input.splice(to..to, piece);
        }
        2 if at < input.len() => input[at] = rng.random(),
        3 if at < input.len() => input[at] ^= 0x20,
        _ => drop(input.splice(at..at, MORSELS[rng.random_range(0..MORSELS.len())].bytes())),
    }
}

#[test]
fn what_passes_is_read_in_one_way() {
    let mut rng = StdRng::seed_from_u64(0x7011_4005);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let mut input = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            input.extend_from_slice(SEEDS[rng.random_range(0..SEEDS.len())].as_bytes());
        }
        for _ in 0..rng.random_range(0..4) {
            mutate(&mut rng, &mut input);
        }
        input.extend_from_slice(PROBE);
        let Some(heads) = guard(&input) else {
            refused += 1;
            continue;
        };
        passed += 1;
        let shown = String::from_utf8_lossy(&input);
        assert_eq!(heads, reader(&input, by_httparse), "{shown:?}");
        assert_eq!(heads, reader(&input, by_forgiving), "{shown:?}");
        // And in pieces it passes the same.
        let at = rng.random_range(0..=input.len());
        let mut machine = Machine::new(StrictLimits::default());
        let first = machine.scan(&input[..at]);
        let second = machine.scan(&input[first.clean..]);
        assert!(first.violation.is_none() && second.violation.is_none());
        assert_eq!(machine.heads_seen(), heads.len() as u64);
    }
    assert!(passed > ROUNDS / 10 && refused > ROUNDS / 10, "{passed} passed, {refused} refused");
}
