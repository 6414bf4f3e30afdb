//! The last step of a lookup: what a route asks for beside host and path.

use super::arguments::{ArgumentCondition, CallerCondition};
use super::{Asked, Caches, Patterns};
use http::{HeaderName, Method};

/// All of them must hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// One of these; empty for any.
    pub methods: Vec<Method>,
    pub headers: Vec<HeaderCondition>,
    /// One of these, where the request came over TLS; empty for any. Lower case.
    pub snis: Vec<String>,
    pub query_args: Vec<ArgumentCondition>,
    pub cookies: Vec<ArgumentCondition>,
    pub caller: Option<CallerCondition>,
}

/// One line of a header must have one of the values.
#[derive(Debug)]
pub(crate) struct HeaderCondition {
    pub name: HeaderName,
    pub values: Vec<HeaderValueCondition>,
}

/// Both without regard to case.
#[derive(Debug)]
pub(crate) enum HeaderValueCondition {
    Exact(Vec<u8>),
    /// Number of an expression, which may match anywhere in the value.
    Regex(usize),
}

impl Conditions {
    pub fn hold(&self, asked: &Asked<'_>, patterns: &Patterns, caches: &Caches) -> bool {
        (self.methods.is_empty() || self.methods.contains(asked.method))
            && (self.snis.is_empty() || !asked.tls || asked.sni.is_some_and(|name| self.has_sni(name)))
            && self.headers.iter().all(|header| header.holds(asked, patterns, caches))
            && self.query_args.iter().all(|argument| argument.in_query(asked, patterns, caches))
            && self.cookies.iter().all(|cookie| cookie.in_cookies(asked, patterns, caches))
            && self.caller.as_ref().is_none_or(|caller| caller.holds(asked))
    }

    /// Whether they hold for every request.
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.snis.is_empty() && self.headers.is_empty() && self.beyond_kong() == 0
    }

    /// How many there are that Kong does not have.
    pub fn beyond_kong(&self) -> usize {
        self.query_args.len() + self.cookies.len() + usize::from(self.caller.is_some())
    }

    fn has_sni(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.snis.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

impl HeaderCondition {
    fn holds(&self, asked: &Asked<'_>, patterns: &Patterns, caches: &Caches) -> bool {
        asked.headers.get_all(&self.name).iter().any(|line| {
            self.values.iter().any(|value| match value {
                HeaderValueCondition::Exact(text) => line.as_bytes().eq_ignore_ascii_case(text),
                HeaderValueCondition::Regex(pattern) => patterns.is_match(*pattern, line.as_bytes(), caches),
            })
        })
    }
}
