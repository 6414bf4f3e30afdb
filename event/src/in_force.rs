//! What a gateway routes by, and what of it changed when: a file of the data folder that the gateway writes at its start and
//! with each reload, for the tables of `config` in SQL. Keys and other secrets are never in it.

use crate::layout::{self, DataFolder, LayoutError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

/// An entity: what is said of it, by field.
pub type Entity = Map<String, Value>;
/// Entities by kind: `services`, `routes`, ...
pub type Entities = BTreeMap<String, Vec<Entity>>;

/// What is in force, and how it came to that.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InForce {
    /// The configurations that were in force, in order; the last one is.
    pub versions: VecDeque<Version>,
    /// What each changed, in order.
    pub changes: VecDeque<Change>,
    /// The entities in force.
    pub entities: Entities,
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Version {
    /// As events name it.
    pub version: u64,
    /// Since when it was in force, microseconds since 1970 (UTC).
    pub since_us: i64,
    /// Where it was read.
    pub source: String,
    /// How many entities of each kind it has.
    pub entities: BTreeMap<String, u64>,
}

/// What became of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The configuration that it came with.
    pub version: u64,
    /// When that was put in force, microseconds since 1970 (UTC).
    pub at_us: i64,
    /// Which kind of entity.
    pub kind: String,
    /// The name of the entity, or else its id.
    pub name: String,
    /// What became of it.
    pub change: ChangeKind,
    /// Fields that differ.
    pub fields: Vec<String>,
}

/// What may become of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Some of its fields differ.
    Changed,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

impl InForce {
    /// What a gateway has written last; empty where none ever ran.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(layout::load(&Self::path(folder))?.unwrap_or_default())
    }

    /// Writes it, durably: nothing else remembers what was in force.
    ///
    /// # Errors
    /// When the disk refuses; the old one stays.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        layout::store(&Self::path(folder), self, true)
    }

    /// Where it is.
    #[must_use]
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("in-force.json")
    }

    /// Takes a configuration that is put in force, and forgets the oldest beyond the bounds. One that was in force already
    /// changes nothing.
    pub fn succeed(
        &mut self,
        mut next: Version,
        entities: Entities,
        versions_max: usize,
        changes_max: usize,
    ) {
        let last = self.versions.back().map(|last| last.version);
        if last != Some(next.version) {
            // What the first one brings is all that there is.
            if last.is_some() {
                self.changes.extend(changes(&next, &self.entities, &entities));
            }
            next.entities = entities.iter().map(|(kind, all)| (kind.clone(), all.len() as u64)).collect();
            self.versions.push_back(next);
        }
        self.entities = entities;
        self.versions.drain(..self.versions.len().saturating_sub(versions_max.max(1)));
        self.changes.drain(..self.changes.len().saturating_sub(changes_max));
    }
}

/// What an entity is known by among those of its kind.
fn name(kind: &str, entity: &Entity) -> String {
    let text = |field: &&str| entity.get(*field).and_then(Value::as_str).map(str::to_owned);
    let told = ["name", "username", "custom_id", "target", "id"].iter().find_map(text);
    // Without any, what it says is what it is.
    let name = told.unwrap_or_else(|| Value::Object(entity.clone()).to_string());
    // One target may be in several upstreams, and one plugin in several places.
    let places: &[&str] = match kind {
        "targets" => &["upstream"],
        "plugins" => &["service", "route", "consumer"],
        _ => &[],
    };
    places.iter().filter_map(text).chain([name]).collect::<Vec<_>>().join("/")
}

