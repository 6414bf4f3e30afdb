//! Regular expressions of routes. Matching takes time linear in the text whatever the expression, and what an
//! expression may take to compile and to run is bounded. The memory that a search works in belongs to a thread, so no
//! lock is taken.

use super::template::Group;
use regex_automata::meta::{BuildError, Cache, Config, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID};
use regex_syntax::hir::{Hir, HirKind, Look};
use smallvec::{SmallVec, smallvec};
use std::cell::RefCell;
use std::ops::Range;

/// Longest expression, bytes.
pub(crate) const PATTERN_BYTES_MAX: usize = 1024;
/// Most memory that one compiled expression may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Memory in which one thread remembers the states of one expression.
const CACHE_BYTES_MAX: usize = 256 << 10;
/// Deepest nesting of groups in an expression.
const NESTING_MAX: u32 = 50;

/// An expression that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    #[error("{}", plain(.0))]
    Syntax(#[source] Box<regex_syntax::Error>),
    #[error("takes too much memory: {0}")]
    TooLarge(#[source] Box<BuildError>),
}

/// The parser's message is a drawing of several lines; its last line says what is wrong.
fn plain(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// One expression.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// What every match begins with.
    pub prefix: String,
}

impl Pattern {
    /// Compiles an expression; the syntax is that of Rust's regex crate, without look-around and back-references.
    pub fn new(text: &str, case_insensitive: bool) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let hir = regex_syntax::ParserBuilder::new()
            .nest_limit(NESTING_MAX)
            .case_insensitive(case_insensitive)
            .build()
            .parse(text)
            .map_err(|error| PatternError::Syntax(Box::new(error)))?;
        let prefix = literal_prefix(&hir);
        let config = Config::new()
            .nfa_size_limit(Some(COMPILED_BYTES_MAX))
            .onepass_size_limit(Some(COMPILED_BYTES_MAX))
            .hybrid_cache_capacity(CACHE_BYTES_MAX);
        let regex = Regex::builder()
            .configure(config)
            .syntax(syntax::Config::new().nest_limit(NESTING_MAX).case_insensitive(case_insensitive))
            .build(text)
            .map_err(|error| PatternError::TooLarge(Box::new(error)))?;
        Ok(Self { regex, prefix })
    }
}

/// The text that every match from the begin of a path starts with; empty when there is none.
fn literal_prefix(hir: &Hir) -> String {
    let mut bytes = Vec::new();
    let _whole = collect(hir, &mut bytes);
    let valid = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
    String::from_utf8_lossy(&bytes[..valid]).into_owned()
}

/// Appends the literal begin of an expression; says whether that is all of it.
fn collect(hir: &Hir, bytes: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(Look::Start) => true,
        HirKind::Literal(literal) => {
            bytes.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(group) => collect(&group.sub, bytes),
        HirKind::Concat(parts) => parts.iter().all(|part| collect(part, bytes)),
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}

/// All expressions, by number.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    all: Vec<Pattern>,
}

impl Patterns {
    pub fn add(&mut self, pattern: Pattern) -> usize {
        self.all.push(pattern);
        self.all.len() - 1
    }

    /// Where a match that begins with the text ends.
    pub fn match_end(&self, pattern: usize, text: &str, caches: &Caches) -> Option<usize> {
        let regex = &self.all[pattern].regex;
        caches.with(self, pattern, |cache| {
            let input = Input::new(text).anchored(Anchored::Yes);
            regex.search_half_with(cache, &input).map(|half| half.offset())
        })
    }

    /// Whether an expression has a group.
    pub fn has_group(&self, pattern: usize, group: &Group) -> bool {
        number_of(&self.all[pattern].regex, group).is_some()
    }

    /// The match that begins with the text.
    pub fn captures<'a>(&'a self, pattern: usize, text: &'a str, caches: &Caches) -> Option<Captured<'a>> {
        self.capture(pattern, text, Input::new(text).anchored(Anchored::Yes), caches)
    }

    /// Every match in the text, one behind the other, until `each` has enough.
    pub fn each_match<'a>(
        &'a self,
        pattern: usize,
        text: &'a str,
        caches: &Caches,
        mut each: impl FnMut(&Captured<'a>) -> bool,
    ) {
        let (mut at, mut before) = (0, None);
        while at <= text.len() {
            let Some(found) = self.capture(pattern, text, Input::new(text).span(at..text.len()), caches)
            else {
                return;
            };
            let range = found.range();
            // Nothing right behind a match is no further match.
            let counts = !range.is_empty() || before != Some(range.end);
            if counts && !each(&found) {
                return;
            }
            before = Some(range.end);
            let letter = text[range.end..].chars().next().map_or(1, char::len_utf8);
            at = if range.is_empty() { range.end + letter } else { range.end };
        }
    }

