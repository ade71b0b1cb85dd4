//! `create` and `run`: from a bundle to a container.

use super::console::{self, Console, Pidfd};
use super::foreground::{Foreground, Watch};
use super::notify::NotifySocket;
use super::record::{self, CONFIG, Record};
use super::store::Reservation;
use super::{Context, CreateRequest, time};
use crate::cgroup::{self, Cgroup, SelfJoin};
use crate::host::{Host, cgroup::Layout};
use crate::plan::{self, Plan};
use crate::spec::{self, Spec, validate};
use crate::stage::{self, Around, Created, Requests, Started, host_hooks};
use crate::sys::process;
use crate::{Error, Kind, Result, log, seccomp};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// runc's words, which callers match on.
pub const START_FAILED: &str = "unable to start container process: error during container init";

/// Whose start it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Run,
}

impl Context {
    pub fn create(&self, request: &CreateRequest) -> Result<()> {
        let spec = Prepared::new(self, request, true)?;
        spec.make(self, request, Verb::Create, None).map(drop)
    }

    /// The exit status of the container's process; 0 when detached.
    pub fn run(&self, request: &CreateRequest) -> Result<u8> {
        let prepared = Prepared::new(self, request, request.detach)?;
        if request.detach {
            prepared.make(self, request, Verb::Run, None)?;
            return Ok(0);
        }
        if !request.no_subreaper {
            process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(|e| e.error("prctl", "becoming the reaper of orphans", ""))?;
        }
        let mut foreground = Foreground::new()?;
        let made = prepared.make(self, request, Verb::Run, Some(&mut foreground));
        let Made { started, notify, record, spec } = made?;
        let exit = foreground.wait(Watch { pidfd: started.pidfd.as_fd(), notify });
        drop(foreground);
        if !request.keep
            && let Err(e) = self.remove_ended(&record, *spec)
        {
            log::warn(&format!("removing the container: {e}"));
        }
        exit.map(|e| e.status())
    }
}

/// A container that stands.
struct Made {
    started: Started,
    notify: Option<NotifySocket>,
    record: Record,
    spec: Box<Spec>,
}

/// Everything that is known before anything is made.
struct Prepared {
    config: Vec<u8>,
    /// Boxed, as it passes through many hands and has 2,000 bytes.
    spec: Box<Spec>,
    bundle: PathBuf,
    rootfs: PathBuf,
    console: Console,
}

impl Prepared {
    fn new(context: &Context, request: &CreateRequest, detached: bool) -> Result<Prepared> {
        super::store::check_id(&request.id)?;
        if context.systemd_cgroup {
            cgroup::require_systemd()?;
        }
        let bundle = super::real_path(&request.bundle).map_err(|e| Error::io(&e, "opening the bundle", request.bundle.display().to_string()))?;
        let config = spec::read_config(&bundle)?;
        let mut spec = Box::new(Spec::parse(&config)?);
        refuse_faults(&spec)?;
        super::check_preserved(request.preserve_fds)?;
        let rootfs = rootfs(&spec, &bundle)?;
        let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
        let console = Console::choose(terminal, detached, request.console_socket.as_deref())?;
        if console == Console::Inherit
            && let Some(process) = &mut spec.process
        {
            console::adopt_size(process);
        }
        Ok(Prepared { config, spec, bundle, rootfs, console })
    }

    fn record(&self, context: &Context, request: &CreateRequest, cgroup: &Cgroup) -> Record {
        Record {
            id: request.id.clone(),
            oci_version: self.spec.oci_version.clone(),
            created: time::now(),
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            annotations: self.spec.annotations.clone(),
            owner_uid: process::geteuid(),
            rootless_cgroups: context.rootless_cgroups(),
            cgroup_paths: cgroup.paths(),
            systemd_unit: cgroup.unit().cloned(),
            resources: self.spec.linux.resources.clone().unwrap_or_default(),
            ..Record::default()
        }
    }

