//! A mount of type `cgroup`: the container's view of its cgroups, which differs with what the host has mounted.

use super::mounts::{Mounts, Site, superblock_parameters};
use super::op::{MountOp, MountSource, NsKind, Op, Step};
use super::options::{MountOptions, attr};
use crate::host::CgroupV1Mount;
use crate::spec::Mount;
use std::path::Path;

/// Where every distribution mounts the unified hierarchy (cgroups(7)).
const UNIFIED: &str = "/sys/fs/cgroup";

/// Flags of each mount below a v1 /sys/fs/cgroup.
const V1_FLAGS: u64 = attr::NOEXEC | attr::NOSUID | attr::NODEV;

pub(super) fn plan(site: &Site, field: &str, mount: &Mount, options: &MountOptions, destination: &Path, out: &mut Mounts) {
    out.first_cgroup.get_or_insert(out.steps.len());
    if site.host.cgroup_v2 || mount.kind == "cgroup2" {
        return unified(site, field, mount, options, destination, out);
    }
    v1(site, field, options, destination, out);
}

/// With a cgroup namespace: a mount of cgroup2, whose root is then the container's cgroup. Without: a bind of the
/// host's, since a new mount would show the same and, made in the initial cgroup namespace, would set the options of the
/// one hierarchy that there is (nsdelegate, memory_recursiveprot: fs/kernfs, cgroup_get_tree) for the whole host.
fn unified(site: &Site, field: &str, mount: &Mount, options: &MountOptions, destination: &Path, out: &mut Mounts) {
    let own = site.options.cgroup_paths.get("");
    if site.host.cgroup_v2 && !site.namespaces.has(NsKind::Cgroup) {
        let source = MountSource::Bind { path: UNIFIED.into(), recursive: false };
        let op = MountOp::new(destination.into(), source).with(options);
        return out.push(field, MountOp { exact_flags: options.names_flags, from_parent: site.parent_opens(), ..op });
    }
    let mut parameters = superblock_parameters(options, options.readonly());
    parameters.extend(options.data.iter().cloned());
    let source = MountSource::Filesystem { fs: "cgroup2".into(), source: mount.source.clone(), parameters };
    let op = MountOp::new(destination.into(), source).with(options);
    out.push(field, MountOp { clear: 0, fallback_bind: own.filter(|_| site.host.cgroup_v2).cloned(), ..op });
}

/// A tmpfs with a directory for each hierarchy and the links that the host has (`cpu` → `cpu,cpuacct`).
fn v1(site: &Site, field: &str, options: &MountOptions, destination: &Path, out: &mut Mounts) {
    let mut parameters = vec![("mode".to_string(), Some("755".to_string()))];
    parameters.extend(site.label().map(|label| ("context".to_string(), Some(label.to_string()))));
    let source = MountSource::Filesystem { fs: "tmpfs".into(), source: "tmpfs".into(), parameters };
    let tmpfs = MountOp::new(destination.into(), source);
    out.push(field, MountOp { set: V1_FLAGS, propagation: options.propagation.clone(), ..tmpfs });
    for hierarchy in &site.host.cgroup_v1 {
        match v1_hierarchy(site, hierarchy, options, destination) {
            Some(op) => out.push(field, op),
            None => {
                let name = &hierarchy.name;
                out.warnings.push(format!("{}: the container has no cgroup in the hierarchy {name}: left out", super::human_field(field)));
                continue;
            }
        }
        for name in links(hierarchy) {
            let op = Op::Symlink { target: hierarchy.name.clone(), path: destination.join(name), replace: false };
            out.steps.push(Step { field: field.into(), op });
        }
    }
    if options.readonly() {
        out.make_readonly_later(field, destination.into());
    }
}

/// With a cgroup namespace the hierarchy itself, which shows the container's cgroup as its root; without, a bind of that
/// cgroup's directory.
fn v1_hierarchy(site: &Site, hierarchy: &CgroupV1Mount, options: &MountOptions, destination: &Path) -> Option<MountOp> {
    let destination = destination.join(&hierarchy.name);
    if site.namespaces.has(NsKind::Cgroup) {
        let parameters = hierarchy.options.iter().flat_map(|option| option.split(',')).map(|option| match option.split_once('=') {
            Some((key, value)) => (key.to_string(), Some(value.to_string())),
            None => (option.to_string(), None),
        });
        let source = if hierarchy.name == "systemd" { "systemd" } else { "cgroup" };
        let source = MountSource::Filesystem { fs: "cgroup".into(), source: source.into(), parameters: parameters.collect() };
        let readonly = options.this.set & attr::RDONLY;
        return Some(MountOp { set: V1_FLAGS | readonly, ..MountOp::new(destination, source) });
    }
    let path = site.options.cgroup_paths.get(&hierarchy.name)?.clone();
    let op = MountOp::new(destination, MountSource::Bind { path, recursive: true }).with(options);
    Some(MountOp { exact_flags: options.names_flags, from_parent: site.parent_opens(), ..op })
}

/// The other names of a hierarchy: the host's links, and each controller of a joint one.
fn links(hierarchy: &CgroupV1Mount) -> Vec<&str> {
    let mut names: Vec<&str> = hierarchy.links.iter().map(String::as_str).collect();
    if hierarchy.name.contains(',') {
        names.extend(hierarchy.name.split(','));
    }
    names.sort_unstable();
    names.dedup();
    names
}
