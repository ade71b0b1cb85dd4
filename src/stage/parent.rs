//! The parent: it clones the child and supervises it until the container is created, or the exec is done.
//!
//! The stages are types, each consumed by the next: [`Spawned`] → [`Mapped`] → [`Created`] → [`Started`].
//! Dropping one before the end kills the child and reaps it, so that no way out leaves a half-made container.

use super::child::{Child, Lines};
use super::freeze::{Frozen, open_namespace};
use super::netdev::{self, Moved};
use super::wire::{self, Heard, Message, Tag};
use super::{host_hooks, report, trees};
use crate::cgroup::SelfJoin;
use crate::idmap;
use crate::plan::{Op, Plan, explain, human_field};
use crate::sys::process::{self, CLONE_NEWPID, CLONE_NEWTIME, Progress};
use crate::sys::{Errno, fs, socket};
use crate::{Error, Result, log};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// What a spawn needs beside the plan.
#[derive(Default)]
pub struct Around<'a> {
    /// create: the fifo at which it waits until somebody else starts it.
    pub barrier: Option<BorrowedFd<'a>>,
    /// exec: the pidfd of the container's init.
    pub init: Option<BorrowedFd<'a>>,
    /// cgroup v2, also a hybrid machine's: the directory that the child is cloned into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Closed in the child at once: a lock.
    pub not_for_child: Option<BorrowedFd<'a>>,
}

/// What the child asks for on its way.
pub trait Requests {
    /// The state for hooks.
    fn hook_state(&mut self, status: &str, pid: i32) -> Vec<u8>;
    /// The pty's master.
    fn console(&mut self, master: OwnedFd) -> Result<()>;
    /// The seccomp listener.
    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()>;
}

/// The child on a leash: it is killed and reaped when this is dropped before [`Live::release`].
struct Live<'p> {
    plan: &'p Plan,
    pid: i32,
    pidfd: Rc<OwnedFd>,
    wire: OwnedFd,
    progress: Progress,
    /// What of the host's goes back with it.
    moved: Option<Moved>,
    armed: bool,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        if self.armed {
            let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait_pidfd(self.pidfd.as_fd(), true);
        }
    }
}

pub struct Spawned<'p>(Live<'p>);
pub struct Mapped<'p>(Live<'p>);
pub struct Created<'p>(Live<'p>);

/// The container is created, or its program runs: its pid on the host, and its pidfd.
pub struct Started {
    pub pid: i32,
    pub pidfd: Rc<OwnedFd>,
    moved: Option<Moved>,
}

impl Started {
    /// Nothing can fail any more: the host's network devices that it was given are its own.
    pub fn commit(&mut self) {
        self.moved.take().into_iter().for_each(Moved::stay);
    }
}

/// Clone the child with the plan's namespaces; it begins to apply `frozen` at once.
pub fn spawn<'p>(plan: &'p Plan, frozen: &Frozen, around: &Around) -> Result<Spawned<'p>> {
    let fail = |call: &'static str| move |e: Errno| e.error(call, "starting the container's first process", "");
    if log::debug_enabled() {
        explain::to_log(plan).lines().filter(|line| !line.is_empty()).for_each(log::debug);
    }
    let (wire, childs_wire) = socket::seqpacket_pair().map_err(fail("socketpair"))?;
    let progress = Progress::new().map_err(fail("mmap"))?;
    let detour = Detour::enter(plan)?;
    let cloned = process::clone3(plan.clone_flags & !CLONE_NEWTIME, around.cgroup).map_err(|e| {
        let err = fail("clone3")(e);
        match e {
            Errno(libc::EPERM) => err.hint("as an unprivileged user a new user namespace is needed: see `dhow spec --rootless`"),
            Errno(libc::ENOSPC) => err.hint("a limit of /proc/sys/user/max_*_namespaces is reached"),
            Errno(libc::EINVAL) => err.hint("does this kernel have all of /linux/namespaces?"),
            _ => err,
        }
    })?;
    let Some(child) = cloned else {
        drop(wire);
        if let Some(fd) = around.not_for_child {
            fs::close_copy(fd);
        }
        let lines = Lines { wire: childs_wire.as_fd(), init: around.init, progress: &progress, barrier: around.barrier };
        Child::new(frozen, lines).apply();
    };
    log::debug(&format!("cloned: process {}", child.pid));
    let live = Live { plan, pid: child.pid, pidfd: Rc::new(child.pidfd), wire, progress, moved: None, armed: true };
    detour.leave()?;
    Ok(Spawned(live))
}

