//! What the machine gives to work that nobody waits for.

use std::io;
use std::time::{Duration, Instant};

/// Niceness of the thread: the last of all.
const NICENESS: libc::c_int = 19;
/// `IOPRIO_CLASS_IDLE`, in the place that `ioprio_set` wants it.
const IO_IDLE: libc::c_int = 3 << 13;
/// `IOPRIO_WHO_PROCESS`; 0 beside it means the calling thread.
const IO_THREAD: libc::c_int = 1;
/// Longest that the pace holds the thread before it looks whether to stop.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Gives the calling thread what is left over of processor and disk. A system that refuses changes nothing for the worse
/// than to have a collector's thread compete.
pub(super) fn lower_priority() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain numbers, and a pointer to a parameter that lives through the call; 0 means the calling thread.
    let results = unsafe {
        [
            i64::from(libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS)),
            i64::from(libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param)),
            libc::syscall(libc::SYS_ioprio_set, IO_THREAD, 0, IO_IDLE),
        ]
    };
    if results.iter().any(|result| *result != 0) {
        tracing::debug!(error = %io::Error::last_os_error(), "compaction has not the lowest priority");
    }
}

/// Keeps reading and writing below a rate.
pub(super) struct Pace {
    bytes_per_s: u64,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), begun: Instant::now(), bytes: 0 }
    }

    /// Counts bytes, and waits until they are due; no longer once `stop` says so.
    pub(super) fn passed(&mut self, bytes: u64, stop: &dyn Fn() -> bool) {
        self.bytes = self.bytes.saturating_add(bytes);
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_s as f64);
        while let Some(early) = due.checked_sub(self.begun.elapsed()).filter(|early| !early.is_zero()) {
            if stop() {
                return;
            }
            std::thread::park_timeout(early.min(PAUSE_MAX));
        }
        // What was not used is not saved up: a pause is not followed by a flood.
        if self.begun.elapsed() > due + Duration::from_secs(1) {
            (self.begun, self.bytes) = (Instant::now(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_holds_and_stops() {
        let begun = Instant::now();
        let mut pace = Pace::new(1_000_000);
        pace.passed(100_000, &|| false);
        assert!(begun.elapsed() >= Duration::from_millis(100));
        pace.passed(u64::from(u32::MAX), &|| true);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
