//! The second step of a lookup: of the prefixes under one host, all that a path begins with.
//!
//! The prefixes are sorted. The greatest that is not beyond the path shares its begin with every prefix of the path,
//! so these are found by climbing from it to ever shorter ones, each of which knows the next.

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
            nodes.push(Node { prefix: prefix.into(), shorter, orders: vec![order] });
        }
        Self { nodes }
    }

    /// The entries under each prefix of the path, the longest first.
    pub fn each(&self, path: &str, mut found: impl FnMut(&[usize])) {
        let beyond = self.nodes.partition_point(|node| *node.prefix <= *path);
        let mut at = beyond.checked_sub(1);
        while let Some(node) = at.map(|at| &self.nodes[at]) {
            if path.starts_with(&*node.prefix) {
                found(&node.orders);
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
            paths.each(path, |orders| found.extend_from_slice(orders));
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
