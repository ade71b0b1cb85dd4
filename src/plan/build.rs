//! The order of a start, in one place: [`build()`] for a container's first process, [`build_exec()`] for a further one.
//!
//! It is runc's order (libcontainer: prepareRootfs, then standard_init_linux.go or setns_init_linux.go), since callers'
//! hooks and configs rely on it. What matters for security: nothing is mounted from the host once the root is entered;
//! masks and read-only paths stand before the process gives up its rights; ids before capabilities; the filter last.

use super::capabilities::CapSet;
use super::env::Environment;
use super::mounts::{self, Mounts, RootPropagation, Site};
use super::namespaces::{self, Entry, Namespaces};
use super::op::*;
use super::paths::{below, clean};
use super::{Plan, console, devices, process};
use crate::host::Host;
use crate::spec::{Process, Spec, escape_pointer};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What the command line adds to the config.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// Path of each hierarchy's cgroup for this container (absolute host path), keyed by v1 directory name, or "" for v2.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// A console socket was given (or a foreground terminal): process.terminal needs one.
    pub has_console: bool,
    /// `--preserve-fds`: how many from fd 3 on; LISTEN_FDS is set by the caller.
    pub preserve_fds: u32,
    /// Extra environment (NOTIFY_SOCKET, LISTEN_FDS…).
    pub extra_env: Vec<String>,
}

/// Process umask where the config names none (runc's finalizeRootfs).
const DEFAULT_UMASK: u32 = 0o022;

/// Permission bits of a session keyring, as keyctl_setperm(3) numbers them: search, by its owner; and by others, since
/// in a user namespace the owner is not the one who searches.
const KEY_SEARCH_BY_USER: u32 = 0x0008_0000;
const KEY_SEARCH_BY_OTHER: u32 = 0x0000_0008;

/// Engines' configs make 60 to 80 steps. A list that grows to there is copied four times, over fresh memory each time.
const USUAL_STEPS: usize = 88;

/// What `create` (and so `run`) does.
pub fn build(spec: &Spec, host: &Host, options: &Options) -> Result<Plan> {
    let process = spec.process.as_ref().ok_or_else(|| Error::invalid("/process", "process property must not be empty"))?;
    let namespaces = Namespaces::parse(&spec.linux.namespaces)?;
    let plan = Plan { steps: Vec::with_capacity(USUAL_STEPS), ..Plan::default() };
    let mut b = Builder { spec, process, host, options, namespaces: &namespaces, plan };
    b.refuse_combinations()?;
    b.parents_lists()?;
    b.enter_namespaces()?;
    let propagation = b.prepare_root()?;
    let readonly_later = b.fill_root()?;
    b.hooks_before_root();
    b.enter_root(propagation)?;
    b.close_root(readonly_later);
    b.name_and_confine()?;
    b.restrict_paths()?;
    b.tune()?;
    b.become_user(Stage::Create)?;
    Ok(b.plan)
}

/// What `exec` does: `process` in a container made from `spec`.
pub fn build_exec(spec: &Spec, process: &Process, host: &Host, options: &Options) -> Result<Plan> {
    let namespaces = Namespaces::parse(&spec.linux.namespaces)?;
    let process = &inherit(process, spec.process.as_ref());
    let mut b = Builder { spec, process, host, options, namespaces: &namespaces, plan: Plan::default() };
    b.plan.oom_score_adj = process.oom_score_adj;
    b.plan.rlimits = process::rlimits(process)?;
    b.plan.mount_label = if host.selinux { spec.linux.mount_label.clone() } else { String::new() };
    b.join_container()?;
    if let Some(step) = console::step(process, options.has_console, false)? {
        b.plan.steps.push(step);
    }
    if let Some(mask) = process.user.umask {
        b.push("/process/user/umask", Op::Umask { mask });
    }
    b.tune()?;
    b.become_user(Stage::Exec)?;
    Ok(b.plan)
}

