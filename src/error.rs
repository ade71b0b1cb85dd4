//! One error for the whole library: what was being done, to what, the cause, and what to do about it.
//!
//! It prints as one line, `doing subject: cause (hint)`, because callers take the last line of a log as the
//! message and match on words in it (docs/callers/contract.md).

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure this is; it decides the exit code and what a caller may do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The command line was wrong.
    Usage,
    /// The configuration is wrong at `pointer` (RFC 6901), `""` for the document itself.
    InvalidConfig { pointer: String },
    /// No such container (or bundle, or file).
    NotFound,
    /// It exists already.
    Exists,
    /// The container is not in a state that allows this.
    WrongState,
    /// This kernel, machine or build lacks what was asked for.
    Unsupported { needs: String },
    /// A system call failed.
    Kernel { call: &'static str, errno: i32 },
    /// A hook failed.
    Hook,
    /// Anything else.
    Other,
}

/// A failure. Boxed, so that a `Result` stays small; the fields are those of [`Fields`].
#[derive(Debug, Clone)]
pub struct Error(Box<Fields>);

#[derive(Debug, Clone)]
pub struct Fields {
    pub kind: Kind,
    /// What was being done: "mounting", "opening", "joining the cgroup".
    pub doing: String,
    /// To what: a path, a config field, an id. May be empty.
    pub subject: String,
    /// The cause in words: the kernel's answer, or what is wrong. May be empty.
    pub cause: String,
    /// What the user can do. May be empty.
    pub hint: String,
}

impl Error {
    pub fn new(kind: Kind, doing: impl Into<String>, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        Error(Box::new(Fields { kind, doing: doing.into(), subject: subject.into(), cause: cause.into(), hint: String::new() }))
    }

    /// A failure without a better kind: `doing subject: cause`.
    pub fn other(doing: impl Into<String>, subject: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self::new(Kind::Other, doing, subject, cause.to_string())
    }

    /// Wrong words on the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message, "", "")
    }

    /// The config's field at `pointer` (RFC 6901) is wrong: `message` says how.
    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let pointer = pointer.into();
        Self::new(Kind::InvalidConfig { pointer: pointer.clone() }, "invalid config at", pointer, message)
    }

    /// This machine or build can't do it: `needs` names what is missing.
    pub fn unsupported(doing: impl Into<String>, subject: impl Into<String>, needs: impl Into<String>) -> Self {
        let needs = needs.into();
        let cause = format!("not supported here: needs {needs}");
        Self::new(Kind::Unsupported { needs }, doing, subject, cause)
    }

    /// The system call `call` failed with `errno` while `doing` to `subject`.
    pub fn kernel(call: &'static str, errno: i32, doing: impl Into<String>, subject: impl Into<String>) -> Self {
        let cause = describe_errno(errno);
        Self::new(Kind::Kernel { call, errno }, doing, subject, cause)
    }

    /// An `std::io::Error` met while `doing` to `subject`.
    pub fn io(err: &std::io::Error, doing: impl Into<String>, subject: impl Into<String>) -> Self {
        match err.raw_os_error() {
            Some(errno) => Self::kernel("", errno, doing, subject),
            None => Self::other(doing, subject, err),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The kernel's error number, where the kernel was the cause.
    pub fn errno(&self) -> Option<i32> {
        match self.kind {
            Kind::Kernel { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// Put what the caller was doing in front, as in `unable to start container process: …`.
    pub fn within(mut self, prefix: &str) -> Self {
        self.doing = format!("{prefix}: {}", self.doing);
        self
    }
}

impl std::ops::Deref for Error {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl std::ops::DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Fields {
        &mut self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// "no such file or directory" for ENOENT: Go's lower-case wording, which callers match on.
pub fn describe_errno(errno: i32) -> String {
    if let Some((_, words)) = GLIBCS_WORDS.iter().find(|(number, _)| *number == errno) {
        return words.to_string();
    }
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or("unknown error");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => format!("errno {errno}"),
    }
}

/// Go has glibc's words; musl, which the release is linked with, says "resource busy", "not supported" and the like.
const GLIBCS_WORDS: &[(i32, &str)] = &[
    (libc::EIO, "input/output error"),
    (libc::ECHILD, "no child processes"),
    (libc::ENOMEM, "cannot allocate memory"),
    (libc::EBUSY, "device or resource busy"),
    (libc::EXDEV, "invalid cross-device link"),
    (libc::EMFILE, "too many open files"),
    (libc::ENOTTY, "inappropriate ioctl for device"),
    (libc::ESPIPE, "illegal seek"),
    (libc::EDOM, "numerical argument out of domain"),
    (libc::ERANGE, "numerical result out of range"),
    (libc::EDEADLK, "resource deadlock avoided"),
    (libc::ENAMETOOLONG, "file name too long"),
    (libc::ELOOP, "too many levels of symbolic links"),
    (libc::ETIME, "timer expired"),
    (libc::EOVERFLOW, "value too large for defined data type"),
    (libc::ELIBBAD, "accessing a corrupted shared library"),
    (libc::EILSEQ, "invalid or incomplete multibyte or wide character"),
    (libc::EUSERS, "too many users"),
    (libc::ENOTSOCK, "socket operation on non-socket"),
    (libc::EMSGSIZE, "message too long"),
    (libc::EOPNOTSUPP, "operation not supported"),
    (libc::EADDRINUSE, "address already in use"),
    (libc::EADDRNOTAVAIL, "cannot assign requested address"),
    (libc::ENETUNREACH, "network is unreachable"),
    (libc::ENETRESET, "network dropped connection on reset"),
    (libc::ECONNABORTED, "software caused connection abort"),
    (libc::EISCONN, "transport endpoint is already connected"),
    (libc::ENOTCONN, "transport endpoint is not connected"),
    (libc::ESHUTDOWN, "cannot send after transport endpoint shutdown"),
    (libc::ETIMEDOUT, "connection timed out"),
    (libc::EHOSTUNREACH, "no route to host"),
    (libc::EINPROGRESS, "operation now in progress"),
    (libc::EUCLEAN, "structure needs cleaning"),
    (libc::EDQUOT, "disk quota exceeded"),
    (libc::EOWNERDEAD, "owner died"),
];

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_glibcs() {
        for (errno, words) in GLIBCS_WORDS {
            let said = std::io::Error::from_raw_os_error(*errno).to_string().to_lowercase();
            assert_eq!(said, format!("{words} (os error {errno})"));
        }
    }
}
