//! How many files and sockets the process may have open. A shell gives 1024, which is fewer than a gateway is asked for; what
//! the system lets it have without asking anybody, it takes.

/// Descriptors besides those of connections: files, listeners, and what runtimes need.
const OTHERS: u64 = 512;

/// Raises the soft limit to the hard one, and says if that is too little for so many connections of clients, each of which
/// may need another one to an upstream.
pub fn raise(connections_max: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to the struct that it is given, and to nothing else.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        tracing::warn!(error = %std::io::Error::last_os_error(), "the limit of open files is not known");
        return;
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the call reads the struct that it is given.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } {
            0 => limit = raised,
            _ => {
                tracing::warn!(error = %std::io::Error::last_os_error(), "the limit of open files stays as it is")
            }
        }
    }
    let wanted = connections_max.saturating_mul(2).saturating_add(OTHERS);
    if limit.rlim_cur < wanted {
        tracing::warn!(
            limit = limit.rlim_cur,
            wanted,
            "fewer files may be open than `gateway.limits.connections_max` asks for: raise the hard limit (LimitNOFILE= of a unit, \
             `ulimit -Hn`), or lower the other; connections beyond wait"
        );
    }
}
