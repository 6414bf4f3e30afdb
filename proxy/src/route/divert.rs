//! What a route does with the path of its requests beyond Kong: the path that goes upstream, and the place that clients
//! are sent to.
//!
//! What comes of captures is a path like any other: it begins with one slash, has no `..`, and is percent-encoded, so it
//! neither names another host nor ends a header line.

use super::pattern::{Caches, Captured};
use super::template::Template;
use super::{Matched, Router};
use crate::{path, query};
use http::HeaderValue;

/// What goes upstream in place of what the client asked for.
#[derive(Debug)]
pub(crate) struct RewritePlan {
    pub path: Option<PathChange>,
    pub host: Option<HeaderValue>,
}

/// Where clients are sent.
#[derive(Debug)]
pub(crate) struct RedirectPlan {
    pub status: u16,
    /// None for that of the request; so below.
    pub scheme: Option<&'static str>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<PathChange>,
}

/// How a path is changed.
#[derive(Debug)]
pub(crate) enum PathChange {
    /// As a whole.
    Whole(Template),
    /// The part that the route matched.
    Prefix(Template),
    /// What an expression matches, wherever it does.
    Regex { pattern: usize, with: Template },
}

impl PathChange {
    /// The changed path; none when it is no path or longer than so many bytes.
    pub fn apply(
        &self,
        path: &str,
        matched: &Matched,
        router: &Router,
        caches: &Caches,
        bytes_max: usize,
    ) -> Option<String> {
        let mut out = String::with_capacity(path.len() + 32);
        let captured = || router.captured(matched, path, caches);
        match self {
            Self::Whole(template) => template.write(captured().as_ref(), &mut out),
            Self::Prefix(template) => {
                template.write(captured().as_ref(), &mut out);
                let rest = &path[matched.prefix_bytes..];
                // One slash between them, as with the path of a service.
                if !rest.is_empty() && !rest.starts_with('/') && !out.ends_with('/') {
                    out.push('/');
                }
                out.push_str(rest);
            }
            Self::Regex { pattern, with } => {
                let mut written = 0;
                let mut each = |found: &Captured<'_>| {
                    let range = found.range();
                    out.push_str(&path[written..range.start]);
                    with.write(Some(found), &mut out);
                    written = range.end;
                    out.len() <= bytes_max
                };
                router.patterns.each_match(*pattern, path, caches, &mut each);
                out.push_str(&path[written..]);
            }
        }
        finish(&out).filter(|path| path.len() <= bytes_max)
    }
}

/// The normal form of a path that was put together, with everything encoded that is not of a path (RFC 3986, 3.3).
fn finish(path: &str) -> Option<String> {
    // Pieces that are no way up may make one together.
    if path.split('/').any(|segment| matches!(&*query::plain(segment), b"." | b"..")) {
        return None;
    }
    let normal = path::normalise(path)?;
    let mut out = String::with_capacity(normal.len());
    for letter in normal.chars() {
        if is_of_path(letter) {
            out.push(letter);
        } else {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                out.push('%');
                out.extend(
                    [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
                );
            }
        }
    }
    Some(out)
}

