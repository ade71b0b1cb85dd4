//! A plan as text, for people: numbered sentences under headings, each with the config's field that asked for it.
//! (JSON is [`Plan`]'s serde form.)

use super::capabilities::names_of;
use super::human_field;
use super::namespaces::names_of_flags;
use super::op::*;
use super::options::attr;
use std::fmt::Write;
use std::path::Path;

/// The whole of `plan`.
pub fn to_text(plan: &Plan) -> String {
    write(plan, Text::default())
}

/// The same for a log: beside our headings the names that runc's own log has for these phases, for those who look for
/// them there.
pub fn to_log(plan: &Plan) -> String {
    write(plan, Text { names_of_runc: true, ..Text::default() })
}

fn write(plan: &Plan, mut out: Text) -> String {
    parent(plan, &mut out);
    let mut phase = Phase::Namespaces;
    let mut headed = false;
    for step in &plan.steps {
        // Phases follow each other; a step that could stand in an earlier one stays where it is done.
        let now = phase_of(&step.op).max(phase);
        if now != phase || !headed {
            let inside = headed && phase != Phase::Namespaces;
            out.heading(&format!("{}{}", now.title(), out.runc(|| name_of_phase(now, inside, &step.op))));
        }
        (phase, headed) = (now, true);
        match &step.op {
            Op::HostHooks if !plan.net_devices.is_empty() => out.line("wait while the parent moves the network devices and runs its hooks", &step.field),
            op @ Op::Affinity { cpus, after_cgroup: false } => {
                let text = format!("{}{}", sentence(op), out.runc(|| Some(format!("nsexec: affinity: {:#x}", mask(cpus)))));
                out.line(&text, &step.field);
            }
            op => out.line(&sentence(op), &step.field),
        }
    }
    if !plan.hooks.poststart.is_empty() {
        out.heading("the parent, once the program runs");
        out.line(&format!("run the poststart hooks: {}", hooks(&plan.hooks.poststart)), "/hooks/poststart");
    }
    if !plan.warnings.is_empty() {
        out.heading("warnings");
        plan.warnings.iter().for_each(|warning| out.line(warning, ""));
    }
    out.text
}

#[derive(Default)]
struct Text {
    text: String,
    number: usize,
    names_of_runc: bool,
}

impl Text {
    fn runc(&self, name: impl Fn() -> Option<String>) -> String {
        let name = if self.names_of_runc { name() } else { None };
        name.map(|name| format!(" (runc: {name})")).unwrap_or_default()
    }

    fn heading(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}{title}");
    }

    fn line(&mut self, sentence: &str, field: &str) {
        self.number += 1;
        let _ = write!(self.text, "{:4}. {sentence}", self.number);
        if !field.is_empty() {
            let _ = write!(self.text, "  ← {}", human_field(field));
        }
        self.text.push('\n');
    }
}

/// What the parent does around the clone.
fn parent(plan: &Plan, out: &mut Text) {
    out.heading("the parent, around the clone");
    for join in &plan.parent_joins {
        out.line(&format!("enter the {} namespace {} for the child, and leave it after the clone", join.kind.title(), join.path.display()), &join.field);
    }
    match plan.clone_flags {
        0 => out.line("clone the child, into the parent's own namespaces", ""),
        flags => out.line(&format!("clone the child into new namespaces: {}", names_of_flags(flags)), "/linux/namespaces"),
    }
    if let Some(maps) = &plan.id_maps {
        let how = if maps.by_helper { " by newuidmap and newgidmap" } else { "" };
        let deny = if maps.deny_setgroups { ", after denying setgroups" } else { "" };
        out.line(&format!("map uids {}{how}", ranges(&maps.uid)), "/linux/uidMappings");
        out.line(&format!("map gids {}{how}{deny}", ranges(&maps.gid)), "/linux/gidMappings");
    }
    for offset in &plan.time_offsets {
        let text = format!("set the {} clock's offset to {} s and {} ns", offset.clock, offset.secs, offset.nanosecs);
        out.line(&text, &format!("/linux/timeOffsets/{}", offset.clock));
    }
    if let Some(score) = plan.oom_score_adj {
        out.line(&format!("set oom_score_adj to {score}"), "/process/oomScoreAdj");
    }
    for limit in &plan.rlimits {
        let text = |value: u64| if value == u64::MAX { "unlimited".to_string() } else { value.to_string() };
        out.line(&format!("limit {} to {} (hard {})", limit.name, text(limit.soft), text(limit.hard)), &limit.field);
    }
    for (name, inside) in &plan.net_devices {
        out.line(&format!("move the network device {name} inside, as {inside}"), "/linux/netDevices");
    }
}

