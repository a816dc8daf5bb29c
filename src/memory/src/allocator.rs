//! An allocator that wipes what it frees.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;

/// mimalloc, with every freed block zeroed first: a plaintext in a buffer of a library does not
/// outlive that buffer.
pub struct WipingAllocator;

// Of the library that `mimalloc` links; the crate does not offer it.
unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// How often at most a thread gives memory back.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(100);

/// Gives the operating system back what this thread has freed and holds ready. For a thread that has
/// nothing to do at the moment: it does something once in 100 ms at most.
pub fn give_back() {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    let due = LAST.with(|last| match last.get() {
        Some(at) if now.duration_since(at) < GIVE_BACK_EVERY => false,
        _ => {
            last.set(Some(now));
            true
        }
    });
    if due {
        // SAFETY: it may be called at any time, and touches only memory that nobody has allocated.
        unsafe { mi_collect(true) };
    }
}

/// Zeroes memory in a way that the compiler does not take away before a free.
///
/// # Safety
/// `at` must be valid for writes of `bytes` bytes.
unsafe fn wipe(at: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_bytes(at, 0, bytes) };
    // The block is observed after the write, as far as the compiler knows.
    // SAFETY: an empty assembly block that touches nothing.
    unsafe { std::arch::asm!("/* {0} */", in(reg) at, options(nostack, preserves_flags)) };
}

// SAFETY: every call goes to mimalloc with the same layout; wiping writes only inside a block that
// the caller still owns.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller owns `layout.size()` bytes at `at` until this call returns.
        unsafe {
            wipe(at, layout.size());
            MiMalloc.dealloc(at, layout);
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // mimalloc's own realloc would free the old block unwiped when it moves.
        let Ok(new_layout) = Layout::from_size_align(new_bytes, layout.align()) else {
            return std::ptr::null_mut();
        };
        // SAFETY: both blocks are at least as long as what is copied, do not overlap, and the old
        // one is freed exactly once, only after the new one exists.
        unsafe {
            let new = MiMalloc.alloc(new_layout);
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(at, new, layout.size().min(new_bytes));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grown_block_keeps_its_content() {
        let layout = Layout::from_size_align(24, 8).expect("layout");
        // SAFETY: a plain life of one block: allocated, written, grown, read, freed.
        unsafe {
            let at = WipingAllocator.alloc(layout);
            std::ptr::write_bytes(at, 7, 24);
            let grown = WipingAllocator.realloc(at, layout, 4096);
            let content = std::slice::from_raw_parts(grown, 24);
            assert!(content.iter().all(|b| *b == 7));
            WipingAllocator.dealloc(grown, Layout::from_size_align(4096, 8).expect("layout"));
        }
    }
}
