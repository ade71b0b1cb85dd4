//! How parent and child talk: one SOCK_SEQPACKET pair, a message of 16 bytes, descriptors by SCM_RIGHTS.
//!
//! | from   | tag       | carries                        | then                                              |
//! |--------|-----------|--------------------------------|---------------------------------------------------|
//! | parent | Mapped    | –                              | id maps are written: child goes on as root of it  |
//! | parent | Cgroup    | v1's `tasks` files, as fds      | child moves itself by them                        |
//! | parent | Tree      | a detached mount               | answer to the child's Tree                        |
//! | parent | Continue  | –                              | answer to Second, HostHooks, Console, TimeOffsets and Listener |
//! | parent | Start     | –                              | `run`: child execs                                |
//! | child  | Second    | a pidfd                        | this is the container's init now, the sender ends; Continue, to the new one |
//! | child  | HostHooks | –                              | parent moves network devices, runs prestart and createRuntime; Continue |
//! | child  | IdMaps    | –                              | it has unshared its user namespace; Mapped        |
//! | child  | TimeOffsets | –                          | parent writes them for the sender; Continue       |
//! | child  | Tree      | `a` step                       | parent makes the mount with its rights; Tree      |
//! | child  | Console   | the pty's master               | parent sets it up or hands it on; Continue        |
//! | child  | Listener  | `a`: its fd number             | parent takes it by pidfd_getfd(2); Continue       |
//! | child  | Warning   | as Failed                      | parent logs it; the child goes on                 |
//! | child  | Created   | –                              | all but the exec is done                          |
//! | child  | Failed    | `a` step, `b` errno, text      | the child has ended                               |
//!
//! Two more go by the fifo alone (`barrier.rs`): Woken, and Exec before the exec.
//!
//! The end of the stream without Failed means that the exec succeeded (CLOEXEC), or that the child was killed: the
//! pidfd tells which. Nobody sleeps or polls.

use crate::sys::{self, Errno, fs, socket};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Tag {
    Mapped = 1,
    Continue,
    Start,
    Second,
    HostHooks,
    Console,
    Listener,
    Warning,
    Created,
    Failed,
    TimeOffsets,
    IdMaps,
    Tree,
    Cgroup,
    Woken,
    Exec,
}

const TAGS: [Tag; 16] = [
    Tag::Mapped,
    Tag::Continue,
    Tag::Start,
    Tag::Second,
    Tag::HostHooks,
    Tag::Console,
    Tag::Listener,
    Tag::Warning,
    Tag::Created,
    Tag::Failed,
    Tag::TimeOffsets,
    Tag::IdMaps,
    Tag::Tree,
    Tag::Cgroup,
    Tag::Woken,
    Tag::Exec,
];

/// The fixed part of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub tag: Tag,
    pub a: u32,
    pub b: i32,
}

pub const HEADER: usize = 16;
/// The longest text behind a header.
pub const TEXT: usize = 240;

impl Message {
    pub fn new(tag: Tag) -> Message {
        Message { tag, a: 0, b: 0 }
    }

