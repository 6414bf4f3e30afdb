//! What an operator says about who may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use event::{Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most characters of a token's name.
const NAME_CHARS_MAX: usize = 63;

/// Someone who may ask, and what of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenConfig {
    /// Who it is: what `system.queries` shows, and the user's name of a PostgreSQL client.
    pub name: String,
    /// What says so, at least 16 bytes: a bearer token of HTTP and Flight SQL, a password of PostgreSQL.
    pub secret: Secret,
    /// One of `analytics.roles`, whose limits apply; none has those of the whole service.
    pub role: Option<String>,
    /// Shows this consumer's rows only: a portal for that consumer.
    pub consumer: Option<String>,
    /// Shows this workspace's rows only.
    pub workspace: Option<String>,
}

/// What all tokens of a role may do together. Limits that are left out are those of the whole service, which hold for all
/// roles together in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoleConfig {
    /// Whether the schemas `system` and `config` may be read: files, the ledger, what others ask, what the gateway routes by.
    /// Never those of a token that shows only some rows, but for its own queries and for `config.plans`.
    pub system: bool,
    /// Memory that the role's queries together may hold, in bytes.
    pub memory_bytes_max: Option<u64>,
    /// Longest time a query may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Most rows an answer may have.
    pub rows_max: Option<u64>,
    /// Queries of the role that run at one time.
    pub concurrency_max: Option<u16>,
}

impl Default for RoleConfig {
    fn default() -> Self {
        Self { system: true, memory_bytes_max: None, timeout_ms: None, rows_max: None, concurrency_max: None }
    }
}

/// What is wrong with an address under `path` where nobody needs a token, if other hosts reach it.
pub(crate) fn open_to_all(path: &str, listen: SocketAddr) -> Option<Problem> {
    let problem = Problem::new(format!("{path}.listen"), "whoever reaches this address would see everything");
    let hint = "give analytics.tokens, or say allow_anonymous: true where the network keeps others out";
    (!listen.ip().is_loopback()).then(|| problem.hint(hint))
}

/// What cannot be used of the two sections.
pub(crate) fn problems(tokens: &[TokenConfig], roles: &BTreeMap<String, RoleConfig>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (mut names, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for (index, token) in tokens.iter().enumerate() {
        let path = format!("analytics.tokens[{index}]");
        let mut refuse = |field: &str, message: String, hint: &str| {
            problems.push(Problem::new(format!("{path}.{field}"), message).hint(hint));
        };
        let plain = |character: char| character.is_ascii_alphanumeric() || "._@-".contains(character);
        if token.name.is_empty()
            || token.name.chars().count() > NAME_CHARS_MAX
            || !token.name.chars().all(plain)
        {
            let hint = "1 to 63 of the characters a-z, A-Z, 0-9 and ._@-";
            refuse("name", format!("`{}` is no name of a user", token.name), hint);
        } else if !names.insert(&token.name) {
            refuse(
                "name",
                format!("there are two of the name `{}`", token.name),
                "each token has a name of its own",
            );
        }
        if let Some(role) = token.role.as_ref().filter(|role| !roles.contains_key(*role)) {
            let known: Vec<&str> = roles.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => "write analytics.roles, or leave it out".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            };
            refuse("role", format!("`{role}` is none of analytics.roles"), &hint);
        }
        for (field, scope) in [("consumer", &token.consumer), ("workspace", &token.workspace)] {
            if scope.as_deref() == Some("") {
                refuse(field, "empty".into(), "name one, or leave it out to show the rows of all");
            }
        }
        match token.secret.token_problem(&format!("{path}.secret")) {
            Some(problem) => problems.push(problem),
            None if !secrets.insert(token.secret.reveal()) => {
                let problem = Problem::new(format!("{path}.secret"), "another token has the same");
                problems.push(problem.hint("whoever asks is known by it"));
            }
            None => {}
        }
    }
    for (name, role) in roles {
        let least = [
            ("memory_bytes_max", role.memory_bytes_max, 16 << 20),
            ("timeout_ms", role.timeout_ms, 1),
            ("rows_max", role.rows_max, 1),
            ("concurrency_max", role.concurrency_max.map(u64::from), 1),
        ];
        for (field, value, min) in least {
            if let Some(value) = value.filter(|value| *value < min) {
                let path = format!("analytics.roles.{name}.{field}");
                problems.push(
                    Problem::new(path, format!("{value} is too small")).hint(format!("at least {min}")),
                );
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_named_at_once_and_no_secret_is_shown() {
        let token = |name: &str, secret: &str| TokenConfig {
            name: name.into(),
            secret: secret.into(),
            ..TokenConfig::default()
        };
        let (good, other) = ("0123456789abcdef", "fedcba9876543210");
        let tokens = [
            token("grafana", good),
            TokenConfig { role: Some("boards".into()), ..token("a b", other) },
            TokenConfig { consumer: Some(String::new()), ..token("grafana", "short") },
            token("again", good),
        ];
        let roles = BTreeMap::from([(
            "small".to_owned(),
            RoleConfig { memory_bytes_max: Some(1), rows_max: Some(0), ..RoleConfig::default() },
        )]);
        let problems = problems(&tokens, &roles);
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "analytics.tokens[1].name",
                "analytics.tokens[1].role",
                "analytics.tokens[2].name",
                "analytics.tokens[2].consumer",
                "analytics.tokens[2].secret",
                "analytics.tokens[3].secret",
                "analytics.roles.small.memory_bytes_max",
                "analytics.roles.small.rows_max",
            ]
        );
        let shown = format!("{tokens:?} {problems:?} {}", serde_json::to_string(&tokens).unwrap());
        assert!(!shown.contains(good) && !shown.contains("short\""), "{shown}");
    }
}