fn changes(version: &Version, before: &Entities, after: &Entities) -> Vec<Change> {
    let mut found = Vec::new();
    let mut kinds: Vec<&String> = before.keys().chain(after.keys()).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        let of = |all: &Entities| -> BTreeMap<String, Entity> {
            let entities = all.get(kind).into_iter().flatten();
            entities.map(|entity| (name(kind, entity), entity.clone())).collect()
        };
        let (old, new) = (of(before), of(after));
        let mut note = |name: &str, change: ChangeKind, fields: Vec<String>| {
            let (version, at_us, kind, name) =
                (version.version, version.since_us, kind.clone(), name.to_owned());
            found.push(Change { version, at_us, kind, name, change, fields });
        };
        for (name, entity) in &new {
            match old.get(name) {
                None => note(name, ChangeKind::Added, Vec::new()),
                Some(was) if was != entity => note(name, ChangeKind::Changed, fields(was, entity)),
                Some(_) => {}
            }
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            note(name, ChangeKind::Removed, Vec::new());
        }
    }
    found
}

fn fields(was: &Entity, is: &Entity) -> Vec<String> {
    let mut fields: Vec<&String> = was.keys().chain(is.keys()).collect();
    fields.sort();
    fields.dedup();
    fields.into_iter().filter(|field| was.get(*field) != is.get(*field)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entities(value: Value) -> Entities {
        serde_json::from_value(value).unwrap()
    }

    fn version(version: u64) -> Version {
        Version { version, since_us: version as i64 * 10, source: "a.yaml".into(), ..Version::default() }
    }

    #[test]
    fn what_differs_is_named_once_and_by_its_fields() {
        let mut now = InForce::default();
        let first = entities(json!({
            "services": [{"name": "a", "port": 1, "host": "h"}, {"name": "b"}],
            "targets": [{"upstream": "u", "target": "x:1", "weight": 1}, {"upstream": "v", "target": "x:1"}],
            "plugins": [{"name": "p", "service": "a", "enabled": true}, {"name": "p", "route": "r", "enabled": true}],
        }));
        now.succeed(version(1), first.clone(), 9, 9);
        assert!(now.changes.is_empty());
        now.succeed(version(1), first, 9, 9);
        assert_eq!((now.versions.len(), now.changes.len()), (1, 0));
        let second = entities(json!({
            "services": [{"name": "a", "port": 2, "tags": ["t"], "host": "h"}],
            "routes": [{"id": "r"}, {"paths": ["/x"]}],
            "targets": [{"upstream": "u", "target": "x:1", "weight": 0}, {"upstream": "v", "target": "x:1"}],
            "plugins": [{"name": "p", "service": "a", "enabled": false}, {"name": "p", "route": "r", "enabled": true}],
        }));
        now.succeed(version(2), second.clone(), 9, 9);
        let told: Vec<_> =
            now.changes.iter().map(|one| (one.name.as_str(), one.change, one.fields.join(" "))).collect();
        use ChangeKind::{Added, Changed, Removed};
        assert_eq!(
            told,
            [
                ("a/p", Changed, "enabled".into()),
                ("r", Added, String::new()),
                (r#"{"paths":["/x"]}"#, Added, String::new()),
                ("a", Changed, "port tags".into()),
                ("b", Removed, String::new()),
                ("u/x:1", Changed, "weight".into()),
            ]
        );
        assert!(now.changes.iter().all(|one| (one.version, one.at_us) == (2, 20)));
        assert_eq!(
            now.versions[1].entities,
            BTreeMap::from([
                ("plugins".into(), 2),
                ("routes".into(), 2),
                ("services".into(), 1),
                ("targets".into(), 2)
            ])
        );
        assert_eq!(now.entities, second);
    }

    #[test]
    fn it_is_bounded_and_comes_back_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let mut now = InForce::load(&folder).unwrap();
        assert_eq!(now, InForce::default());
        for number in 1..=20 {
            now.succeed(
                version(number),
                entities(json!({"services": [{"name": "a", "port": number}]})),
                3,
                5,
            );
        }
        assert_eq!(now.versions.iter().map(|one| one.version).collect::<Vec<_>>(), [18, 19, 20]);
        assert_eq!(now.changes.iter().map(|one| one.version).collect::<Vec<_>>(), [16, 17, 18, 19, 20]);
        now.store(&folder).unwrap();
        assert_eq!(InForce::load(&folder).unwrap(), now);
    }
}
