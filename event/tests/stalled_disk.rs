//! A disk that does not come back from a sync: the gateway gets its segments all the same.
#![allow(clippy::unwrap_used, missing_docs)]

use event::spool::{LaneReader, Spool, SpoolConfig};
use event::{Draft, Text};
use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who holds it holds every sync that this program asks for: the functions of the C library are replaced in it.
static DISK: Mutex<()> = Mutex::new(());
/// Syncs that were begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

fn sync(call: libc::c_long, descriptor: c_int) -> c_int {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    let _turn = DISK.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: takes a plain number.
    unsafe { libc::syscall(call, descriptor) as c_int }
}

#[unsafe(no_mangle)]
pub extern "C" fn fsync(descriptor: c_int) -> c_int {
    sync(libc::SYS_fsync, descriptor)
}

#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    sync(libc::SYS_fdatasync, descriptor)
}

#[test]
fn a_disk_that_stalls_keeps_no_segment_from_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let config = SpoolConfig { segment_bytes: 64 << 10, sync_interval_ms: 5, ..SpoolConfig::default() };
    let (spool, mut writers) = Spool::open(&config, folder.path(), "node", 1).unwrap();
    let stall = DISK.lock().unwrap();
    let begun = BEGUN.load(Ordering::SeqCst);
    let mut draft = Draft::new();
    draft.reset(1);
    draft.text(Text::Path, b"/of/some/length");
    let mut written = 0;
    // Each time the writer fills one, another one comes.
    for filled in 1..=20 {
        let laid = segments(folder.path());
        while segments(folder.path()) == laid {
            for _ in 0..20 {
                writers[0].append(&draft).unwrap();
                written += 1;
            }
            assert!(written < filled * 2_000, "no segment came after {written} events");
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    wait("a sync", || BEGUN.load(Ordering::SeqCst) > begun);
    drop(stall);
    drop(writers);
    spool.close();
    let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
    let mut read = 0;
    while reader.read(10_000, |_| read += 1).unwrap() > 0 {}
    assert_eq!(read, written);
}

/// How many segments were ever laid in the one lane: nothing takes them away here.
fn segments(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("core-000")).unwrap().count()
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} was waited for");
        std::thread::sleep(Duration::from_millis(1));
    }
}
