//! The image tool's binary: everything is in the library.

fn main() -> std::process::ExitCode {
    dhow::cli::ctl::main()
}
