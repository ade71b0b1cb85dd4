//! Plan → [`Frozen`]: everything that the child needs, made before the clone.
//!
//! The child walks it without allocating or formatting: C strings, pointer arrays, bit masks and open descriptors are
//! all here. A step that can't be frozen (a NUL in a string, a namespace path that can't be opened) fails here, with
//! the config's field, before anything was made.

use crate::plan::{DeviceOp, EnterRoot, MountOp, MountSource, Op, Plan, Step};
use crate::spec::Hook;
use crate::sys::fs::{self, CWD};
use crate::sys::process::{self, SchedAttr, Strings};
use crate::{Error, Result};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The child's program.
pub struct Frozen {
    pub steps: Vec<Action>,
    /// The highest capability of this kernel.
    pub last_capability: u32,
    /// `--preserve-fds`: descriptors from 3 + this on are closed on exec.
    pub preserve_fds: u32,
    /// The parent has no root and can take the seccomp listener only from a child that is not hidden. Never where a
    /// namespace is joined, in which others could trace us (CVE-2016-9962).
    pub shown_for_listener: bool,
}

pub enum Action {
    JoinNamespace {
        fd: OwnedFd,
        kind: u64,
    },
    JoinContainer {
        flags: u64,
    },
    Unshare {
        flags: u64,
    },
    SecondFork,
    /// `ask`: the child made the user namespace itself, and tells the parent so.
    AwaitIdMaps {
        ask: bool,
    },
    /// `by_files`: v1, where the parent sends the files to write to; on v2 the clone did it.
    JoinCgroup {
        by_files: bool,
    },
    NewSession,
    /// Not by root: it must be let.
    AwaitTimeOffsets {
        unprivileged: bool,
    },
    SessionKeyring {
        name: CString,
        label: Option<CString>,
        add_permissions: u32,
    },
    LoopbackUp,
    PrepareRoot {
        rootfs: CString,
        propagation: u64,
        parent: u64,
        bind: bool,
    },
    Mount(Box<Mount>),
    Device(Device),
    Symlink {
        target: CString,
        node: Node,
        replace: bool,
    },
    MakeDirectory {
        path: CString,
    },
    ReopenDevNull,
    HostHooks,
    Hooks {
        hooks: Vec<FrozenHook>,
    },
    Console {
        width: u16,
        height: u16,
        bind: bool,
    },
    EnterRoot(EnterRoot),
    RootPropagation {
        propagation: u64,
    },
    RemountReadonly {
        path: CString,
    },
    Hostname {
        name: Vec<u8>,
    },
    Domainname {
        name: Vec<u8>,
    },
    Sysctl {
        key: CString,
        value: Vec<u8>,
    },
    ReadonlyPath {
        path: CString,
    },
    MaskPath {
        path: CString,
    },
    Umask {
        mask: u32,
    },
    Scheduler(SchedAttr),
    IoPriority {
        class: u32,
        priority: u32,
    },
    /// Every CPU that the cgroup allows.
    AnyCpu,
    Affinity {
        mask: Vec<u8>,
    },
    MemoryPolicy {
        mode: u32,
        nodes: Vec<u64>,
    },
    Personality {
        persona: u64,
    },
    Apparmor {
        value: Vec<u8>,
    },
    Selinux {
        value: Vec<u8>,
    },
    NoNewPrivileges,
    Seccomp(Filter),
    Rlimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    BoundingSet {
        keep: u64,
    },
    SetIds {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
        ambient: u64,
    },
    Chdir {
        path: CString,
        create: bool,
        denied_ok: bool,
    },
    FindProgram {
        candidates: Vec<CString>,
        has_slash: bool,
    },
    AwaitStart,
    Exec(Box<Exec>),
}

