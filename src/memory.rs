//! How long memory that was freed is kept for the next one who asks. Under load it is wanted again soon, and what goes back to
//! the system meanwhile comes back as pages of 2 MiB that the kernel has to clear first.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's header, where each option keeps its place.
const PURGE_DELAY: mi_option_t = 15;
/// Mimalloc's own is a second. Whoever has had nothing to do for a minute needs its memory no more.
const KEEP_MS: c_long = 60_000;

/// Keeps freed memory, unless `MIMALLOC_PURGE_DELAY` says for how long. To be called before there is a second thread.
pub fn keep() {
    // SAFETY: nobody reads options meanwhile, as this is the only thread.
    unsafe { mi_option_set_default(PURGE_DELAY, KEEP_MS) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn the_place_of_the_option_is_that_of_the_delay() {
        // SAFETY: it reads a number.
        let before = unsafe { mi_option_get(PURGE_DELAY) };
        keep();
        // SAFETY: it reads a number.
        let after = unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!((before, after), (1_000, KEEP_MS), "mimalloc's default, and ours");
    }
}