fn ranges(maps: &[crate::spec::IdMapping]) -> String {
    let one = |map: &crate::spec::IdMapping| format!("{}→{} ({})", map.container_id, map.host_id, map.size);
    maps.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Namespaces,
    Mounts,
    Root,
    Closing,
    Process,
    Start,
}

impl Phase {
    fn title(self) -> &'static str {
        match self {
            Phase::Namespaces => "the child: namespaces",
            Phase::Mounts => "the child: mounts and devices",
            Phase::Root => "the child: into the root",
            Phase::Closing => "the child: names, limits of what it sees",
            Phase::Process => "the process",
            Phase::Start => "at start",
        }
    }
}

/// What runc's log says when it comes to what begins with `op`, if it says anything. `inside`: a phase after the
/// namespaces was before.
fn name_of_phase(phase: Phase, inside: bool, op: &Op) -> Option<String> {
    let name = match (phase, op) {
        (Phase::Namespaces, _) => "nsexec container setup",
        (Phase::Start, Op::AwaitStart) => "init: closing the pipe to signal completion",
        (Phase::Start, _) => "setns_init: about to exec",
        (_, _) if !inside => "child process in init()",
        _ => return None,
    };
    Some(name.into())
}

/// Of the first 64 processors, as runc's log has it.
fn mask(cpus: &[u32]) -> u64 {
    cpus.iter().filter(|cpu| **cpu < u64::BITS).fold(0, |mask, cpu| mask | 1 << cpu)
}

fn phase_of(op: &Op) -> Phase {
    match op {
        Op::PrepareRoot { .. } | Op::Mount(_) | Op::Device(_) | Op::Symlink { .. } => Phase::Mounts,
        Op::HostHooks | Op::EnterRoot { .. } | Op::RootPropagation { .. } | Op::MakeDirectory { .. } | Op::ReopenDevNull | Op::Console { .. } => Phase::Root,
        Op::Hooks { phase, .. } if *phase == "createContainer" => Phase::Root,
        Op::RemountReadonly { .. } | Op::Hostname { .. } | Op::Domainname { .. } | Op::Apparmor { .. } => Phase::Closing,
        Op::Sysctl { .. } | Op::ReadonlyPath { .. } | Op::MaskPath { .. } => Phase::Closing,
        Op::NoNewPrivileges | Op::Scheduler(_) | Op::IoPriority { .. } | Op::Personality { .. } | Op::MemoryPolicy { .. } => Phase::Process,
        Op::Selinux { .. } | Op::Seccomp | Op::Rlimit(_) | Op::BoundingSet { .. } | Op::SetIds { .. } | Op::Capabilities { .. } => Phase::Process,
        Op::Chdir { .. } | Op::FindProgram { .. } => Phase::Process,
        Op::AwaitStart | Op::Exec { .. } | Op::Hooks { .. } => Phase::Start,
        // Wherever they stand: JoinCgroup, Affinity, Umask and what has to do with namespaces.
        _ => Phase::Namespaces,
    }
}