    fn capture<'a>(
        &'a self,
        pattern: usize,
        text: &'a str,
        input: Input<'_>,
        caches: &Caches,
    ) -> Option<Captured<'a>> {
        let regex = &self.all[pattern].regex;
        let mut slots: Slots = smallvec![None; regex.group_info().slot_len()];
        caches.with(self, pattern, |cache| regex.search_slots_with(cache, &input, &mut slots))?;
        Some(Captured { regex, text, slots })
    }

    /// Whether there is a match anywhere in it.
    pub fn is_match(&self, pattern: usize, text: &[u8], caches: &Caches) -> bool {
        let regex = &self.all[pattern].regex;
        caches.with(self, pattern, |cache| {
            regex.search_half_with(cache, &Input::new(text).earliest(true)).is_some()
        })
    }
}

/// One match, with its groups.
pub(crate) struct Captured<'a> {
    regex: &'a Regex,
    text: &'a str,
    slots: Slots,
}

/// Begin and end of each group.
type Slots = SmallVec<[Option<NonMaxUsize>; 16]>;

impl<'a> Captured<'a> {
    /// A group; none when it had no part in the match or does not exist.
    pub fn get(&self, group: &Group) -> Option<&'a str> {
        self.text.get(self.group(number_of(self.regex, group)?)?)
    }

    /// The whole match.
    pub fn range(&self) -> Range<usize> {
        self.group(0).unwrap_or(0..0)
    }

    fn group(&self, number: usize) -> Option<Range<usize>> {
        let begin = (*self.slots.get(number.checked_mul(2)?)?)?;
        let end = (*self.slots.get(number * 2 + 1)?)?;
        Some(begin.get()..end.get())
    }
}

/// The number of a group that an expression has.
fn number_of(regex: &Regex, group: &Group) -> Option<usize> {
    let groups = regex.group_info();
    match group {
        Group::Number(number) => Some(*number).filter(|number| *number < groups.group_len(PatternID::ZERO)),
        Group::Name(name) => groups.to_index(PatternID::ZERO, name),
    }
}

/// What one thread's searches work in, made when an expression is first used. Belongs to one set of patterns.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    all: RefCell<Vec<Option<Box<Cache>>>>,
}

impl Caches {
    fn with<T>(&self, patterns: &Patterns, pattern: usize, search: impl FnOnce(&mut Cache) -> T) -> T {
        let mut all = self.all.borrow_mut();
        if all.len() < patterns.all.len() {
            all.resize_with(patterns.all.len(), || None);
        }
        let fresh = || Box::new(patterns.all[pattern].regex.create_cache());
        search(all[pattern].get_or_insert_with(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_match_begins_with_is_known() {
        for (text, prefix) in [
            (r"/users/\d+", "/users/"),
            (r"^/users/(?<id>\d+)$", "/users/"),
            (r"/(v1|v2)/x", "/"),
            (r"/a/(b)/c$", "/a/b/c"),
            (r"/ab?", "/a"),
            (r"/a|/b", ""),
            (r"/x\.json", "/x.json"),
            (r"(?i)/A", "/"),
            (r"\d+", ""),
            (r".*", ""),
        ] {
            assert_eq!(Pattern::new(text, false).unwrap().prefix, prefix, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_or_too_large_is_refused_in_one_line() {
        for text in
            [r"/(", r"/(?=x)", r"/(a)\1", r"/[z-a]", &"x".repeat(PATTERN_BYTES_MAX + 1), r"/(\w{100}){100}"]
        {
            let error = Pattern::new(text, false).unwrap_err().to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_match_begins_at_the_begin_and_says_where_it_ends() {
        let (mut patterns, caches) = (Patterns::default(), Caches::default());
        let users = patterns.add(Pattern::new(r"/users/\d+", false).unwrap());
        assert_eq!(patterns.match_end(users, "/users/42/x", &caches), Some(9));
        assert_eq!(patterns.match_end(users, "/a/users/42", &caches), None);
        let word = patterns.add(Pattern::new("^be?ta$", true).unwrap());
        assert!(patterns.is_match(word, b"BETA", &caches) && !patterns.is_match(word, b"xbeta", &caches));
        assert!(!patterns.is_match(word, b"\xff", &caches));
    }
}
