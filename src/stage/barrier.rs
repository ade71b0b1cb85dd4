//! Between `create` and `start`: one fifo, by which `start` wakes the child and hears how its exec went.
//!
//! `create` fills it to the brim, so that the child's first message waits until `start` has come and emptied it.
//! From then on `start` reads what the child says, until exec closes the child's end or the child dies:
//!
//! | it reads           | which means                             |
//! |--------------------|-----------------------------------------|
//! | nothing            | the child was dead before it was woken  |
//! | Woken              | it died on its way to the exec          |
//! | Woken, Exec        | the program runs                        |
//! | …, Failed          | a step failed, the exec perhaps         |

use super::wire::{self, Heard, Message, Tag};
use crate::sys::fs::{self, CWD};
use crate::sys::{self, Errno, signal};
use crate::{Error, Result};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Present from create to start; runc's name, which monitors look for.
pub const NAME: &str = "exec.fifo";

/// How the start of a waiting child went.
pub enum Outcome {
    Runs,
    Failed(Heard),
    DiedWaiting,
    DiedWaking,
}

/// A new barrier in `dir`, for the child to wait at. Opened read-write: no side waits for the other to open it, and the
/// child's copy outlives `create`.
pub fn make(dir: &Path) -> Result<OwnedFd> {
    let failed = failure("making the fifo", dir);
    let path = c_path(dir)?;
    fs::mkfifoat(CWD, &path, 0o600).map_err(failed("mkfifoat"))?;
    let fifo = fs::openat(CWD, &path, libc::O_RDWR, 0).map_err(failed("openat"))?;
    // The kernel makes a page of it, the least there is.
    let size = fs::set_pipe_size(fifo.as_fd(), 1).map_err(failed("fcntl"))?;
    fs::write(fifo.as_fd(), &vec![0; size]).map_err(failed("write"))?;
    Ok(fifo)
}

/// The child: wait until somebody starts us.
pub fn wait(fifo: BorrowedFd) -> sys::Result<()> {
    wire::send(fifo, Message::new(Tag::Woken), b"")
}

/// `start`: wake the child that waits at the barrier in `dir`, and wait until its program runs or it has ended.
pub fn lift(dir: &Path) -> Result<Outcome> {
    let failed = failure("starting by the fifo", dir);
    let path = c_path(dir)?;
    let fifo = fs::openat(CWD, &path, libc::O_RDONLY | libc::O_NONBLOCK, 0).map_err(failed("openat"))?;
    let filling = fs::pipe_size(fifo.as_fd()).map_err(failed("fcntl"))?;
    let (mut said, mut buf) = (Vec::new(), vec![0; filling]);
    loop {
        match fs::read(fifo.as_fd(), &mut buf) {
            Ok(0) => break,
            Ok(n) => {
                said.extend_from_slice(&buf[..n]);
                // It is awake: no longer created, whatever becomes of us.
                if said.len() == filling {
                    let _ = fs::unlinkat(CWD, &path, 0);
                }
            }
            Err(Errno(libc::EAGAIN)) => drop(signal::poll(&[fifo.as_fd()], -1).map_err(failed("poll"))?),
            Err(e) => return Err(failed("read")(e)),
        }
    }
    Ok(understand(said.get(filling..).unwrap_or_default()))
}

fn understand(mut said: &[u8]) -> Outcome {
    let mut outcome = Outcome::DiedWaiting;
    while let Some(heard) = wire::decode_heard(said, None) {
        outcome = match heard.message.tag {
            Tag::Woken => Outcome::DiedWaking,
            Tag::Exec => Outcome::Runs,
            // Its text has no bound but the end.
            _ => return Outcome::Failed(heard),
        };
        said = &said[wire::HEADER..];
    }
    outcome
}

fn c_path(dir: &Path) -> Result<CString> {
    let path = dir.join(NAME);
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| Error::other("opening", path.display().to_string(), e))
}

fn failure(doing: &'static str, dir: &Path) -> impl Fn(&'static str) -> Box<dyn FnOnce(Errno) -> Error> {
    let subject = dir.join(NAME).display().to_string();
    move |call| {
        let subject = subject.clone();
        Box::new(move |e| e.error(call, doing, subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A barrier at which this thread's other half waits.
    fn with_barrier(child: impl FnOnce(OwnedFd) + Send) -> Outcome {
        let dir = std::env::temp_dir().join(format!("dhow-barrier-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir(&dir).unwrap();
        let fifo = make(&dir).unwrap();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| child(fifo));
            lift(&dir)
        });
        std::fs::remove_dir_all(&dir).unwrap();
        outcome.unwrap()
    }

    fn say(fifo: &OwnedFd, tag: Tag, text: &[u8]) {
        wire::send(fifo.as_fd(), Message { tag, a: 3, b: 2 }, text).unwrap();
    }

    #[test]
    fn the_end_tells_exec_from_death() {
        assert!(matches!(with_barrier(drop), Outcome::DiedWaiting));
        assert!(matches!(with_barrier(|fifo| wait(fifo.as_fd()).unwrap()), Outcome::DiedWaking));
        let runs = |fifo: OwnedFd| {
            wait(fifo.as_fd()).unwrap();
            say(&fifo, Tag::Exec, b"");
        };
        assert!(matches!(with_barrier(runs), Outcome::Runs));
    }

    #[test]
    fn a_failure_comes_with_its_words() {
        for exec in [false, true] {
            let outcome = with_barrier(|fifo| {
                wait(fifo.as_fd()).unwrap();
                exec.then(|| say(&fifo, Tag::Exec, b""));
                say(&fifo, Tag::Failed, b"words");
            });
            let Outcome::Failed(heard) = outcome else { panic!("no failure") };
            assert_eq!((heard.message.a, heard.message.b, heard.text.as_str()), (3, 2, "words"));
        }
    }
}
