//! Settings that only a start reads, and which of them differ between two configurations.

use serde_json::{Value, json};

use crate::config::Config;

/// The settings that no reload changes, in the shape of the file.
pub fn fixed(config: &Config) -> Value {
    json!({
        "node": config.node,
        "data": config.data,
        "log": config.log,
        "gateway": {
            "threads": config.gateway.threads,
            "timeouts": { "sweep_interval_ms": config.gateway.timeouts.sweep_interval_ms },
        },
        "upgrade": config.upgrade,
        "spool": config.spool,
        "collector": config.collector,
        "analytics": config.analytics,
        "object_store": config.object_store,
    })
}

/// The paths of what differs.
pub fn paths(one: &Value, other: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ("", one, other, &mut found);
    found
}

fn differ(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differ(&path, &at(left), &at(right), found);
            }
        }
        _ if one != other => found.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_path() {
        let one = json!({"a": {"b": 1, "c": [1, 2]}, "d": null, "e": "x"});
        assert_eq!(paths(&one, &one), Vec::<String>::new());
        let other = json!({"a": {"b": 2, "c": [1]}, "d": {"f": 1}, "e": "x", "g": true});
        assert_eq!(paths(&one, &other), ["a.b", "a.c", "d", "g"]);
    }
}
