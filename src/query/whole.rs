//! When what was typed is whole.

/// A command is one line; a statement ends with a semicolon outside of quotes and comments.
pub(super) fn is_whole(input: &str) -> bool {
    let text = input.trim();
    // As psql has it, words that leave or help need no semicolon.
    if text.is_empty() || text.starts_with('\\') || ["exit", "quit", "help"].contains(&text) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_where_sql_says() {
        for whole in [
            "",
            "  ",
            "exit",
            "help",
            "\\d requests",
            "SELECT 1;",
            "SELECT ';' ;  ",
            "SELECT 1; -- done",
            "SELECT \"a;b\";",
        ] {
            assert!(is_whole(whole), "{whole}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1 -- ;", "SELECT 1; SELECT 2", "SELECT 'it''s;"] {
            assert!(!is_whole(open), "{open}");
        }
    }
}
