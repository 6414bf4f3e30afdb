//! What `tollhouse storage` found, in words and columns for people.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use collector::storage::{Checked, FileView, Part, Problem, Repaired, TableView};
use event::layout::DataFolder;
use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const BAD: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const HEAD: Style = Style::new().bold();

/// The same for programs.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::part("cannot write JSON", error))?;
    anstream::println!("{text}");
    Ok(())
}

/// Bytes with a unit.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

pub(super) fn checked(folder: &DataFolder, checked: &Checked) {
    let root = folder.root().display();
    problems(&checked.problems);
    anstream::println!(
        "{root}: {} sealed files with {} rows in {}; {} files of roll-ups; {} hot files with {} rows; {} events in the \
         spool",
        checked.files,
        checked.rows,
        bytes(checked.bytes),
        checked.rollups,
        checked.hot_files,
        checked.hot_rows,
        checked.spool_events,
    );
    if checked.removed > 0 {
        anstream::println!("{} files left the table and are deleted after their grace", checked.removed);
    }
    if checked.rows_set_aside > 0 {
        anstream::println!("{} rows were set aside earlier: see {root}/quarantine", checked.rows_set_aside);
    }
    if checked.at_work {
        anstream::println!("a collector is at work here: what it was just writing was not looked at");
    }
    let deep = if checked.deep { ", and no event is there twice" } else { "" };
    match checked.problems.len() {
        0 => anstream::println!("{GOOD}ok{GOOD:#}: every file is what was written{deep}"),
        1 => anstream::println!("{BAD}1 problem{BAD:#}"),
        count => anstream::println!("{BAD}{count} problems{BAD:#}"),
    }
}

fn problems(problems: &[Problem]) {
    for Problem { file, what, advice, rows, .. } in problems {
        let rows = rows.map(|rows| format!(" ({rows} rows)")).unwrap_or_default();
        anstream::println!("{BAD}{file}{BAD:#}: {what}{rows}\n  what to do: {advice}");
    }
}

pub(super) fn repaired(folder: &DataFolder, repaired: &Repaired) {
    for aside in &repaired.set_aside {
        let kept = match aside.kept.as_str() {
            "" => "there was nothing to keep".to_owned(),
            kept => format!("kept as {kept}"),
        };
        let rows = match aside.rows {
            0 => "no row of the table was in it".to_owned(),
            rows => format!("{rows} rows are missing from now on"),
        };
        anstream::println!("{}: {}; {kept}; {rows}", aside.file, aside.what);
    }
    for file in &repaired.removed {
        anstream::println!("{file}: half a file, removed");
    }
    problems(&repaired.left);
    let root = folder.root().display();
    match (repaired.left.len(), repaired.rows_missing) {
        (0, 0) => anstream::println!("{GOOD}ok{GOOD:#}: {root} is in order, no row is missing"),
        (0, rows) => anstream::println!("{root} is in order; {BAD}{rows} rows are missing{BAD:#}"),
        (1, _) => anstream::println!("{BAD}1 problem is left{BAD:#}"),
        (left, _) => anstream::println!("{BAD}{left} problems are left{BAD:#}"),
    }
}

pub(super) fn table(folder: &DataFolder, view: &TableView) {
    let heads = ["files", "rows", "bytes", "bytes/row", "first", "last"];
    let lines = |parts: &mut dyn Iterator<Item = (String, Part)>, name: &str| {
        let mut lines = vec![[&[name], &heads[..]].concat().into_iter().map(str::to_owned).collect()];
        lines.extend(parts.map(|(name, part)| line(name, part)));
        lines
    };
    anstream::println!("{}", folder.root().display());
    let mut hours = view.hours.iter().map(|(name, part)| (name.clone(), *part));
    columns(&lines(&mut hours, "hour"));
    let levels: BTreeMap<u8, Part> = view.levels.clone();
    let mut levels = levels
        .into_iter()
        .map(|(level, part)| (level.to_string(), part))
        .chain([("all".to_owned(), view.all)]);
    columns(&lines(&mut levels, "level"));
    if view.removed > 0 {
        anstream::println!("{} files left the table and are deleted after their grace", view.removed);
    }
    if view.rows_set_aside > 0 {
        anstream::println!("{} rows were set aside with damaged files", view.rows_set_aside);
    }
}

fn line(name: String, part: Part) -> Vec<String> {
    let time = |us| match part.files {
        0 => String::new(),
        _ => Timestamp::from_microsecond(us).map(|time| format!("{time:.3}")).unwrap_or_default(),
    };
    vec![
        name,
        part.files.to_string(),
        part.rows.to_string(),
        bytes(part.bytes),
        per_row(part.bytes, part.rows),
        time(part.time_min_us),
        time(part.time_max_us),
    ]
}

fn per_row(bytes: u64, rows: u64) -> String {
    if rows == 0 { String::new() } else { format!("{:.3}", bytes as f64 / rows as f64) }
}

pub(super) fn files(view: &FileView) {
    for file in &view.files {
        anstream::println!("{file}");
    }
    anstream::println!(
        "{} rows in {} row groups, {}, {} bytes/row; by {}{}",
        view.rows,
        view.row_groups,
        bytes(view.bytes),
        per_row(view.bytes, view.rows),
        view.created_by.join(", "),
        view.said.iter().map(|said| format!("; {said}")).collect::<String>(),
    );
    let heads =
        ["column", "bytes", "bytes/row", "raw/row", "bloom/row", "nulls", "encoding", "least", "greatest"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let mut largest: Vec<_> = view.columns.iter().collect();
    largest.sort_by_key(|column| std::cmp::Reverse(column.bytes + column.bloom_bytes));
    for column in largest {
        let (least, greatest) = column.bounds.clone().unwrap_or_default();
        let bloom =
            if column.bloom_bytes == 0 { String::new() } else { per_row(column.bloom_bytes, view.rows) };
        lines.push(vec![
            column.name.clone(),
            column.bytes.to_string(),
            per_row(column.bytes, view.rows),
            per_row(column.bytes_raw, view.rows),
            bloom,
            column.nulls.to_string(),
            column.encodings.join(" "),
            short(&least),
            short(&greatest),
        ]);
    }
    columns(&lines);
}

/// A text that cannot harm a terminal, and fits.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 28;
    let clean = text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter });
    let mut shown: String = clean.take(CHARS_MAX).collect();
    if text.chars().count() > CHARS_MAX {
        shown.push('\u{2026}');
    }
    shown
}

/// Lines whose cells stand below each other, the first as the head; numbers to the right.
fn columns(lines: &[Vec<String>]) {
    let Some(head) = lines.first() else { return };
    let width = |at: usize| {
        lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let number = |at: usize| {
        let cells = lines.iter().skip(1).filter_map(|line| line.get(at)).filter(|cell| !cell.is_empty());
        cells.clone().count() > 0
            && cells.clone().all(|cell| cell.starts_with(|letter: char| letter.is_ascii_digit()))
            && head
                .get(at)
                .is_some_and(|name| !["first", "last", "least", "greatest"].contains(&name.as_str()))
    };
    let right: Vec<bool> = (0..head.len()).map(number).collect();
    for (index, line) in lines.iter().enumerate() {
        let cells = line.iter().enumerate().map(|(at, cell)| match right[at] {
            true => format!("{cell:>width$}", width = width(at)),
            false => format!("{cell:<width$}", width = width(at)),
        });
        let text = cells.collect::<Vec<_>>().join("  ");
        match index {
            0 => anstream::println!("{HEAD}{}{HEAD:#}", text.trim_end()),
            _ => anstream::println!("{}", text.trim_end()),
        }
    }
}