    /// Make the container; with `run`, start it.
    fn make(mut self, context: &Context, request: &CreateRequest, verb: Verb, foreground: Option<&mut Foreground>) -> Result<Made> {
        let layout = Layout::detect()?;
        let host = Host::probe(&layout)?;
        let cgroup = context.plan_cgroup(&layout, &self.spec.linux.cgroups_path, &request.id)?;
        let mut reservation = context.reserve(&request.id)?;
        let notify = NotifySocket::prepare(&reservation.dir, &mut self.spec)?;
        let plan = plan::build(&self.spec, &host, &self.options(request, &host, &cgroup, &notify))?;
        plan.warnings.iter().for_each(|w| log::warn(w));
        let record = self.record(context, request, &cgroup);
        let filter = self.filter(context)?;
        let frozen = stage::freeze(
            &plan,
            stage::Supplies {
                filter,
                last_capability: host.last_capability,
                preserve_fds: request.preserve_fds + super::notify::listen_fds(),
                cgroup_files: joins_late(&cgroup),
                hook_state: &|status| record.hook_state_around_pid(status),
            },
        )?;
        let barrier = if verb == Verb::Create { Some(stage::barrier::make(&reservation.dir)?) } else { None };
        let mut making = Making { prepared: &self, request, record, cgroup, reservation: &mut reservation, foreground, listener_path: self.listener_path() };
        let made = making.spawn(&plan, &frozen, barrier.as_ref());
        let created = match made {
            Ok(created) => created,
            Err(e) => {
                let record = making.record;
                drop(reservation);
                return Err(after_failure(e, &self.spec, &record));
            }
        };
        let record = making.record;
        let pid = created.pid();
        let finished = match verb {
            Verb::Create => Ok(created.leave()),
            Verb::Run => created.start().map_err(|e| e.within(START_FAILED)),
        };
        let mut started = match finished.and_then(|started| self.announce(request, &record, started, verb)) {
            Ok(started) => started,
            Err(e) => {
                let _ = crate::sys::signal::kill(pid, libc::SIGKILL);
                let _ = record.cgroup().kill_all(libc::SIGKILL);
                drop(reservation);
                return Err(after_failure(e, &self.spec, &record));
            }
        };
        reservation.commit();
        started.commit();
        Ok(Made { started, notify, record, spec: self.spec })
    }

    /// Tell the world of it: pid file, and for `run` the poststart hooks.
    fn announce(&self, request: &CreateRequest, record: &Record, started: Started, verb: Verb) -> Result<Started> {
        if let Some(path) = &request.pid_file {
            write_pid_file(path, started.pid)?;
        }
        if let Some(path) = &request.pidfd_socket {
            Pidfd::send(path, started.pidfd.as_fd())?;
        }
        if verb == Verb::Run {
            let state = record.hook_state("running", started.pid);
            host_hooks::run("poststart", &self.spec.hooks.poststart, &state)?;
        }
        Ok(started)
    }

    fn options(&self, request: &CreateRequest, host: &Host, cgroup: &Cgroup, notify: &Option<NotifySocket>) -> plan::Options {
        let mut extra_env = super::notify::listen_env();
        extra_env.extend(notify.iter().map(|n| n.env()));
        plan::Options {
            id: request.id.clone(),
            bundle: self.bundle.clone(),
            no_pivot: request.no_pivot,
            no_new_keyring: request.no_new_keyring,
            cgroup_paths: super::mounted_paths(host, &self.spec, cgroup),
            has_console: self.console != Console::None,
            preserve_fds: request.preserve_fds,
            extra_env,
        }
    }

    fn filter(&self, context: &Context) -> Result<Option<stage::Filter>> {
        let Some(profile) = self.spec.linux.seccomp.as_ref().filter(|p| seccomp::is_enabled(p)) else { return Ok(None) };
        super::filter(context, profile).map(Some)
    }

