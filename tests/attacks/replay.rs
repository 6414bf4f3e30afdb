//! Two hundred thousand mutated requests, several on a connection, some in pieces: whatever the gateway made of each, the
//! strict reader of the client's bytes foretold it, and the recorder, nginx and HAProxy saw the same.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::classes::attacks;
use super::mutate::{connection, cuts};
use super::reader::Rest;
use super::stand::{Heard, Stand};

/// Requests that the gateway must have judged.
const JUDGED: usize = 200_000;
/// Clients at once.
const CLIENTS: usize = 6;
/// Most tries at making a disagreement smaller.
const TRIES_MAX: usize = 300;

#[derive(Default)]
struct Tally {
    connections: usize,
    made: usize,
    accepted: usize,
    refused: usize,
    events: u64,
    disagreements: Vec<String>,
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends = cuts.to_vec();
    ends.push(bytes.len());
    let mut at = 0;
    ends.into_iter().map(|end| &bytes[std::mem::replace(&mut at, end)..end]).collect()
}

/// Sends and compares; what disagrees, and the events it made.
fn tried(stand: &Stand, pieces: &[&[u8]]) -> (Heard, Option<String>) {
    let heard = stand.send(pieces);
    let fault = heard.fault.clone().or_else(|| stand.compare(&heard));
    (heard, fault)
}

/// Takes pieces out of the bytes as long as what is left still disagrees.
fn smaller(stand: &Stand, mut bytes: Vec<u8>, events: &mut u64) -> Vec<u8> {
    let mut step = bytes.len() / 2;
    let mut tries = 0;
    while step > 0 && tries < TRIES_MAX {
        let mut at = 0;
        while at < bytes.len() && tries < TRIES_MAX {
            let less = [&bytes[..at], &bytes[bytes.len().min(at + step)..]].concat();
            let (heard, fault) = tried(stand, &[&less]);
            *events += heard.events();
            tries += 1;
            if fault.is_some() { bytes = less } else { at += step }
        }
        step /= 2;
    }
    bytes
}

#[test]
fn all_readers_agree_on_mutated_requests() {
    let stand = Stand::start(false);
    let (attacks, tally, began) = (attacks(), Mutex::new(Tally::default()), Instant::now());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (stand, attacks, tally) = (&stand, &attacks, &tally);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(0x7011_4005 + client as u64);
                let mut own = Tally::default();
                while own.accepted + own.refused < JUDGED / CLIENTS && own.disagreements.len() < 5 {
                    let (bytes, count) = connection(&mut rng, attacks);
                    let cuts = cuts(&mut rng, bytes.len());
                    let (heard, fault) = tried(stand, &cut(&bytes, &cuts));
                    own.connections += 1;
                    own.made += count;
                    own.accepted += heard.requests.len();
                    own.refused +=
                        usize::from(!matches!(heard.rest, Rest::None | Rest::InHead | Rest::InBody(..)));
                    own.events += heard.events();
                    if let Some(fault) = fault {
                        let small = smaller(stand, bytes, &mut own.events);
                        let (heard, again) = tried(stand, &[&small]);
                        own.events += heard.events();
                        let shown = small.escape_ascii().to_string();
                        own.disagreements.push(format!("{fault}\n  smaller: {shown}\n  {again:?}"));
                    }
                }
                let mut all = tally.lock().unwrap();
                all.connections += own.connections;
                all.made += own.made;
                all.accepted += own.accepted;
                all.refused += own.refused;
                all.events += own.events;
                all.disagreements.append(&mut own.disagreements);
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "{} mutated requests on {} connections; judged {}: accepted {}, refused {}; {} disagreements; {} s",
        tally.made,
        tally.connections,
        tally.accepted + tally.refused,
        tally.accepted,
        tally.refused,
        tally.disagreements.len(),
        began.elapsed().as_secs()
    );
    for disagreement in &tally.disagreements {
        println!("{disagreement}\n");
    }
    let faults = stand.tap.seen(|seen| seen.faults.iter().take(10).cloned().collect::<Vec<_>>());
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(tally.disagreements.is_empty());
    assert!(tally.accepted > JUDGED / 4 && tally.refused > JUDGED / 20, "both kinds are tried");
    stand.settle(tally.events);
    assert_eq!(
        stand.tap.seen(|seen| seen.requests.len()),
        0,
        "nothing was forwarded that nobody was answered"
    );
}
