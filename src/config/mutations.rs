//! Thousands of slightly broken files: none makes the reader panic, and what it says points into the file.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::locate::Origin;
use super::{Config, Role, Sources, load, validate};

const ROUNDS: usize = 4000;

/// Pieces that YAML, the schema or the types may stumble over.
const PIECES: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "\n",
    "\t",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|\n",
    "~",
    "null",
    "-1",
    "1e400",
    "99999999999999999999",
    "${X}",
    "${",
    "\u{0}",
    "\u{feff}",
    "é\u{301}",
    "\r",
];

fn broken(text: &str, random: &mut StdRng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..letters.len());
        match random.random_range(0..4) {
            0 => drop(letters.remove(at)),
            1 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                letters.splice(at..at, piece.chars());
            }
            2 => {
                let to = random.random_range(0..letters.len());
                letters.swap(at, to);
            }
            _ => {
                let until = (at + random.random_range(1..40)).min(letters.len());
                let piece = letters[at..until].to_vec();
                letters.splice(at..at, piece);
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn no_broken_file_makes_the_reader_panic_or_point_nowhere() {
    let good = include_str!("../../tollhouse.example.yaml");
    let mut random = StdRng::seed_from_u64(7);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..ROUNDS {
        let text = broken(good, &mut random);
        let sources = Sources {
            file: Some(("t.yaml".into(), text.clone())),
            vars: BTreeMap::new(),
            ..Sources::default()
        };
        let report = match load::<Config>(sources) {
            Ok(loaded) => match validate(&loaded, Role::All) {
                Ok(_) => {
                    taken += 1;
                    continue;
                }
                Err(report) => report,
            },
            Err(report) => report,
        };
        refused += 1;
        assert!(report.count() > 0, "round {round}: refused for nothing:\n{text}");
        // Rendered too: a caret beyond its line would show here.
        assert!(!report.lines().is_empty() && !report.snippets().is_empty());
        let lines = text.split('\n').count();
        for finding in &report.findings {
            assert!(!finding.message.is_empty());
            if let Origin::File(mark) = finding.origin {
                assert!(mark.line >= 1 && mark.line <= lines + 1, "round {round}: {finding:?}\n{text}");
            }
        }
    }
    assert!(
        refused > ROUNDS / 4 && taken > ROUNDS / 20,
        "{refused} refused, {taken} taken: too tame or too wild"
    );
}
