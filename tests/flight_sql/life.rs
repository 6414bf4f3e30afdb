//! Limits of the service hold here too, and a process that takes over goes on with the listener.

use serde_json::json;

use super::adbc;
use super::support::origin::Origin;
use super::support::site::Site;

#[test]
fn time_rows_and_memory_end_in_an_error_of_their_kind() {
    let origin = Origin::start();
    let site = [
        ("timeout_ms", json!(3_000)),
        ("rows_max", json!(10_000)),
        ("memory_bytes_max", json!(64 << 20)),
        ("spill_bytes_max", json!(1 << 20)),
    ]
    .into_iter()
    .fold(Site::new(origin.addr), |site, (name, value)| site.set(&["analytics", name], value));
    let house = site.start("analytics");
    adbc(&house, "limits", &[]);
}

#[test]
fn the_next_process_has_the_listener() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let old = site.run();
    adbc(&old, "one", &[]);
    let mut command = site.command("run");
    command.arg("--take-over");
    let new = site.launch("run", command);
    assert_eq!(new.addr("flight"), old.addr("flight"));
    adbc(&new, "one", &[]);
}
