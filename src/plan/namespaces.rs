//! Which namespaces are made, which are joined, by whom and in what order.
//!
//! One clone3(2) does it for nearly every container. It can't where a namespace must be owned by a user namespace that
//! is joined, or that is made after other joins; where a time namespace goes with a new user namespace; then the child
//! unshares and forks again.

use super::op::{IdMaps, Join, NsKind, Op, Step, TimeOffset};
use crate::host::Host;
use crate::spec::{self, IdMapping, Linux};
use crate::{Error, Result};
use std::path::PathBuf;

/// Every kind: its name in the spec (config-linux.md § Namespaces), its CLONE_NEW* bit (clone(2)), its name for people.
const KINDS: [(NsKind, &str, i32, &str); 8] = [
    (NsKind::User, "user", libc::CLONE_NEWUSER, "user"),
    (NsKind::Pid, "pid", libc::CLONE_NEWPID, "pid"),
    (NsKind::Mount, "mount", libc::CLONE_NEWNS, "mount"),
    (NsKind::Network, "network", libc::CLONE_NEWNET, "network"),
    (NsKind::Ipc, "ipc", libc::CLONE_NEWIPC, "IPC"),
    (NsKind::Uts, "uts", libc::CLONE_NEWUTS, "UTS"),
    (NsKind::Cgroup, "cgroup", libc::CLONE_NEWCGROUP, "cgroup"),
    (NsKind::Time, "time", CLONE_NEWTIME, "time"),
];

/// linux/sched.h, Linux 5.6. It shares its bit with clone(2)'s exit signal, so that only clone3(2) and unshare(2) take it.
const CLONE_NEWTIME: i32 = 0x80;

/// capability number of CAP_SYS_ADMIN (linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;

impl NsKind {
    fn row(self) -> &'static (NsKind, &'static str, i32, &'static str) {
        &KINDS[KINDS.iter().position(|row| row.0 == self).expect("every kind has its row")]
    }

    /// Its CLONE_NEW* bit.
    pub fn clone_flag(self) -> u64 {
        self.row().2 as u64
    }

    /// As the spec writes it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    pub(super) fn title(self) -> &'static str {
        self.row().3
    }

    /// The kind that the spec calls `name`.
    pub fn parse(name: &str) -> Option<NsKind> {
        KINDS.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// The spec's names of all namespaces that dhow knows, sorted (for `features`).
pub fn namespace_names() -> Vec<&'static str> {
    let mut names: Vec<_> = KINDS.iter().map(|row| row.1).collect();
    names.sort_unstable();
    names
}

/// Names of the namespaces whose bits are in `flags`, in the table's order.
pub(super) fn names_of_flags(flags: u64) -> String {
    let names: Vec<_> = KINDS.iter().filter(|row| flags & row.2 as u64 != 0).map(|row| row.3).collect();
    names.join(", ")
}

/// `linux.namespaces`, checked: kinds known, none twice.
#[derive(Debug, Default)]
pub(super) struct Namespaces(Vec<Join>);

impl Namespaces {
    pub fn parse(list: &[spec::Namespace]) -> Result<Namespaces> {
        let mut found: Vec<Join> = Vec::new();
        for (i, ns) in list.iter().enumerate() {
            let field = format!("/linux/namespaces/{i}");
            let Some(kind) = NsKind::parse(&ns.kind) else {
                return Err(Error::invalid(format!("{field}/type"), format!("unknown namespace type {:?}", ns.kind)));
            };
            if found.iter().any(|other| other.kind == kind) {
                return Err(Error::invalid(field, format!("a second namespace of type {}", ns.kind)));
            }
            if !ns.path.is_empty() && !ns.path.starts_with('/') {
                return Err(Error::invalid(format!("{field}/path"), format!("{:?} is not an absolute path", ns.path)));
            }
            found.push(Join { kind, path: PathBuf::from(&ns.path), field });
        }
        Ok(Namespaces(found))
    }

    fn get(&self, kind: NsKind) -> Option<&Join> {
        self.0.iter().find(|ns| ns.kind == kind)
    }

    /// The container has one of its own or of another container: not simply the caller's.
    pub fn has(&self, kind: NsKind) -> bool {
        self.get(kind).is_some()
    }

