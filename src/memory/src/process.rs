//! A process that does not show its memory.

/// Switches core dumps off and makes the process undumpable, so that other processes of the same
/// user cannot attach to it or read its memory. Best effort: a kernel that refuses changes nothing.
pub fn harden_process() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` outlives the call; both calls change only settings of this process.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}
