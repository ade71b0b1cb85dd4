//! Making the directories, so that a process can be put into them, and taking them away again when that fails.

use super::file::{self, Knobs};
use super::freezer::FreezerState;
use super::{Cgroup, Node, Version, processes, v1, v2};
use crate::spec::Resources;
use crate::{Error, Kind, Result};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What [`Cgroup::create`] did.
#[derive(Debug, Default)]
pub struct Created {
    made: Vec<PathBuf>,
    /// Hierarchies that the container does without, and why: nothing in its config needs them.
    pub passed_over: Vec<Error>,
}

impl Created {
    /// The directories that were not there before, parents first.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.made
    }

    /// Remove what was made, as far as it is empty: a parent may have got another container meanwhile.
    pub fn undo(&self) {
        for dir in self.made.iter().rev() {
            // Best effort by design: this runs on the way out with the error that matters already in hand.
            let _ = std::fs::remove_dir(dir);
        }
    }

    /// mkdir -p. True if the last directory is new.
    fn make(&mut self, dir: &Path) -> io::Result<bool> {
        let mkdir = || std::fs::DirBuilder::new().mode(0o755).create(dir);
        let outcome = match (mkdir(), dir.parent()) {
            (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
                self.make(parent)?;
                mkdir()
            }
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(()) => {
                self.made.push(dir.into());
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Cgroup {
    /// Make the directories. On v1 this also sets what has to be there before a process may enter: the cpuset's lists
    /// and realtime budgets. Refuses a cgroup that has processes in it or is frozen. Undoes itself on failure.
    ///
    /// Rootless, and without a path in the config, a hierarchy that is closed to us is dropped from this `Cgroup`.
    pub fn create(&mut self, resources: &Resources) -> Result<Created> {
        let mut created = Created::default();
        let outcome = match self.version {
            Version::V1 => self.create_v1(resources, &mut created),
            Version::V2 => self.create_v2(resources, &mut created),
        };
        match outcome {
            Ok(()) => Ok(created),
            Err(e) => {
                created.undo();
                Err(e)
            }
        }
    }

    /// Make a hybrid machine's v2 directory ahead of the others, for the clone; those that are new. A failure is told
    /// by [`Cgroup::create`], which follows.
    pub fn make_unified(&self) -> Vec<PathBuf> {
        let mut created = Created::default();
        for node in self.nodes.iter().filter(|n| n.is_unified()) {
            let _ = created.make(&node.path);
        }
        created.made
    }

    fn create_v1(&mut self, resources: &Resources, created: &mut Created) -> Result<()> {
        v1::refuse_unified(resources)?;
        let may_do_without = self.rootless && !self.explicit;
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes) {
            match create_node(&node, resources, created) {
                Ok(()) => kept.push(node),
                Err(e) if node.is_optional() || (may_do_without && is_permission(&e)) => created.passed_over.push(e),
                Err(e) => return Err(e),
            }
        }
        self.nodes = kept;
        Ok(())
    }

    fn create_v2(&mut self, resources: &Resources, created: &mut Created) -> Result<()> {
        let Some(node) = self.nodes.first() else { return Ok(()) };
        let Err(e) = create_unified(node, resources, created) else { return Ok(()) };
        if !self.rootless || self.explicit || e.kind == Kind::WrongState {
            return Err(e);
        }
        if v2::needs_controllers(&node.mountpoint, resources) {
            return Err(e.within("rootless needs no limits + no cgrouppath when no permission is granted for cgroups"));
        }
        created.undo();
        created.made.clear();
        created.passed_over.push(e);
        self.nodes.clear();
        Ok(())
    }
}

fn is_permission(e: &Error) -> bool {
    matches!(e.errno(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
}

/// Callers look for these words of runc's in front.
fn cannot_make(e: &io::Error, path: &Path) -> Error {
    Error::io(e, "unable to apply cgroup configuration: making", path.display().to_string())
}

/// A v1 hierarchy's directory, ready to be entered.
fn create_node(node: &Node, resources: &Resources, created: &mut Created) -> Result<()> {
    let has = |controller| node.controllers.iter().any(|c| c == controller);
    let new = created.make(&node.path).map_err(|e| cannot_make(&e, &node.path))?;
    if !new && has("devices") {
        refuse_populated(&node.path)?;
    }
    if !new && has("freezer") {
        refuse_frozen(super::freezer::state_v1(&node.path)?)?;
    }
    if has("cpuset") {
        fill_cpuset(node, resources, new)?;
    }
    if has("cpu") {
        // A process in a realtime class can't enter a cgroup without a realtime budget (sched-rt-group.rst).
        v1::set_realtime(&Knobs { controller: "cpu", dir: Some(&node.path), rootless: false }, resources)?;
    }
    Ok(())
}

/// A second container in the same cgroup would share its limits and be killed with it.
///
/// As with runc the devices hierarchy speaks for all of v1: asking each would cost more than it tells.
fn refuse_populated(path: &Path) -> Result<()> {
    match processes::all(path) {
        Ok(pids) if pids.is_empty() => Ok(()),
        Ok(pids) => Err(Error::new(Kind::WrongState, "container's cgroup is not empty", "", format!("{} process(es) found", pids.len()))
            .hint(format!("{} is in use; give each container a cgroupsPath of its own", path.display()))),
        // It is being removed while we look.
        Err(e) if file::is_gone(&e) => Ok(()),
        Err(e) => Err(Error::io(&e, "unable to get cgroup PIDs:", path.display().to_string())),
    }
}

/// A process that enters a frozen cgroup never gets to run.
fn refuse_frozen(state: FreezerState) -> Result<()> {
    match state {
        FreezerState::Frozen => {
            Err(Error::new(Kind::WrongState, "container's cgroup unexpectedly frozen", "", "").hint("thaw it, or remove it if nobody uses it"))
        }
        FreezerState::Thawed | FreezerState::Undefined => Ok(()),
    }
}

/// Which CPUs and memory nodes: the config's, else the parent's. A new v1 cpuset has none, and lets no process in
/// (cgroup-v1/cpusets.rst § 1.4).
fn fill_cpuset(node: &Node, resources: &Resources, new: bool) -> Result<()> {
    let parent = node.path.parent().unwrap_or(&node.path);
    let prefix = cpuset_prefix(parent);
    let cpu = resources.cpu.as_ref();
    let wishes = [("cpus", cpu.map_or("", |c| &c.cpus)), ("mems", cpu.map_or("", |c| &c.mems))];
    for (what, wish) in wishes {
        let name = format!("{prefix}{what}");
        if !wish.is_empty() {
            // A parent that we have just made allows nothing yet.
            inherited_cpuset(parent, &node.mountpoint, &name)?;
            let knobs = Knobs { controller: "cpuset", dir: Some(&node.path), rootless: false };
            knobs.set(&format!("cpu/{what}"), &name, wish)?;
        } else if new || cpuset_of(&node.path, &name)?.is_empty() {
            let inherited = inherited_cpuset(parent, &node.mountpoint, &name)?;
            file::write(&node.path, &name, &inherited).map_err(|e| file::failure(&e, "filling in the cpuset with its parent's:", &node.path, &name))?;
        }
    }
    Ok(())
}

/// The list of `dir`, which is filled in from its own parent if it is empty, up to the top.
fn inherited_cpuset(dir: &Path, mountpoint: &Path, name: &str) -> Result<String> {
    let list = cpuset_of(dir, name)?;
    match dir.parent() {
        Some(parent) if list.is_empty() && dir != mountpoint => {
            let list = inherited_cpuset(parent, mountpoint, name)?;
            file::write(dir, name, &list).map_err(|e| file::failure(&e, "filling in the cpuset with its parent's:", dir, name))?;
            Ok(list)
        }
        _ => Ok(list),
    }
}

fn cpuset_of(dir: &Path, name: &str) -> Result<String> {
    let text = file::read(dir, name).map_err(|e| file::failure(&e, "reading", dir, name))?;
    Ok(text.trim().to_string())
}

/// cpuset alone can be mounted with `noprefix` (Android does), and then its files are called `cpus` and `mems`.
pub(super) fn cpuset_prefix(dir: &Path) -> &'static str {
    if dir.join("cpuset.cpus").exists() || !dir.join("cpus").exists() { "cpuset." } else { "" }
}

/// The v2 directory, with all controllers of the machine switched on for it.
fn create_unified(node: &Node, resources: &Resources, created: &mut Created) -> Result<()> {
    let available = v2::controllers(&node.mountpoint).map_err(|e| file::failure(&e, "reading", &node.mountpoint, "cgroup.controllers"))?;
    let new = created.make(&node.path).map_err(|e| cannot_make(&e, &node.path))?;
    if !new {
        refuse_in_use(&node.path)?;
    }
    switch_on_missing(node, &available, resources)
}

/// The same refusals for a directory that systemd is to make, or that somebody has made before it.
pub(super) fn refuse_in_use(path: &Path) -> Result<()> {
    refuse_populated(path)?;
    refuse_frozen(super::freezer::state_v2(path)?)
}

/// All controllers of the machine, for a directory that systemd has made.
pub(super) fn switch_on_all(node: &Node, resources: &Resources) -> Result<()> {
    let available = v2::controllers(&node.mountpoint).map_err(|e| file::failure(&e, "reading", &node.mountpoint, "cgroup.controllers"))?;
    switch_on_missing(node, &available, resources)
}

fn switch_on_missing(node: &Node, available: &[String], resources: &Resources) -> Result<()> {
    // Usually someone has switched them on for our parent before.
    let has = v2::controllers(&node.path).map_err(|e| file::failure(&e, "reading", &node.path, "cgroup.controllers"))?;
    if available.iter().all(|c| has.contains(c)) {
        return Ok(());
    }
    switch_on(node, available, resources)
}

/// Walk down from the top and switch the controllers on for each next level (cgroup-v2.rst § Controlling Controllers).
///
/// A controller that can't be had is missed later, by whoever asks for its files, and then by name; most containers
/// need only some. The usual reason is that a cgroup on the way has processes ("no internal processes").
fn switch_on(node: &Node, available: &[String], resources: &Resources) -> Result<()> {
    let mut way: Vec<&Path> = node.path.ancestors().take_while(|dir| *dir != node.mountpoint && dir.starts_with(&node.mountpoint)).collect();
    way.push(&node.mountpoint);
    way.reverse();
    let all = available.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ");
    for dir in way {
        if dir != node.mountpoint {
            check_type(dir, resources)?;
        }
        if dir != node.path && file::write(dir, "cgroup.subtree_control", &all).is_err() {
            // All or nothing failed: so each for itself.
            for controller in available {
                let _ = file::write(dir, "cgroup.subtree_control", &format!("+{controller}"));
            }
        }
    }
    Ok(())
}

/// Threaded cgroups take only some controllers (cgroup-v2.rst § Threads).
fn check_type(dir: &Path, resources: &Resources) -> Result<()> {
    let kind = file::if_there(file::read(dir, "cgroup.type")).map_err(|e| file::failure(&e, "reading", dir, "cgroup.type"))?;
    let kind = kind.as_deref().map_or("domain", str::trim);
    let refusal = |state: &str| {
        let error = Error::new(Kind::WrongState, "cannot enter cgroupv2", format!("{:?} with domain controllers", dir.display().to_string()), state);
        Err(error.hint("memory, cpu, io and hugetlb limits need a cgroup whose parents have no processes of their own"))
    };
    match kind {
        // A cgroup above has processes, so only threads can come below it.
        "domain invalid" if v2::needs_domain(resources) => refusal("it is in an invalid state"),
        "domain invalid" => {
            // Fails where it has become valid meanwhile, which is as good.
            let _ = file::write(dir, "cgroup.type", "threaded");
            Ok(())
        }
        "threaded" | "domain threaded" if v2::needs_domain(resources) => refusal(&format!("it is in {kind} mode")),
        _ => Ok(()),
    }
}
