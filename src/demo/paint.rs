//! Drawing in text for the demo: colours that can be off, tables with aligned columns, sparklines, and numbers that
//! a reader takes in at a glance. Knows nothing of Tollhouse; `view` and `report` draw with it.

use std::env;
use std::io::IsTerminal;

/// A colour or weight, as the parameter of an SGR escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Headings.
    Bold,
    /// Labels and hints.
    Dim,
    /// What is well.
    Green,
    /// What deserves a look.
    Yellow,
    /// What failed.
    Red,
    /// Names and addresses.
    Cyan,
}

/// Paints or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// True when escape sequences are written.
    pub colour: bool,
}

impl Paint {
    /// Colour when stdout is a terminal that can, and `NO_COLOR` (no-color.org) is not set to something.
    pub fn for_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !refused && !is_dumb() && std::io::stdout().is_terminal() }
    }

    /// `text` in `ink`.
    pub fn ink(self, ink: Ink, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => 1,
            Ink::Dim => 2,
            Ink::Red => 31,
            Ink::Green => 32,
            Ink::Yellow => 33,
            Ink::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A green check mark or a red cross.
    pub fn mark(self, good: bool) -> String {
        if good { self.ink(Ink::Green, "✔") } else { self.ink(Ink::Red, "✘") }
    }
}

/// Editors and build tools call a terminal dumb that only prints.
pub fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Columns one terminal cell wide per character, escape sequences left out.
pub fn width(text: &str) -> usize {
    let mut count = 0;
    let mut inside = false;
    for character in text.chars() {
        match (inside, character) {
            (false, '\x1b') => inside = true,
            (true, 'm') => inside = false,
            (false, _) => count += 1,
            (true, _) => {}
        }
    }
    count
}

/// `text` cut to `columns`, escape sequences kept and closed.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let (mut count, mut inside, mut painted) = (0, false, false);
    for character in text.chars() {
        if character == '\x1b' {
            (inside, painted) = (true, true);
        } else if !inside {
            if count + 1 >= columns.max(1) {
                break;
            }
            count += 1;
        }
        out.push(character);
        inside = inside && character != 'm';
    }
    if columns > 0 {
        out.push('…');
    }
    if painted {
        out.push_str("\x1b[0m");
    }
    out
}

/// Names come from outside: a control character must not reach the terminal.
pub fn safe(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// A table: the first `texts` columns stand left, the others hold numbers and stand right.
pub fn table(paint: Paint, texts: usize, heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
            cells.chain([width(head)]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let mut out = String::new();
        for (column, (cell, wide)) in cells.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(wide.saturating_sub(width(cell)));
            if column > 0 {
                out.push_str("  ");
            }
            let (left, right) = if column < texts { ("", gap.as_str()) } else { (gap.as_str(), "") };
            out.push_str(&format!("{left}{cell}{right}"));
        }
        out.trim_end().to_owned()
    };
    let heads: Vec<String> = heads.iter().map(|head| paint.ink(Ink::Dim, head)).collect();
    std::iter::once(line(&heads)).chain(rows.iter().map(|row| line(row))).collect()
}

/// One character per value, from nothing to the highest.
pub fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: f64| {
        let step = if highest > 0.0 { (value / highest * 7.0).round() } else { 0.0 };
        BARS[(step.clamp(0.0, 7.0)) as usize]
    };
    values.iter().map(|value| bar(*value)).collect()
}

/// 1234567 as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds as `870 µs`, `12.3 ms`, `1.25 s`.
pub fn micros(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1_000.0),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1_000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

/// Bytes as `512 B`, `1.5 MB` (decimal units).
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1_000.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1_000.0;
    }
    format!("{value:.1} TB")
}

/// A part of a whole as `1.2 %`; of nothing, `0 %`. Something never shows as nothing: `<0.1 %`.
pub fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    match part as f64 * 100.0 / whole as f64 {
        share if share < 0.05 => "<0.1 %".to_owned(),
        share => format!("{share:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!((micros(870.0), micros(12_340.0)), ("870 µs".into(), "12.3 ms".into()));
        assert_eq!((micros(123_400.0), micros(1_250_000.0)), ("123 ms".into(), "1.25 s".into()));
        assert_eq!((bytes(512), bytes(1_500_000)), ("512 B".into(), "1.5 MB".into()));
        assert_eq!(
            (percent(0, 9), percent(1, 8), percent(1, 0)),
            ("0 %".into(), "12.5 %".into(), "0 %".into())
        );
        assert_eq!((percent(1, 9_999), percent(5, 9_999)), ("<0.1 %".into(), "0.1 %".into()));
    }

    #[test]
    fn columns_stand_under_their_heads_in_colour_too() {
        let rows = |paint: Paint| {
            vec![vec!["acme".to_owned(), paint.ink(Ink::Red, "12")], vec!["x".to_owned(), "3".to_owned()]]
        };
        let plain = Paint { colour: false };
        let lines = table(plain, 1, &["name", "requests"], &rows(plain));
        assert_eq!(lines, ["name  requests", "acme        12", "x            3"]);
        let painted = Paint { colour: true };
        let wide: Vec<usize> =
            table(painted, 1, &["name", "requests"], &rows(painted)).iter().map(|l| width(l)).collect();
        assert_eq!(wide, [14, 14, 14]);
    }

    #[test]
    fn sparkline_spans_from_nothing_to_the_highest() {
        assert_eq!(sparkline(&[0.0, 5.0, 10.0]), "▁▅█");
        assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn cutting_keeps_colour_closed_and_controls_out() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abc", 3), "abc");
        let painted = cut(&Paint { colour: true }.ink(Ink::Red, "abcdef"), 4);
        assert_eq!(painted, "\x1b[31mabc…\x1b[0m");
        assert_eq!(width(&painted), 4);
        assert_eq!(safe("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
