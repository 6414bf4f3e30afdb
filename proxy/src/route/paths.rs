//! The second step of a lookup: of the prefixes under one host, all that a path begins with.
//!
//! The prefixes are sorted. The greatest that is not beyond the path shares its begin with every prefix of the path,
//! so these are found by climbing from it to ever shorter ones, each of which knows the next. Where prefixes are many and
//! their lengths few, the longest one of a path is looked up by hash instead, length by length: a search through ten
//! thousand texts waits for memory at each of its steps.

use super::compact::{Label, Number};
use super::narrow::Narrow;
use super::{Asked, Conditions, Entry};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Up to so many prefixes are searched.
const SEARCHED_MAX: usize = 64;
/// Most lengths that are looked up one after the other.
const LENGTHS_MAX: usize = 64;

/// Prefixes, and the entries of each in order.
#[derive(Debug, Default)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    table: Option<Table>,
}

/// One prefix. Fills one line of the cache, with its entry if it has but one.
#[derive(Debug)]
#[repr(align(64))]
struct Node {
    prefix: Label,
    /// The longest other prefix that this one begins with.
    shorter: Option<Number>,
    entries: Entries,
}

const _: () = assert!(size_of::<Node>() == 64, "a prefix is one line of the cache");

#[derive(Debug)]
enum Entries {
    One(Entry),
    Several(Box<Several>),
}

#[derive(Debug)]
struct Several {
    orders: Vec<usize>,
    /// The same entries by their other conditions, where they are many.
    narrow: Option<Box<Narrow>>,
}

/// Entries that may take a request.
pub(super) enum Candidates<'a> {
    One(&'a Entry),
    /// The places of several, in order.
    Several(&'a [usize]),
}

/// Prefixes by hash. A slot tells without a look at the prefix whether it can be the one, so that what is not there
/// costs one line of the cache, and what is there one more.
#[derive(Debug)]
struct Table {
    /// The lengths that prefixes have, the longest first.
    lengths: Vec<usize>,
    /// As many as a power of two; some are empty.
    slots: Box<[Slot]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The half of the hash that did not choose the slot.
    fingerprint: u32,
    node: Option<Number>,
}

impl Table {
    /// None where a search is as fast.
    fn of(nodes: &[Node]) -> Option<Self> {
        let mut lengths: Vec<usize> = nodes.iter().map(|node| node.prefix.as_bytes().len()).collect();
        lengths.sort_unstable_by(|left, right| right.cmp(left));
        lengths.dedup();
        if nodes.len() <= SEARCHED_MAX || lengths.len() > LENGTHS_MAX {
            return None;
        }
        // At most three quarters are taken, so that a look ends soon.
        let size = (nodes.len() * 4 / 3 + 1).next_power_of_two();
        let mut table = Self { lengths, slots: vec![Slot::default(); size].into() };
        for (number, node) in nodes.iter().enumerate() {
            let (mut at, fingerprint) = table.place(node.prefix.as_bytes());
            while table.slots[at].node.is_some() {
                at = table.behind(at);
            }
            table.slots[at] = Slot { fingerprint, node: Some(Number::new(number)) };
        }
        Some(table)
    }

    /// Where a prefix is looked for first, and its fingerprint.
    fn place(&self, prefix: &[u8]) -> (usize, u32) {
        let hash = FixedState::default().hash_one(prefix);
        (hash as usize & (self.slots.len() - 1), (hash >> 32) as u32)
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// The longest prefix of a path.
    fn longest(&self, path: &[u8], nodes: &[Node]) -> Option<usize> {
        let mut begins = self.lengths.iter().filter_map(|length| path.get(..*length));
        begins.find_map(|begin| {
            let (mut at, fingerprint) = self.place(begin);
            while let Some(node) = self.slots[at].node.map(Number::get) {
                if self.slots[at].fingerprint == fingerprint && nodes[node].prefix.as_bytes() == begin {
                    return Some(node);
                }
                at = self.behind(at);
            }
            None
        })
    }
}

impl Paths {
    /// Takes entries, each with its prefix; the empty prefix is for what asks for no path. `conditions` are those of an
    /// entry by its order.
    pub fn new<'a>(mut entries: Vec<(&str, Entry)>, conditions: impl Fn(usize) -> &'a Conditions) -> Self {
        entries.sort_by_key(|(prefix, entry)| (*prefix, entry.order));
        let mut nodes: Vec<Node> = Vec::new();
        for alike in entries.chunk_by(|left, right| left.0 == right.0) {
            let prefix = alike[0].0;
            let mut shorter = nodes.len().checked_sub(1);
            while let Some(at) = shorter
                && !prefix.as_bytes().starts_with(nodes[at].prefix.as_bytes())
            {
                shorter = nodes[at].shorter.map(Number::get);
            }
            let entries = match alike {
                [(_, entry)] => Entries::One(*entry),
                several => {
                    let orders: Vec<usize> = several.iter().map(|(_, entry)| entry.order.get()).collect();
                    let narrow = Narrow::new(&orders, &conditions);
                    Entries::Several(Box::new(Several { orders, narrow }))
                }
            };
            nodes.push(Node { prefix: Label::new(prefix), shorter: shorter.map(Number::new), entries });
        }
        Self { table: Table::of(&nodes), nodes }
    }

    /// How many entries may have to be looked at one by one under one prefix.
    pub fn longest(&self) -> usize {
        let longest = |node: &Node| match &node.entries {
            Entries::One(_) => 1,
            Entries::Several(several) => {
                several.narrow.as_ref().map_or(several.orders.len(), |narrow| narrow.longest())
            }
        };
        self.nodes.iter().map(longest).max().unwrap_or(0)
    }

    /// The entries that may take the request under each prefix of its path, the longest first, with the length of the
    /// prefix.
    pub fn each(&self, asked: &Asked<'_>, mut found: impl FnMut(usize, Candidates<'_>)) {
        self.prefixes(asked.path, |node| {
            let length = node.prefix.as_bytes().len();
            match &node.entries {
                Entries::One(entry) => found(length, Candidates::One(entry)),
                Entries::Several(several) => {
                    let list = |orders: &[usize]| found(length, Candidates::Several(orders));
                    several.each(asked, list);
                }
            }
        });
    }

    fn prefixes(&self, path: &str, mut found: impl FnMut(&Node)) {
        let path = path.as_bytes();
        let mut at = match &self.table {
            Some(table) => table.longest(path, &self.nodes),
            None => self.nodes.partition_point(|node| node.prefix.as_bytes() <= path).checked_sub(1),
        };
        while let Some(node) = at.map(|at| &self.nodes[at]) {
            if path.starts_with(node.prefix.as_bytes()) {
                found(node);
            }
            at = node.shorter.map(Number::get);
        }
    }
}

