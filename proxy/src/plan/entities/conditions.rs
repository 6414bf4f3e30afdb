//! What a route asks for beyond Kong: arguments of the query, cookies, consumers.

use super::{Checker, Known};
use crate::config::{Reference, Route};
use crate::route::{ArgumentCondition, ArgumentValue, CallerCondition};
use std::collections::BTreeMap;

impl Checker<'_> {
    /// The values of a header, argument or cookie, which stand at `path`: as they are, or expressions after `~*`. None
    /// where there are none, which is said.
    pub(super) fn values<V>(
        &mut self,
        wanted: &[String],
        path: String,
        exact: impl Fn(&str) -> V,
        regex: impl Fn(usize) -> V,
    ) -> Option<Vec<V>> {
        if wanted.is_empty() {
            self.problem_hint(path, "has no values", "to ask only that it is there: ['~*']");
            return None;
        }
        let mut values = Vec::new();
        for (at, value) in wanted.iter().enumerate() {
            values.push(match value.strip_prefix("~*") {
                None => exact(value),
                Some(expression) => {
                    let Some(pattern) = self.pattern(expression, true, format!("{path}[{at}]")) else {
                        continue;
                    };
                    regex(self.back.router.patterns.add(pattern))
                }
            });
        }
        Some(values)
    }

    /// `query_args` or `cookies`, which stand at `path`.
    pub(super) fn arguments(
        &mut self,
        asked: &BTreeMap<String, Vec<String>>,
        path: &str,
    ) -> Vec<ArgumentCondition> {
        let mut conditions = Vec::new();
        for (name, wanted) in asked {
            let path = format!("{path}.{name}");
            if name.is_empty() {
                self.problem(path, "has no name");
                continue;
            }
            let exact = |value: &str| ArgumentValue::Exact(value.as_bytes().to_vec());
            let Some(values) = self.values(wanted, path, exact, ArgumentValue::Regex) else { continue };
            conditions.push(ArgumentCondition { name: name.clone(), values });
        }
        conditions
    }

    /// Names of cookies are tokens, as those of headers are (RFC 6265, 4.1.1): no other could be found.
    pub(super) fn cookies(&mut self, route: &Route, path: &str) -> Vec<ArgumentCondition> {
        for name in route.cookies.keys().filter(|name| !name.is_empty()) {
            if http::HeaderName::try_from(name.as_str()).is_err() {
                self.problem(format!("{path}.cookies.{name}"), format!("`{name}` is not a cookie name"));
            }
        }
        self.arguments(&route.cookies, &format!("{path}.cookies"))
    }

    /// The consumers of a route, behind the guard that finds out who calls.
    pub(super) fn caller(
        &mut self,
        route: &Route,
        guard: Option<usize>,
        path: &str,
    ) -> Option<CallerCondition> {
        if route.consumers.is_empty() {
            return None;
        }
        let all = &self.entities.consumers;
        let known: Known = all
            .iter()
            .map(|one| (one.username.as_deref().or(one.custom_id.as_deref()), one.id.as_deref()))
            .collect();
        let mut consumers = Vec::new();
        for (at, name) in route.consumers.iter().enumerate() {
            let reference = Reference::Plain(name.clone());
            consumers.extend(self.refer(&reference, &known, &format!("{path}.consumers[{at}]"), "consumer"));
        }
        if guard.is_none() {
            self.problem_hint(
                format!("{path}.consumers"),
                "nobody finds out who calls: there is no key-auth before this route",
                "give the route or its service the plugin key-auth",
            );
        }
        Some(CallerCondition { guard: guard?, consumers })
    }
}
