//! The runtime's binary: everything is in the library.
fn main() -> std::process::ExitCode {
    dhow::cli::main()
}