/// A mount with its strings; paths are relative to the root.
pub struct Mount {
    pub target: CString,
    /// No symlink may be part of the target: /dev, /proc, /sys and what lies below them.
    pub strict: bool,
    pub source: Source,
    pub set: u64,
    pub clear: u64,
    pub rec_set: u64,
    pub rec_clear: u64,
    pub exact_flags: bool,
    pub propagation: Vec<u64>,
    pub tmpcopyup: bool,
    pub inherit_mode: bool,
    pub only_proc: bool,
    pub fallback_bind: Option<CString>,
    pub file_label: Option<CString>,
}

pub enum Source {
    /// Made by the parent, with its rights, when we ask for it.
    Tree,
    Bind {
        path: CString,
        recursive: bool,
    },
    Filesystem {
        fs: CString,
        parameters: Vec<(CString, Option<CString>)>,
        legacy: Option<Legacy>,
    },
    Remount {
        bind: bool,
        parameters: Vec<(CString, Option<CString>)>,
    },
    PropagationOnly,
}

/// For mount(2): a parameter is longer than fsconfig(2) takes (255 bytes), as overlay's lowerdir often is.
pub struct Legacy {
    pub source: CString,
    pub data: CString,
}

/// A path below the root: the directory, and the last component.
pub struct Node {
    pub dir: CString,
    pub name: CString,
}

pub struct Device {
    pub node: Node,
    pub path: CString,
    pub host_path: CString,
    /// Type and permission bits.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
    pub bind: bool,
}

/// A compiled seccomp program, each instruction as 8 bytes.
#[derive(Clone, Default)]
pub struct Filter {
    pub program: Vec<u64>,
    pub flags: u32,
    pub notify: bool,
}

pub struct Exec {
    pub argv: Strings,
    /// With a slot at the front for HOME where `home_for_uid` is set.
    pub envp: Strings,
    pub home_for_uid: Option<u32>,
}

pub struct FrozenHook {
    pub path: CString,
    pub argv: Strings,
    pub envp: Strings,
    pub home_for_uid: Option<u32>,
    /// Milliseconds, -1 without a limit.
    pub timeout: i32,
    /// The state on its stdin is `before`, then the pid, then `after`.
    pub before: Vec<u8>,
    pub after: Vec<u8>,
}

/// What freezing needs beside the plan.
pub struct Supplies<'a> {
    pub filter: Option<Filter>,
    pub last_capability: u32,
    pub preserve_fds: u32,
    /// cgroup v1: the child moves itself, by files that the parent sends.
    pub cgroup_files: bool,
    /// The state for hooks that the child runs, given the status.
    pub hook_state: &'a dyn Fn(&str) -> AroundPid,
}

/// The state as text: what stands before the pid, and after.
pub type AroundPid = (Vec<u8>, Vec<u8>);

pub fn freeze(plan: &Plan, mut supplies: Supplies) -> Result<Frozen> {
    let unprivileged = plan.id_maps.as_ref().is_some_and(|maps| maps.by_helper || maps.deny_setgroups);
    let joins = plan.steps.iter().any(|step| matches!(step.op, Op::JoinNamespace(_) | Op::JoinContainer { .. }));
    let mut frozen = Frozen {
        steps: Vec::with_capacity(plan.steps.len()),
        last_capability: supplies.last_capability,
        preserve_fds: supplies.preserve_fds,
        shown_for_listener: unprivileged && !joins,
    };
    for step in &plan.steps {
        let action = freeze_step(step, plan, &mut supplies)?;
        frozen.steps.push(action);
    }
    Ok(frozen)
}

