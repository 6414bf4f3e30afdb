//! What the shell knows of a line: when it is whole, and how a word may go on.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Result};

/// Words of SQL that are long enough to be completed.
const KEYWORDS: [&str; 24] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "DISTINCT",
    "JOIN",
    "LEFT JOIN",
    "UNION ALL",
    "INTERVAL",
    "BETWEEN",
    "LIKE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "EXPLAIN",
    "ANALYZE",
    "DESCRIBE",
    "SHOW TABLES",
];
const COMMANDS: [&str; 7] = ["\\?", "\\chart", "\\d", "\\f", "\\q", "\\timing", "\\watch"];
/// Table functions, which the information schema does not list.
const FUNCTIONS: [&str; 11] = [
    "anomalies",
    "billing",
    "compare_canary",
    "compare_periods",
    "compare_versions",
    "graph_edges",
    "graph_nodes",
    "service_graph",
    "slo_report",
    "trace",
    "traffic_series",
];

/// Names that a word may become.
pub(super) struct Words(Vec<String>);

impl Words {
    /// Those of the server, and those of the language.
    pub(super) fn new(names: Vec<String>) -> Self {
        let fixed = KEYWORDS.iter().chain(&COMMANDS).chain(&FUNCTIONS).map(|word| (*word).to_owned());
        let mut all: Vec<String> = names.into_iter().chain(fixed).collect();
        all.sort_unstable_by_key(|word| word.to_lowercase());
        all.dedup();
        Self(all)
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _context: &Context<'_>) -> Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let is_of_word = |letter: char| letter.is_alphanumeric() || "_\\?".contains(letter);
        let begin = before
            .rfind(|letter| !is_of_word(letter))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = before[begin..].to_lowercase();
        if word.is_empty() {
            return Ok((position, Vec::new()));
        }
        let found = self.0.iter().filter(|known| known.to_lowercase().starts_with(&word));
        Ok((begin, found.cloned().collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(if is_whole(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// A command is one line; a statement ends with a semicolon outside of quotes and comments.
fn is_whole(input: &str) -> bool {
    let text = input.trim();
    if text.is_empty() || text.starts_with('\\') {
        return true;
    }
    let mut quote = None;
    let mut ended = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '\'' | '"') => (quote, ended) = (Some(letter), false),
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '-') if letters.peek() == Some(&'-') => {
                letters.by_ref().find(|letter| *letter == '\n');
            }
            (None, ';') => ended = true,
            (None, letter) if letter.is_whitespace() => {}
            (None, _) => ended = false,
        }
    }
    ended && quote.is_none()
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_where_sql_says() {
        for whole in
            ["", "  ", "\\d requests", "SELECT 1;", "SELECT ';' ;  ", "SELECT 1; -- done", "SELECT \"a;b\";"]
        {
            assert!(is_whole(whole), "{whole}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1 -- ;", "SELECT 1; SELECT 2", "SELECT 'it''s;"] {
            assert!(!is_whole(open), "{open}");
        }
    }
}
