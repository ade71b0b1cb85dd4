//! The vocabulary of a plan.

use crate::spec;
use std::path::PathBuf;

/// Everything that a `create` (or an `exec`) does.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Namespaces that the child is cloned into (CLONE_NEW* bits), in one clone3(2).
    pub clone_flags: u64,
    /// Namespaces that the parent enters for its children before the clone and leaves after it: pid and time by path.
    pub parent_joins: Vec<Join>,
    /// Offsets of a new time namespace. With CLONE_NEWTIME in `clone_flags` the parent makes the namespace before the
    /// clone and writes them; without, the child makes it (Unshare) and [`Op::AwaitTimeOffsets`] asks for them.
    pub time_offsets: Vec<TimeOffset>,
    /// Id maps that the parent writes for a new user namespace: after the clone where `clone_flags` has CLONE_NEWUSER,
    /// else when the child, which has made it by Unshare, comes to AwaitIdMaps.
    pub id_maps: Option<IdMaps>,
    /// Written by the parent to /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// The hard limits among these that are above the caller's are raised by the parent: the child may lack
    /// CAP_SYS_RESOURCE. The child sets them all ([`Op::Rlimit`]).
    pub rlimits: Vec<Rlimit>,
    /// Network devices that the parent moves into the child's network namespace: (host name, name inside).
    pub net_devices: Vec<(String, String)>,
    /// Hooks that the parent runs.
    pub hooks: HostHooks,
    /// SELinux label of the file systems that dhow makes of its own accord (masks); empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
    /// What the child does, in order.
    pub steps: Vec<Step>,
    /// What was dropped or is doubtful, for the log.
    pub warnings: Vec<String>,
}

impl Plan {
    /// The child makes its user namespace itself, after joining others, and then asks for the maps.
    pub fn asks_for_maps(&self) -> bool {
        self.id_maps.is_some() && self.clone_flags & NsKind::User.clone_flag() == 0
    }
}