fn freeze_step(step: &Step, plan: &Plan, supplies: &mut Supplies) -> Result<Action> {
    let field = step.field.as_str();
    Ok(match &step.op {
        Op::JoinNamespace(join) => Action::JoinNamespace { fd: open_namespace(&join.path, &join.field)?, kind: join.kind.clone_flag() },
        Op::JoinContainer { flags } => Action::JoinContainer { flags: *flags },
        Op::Unshare { flags } => Action::Unshare { flags: *flags },
        Op::SecondFork => Action::SecondFork,
        Op::AwaitIdMaps => Action::AwaitIdMaps { ask: plan.asks_for_maps() },
        Op::JoinCgroup => Action::JoinCgroup { by_files: supplies.cgroup_files },
        Op::NewSession => Action::NewSession,
        Op::AwaitTimeOffsets => Action::AwaitTimeOffsets { unprivileged: process::geteuid() != 0 },
        Op::SessionKeyring { name, label, add_permissions } => Action::SessionKeyring {
            name: text(name, field)?,
            label: if label.is_empty() { None } else { Some(text(label, field)?) },
            add_permissions: *add_permissions,
        },
        Op::LoopbackUp => Action::LoopbackUp,
        Op::PrepareRoot { rootfs, propagation, parent, bind } => {
            Action::PrepareRoot { rootfs: path_text(rootfs, field)?, propagation: *propagation, parent: *parent, bind: *bind }
        }
        Op::Mount(mount) => Action::Mount(Box::new(freeze_mount(mount, field)?)),
        Op::Device(device) => Action::Device(freeze_device(device, field)?),
        Op::Symlink { target, path, replace } => Action::Symlink { target: text(target, field)?, node: node(path, field)?, replace: *replace },
        Op::MakeDirectory { path } => Action::MakeDirectory { path: inside(path, field)? },
        Op::ReopenDevNull => Action::ReopenDevNull,
        Op::HostHooks => Action::HostHooks,
        Op::Hooks { phase, hooks } => Action::Hooks { hooks: freeze_hooks(phase, hooks, plan, supplies)? },
        Op::Console { width, height, bind } => Action::Console { width: *width, height: *height, bind: *bind },
        Op::EnterRoot { how } => Action::EnterRoot(*how),
        Op::RootPropagation { propagation } => Action::RootPropagation { propagation: *propagation },
        Op::RemountReadonly { path } => Action::RemountReadonly { path: inside(path, field)? },
        Op::ReadonlyPath { path } => Action::ReadonlyPath { path: inside(path, field)? },
        Op::MaskPath { path } => Action::MaskPath { path: inside(path, field)? },
        Op::Chdir { path, create, denied_ok } => Action::Chdir { path: path_text(path, field)?, create: *create, denied_ok: *denied_ok },
        op => freeze_process(op, field, supplies)?,
    })
}

/// The steps that change the process rather than the file system.
fn freeze_process(op: &Op, field: &str, supplies: &mut Supplies) -> Result<Action> {
    Ok(match op {
        Op::Hostname { name } => Action::Hostname { name: name.clone().into_bytes() },
        Op::Domainname { name } => Action::Domainname { name: name.clone().into_bytes() },
        Op::Sysctl { key, value } => Action::Sysctl { key: text(&format!("sys/{key}"), field)?, value: value.clone().into_bytes() },
        Op::Umask { mask } => Action::Umask { mask: *mask },
        Op::Scheduler(s) => Action::Scheduler(SchedAttr {
            size: size_of::<SchedAttr>() as u32,
            policy: s.policy,
            flags: s.flags,
            nice: s.nice,
            priority: s.priority,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
        }),
        Op::IoPriority { class, priority } => Action::IoPriority { class: *class, priority: *priority },
        Op::Affinity { cpus, .. } if cpus.is_empty() => Action::AnyCpu,
        Op::Affinity { cpus, .. } => Action::Affinity { mask: bit_mask(cpus) },
        Op::MemoryPolicy { mode, nodes } => Action::MemoryPolicy { mode: *mode, nodes: words(&bit_mask(nodes)) },
        Op::Personality { persona } => Action::Personality { persona: *persona },
        Op::Apparmor { profile } => Action::Apparmor { value: format!("exec {profile}").into_bytes() },
        Op::Selinux { label } => Action::Selinux { value: label.clone().into_bytes() },
        Op::NoNewPrivileges => Action::NoNewPrivileges,
        Op::Seccomp => Action::Seccomp(supplies.filter.take().ok_or_else(|| Error::invalid(field, "the plan installs a filter but none was compiled"))?),
        Op::Rlimit(limit) => Action::Rlimit { resource: limit.resource, soft: limit.soft, hard: limit.hard },
        Op::BoundingSet { keep } => Action::BoundingSet { keep: *keep },
        Op::SetIds { uid, gid, additional_gids } => Action::SetIds { uid: *uid, gid: *gid, groups: additional_gids.clone() },
        Op::Capabilities { effective, permitted, inheritable, ambient } => {
            Action::Capabilities { effective: *effective, permitted: *permitted, inheritable: *inheritable, ambient: *ambient }
        }
        Op::FindProgram { program, candidates } => {
            Action::FindProgram { candidates: candidates.iter().map(|c| path_text(c, field)).collect::<Result<_>>()?, has_slash: program.contains('/') }
        }
        Op::AwaitStart => Action::AwaitStart,
        Op::Exec { args, env, home_for_uid, .. } => Action::Exec(Box::new(freeze_exec(args, env, *home_for_uid)?)),
        other => return Err(Error::other("freezing", format!("{other:?}"), "no such step in the child")),
    })
}

