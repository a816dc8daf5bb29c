//! A secret in the environment, taken out of it.

use std::ffi::{CStr, CString};

use zeroize::{Zeroize as _, Zeroizing};

/// Why a variable was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The process has more than one thread, or cannot tell: another may read the environment now.
    Threads,
}

/// Takes a variable out of the environment: returns its bytes, overwrites them where they stood and
/// removes the variable. What the process was started with is overwritten too, so that
/// `/proc/PID/environ` shows zeroes. `None` if it is not set.
///
/// To be called before the process starts a thread. It looks, and refuses where there is one.
///
/// # Errors
/// `Threads`.
pub fn take_variable(name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, NotTaken> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if !matches!(threads, Ok(1)) {
        return Err(NotTaken::Threads);
    }
    let Some(name) = CString::new(name).ok().filter(|name| name.count_bytes() > 0) else {
        return Ok(None);
    };
    // SAFETY: this is the only thread, so nobody changes the environment meanwhile. The pointer is
    // null or leads to a string that ends with a zero byte and stays until the variable is removed.
    // Only bytes before that zero byte are written, and the copy is made before.
    unsafe {
        let at = libc::getenv(name.as_ptr());
        if at.is_null() {
            return Ok(None);
        }
        let len = CStr::from_ptr(at).count_bytes();
        let bytes = std::slice::from_raw_parts_mut(at.cast::<u8>(), len);
        let taken = Zeroizing::new(bytes.to_vec());
        bytes.zeroize();
        libc::unsetenv(name.as_ptr());
        Ok(Some(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        // Tests run on threads of their own. `tests/cli/root.rs` takes one in a process with none.
        assert_eq!(take_variable("PATH"), Err(NotTaken::Threads));
    }
}