    pub fn is_new(&self, kind: NsKind) -> bool {
        self.get(kind).is_some_and(|ns| ns.path.as_os_str().is_empty())
    }

    pub fn is_joined(&self, kind: NsKind) -> bool {
        self.has(kind) && !self.is_new(kind)
    }

    pub fn field(&self, kind: NsKind) -> String {
        self.get(kind).map_or_else(|| "/linux/namespaces".into(), |ns| ns.field.clone())
    }

    fn joins(&self) -> impl Iterator<Item = &Join> {
        self.0.iter().filter(|ns| !ns.path.as_os_str().is_empty())
    }

    /// Bits of those to make, but for the cgroup namespace: that one can be made only once the child is in its cgroup.
    fn new_flags(&self) -> u64 {
        let new = self.0.iter().filter(|ns| ns.path.as_os_str().is_empty() && ns.kind != NsKind::Cgroup);
        new.map(|ns| ns.kind.clone_flag()).sum()
    }

    /// Bits of all that the container has, for `exec`.
    pub fn flags(&self) -> u64 {
        self.0.iter().map(|ns| ns.kind.clone_flag()).sum()
    }
}

/// What the parent and the child each do about namespaces.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub clone_flags: u64,
    pub parent_joins: Vec<Join>,
    pub steps: Vec<Step>,
}

const PID: u64 = libc::CLONE_NEWPID as u64;
const TIME: u64 = CLONE_NEWTIME as u64;
const USER: u64 = libc::CLONE_NEWUSER as u64;

/// How the child gets into its namespaces (all but a new cgroup namespace).
pub(super) fn enter(ns: &Namespaces, host: &Host, time_offsets: bool) -> Entry {
    let new = ns.new_flags();
    let by_parent = |join: &&Join| matches!(join.kind, NsKind::Pid | NsKind::Time);
    if ns.is_joined(NsKind::User) {
        return join_user(ns, host, time_offsets);
    }
    let mut entry = Entry { parent_joins: ns.joins().filter(by_parent).cloned().collect(), ..Entry::default() };
    let others: Vec<_> = ns.joins().filter(|join| !by_parent(join)).collect();
    entry.steps.extend(others.iter().map(|join| join_step(join)));
    if new & USER != 0 && !others.is_empty() {
        // Those to join belong, as a rule, to the caller's user namespace: once in its own, the child has no right to
        // enter them. So it joins, and makes its user namespace afterwards; that must own the other new ones.
        entry.steps.push(unshare(ns, USER));
        entry.steps.push(Step { field: ns.field(NsKind::User), op: Op::AwaitIdMaps });
        push_unshare(&mut entry.steps, ns, new & !USER, time_offsets);
        return entry;
    }
    if new & USER != 0 {
        entry.steps.push(Step { field: ns.field(NsKind::User), op: Op::AwaitIdMaps });
    }
    if new & USER != 0 && new & TIME != 0 {
        // clone3(2) takes no CLONE_NEWTIME beside its own children's, and the user namespace must own it. The pid
        // namespace waits for the second fork, or the container's process would be number 2 in it.
        entry.clone_flags = new & !(PID | TIME);
        push_unshare(&mut entry.steps, ns, new & (PID | TIME), time_offsets);
        return entry;
    }
    entry.clone_flags = new;
    entry
}

/// A user namespace by path: the new ones must belong to it, so that all is done in the child.
fn join_user(ns: &Namespaces, host: &Host, time_offsets: bool) -> Entry {
    let (user, others): (Vec<_>, Vec<_>) = ns.joins().partition(|join| join.kind == NsKind::User);
    // With rights of our own the others come first: they need not belong to that user namespace (another container's
    // network, say). Without, only the user namespace gives the right. runc tries first the one, then the other.
    let privileged = host.own_capabilities & (1 << CAP_SYS_ADMIN) != 0;
    let ordered: Vec<_> = if privileged { others.into_iter().chain(user).collect() } else { user.into_iter().chain(others).collect() };
    let mut steps: Vec<_> = ordered.iter().map(|join| join_step(join)).collect();
    push_unshare(&mut steps, ns, ns.new_flags(), time_offsets);
    let forked = steps.iter().any(|step| step.op == Op::SecondFork);
    if !forked && (ns.is_joined(NsKind::Pid) || ns.is_joined(NsKind::Time)) {
        steps.push(Step { field: String::new(), op: Op::SecondFork });
    }
    Entry { steps, ..Entry::default() }
}

