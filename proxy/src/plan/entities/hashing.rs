//! What an upstream hashes, by Kong's rules of which field asks for which.

use super::Checker;
use crate::config::{Algorithm, HashOn, Upstream};
use crate::forward::{HashCookie, HashKey, HashPlan};
use crate::route::Group;
use http::{HeaderName, HeaderValue};

impl Checker<'_> {
    /// The algorithm of an upstream, and what it hashes.
    pub(super) fn algorithm(&mut self, upstream: &Upstream, path: &str) -> (Algorithm, HashPlan) {
        let on = upstream.hash_on.unwrap_or_default();
        let fallback = upstream.hash_fallback.unwrap_or_default();
        let hashes = on != HashOn::None;
        let algorithm = match upstream.algorithm {
            Some(algorithm) => algorithm,
            None if hashes => Algorithm::ConsistentHashing,
            None => Algorithm::default(),
        };
        if hashes && algorithm != Algorithm::ConsistentHashing {
            self.problem_hint(
                format!("{path}.hash_on"),
                "is only read by consistent-hashing",
                "leave it out, or set algorithm: consistent-hashing",
            );
        }
        if matches!(on, HashOn::None | HashOn::Cookie) && fallback != HashOn::None {
            let why =
                if hashes { "a cookie is never missing" } else { "there is nothing that it could replace" };
            self.problem_hint(
                format!("{path}.hash_fallback"),
                format!("must be none: {why}"),
                "leave it out",
            );
        } else if on == fallback
            && !matches!(on, HashOn::None | HashOn::Header | HashOn::QueryArg | HashOn::UriCapture)
        {
            self.problem_hint(
                format!("{path}.hash_fallback"),
                "is the same as hash_on",
                "hash something else, or leave it out",
            );
        }
        self.same("hash_on_header", &upstream.hash_on_header, &upstream.hash_fallback_header, path);
        self.same("hash_on_query_arg", &upstream.hash_on_query_arg, &upstream.hash_fallback_query_arg, path);
        let captures = [&upstream.hash_on_uri_capture, &upstream.hash_fallback_uri_capture];
        self.same("hash_on_uri_capture", captures[0], captures[1], path);
        let slots = upstream.slots.unwrap_or(10_000);
        if !(10..=65_536).contains(&slots) {
            self.problem(format!("{path}.slots"), "must be from 10 to 65536");
        }
        let sticky = self.sticky_cookie(upstream, algorithm, path);
        let fields = [&upstream.hash_on_header, &upstream.hash_on_query_arg, &upstream.hash_on_uri_capture];
        let key = self.hash_key(on, "hash_on", fields, path);
        let fields = [
            &upstream.hash_fallback_header,
            &upstream.hash_fallback_query_arg,
            &upstream.hash_fallback_uri_capture,
        ];
        let fallback_key = self.hash_key(fallback, "hash_fallback", fields, path);
        let cookie = self.hash_cookie(upstream, [on, fallback].contains(&HashOn::Cookie), path);
        (algorithm, HashPlan { keys: [key, fallback_key], cookie, sticky, slots: slots as usize })
    }

    fn same(&mut self, name: &str, one: &Option<String>, other: &Option<String>, path: &str) {
        if one.is_some() && one == other {
            let fallback = name.replace("hash_on", "hash_fallback");
            self.problem_hint(
                format!("{path}.{fallback}"),
                format!("is the same as {name}"),
                "hash something else, or leave it out",
            );
        }
    }

    fn hash_key(&mut self, on: HashOn, field: &str, fields: [&Option<String>; 3], path: &str) -> HashKey {
        let [header, query, capture] = fields;
        let mut named = |name: &str, value: &Option<String>| {
            if value.is_none() {
                self.problem(format!("{path}.{name}"), format!("is missing: {field} asks for it"));
            }
            value.clone().unwrap_or_default()
        };
        match on {
            HashOn::None => HashKey::None,
            HashOn::Consumer => HashKey::Consumer,
            HashOn::Ip => HashKey::Ip,
            HashOn::Path => HashKey::Path,
            HashOn::Cookie => HashKey::Cookie,
            HashOn::QueryArg => HashKey::QueryArg(named(&format!("{field}_query_arg"), query)),
            HashOn::UriCapture => {
                let name = named(&format!("{field}_uri_capture"), capture);
                match Group::read(&name) {
                    Some(group) => HashKey::UriCapture(group),
                    None if name.is_empty() => HashKey::None,
                    None => {
                        self.problem(
                            format!("{path}.{field}_uri_capture"),
                            format!("`{name}` is neither the name nor the number of a group"),
                        );
                        HashKey::None
                    }
                }
            }
            HashOn::Header => {
                let name = named(&format!("{field}_header"), header);
                match HeaderName::try_from(name.as_str()) {
                    Ok(name) => HashKey::Header(name),
                    Err(_) if name.is_empty() => HashKey::None,
                    Err(_) => {
                        self.problem(
                            format!("{path}.{field}_header"),
                            format!("`{name}` is not a header name"),
                        );
                        HashKey::None
                    }
                }
            }
        }
    }

    fn hash_cookie(&mut self, upstream: &Upstream, asked: bool, path: &str) -> Option<HashCookie> {
        let Some(name) = &upstream.hash_on_cookie else {
            if asked {
                self.problem(format!("{path}.hash_on_cookie"), "is missing: a cookie is to be hashed");
            }
            return None;
        };
        let cookie_path = upstream.hash_on_cookie_path.as_deref();
        Some(self.cookie(name, cookie_path, &format!("{path}.hash_on_cookie")))
    }

    /// The cookie that names a client's target.
    fn sticky_cookie(&mut self, upstream: &Upstream, algorithm: Algorithm, path: &str) -> Option<HashCookie> {
        let path = format!("{path}.sticky_sessions_cookie");
        let asked = algorithm == Algorithm::StickySessions;
        let Some(name) = &upstream.sticky_sessions_cookie else {
            if asked {
                self.problem_hint(
                    &path,
                    "is missing: sticky-sessions asks for it",
                    "give it a name of its own",
                );
            }
            // Dumps of Kong write its default out.
            if upstream.sticky_sessions_cookie_path.as_deref().is_some_and(|path| path != "/") {
                self.problem(format!("{path}_path"), "is not read: there is no sticky_sessions_cookie");
            }
            return None;
        };
        if !asked {
            self.problem_hint(
                &path,
                "is only read by sticky-sessions",
                "leave it out, or set algorithm: sticky-sessions",
            );
        }
        let mut cookie = self.cookie(name, upstream.sticky_sessions_cookie_path.as_deref(), &path);
        // Scripts have no use for it.
        cookie.suffix.push_str("; HttpOnly");
        Some(cookie)
    }

    /// A cookie whose name stands at `path`, and its own path beside it.
    fn cookie(&mut self, name: &str, cookie_path: Option<&str>, path: &str) -> HashCookie {
        // RFC 6265, 4.1.1: a cookie's name is a token, as that of a header is.
        if HeaderName::try_from(name).is_err() {
            self.problem(path, format!("`{name}` is not a cookie name"));
        }
        let cookie_path = cookie_path.unwrap_or("/");
        let suffix = format!("; Path={cookie_path}");
        if !cookie_path.starts_with('/')
            || cookie_path.contains(';')
            || HeaderValue::from_str(&suffix).is_err()
        {
            self.problem_hint(
                format!("{path}_path"),
                format!("`{cookie_path}` is not a path"),
                "begin with /",
            );
        }
        HashCookie { name: name.to_owned(), suffix }
    }
}