/// One step, as an order.
fn sentence(op: &Op) -> String {
    match op {
        Op::JoinNamespace(join) => format!("join the {} namespace {}", join.kind.title(), join.path.display()),
        Op::JoinContainer { flags } => format!("join the container's namespaces: {}", names_of_flags(*flags)),
        Op::Unshare { flags } => format!("make new namespaces: {}", names_of_flags(*flags)),
        Op::SecondFork => "fork again, into them".into(),
        Op::AwaitIdMaps => "wait for the id maps, then become root in the user namespace".into(),
        Op::AwaitTimeOffsets => "wait for the clocks' offsets".into(),
        Op::JoinCgroup => "join the container's cgroup".into(),
        Op::NewSession => "begin a new session".into(),
        Op::SessionKeyring { name, .. } => format!("take the session keyring {name}"),
        Op::LoopbackUp => "bring up lo".into(),
        Op::PrepareRoot { rootfs, bind: false, .. } => format!("open the rootfs {}", rootfs.display()),
        Op::PrepareRoot { rootfs, propagation: 0, .. } => format!("bind the rootfs {} onto itself, on the host", rootfs.display()),
        Op::PrepareRoot { rootfs, propagation, parent, .. } => {
            let (tree, parent) = (propagation_name(*propagation), propagation_name(*parent));
            format!("make all mounts {tree}, the one with the rootfs {parent}, and bind the rootfs {} onto itself", rootfs.display())
        }
        Op::Mount(mount) => mount_sentence(mount),
        Op::Device(device) => device_sentence(device),
        Op::Symlink { target, path, replace } => {
            format!("link {} to {target}{}", path.display(), if *replace { ", in the place of what is there" } else { "" })
        }
        Op::HostHooks => "wait while the parent runs the prestart and createRuntime hooks".into(),
        Op::Hooks { phase, hooks: list } => format!("run the {phase} hooks: {}", hooks(list)),
        Op::EnterRoot { how: EnterRoot::Pivot } => "pivot into the root, let go of the old one".into(),
        Op::EnterRoot { how: EnterRoot::MoveMount } => "unmount the host's proc and sysfs, move the root over /, change root to it".into(),
        Op::EnterRoot { how: EnterRoot::Chroot } => "change root to the rootfs".into(),
        Op::RootPropagation { propagation } => format!("make the root {}", propagation_name(*propagation)),
        Op::MakeDirectory { path } => format!("make the directory {}, if it is missing", path.display()),
        Op::ReopenDevNull => "check /dev/null; use it for what of stdio is the host's".into(),
        Op::Console { width, height, bind } => {
            let size = if *width != 0 && *height != 0 { format!(" of {width}×{height}") } else { String::new() };
            format!("make a terminal{size}, send it out, use it for stdio{}", if *bind { ", bind it on /dev/console" } else { "" })
        }
        Op::RemountReadonly { path } => format!("make the mount on {} read-only", path.display()),
        Op::Hostname { name } => format!("set the host name {name}"),
        Op::Domainname { name } => format!("set the domain name {name}"),
        Op::Sysctl { key, value } => format!("set {key} to {value:?}"),
        Op::ReadonlyPath { path } => format!("make {} read-only", path.display()),
        Op::MaskPath { path } => format!("mask {}", path.display()),
        other => process_sentence(other),
    }
}

