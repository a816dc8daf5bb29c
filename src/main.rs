//! The `fieldseal` program: hands over to `fieldseal-cli`.

use std::process::ExitCode;

/// Wipes what is freed, so that no key and no plaintext stays behind.
#[global_allocator]
static ALLOCATOR: fieldseal_memory::WipingAllocator = fieldseal_memory::WipingAllocator;

fn main() -> ExitCode {
    fieldseal_memory::harden_process();
    fieldseal_cli::main()
}
