//! What all threads of the service have.

/// Stack of a thread: enough to walk and drop the deepest statement that the guard lets through. Only what is touched
/// takes memory.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// How much nicer than the gateway the threads are.
const NICE: i32 = 10;

/// Queries give way to the gateway on the same cores. To be called on each thread.
pub(crate) fn lower_priority() {
    // SAFETY: takes numbers only; 0 names the calling thread on Linux.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result != 0 {
        tracing::warn!(error = %std::io::Error::last_os_error(), "the priority of a query thread stays");
    }
}
