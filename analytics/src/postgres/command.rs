//! Statements that the door answers by itself, because drivers send them: transactions, which mean nothing where nothing
//! is written, settings, and what is prepared. Everything else is a question.

use super::sqlstate::Report;

/// Most words of such a statement that are looked at.
const WORDS_MAX: usize = 256;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// With what it is called in the answer: `BEGIN` or `START TRANSACTION`.
    Begin(&'static str),
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    Set {
        name: String,
        value: String,
    },
    /// `SET TRANSACTION ...` and the like: every transaction only reads.
    SetTransaction,
    Reset(Option<String>),
    Show(Option<String>),
    Discard(bool),
    /// All without a name.
    Deallocate(Option<String>),
    Declare(Declared),
    /// So many rows of a cursor; 0 is all.
    Fetch {
        cursor: String,
        rows_max: u32,
    },
    /// All without a name.
    Close(Option<String>),
    /// `UNLISTEN`: there is nothing to end.
    Nothing(&'static str),
}

/// A cursor, and the question that it is for, which begins behind so many characters of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) at: usize,
    pub(super) binary: bool,
    /// Whether it outlives the transaction.
    pub(super) hold: bool,
}

impl Command {
    /// Whether it may be said where an error has ended the transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo)
    }
}

/// Part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// A keyword or name without quotes.
    Plain(String),
    /// A name in double quotes, or a text in single ones.
    Quoted(String),
    Sign(char),
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Plain(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn text(&self) -> String {
        match self {
            Self::Plain(word) | Self::Quoted(word) => word.clone(),
            Self::Sign(sign) => sign.to_string(),
        }
    }

    /// What it names: without quotes, in small letters.
    fn name(&self) -> Option<String> {
        match self {
            Self::Plain(word) => Some(word.to_lowercase()),
            Self::Quoted(word) => Some(word.clone()),
            Self::Sign(_) => None,
        }
    }
}

/// Where the next thing in a text ends: a quoted text, a comment, a word, a sign.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

enum Piece {
    /// Blank or comment.
    Space,
    Word(Word),
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Behind a text in quotes that begins here; a doubled quote is one of the text, so is one behind a backslash where
    /// those count.
    fn quoted(&mut self, quote: char, backslash: bool) -> String {
        let mut text = String::new();
        let mut rest = self.rest().char_indices().skip(1).peekable();
        while let Some((at, character)) = rest.next() {
            match character {
                '\\' if backslash => text.extend(rest.next().map(|(_, next)| next)),
                _ if character == quote => {
                    if rest.peek().is_some_and(|(_, next)| *next == quote) {
                        rest.next();
                        text.push(quote);
                    } else {
                        self.at += at + quote.len_utf8();
                        return text;
                    }
                }
                other => text.push(other),
            }
        }
        self.at = self.text.len();
        text
    }