/// Namespaces that act on children only (pid, time): the parent enters them for the clone and comes back after it.
struct Detour {
    back: Vec<(OwnedFd, u64)>,
}

impl Detour {
    fn enter(plan: &Plan) -> Result<Detour> {
        let mut detour = Detour { back: Vec::new() };
        for join in &plan.parent_joins {
            let target = open_namespace(&join.path, &join.field)?;
            detour.remember(join.kind.clone_flag())?;
            process::setns(target.as_fd(), join.kind.clone_flag())
                .map_err(|e| e.error("setns", format!("joining the namespace of {}", join.field), join.path.display().to_string()))?;
        }
        if plan.clone_flags & CLONE_NEWTIME != 0 {
            detour.remember(CLONE_NEWTIME)?;
            process::unshare(CLONE_NEWTIME).map_err(|e| e.error("unshare", "making a time namespace", ""))?;
            write_time_offsets(plan, process::getpid())?;
        }
        Ok(detour)
    }

    fn remember(&mut self, kind: u64) -> Result<()> {
        let path = if kind == CLONE_NEWPID { c"/proc/self/ns/pid" } else { c"/proc/self/ns/time" };
        let here = fs::openat(fs::CWD, path, libc::O_RDONLY, 0).map_err(|e| e.error("openat", "opening", path.to_string_lossy()))?;
        self.back.push((here, kind));
        Ok(())
    }

    fn leave(self) -> Result<()> {
        self.back.iter().try_for_each(|(fd, kind)| process::setns(fd.as_fd(), *kind).map_err(|e| e.error("setns", "returning to our own namespaces", "")))
    }
}

fn write_time_offsets(plan: &Plan, pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/timens_offsets");
    for offset in &plan.time_offsets {
        let line = format!("{} {} {}", offset.clock, offset.secs, offset.nanosecs);
        std::fs::write(&path, &line)
            .map_err(|e| Error::io(&e, format!("setting the time offset {line:?} of"), format!("/linux/timeOffsets/{}", offset.clock)))?;
    }
    Ok(())
}

impl<'p> Spawned<'p> {
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// exec: the child joins its cgroup before anything else, a second fork included.
    pub fn admit(self, files: &SelfJoin) -> Result<Spawned<'p>> {
        self.0.send_cgroup(files)?;
        Ok(self)
    }

    /// Id maps and what else must be set from outside; then the child may go on. Follows a second fork.
    pub fn map(mut self) -> Result<Mapped<'p>> {
        let plan = self.0.plan;
        // A user namespace of the clone is there at once; one that the child unshares is when it asks for its maps.
        let mut asks = Asks::of(plan);
        // Before the maps: afterwards the child hides, and its /proc files are root's.
        if let Some(score) = plan.oom_score_adj.filter(|_| !asks.any()) {
            set_oom_score(self.0.pid, score)?;
        }
        let forks = asks.any();
        if plan.id_maps.is_some() && !asks.id_maps {
            self.write_maps()?;
        }
        while asks.any() {
            let heard = self.0.hear()?;
            match heard.as_ref().map(|h| h.message.tag) {
                Some(Tag::IdMaps) if asks.id_maps => {
                    asks.id_maps = false;
                    self.write_maps()?;
                }
                Some(Tag::TimeOffsets) if asks.time_offsets => {
                    asks.time_offsets = false;
                    write_time_offsets(plan, self.0.pid)?;
                    self.0.go_on()?;
                }
                Some(Tag::Second) if asks.second_fork => {
                    asks.second_fork = false;
                    self.follow(heard.and_then(|h| h.fd))?;
                    self.0.raise_rlimits()?;
                    self.0.go_on()?;
                }
                _ => return Err(self.0.unexpected(heard)),
            }
        }
        let pid = self.0.pid;
        if let Some(score) = plan.oom_score_adj.filter(|_| forks) {
            set_oom_score(pid, score)?;
        }
        self.0.raise_rlimits()?;
        Ok(Mapped(self.0))
    }

    fn write_maps(&self) -> Result<()> {
        if let Some(maps) = &self.0.plan.id_maps {
            let named = ["/linux/uidMappings", "/linux/gidMappings"];
            let (by_helper, deny_setgroups) = (maps.by_helper, maps.deny_setgroups);
            idmap::write(self.0.pid, &idmap::Maps { uid: &maps.uid, gid: &maps.gid, by_helper, deny_setgroups, named })?;
        }
        wire::send(self.0.wire.as_fd(), Message::new(Tag::Mapped), b"").map_err(|e| self.0.lost(e))
    }

    /// The sender of Second ends; its sibling, whose pidfd it sent, is the one from now on. It waits for our word: else
    /// what it has to say could arrive before this.
    fn follow(&mut self, pidfd: Option<OwnedFd>) -> Result<()> {
        let pidfd = pidfd.ok_or_else(|| self.0.unexpected(None))?;
        process::wait_pidfd(self.0.pidfd.as_fd(), true).map_err(|e| e.error("waitid", "reaping the intermediate process", ""))?;
        self.0.pid = pid_of(pidfd.as_fd())?;
        self.0.pidfd = Rc::new(pidfd);
        Ok(())
    }
}