/// An exec'd process has from the container's first one what it does not say itself (runc's newInitConfig). That
/// no_new_privs, args, env, cwd and ids are its own is the caller's business.
fn inherit(process: &Process, first: Option<&Process>) -> Process {
    let mut out = process.clone();
    let Some(first) = first else { return out };
    out.capabilities = out.capabilities.or_else(|| first.capabilities.clone());
    out.scheduler = out.scheduler.or_else(|| first.scheduler.clone());
    out.io_priority = out.io_priority.or_else(|| first.io_priority.clone());
    out.exec_cpu_affinity = out.exec_cpu_affinity.or_else(|| first.exec_cpu_affinity.clone());
    out.oom_score_adj = out.oom_score_adj.or(first.oom_score_adj);
    out.user.umask = out.user.umask.or(first.user.umask);
    if out.rlimits.is_empty() {
        out.rlimits.clone_from(&first.rlimits);
    }
    for (own, firsts) in [(&mut out.apparmor_profile, &first.apparmor_profile), (&mut out.selinux_label, &first.selinux_label)] {
        if own.is_empty() {
            own.clone_from(firsts);
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Create,
    Exec,
}

struct Builder<'a> {
    spec: &'a Spec,
    process: &'a Process,
    host: &'a Host,
    options: &'a Options,
    namespaces: &'a Namespaces,
    plan: Plan,
}

impl Builder<'_> {
    fn push(&mut self, field: &str, op: Op) {
        self.plan.steps.push(Step { field: field.into(), op });
    }

    fn own_mounts(&self) -> bool {
        self.namespaces.has(NsKind::Mount)
    }

    /// What the parts of a config forbid each other. It is refused here too, not in `spec::validate` alone, since a
    /// plan that went on would change the host.
    fn refuse_combinations(&self) -> Result<()> {
        let (spec, linux, ns) = (self.spec, &self.spec.linux, self.namespaces);
        let needs = |given: bool, kind: NsKind, field: &str| match given && !ns.has(kind) {
            true => Err(Error::invalid(field, format!("needs a {} namespace of the container's own", kind.name()))),
            false => Ok(()),
        };
        needs(!spec.hostname.is_empty(), NsKind::Uts, "/hostname")?;
        needs(!spec.domainname.is_empty(), NsKind::Uts, "/domainname")?;
        needs(!linux.masked_paths.is_empty(), NsKind::Mount, "/linux/maskedPaths")?;
        needs(!linux.readonly_paths.is_empty(), NsKind::Mount, "/linux/readonlyPaths")?;
        needs(!linux.net_devices.is_empty(), NsKind::Network, "/linux/netDevices")?;
        if self.host.euid == 0 {
            return Ok(());
        }
        if !linux.net_devices.is_empty() {
            return Err(Error::invalid("/linux/netDevices", "network devices are not supported for rootless containers"));
        }
        needs(true, NsKind::User, "/linux/namespaces")
    }

    /// What the parent writes from outside.
    fn parents_lists(&mut self) -> Result<()> {
        let linux = &self.spec.linux;
        self.plan.oom_score_adj = self.process.oom_score_adj;
        self.plan.rlimits = process::rlimits(self.process)?;
        self.plan.time_offsets = namespaces::time_offsets(linux, self.namespaces)?;
        self.plan.id_maps = namespaces::id_maps(linux, self.namespaces, self.host, &mut self.plan.warnings)?;
        self.plan.mount_label = if self.host.selinux { linux.mount_label.clone() } else { String::new() };
        for (name, device) in &linux.net_devices {
            let inside = if device.name.is_empty() { name } else { &device.name };
            self.plan.net_devices.push((name.clone(), inside.clone()));
        }
        let hooks = &self.spec.hooks;
        self.plan.hooks = HostHooks { prestart: hooks.prestart.clone(), create_runtime: hooks.create_runtime.clone(), poststart: hooks.poststart.clone() };
        Ok(())
    }

    fn enter_namespaces(&mut self) -> Result<()> {
        let offsets = !self.plan.time_offsets.is_empty();
        let Entry { clone_flags, parent_joins, steps } = namespaces::enter(self.namespaces, self.host, offsets);
        (self.plan.clone_flags, self.plan.parent_joins) = (clone_flags, parent_joins);
        self.plan.steps.extend(steps);
        self.push("", Op::NewSession);
        let by_whom = if self.namespaces.has(NsKind::User) { KEY_SEARCH_BY_OTHER } else { KEY_SEARCH_BY_USER };
        self.session_keyring(by_whom)?;
        if self.namespaces.is_new(NsKind::Network) {
            self.push(&self.namespaces.field(NsKind::Network), Op::LoopbackUp);
        }
        Ok(())
    }

    /// So that the caller's keys are not the container's. `exec` joins the ring of the container's name.
    fn session_keyring(&mut self, add_permissions: u32) -> Result<()> {
        if !self.options.no_new_keyring {
            let label = self.selinux_label()?.unwrap_or_default();
            let field = if label.is_empty() { "" } else { "/process/selinuxLabel" };
            self.push(field, Op::SessionKeyring { name: format!("_ses.{}", self.options.id), label, add_permissions });
        }
        Ok(())
    }

    fn selinux_label(&self) -> Result<Option<String>> {
        let label = &self.process.selinux_label;
        if !label.is_empty() && !self.host.selinux {
            return Err(Error::invalid("/process/selinuxLabel", "selinux label is specified in config, but selinux is disabled or not supported"));
        }
        Ok((!label.is_empty()).then(|| label.clone()))
    }

    fn rootfs(&self) -> Result<PathBuf> {
        match &self.spec.root {
            Some(root) if !root.path.is_empty() => Ok(below(&self.options.bundle, &root.path)),
            _ => Err(Error::invalid("/root", "root must be specified")),
        }
    }

    fn prepare_root(&mut self) -> Result<RootPropagation> {
        let mut propagation = mounts::root_propagation(&self.spec.linux.rootfs_propagation, self.options.no_pivot)?;
        if !self.own_mounts() {
            if !self.spec.mounts.is_empty() {
                let warning = "without a mount namespace of its own the container's mounts are made on the host, and stay there: see `umount -R` of the rootfs";
                self.plan.warnings.push(warning.into());
            }
            propagation = RootPropagation { tree: 0, parent: 0, root: None };
        }
        let (rootfs, bind) = (self.rootfs()?, self.root_is_a_mount());
        self.push("/root/path", Op::PrepareRoot { rootfs, propagation: propagation.tree, parent: propagation.parent, bind });
        Ok(propagation)
    }

    /// The rootfs becomes one even on the host (runc's way): then it can be read-only, and whoever unmounts it is rid of
    /// all that was mounted on it. Only a user namespace that owns no mount namespace has no right to.
    fn root_is_a_mount(&self) -> bool {
        self.own_mounts() || !self.namespaces.has(NsKind::User)
    }

    /// Mounts, then devices. The cgroup namespace is made when the child is in its cgroup, which is its root then: as
    /// late as can be, so that the parent has time to see to the cgroup; but before a mount that the parent makes, since
    /// it answers to nothing else meanwhile.
    fn fill_root(&mut self) -> Result<Vec<Step>> {
        let site = Site { spec: self.spec, host: self.host, options: self.options, namespaces: self.namespaces };
        let Mounts { steps, readonly_later, first_cgroup, warnings } = mounts::plan(&site)?;
        self.plan.warnings.extend(warnings);
        let fills_dev = devices::fills_dev(&steps);
        let by_parent = steps.iter().position(|step| matches!(&step.op, Op::Mount(mount) if mount.from_parent));
        let needs_cgroup = first_cgroup.into_iter().chain(by_parent).min();
        let split = needs_cgroup.unwrap_or(steps.len());
        let mut before = steps;
        let after = before.split_off(split);
        self.plan.steps.extend(before);
        let nodes = match fills_dev {
            true => {
                let bind = self.host.in_user_namespace || self.namespaces.has(NsKind::User);
                devices::steps(&self.spec.linux.devices, self.host, bind, &mut self.plan.warnings)?
            }
            false => self.no_devices(),
        };
        if needs_cgroup.is_some() {
            self.enter_cgroup();
        }
        self.plan.steps.extend(after);
        self.plan.steps.extend(nodes);
        if needs_cgroup.is_none() {
            self.enter_cgroup();
        }
        Ok(readonly_later)
    }

    fn no_devices(&mut self) -> Vec<Step> {
        if !self.spec.linux.devices.is_empty() {
            self.plan.warnings.push("linux.devices has no effect: the config binds a /dev, which is taken as it is".into());
        }
        Vec::new()
    }

    fn enter_cgroup(&mut self) {
        self.push("/linux/cgroupsPath", Op::JoinCgroup);
        self.push("", Op::Affinity { cpus: Vec::new(), after_cgroup: true });
        self.plan.steps.extend(namespaces::unshare_cgroup(self.namespaces));
    }

    fn hooks_before_root(&mut self) {
        let hooks = &self.spec.hooks;
        if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
            self.push("/hooks", Op::HostHooks);
        } else if !self.plan.net_devices.is_empty() {
            // The parent moves them when the child is in its namespaces, however it got there.
            self.push("/linux/netDevices", Op::HostHooks);
        }
        if !hooks.create_container.is_empty() {
            self.push("/hooks/createContainer", Op::Hooks { phase: "createContainer", hooks: hooks.create_container.clone() });
        }
    }

    fn enter_root(&mut self, propagation: RootPropagation) -> Result<()> {
        let how = match (self.own_mounts(), self.options.no_pivot) {
            (false, _) => EnterRoot::Chroot,
            (true, true) => EnterRoot::MoveMount,
            (true, false) => EnterRoot::Pivot,
        };
        self.push("/root/path", Op::EnterRoot { how });
        if let Some(propagation) = propagation.root {
            self.push("/linux/rootfsPropagation", Op::RootPropagation { propagation });
        }
        if devices::fills_dev(&self.plan.steps) {
            self.push("", Op::ReopenDevNull);
        }
        let cwd = clean(&self.process.cwd);
        if cwd != Path::new("/") {
            self.push("/process/cwd", Op::MakeDirectory { path: cwd });
        }
        self.plan.steps.extend(console::step(self.process, self.options.has_console, true)?);
        Ok(())
    }

    /// Nothing more is made in the root: read-only is what shall be, and the umask is the process's.
    fn close_root(&mut self, readonly_later: Vec<Step>) {
        self.plan.steps.extend(readonly_later);
        if self.spec.root.as_ref().is_some_and(|root| root.readonly) {
            if self.root_is_a_mount() {
                self.push("/root/readonly", Op::RemountReadonly { path: "/".into() });
            } else {
                self.plan.warnings.push("root.readonly has no effect: in a user namespace, without a mount namespace, the root is no mount of its own".into());
            }
        }
        let umask = self.process.user.umask;
        self.push(if umask.is_some() { "/process/user/umask" } else { "" }, Op::Umask { mask: umask.unwrap_or(DEFAULT_UMASK) });
    }

    fn name_and_confine(&mut self) -> Result<()> {
        let spec = self.spec;
        if !spec.hostname.is_empty() {
            self.push("/hostname", Op::Hostname { name: spec.hostname.clone() });
        }
        if !spec.domainname.is_empty() {
            self.push("/domainname", Op::Domainname { name: spec.domainname.clone() });
        }
        self.apparmor()?;
        for (key, value) in &spec.linux.sysctl {
            let field = format!("/linux/sysctl/{}", escape_pointer(key));
            let key = sysctl_path(key).ok_or_else(|| Error::invalid(&field, format!("{key:?} is no sysctl's name")))?;
            self.push(&field, Op::Sysctl { key, value: value.clone() });
        }
        Ok(())
    }

    fn apparmor(&mut self) -> Result<()> {
        let profile = &self.process.apparmor_profile;
        match (profile.as_str(), self.host.apparmor) {
            ("", _) | ("unconfined", false) => Ok(()),
            (_, false) => Err(Error::unsupported("applying the apparmor profile of", "/process/apparmorProfile", "AppArmor enabled in the kernel")),
            (_, true) => {
                self.push("/process/apparmorProfile", Op::Apparmor { profile: profile.clone() });
                Ok(())
            }
        }
    }

    fn restrict_paths(&mut self) -> Result<()> {
        let linux = &self.spec.linux;
        for (list, paths) in [("readonlyPaths", &linux.readonly_paths), ("maskedPaths", &linux.masked_paths)] {
            let mut seen = HashSet::new();
            for (i, text) in paths.iter().enumerate() {
                let (field, path) = (format!("/linux/{list}/{i}"), clean(text));
                if text.is_empty() {
                    return Err(Error::invalid(field, "an empty path"));
                }
                if !seen.insert(path.clone()) {
                    continue; // twice would do no more than once
                }
                self.push(&field, if list == "maskedPaths" { Op::MaskPath { path } } else { Op::ReadonlyPath { path } });
            }
        }
        Ok(())
    }

    fn tune(&mut self) -> Result<()> {
        if self.process.no_new_privileges {
            self.push("/process/noNewPrivileges", Op::NoNewPrivileges);
        }
        let steps = process::tuning(self.process, &self.spec.linux, &mut self.plan.warnings)?;
        self.plan.steps.extend(steps);
        Ok(())
    }

    /// From here on rights are given up, to the execve.
    fn become_user(&mut self, stage: Stage) -> Result<()> {
        let env = Environment::prepare(&self.process.env, &self.options.extra_env)?;
        let program = self.process.args.first().cloned().ok_or_else(|| Error::invalid("/process/args", "args must not be empty"))?;
        if let Some(label) = self.selinux_label()? {
            self.push("/process/selinuxLabel", Op::Selinux { label });
        }
        // Without no_new_privs installing a filter takes CAP_SYS_ADMIN, so it comes before the rights go. With it, the
        // filter comes as late as it can, so that a profile need not allow what dhow itself still calls (seccomp(2)).
        let early = !self.process.no_new_privileges;
        self.seccomp(early);
        let caps = self.process.capabilities.as_ref();
        let caps = caps.map(|wanted| CapSet::grant(wanted, self.host, self.namespaces.has(NsKind::User), &mut self.plan.warnings));
        self.chdir(true);
        if let Some(caps) = caps {
            self.push("/process/capabilities", Op::BoundingSet { keep: caps.bounding });
        }
        for limit in self.plan.rlimits.clone() {
            self.push(&limit.field.clone(), Op::Rlimit(limit));
        }
        self.set_ids()?;
        self.chdir(false);
        if let Some(CapSet { effective, permitted, inheritable, ambient, .. }) = caps {
            self.push("/process/capabilities", Op::Capabilities { effective, permitted, inheritable, ambient });
        }
        if stage == Stage::Exec {
            self.apparmor()?;
        }
        let candidates = env.candidates(&program);
        self.push("/process/args/0", Op::FindProgram { program, candidates });
        self.seccomp(!early);
        if stage == Stage::Create {
            self.await_start(&env);
        }
        let home_for_uid = env.needs_home.then_some(self.process.user.uid);
        let args = self.process.args.clone();
        self.push("/process/args", Op::Exec { args, env: env.variables, home_for_uid, inherited_fds: self.options.preserve_fds });
        Ok(())
    }

    fn seccomp(&mut self, now: bool) {
        let profile = self.spec.linux.seccomp.as_ref();
        // Neither a default nor a rule: no profile (runc's SetupSeccomp).
        if now && profile.is_some_and(|profile| !profile.default_action.is_empty() || !profile.syscalls.is_empty()) {
            self.push("/linux/seccomp", Op::Seccomp);
        }
    }

    fn chdir(&mut self, denied_ok: bool) {
        if !self.process.cwd.is_empty() {
            self.push("/process/cwd", Op::Chdir { path: clean(&self.process.cwd), create: false, denied_ok });
        }
    }

    fn set_ids(&mut self) -> Result<()> {
        let user = &self.process.user;
        // (uid_t) -1 means "leave it as it is" to setresuid(2): the process would stay root (CVE-2026-30892's kind).
        let ids = [("uid", user.uid), ("gid", user.gid)].into_iter().chain(user.additional_gids.iter().map(|gid| ("additionalGids", *gid)));
        if let Some((name, _)) = ids.into_iter().find(|(_, id)| *id == u32::MAX) {
            return Err(Error::invalid(format!("/process/user/{name}"), "4294967295 is no id: the kernel takes it for \"unchanged\""));
        }
        // A rootless caller may not set groups (user_namespaces(7)), and its own supplementary ones stay.
        let rootless = self.host.euid != 0 || self.host.setgroups_denied;
        if rootless && !user.additional_gids.is_empty() {
            self.plan.warnings.push("process.user.additionalGids has no effect in a rootless container".into());
        }
        let additional_gids = (!rootless).then(|| user.additional_gids.clone());
        self.push("/process/user", Op::SetIds { uid: user.uid, gid: user.gid, additional_gids });
        Ok(())
    }

    /// `create` ends here; `start` lets the rest go on.
    fn await_start(&mut self, env: &Environment) {
        self.push("", Op::AwaitStart);
        let mut hooks = self.spec.hooks.start_container.clone();
        for hook in hooks.iter_mut().filter(|hook| hook.env.is_empty()) {
            hook.env.clone_from(&env.variables); // runc's way: such a hook sees the process's environment
        }
        if !hooks.is_empty() {
            self.push("/hooks/startContainer", Op::Hooks { phase: "startContainer", hooks });
        }
    }

    /// Into all that the container's first process is in.
    fn join_container(&mut self) -> Result<()> {
        let affinity = process::affinity(self.process.exec_cpu_affinity.as_ref())?;
        let none_given = affinity.initial.is_none() && affinity.last.is_none();
        if let Some(cpus) = affinity.initial {
            self.push("/process/execCPUAffinity/initial", Op::Affinity { cpus, after_cgroup: false });
        }
        self.push("/linux/cgroupsPath", Op::JoinCgroup);
        if let Some(cpus) = affinity.last {
            self.push("/process/execCPUAffinity/final", Op::Affinity { cpus, after_cgroup: true });
        } else if none_given {
            self.push("", Op::Affinity { cpus: Vec::new(), after_cgroup: true });
        }
        let flags = self.namespaces.flags();
        if !self.own_mounts() {
            // The root is then no property of a namespace: enter it as the first process did. Its path is the host's.
            let rootfs = self.rootfs()?;
            self.push("/root/path", Op::PrepareRoot { rootfs, propagation: 0, parent: 0, bind: false });
        }
        if flags != 0 {
            self.push("/linux/namespaces", Op::JoinContainer { flags });
        }
        // Not by a detour of the parent (as `create` does for namespaces by path): until it has joined all, the joiner
        // must not be seen in the container, whose processes could reach the host by its /proc/PID/root (CVE-2016-9962).
        if self.namespaces.has(NsKind::Pid) || self.namespaces.has(NsKind::Time) {
            self.push("", Op::SecondFork);
        }
        self.push("", Op::NewSession);
        self.session_keyring(0)?;
        if !self.own_mounts() {
            self.push("/root/path", Op::EnterRoot { how: EnterRoot::Chroot });
        }
        Ok(())
    }
}

/// A sysctl's file below /proc/sys. Where the first separator is a slash, dots are part of a name (`net/ipv4/conf/eth0.1`);
/// where it is a dot, the two change places (sysctl.d(5)).
fn sysctl_path(key: &str) -> Option<String> {
    let slashes = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('/'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slashes { key.into() } else { key.chars().map(swap).collect() };
    let sound = !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (sound && Path::new(&path).is_relative()).then_some(path)
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
