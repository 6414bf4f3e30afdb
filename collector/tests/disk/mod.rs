//! A disk that refuses on demand. The functions of the C library that write and sync are replaced in this test program,
//! for its own files only: a real full or failing disk needs root, and fills up when it likes.

use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What is refused, of all tests of this program; each has a folder of its own.
static RULES: Mutex<Vec<Rule>> = Mutex::new(Vec::new());

struct Rule {
    root: PathBuf,
    /// Folder under the root that is full or fails; none while all is well.
    folder: Option<PathBuf>,
    /// Bytes that may still be written there.
    room: usize,
    /// Whether syncs fail, and not writes.
    syncs: bool,
    refusals: usize,
    failed_syncs: Vec<PathBuf>,
    synced_after_a_failure: Vec<PathBuf>,
}

/// The disk that one test's folder is on.
pub struct Disk(PathBuf);

impl Disk {
    pub fn under(root: &Path) -> Self {
        let rule = Rule {
            root: root.to_owned(),
            folder: None,
            room: 0,
            syncs: false,
            refusals: 0,
            failed_syncs: Vec::new(),
            synced_after_a_failure: Vec::new(),
        };
        rules().push(rule);
        Self(root.to_owned())
    }

    /// Leaves room for so many bytes in a folder.
    pub fn leave(&self, folder: &str, bytes: usize) {
        self.with(|rule| (rule.folder, rule.room, rule.syncs) = (Some(rule.root.join(folder)), bytes, false));
    }

    /// Fails every sync of a file in a folder.
    pub fn fail_syncs(&self, folder: &str) {
        self.with(|rule| (rule.folder, rule.syncs) = (Some(rule.root.join(folder)), true));
    }

    /// Takes everything again.
    pub fn free(&self) {
        self.with(|rule| rule.folder = None);
    }

    /// How often something was refused.
    pub fn refusals(&self) -> usize {
        self.with(|rule| rule.refusals)
    }

    /// Files that were synced after a sync of them had failed.
    pub fn synced_after_a_failure(&self) -> Vec<PathBuf> {
        self.with(|rule| rule.synced_after_a_failure.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Rule) -> T) -> T {
        let mut rules = rules();
        change(rules.iter_mut().find(|rule| rule.root == self.0).unwrap())
    }
}

fn rules() -> std::sync::MutexGuard<'static, Vec<Rule>> {
    RULES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(descriptor: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()
}

/// How many of these bytes may be written; none for an error.
fn room_for(descriptor: c_int, bytes: usize) -> Option<usize> {
    // Standard streams and pipes are no business of this disk, and quick to tell.
    let path = (descriptor > 2).then(|| path_of(descriptor)).flatten();
    let Some(path) = path else { return Some(bytes) };
    let mut rules = rules();
    let full =
        |rule: &&mut Rule| !rule.syncs && rule.folder.as_ref().is_some_and(|full| path.starts_with(full));
    let Some(rule) = rules.iter_mut().find(full) else { return Some(bytes) };
    let granted = bytes.min(rule.room);
    rule.room -= granted;
    rule.refusals += usize::from(granted == 0);
    (granted > 0).then_some(granted)
}

fn sync_fails(descriptor: c_int) -> bool {
    let Some(path) = path_of(descriptor) else { return false };
    let mut rules = rules();
    let Some(rule) = rules.iter_mut().find(|rule| path.starts_with(&rule.root)) else { return false };
    // A folder may be synced again; of a file, what the first sync lost stays lost. A commit log that is cut back to
    // what was durable before is another matter, and its name is told apart by its end.
    let is_data = path.extension().is_some_and(|kind| kind == "arrow");
    let fails = rule.syncs
        && rule.folder.as_ref().is_some_and(|failing| path.starts_with(failing) && path != *failing);
    if is_data && !fails && rule.failed_syncs.contains(&path) {
        rule.synced_after_a_failure.push(path.clone());
    }
    if fails {
        rule.refusals += 1;
        rule.failed_syncs.push(path);
    }
    fails
}

fn refuse(error: c_int) {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = error };
}

/// # Safety
/// As of write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, count: usize) -> isize {
    match room_for(descriptor, count) {
        // SAFETY: the same call with the same or a shorter range.
        Some(granted) => unsafe { libc::syscall(libc::SYS_write, descriptor, bytes, granted) as isize },
        None => {
            refuse(libc::ENOSPC);
            -1
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    sync(libc::SYS_fdatasync, descriptor)
}

#[unsafe(no_mangle)]
pub extern "C" fn fsync(descriptor: c_int) -> c_int {
    sync(libc::SYS_fsync, descriptor)
}

fn sync(call: libc::c_long, descriptor: c_int) -> c_int {
    if sync_fails(descriptor) {
        refuse(libc::EIO);
        return -1;
    }
    // SAFETY: takes a plain number.
    unsafe { libc::syscall(call, descriptor) as c_int }
}