fn join_step(join: &Join) -> Step {
    Step { field: join.field.clone(), op: Op::JoinNamespace(join.clone()) }
}

fn unshare(ns: &Namespaces, flags: u64) -> Step {
    let one = ns.0.iter().find(|n| n.kind.clone_flag() == flags);
    Step { field: one.map_or_else(|| "/linux/namespaces".into(), |n| n.field.clone()), op: Op::Unshare { flags } }
}

/// Unshare `flags`, and fork again where only a child of ours would be inside: pid and time (unshare(2)).
fn push_unshare(steps: &mut Vec<Step>, ns: &Namespaces, flags: u64, time_offsets: bool) {
    if flags == 0 {
        return;
    }
    steps.push(unshare(ns, flags));
    if flags & TIME != 0 && time_offsets {
        steps.push(Step { field: "/linux/timeOffsets".into(), op: Op::AwaitTimeOffsets });
    }
    if flags & (PID | TIME) != 0 {
        steps.push(Step { field: String::new(), op: Op::SecondFork });
    }
}

/// The cgroup namespace, made by the child when it is in its cgroup.
pub(super) fn unshare_cgroup(ns: &Namespaces) -> Option<Step> {
    ns.is_new(NsKind::Cgroup).then(|| unshare(ns, NsKind::Cgroup.clone_flag()))
}

/// The maps of a new user namespace (user_namespaces(7)).
pub(super) fn id_maps(linux: &Linux, ns: &Namespaces, host: &Host, warnings: &mut Vec<String>) -> Result<Option<IdMaps>> {
    let given = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if !ns.is_new(NsKind::User) {
        if given && !ns.has(NsKind::User) {
            return Err(Error::invalid("/linux/uidMappings", "id mappings without a user namespace"));
        }
        if given {
            warnings.push("linux.uidMappings and gidMappings are not applied: the user namespace is joined, its own hold".into());
        }
        return Ok(None);
    }
    for (field, maps) in [("/linux/uidMappings", &linux.uid_mappings), ("/linux/gidMappings", &linux.gid_mappings)] {
        if maps.is_empty() {
            return Err(Error::invalid(field, "a new user namespace needs mappings"));
        }
        if !maps.iter().any(|map| map.container_id == 0 && map.size > 0) {
            return Err(Error::invalid(field, "the container's id 0 must be mapped: the container is set up as root"));
        }
    }
    let own = |maps: &[IdMapping], id| matches!(maps, [one] if one.host_id == id && one.size == 1);
    let unprivileged = host.euid != 0;
    let by_helper = unprivileged && !(own(&linux.uid_mappings, host.euid) && own(&linux.gid_mappings, host.egid));
    Ok(Some(IdMaps { uid: linux.uid_mappings.clone(), gid: linux.gid_mappings.clone(), by_helper, deny_setgroups: unprivileged && !by_helper }))
}

/// `linux.timeOffsets`: for a time namespace of our own.
pub(super) fn time_offsets(linux: &Linux, ns: &Namespaces) -> Result<Vec<TimeOffset>> {
    if linux.time_offsets.is_empty() {
        return Ok(Vec::new());
    }
    if !ns.is_new(NsKind::Time) {
        return Err(Error::invalid("/linux/timeOffsets", "offsets can be given only to a new time namespace"));
    }
    let offset = |(clock, offset): (&String, &spec::TimeOffset)| {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!("/linux/timeOffsets/{}", spec::escape_pointer(clock)), "unknown clock: monotonic or boottime"));
        }
        Ok(TimeOffset { clock: clock.clone(), secs: offset.secs, nanosecs: offset.nanosecs })
    };
    linux.time_offsets.iter().map(offset).collect()
}

#[cfg(test)]
#[path = "namespaces_tests.rs"]
mod tests;
