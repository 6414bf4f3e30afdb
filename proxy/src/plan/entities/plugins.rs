//! Plugins, of which there is key-auth: what each asks for, and what it stands before.

use super::{Back, Checker};
use crate::auth::Guard;
use crate::config::{KeyAuthConfig, Plugin};
use event::Problem;

impl Checker<'_> {
    /// Plugins at top level without a route, and those of services.
    pub(super) fn plugins(&mut self) {
        self.service_guards = vec![None; self.entities.services.len()];
        for (at, plugin) in self.entities.plugins.iter().enumerate() {
            let path = format!("plugins[{at}]");
            let guard = self.plugin(plugin, &path);
            match (&plugin.service, &plugin.route) {
                (None, None) => set_guard(&mut self.global_guard, guard, &path, self.problems),
                (Some(service), None) => {
                    if let Some(service) = self.service_at(service, &format!("{path}.service")) {
                        set_guard(&mut self.service_guards[service], guard, &path, self.problems);
                    }
                }
                (Some(_), Some(_)) => self.problem(path, "names both a service and a route"),
                // Taken up by that route.
                (None, Some(_)) => {}
            }
        }
        for (at, service) in self.entities.services.iter().enumerate() {
            for (number, plugin) in service.plugins.iter().enumerate() {
                let path = format!("services[{at}].plugins[{number}]");
                self.no_scope(plugin, &path);
                let guard = self.plugin(plugin, &path);
                set_guard(&mut self.service_guards[at], guard, &path, self.problems);
            }
        }
    }

    pub(super) fn no_scope(&mut self, plugin: &Plugin, path: &str) {
        if plugin.service.is_some() || plugin.route.is_some() {
            self.problem(path, "is nested, so it names no service and no route");
        }
    }

    /// The guard that a plugin makes: the outer `None` for what is wrong or switched off.
    pub(super) fn plugin(&mut self, plugin: &Plugin, path: &str) -> Option<usize> {
        if plugin.name != "key-auth" {
            self.problem_hint(
                format!("{path}.name"),
                format!("plugin `{}` is not in this version", plugin.name),
                "supported: key-auth",
            );
            return None;
        }
        if plugin.consumer.is_some() {
            self.problem(
                format!("{path}.consumer"),
                "key-auth finds out the consumer, so it cannot be of one",
            );
        }
        self.protocols(&plugin.protocols, &format!("{path}.protocols"));
        let config = plugin.config.clone().unwrap_or_default();
        let config: KeyAuthConfig = match serde_json::from_value(serde_json::Value::Object(config)) {
            Ok(config) => config,
            Err(error) => {
                self.problem(format!("{path}.config"), error.to_string());
                return None;
            }
        };
        if config.key_in_body {
            self.problem_hint(
                format!("{path}.config.key_in_body"),
                "is not supported: bodies are streamed, not read",
                "send the key in a header",
            );
        }
        if config.key_names.is_empty() {
            self.problem(format!("{path}.config.key_names"), "is empty");
        }
        for (at, name) in config.key_names.iter().enumerate() {
            if http::HeaderName::try_from(name.as_str()).is_err() {
                self.problem(
                    format!("{path}.config.key_names[{at}]"),
                    format!("`{name}` cannot be a header name"),
                );
            }
        }
        if plugin.enabled == Some(false) {
            return None;
        }
        self.back.guards.push(Guard::new(&config));
        Some(self.back.guards.len() - 1)
    }
}

impl Back {
    /// The guard of a plugin that was checked before.
    pub(super) fn guards_of(&mut self, plugin: &Plugin) -> Option<usize> {
        let config = plugin.config.clone().unwrap_or_default();
        let config: KeyAuthConfig = serde_json::from_value(serde_json::Value::Object(config)).ok()?;
        if plugin.enabled == Some(false) || plugin.name != "key-auth" {
            return None;
        }
        self.guards.push(Guard::new(&config));
        Some(self.guards.len() - 1)
    }
}

/// At most one guard at one place.
pub(super) fn set_guard(
    slot: &mut Option<usize>,
    guard: Option<usize>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    if guard.is_some() && slot.is_some() {
        problems.push(Problem::new(path, "there is a key-auth at this place already"));
    }
    *slot = guard.or(*slot);
}