impl Several {
    /// Lists of entries, each in order.
    fn each(&self, asked: &Asked<'_>, mut found: impl FnMut(&[usize])) {
        match &self.narrow {
            None => found(&self.orders),
            Some(narrow) => narrow.each(asked, found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Paths {
        static NONE: std::sync::LazyLock<Conditions> = std::sync::LazyLock::new(Conditions::default);
        let entries = prefixes.into_iter().enumerate().map(|(order, prefix)| {
            let order = Number::new(order);
            (prefix, Entry { order, route: order, pattern: None, conditional: false })
        });
        Paths::new(entries.collect(), |_| &*NONE)
    }

    fn orders(node: &Node) -> Vec<usize> {
        match &node.entries {
            Entries::One(entry) => vec![entry.order.get()],
            Entries::Several(several) => several.orders.clone(),
        }
    }

    #[test]
    fn every_prefix_of_a_path_is_found_and_no_other() {
        let prefixes =
            ["", "/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/b/c/d", "/a.b", "/a/b", "/~", "/a/b/c/d/e"];
        let searched = paths(prefixes);
        // So many more that they are looked up, some longer than what lies in a line of the cache.
        let more: Vec<_> =
            (0..SEARCHED_MAX).map(|number| format!("/more/{number}/{}", "7".repeat(number % 40))).collect();
        let looked_up = paths(prefixes.into_iter().chain(more.iter().map(String::as_str)));
        assert!(searched.table.is_none() && looked_up.table.is_some());
        for path in [
            "/",
            "/a",
            "/a/b/c",
            "/abc",
            "/a/bcd/e",
            "/b/c",
            "/b/c/d/",
            "/z",
            "/a.b.c",
            "/~x",
            "/a/b/c/d/e/f",
            "/a/\u{e9}",
            "",
        ] {
            for paths in [&searched, &looked_up] {
                let mut found = Vec::new();
                paths.prefixes(path, |node| found.extend(orders(node)));
                let mut expected: Vec<usize> =
                    (0..prefixes.len()).filter(|at| path.starts_with(prefixes[*at])).collect();
                let longest_first =
                    found.windows(2).all(|two| prefixes[two[0]].len() >= prefixes[two[1]].len());
                assert!(longest_first, "{path}: {found:?}");
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "{path}");
            }
        }
    }

    #[test]
    fn prefixes_of_too_many_lengths_are_searched() {
        let prefixes: Vec<_> = (0..100).map(|length| "/".repeat(length + 1)).collect();
        let paths = paths(prefixes.iter().map(String::as_str));
        assert!(paths.table.is_none());
        let mut found = 0;
        paths.prefixes(&"/".repeat(70), |node| found += orders(node).len());
        assert_eq!(found, 70);
    }

    #[test]
    fn of_many_prefixes_each_finds_itself_and_what_is_not_there_is_not_found() {
        let prefixes: Vec<_> = (0..10_000).map(|number| format!("/{}/{number}", number % 10)).collect();
        let paths = paths(prefixes.iter().map(String::as_str));
        assert!(paths.table.is_some());
        for (number, prefix) in prefixes.iter().enumerate() {
            let mut found = Vec::new();
            paths.prefixes(&format!("{prefix}/x"), |node| found.extend(orders(node)));
            assert!(found.contains(&number), "{prefix}: {found:?}");
            assert!(found.iter().all(|other| prefix.starts_with(&prefixes[*other])), "{prefix}: {found:?}");
        }
        paths.prefixes("/a/1", |_| panic!("no route asks for it"));
    }
}