/// Whether a letter stands in a path as it is.
pub(crate) fn is_of_path(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{PathPattern, Pattern};

    /// A router with one expression for the path, and a second one for changes.
    fn router(path: &str, second: &str) -> (Router, usize) {
        let mut builder = crate::route::Builder::default();
        let pattern = Pattern::new(path, false).unwrap();
        let prefix = pattern.prefix.clone();
        let pattern = builder.patterns.add(pattern);
        let second = builder.patterns.add(Pattern::new(second, false).unwrap());
        let paths = vec![PathPattern::Regex { pattern, prefix }];
        builder.add(Default::default(), crate::route::Matches { paths, ..Default::default() });
        (builder.build(), second)
    }

    fn change(path: &str, template: &str, asked: &str) -> Option<String> {
        let (router, _) = router(path, "x");
        let caches = Caches::default();
        let prefix_bytes = router.patterns.match_end(0, asked, &caches).unwrap();
        let matched = Matched { route: 0, prefix_bytes, pattern: Some(0) };
        PathChange::Whole(Template::read(template).unwrap()).apply(asked, &matched, &router, &caches, 64)
    }

    #[test]
    fn captures_make_a_path_and_nothing_else() {
        const ALL: &str = "/(.*)";
        for (pattern, template, asked, expected) in [
            (r"/u/(?<id>\d+)(?<rest>/.*)?", "/x/${id}$rest", "/u/42/a/b", Some("/x/42/a/b")),
            (r"/u/(?<id>\d+)(?<rest>/.*)?", "/x/$id$rest", "/u/42", Some("/x/42")),
            // No other host, however many slashes there are.
            (ALL, "/$1", "/%2F%2Fevil.example", Some("/%2F%2Fevil.example")),
            ("(.*)", "/$1", "/evil.example/", Some("/evil.example/")),
            (ALL, "/$1/$1", "/a", Some("/a/a")),
            // Nothing that ends a line or begins a query.
            (ALL, "/$1", "/a\"<>^`{|}#[]?", Some("/a%22%3C%3E%5E%60%7B%7C%7D%23%5B%5D%3F")),
            ("/(%0)(?<b>A|D)?", "/$1$b", "/%0", None),
            ("/a(%)b(0d)", "/$1$2", "/a%b0d", None),
            ("/a(%)b(0D)%b(0A)", "/$1$2$1$3", "/a%b0D%b0A", None),
            (r"/a(\.)b(\.)", "/safe/$1$2/x", "/a.b.", None),
            (r"/a(%2)b(e)", "/$1$2$1$2/x", "/a%2be", None),
            (r"/a(\\)", "/$1", "/a\\", None),
            (ALL, "/$1", "/0123456789012345678901234567890123456789012345678901234567890123", None),
        ] {
            assert_eq!(change(pattern, template, asked).as_deref(), expected, "{pattern} {asked}");
        }
    }

    #[test]
    fn prefixes_and_expressions_are_replaced() {
        let caches = Caches::default();
        let (router, second) = router("/api", "/v([0-9]+)");
        let prefix = |with: &str, asked: &str, prefix_bytes| {
            let matched = Matched { route: 0, prefix_bytes, pattern: None };
            PathChange::Prefix(Template::read(with).unwrap()).apply(asked, &matched, &router, &caches, 64)
        };
        for (with, asked, bytes, expected) in [
            ("/v2", "/api/x", 4, "/v2/x"),
            ("/v2", "/api", 4, "/v2"),
            ("/v2/", "/api/x", 4, "/v2/x"),
            ("/v2", "/x", 1, "/v2/x"),
            ("/", "/api/x", 4, "/x"),
            ("/", "/api", 4, "/"),
        ] {
            assert_eq!(prefix(with, asked, bytes).as_deref(), Some(expected), "{with} {asked}");
        }
        let matched = Matched { route: 0, prefix_bytes: 0, pattern: None };
        let regex = |with: &str, asked: &str| {
            let with = Template::read(with).unwrap();
            PathChange::Regex { pattern: second, with }.apply(asked, &matched, &router, &caches, 64)
        };
        assert_eq!(regex("/version/$1", "/api/v1/x/v22").as_deref(), Some("/api/version/1/x/version/22"));
        assert_eq!(regex("/y", "/none").as_deref(), Some("/none"));
        assert_eq!(regex("", "/v1").as_deref(), None, "nothing is no path");
    }

    #[test]
    fn expressions_that_match_nothing_end() {
        let caches = Caches::default();
        let (router, second) = router("/", "b*");
        let with = Template::read("-").unwrap();
        let matched = Matched { route: 0, prefix_bytes: 0, pattern: None };
        let changed =
            PathChange::Regex { pattern: second, with }.apply("/abb", &matched, &router, &caches, 64);
        assert_eq!(changed, None, "it no longer begins with a slash");
        let with = Template::read("").unwrap();
        let changed =
            PathChange::Regex { pattern: second, with }.apply("/abbc", &matched, &router, &caches, 64);
        assert_eq!(changed.as_deref(), Some("/ac"));
    }
}
