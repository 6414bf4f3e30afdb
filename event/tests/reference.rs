//! `docs/event.md` is what the code says. `UPDATE_DOCS=1 cargo test -p tollhouse-event` writes it anew.
#![cfg(feature = "arrow")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn the_event_reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/event.md");
    let generated = event::columns::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == generated, "docs/event.md is stale: UPDATE_DOCS=1 cargo test -p tollhouse-event");
}
