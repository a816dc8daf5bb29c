//! A process that does not show its memory.

/// Switches core dumps off and makes the process undumpable, so that other processes of the same
/// user cannot attach to it or read its memory. Transparent huge pages are switched off too: they
/// triple what the process holds, and whoever gathers small pages into a huge one copies them. Best
/// effort: a kernel that refuses changes nothing.
pub fn harden_process() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` outlives the call; the calls change only settings of this process.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
