//! `mounts` of the config → mount ops, in the config's order.

use super::cgroup_mounts;
use super::namespaces::Namespaces;
use super::op::{IdMap, MountOp, MountSource, NsKind, Op, Step};
use super::options::{MountOptions, attr};
use super::paths::{below, clean};
use super::{Options, propagation};
use crate::host::Host;
use crate::spec::{Mount, PROC_FILES, Spec};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// What a mount is planned against.
pub(super) struct Site<'a> {
    pub spec: &'a Spec,
    pub host: &'a Host,
    pub options: &'a Options,
    pub namespaces: &'a Namespaces,
}

impl Site<'_> {
    fn user_namespace(&self) -> bool {
        self.namespaces.has(NsKind::User)
    }

    /// Binds under a user namespace are opened by the parent, who has rights to their sources; a rootless parent has
    /// none that the child lacks.
    pub fn parent_opens(&self) -> bool {
        self.user_namespace() && self.host.euid == 0
    }

    /// `linux.mountLabel`, where there is SELinux to understand it.
    pub fn label(&self) -> Option<&str> {
        let label = self.spec.linux.mount_label.as_str();
        (self.host.selinux && !label.is_empty()).then_some(label)
    }
}

/// What the mounts come to: the steps, and those left for the end, once nothing is written any more.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub steps: Vec<Step>,
    /// Read-only, but mounted writable, since more is made in them: tmpfs and /dev.
    pub readonly_later: Vec<Step>,
    /// Where the first mount that shows cgroups stands in `steps`.
    pub first_cgroup: Option<usize>,
    pub warnings: Vec<String>,
}

impl Mounts {
    pub fn push(&mut self, field: &str, mount: MountOp) {
        self.steps.push(Step { field: field.into(), op: Op::Mount(Box::new(mount)) });
    }

    pub fn make_readonly_later(&mut self, field: &str, path: PathBuf) {
        self.readonly_later.push(Step { field: field.into(), op: Op::RemountReadonly { path } });
    }
}

/// Plan all mounts.
pub(super) fn plan(site: &Site) -> Result<Mounts> {
    let mut out = Mounts::default();
    for (i, mount) in site.spec.mounts.iter().enumerate() {
        plan_one(site, &format!("/mounts/{i}"), mount, &mut out)?;
    }
    if site.label().is_none() && !site.spec.linux.mount_label.is_empty() {
        out.warnings.push("linux.mountLabel has no effect: SELinux is not enabled".into());
    }
    Ok(out)
}

fn plan_one(site: &Site, field: &str, mount: &Mount, out: &mut Mounts) -> Result<()> {
    let options = MountOptions::parse(&mount.options);
    let destination = destination(site, field, mount, out)?;
    check_text(field, mount)?;
    if options.tmpcopyup && mount.kind != "tmpfs" {
        return Err(Error::invalid(format!("{field}/options"), "tmpcopyup is for a tmpfs only"));
    }
    if site.host.euid != 0 {
        check_rootless_ids(site, field, mount, &options)?;
    }
    let is_bind = options.bind.is_some() || mount.kind == "bind";
    check_proc(field, &destination, mount, is_bind || options.remount || only_propagates(&options))?;
    if is_bind {
        warn_of_bind_options(field, &options, &mut out.warnings);
    }
    let idmap = idmap(site, field, mount, &options, is_bind)?;
    if is_bind && !options.remount {
        out.push(field, bind(site, field, mount, &options, destination, idmap)?);
        return Ok(());
    }
    match mount.kind.as_str() {
        _ if options.remount => out.push(field, remount(&options, destination, is_bind)),
        "cgroup" | "cgroup2" => cgroup_mounts::plan(site, field, mount, &options, &destination, out),
        "" | "none" if only_propagates(&options) => {
            out.push(field, MountOp { propagation: options.propagation, ..MountOp::new(destination, MountSource::PropagationOnly) });
        }
        "" | "none" => {
            return Err(Error::invalid(format!("{field}/type"), "a mount that is not a bind mount needs a file system type"));
        }
        _ => filesystem(site, field, mount, &options, destination, out),
    }
    Ok(())
}