    fn encode(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&(self.tag as u32).to_ne_bytes());
        out[4..8].copy_from_slice(&self.a.to_ne_bytes());
        out[8..12].copy_from_slice(&self.b.to_ne_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        let word = |i: usize| bytes.get(i..i + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let number = word(0)?;
        let tag = *TAGS.iter().find(|t| **t as u32 == number)?;
        Some(Message { tag, a: word(4)?, b: word(8)? as i32 })
    }
}

/// Send without descriptors: a plain write(2), which even a strict seccomp profile allows.
pub fn send(fd: BorrowedFd, message: Message, text: &[u8]) -> sys::Result<()> {
    let mut buf = [0u8; HEADER + TEXT];
    let text = &text[..text.len().min(TEXT)];
    buf[..HEADER].copy_from_slice(&message.encode());
    buf[HEADER..HEADER + text.len()].copy_from_slice(text);
    fs::write(fd, &buf[..HEADER + text.len()]).map(drop)
}

pub fn send_fds(fd: BorrowedFd, message: Message, fds: &[RawFd]) -> sys::Result<()> {
    socket::send(fd, &message.encode(), fds)
}

/// The child's side: wait for `tag`, as a plain read(2). The parent's end closing, or another tag, is EPIPE.
pub fn expect(fd: BorrowedFd, tag: Tag) -> sys::Result<Message> {
    let mut buf = [0u8; HEADER];
    let n = fs::read(fd, &mut buf)?;
    Message::decode(&buf[..n]).filter(|m| m.tag == tag).ok_or(Errno(libc::EPIPE))
}

/// The child's side: wait for Tree and its descriptor.
pub fn expect_tree(fd: BorrowedFd) -> sys::Result<OwnedFd> {
    let mut buf = [0u8; HEADER];
    let mut fds = [None];
    let (n, _) = socket::recv(fd, &mut buf, &mut fds)?;
    match (Message::decode(&buf[..n]), fds[0].take()) {
        (Some(Message { tag: Tag::Tree, .. }), Some(tree)) => Ok(tree),
        _ => Err(Errno(libc::EPIPE)),
    }
}

/// The child's side: wait for Cgroup and its descriptors; how many came.
pub fn expect_cgroup(fd: BorrowedFd, files: &mut [Option<OwnedFd>]) -> sys::Result<usize> {
    let mut buf = [0u8; HEADER];
    let (n, count) = socket::recv(fd, &mut buf, files)?;
    Message::decode(&buf[..n]).filter(|m| m.tag == Tag::Cgroup).map(|_| count).ok_or(Errno(libc::EPIPE))
}

/// What the parent hears.
#[derive(Debug)]
pub struct Heard {
    pub message: Message,
    pub text: String,
    pub fd: Option<OwnedFd>,
}

/// The parent's side: the next message, None at the end of the stream.
pub fn hear(fd: BorrowedFd) -> sys::Result<Option<Heard>> {
    let mut buf = [0u8; HEADER + TEXT];
    let mut fds = [None];
    let mut recv = || socket::recv(fd, &mut buf, &mut fds).map(|(n, _)| n);
    // The child has ended with a message of ours unread. The kernel says so first; what the child said comes after it.
    let n = match recv() {
        Err(Errno(libc::ECONNRESET)) => recv()?,
        other => other?,
    };
    Ok(decode_heard(&buf[..n], fds[0].take()))
}

/// The message at the beginning of `bytes`; all that follows the header is its text.
pub fn decode_heard(bytes: &[u8], fd: Option<OwnedFd>) -> Option<Heard> {
    let message = Message::decode(bytes)?;
    Some(Heard { message, text: String::from_utf8_lossy(&bytes[HEADER..]).into_owned(), fd })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let (here, there) = socket::seqpacket_pair().unwrap();
        send(here.as_fd(), Message { tag: Tag::Failed, a: 7, b: 22 }, b"size").unwrap();
        let heard = hear(there.as_fd()).unwrap().unwrap();
        assert_eq!(heard.message, Message { tag: Tag::Failed, a: 7, b: 22 });
        assert_eq!(heard.text, "size");
        drop(here);
        assert!(hear(there.as_fd()).unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_though_ours_were_not() {
        let (here, there) = socket::seqpacket_pair().unwrap();
        send(here.as_fd(), Message::new(Tag::Cgroup), b"").unwrap();
        send(there.as_fd(), Message::new(Tag::Failed), b"why").unwrap();
        drop(there);
        assert_eq!(hear(here.as_fd()).unwrap().unwrap().text, "why");
        assert!(hear(here.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_tree_arrives_with_its_descriptor() {
        let (here, there) = socket::seqpacket_pair().unwrap();
        send_fds(here.as_fd(), Message::new(Tag::Tree), &[here.as_raw_fd()]).unwrap();
        expect_tree(there.as_fd()).unwrap();
    }

    #[test]
    fn a_wrong_tag_or_a_closed_end_is_a_broken_pipe() {
        let (here, there) = socket::seqpacket_pair().unwrap();
        send(here.as_fd(), Message::new(Tag::Continue), b"").unwrap();
        assert_eq!(expect(there.as_fd(), Tag::Start), Err(Errno(libc::EPIPE)));
        drop(here);
        assert_eq!(expect(there.as_fd(), Tag::Start), Err(Errno(libc::EPIPE)));
    }
}
