//! What the kernel says of this process, read from `/proc/self` when a scrape asks.

use std::fs;

/// One reading; a figure the kernel did not give is `None` and is left out of the scrape.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// User and system CPU time of all threads, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Resident memory.
    pub(super) resident_bytes: Option<u64>,
    /// Virtual memory.
    pub(super) virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub(super) fds: Option<u64>,
    /// Soft limit of file descriptors.
    pub(super) fds_max: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
}

impl Reading {
    /// Reads `/proc/self` (proc(5)).
    pub(super) fn take() -> Self {
        let mut reading = Self::default();
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            reading.read_stat(&stat);
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
            reading.fds_max = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        }
        // The folder being read is itself an open descriptor: one too many.
        reading.fds = fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1));
        reading
    }

    fn read_stat(&mut self, stat: &str) {
        // The second field is the command in parentheses and may hold anything, so count from its end: what
        // follows starts with field 3.
        let Some((_, rest)) = stat.rsplit_once(')') else { return };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let (ticks_hz, page_bytes) = (system(libc::_SC_CLK_TCK), system(libc::_SC_PAGESIZE));
        if let (Some(user), Some(system), Some(hz)) = (field(14), field(15), ticks_hz) {
            self.cpu_seconds = Some((user + system) as f64 / hz as f64);
        }
        self.threads = field(20);
        self.virtual_bytes = field(23);
        if let (Some(pages), Some(bytes)) = (field(24), page_bytes) {
            self.resident_bytes = Some(pages * bytes);
        }
    }
}

fn system(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let reading = Reading::take();
        assert!(reading.cpu_seconds.unwrap() >= 0.0);
        assert!(reading.resident_bytes.unwrap() > 100_000);
        assert!(reading.virtual_bytes.unwrap() >= reading.resident_bytes.unwrap());
        assert!(reading.threads.unwrap() >= 1);
        assert!(reading.fds.unwrap() >= 3 && reading.fds.unwrap() <= reading.fds_max.unwrap());
    }

    #[test]
    fn a_command_name_with_parentheses_shifts_nothing() {
        let mut reading = Reading::default();
        reading.read_stat("7 (a) b (c)) S 1 1 1 0 -1 0 1 0 0 0 250 50 0 0 20 0 9 0 100 4096 2 0");
        assert_eq!(reading.threads, Some(9));
        assert_eq!(reading.virtual_bytes, Some(4096));
        assert!(reading.cpu_seconds.unwrap() > 0.0);
    }
}
