//! The child: it walks the frozen plan between clone and exec.
//!
//! It neither allocates nor locks. When a step fails it sends the step's number, the errno and a few words; the parent,
//! which holds the plan, says the sentence.

mod attributes;
mod console;
mod copyup;
mod devices;
mod exec;
mod hooks;
mod identity;
mod lines;
mod mounts;
pub use mounts::{Attributes, host_tree};
mod namespaces;

use super::barrier;
use super::freeze::{Action, Frozen};
use super::wire::{self, Message, Tag};
use crate::sys::{self, Errno, fs, process, process::Progress, signal};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What goes wrong in a step: the kernel's answer, and a few words about where.
pub struct Fault {
    errno: Errno,
    text: [u8; wire::TEXT],
    len: usize,
}

pub type Done = Result<(), Fault>;

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault { errno, text: [0; wire::TEXT], len: 0 }
    }
}

impl Fault {
    /// `parts` joined, cut where the message ends.
    pub fn new(errno: Errno, parts: &[&[u8]]) -> Fault {
        Fault::from(errno).and(parts)
    }

    /// More words behind those that are there.
    fn and(mut self, parts: &[&[u8]]) -> Fault {
        for part in parts {
            let take = part.len().min(self.text.len() - self.len);
            self.text[self.len..self.len + take].copy_from_slice(&part[..take]);
            self.len += take;
        }
        self
    }

    fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

/// Words for an errno: `.map_err(why(b"opening the source"))`.
fn why(words: &'static [u8]) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(errno, &[words])
}

/// Descriptors that the child starts with.
pub struct Lines<'a> {
    pub wire: BorrowedFd<'a>,
    /// exec: the container's init.
    pub init: Option<BorrowedFd<'a>>,
    /// Shared with the parent: the step that runs.
    pub progress: &'a Progress,
    /// create: the fifo to wait at. Without it the wire says Start (`run`).
    pub barrier: Option<BorrowedFd<'a>>,
}

pub struct Child<'a> {
    frozen: &'a Frozen,
    lines: Lines<'a>,
    step: usize,
    /// The container's root; the whole file system until PrepareRoot.
    root: Option<OwnedFd>,
    /// Its path on the host, once it is prepared.
    rootfs: &'a CStr,
    /// True once the root is entered: paths may be given to the kernel as they are.
    entered: bool,
    /// The old root's mounts may be the host's peers: they must be made slaves before they are detached.
    has_peers: bool,
    /// The one tmpfs that masks all directories, after its first use.
    mask: Option<OwnedFd>,
    /// The container's /dev/null, once a file was masked.
    null: Option<OwnedFd>,
    /// The directory of the nodes and links that are being made.
    nodes_dir: Option<(&'a CStr, OwnedFd)>,
    /// What FindProgram found.
    program: Option<&'a CStr>,
    /// The working directory was entered, with the rights that we had then.
    cwd_entered: bool,
    /// Created was sent: from here on failures go to the one who starts.
    created: bool,
}

