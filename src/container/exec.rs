//! `exec`: another process in a container that runs.

use super::console::{self, Console, Pidfd};
use super::create::write_pid_file;
use super::foreground::{Foreground, Watch};
use super::record::Record;
use super::store::Entry;
use super::{Context, ExecRequest, Status};
use crate::cgroup::{Cgroup, Version};
use crate::host::{Host, cgroup::Layout};
use crate::spec::{Process, Spec, User};
use crate::stage::{self, Around, Requests, Started};
use crate::sys::process;
use crate::{Error, Kind, Result, log, plan, seccomp};
use std::os::fd::{AsFd, OwnedFd};

/// runc's words, which callers match on.
const EXEC_FAILED: &str = "unable to start container process";

impl Context {
    /// The exit status of the process; 0 when detached.
    pub fn exec(&self, request: &ExecRequest) -> Result<u8> {
        let entry = self.open(&request.id)?;
        check_state(&entry, request)?;
        let spec = entry.spec()?;
        super::check_preserved(request.preserve_fds)?;
        let mut process = process_for(request, spec)?;
        let console = Console::choose(process.terminal, request.detach, request.console_socket.as_deref())?;
        if console == Console::Inherit {
            console::adopt_size(&mut process);
        }
        let mut foreground = if request.detach { None } else { Some(Foreground::new()?) };
        let started = Executing { context: self, entry: &entry, request, process: &process, console, foreground: foreground.as_mut() }
            .spawn(spec)
            .map_err(|e| explain_denial(e, &entry))?;
        if let Some(path) = &request.pid_file {
            write_pid_file(path, started.pid).inspect_err(|_| kill(&started))?;
        }
        if let Some(path) = &request.pidfd_socket {
            Pidfd::send(path, started.pidfd.as_fd()).inspect_err(|_| kill(&started))?;
        }
        match foreground {
            Some(mut foreground) => foreground.wait(Watch { pidfd: started.pidfd.as_fd(), notify: None }).map(|e| e.status()),
            None => Ok(0),
        }
    }
}

/// Until its program runs a container's first process can't be looked into (CVE-2016-9962), which who isn't root on the
/// host must be able to in order to join its namespaces.
fn explain_denial(error: Error, entry: &Entry) -> Error {
    let early = error.errno() == Some(libc::EPERM) && process::geteuid() != 0 && entry.status().is_ok_and(|s| s == Status::Created);
    if early { error.hint("without root a container can be entered once it is started") } else { error }
}

fn kill(started: &Started) {
    let _ = process::pidfd_send_signal(started.pidfd.as_fd(), libc::SIGKILL);
}

fn check_state(entry: &Entry, request: &ExecRequest) -> Result<()> {
    let wrong = |why: &str| Err(Error::new(Kind::WrongState, why, entry.record.id.clone(), ""));
    match entry.status()? {
        Status::Stopped => wrong("cannot exec in a stopped container:"),
        Status::Creating => wrong("cannot exec in a container that is still being created:"),
        Status::Paused if !request.ignore_paused => wrong("cannot exec in a paused container (use --ignore-paused to override):"),
        _ => Ok(()),
    }
}

/// The process that the command line asks for: the container's own, changed by the flags.
fn process_for(request: &ExecRequest, spec: &Spec) -> Result<Process> {
    if let Some(process) = &request.process {
        return Ok(process.clone());
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = request.args.clone();
    process.terminal = request.tty;
    process.console_size = None;
    if let Some(cwd) = &request.cwd {
        process.cwd = cwd.clone();
    }
    process.env.extend(request.env.iter().cloned());
    if let Some((uid, gid)) = request.user {
        process.user = User { uid, gid: gid.unwrap_or(process.user.gid), ..process.user };
    }
    process.user.additional_gids.extend(&request.additional_gids);
    process.no_new_privileges |= request.no_new_privs;
    if let Some(profile) = &request.apparmor {
        process.apparmor_profile = profile.clone();
    }
    if let Some(label) = &request.process_label {
        process.selinux_label = label.clone();
    }
    add_capabilities(&mut process, &request.cap);
    Ok(process)
}

/// `--cap`: into bounding, effective and permitted; ambient as well where the spec uses ambient capabilities, which are
/// then inheritable too. Never inheritable alone (CVE-2022-29162).
fn add_capabilities(process: &mut Process, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_default();
    let ambient = !sets.ambient.is_empty();
    for name in names {
        sets.bounding.push(name.clone());
        sets.effective.push(name.clone());
        sets.permitted.push(name.clone());
        if ambient {
            sets.ambient.push(name.clone());
            sets.inheritable.push(name.clone());
        }
    }
}

/// Of the cgroup that was asked for by name.
fn takes_no_process(cgroup: &Cgroup) -> Error {
    let path = cgroup.path("").map_or_else(String::new, |path| path.display().to_string());
    Error::kernel("clone3", libc::EBUSY, format!("{EXEC_FAILED}: adding pid of the new process to cgroups:"), path)
        .hint("it has controllers switched on for cgroups below it, so only those take processes")
}

struct Executing<'a> {
    context: &'a Context,
    entry: &'a Entry,
    request: &'a ExecRequest,
    process: &'a Process,
    console: Console,
    foreground: Option<&'a mut Foreground>,
}

