//! When the keeper writes to the disk, and when it need not.
#![allow(clippy::unwrap_used, missing_docs)]

use event::Draft;
use event::spool::{Counters, Spool, SpoolConfig};
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Syncs of data that this program asked for: the function of the C library is replaced in it.
static SYNCS: AtomicUsize = AtomicUsize::new(0);

#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    SYNCS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: takes a plain number.
    unsafe { libc::syscall(libc::SYS_fdatasync, descriptor) as c_int }
}

#[test]
fn what_the_collector_has_on_disk_is_not_synced_and_all_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = SpoolConfig { sync_interval_ms: 40, ..SpoolConfig::default() };
    let (spool, mut writers) = Spool::open(&config, folder.path(), "node", 1).unwrap();
    let counters = Counters::open(folder.path(), 0).unwrap();
    let mut draft = Draft::new();
    draft.reset(1);
    for stored in 1..=50 {
        // Said ahead of time, so that no pause of this test lets the keeper be right to sync.
        counters.set_stored(0, stored);
        writers[0].append(&draft).unwrap();
        std::thread::sleep(Duration::from_millis(4));
    }
    assert_eq!(SYNCS.load(Ordering::SeqCst), 0);
    writers[0].append(&draft).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while SYNCS.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "an event that nobody stored is not synced");
        std::thread::sleep(Duration::from_millis(1));
    }
    let synced = SYNCS.load(Ordering::SeqCst);
    writers[0].append(&draft).unwrap();
    drop(writers);
    spool.close();
    assert!(SYNCS.load(Ordering::SeqCst) > synced, "the last events are made durable at the end");
}