/// One step of the child, and the config's field that asked for it (a JSON pointer; empty for dhow's own steps).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Step {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    #[serde(flatten)]
    pub op: Op,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NsKind {
    User,
    Pid,
    Mount,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Join {
    pub kind: NsKind,
    pub path: PathBuf,
    /// JSON pointer. Not called `field` in JSON, where a step has one already.
    #[serde(rename = "pointer")]
    pub field: String,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    pub secs: i64,
    pub nanosecs: u32,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct IdMaps {
    pub uid: Vec<spec::IdMapping>,
    pub gid: Vec<spec::IdMapping>,
    /// Use newuidmap(1)/newgidmap(1): we lack the privilege to write more than our own id.
    pub by_helper: bool,
    /// Write `deny` to /proc/PID/setgroups first (an unprivileged single gid mapping; user_namespaces(7)).
    pub deny_setgroups: bool,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Rlimit {
    pub name: String,
    /// RLIMIT_* number.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
    pub field: String,
}

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct HostHooks {
    pub prestart: Vec<spec::Hook>,
    pub create_runtime: Vec<spec::Hook>,
    pub poststart: Vec<spec::Hook>,
}

/// What the child can do. Paths are the container's (absolute, cleaned, resolved below the rootfs fd) unless said otherwise.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum Op {
    /// setns(2) into a namespace given by a host path, opened before the first join. After a user namespace: become
    /// uid 0 and gid 0 in it, as runc does.
    JoinNamespace(Join),
    /// exec: setns(2) by the init's pidfd into all of these at once (CLONE_NEW* bits).
    JoinContainer {
        flags: u64,
    },
    /// unshare(2) these (CLONE_NEW* bits): only after joining a user namespace, and for the cgroup namespace.
    Unshare {
        flags: u64,
    },
    /// Fork again (CLONE_PARENT), so that a pid or time namespace takes effect. Rare.
    SecondFork,
    /// Wait until the parent has written the id maps, then become uid 0 and gid 0 in the user namespace.
    AwaitIdMaps,
    /// Wait until the parent has written `Plan::time_offsets` for the time namespace that was just unshared: they can
    /// be changed only while nothing is in it (time_namespaces(7)).
    AwaitTimeOffsets,
    /// Move ourselves into the cgroup: v1 by the `tasks` files, v2 was done by the clone.
    JoinCgroup,
    /// setsid(2).
    NewSession,
    /// keyctl(2): a session keyring of this name, with these permission bits added (0: leave them).
    SessionKeyring {
        name: String,
        label: String,
        add_permissions: u32,
    },
    /// Bring up `lo`.
    LoopbackUp,
    /// Set the propagation of the whole tree (MS_* flags), then that of the mount that holds the rootfs (`parent`:
    /// MS_PRIVATE or MS_SLAVE), then bind the rootfs (a host path) onto itself. `propagation` 0: there is no mount
    /// namespace of our own, so none is set. Without `bind` the rootfs is only opened.
    PrepareRoot {
        rootfs: PathBuf,
        propagation: u64,
        parent: u64,
        bind: bool,
    },
    /// Boxed, being three times as large as any other.
    Mount(Box<MountOp>),
    Device(DeviceOp),
    /// What has that name already stays as it is, unless `replace`: then it is unlinked first.
    Symlink {
        target: String,
        path: PathBuf,
        replace: bool,
    },
    /// The parent runs the prestart and createRuntime hooks; wait for it.
    HostHooks,
    /// Run hooks of the config here, in the child: `createContainer` or `startContainer`.
    Hooks {
        phase: &'static str,
        hooks: Vec<spec::Hook>,
    },
    /// Allocate a pty in the container's devpts, send its master out, make it the controlling terminal and stdio.
    Console {
        width: u16,
        height: u16,
        /** bind the slave over /dev/console */
        bind: bool,
    },
    EnterRoot {
        how: EnterRoot,
    },
    /// Propagation of the new root (MS_* flags), after entering it.
    RootPropagation {
        propagation: u64,
    },
    /// mkdir -p, as root, before the root may become read-only: the working directory.
    MakeDirectory {
        path: PathBuf,
    },
    /// Check that /dev/null of the new root is the null device, and put it in the place of those of stdio that are the
    /// host's.
    ReopenDevNull,
    /// Make the mount at `path` read-only (mount_setattr(2), that mount alone).
    RemountReadonly {
        path: PathBuf,
    },
    Hostname {
        name: String,
    },
    Domainname {
        name: String,
    },
    /// `key` with slashes, below /proc/sys.
    Sysctl {
        key: String,
        value: String,
    },
    ReadonlyPath {
        path: PathBuf,
    },
    MaskPath {
        path: PathBuf,
    },
    Umask {
        mask: u32,
    },
    Scheduler(SchedulerOp),
    IoPriority {
        class: u32,
        priority: u32,
    },
    /// CPU numbers. None: all that the cgroup allows, so that the caller's own affinity is not inherited; a failure of
    /// that is no failure.
    Affinity {
        cpus: Vec<u32>,
        /** when: before or after joining the cgroup */
        after_cgroup: bool,
    },
    MemoryPolicy {
        mode: u32,
        nodes: Vec<u32>,
    },
    Personality {
        persona: u64,
    },
    /// Written to /proc/self/attr/[apparmor/]exec.
    Apparmor {
        profile: String,
    },
    /// Written to /proc/self/attr/exec.
    Selinux {
        label: String,
    },
    NoNewPrivileges,
    /// Install the compiled filter.
    Seccomp,
    /// setrlimit(2); the parent has raised the hard limit if that was needed.
    Rlimit(Rlimit),
    /// Drop what is not in `bounding` from the bounding set (still root).
    BoundingSet {
        keep: CapMask,
    },
    /// fchown(2) of stdio, setgroups(2), setgid(2), setuid(2), keeping capabilities. The groups are left alone where
    /// None, or where /proc/self/setgroups says `deny`.
    SetIds {
        uid: u32,
        gid: u32,
        additional_gids: Option<Vec<u32>>,
    },
    /// capset(2) and the ambient set.
    Capabilities {
        effective: CapMask,
        permitted: CapMask,
        inheritable: CapMask,
        ambient: CapMask,
    },
    /// chdir(2); refused where it ends outside the root.
    ///
    /// It stands twice in a plan, before and after SetIds: a directory that only root, or only the user, can enter is
    /// good. Where the first (`denied_ok`) is denied the second decides; where it succeeds the second only checks.
    Chdir {
        path: PathBuf,
        /** true: make it if it is missing */
        create: bool,
        denied_ok: bool,
    },
    /// Find args[0] in PATH and check that it can be executed, so that `create` can say so.
    /// `candidates`: where it may be, in order; the program itself where it has a slash.
    FindProgram {
        program: String,
        candidates: Vec<PathBuf>,
    },
    /// Tell the parent that all is set up; wait for `start`. Absent for exec.
    AwaitStart,
    /// execve(2) of what FindProgram found. `home_for_uid`: `env` has no HOME, append that of this uid in the
    /// container's /etc/passwd, or `/`. `inherited_fds`: how many descriptors from 3 on stay open.
    Exec {
        args: Vec<String>,
        env: Vec<String>,
        home_for_uid: Option<u32>,
        inherited_fds: u32,
    },
}

/// Bit n is capability n of linux/capability.h.
pub type CapMask = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EnterRoot {
    /// pivot_root(".", ".") and detach the old root.
    Pivot,
    /// `--no-pivot`: move the root over / after unmounting /proc and /sys of the host, then chroot.
    MoveMount,
    /// No mount namespace of our own: chroot(2) only.
    Chroot,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct MountOp {
    pub destination: PathBuf,
    pub source: MountSource,
    /// MOUNT_ATTR_* to set and to clear on this mount (mount_setattr(2)).
    pub set: u64,
    pub clear: u64,
    /// The same, recursively (rro, rnosuid, …).
    pub rec_set: u64,
    pub rec_clear: u64,
    /// A bind whose options name any flag: ro, nosuid, nodev, noexec and nosymfollow of the source are cleared where they
    /// are not named, as runc's remount does (unless locked, which the child finds out). atime stays unless it is named.
    pub exact_flags: bool,
    /// MS_SHARED, MS_PRIVATE, … with or without MS_REC, in the config's order.
    pub propagation: Vec<u64>,
    pub idmap: Option<IdMap>,
    /// Copy what the image has at the destination into the new tmpfs.
    pub tmpcopyup: bool,
    /// Open in the parent's namespaces and hand over as an fd: binds under a user namespace, idmapped mounts.
    pub from_parent: bool,
    /// A tmpfs whose `mode` is not given: put `mode=` of the directory that it covers, if there is one, first.
    pub inherit_mode: bool,
    /// The bind's source must be on procfs (it goes over /proc): refuse anything else (CVE-2019-19921).
    pub only_proc: bool,
    /// Where the kernel refuses the file system (EPERM, EBUSY), bind this host path instead: cgroup2 (runc issue 2158).
    pub fallback_bind: Option<PathBuf>,
    /// Set as security.selinux on the root of the new mount: mqueue, which takes no `context=`.
    pub file_label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum MountSource {
    /// A host path (absolute).
    Bind { path: PathBuf, recursive: bool },
    /// A new file system instance: fsopen(2) of `fs`, its parameters in order (None: a flag such as `ro`). For `proc`
    /// and `sysfs` no component of the destination may be a symlink, and it must be a directory.
    Filesystem { fs: String, source: String, parameters: Vec<(String, Option<String>)> },
    /// `remount` in the options: change what is mounted at the destination already.
    Remount { bind: bool, parameters: Vec<(String, Option<String>)> },
    /// Only change the propagation of what is there.
    PropagationOnly,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct IdMap {
    /// Empty: the container's own user namespace.
    pub uid: Vec<spec::IdMapping>,
    pub gid: Vec<spec::IdMapping>,
    pub recursive: bool,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DeviceOp {
    pub path: PathBuf,
    /// S_IFCHR, S_IFBLK or S_IFIFO.
    pub kind: u32,
    pub major: u32,
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bind the host's node instead of mknod(2): in a user namespace mknod is not allowed.
    pub bind: bool,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SchedulerOp {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}
