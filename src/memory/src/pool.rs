//! Locked pages, cut into slots.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of a slot: room for the largest secret.
pub(crate) const SLOT_BYTES: usize = 64;
/// Bytes that are mapped and locked at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// How key pages are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Every key page is locked into memory: none is swapped out.
    Locked,
    /// The operating system refused to lock a page (see `ulimit -l`): keys may be swapped out.
    Unlocked,
}

/// A free slot, owned by the pool.
struct Slot(NonNull<u8>);

// SAFETY: a slot is 64 bytes that belong to whoever holds it; nothing about it is tied to a thread.
unsafe impl Send for Slot {}

static FREE: Mutex<Vec<Slot>> = Mutex::new(Vec::new());
static UNLOCKED: AtomicBool = AtomicBool::new(false);
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// How key pages are protected so far.
#[must_use]
pub fn protection() -> Protection {
    if UNLOCKED.load(Ordering::Relaxed) { Protection::Unlocked } else { Protection::Locked }
}

/// Bytes of key pages that this process has. They are never given back: it is the most that its
/// keys ever took at the same time, 64 bytes each.
#[must_use]
pub fn key_page_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Takes a zeroed slot. It is given back with [`give_back`].
pub(crate) fn take() -> NonNull<u8> {
    let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if free.is_empty() {
        let chunk = map_chunk();
        for at in (0..CHUNK_BYTES).step_by(SLOT_BYTES) {
            // SAFETY: `chunk` has CHUNK_BYTES bytes and `at` is below that.
            free.push(Slot(unsafe { chunk.add(at) }));
        }
    }
    match free.pop() {
        Some(Slot(slot)) => slot,
        // The chunk just mapped has slots; if it had none, memory is gone.
        None => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; SLOT_BYTES]>()),
    }
}

/// Gives a slot back, which its holder has wiped.
pub(crate) fn give_back(slot: NonNull<u8>) {
    let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    free.push(Slot(slot));
}

/// Maps a chunk that is never given back: its slots go round.
fn map_chunk() -> NonNull<u8> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory
    // of ours; failure is checked below.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            CHUNK_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let chunk = match NonNull::new(address.cast::<u8>()) {
        Some(chunk) if address != libc::MAP_FAILED => chunk,
        _ => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; CHUNK_BYTES]>()),
    };
    // SAFETY: the range is the mapping just made. Both calls change only how the kernel treats it.
    let (locked, hidden) = unsafe {
        (
            libc::mlock(address, CHUNK_BYTES) == 0,
            libc::madvise(address, CHUNK_BYTES, libc::MADV_DONTDUMP) == 0
                && libc::madvise(address, CHUNK_BYTES, libc::MADV_DONTFORK) == 0,
        )
    };
    MAPPED.fetch_add(CHUNK_BYTES, Ordering::Relaxed);
    if !(locked && hidden) {
        UNLOCKED.store(true, Ordering::Relaxed);
    }
    chunk
}
