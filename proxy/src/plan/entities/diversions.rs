//! Rewrites and redirects of a route: what becomes of path and host.

use super::{Checker, split_target};
use crate::config::{PathRegex, Redirect, Rewrite, Route};
use crate::path;
use crate::route::{HostPattern, PathChange, PathPattern, RedirectPlan, RewritePlan, Template, is_of_path};
use http::HeaderValue;

/// The three ways to change a path, as they stand in the file.
struct Change<'a> {
    whole: Option<&'a String>,
    prefix: Option<&'a String>,
    regex: Option<&'a PathRegex>,
}

impl Checker<'_> {
    /// The rewrite of a route with these paths.
    pub(super) fn rewrite(
        &mut self,
        route: &Route,
        paths: &[PathPattern],
        path: &str,
    ) -> Option<RewritePlan> {
        let Rewrite { host, path: whole, prefix, regex } = route.rewrite.as_ref()?;
        let here = format!("{path}.rewrite");
        let change = Change { whole: whole.as_ref(), prefix: prefix.as_ref(), regex: regex.as_ref() };
        let changes_path = whole.is_some() || prefix.is_some() || regex.is_some();
        if host.is_none() && !changes_path {
            self.problem_hint(here.clone(), "changes nothing", "give it a host, path, prefix or regex");
        }
        if changes_path && route.strip_path.is_some() {
            self.problem_hint(
                format!("{path}.strip_path"),
                "is not read: the route rewrites its paths",
                "leave it out; `rewrite.prefix` takes the place of what was matched",
            );
        }
        if host.is_some() && route.preserve_host == Some(true) {
            self.problem_hint(
                format!("{path}.preserve_host"),
                "is true, but the route rewrites the host",
                "leave one of them out",
            );
        }
        let host = host.as_ref().and_then(|host| {
            let value = HeaderValue::from_str(host).ok().filter(|_| split_target(host).is_some());
            if value.is_none() {
                self.problem(format!("{here}.host"), format!("`{host}` is not a host"));
            }
            value
        });
        Some(RewritePlan { path: self.path_change(&change, paths, &here), host })
    }

    /// The redirect of a route with these paths.
    pub(super) fn redirect(
        &mut self,
        route: &Route,
        paths: &[PathPattern],
        path: &str,
    ) -> Option<RedirectPlan> {
        let Redirect { status, scheme, host, port, path: whole, prefix, regex } = route.redirect.as_ref()?;
        for (field, given) in [
            ("rewrite", route.rewrite.is_some()),
            ("weighted_destinations", !route.weighted_destinations.is_empty()),
        ] {
            if given {
                self.problem_hint(
                    format!("{path}.{field}"),
                    "is not read: the route sends its clients away",
                    "leave one of them out",
                );
            }
        }
        let path = format!("{path}.redirect");
        let status = status.unwrap_or(301);
        if ![301, 302, 303, 307, 308].contains(&status) {
            let message = format!("{status} sends nobody away");
            self.problem_hint(format!("{path}.status"), message, "301, 302, 303, 307 or 308");
        }
        let scheme = match scheme.as_deref() {
            None => None,
            Some("http") => Some("http"),
            Some("https") => Some("https"),
            Some(other) => {
                let message = format!("`{other}` is not supported");
                self.problem_hint(format!("{path}.scheme"), message, "http or https");
                None
            }
        };
        if let Some(host) = host {
            let read = HostPattern::read(host).filter(|host| !host.is_wildcard() && host.port.is_none());
            if read.is_none() {
                let message = format!("`{host}` is not a host name or address");
                self.problem_hint(
                    format!("{path}.host"),
                    message,
                    "like www.example.com; `port` is another field",
                );
            }
        }
        if *port == Some(0) {
            self.problem(format!("{path}.port"), "must be from 1 to 65535");
        }
        let change = Change { whole: whole.as_ref(), prefix: prefix.as_ref(), regex: regex.as_ref() };
        let change = self.path_change(&change, paths, &path);
        if scheme.is_none() && host.is_none() && port.is_none() && change.is_none() {
            self.problem_hint(
                path,
                "sends clients to where they are",
                "give it a scheme, host, port, path, prefix or regex",
            );
        }
        Some(RedirectPlan { status, scheme, host: host.clone(), port: *port, path: change })
    }

    fn path_change(&mut self, change: &Change<'_>, paths: &[PathPattern], path: &str) -> Option<PathChange> {
        let given = [change.whole.is_some(), change.prefix.is_some(), change.regex.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            self.problem(path, "has more than one of path, prefix and regex");
        }
        if let Some(text) = change.whole {
            return self.template(text, paths, &format!("{path}.path")).map(PathChange::Whole);
        }
        if let Some(text) = change.prefix {
            return self.template(text, paths, &format!("{path}.prefix")).map(PathChange::Prefix);
        }
        let regex = change.regex?;
        let path = format!("{path}.regex");
        let pattern = self.pattern(&regex.pattern, false, format!("{path}.pattern"))?;
        let pattern = self.back.router.patterns.add(pattern);
        let path = format!("{path}.substitution");
        let with = self.template_of(&regex.substitution, &path)?;
        for group in with.groups() {
            if !self.back.router.patterns.has_group(pattern, group) {
                self.problem(path.clone(), format!("the pattern has no group `{group}`"));
            }
        }
        Some(PathChange::Regex { pattern, with })
    }

    /// A whole path or prefix, with what the route's own expressions capture.
    fn template(&mut self, text: &str, paths: &[PathPattern], path: &str) -> Option<Template> {
        let template = self.template_of(text, path)?;
        let mut sample = String::new();
        template.write(None, &mut sample);
        if !text.starts_with('/') || path::normalise(&sample).is_none() {
            self.problem_hint(path, format!("`{text}` is not a path"), "begin with /");
        }
        for group in template.groups() {
            let captured = |one: &PathPattern| match one {
                PathPattern::Prefix(_) => false,
                PathPattern::Regex { pattern, .. } => self.back.router.patterns.has_group(*pattern, group),
            };
            if paths.is_empty() || !paths.iter().all(captured) {
                self.problem_hint(
                    path,
                    format!("not every path of the route captures `{group}`"),
                    "give the route expressions with that group, like ~/users/(?<id>[0-9]+)",
                );
            }
        }
        Some(template)
    }

    fn template_of(&mut self, text: &str, path: &str) -> Option<Template> {
        let template = match Template::read(text) {
            Ok(template) => template,
            Err(error) => {
                self.problem(path, error.to_string());
                return None;
            }
        };
        if let Some(letter) = template.texts().flat_map(str::chars).find(|letter| !is_of_path(*letter)) {
            let message = format!("`{letter}` does not stand in a path");
            self.problem_hint(path, message, "percent-encode it; the query goes on as it is");
        }
        Some(template)
    }
}
