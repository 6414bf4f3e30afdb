//! The line that a person types: edited, completed by Tab, remembered from one day to the next.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::whole::is_whole;
use crate::failure::Failure;

const PROMPT: &str = "tollhouse> ";
/// Statements that are remembered.
const HISTORY_MAX: usize = 1_000;
/// Words of SQL, as they are completed.
const KEYWORDS: [&str; 48] = [
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SHOW",
    "THEN",
    "UNION",
    "USING",
    "WHEN",
    "WHERE",
    "WITH",
];
const COMMANDS: [&str; 8] = ["\\?", "\\d", "\\dt", "\\f", "\\timing", "\\chart", "\\watch", "\\q"];

/// Where a person types.
pub(super) struct Line {
    editor: Editor<Words, FileHistory>,
    /// None where there is no place for it.
    history: Option<PathBuf>,
}

impl Line {
    /// A line that knows some names besides SQL's words.
    pub(super) fn open(names: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let fails = |error| Failure::part("cannot use this terminal", error);
        let config = Config::builder()
            .max_history_size(HISTORY_MAX)
            .map_err(fails)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config).map_err(fails)?;
        let words = KEYWORDS.iter().chain(&COMMANDS).map(|word| (*word).to_owned()).chain(names);
        editor.set_helper(Some(Words(words.collect())));
        let history = history();
        if let Some(path) = &history
            && path.exists()
            && let Err(error) = editor.load_history(path)
        {
            eprintln!("what was asked before is not remembered: {}: {error}", path.display());
        }
        Ok(Self { editor, history })
    }

    /// What is typed until it is whole; none at the end of the input.
    pub(super) fn typed(&mut self) -> Result<Option<String>, Failure> {
        loop {
            match self.editor.readline(PROMPT) {
                Ok(typed) => {
                    self.remember(&typed);
                    return Ok(Some(typed));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                // Ctrl-C takes back what is typed.
                Err(ReadlineError::Interrupted) => {}
                Err(error) => return Err(Failure::part("cannot read this terminal", error)),
            }
        }
    }

    fn remember(&mut self, typed: &str) {
        let Ok(true) = self.editor.add_history_entry(typed.trim_end()) else { return };
        let Some(path) = &self.history else { return };
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) =
            folder.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(path))
        {
            eprintln!("this is not remembered: {}: {error}", path.display());
            self.history = None;
        }
    }
}

/// `tollhouse/history` where programs of this person keep their state (XDG Base Directory Specification).
fn history() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    Some(state?.join("tollhouse/history"))
}

/// What Tab knows.
struct Words(BTreeSet<String>);

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or_default();
        let word = typed.rsplit(|c: char| !c.is_alphanumeric() && !['_', '.', '\\', '?'].contains(&c)).next();
        let word = word.unwrap_or_default();
        if word.is_empty() {
            return Ok((at, Vec::new()));
        }
        let fits =
            |known: &&String| known.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        Ok((at - word.len(), self.0.iter().filter(fits).cloned().collect()))
    }
}

impl Validator for Words {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(typed.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_completed_from_where_it_begins() {
        let words = Words(["SELECT", "service", "services", "system.ledger"].map(str::to_owned).into());
        let history = FileHistory::new();
        let complete = |line: &str| words.complete(line, line.len(), &Context::new(&history)).unwrap();
        assert_eq!(complete("SELECT serv"), (7, vec!["service".to_owned(), "services".to_owned()]));
        assert_eq!(complete("sel"), (0, vec!["SELECT".to_owned()]));
        assert_eq!(complete("SELECT * FROM system.l").1, ["system.ledger"]);
        assert_eq!(complete("SELECT count(servic").0, 13);
        assert_eq!(complete("SELECT ä, se").1.len(), 3);
        assert!(complete("SELECT ").1.is_empty());
    }
}
