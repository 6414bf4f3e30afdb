//! The second step of a lookup: of the prefixes under one host, all that a path begins with.
//!
//! The prefixes are sorted. The greatest that is not beyond the path shares its begin with every prefix of the path,
//! so these are found by climbing from it to ever shorter ones, each of which knows the next.

use super::narrow::Narrow;
use super::{Asked, Conditions};

/// Prefixes, and the entries of each in order.
#[derive(Debug, Default)]
pub(super) struct Paths {
    nodes: Vec<Node>,
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
        Self { nodes }
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
        let beyond = self.nodes.partition_point(|node| *node.prefix <= *path);
        let mut at = beyond.checked_sub(1);
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
        let paths = Paths::new(entries.collect());
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
        ] {
            let mut found = Vec::new();
            paths.prefixes(path, |node| found.extend_from_slice(&node.orders));
            let mut expected: Vec<usize> =
                (0..prefixes.len()).filter(|at| path.starts_with(prefixes[*at])).collect();
            let longest_first = found.windows(2).all(|two| prefixes[two[0]].len() >= prefixes[two[1]].len());
            assert!(longest_first, "{path}: {found:?}");
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{path}");
        }
    }
}