/// What the child of a plan will ask for before it can be put into its cgroup.
struct Asks {
    id_maps: bool,
    time_offsets: bool,
    second_fork: bool,
}

impl Asks {
    fn of(plan: &Plan) -> Asks {
        let has = |op: Op| plan.steps.iter().any(|s| s.op == op);
        Asks { id_maps: plan.asks_for_maps(), time_offsets: has(Op::AwaitTimeOffsets), second_fork: has(Op::SecondFork) }
    }

    fn any(&self) -> bool {
        self.id_maps || self.time_offsets || self.second_fork
    }
}

fn set_oom_score(pid: i32, score: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, score.to_string())
        .map_err(|e| Error::io(&e, format!("setting /process/oomScoreAdj {score} by"), path.clone()).hint("lowering it needs CAP_SYS_RESOURCE"))
}

/// The pid that a pidfd is of, by its fdinfo.
fn pid_of(pidfd: BorrowedFd) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&e, "reading", path.clone()))?;
    let pid = text.lines().find_map(|l| l.strip_prefix("Pid:")).and_then(|p| p.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::other("reading the pid from", path, "there is none: has the process ended?"))
}

impl<'p> Mapped<'p> {
    /// create: the cgroup is made; the child may join it.
    pub fn admit(self, files: &SelfJoin) -> Result<Mapped<'p>> {
        self.0.send_cgroup(files)?;
        Ok(self)
    }

    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// Serve the child's requests until it is Created.
    pub fn settle(mut self, requests: &mut dyn Requests) -> Result<Created<'p>> {
        if !self.0.serve(requests)? {
            return Err(self.0.unexpected(None));
        }
        log::debug(&format!("process {} has done its steps and waits for its start", self.0.pid));
        Ok(Created(self.0))
    }

    /// exec: serve the child's requests until its program runs.
    pub fn finish(mut self, requests: &mut dyn Requests) -> Result<Started> {
        if self.0.serve(requests)? {
            return Err(Error::other("exec", "", "the child waits for a start that nobody gives"));
        }
        self.0.check_exec()?;
        Ok(self.0.release())
    }
}

impl Created<'_> {
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }

    /// create: leave it waiting for its start.
    pub fn leave(self) -> Started {
        self.0.release()
    }

    /// run: start the program, and know that it runs.
    pub fn start(self) -> Result<Started> {
        wire::send(self.0.wire.as_fd(), Message::new(Tag::Start), b"").map_err(|e| self.0.lost(e))?;
        if let Some(heard) = self.0.hear()? {
            return Err(self.0.unexpected(Some(heard)));
        }
        self.0.check_exec()?;
        Ok(self.0.release())
    }
}

