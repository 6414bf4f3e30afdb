//! What a route may ask for beyond Kong: arguments of the query, cookies, and who calls.

use super::{Asked, Caches, Patterns};
use crate::auth::{Guard, Keyring};
use crate::{cookies, query};
use http::Method;

/// One value of an argument or cookie must be one of these.
#[derive(Debug)]
pub(crate) struct ArgumentCondition {
    pub name: String,
    pub values: Vec<ArgumentValue>,
}

#[derive(Debug)]
pub(crate) enum ArgumentValue {
    /// With regard to case.
    Exact(Vec<u8>),
    /// Number of an expression, which may match anywhere in the value.
    Regex(usize),
}

/// The guard before the route must find the caller to be one of these.
#[derive(Debug)]
pub(crate) struct CallerCondition {
    pub guard: usize,
    /// Numbers of consumers.
    pub consumers: Vec<usize>,
}

/// What callers are found by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callers<'a> {
    pub guards: &'a [Guard],
    pub keyring: &'a Keyring,
}

impl ArgumentCondition {
    pub fn in_query(&self, asked: &Asked<'_>, patterns: &Patterns, caches: &Caches) -> bool {
        query::values(asked.query, &self.name).any(|value| self.takes(&value, patterns, caches))
    }

    pub fn in_cookies(&self, asked: &Asked<'_>, patterns: &Patterns, caches: &Caches) -> bool {
        cookies::values(asked.headers, &self.name).any(|value| self.takes(value, patterns, caches))
    }

    fn takes(&self, sent: &[u8], patterns: &Patterns, caches: &Caches) -> bool {
        self.values.iter().any(|value| match value {
            ArgumentValue::Exact(text) => text == sent,
            ArgumentValue::Regex(pattern) => patterns.is_match(*pattern, sent, caches),
        })
    }
}

impl CallerCondition {
    /// Nobody is let in here: the guard of the route that is taken is asked once more, and refuses by itself.
    pub fn holds(&self, asked: &Asked<'_>) -> bool {
        let guard = &asked.callers.guards[self.guard];
        if *asked.method == Method::OPTIONS && !guard.run_on_preflight {
            return false;
        }
        let caller = guard.caller(asked.callers.keyring, asked.headers, asked.query);
        caller.is_some_and(|identity| self.consumers.contains(&identity.number))
    }
}