impl<'a> Child<'a> {
    pub fn new(frozen: &'a Frozen, lines: Lines<'a>) -> Child<'a> {
        Child {
            frozen,
            lines,
            step: 0,
            root: None,
            rootfs: c"/",
            entered: false,
            has_peers: false,
            mask: None,
            null: None,
            nodes_dir: None,
            program: None,
            cwd_entered: false,
            created: false,
        }
    }

    /// Do all steps; ends in exec or in exit.
    pub fn apply(mut self) -> ! {
        let done = self.prelude().and_then(|()| self.walk());
        if let Err(fault) = done {
            self.report(Tag::Failed, &fault);
        }
        process::exit_now(1)
    }

    fn prelude(&mut self) -> Done {
        signal::unblock_all();
        self.die_with_parent()?;
        // An unprivileged parent may write our id maps only while we are dumpable (proc(5)).
        if !self.frozen.steps.iter().any(|action| matches!(action, Action::AwaitIdMaps { .. })) {
            hide()?;
        }
        fs::umask(0);
        close_on_exec_from(3 + self.frozen.preserve_fds)?;
        Ok(())
    }

    /// A container that is being made dies with the runtime. An exec'd process is its own from the start: a detached
    /// exec ends before it does.
    fn die_with_parent(&self) -> Done {
        if self.lines.init.is_none() && !self.created {
            process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
        }
        Ok(())
    }

    fn walk(&mut self) -> Done {
        let frozen = self.frozen;
        for (number, action) in frozen.steps.iter().enumerate() {
            self.step = number;
            self.lines.progress.set(number);
            if !matches!(action, Action::Device(_) | Action::Symlink { .. }) {
                self.nodes_dir = None;
            }
            self.act(action)?;
        }
        Ok(())
    }

    fn report(&self, tag: Tag, fault: &Fault) {
        let message = Message { tag, a: self.step as u32, b: fault.errno.0 };
        let to = self.lines.barrier.filter(|_| self.created).unwrap_or(self.lines.wire);
        // Whoever listens may be gone; there is nobody else to tell.
        let _ = wire::send(to, message, fault.text());
    }

    fn act(&mut self, action: &'a Action) -> Done {
        match action {
            Action::JoinNamespace { fd, kind } => self.join_namespace(fd.as_fd(), *kind),
            Action::JoinContainer { flags } => self.join_container(*flags),
            Action::Unshare { flags } => Ok(process::unshare(*flags)?),
            Action::SecondFork => self.second_fork(),
            Action::AwaitIdMaps { ask } => self.await_id_maps(*ask),
            Action::JoinCgroup { by_files } => self.join_cgroup(*by_files),
            Action::NewSession => Ok(process::setsid()?),
            Action::AwaitTimeOffsets { unprivileged } => self.await_time_offsets(*unprivileged),
            Action::SessionKeyring { name, label, add_permissions } => self.session_keyring(name, label.as_deref(), *add_permissions),
            Action::LoopbackUp => Ok(sys::net::loopback_up()?),
            Action::PrepareRoot { rootfs, propagation, parent, bind } => self.prepare_root(rootfs, *propagation, *parent, *bind),
            Action::Mount(mount) => self.mount(mount),
            Action::Device(device) => self.device(device),
            Action::Symlink { target, node, replace } => self.symlink(target, node, *replace),
            Action::MakeDirectory { path } => self.make_directory(path),
            Action::ReopenDevNull => self.reopen_dev_null(),
            Action::HostHooks => self.ask_parent(Message::new(Tag::HostHooks)),
            Action::Hooks { hooks } => self.run_hooks(hooks),
            Action::Console { width, height, bind } => self.console(*width, *height, *bind),
            Action::EnterRoot(how) => self.enter_root(*how),
            Action::RootPropagation { propagation } => Ok(sys::mount::propagate(c"/", *propagation)?),
            Action::RemountReadonly { path } => self.remount_readonly(path),
            Action::ReadonlyPath { path } => self.readonly_path(path),
            Action::MaskPath { path } => self.mask_path(path),
            Action::AwaitStart => self.await_start(),
            Action::Chdir { path, create, denied_ok } => self.chdir(path, *create, *denied_ok),
            Action::FindProgram { candidates, has_slash } => self.find_program(candidates, *has_slash),
            Action::Exec(exec) => self.exec(exec),
            other => self.set_attribute(other),
        }
    }

    /// Send `message` and wait for the parent's Continue.
    pub(in crate::stage::child) fn ask_parent(&self, message: Message) -> Done {
        wire::send(self.lines.wire, message, b"")?;
        Ok(wire::expect(self.lines.wire, Tag::Continue).map(drop)?)
    }

    /// The root as a descriptor: the container's, or the current one when there is no rootfs of our own (exec).
    fn root(&mut self) -> Result<BorrowedFd<'_>, Fault> {
        if self.root.is_none() {
            self.root = Some(fs::openat(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?);
        }
        self.root.as_ref().map(|r| r.as_fd()).ok_or(Fault::from(Errno(libc::EBADF)))
    }

    /// All is set up: say so and wait until somebody starts us.
    fn await_start(&mut self) -> Done {
        // From here on the container lives on its own; until here it dies with the runtime.
        process::prctl(libc::PR_SET_PDEATHSIG, 0)?;
        self.close_all_but_lines();
        wire::send(self.lines.wire, Message::new(Tag::Created), b"")?;
        self.created = true;
        match self.lines.barrier {
            Some(fifo) => {
                // As process 1 of its pid namespace it would be deaf to all signals but SIGKILL (pid_namespaces(7)).
                signal::exit_on_termination();
                Ok(barrier::wait(fifo)?)
            }
            None => Ok(wire::expect(self.lines.wire, Tag::Start).map(drop)?),
        }
    }
}

/// Nobody in our namespaces may trace us or read our descriptors (CVE-2016-9962).
fn hide() -> Done {
    Ok(process::prctl(libc::PR_SET_DUMPABLE, 0).map(drop)?)
}

/// The container may wait long for its start: it keeps nothing open of the runtime's but what it waits on.
impl Child<'_> {
    pub(in crate::stage::child) fn close_all_but_lines(&mut self) {
        self.root = None;
        self.mask = None;
        let mut keep = [self.lines.wire.as_raw_fd(), self.lines.barrier.map_or(-1, |fifo| fifo.as_raw_fd())];
        keep.sort_unstable();
        let mut from = 3 + self.frozen.preserve_fds;
        let first = from as i32;
        for fd in keep.into_iter().filter(|fd| *fd >= first) {
            close_range(from, fd as u32);
            from = fd as u32 + 1;
        }
        close_range(from, u32::MAX);
    }
}

/// Close `from..until`; a filter of the config may forbid it, and all of them are CLOEXEC anyway.
fn close_range(from: u32, until: u32) {
    if from < until {
        let _ = fs::close_range(from, until.saturating_sub(1), 0);
    }
}

/// CLOSE_RANGE_CLOEXEC is of Linux 5.11; older kernels get none of the caller's descriptors closed by it, so walk.
fn close_on_exec_from(first: u32) -> Done {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    Ok(fs::close_range(first, u32::MAX, CLOSE_RANGE_CLOEXEC)?)
}
