//! Question marks, which JDBC's programs write for parameters, as the numbered ones that the engine knows.

use std::borrow::Cow;

/// A statement whose `?` are `$1`, `$2` ...; as it is where there are none. Those in texts, names and comments mean
/// themselves; no operator of the dialect has one.
pub(super) fn numbered(sql: &str) -> Cow<'_, str> {
    let (mut out, mut copied, mut at, mut count) = (String::new(), 0, 0, 0);
    while let Some(length) = piece(&sql[at..]) {
        if sql[at..].starts_with('?') {
            count += 1;
            out.push_str(&sql[copied..at]);
            out.push_str(&format!("${count}"));
            copied = at + length;
        }
        at += length;
    }
    if count == 0 {
        return Cow::Borrowed(sql);
    }
    out.push_str(&sql[copied..]);
    Cow::Owned(out)
}

/// The length of what a text begins with: something in quotes, a comment, a word, or one character.
fn piece(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let whole = text.len();
    let up_to =
        |from: usize, end: &str| text[from..].find(end).map_or(whole, |length| from + length + end.len());
    Some(match first {
        // A doubled quote ends one text and begins the next, which comes to the same.
        '\'' | '"' => up_to(1, &text[..1]),
        'e' | 'E' if text[1..].starts_with('\'') => escaped(text),
        '-' if text.starts_with("--") => up_to(2, "\n"),
        '/' if text.starts_with("/*") => comment(text),
        '$' => match text[1..].find(|letter: char| !letter.is_alphanumeric() && letter != '_') {
            Some(name) if text[1 + name..].starts_with('$') => up_to(name + 2, &text[..name + 2]),
            _ => 1,
        },
        letter if letter.is_alphanumeric() || letter == '_' => {
            text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(whole)
        }
        other => other.len_utf8(),
    })
}

/// The length of a text in which a backslash takes the next character's meaning (`E'it\'s'`).
fn escaped(text: &str) -> usize {
    let mut letters = text.char_indices().skip(2);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        match &text.as_bytes()[at..text.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_stand_for_parameters_are_numbered() {
        for (given, expected) in [
            ("SELECT 1", "SELECT 1"),
            ("SELECT ?, ? + 1", "SELECT $1, $2 + 1"),
            ("SELECT '?', \"?\", ?", "SELECT '?', \"?\", $1"),
            ("SELECT 'it''s ?', ?", "SELECT 'it''s ?', $1"),
            ("SELECT E'\\'?', e, ?", "SELECT E'\\'?', e, $1"),
            ("SELECT ? -- ?\n, ? /* ? /* ? */ ? */, ?", "SELECT $1 -- ?\n, $2 /* ? /* ? */ ? */, $3"),
            ("SELECT $$ ? $$, $a$ ? $$ $a$, ?", "SELECT $$ ? $$, $a$ ? $$ $a$, $1"),
            ("SELECT 'é?', é?", "SELECT 'é?', é$1"),
            ("SELECT ' ?", "SELECT ' ?"),
            ("/* ?", "/* ?"),
            ("E'?\\", "E'?\\"),
            ("$", "$"),
            ("", ""),
        ] {
            assert_eq!(numbered(given), expected);
        }
    }
}