    fn listener_path(&self) -> Option<PathBuf> {
        self.spec.linux.seccomp.as_ref().filter(|s| !s.listener_path.is_empty()).map(|s| PathBuf::from(&s.listener_path))
    }
}

/// The container while it is being made: what the child's requests are answered from.
struct Making<'a> {
    prepared: &'a Prepared,
    request: &'a CreateRequest,
    record: Record,
    cgroup: Cgroup,
    reservation: &'a mut Reservation,
    foreground: Option<&'a mut Foreground>,
    listener_path: Option<PathBuf>,
}

impl Making<'_> {
    /// Clone the child, and do our part while it does its.
    fn spawn<'p>(&mut self, plan: &'p Plan, frozen: &stage::Frozen, barrier: Option<&OwnedFd>) -> Result<Created<'p>> {
        let dir = self.reservation.dir.clone();
        self.record.claim(&dir)?;
        // v2 clones into the cgroup, with its limits in force; v1's and systemd's are made while the child makes its mounts.
        let late = joins_late(&self.cgroup);
        let into = if late { self.early_directory()? } else { self.make_cgroup(None)?.1 };
        let around = Around {
            barrier: barrier.map(|fifo| fifo.as_fd()),
            init: None,
            cgroup: into.as_ref().map(|d| d.as_fd()),
            not_for_child: self.reservation.lock_fd(),
        };
        let spawned = stage::spawn(plan, frozen, &around)?;
        self.keep_config(&dir)?;
        let mut mapped = spawned.map()?;
        if late {
            let files = self.make_cgroup(Some(mapped.pid()))?.0;
            mapped = mapped.admit(&files)?;
        }
        let pid = mapped.pid();
        self.record.init_process_pid = pid;
        self.record.init_process_start = record::process_stat(pid).map_or(0, |(_, start)| start);
        self.record.cgroup_paths = self.cgroup.paths();
        super::rdt::enter(&self.prepared.spec, &self.request.id, pid, &mut self.record, self.reservation)?;
        self.record.redeem(&dir)?;
        mapped.settle(self).map_err(|e| match e.kind {
            Kind::Hook => e,
            _ => e.within(START_FAILED),
        })
    }

    /// A hybrid machine's v2 directory, which the child must be cloned into since moving there costs a grace period.
    fn early_directory(&mut self) -> Result<Option<OwnedFd>> {
        if self.cgroup.unit().is_some() {
            return Ok(None);
        }
        self.cgroup.make_unified().into_iter().for_each(|dir| self.reservation.owns_directory(dir));
        self.cgroup.open_dir()
    }

    /// Make the cgroups and write their limits; by what the child joins them. systemd puts `pid` in itself.
    fn make_cgroup(&mut self, pid: Option<i32>) -> Result<(SelfJoin, Option<OwnedFd>)> {
        let mut resources = self.prepared.spec.linux.resources.clone().unwrap_or_default();
        self.cgroup.ignored(&resources).iter().for_each(|w| log::warn(w));
        resources.devices.extend(cgroup::default_rules());
        match pid.filter(|_| self.cgroup.unit().is_some()) {
            Some(pid) => self.cgroup.start_unit(pid, &self.request.id, &resources, &self.prepared.spec.annotations)?,
            None => {
                let made = self.cgroup.create(&resources)?;
                made.passed_over.iter().for_each(|e| log::debug(&format!("going on without a cgroup: {e}")));
            }
        }
        self.reservation.owns_cgroup(&self.cgroup);
        self.cgroup.apply(&resources)?;
        if let Some(uid) = cgroup_owner(&self.prepared.spec) {
            self.cgroup.delegate(uid)?;
        }
        Ok((self.cgroup.self_join()?, self.cgroup.open_dir()?))
    }

    fn keep_config(&self, dir: &Path) -> Result<()> {
        let path = dir.join(CONFIG);
        std::fs::write(&path, &self.prepared.config).map_err(|e| Error::io(&e, "keeping a copy of the configuration in", path.display().to_string()))
    }
}

