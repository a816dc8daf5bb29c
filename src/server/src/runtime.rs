//! The runtime that everything runs on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A multi-threaded runtime with one worker more than there are cores: a worker that writes the
/// audit log waits for the disk, and the cores stay busy meanwhile.
///
/// # Errors
/// If the operating system gives no threads.
pub fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    Builder::new_multi_thread()
        .worker_threads(cores.saturating_add(1))
        .thread_name("fieldseal")
        .enable_all()
        // A batch needs much memory for a moment; the application beside us needs it afterwards.
        .on_thread_park(fieldseal_memory::give_back)
        .build()
}
