//! (being written)
pub fn warn(message: &str) {
    eprintln!("warning: {message}");
}