impl MountOp {
    /// A mount of `source` on `destination`, with no options.
    pub(super) fn new(destination: PathBuf, source: MountSource) -> MountOp {
        MountOp {
            destination,
            source,
            set: 0,
            clear: 0,
            rec_set: 0,
            rec_clear: 0,
            exact_flags: false,
            propagation: Vec::new(),
            idmap: None,
            tmpcopyup: false,
            from_parent: false,
            inherit_mode: false,
            only_proc: false,
            fallback_bind: None,
            file_label: None,
        }
    }

    /// With the flags that `options` name, for this mount and for the tree below, and its propagation.
    pub(super) fn with(mut self, options: &MountOptions) -> MountOp {
        (self.set, self.clear) = (options.this.set, options.this.clear);
        (self.rec_set, self.rec_clear) = (options.recursive.set, options.recursive.clear);
        self.propagation = options.propagation.clone();
        self
    }
}

fn destination(site: &Site, field: &str, mount: &Mount, out: &mut Mounts) -> Result<PathBuf> {
    let pointer = || format!("{field}/destination");
    if mount.destination.is_empty() {
        return Err(Error::invalid(pointer(), "a mount needs a destination"));
    }
    if !mount.destination.starts_with('/') {
        out.warnings.push(format!("{}: relative destination {:?} is deprecated, taken as relative to /", super::human_field(field), mount.destination));
    }
    let path = clean(&mount.destination);
    // Some callers name the host's path of a place in the rootfs; runc takes that as the place (its StripRoot).
    let rootfs = site.spec.root.as_ref().map(|root| below(&site.options.bundle, &root.path));
    let path = match rootfs.as_deref().filter(|rootfs| *rootfs != Path::new("/")).and_then(|rootfs| path.strip_prefix(rootfs).ok()) {
        Some(inside) => Path::new("/").join(inside),
        None => path,
    };
    // An overlay may be the root itself, before anything is mounted in it.
    if path == Path::new("/") && !(mount.kind == "overlay" && field == "/mounts/0") {
        return Err(Error::invalid(pointer(), "nothing can be mounted over the container's root"));
    }
    Ok(path)
}

/// A string with a NUL in it would reach the kernel cut short.
fn check_text(field: &str, mount: &Mount) -> Result<()> {
    let single = [("destination", &mount.destination), ("source", &mount.source), ("type", &mount.kind)];
    let options = mount.options.iter().enumerate().map(|(i, option)| (format!("options/{i}"), option));
    let all = single.into_iter().map(|(name, text)| (name.to_string(), text)).chain(options);
    match all.into_iter().find(|(_, text)| text.contains('\0')) {
        Some((name, _)) => Err(Error::invalid(format!("{field}/{name}"), "contains a NUL byte")),
        None => Ok(()),
    }
}

/// /proc must be procfs: dhow writes labels and sysctls there (CVE-2019-16884, CVE-2019-19921). Whether the source of a
/// bind is one is for the child to see, and where the destination really leads. `no_new`: not a new file system.
fn check_proc(field: &str, destination: &Path, mount: &Mount, no_new: bool) -> Result<()> {
    let pointer = format!("{field}/destination");
    if destination == Path::new("/proc") {
        return match no_new || mount.kind == "proc" {
            true => Ok(()),
            false => Err(Error::invalid(pointer, "\"/proc\" cannot be mounted because it is not of type proc")),
        };
    }
    if destination.starts_with("/proc") && !PROC_FILES.iter().any(|file| destination == Path::new(file)) {
        return Err(Error::invalid(pointer, format!("{:?} cannot be mounted because it is inside /proc", destination.display())));
    }
    Ok(())
}