fn process_sentence(op: &Op) -> String {
    match op {
        Op::Umask { mask } => format!("set the umask {mask:04o}"),
        Op::Scheduler(s) => {
            let times = [
                ("nice", s.nice as i64),
                ("priority", s.priority as i64),
                ("runtime", s.runtime as i64),
                ("deadline", s.deadline as i64),
                ("period", s.period as i64),
            ];
            let set: Vec<_> = times.iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!(", {name} {value}")).collect();
            format!("set the scheduling policy {}, flags {:#x}{}", s.policy, s.flags, set.concat())
        }
        Op::IoPriority { class, priority } => format!("set the I/O priority: class {class}, level {priority}"),
        Op::Affinity { cpus, .. } if cpus.is_empty() => "may run on every CPU that the cgroup allows".into(),
        Op::Affinity { cpus, after_cgroup } => {
            format!("run on CPUs {cpus:?} {} the cgroup", if *after_cgroup { "from now, in" } else { "before joining" })
        }
        Op::MemoryPolicy { mode, nodes } => format!("set the memory policy {mode:#x} for nodes {nodes:?}"),
        Op::Personality { persona } => format!("set the personality {persona:#x}"),
        Op::Apparmor { profile } => format!("take the AppArmor profile {profile} at exec"),
        Op::Selinux { label } => format!("take the SELinux label {label} at exec"),
        Op::NoNewPrivileges => "give up gaining privileges (no_new_privs)".into(),
        Op::Seccomp => "install the seccomp filter".into(),
        Op::Rlimit(limit) => format!("limit {} to {}, hard {}", limit.name, limit.soft, limit.hard),
        Op::BoundingSet { keep } => format!("bound capabilities to {}", capabilities(*keep)),
        Op::SetIds { uid, gid, additional_gids } => {
            let more = match additional_gids {
                None => ", groups as they are".to_string(),
                Some(gids) if gids.is_empty() => ", no other groups".to_string(),
                Some(gids) => format!(", groups {gids:?}"),
            };
            format!("become uid {uid}, gid {gid}{more}")
        }
        Op::Capabilities { effective, permitted, inheritable, ambient } => {
            let sets = [("effective", effective), ("permitted", permitted), ("inheritable", inheritable), ("ambient", ambient)];
            let text: Vec<_> = sets.iter().map(|(name, mask)| format!("{name} {}", capabilities(**mask))).collect();
            format!("set capabilities: {}", text.join("; "))
        }
        Op::Chdir { path, denied_ok: true, .. } => format!("go to {} as root, if root may", path.display()),
        Op::Chdir { path, .. } => format!("go to {} if not there yet; be sure that it is inside the root", path.display()),
        Op::FindProgram { program, .. } if program.contains('/') => format!("check that {program} can be run"),
        Op::FindProgram { program, candidates } => {
            let dirs: Vec<_> = candidates.iter().filter_map(|path| path.parent()).map(|dir| dir.display().to_string()).collect();
            format!("find {program} in {}", dirs.join(":"))
        }
        Op::AwaitStart => "say that all is ready; wait for start".into(),
        Op::Exec { args, env, home_for_uid, inherited_fds } => {
            let home = if home_for_uid.is_some() { ", HOME from /etc/passwd" } else { "" };
            let fds = if *inherited_fds > 0 { format!(", with {inherited_fds} more descriptors") } else { String::new() };
            let variables = if env.len() == 1 { "variable" } else { "variables" };
            format!("execute {args:?} with {} {variables}{home}{fds}", env.len())
        }
        other => other.describe(),
    }
}

fn capabilities(mask: CapMask) -> String {
    match names_of(mask) {
        names if names.is_empty() => "none".into(),
        names => names.iter().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect::<Vec<_>>().join(" "),
    }
}

fn hooks(list: &[crate::spec::Hook]) -> String {
    list.iter().map(|hook| hook.path.as_str()).collect::<Vec<_>>().join(", ")
}

fn device_sentence(device: &DeviceOp) -> String {
    let path = device.path.display();
    if device.bind {
        return format!("bind the host's {path}");
    }
    let DeviceOp { major, minor, mode, uid, gid, .. } = device;
    let owner = if (*uid, *gid) == (0, 0) { String::new() } else { format!(", owner {uid}:{gid}") };
    match device.kind {
        libc::S_IFIFO => format!("make {path}, a FIFO, mode {mode:04o}{owner}"),
        libc::S_IFBLK => format!("make {path}, block device {major}:{minor}, mode {mode:04o}{owner}"),
        _ => format!("make {path}, character device {major}:{minor}, mode {mode:04o}{owner}"),
    }
}

