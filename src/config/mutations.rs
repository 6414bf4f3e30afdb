//! Thousands of slightly broken files and those that the fuzzer has found worth keeping: what must hold of any text holds
//! of them.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::holds::hold;
use super::kong::tests::{OLD, WHOLE};
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

/// What the gateway says of it.
fn judge(config: &Config) -> Result<u64, Vec<event::Problem>> {
    proxy::validate(&config.gateway, &config.entities()).map(|plan| plan.version())
}

#[test]
fn what_must_hold_holds_of_broken_files() {
    // A long text that says much is rarely still right.
    for (good, own, least) in [
        (include_str!("../../tollhouse.example.yaml"), 0, ROUNDS / 20),
        (&*WHOLE.replace("${{ env \"SECRET_KEY\" }}2", "$${literal}"), 1, ROUNDS / 40),
        (OLD, 1, ROUNDS / 20),
    ] {
        let mut random = StdRng::seed_from_u64(7);
        let mut taken = [0, 0];
        for _ in 0..ROUNDS {
            let text = broken(good, &mut random);
            let taken_as = hold::<Config>(&text, judge);
            taken.iter_mut().zip(taken_as).for_each(|(count, is)| *count += usize::from(is));
        }
        let refused = ROUNDS - taken[own];
        assert!(
            refused > ROUNDS / 4 && taken[own] > least,
            "{refused} refused, {taken:?} taken: too tame or too wild"
        );
    }
}

/// The other parts, too, say where it is wrong.
#[test]
fn what_all_parts_say_points_into_the_file() {
    let good = include_str!("../../tollhouse.example.yaml");
    let mut random = StdRng::seed_from_u64(8);
    for _ in 0..ROUNDS {
        let file = Some(("t.yaml".into(), broken(good, &mut random)));
        if let Ok(loaded) = load::<Config>(Sources { file, ..Sources::default() })
            && let Err(report) = validate(&loaded, Role::All)
        {
            assert!(report.count() > 0 && !report.snippets().is_empty());
        }
    }
}

#[test]
fn what_must_hold_holds_of_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/configuration");
    let (mut files, mut taken) = (0, [0, 0]);
    for file in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let taken_as = hold::<Config>(text, judge);
        taken.iter_mut().zip(taken_as).for_each(|(count, is)| *count += usize::from(is));
        files += 1;
    }
    assert!(files > 20 && taken[0] > 0 && taken[1] > 0, "{files} files, {taken:?} taken");
}