impl Executing<'_> {
    fn spawn(&mut self, spec: &Spec) -> Result<Started> {
        let record = &self.entry.record;
        let layout = Layout::detect()?;
        let host = Host::probe(&layout)?;
        let plan = plan::build_exec(spec, self.process, &host, &self.options(record))?;
        plan.warnings.iter().for_each(|w| log::warn(w));
        let filter = spec.linux.seccomp.as_ref().filter(|p| seccomp::is_enabled(p)).map(|profile| super::filter(self.context, profile)).transpose()?;
        let cgroup = record.cgroup().below(&self.request.cgroup)?;
        // A user may not move a process out of a login session, but the user's manager can have it moved.
        let by_manager = cgroup.unit().is_some_and(|unit| unit.user);
        let (into, self_join) = (if by_manager { None } else { self.directory(&cgroup, &layout)? }, cgroup.self_join()?);
        let late = cgroup.version() == Version::V1 || by_manager;
        let frozen = stage::freeze(
            &plan,
            stage::Supplies {
                filter,
                last_capability: host.last_capability,
                preserve_fds: self.request.preserve_fds + super::notify::listen_fds(),
                cgroup_files: late,
                hook_state: &|status| record.hook_state_around_pid(status),
            },
        )?;
        let init = self.entry.pidfd()?;
        let spawn_in = |dir: Option<&OwnedFd>| {
            let around = Around { barrier: None, init: Some(init.as_fd()), cgroup: dir.map(|d| d.as_fd()), not_for_child: None };
            stage::spawn(&plan, &frozen, &around)
        };
        let mut spawned = match spawn_in(into.as_ref()) {
            // It has switched controllers on for cgroups below its own, which takes no process any more.
            Err(e) if e.errno() == Some(libc::EBUSY) && !late && self.request.cgroup.is_empty() => {
                spawn_in(cgroup.beside(&layout, record.init_process_pid)?.open_dir()?.as_ref())?
            }
            Err(e) if e.errno() == Some(libc::EBUSY) => return Err(takes_no_process(&cgroup)),
            other => other?,
        };
        if by_manager {
            let (whole, pid) = (record.cgroup(), spawned.pid());
            cgroup.attach_by_manager(&whole, pid).or_else(|e| match self.request.cgroup.is_empty() {
                true => cgroup.beside(&layout, record.init_process_pid)?.attach_by_manager(&whole, pid),
                false => Err(e),
            })?;
        }
        if late {
            spawned = spawned.admit(&self_join)?;
        }
        let mapped = spawned.map()?;
        mapped.finish(self).map_err(|e| e.within(EXEC_FAILED))
    }

    /// What the process is cloned into: the container's cgroup, or if that is gone the one its first process moved to.
    fn directory(&self, cgroup: &Cgroup, layout: &Layout) -> Result<Option<OwnedFd>> {
        match cgroup.open_dir() {
            Err(e) if e.errno() == Some(libc::ENOENT) && self.request.cgroup.is_empty() => {
                cgroup.beside(layout, self.entry.record.init_process_pid)?.open_dir()
            }
            other => other,
        }
    }

    fn options(&self, record: &Record) -> plan::Options {
        plan::Options {
            id: record.id.clone(),
            bundle: record.bundle.clone(),
            cgroup_paths: record.cgroup_paths.clone(),
            has_console: self.console != Console::None,
            preserve_fds: self.request.preserve_fds,
            extra_env: super::notify::listen_env(),
            ..plan::Options::default()
        }
    }
}

impl Requests for Executing<'_> {
    fn hook_state(&mut self, status: &str, pid: i32) -> Vec<u8> {
        self.entry.record.hook_state(status, pid)
    }

    fn console(&mut self, master: OwnedFd) -> Result<()> {
        match (&self.console, &mut self.foreground) {
            (Console::Socket(path), _) => console::send_master(path, master.as_fd()),
            (Console::Inherit, Some(foreground)) => foreground.attach(master),
            _ => Err(Error::other("handing on the terminal", "", "there is nobody to take it")),
        }
    }

    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        let spec = self.entry.spec()?;
        let seccomp = spec.linux.seccomp.clone().unwrap_or_default();
        let path = (!seccomp.listener_path.is_empty()).then(|| seccomp.listener_path.as_ref());
        console::send_listener(path, listener.as_fd(), &self.entry.record, pid, &seccomp.listener_metadata)
    }
}
