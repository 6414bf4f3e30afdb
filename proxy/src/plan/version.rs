//! The identity of a configuration, which each event names.

use super::pem::FILE_BYTES_MAX;
use crate::config::{Entities, GatewayConfig, files};
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The first bytes of a SHA-256 over the configuration as JSON and over what the files hold that it names: the same is
/// the same version in every process, and a certificate that is renewed is another. The hash is one from which nothing
/// is learned of keys.
pub(super) fn of(gateway: &GatewayConfig, entities: &Entities) -> u64 {
    let mut hash = Context::new(&SHA256);
    add(&mut hash, &serde_json::to_vec(&(gateway, entities)).unwrap_or_default());
    for file in files(gateway, entities) {
        // One that cannot be read, or is none, is refused where it is needed.
        add(&mut hash, &read(&file).unwrap_or_default());
    }
    let digest = hash.finish();
    digest.as_ref().iter().take(8).fold(0, |version, byte| version << 8 | u64::from(*byte))
}

/// What a file holds. What flows is left to who needs it: it can be read but once.
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if std::fs::metadata(file)?.is_file() {
        File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// With its length before it, so that nothing of one part could be taken for another's.
fn add(hash: &mut Context, part: &[u8]) {
    hash.update(&(part.len() as u64).to_be_bytes());
    hash.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_in_force_names_the_version() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let version = |name: &str| {
            let entities = json!({"certificates": [{"cert_file": cert, "key_file": key}], "services": [{"name": name, "url": "http://a"}]});
            of(&GatewayConfig::default(), &serde_json::from_value(entities).unwrap())
        };
        let put = |one: &str, other: &str| {
            std::fs::write(&cert, one).unwrap();
            std::fs::write(&key, other).unwrap();
        };
        put("one", "two");
        let first = version("a");
        assert_eq!(version("a"), first);
        assert_ne!(version("b"), first);
        for (one, other) in [("One", "two"), ("one", "Two"), ("onet", "wo"), ("", "onetwo"), ("two", "one")] {
            put(one, other);
            assert_ne!(version("a"), first, "{one} {other}");
        }
        put("one", "two");
        assert_eq!(version("a"), first, "not when it was written counts, but what");
    }
}