impl Live<'_> {
    /// True when Created was heard, false at the end of the stream.
    fn serve(&mut self, requests: &mut dyn Requests) -> Result<bool> {
        loop {
            let Some(heard) = self.hear()? else { return Ok(false) };
            match (heard.message.tag, heard.fd) {
                (Tag::Created, _) => return Ok(true),
                (Tag::Warning, _) => log::warn(&report::sentence(self.plan, heard.message, &heard.text).to_string()),
                (Tag::Console, Some(master)) => {
                    requests.console(master)?;
                    self.go_on()?;
                }
                (Tag::HostHooks, _) => {
                    // The child is in its network namespace by now, and the hooks find the devices there, as runc's do.
                    self.moved = netdev::move_all(&self.plan.net_devices, self.pid)?;
                    // The deprecated prestart hooks were once run by `start`, and are told `created`, as by crun; runc
                    // tells both `creating`.
                    host_hooks::run("prestart", &self.plan.hooks.prestart, &requests.hook_state("created", self.pid))?;
                    host_hooks::run("createRuntime", &self.plan.hooks.create_runtime, &requests.hook_state("creating", self.pid))?;
                    self.go_on()?;
                }
                (Tag::Tree, _) => {
                    let tree = trees::make(self.plan, heard.message.a as usize, self.pid, self.pidfd.as_fd())?;
                    wire::send_fds(self.wire.as_fd(), Message::new(Tag::Tree), &[tree.as_raw_fd()]).map_err(|e| self.lost(e))?;
                }
                (Tag::Listener, _) => {
                    let listener = process::pidfd_getfd(self.pidfd.as_fd(), heard.message.a as i32)
                        .map_err(|e| e.error("pidfd_getfd", "taking the seccomp listener", ""))?;
                    requests.listener(self.pid, listener)?;
                    self.go_on()?;
                }
                (tag, fd) => return Err(self.unexpected(Some(Heard { message: Message { tag, ..heard.message }, text: heard.text, fd }))),
            }
        }
    }

    fn go_on(&self) -> Result<()> {
        wire::send(self.wire.as_fd(), Message::new(Tag::Continue), b"").map_err(|e| self.lost(e))
    }

    fn hear(&self) -> Result<Option<Heard>> {
        wire::hear(self.wire.as_fd()).map_err(|e| e.error("recvmsg", "listening to the container's first process", ""))
    }

    fn send_cgroup(&self, files: &SelfJoin) -> Result<()> {
        let raw: Vec<_> = files.fds().map(|fd| fd.as_raw_fd()).collect();
        // Also where there are none (rootless): the child waits for the word.
        wire::send_fds(self.wire.as_fd(), Message::new(Tag::Cgroup), &raw).map_err(|e| self.lost(e))
    }

    /// Raise hard limits, which takes our privileges; the child sets the limits themselves, as its last act as root.
    fn raise_rlimits(&self) -> Result<()> {
        for limit in &self.plan.rlimits {
            let failed = |call: &'static str, e: Errno| {
                let err =
                    e.error(call, format!("error setting rlimits for process: raising {} to {} ({})", limit.name, limit.hard, human_field(&limit.field)), "");
                if e == Errno(libc::EPERM) { err.hint("a hard limit above the caller's needs CAP_SYS_RESOURCE; see `ulimit -Ha`") } else { err }
            };
            let (soft, hard) = process::rlimit(limit.resource).map_err(|e| failed("getrlimit", e))?;
            if limit.hard > hard {
                process::set_rlimit(self.pid, limit.resource, soft, limit.hard).map_err(|e| failed("prlimit", e))?;
            }
        }
        Ok(())
    }

    /// At the end of the stream: has the program been started, or did the child die?
    fn check_exec(&self) -> Result<()> {
        // A pidfd that is readable belongs to a process that has ended. A program that ends at once has run all the same,
        // so only a death by signal before the last step is the child's own.
        let last = self.plan.steps.len().saturating_sub(1);
        if self.progress.get() < last {
            return Err(self.died());
        }
        log::debug(&format!("process {} has executed its program", self.pid));
        Ok(())
    }

    /// Let it live on its own.
    fn release(mut self) -> Started {
        self.armed = false;
        Started { pid: self.pid, pidfd: Rc::clone(&self.pidfd), moved: self.moved.take() }
    }

    /// What the child said before it died, if anything.
    fn said_failure(&self) -> Option<Error> {
        match self.hear() {
            Ok(Some(heard)) if heard.message.tag == Tag::Failed => Some(report::sentence(self.plan, heard.message, &heard.text)),
            _ => None,
        }
    }

    /// Sending failed: the child has died; it may have said why.
    fn lost(&self, _e: Errno) -> Error {
        self.said_failure().unwrap_or_else(|| self.died())
    }

    fn unexpected(&self, heard: Option<Heard>) -> Error {
        match heard {
            Some(heard) if heard.message.tag == Tag::Failed => report::sentence(self.plan, heard.message, &heard.text),
            Some(heard) => Error::other("starting the container's first process", "", format!("it said {:?} out of turn", heard.message.tag)),
            None => self.died(),
        }
    }

    fn died(&self) -> Error {
        let how = process::wait_pidfd(self.pidfd.as_fd(), true);
        report::death(self.plan, self.progress.get(), how.ok().flatten())
    }
}