impl Requests for Making<'_> {
    fn hook_state(&mut self, status: &str, pid: i32) -> Vec<u8> {
        self.record.hook_state(status, pid)
    }

    fn console(&mut self, master: OwnedFd) -> Result<()> {
        match (&self.prepared.console, &mut self.foreground) {
            (Console::Socket(path), _) => console::send_master(path, master.as_fd()),
            (Console::Inherit, Some(foreground)) => foreground.attach(master),
            _ => Err(Error::other("handing on the terminal", "", "there is nobody to take it")),
        }
    }

    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        let metadata = self.prepared.spec.linux.seccomp.as_ref().map_or("", |s| s.listener_metadata.as_str());
        let path = self.listener_path.as_deref();
        console::send_listener(path, listener.as_fd(), &self.record, pid, metadata)
    }
}

/// The child waits to be told: v1 has files for it to join by, and systemd moves it.
fn joins_late(cgroup: &Cgroup) -> bool {
    cgroup.version() == cgroup::Version::V1 || cgroup.unit().is_some()
}

/// The host's uid of the container's process, where that may manage its cgroup: with a cgroup namespace of its own, and
/// the file system of it writable (config-linux.md § Cgroup ownership).
fn cgroup_owner(spec: &Spec) -> Option<u32> {
    let linux = &spec.linux;
    let own_namespace = linux.namespaces.iter().any(|n| n.kind == "cgroup" && n.path.is_empty());
    let readonly = |m: &spec::Mount| m.options.iter().rev().find(|o| ["ro", "rro", "rw", "rrw"].contains(&o.as_str())).is_some_and(|o| o.ends_with("ro"));
    let writable = spec.mounts.iter().any(|m| m.kind.starts_with("cgroup") && Path::new(&m.destination) == Path::new("/sys/fs/cgroup") && !readonly(m));
    if !own_namespace || !writable {
        return None;
    }
    let uid = spec.process.as_ref().map_or(0, |p| p.user.uid);
    if !linux.namespaces.iter().any(|n| n.kind == "user") {
        return Some(uid);
    }
    let map = linux.uid_mappings.iter().find(|m| uid.checked_sub(m.container_id).is_some_and(|offset| offset < m.size))?;
    map.host_id.checked_add(uid - map.container_id)
}

/// runtime.md § Lifecycle: when a hook fails, what follows is the poststop hooks.
fn after_failure(error: Error, spec: &Spec, record: &Record) -> Error {
    if error.kind == Kind::Hook {
        super::verbs::run_poststop(&spec.hooks.poststop, record);
    }
    error
}

/// The faults of the config, all in one error.
fn refuse_faults(spec: &Spec) -> Result<()> {
    let findings = validate::check(spec);
    let mut faults = findings.iter().filter(|f| f.severity == validate::Severity::Fault);
    let Some(first) = faults.next() else {
        // of capabilities the plan warns, which knows this kernel's and ours
        let told = |f: &&validate::Finding| f.severity == validate::Severity::Warning && !f.pointer.starts_with("/process/capabilities");
        findings.iter().filter(told).for_each(|f| log::warn(&format!("{}: {}", f.pointer, f.message)));
        return Ok(());
    };
    let mut message = first.message.clone();
    for fault in faults {
        message.push_str(&format!("; {}: {}", fault.pointer, fault.message));
    }
    Err(Error::invalid(first.pointer.clone(), message).hint(first.hint.clone()))
}

fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let path = spec.root.as_ref().map_or("", |r| r.path.as_str());
    let full = bundle.join(path);
    super::real_path(&full).map_err(|e| {
        Error::io(&e, "invalid rootfs:", full.display().to_string()).hint("/root/path names the container's root directory, absolute or relative to the bundle")
    })
}

/// The pid in decimal without a newline, renamed into place (docs/callers/contract.md).
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    record::write_renamed(path, pid.to_string().as_bytes())
}
