//! The runtime's binary: everything is in the library.

#[global_allocator]
static ALLOCATOR: dhow::sys::alloc::Allocator = dhow::sys::alloc::Allocator::new();

fn main() -> std::process::ExitCode {
    dhow::cli::main()
}
