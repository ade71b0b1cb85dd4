//! The verbs on a container that exists: start, kill, delete, state, list, ps, pause, resume, update, events.

use super::record::Record;
use super::store::{self, Entry};
use super::{Context, StateReport, Status};
use crate::host::cgroup::Layout;
use crate::spec::{Hook, Resources, Spec};
use crate::stage::barrier::{self, Outcome};
use crate::stage::{self, host_hooks};
use crate::sys::{process, signal};
use crate::{Error, Kind, Result, cgroup, log};
use std::os::fd::AsFd;

fn wrong_state(entry: &Entry, doing: &str, why: impl Into<String>) -> Error {
    Error::new(Kind::WrongState, doing, entry.record.id.clone(), why)
}

impl Context {
    pub fn start(&self, id: &str) -> Result<()> {
        let entry = self.open(id)?;
        let lock = entry.lock()?;
        match entry.status()? {
            Status::Created => {}
            Status::Stopped => return Err(wrong_state(&entry, "cannot start a container that has stopped:", "")),
            Status::Creating => return Err(wrong_state(&entry, "cannot start", "it is still being created")),
            Status::Running | Status::Paused => return Err(wrong_state(&entry, "cannot start an already running container:", "")),
        }
        let notify = super::notify::NotifySocket::of(&entry.dir)?;
        if let Err(e) = wake(&entry) {
            // runtime.md § Lifecycle 7: after a failing startContainer hook the container is destroyed.
            if e.kind == Kind::Hook {
                drop(lock);
                self.delete(id, true)?;
            }
            return Err(e);
        }
        let state = entry.record.hook_state("running", entry.record.init_process_pid);
        let spec = entry.spec()?;
        if let Err(e) = host_hooks::run("poststart", &spec.hooks.poststart, &state) {
            // runtime.md § Lifecycle 9: stop it and go on with the poststop hooks.
            drop(lock);
            self.delete(id, true)?;
            return Err(e);
        }
        drop(lock);
        if let Some(notify) = notify {
            notify.forward_until_ready(entry.record.init_process_pid)?;
        }
        Ok(())
    }

    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let entry = self.open(id)?;
        let status = entry.status()?;
        if all {
            // Also for a stopped one: processes may be left where the pid namespace is shared.
            match entry.record.cgroup().kill_all(signal) {
                // systemd removes the cgroup when its last process has ended: nobody is left.
                Err(e) if e.kind == Kind::NotFound && status == Status::Stopped => return Ok(()),
                // Rootless, without a cgroup: the first process is the one that we know.
                Err(e) if e.kind == Kind::NotFound => log::warn(&format!("{e}; only its first process is signalled")),
                done => return done,
            }
        }
        // Where the pid namespace is shared, processes may outlive the first one, and SIGKILL is for all of them.
        if signal == libc::SIGKILL && status == Status::Stopped && !owns_pid_namespace(&entry) && !entry.record.cgroup().all_pids()?.is_empty() {
            return entry.record.cgroup().kill_all(signal);
        }
        if matches!(status, Status::Stopped | Status::Creating) {
            return Err(wrong_state(&entry, "container not running:", format!("it is {}", status.as_str())));
        }
        let pidfd = entry.pidfd()?;
        process::pidfd_send_signal(pidfd.as_fd(), signal).map_err(|e| match e.0 {
            libc::ESRCH => wrong_state(&entry, "container not running:", ""),
            _ => e.error("pidfd_send_signal", format!("sending signal {signal} to"), id),
        })?;
        // A frozen process dies of SIGKILL only once it is thawed (on v1).
        if status == Status::Paused && signal == libc::SIGKILL {
            entry.record.cgroup().thaw()?;
        }
        // Without a pid namespace of its own the first process's death takes nobody with it.
        if signal == libc::SIGKILL && !owns_pid_namespace(&entry) {
            let cgroup = entry.record.cgroup();
            // A foreground `run` may have cleaned up meanwhile.
            return cgroup.kill_all(signal).or_else(|e| if cgroup.exists() { Err(e) } else { Ok(()) });
        }
        Ok(())
    }

    pub fn delete(&self, id: &str, force: bool) -> Result<()> {
        let entry = match self.open(id) {
            Err(e) if force && e.kind == Kind::NotFound => return Ok(()),
            Err(e) if force && e.kind != Kind::Usage => return self.remove_damaged(id),
            other => other?,
        };
        let status = entry.status()?;
        match status {
            Status::Stopped => {}
            Status::Created => kill_init(&entry)?,
            _ if force => kill_init(&entry)?,
            _ => {
                return Err(wrong_state(&entry, "cannot delete container", format!("that is not stopped: it is {}", status.as_str()))
                    .hint("kill it first, or use --force"));
            }
        }
        match entry.lock() {
            Ok(_lock) => self.remove(&entry),
            // Its maker noticed the death and cleaned up, or died before it kept the configuration.
            Err(e) if force && e.kind == Kind::NotFound => {
                if entry.dir.exists() {
                    self.remove(&entry)
                } else {
                    Ok(())
                }
            }
            Err(e) => Err(e),
        }
    }

    /// The container that `run` has seen the end of, unless somebody was faster, and perhaps made another of this id.
    pub fn remove_ended(&self, record: &Record, spec: Spec) -> Result<()> {
        let gone = |e: &Error| e.kind == Kind::NotFound;
        let entry = match self.open(&record.id) {
            Err(e) if gone(&e) => return Ok(()),
            other => other?.with_spec(spec),
        };
        let same = (entry.record.init_process_pid, entry.record.init_process_start) == (record.init_process_pid, record.init_process_start);
        match entry.lock() {
            Ok(_lock) if same => self.remove(&entry),
            Ok(_) => Ok(()),
            Err(e) if gone(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Everything that belongs to a stopped container, then the poststop hooks.
    fn remove(&self, entry: &Entry) -> Result<()> {
        let cgroup = entry.record.cgroup();
        // Whoever is left in it belonged to the container; a pid namespace of its own takes all with it.
        if !owns_pid_namespace(entry) && cgroup.exists() {
            if cgroup.is_frozen()? {
                cgroup.thaw()?;
            }
            cgroup.kill_all(libc::SIGKILL)?;
        }
        cgroup.destroy()?;
        super::rdt::leave(&entry.record);
        // Read before its file goes.
        let poststop = entry.spec().map_or(&[][..], |spec| &spec.hooks.poststop);
        std::fs::remove_dir_all(&entry.dir).map_err(|e| Error::io(&e, "removing the container's state", entry.dir.display().to_string()))?;
        run_poststop(poststop, &entry.record);
        Ok(())
    }

    /// `delete --force` of a directory whose state can't be read: the cgroup is found by the configuration, as at create.
    fn remove_damaged(&self, id: &str) -> Result<()> {
        store::check_id(id)?;
        let dir = self.root.join(id);
        log::warn(&format!("the state of {id} is damaged; removing what its configuration tells of"));
        if let Ok(spec) = crate::spec::Spec::load(&dir) {
            let cgroup = self.plan_cgroup(&Layout::detect()?, &spec.linux.cgroups_path, id)?;
            if cgroup.exists() {
                cgroup.thaw()?;
                cgroup.kill_all(libc::SIGKILL)?;
                cgroup.destroy()?;
            }
        }
        std::fs::remove_dir_all(&dir).map_err(|e| Error::io(&e, "removing", dir.display().to_string()))
    }

    pub fn state(&self, id: &str) -> Result<StateReport> {
        let entry = self.open(id)?;
        Ok(entry.record.report(entry.status()?))
    }

    /// Containers that can't be read are warned of and left out.
    pub fn list(&self) -> Result<Vec<StateReport>> {
        let mut reports = Vec::new();
        for id in self.ids()? {
            match self.state(&id) {
                Ok(report) => reports.push(report),
                // It was removed while we listed.
                Err(e) if e.kind == Kind::NotFound => {}
                Err(e) => log::warn(&format!("leaving out {id}: {e}")),
            }
        }
        Ok(reports)
    }

    /// Host pids of all processes in the container.
    pub fn pids(&self, id: &str) -> Result<Vec<i32>> {
        let entry = self.open(id)?;
        if entry.status()? == Status::Stopped && !entry.record.cgroup().exists() {
            return Ok(Vec::new());
        }
        entry.record.cgroup().all_pids()
    }

    pub fn pause(&self, id: &str) -> Result<()> {
        let entry = self.open(id)?;
        let _lock = entry.lock()?;
        match entry.status()? {
            Status::Running | Status::Created => entry.record.cgroup().freeze(),
            status => Err(wrong_state(&entry, "container not running or created:", format!("it is {}", status.as_str()))),
        }
    }

    pub fn resume(&self, id: &str) -> Result<()> {
        let entry = self.open(id)?;
        let _lock = entry.lock()?;
        // A created container that was paused is told by its cgroup.
        if entry.status()? != Status::Paused && !(entry.is_alive() && entry.record.cgroup().is_frozen()?) {
            return Err(wrong_state(&entry, "container not paused:", ""));
        }
        entry.record.cgroup().thaw()
    }

    pub fn update(&self, id: &str, wishes: &Resources, rdt: Option<(String, String)>) -> Result<()> {
        let mut entry = self.open(id)?;
        let _lock = entry.lock()?;
        if entry.status()? == Status::Stopped {
            return Err(wrong_state(&entry, "cannot update a stopped container:", "container not running"));
        }
        let resources = cgroup::merged(&entry.record.resources, wishes);
        let cgroup = entry.record.cgroup();
        cgroup.ignored(wishes).iter().for_each(|w| log::warn(w));
        cgroup.update(&resources)?;
        if let Some((l3, bandwidth)) = rdt {
            super::rdt::update(&entry.record, &l3, &bandwidth)?;
        }
        entry.record.resources = resources;
        entry.record.save(&entry.dir)
    }
}

/// Wake the child, and learn how its exec went.
fn wake(entry: &Entry) -> Result<()> {
    match barrier::lift(&entry.dir)? {
        Outcome::Runs => Ok(()),
        Outcome::Failed(heard) => Err(entry.explain_failure(heard).within(super::create::START_FAILED)),
        Outcome::DiedWaiting => Err(wrong_state(entry, "cannot start a container that has stopped:", "")),
        Outcome::DiedWaking => Err(Error::other("container init", "", "it was killed on its way to the program")
            .hint("by the OOM killer (memory limit too low?), or by somebody else")
            .within(super::create::START_FAILED)),
    }
}

impl Entry {
    /// The sentence for a step that failed after `create` had ended: the plan is made again to name it.
    fn explain_failure(&self, heard: stage::wire::Heard) -> Error {
        let again = self.spec().and_then(|spec| super::plan_again(&self.record, spec));
        match again {
            Ok(plan) => stage::sentence(&plan, heard.message, &heard.text),
            Err(_) => Error::kernel("", heard.message.b, "starting the program", heard.text),
        }
    }
}

/// Kill the first process and wait until it is gone: by its pidfd, without polling.
fn kill_init(entry: &Entry) -> Result<()> {
    let cgroup = entry.record.cgroup();
    // A maker that was killed left no pid; what it started died with it, or is in the cgroup.
    let pidfd = entry.pidfd().ok();
    if let Some(pidfd) = &pidfd {
        let _ = process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    if cgroup.exists() {
        if cgroup.is_frozen()? {
            cgroup.thaw()?;
        }
        if pidfd.is_none() || !owns_pid_namespace(entry) {
            cgroup.kill_all(libc::SIGKILL)?;
        }
    }
    if let Some(pidfd) = &pidfd {
        const PATIENCE_MS: i32 = 10_000;
        if signal::poll(&[pidfd.as_fd()], PATIENCE_MS) == Ok(0) {
            return Err(Error::new(Kind::Other, "one or more processes still alive after SIGKILL in", entry.record.id.clone(), "")
                .hint("a process in uninterruptible sleep (state D) can't be killed until its I/O ends"));
        }
    }
    Ok(())
}

fn owns_pid_namespace(entry: &Entry) -> bool {
    entry.spec().is_ok_and(|spec| spec.linux.namespaces.iter().any(|n| n.kind == "pid" && n.path.is_empty()))
}

/// poststop hooks: a failure is a warning, the others run all the same (runtime.md § Lifecycle 13).
pub fn run_poststop(hooks: &[Hook], record: &Record) {
    let state = record.hook_state("stopped", 0);
    for hook in hooks {
        if let Err(e) = host_hooks::run("poststop", std::slice::from_ref(hook), &state) {
            log::warn(&e.to_string());
        }
    }
}