fn mount_sentence(mount: &MountOp) -> String {
    let on = mount.destination.display();
    let (what, parameters) = match &mount.source {
        MountSource::Bind { path, recursive: true } => (format!("bind {}, with all below, on {on}", path.display()), &[][..]),
        MountSource::Bind { path, recursive: false } => (format!("bind {} on {on}", path.display()), &[][..]),
        MountSource::Filesystem { fs, source, parameters } if Path::new(source).is_absolute() => (format!("mount {fs} {source} on {on}"), &parameters[..]),
        MountSource::Filesystem { fs, parameters, .. } => (format!("mount {fs} on {on}"), &parameters[..]),
        MountSource::Remount { bind, parameters } => (format!("remount {}{on}", if *bind { "the mount itself of " } else { "" }), &parameters[..]),
        MountSource::PropagationOnly => (format!("change the propagation of {on}"), &[][..]),
    };
    let data: Vec<_> = parameters.iter().map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"))).collect();
    let parts = [flags(mount), data.join(","), extras(mount)];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { what } else { format!("{what} ({})", parts.join("; ")) }
}

/// The mount's own flags by their option names, then those of the tree, then propagation.
fn flags(mount: &MountOp) -> String {
    let mut names = attr_names(mount.set, mount.clear, "");
    names.extend(attr_names(mount.rec_set, mount.rec_clear, "r"));
    names.extend(mount.propagation.iter().map(|flags| propagation_name(*flags)));
    names.join(", ")
}

fn attr_names(set: u64, clear: u64, prefix: &str) -> Vec<String> {
    let bits = [
        (attr::RDONLY, "ro", "rw"),
        (attr::NOSUID, "nosuid", "suid"),
        (attr::NODEV, "nodev", "dev"),
        (attr::NOEXEC, "noexec", "exec"),
        (attr::NODIRATIME, "nodiratime", "diratime"),
        (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let mut names = Vec::new();
    for (bit, on, off) in bits {
        if set & bit != 0 {
            names.push(format!("{prefix}{on}"));
        } else if clear & bit != 0 {
            names.push(format!("{prefix}{off}"));
        }
    }
    match set & attr::ATIME {
        attr::NOATIME => names.push(format!("{prefix}noatime")),
        attr::STRICTATIME => names.push(format!("{prefix}strictatime")),
        _ if clear & attr::ATIME != 0 => names.push(format!("{prefix}relatime")),
        _ => {}
    }
    names
}

fn propagation_name(flags: u64) -> String {
    let recursive = if flags & libc::MS_REC != 0 { "r" } else { "" };
    let kinds = [(libc::MS_PRIVATE, "private"), (libc::MS_SHARED, "shared"), (libc::MS_SLAVE, "slave"), (libc::MS_UNBINDABLE, "unbindable")];
    let name = kinds.iter().find(|(bit, _)| flags & bit != 0).map_or("as it is", |(_, name)| name);
    format!("{recursive}{name}")
}

fn extras(mount: &MountOp) -> String {
    let mut notes = Vec::new();
    if mount.exact_flags {
        notes.push("no other flags".to_string());
    }
    if let Some(map) = &mount.idmap {
        let whose =
            if map.uid.is_empty() { "ids mapped as in the container".to_string() } else { format!("uids {}, gids {}", ranges(&map.uid), ranges(&map.gid)) };
        notes.push(format!("{whose}{}", if map.recursive { ", with all below" } else { "" }));
    }
    let told = [
        (mount.from_parent, "opened by the parent"),
        (mount.tmpcopyup, "with a copy of what the image has there"),
        (mount.inherit_mode, "mode of the directory below"),
        (mount.only_proc, "must be procfs"),
    ];
    notes.extend(told.iter().filter(|(is, _)| *is).map(|(_, text)| text.to_string()));
    notes.extend(mount.fallback_bind.iter().map(|path| format!("or a bind of {}", path.display())));
    notes.extend(mount.file_label.iter().map(|label| format!("labelled {label}")));
    notes.join(", ")
}
