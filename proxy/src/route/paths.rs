//! The second step of a lookup: of the prefixes under one host, all that a path begins with.
//!
//! The prefixes are sorted. The greatest that is not beyond the path shares its begin with every prefix of the path,
//! so these are found by climbing from it to ever shorter ones, each of which knows the next. Where prefixes are many and
//! their lengths few, the longest one of a path is looked up by hash instead, length by length: a search through ten
//! thousand texts waits for memory at each of its steps.

use super::narrow::Narrow;
use super::{Asked, Conditions};
use foldhash::fast::FixedState;
use std::collections::HashMap;

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

/// Prefixes by hash.
#[derive(Debug)]
struct Table {
    /// The lengths that prefixes have, the longest first.
    lengths: Vec<usize>,
    nodes: HashMap<Box<[u8]>, usize, FixedState>,
}

impl Table {
    /// None where a search is as fast.
    fn of(nodes: &[Node]) -> Option<Self> {
        let mut lengths: Vec<usize> = nodes.iter().map(|node| node.prefix.len()).collect();
        lengths.sort_unstable_by(|left, right| right.cmp(left));
        lengths.dedup();
        if nodes.len() <= SEARCHED_MAX || lengths.len() > LENGTHS_MAX {
            return None;
        }
        let named = |(at, node): (usize, &Node)| (node.prefix.as_bytes().into(), at);
        Some(Self { lengths, nodes: nodes.iter().enumerate().map(named).collect() })
    }

    /// The longest prefix of a path.
    fn longest(&self, path: &[u8]) -> Option<usize> {
        let begins = self.lengths.iter().filter_map(|length| path.get(..*length));
        begins.filter_map(|begin| self.nodes.get(begin)).next().copied()
    }
}

#[derive(Debug)]
struct Node {
    prefix: Box<str>,
    /// The longest other prefix that this one begins with.
    shorter: Option<usize>,
    orders: Vec<usize>,
    /// The same entries by their other conditions, where they are many.
    narrow: Option<Box<Narrow>>,
}

impl Paths {
    /// Takes entries in order, each with its prefix; the empty prefix is for what asks for no path.
    pub fn new(mut entries: Vec<(String, usize)>) -> Self {
        entries.sort();
        let mut nodes: Vec<Node> = Vec::new();
        for (prefix, order) in entries {
            if let Some(last) = nodes.last_mut()
                && *last.prefix == prefix
            {
                last.orders.push(order);
                continue;
            }
            let mut shorter = nodes.len().checked_sub(1);
            while let Some(at) = shorter
                && !prefix.starts_with(&*nodes[at].prefix)
            {
                shorter = nodes[at].shorter;
            }
            nodes.push(Node { prefix: prefix.into(), shorter, orders: vec![order], narrow: None });
        }
        Self { table: Table::of(&nodes), nodes }
    }

    /// Sorts the entries of each prefix by their other conditions, where they are many.
    pub fn narrow<'a>(&mut self, conditions: impl Fn(usize) -> &'a Conditions) {
        for node in &mut self.nodes {
            node.narrow = Narrow::new(&node.orders, &conditions);
        }
    }

    /// How many entries may have to be looked at one by one under one prefix.
    pub fn longest(&self) -> usize {
        let longest = |node: &Node| node.narrow.as_ref().map_or(node.orders.len(), |narrow| narrow.longest());
        self.nodes.iter().map(longest).max().unwrap_or(0)
    }

    /// The entries that may take the request under each prefix of its path, the longest first; each list is in order.
    pub fn each(&self, asked: &Asked<'_>, mut found: impl FnMut(&[usize])) {
        self.prefixes(asked.path, |node| match &node.narrow {
            None => found(&node.orders),
            Some(narrow) => narrow.each(asked, &mut found),
        });
    }

    fn prefixes(&self, path: &str, mut found: impl FnMut(&Node)) {
        let mut at = match &self.table {
            Some(table) => table.longest(path.as_bytes()),
            None => self.nodes.partition_point(|node| *node.prefix <= *path).checked_sub(1),
        };
        while let Some(node) = at.map(|at| &self.nodes[at]) {
            if path.starts_with(&*node.prefix) {
                found(node);
            }
            at = node.shorter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_path_is_found_and_no_other() {
        let prefixes =
            ["", "/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/b/c/d", "/a.b", "/a/b", "/~", "/a/b/c/d/e"];
        let entries = prefixes.iter().enumerate().map(|(order, prefix)| ((*prefix).to_owned(), order));
        let searched = Paths::new(entries.clone().collect());
        // So many more that they are looked up.
        let more = (0..SEARCHED_MAX).map(|number| (format!("/more/{number}"), prefixes.len() + number));
        let looked_up = Paths::new(entries.chain(more).collect());
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
                paths.prefixes(path, |node| found.extend_from_slice(&node.orders));
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
        let paths = Paths::new((0..100).map(|length| ("/".repeat(length + 1), length)).collect());
        assert!(paths.table.is_none());
        let mut found = 0;
        paths.prefixes(&"/".repeat(70), |node| found += node.orders.len());
        assert_eq!(found, 70);
    }
}