    /// Behind a comment in signs, which may hold others.
    fn comment(&mut self) {
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        while let Some(pair) = bytes.get(self.at..self.at + 2) {
            match pair {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                // Any byte of a character of several is none of these signs.
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
        self.at = self.text.len();
    }

    /// Behind a text between `$tag$` and `$tag$`, if one begins here.
    fn dollars(&mut self) -> Option<String> {
        let rest = self.rest();
        let tag_end = rest[1..].find('$')? + 2;
        let tag = &rest[..tag_end];
        let name = &tag[1..tag_end - 1];
        let named = name.chars().all(|character| character.is_alphanumeric() || character == '_');
        if !named || name.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let body = &rest[tag_end..];
        let length = body.find(tag);
        self.at = length.map_or(self.text.len(), |length| self.at + 2 * tag_end + length);
        Some(body[..length.unwrap_or(body.len())].to_owned())
    }

    fn next(&mut self) -> Option<Piece> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        if first.is_whitespace() {
            self.at += first.len_utf8();
            return Some(Piece::Space);
        }
        if rest.starts_with("--") {
            self.at += rest.find('\n').unwrap_or(rest.len());
            return Some(Piece::Space);
        }
        if rest.starts_with("/*") {
            self.comment();
            return Some(Piece::Space);
        }
        if first == '\'' || first == '"' {
            return Some(Piece::Word(Word::Quoted(self.quoted(first, false))));
        }
        if rest.starts_with("e'") || rest.starts_with("E'") {
            self.at += 1;
            return Some(Piece::Word(Word::Quoted(self.quoted('\'', true))));
        }
        if first == '$'
            && let Some(text) = self.dollars()
        {
            return Some(Piece::Word(Word::Quoted(text)));
        }
        let part = |character: char| character.is_alphanumeric() || "_.$".contains(character);
        if part(first) && first != '$' {
            let length = rest.find(|character| !part(character)).unwrap_or(rest.len());
            self.at += length;
            return Some(Piece::Word(Word::Plain(rest[..length].to_owned())));
        }
        self.at += first.len_utf8();
        Some(Piece::Word(Word::Sign(first)))
    }
}

/// The statements of a text, without those that say nothing, each with its place in it.
pub(super) fn split(text: &str) -> Vec<(usize, &str)> {
    let (mut statements, mut lexer) = (Vec::new(), Lexer::new(text));
    let (mut start, mut says_something) = (0, false);
    loop {
        let before = lexer.at;
        let piece = lexer.next();
        let ends = match &piece {
            None | Some(Piece::Word(Word::Sign(';'))) => true,
            Some(Piece::Space) => false,
            Some(Piece::Word(_)) => {
                says_something = true;
                false
            }
        };
        if ends {
            if says_something {
                statements.push((start, &text[start..before]));
            }
            (start, says_something) = (lexer.at, false);
        }
        if piece.is_none() {
            return statements;
        }
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut lexer = Lexer::new(text);
    let pieces = std::iter::from_fn(|| lexer.next());
    let words = pieces.filter_map(|piece| match piece {
        Piece::Space => None,
        Piece::Word(word) => Some(word),
    });
    words.filter(|word| *word != Word::Sign(';')).take(WORDS_MAX).collect()
}

/// Reads one statement; none is a question for the engine.
pub(super) fn parse(text: &str) -> Option<Result<Command, Report>> {
    let words = words(text);
    let first = words.first()?;
    let is = |index: usize, keyword: &str| words.get(index).is_some_and(|word| word.is(keyword));
    let Word::Plain(verb) = first else { return None };
    let name = |index: usize| words.get(index).map(Word::text);
    let command = match verb.to_ascii_uppercase().as_str() {
        "BEGIN" => Command::Begin("BEGIN"),
        "START" if is(1, "TRANSACTION") => Command::Begin("START TRANSACTION"),
        "COMMIT" | "END" if !is(1, "PREPARED") => Command::Commit,
        "ROLLBACK" | "ABORT" if words.iter().any(|word| word.is("TO")) => Command::RollbackTo,
        "ROLLBACK" | "ABORT" if !is(1, "PREPARED") => Command::Rollback,
        "SAVEPOINT" => Command::Savepoint,
        "RELEASE" => Command::Release,
        "SET" => return Some(set(&words[1..])),
        "RESET" if is(1, "ALL") => Command::Reset(None),
        "RESET" => match reset_name(&words[1..]) {
            Some(name) => Command::Reset(Some(name)),
            None => return Some(Err(Report::error("42601", "RESET needs the name of a parameter"))),
        },
        "SHOW" => return show(&words[1..]).map(Ok),
        "DISCARD" => Command::Discard(is(1, "ALL")),
        "DEALLOCATE" => {
            let at = if is(1, "PREPARE") { 2 } else { 1 };
            Command::Deallocate(name(at).filter(|_| !is(at, "ALL")))
        }
        "UNLISTEN" => Command::Nothing("UNLISTEN"),
        "DECLARE" => return Some(declare(text)),
        "FETCH" => return Some(fetch(&words[1..])),
        "CLOSE" if is(1, "ALL") => Command::Close(None),
        "CLOSE" => match words.get(1).and_then(Word::name) {
            Some(name) => Command::Close(Some(name)),
            None => return Some(Err(Report::error("42601", "CLOSE needs the name of a cursor"))),
        },
        _ => return None,
    };
    Some(Ok(command))
}

/// The first word of a statement that is none in quotes.
pub(super) fn first_word(text: &str) -> Option<String> {
    match words(text).into_iter().next()? {
        Word::Plain(word) => Some(word),
        Word::Quoted(_) | Word::Sign(_) => None,
    }
}

/// `DECLARE name [BINARY] [INSENSITIVE] [NO SCROLL] CURSOR [WITH HOLD] FOR question`.
fn declare(text: &str) -> Result<Command, Report> {
    let mut lexer = Lexer::new(text);
    let mut before = Vec::new();
    while !before.last().is_some_and(|word: &Word| before.len() > 2 && word.is("FOR")) {
        match lexer.next() {
            Some(Piece::Word(word)) if before.len() < WORDS_MAX => before.push(word),
            Some(Piece::Space) => {}
            _ => return Err(Report::error("42601", "DECLARE needs a name, and CURSOR FOR a question")),
        }
    }
    let says = |keyword: &str| before[2..].iter().position(|word| word.is(keyword));
    let (Some(name), Some(_)) = (before[1].name(), says("CURSOR")) else {
        return Err(Report::error("42601", "DECLARE needs a name, and CURSOR FOR a question"));
    };
    if says("SCROLL").is_some() && says("NO").is_none() {
        return Err(Report::error("0A000", "a cursor is fetched forward only").hint("leave SCROLL out"));
    }
    let at = text[..lexer.at].chars().count();
    let (binary, hold) = (says("BINARY").is_some(), says("WITH").is_some());
    Ok(Command::Declare(Declared { name, sql: lexer.rest().to_owned(), at, binary, hold }))
}

/// `FETCH [how many] [FROM | IN] cursor`.
fn fetch(words: &[Word]) -> Result<Command, Report> {
    let backward = || Report::error("55000", "cursor can only scan forward");
    let Some((cursor, how)) = words.split_last() else {
        return Err(Report::error("42601", "FETCH needs the name of a cursor"));
    };
    let how = match how {
        [how @ .., from] if from.is("FROM") || from.is("IN") => how,
        how => how,
    };
    let how = match how {
        [forward, how @ ..] if forward.is("FORWARD") => how,
        how => how,
    };
    let rows_max = match how {
        [] => 1,
        [one] if one.is("NEXT") => 1,
        [all] if all.is("ALL") => 0,
        [Word::Plain(count)] if count.bytes().all(|digit| digit.is_ascii_digit()) => {
            count.parse().ok().filter(|count| *count > 0).ok_or_else(backward)?
        }
        _ => return Err(backward()),
    };
    let cursor = cursor.name().ok_or_else(backward)?;
    Ok(Command::Fetch { cursor, rows_max })
}

fn reset_name(words: &[Word]) -> Option<String> {
    match words {
        [first, second] if first.is("TIME") && second.is("ZONE") => Some("timezone".to_owned()),
        [name] => Some(name.text()),
        _ => None,
    }
}

/// `SHOW` of a setting; of tables, columns and functions it is a question.
fn show(words: &[Word]) -> Option<Command> {
    match words {
        [first, second] if first.is("TIME") && second.is("ZONE") => {
            Some(Command::Show(Some("timezone".to_owned())))
        }
        [first, second, third] if first.is("TRANSACTION") && second.is("ISOLATION") && third.is("LEVEL") => {
            Some(Command::Show(Some("transaction_isolation".to_owned())))
        }
        [all] if all.is("ALL") => Some(Command::Show(None)),
        [name] if !name.is("TABLES") && !name.is("FUNCTIONS") && !name.is("COLUMNS") => {
            Some(Command::Show(Some(name.text())))
        }
        _ => None,
    }
}

fn set(words: &[Word]) -> Result<Command, Report> {
    let wrong = || Report::error("42601", "SET needs a parameter and a value");
    let words = match words {
        [first, rest @ ..] if first.is("SESSION") || first.is("LOCAL") => rest,
        all => all,
    };
    match words {
        [first, ..] if first.is("TRANSACTION") || first.is("CHARACTERISTICS") => Ok(Command::SetTransaction),
        [first, ..] if first.is("ROLE") || first.is("AUTHORIZATION") => {
            Err(Report::error("42501", "a session has the rights of its user only"))
        }
        [first, second, value @ ..] if first.is("TIME") && second.is("ZONE") => {
            Ok(Command::Set { name: "timezone".to_owned(), value: value_of(value).ok_or_else(wrong)? })
        }
        [first, value @ ..] if first.is("NAMES") => {
            Ok(Command::Set { name: "client_encoding".to_owned(), value: value_of(value).ok_or_else(wrong)? })
        }
        [name, sign, value @ ..] if *sign == Word::Sign('=') || sign.is("TO") => {
            Ok(Command::Set { name: name.text(), value: value_of(value).ok_or_else(wrong)? })
        }
        _ => Err(wrong()),
    }
}

/// A value, or several with commas.
fn value_of(words: &[Word]) -> Option<String> {
    let mut value = String::new();
    for word in words {
        match word {
            Word::Sign(',') => value.push_str(", "),
            Word::Sign(sign) if "+-".contains(*sign) => value.push(*sign),
            Word::Sign(_) => return None,
            word => {
                if !value.is_empty() && !value.ends_with([' ', '+', '-']) {
                    value.push(' ');
                }
                value.push_str(&word.text());
            }
        }
    }
    (!words.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|(_, statement)| statement.trim()).collect()
    }

    #[test]
    fn statements_end_at_semicolons_that_are_none_of_a_text_or_comment() {
        assert_eq!(statements("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(statements(" ;; -- nothing\n /* ; /* ; */ ; */ ;"), Vec::<&str>::new());
        for one in [
            "SELECT ';', \";\"",
            "SELECT 'it''s;'",
            "SELECT E'\\';'",
            "SELECT $$;$$, $a$;$$;$a$",
            "SELECT 1 -- ;",
            "SELECT '; unfinished",
            "SELECT /* ; unfinished",
            "SELECT /* é ; /* ; */ */ 1",
            "SELECT $1, '\\'",
            "SELECT é",
        ] {
            assert_eq!(statements(one), [one], "{one}");
        }
    }

    #[test]
    fn the_work_grows_with_the_text_and_not_faster() {
        // Looked at again from each place on, any of these would take minutes.
        for part in ["/*", "$a", "$$", "e'", "'\\", "\"", "--", "$a$"] {
            assert!(split(&part.repeat(200_000)).len() <= 1, "{part}");
        }
    }

    #[test]
    fn what_drivers_say_is_understood() {
        let command = |text: &str| parse(text).unwrap().unwrap();
        let set = |name: &str, value: &str| Command::Set { name: name.into(), value: value.into() };
        assert_eq!(command("BEGIN READ ONLY"), Command::Begin("BEGIN"));
        assert_eq!(command("/* x */ start transaction"), Command::Begin("START TRANSACTION"));
        assert_eq!(command("ROLLBACK TO SAVEPOINT a"), Command::RollbackTo);
        assert_eq!(command("SET extra_float_digits = 3"), set("extra_float_digits", "3"));
        assert_eq!(command("SET SESSION search_path TO a, \"b c\";"), set("search_path", "a, b c"));
        assert_eq!(command("set time zone 'UTC'"), set("timezone", "UTC"));
        assert_eq!(command("SET TIME ZONE -3"), set("timezone", "-3"));
        assert_eq!(command("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"), Command::SetTransaction);
        assert_eq!(
            command("show transaction isolation level"),
            Command::Show(Some("transaction_isolation".into()))
        );
        assert_eq!(command("DEALLOCATE PREPARE \"a\""), Command::Deallocate(Some("a".into())));
        assert_eq!(command("DEALLOCATE ALL"), Command::Deallocate(None));
        assert_eq!(command("DISCARD ALL"), Command::Discard(true));
        let declared = |name: &str, at, binary, hold| {
            let sql = " SELECT 1 FOR".to_owned();
            Command::Declare(Declared { name: name.into(), sql, at, binary, hold })
        };
        assert_eq!(command("DECLARE A CURSOR FOR SELECT 1 FOR"), declared("a", 20, false, false));
        assert_eq!(
            command("declare \"Aé\" binary no scroll cursor with hold for SELECT 1 FOR"),
            declared("Aé", 50, true, true)
        );
        let fetched = |rows_max| Command::Fetch { cursor: "a".into(), rows_max };
        for (text, rows_max) in [
            ("FETCH a", 1),
            ("FETCH NEXT FROM A", 1),
            ("FETCH 7 IN a", 7),
            ("fetch forward 8 from \"a\"", 8),
            ("FETCH FORWARD ALL a", 0),
        ] {
            assert_eq!(command(text), fetched(rows_max), "{text}");
        }
        assert_eq!(command("CLOSE \"A\""), Command::Close(Some("A".into())));
        for question in ["SELECT 1", "SHOW TABLES", "SHOW COLUMNS FROM requests", "", "DO $$ $$", "'BEGIN'"] {
            assert_eq!(parse(question), None, "{question}");
        }
        for wrong in [
            "DECLARE",
            "DECLARE a",
            "DECLARE a CURSOR",
            "DECLARE a FOR SELECT 1",
            "DECLARE a SCROLL CURSOR FOR SELECT 1",
            "FETCH",
            "FETCH BACKWARD 2 FROM a",
            "FETCH 0 FROM a",
            "FETCH -1 FROM a",
            "FETCH LAST FROM a",
            "CLOSE",
        ] {
            assert!(matches!(parse(wrong), Some(Err(_))), "{wrong}");
        }
        for wrong in ["SET", "SET a", "SET a = ", "SET a = (SELECT 1)", "SET ROLE admin", "RESET"] {
            assert!(matches!(parse(wrong), Some(Err(_))), "{wrong}");
        }
    }
}