fn freeze_exec(args: &[String], env: &[String], home_for_uid: Option<u32>) -> Result<Exec> {
    let env = texts(env, "/process/env")?;
    let envp = if home_for_uid.is_some() { Strings::with_slot("HOME=/", env) } else { Strings::new(env) };
    Ok(Exec { argv: Strings::new(texts(args, "/process/args")?), envp, home_for_uid })
}

fn texts(strings: &[String], field: &str) -> Result<Vec<CString>> {
    strings.iter().map(|s| text(s, field)).collect()
}

fn freeze_mount(op: &MountOp, field: &str) -> Result<Mount> {
    let source = if op.from_parent {
        Source::Tree
    } else {
        match &op.source {
            MountSource::Bind { path, recursive } => Source::Bind { path: path_text(path, field)?, recursive: *recursive },
            MountSource::Filesystem { fs, source, parameters } => freeze_filesystem(fs, source, parameters, field)?,
            MountSource::Remount { bind, parameters } => Source::Remount { bind: *bind, parameters: freeze_parameters(parameters, field)? },
            MountSource::PropagationOnly => Source::PropagationOnly,
        }
    };
    let strict = ["/dev", "/proc", "/sys"].iter().any(|top| op.destination.starts_with(top));
    Ok(Mount {
        target: inside(&op.destination, field)?,
        strict,
        source,
        set: op.set,
        clear: op.clear,
        rec_set: op.rec_set,
        rec_clear: op.rec_clear,
        exact_flags: op.exact_flags,
        propagation: op.propagation.clone(),
        tmpcopyup: op.tmpcopyup,
        inherit_mode: op.inherit_mode,
        only_proc: op.only_proc,
        fallback_bind: op.fallback_bind.as_deref().map(|p| path_text(p, field)).transpose()?,
        file_label: op.file_label.as_deref().map(|l| text(l, field)).transpose()?,
    })
}

/// fsconfig(2) takes values below 256 bytes; beyond that the old mount(2) must do.
fn freeze_filesystem(fs: &str, source: &str, parameters: &[(String, Option<String>)], field: &str) -> Result<Source> {
    const LONGEST: usize = 255;
    let long = parameters.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > LONGEST));
    let legacy = if long {
        let data: Vec<String> = parameters.iter().map(|(k, v)| v.as_ref().map_or(k.clone(), |v| format!("{k}={v}"))).collect();
        Some(Legacy { source: text(source, field)?, data: text(&data.join(","), field)? })
    } else {
        None
    };
    let mut frozen = freeze_parameters(parameters, field)?;
    if !source.is_empty() && !long {
        frozen.insert(0, (c"source".into(), Some(text(source, field)?)));
    }
    Ok(Source::Filesystem { fs: text(fs, field)?, parameters: frozen, legacy })
}