/// A rootless caller can't use ids that its mappings don't have; the kernel's answer would be a bare EINVAL.
fn check_rootless_ids(site: &Site, field: &str, mount: &Mount, options: &MountOptions) -> Result<()> {
    let linux = &site.spec.linux;
    if !site.namespaces.is_new(NsKind::User) {
        return Ok(());
    }
    for (key, value) in &options.data {
        let maps = match key.as_str() {
            "uid" => &linux.uid_mappings,
            "gid" => &linux.gid_mappings,
            _ => continue,
        };
        let Some(Ok(id)) = value.as_ref().map(|value| value.parse::<u32>()) else { continue };
        if !maps.iter().any(|map| id >= map.container_id && id - map.container_id < map.size) {
            let index = mount.options.iter().position(|option| option.contains(&format!("{key}={id}"))).unwrap_or(0);
            return Err(Error::invalid(format!("{field}/options/{index}"), format!("{key} {id} is not mapped in the rootless container's user namespace")));
        }
    }
    Ok(())
}

/// `idmap`, `ridmap` and the mount's own mappings (config.md § Mounts; mount_setattr(2), Linux 5.12).
fn idmap(site: &Site, field: &str, mount: &Mount, options: &MountOptions, is_bind: bool) -> Result<Option<IdMap>> {
    let (uid, gid) = (&mount.uid_mappings, &mount.gid_mappings);
    if options.idmap.is_none() && uid.is_empty() && gid.is_empty() {
        return Ok(None);
    }
    if !is_bind {
        return Err(Error::invalid(field, "only a bind mount can be id-mapped"));
    }
    if site.host.euid != 0 {
        return Err(Error::invalid(field, "id-mapped mounts are not supported for rootless containers"));
    }
    if uid.is_empty() != gid.is_empty() {
        let missing = if uid.is_empty() { "uidMappings" } else { "gidMappings" };
        return Err(Error::invalid(format!("{field}/{missing}"), "uidMappings and gidMappings must be given together"));
    }
    if uid.is_empty() && !site.user_namespace() {
        return Err(Error::invalid(field, "idmap needs uidMappings and gidMappings here, or a user namespace of the container's own"));
    }
    Ok(Some(IdMap { uid: uid.clone(), gid: gid.clone(), recursive: options.idmap == Some(true) }))
}

/// A bind shares the file system of its source: parameters and superblock flags can't be given to it.
fn warn_of_bind_options(field: &str, options: &MountOptions, warnings: &mut Vec<String>) {
    // The kernel ignores them; crun lets it, runc refuses. runtime-tools' `mounts` has such options, so: with a warning.
    if !options.data.is_empty() {
        let keys: Vec<_> = options.data.iter().map(|(key, _)| key.as_str()).collect();
        warnings.push(format!("{}: options of a file system have no effect on a bind mount: {}", super::human_field(field), keys.join(", ")));
    }
    let without_effect: Vec<_> = options.superblock_set().collect();
    if !without_effect.is_empty() {
        warnings.push(format!("{}: a bind mount shares its source's file system: no effect of {}", super::human_field(field), without_effect.join(", ")));
    }
}

fn bind(site: &Site, field: &str, mount: &Mount, options: &MountOptions, destination: PathBuf, idmap: Option<IdMap>) -> Result<MountOp> {
    if mount.source.is_empty() {
        return Err(Error::invalid(format!("{field}/source"), "a bind mount needs a source"));
    }
    let source = MountSource::Bind { path: below(&site.options.bundle, &mount.source), recursive: options.bind == Some(true) };
    let only_proc = destination == Path::new("/proc");
    let from_parent = idmap.is_some() || site.parent_opens();
    Ok(MountOp { exact_flags: options.names_flags, idmap, only_proc, from_parent, ..MountOp::new(destination, source).with(options) })
}

/// `remount`: what is there keeps its place and gets these flags and parameters.
fn remount(options: &MountOptions, destination: PathBuf, bind: bool) -> MountOp {
    let mut parameters = superblock_parameters(options, options.readonly());
    parameters.extend(options.data.iter().cloned());
    let source = MountSource::Remount { bind, parameters };
    MountOp { exact_flags: options.names_flags, ..MountOp::new(destination, source).with(options) }
}

