//! However the bytes arrive, the verdict is the same: every input of the tables byte by byte, in every split in two,
//! and with hyper's buffer as small as can be.

use super::rules::{accepted, refused};
use super::{Outcome, run};

fn bytewise(input: &[u8]) -> Vec<&[u8]> {
    input.chunks(1).collect()
}

fn splits(input: &[u8], room: usize) -> impl Iterator<Item = Outcome> + '_ {
    let two = (1..input.len()).map(move |at| run(&[&input[..at], &input[at..]], room));
    two.chain(std::iter::once_with(move || run(&bytewise(input), room)))
}

#[test]
fn what_passes_whole_passes_in_pieces() {
    for (input, heads) in accepted() {
        for room in [1, 3, 4096] {
            for outcome in splits(&input, room) {
                assert_eq!(outcome.rule(), None, "{:?}", String::from_utf8_lossy(&input));
                assert_eq!(outcome.passed, input);
                assert_eq!(outcome.heads_seen, heads);
            }
        }
    }
}

#[test]
fn what_is_refused_whole_is_refused_in_pieces() {
    for (input, rule) in refused() {
        // The most that can pass: what was clean before the offending byte or line had come.
        let most = run(&bytewise(&input), 4096);
        for room in [1, 4096] {
            for outcome in splits(&input, room) {
                assert_eq!(outcome.rule(), Some(rule), "{:?}", String::from_utf8_lossy(&input));
                assert!(most.passed.starts_with(&outcome.passed));
                let in_body = outcome.violation.unwrap().in_body;
                assert_eq!(in_body, outcome.heads_seen == 1);
                assert_eq!(in_body, !outcome.passed.is_empty());
            }
        }
    }
}
