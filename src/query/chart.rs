//! An answer as bars for a terminal.

use serde_json::Value;

use super::Stop;

/// Most bars; the first rows are drawn.
const BARS_MAX: usize = 60;
/// Most characters of a label.
const LABEL_CHARS_MAX: usize = 40;
/// Eighths of a cell.
const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A bar for each row: its first column as the label, its last number as the length.
pub(super) fn bars(rows: &[Value], width: usize) -> Result<String, Stop> {
    let nothing = |what: &str| Stop::Usage(format!("\\chart: {what}"));
    let first = rows.iter().find_map(Value::as_object).ok_or_else(|| nothing("the answer has no rows"))?;
    let label = first.keys().next().cloned().unwrap_or_default();
    let is_number = |name: &&String| rows.iter().any(|row| row[name.as_str()].is_number());
    let number =
        first.keys().rev().find(is_number).ok_or_else(|| nothing("the answer has no column of numbers"))?;
    let drawn: Vec<(String, Option<f64>)> =
        rows.iter().take(BARS_MAX).map(|row| (text(&row[&label]), row[number].as_f64())).collect();
    let widest = drawn.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let most = drawn.iter().filter_map(|(_, number)| *number).fold(0.0, f64::max);
    let room = width.saturating_sub(widest + 16).max(8);
    let mut out = format!("{number} by {label}\n");
    for (label, number) in &drawn {
        let shown = number.map_or("null".into(), |number| {
            format!("{number:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
        });
        let share = number.filter(|_| most > 0.0).map_or(0.0, |number| (number / most).max(0.0));
        let bar = bar(share, room);
        out += format!("{label:>widest$} {bar} {shown}").trim_end();
        out.push('\n');
    }
    if rows.len() > BARS_MAX {
        out += &format!("... and {} rows more\n", rows.len() - BARS_MAX);
    }
    Ok(out)
}

fn text(value: &Value) -> String {
    let whole = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let clean = whole.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    clean.take(LABEL_CHARS_MAX).collect()
}

/// A bar of a share of the room, to an eighth of a cell.
fn bar(share: f64, room: usize) -> String {
    let eighths = (share * room as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bars_are_as_long_as_their_numbers() {
        let rows = [
            json!({"service": "shop", "n": 10, "note": "x"}),
            json!({"service": "mail\u{1b}[2J", "n": 5}),
            json!({"service": null, "n": null}),
        ];
        let drawn = bars(&rows, 40).unwrap();
        assert_eq!(
            drawn,
            "n by service\n    shop ████████████████ 10\nmail [2J ████████ 5\n    null  null\n"
        );
        assert!(matches!(bars(&[], 40), Err(Stop::Usage(_))));
        assert!(matches!(bars(&[json!({"a": "b"})], 40), Err(Stop::Usage(_))));
    }
}