fn only_propagates(options: &MountOptions) -> bool {
    !options.propagation.is_empty() && !options.names_flags && options.data.is_empty() && options.recursive == Default::default()
}

/// The superblock's flags as fsconfig(2) parameters. mount(2) with MS_RDONLY makes both the mount and a new file system
/// read-only, so `ro` stands among them.
pub(super) fn superblock_parameters(options: &MountOptions, readonly: bool) -> Vec<(String, Option<String>)> {
    let ro = readonly.then_some("ro");
    ro.into_iter().chain(options.superblock_set()).map(|name| (name.to_string(), None)).collect()
}

fn filesystem(site: &Site, field: &str, mount: &Mount, options: &MountOptions, destination: PathBuf, out: &mut Mounts) {
    let tmpfs = mount.kind == "tmpfs";
    // More is made in these: nodes in /dev, mount points in a tmpfs. They become read-only at the end.
    let later = tmpfs || destination == Path::new("/dev");
    let mut parameters = superblock_parameters(options, options.readonly() && !later);
    parameters.extend(options.data.iter().cloned());
    let labelled = !matches!(mount.kind.as_str(), "proc" | "sysfs" | "mqueue");
    if let Some(label) = site.label().filter(|_| labelled) {
        parameters.push(("context".into(), Some(label.into())));
    }
    if mount.kind == "sysfs" && site.user_namespace() && !site.namespaces.has(NsKind::Network) {
        out.warnings
            .push(format!("{}: the kernel allows sysfs in a user namespace only with a network namespace of it; bind /sys instead", super::human_field(field)));
    }
    let source = MountSource::Filesystem { fs: mount.kind.clone(), source: mount.source.clone(), parameters };
    let mut op = MountOp::new(destination.clone(), source).with(options);
    op.clear = 0; // nothing is set on a new mount that would be to clear
    op.tmpcopyup = options.tmpcopyup;
    op.inherit_mode = tmpfs && !options.data.iter().any(|(key, _)| key == "mode");
    op.file_label = site.label().filter(|_| mount.kind == "mqueue").map(str::to_string);
    if later && (op.set | op.rec_set) & attr::RDONLY != 0 {
        op.set &= !attr::RDONLY;
        op.rec_set &= !attr::RDONLY;
        out.make_readonly_later(field, destination);
    }
    out.push(field, op);
}

/// `linux.rootfsPropagation` as MS_* flags: of the tree, of the mount that holds the rootfs, and, where it can be set
/// only once the root is entered, of the new root.
pub(super) struct RootPropagation {
    pub tree: u64,
    pub parent: u64,
    pub root: Option<u64>,
}

pub(super) fn root_propagation(name: &str, no_pivot: bool) -> Result<RootPropagation> {
    const FIELD: &str = "/linux/rootfsPropagation";
    if name.is_empty() {
        // Mounts of the host still arrive, none of ours leave; the rootfs itself is cut off, as runc does.
        return Ok(RootPropagation { tree: libc::MS_SLAVE | libc::MS_REC, parent: libc::MS_PRIVATE, root: None });
    }
    let Some(tree) = propagation(name) else {
        return Err(Error::invalid(FIELD, format!("rootfsPropagation={name} is not supported")));
    };
    if no_pivot && tree & libc::MS_PRIVATE != 0 {
        return Err(Error::invalid(FIELD, "rootfsPropagation of [r]private is not safe without pivot_root"));
    }
    // pivot_root(2) refuses a shared parent, and a bind made below one would appear on the host.
    let parent = if tree & libc::MS_SLAVE != 0 { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    let at_the_end = tree & (libc::MS_PRIVATE | libc::MS_SLAVE) == 0;
    Ok(RootPropagation { tree, parent, root: at_the_end.then_some(tree) })
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