fn freeze_parameters(parameters: &[(String, Option<String>)], field: &str) -> Result<Vec<(CString, Option<CString>)>> {
    parameters.iter().map(|(key, value)| Ok((text(key, field)?, value.as_deref().map(|v| text(v, field)).transpose()?))).collect()
}

fn freeze_device(op: &DeviceOp, field: &str) -> Result<Device> {
    Ok(Device {
        node: node(&op.path, field)?,
        path: inside(&op.path, field)?,
        host_path: path_text(&op.path, field)?,
        mode: op.kind | op.mode,
        major: op.major,
        minor: op.minor,
        uid: op.uid,
        gid: op.gid,
        bind: op.bind,
    })
}

fn freeze_hooks(phase: &str, hooks: &[Hook], plan: &Plan, supplies: &Supplies) -> Result<Vec<FrozenHook>> {
    let status = if phase == "startContainer" { "created" } else { "creating" };
    let (before, after) = (supplies.hook_state)(status);
    hooks.iter().enumerate().map(|(i, hook)| freeze_hook(&format!("/hooks/{phase}/{i}"), hook, plan, &before, &after)).collect()
}

fn freeze_hook(field: &str, hook: &Hook, plan: &Plan, before: &[u8], after: &[u8]) -> Result<FrozenHook> {
    let args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    // A hook that was given the process's environment gets its HOME too, which is looked up in the container.
    let home_for_uid = plan.steps.iter().find_map(|s| match &s.op {
        Op::Exec { env, home_for_uid, .. } if *env == hook.env => *home_for_uid,
        _ => None,
    });
    // Without an environment of its own a hook has ours, as with runc.
    let inherited = || std::env::vars().map(|(key, value)| format!("{key}={value}")).collect();
    let env = texts(&if hook.env.is_empty() { inherited() } else { hook.env.clone() }, field)?;
    Ok(FrozenHook {
        path: text(&hook.path, field)?,
        argv: Strings::new(texts(&args, field)?),
        envp: if home_for_uid.is_some() { Strings::with_slot("HOME=/", env) } else { Strings::new(env) },
        home_for_uid,
        timeout: hook.timeout.map_or(-1, |s| s.saturating_mul(1000).clamp(0, i32::MAX as i64) as i32),
        before: before.to_vec(),
        after: after.to_vec(),
    })
}

/// Open a namespace file, which the config names by a host path.
pub fn open_namespace(path: &Path, field: &str) -> Result<OwnedFd> {
    let name = path_text(path, field)?;
    fs::openat(CWD, &name, libc::O_RDONLY, 0).map_err(|e| {
        e.error("openat", format!("opening the namespace to join ({field})"), path.display().to_string())
            .hint("is the process or container that the namespace belongs to still there?")
    })
}

fn text(s: &str, field: &str) -> Result<CString> {
    CString::new(s).map_err(|_| Error::invalid(field, format!("{s:?} holds a NUL byte")))
}

fn path_text(path: &Path, field: &str) -> Result<CString> {
    text(&path.to_string_lossy(), field)
}

/// A path of the container relative to its root.
fn inside(path: &Path, field: &str) -> Result<CString> {
    text(path.to_string_lossy().trim_start_matches('/'), field)
}

fn node(path: &Path, field: &str) -> Result<Node> {
    let name = path.file_name().unwrap_or_default();
    Ok(Node { dir: inside(path.parent().unwrap_or(path), field)?, name: path_text(Path::new(name), field)? })
}

/// Bit n set for each n.
fn bit_mask(bits: &[u32]) -> Vec<u8> {
    let mut mask = vec![0u8; bits.iter().max().map_or(0, |most| *most as usize / 64 * 8 + 8)];
    for bit in bits {
        mask[*bit as usize / 8] |= 1 << (bit % 8);
    }
    mask
}

fn words(mask: &[u8]) -> Vec<u64> {
    mask.chunks_exact(8).map(|c| u64::from_ne_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]])).collect()
}
