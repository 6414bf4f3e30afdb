//! The third step of a lookup, where many routes have one host and prefix: of them those of which the request meets one
//! condition, the one that fewest of them share. The others need not be looked at.

use super::arguments::{ArgumentCondition, ArgumentValue};
use super::conditions::HeaderValueCondition;
use super::{Asked, Conditions};
use crate::{cookies, query};
use foldhash::fast::FixedState;
use http::{HeaderName, Method};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hash;

/// So many entries are looked at one by one: that is as fast.
const ENTRIES_MIN: usize = 8;

type Map<K, V> = HashMap<K, V, FixedState>;
/// Entries by the value of something.
type Values = Map<Box<[u8]>, Vec<usize>>;

/// Entries by one of their conditions, each list in order.
#[derive(Debug, Default)]
pub(super) struct Narrow {
    /// Those without a condition that asks for certain values.
    rest: Vec<usize>,
    methods: Map<Method, Vec<usize>>,
    /// Values in lower case.
    headers: Map<HeaderName, Values>,
    query_args: Map<Box<[u8]>, Values>,
    cookies: Map<Box<[u8]>, Values>,
}

/// One value that a condition asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key<'a> {
    Method(&'a Method),
    Header(&'a HeaderName, Vec<u8>),
    Argument(&'a str, &'a [u8]),
    Cookie(&'a str, &'a [u8]),
}

impl Narrow {
    /// For these entries, in order; none for few.
    pub fn new<'a>(orders: &[usize], conditions: impl Fn(usize) -> &'a Conditions) -> Option<Box<Self>> {
        if orders.len() < ENTRIES_MIN {
            return None;
        }
        let mut shared: HashMap<Key<'_>, usize> = HashMap::new();
        let choices: Vec<_> = orders.iter().map(|order| (*order, choices(conditions(*order)))).collect();
        for key in choices.iter().flat_map(|(_, choices)| choices).flatten() {
            *shared.entry(key.clone()).or_default() += 1;
        }
        let mut narrow = Self::default();
        for (order, choices) in choices {
            let most = |keys: &Vec<Key<'_>>| keys.iter().map(|key| shared[key]).max();
            match choices.into_iter().min_by_key(most) {
                None => narrow.rest.push(order),
                Some(keys) => keys.into_iter().for_each(|key| narrow.put(key, order)),
            }
        }
        Some(Box::new(narrow))
    }

    fn put(&mut self, key: Key<'_>, order: usize) {
        let list = match key {
            Key::Method(method) => self.methods.entry(method.clone()).or_default(),
            Key::Header(name, value) => {
                self.headers.entry(name.clone()).or_default().entry(value.into()).or_default()
            }
            Key::Argument(name, value) => {
                self.query_args.entry(name.as_bytes().into()).or_default().entry(value.into()).or_default()
            }
            Key::Cookie(name, value) => {
                self.cookies.entry(name.as_bytes().into()).or_default().entry(value.into()).or_default()
            }
        };
        // Equal values of one condition come one behind the other.
        if list.last() != Some(&order) {
            list.push(order);
        }
    }

    /// The lists in which an entry may stand that takes the request.
    pub fn each(&self, asked: &Asked<'_>, mut found: impl FnMut(&[usize])) {
        found(&self.rest);
        if let Some(list) = self.methods.get(asked.method) {
            found(list);
        }
        // Whichever are fewer: the names asked for or the lines sent.
        if self.headers.len() <= asked.headers.keys_len() {
            for (name, values) in &self.headers {
                let lines = asked.headers.get_all(name).iter();
                lines.filter_map(|line| values.get(&*lower(line.as_bytes()))).for_each(|list| found(list));
            }
        } else {
            let lines = asked.headers.iter();
            let lists =
                lines.filter_map(|(name, line)| self.headers.get(name)?.get(&*lower(line.as_bytes())));
            lists.for_each(|list| found(list));
        }
        if !self.query_args.is_empty() {
            let pairs = query::pairs(asked.query);
            pairs
                .filter_map(|(name, value)| {
                    self.query_args.get(&*query::plain(name))?.get(&*query::plain(value))
                })
                .for_each(|list| found(list));
        }
        if !self.cookies.is_empty() {
            let pairs = cookies::pairs(asked.headers);
            pairs.filter_map(|(name, value)| self.cookies.get(name)?.get(value)).for_each(|list| found(list));
        }
    }

    /// How many entries stand in the longest list.
    pub fn longest(&self) -> usize {
        let values = self.headers.values().chain(self.query_args.values()).chain(self.cookies.values());
        let lists = values.flat_map(HashMap::values).chain(self.methods.values());
        lists.map(Vec::len).max().unwrap_or(0).max(self.rest.len())
    }
}

fn lower(value: &[u8]) -> SmallVec<[u8; 64]> {
    let mut value = SmallVec::from_slice(value);
    value.make_ascii_lowercase();
    value
}

/// The conditions that ask for certain values, each with these.
fn choices(conditions: &Conditions) -> Vec<Vec<Key<'_>>> {
    let mut choices: Vec<Vec<Key<'_>>> = Vec::new();
    if !conditions.methods.is_empty() {
        choices.push(conditions.methods.iter().map(Key::Method).collect());
    }
    choices.extend(conditions.headers.iter().filter_map(|header| {
        let keys = header.values.iter().map(|value| match value {
            HeaderValueCondition::Exact(text) => Some(Key::Header(&header.name, text.to_ascii_lowercase())),
            HeaderValueCondition::Regex(_) => None,
        });
        keys.collect()
    }));
    choices.extend(conditions.query_args.iter().filter_map(|one| exact(one, Key::Argument)));
    choices.extend(conditions.cookies.iter().filter_map(|one| exact(one, Key::Cookie)));
    choices
}

fn exact<'a>(
    condition: &'a ArgumentCondition,
    key: impl Fn(&'a str, &'a [u8]) -> Key<'a>,
) -> Option<Vec<Key<'a>>> {
    let values = condition.values.iter().map(|value| match value {
        ArgumentValue::Exact(text) => Some(key(&condition.name, text)),
        ArgumentValue::Regex(_) => None,
    });
    values.collect()
}
