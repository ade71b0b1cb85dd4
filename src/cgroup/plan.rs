//! Which directories: `/linux/cgroupsPath` → a path in each hierarchy. Pure.
//!
//! config-linux.md § Cgroups Path: an absolute path is relative to the hierarchy's mountpoint; where a relative one
//! starts is ours to say, and we say it as runc does (see [`Cgroup::plan`]).

use super::{Cgroup, Node, Version};
use crate::host::cgroup::{Layout, Unified};
use crate::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// The controllers that a container joins on v1, in runc's order: the cpuset first, for it must be filled in before
/// anything joins. Other named hierarchies belong to others.
const KNOWN: [&str; 16] = [
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
    "name=systemd",
    "misc",
    "",
];

/// Hierarchies that hold no limit of ours.
pub(super) const OPTIONAL: [&str; 3] = ["name=systemd", "misc", ""];

impl Cgroup {
    /// The cgroup of container `id`.
    ///
    /// v1: an absolute `cgroups_path` counts from each hierarchy's mountpoint, a relative one (or the id, where it is
    /// empty) from our own cgroup. v2: from the mountpoint, and from the cgroup *above* our own, since only a cgroup
    /// without processes can have controllers switched on for its children. `..` can't lead out of either.
    pub fn plan(layout: &Layout, cgroups_path: &str, id: &str, rootless: bool) -> Result<Cgroup> {
        let explicit = !cgroups_path.is_empty();
        let wanted = Path::new(if explicit { cgroups_path } else { id });
        let inner = clean(wanted);
        if inner.as_os_str().is_empty() {
            let fault = Error::invalid("/linux/cgroupsPath", format!("{cgroups_path:?} leads to no cgroup of the container's own"));
            return Err(fault.hint("give it a name, as in \"/dhow/web-1\", or leave the field out"));
        }
        let absolute = explicit && wanted.is_absolute();
        let (version, nodes) = match layout {
            Layout::Unified(unified) => (Version::V2, vec![unified_node(unified, &inner, absolute)]),
            Layout::Legacy { .. } => (Version::V1, legacy_nodes(layout, &inner, absolute)?),
        };
        Ok(Cgroup { version, nodes, rootless, explicit, unit: None })
    }

    /// The cgroup below this one that `exec --cgroup` names: one `path` for all hierarchies, or `controller[,…]:path`
    /// for some. Pure; it is not made, only to be joined.
    pub fn below(&self, wishes: &[String]) -> Result<Cgroup> {
        let mut sub = self.clone();
        let mut seen: Vec<&str> = Vec::new();
        for wish in wishes {
            let bad = |why: String| Error::usage(format!("invalid --cgroup argument: {wish} ({why})"));
            let path = wish.split_once(':').map_or(wish.as_str(), |(_, path)| path);
            if Path::new(path).components().any(|c| c == std::path::Component::ParentDir) {
                return Err(Error::usage(format!("bad sub cgroup path: {path} leads out of the container's cgroup")));
            }
            let Some((controllers, path)) = wish.split_once(':') else {
                if wishes.len() > 1 {
                    return Err(bad("missing <controller>: prefix".into()));
                }
                sub.nodes.iter_mut().for_each(|node| node.path.push(clean(Path::new(wish))));
                continue;
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(bad("empty <controller> prefix".into()));
                }
                if seen.contains(&controller) {
                    return Err(bad(format!("controller {controller} specified multiple times")));
                }
                seen.push(controller);
                let position = self.nodes.iter().position(|n| n.controllers.iter().any(|c| c == controller));
                let n = position.ok_or_else(|| bad(format!("unknown controller {controller}")))?;
                sub.nodes[n].path = self.nodes[n].path.join(clean(Path::new(path)));
            }
        }
        Ok(sub)
    }
}

fn unified_node(unified: &Unified, inner: &Path, absolute: bool) -> Node {
    let base = match absolute {
        true => PathBuf::new(),
        false => clean(unified.own.parent().unwrap_or(Path::new("/"))),
    };
    let path = unified.mountpoint.join(base).join(inner);
    Node { controllers: vec![String::new()], path, mountpoint: unified.mountpoint.clone() }
}

fn legacy_nodes(layout: &Layout, inner: &Path, absolute: bool) -> Result<Vec<Node>> {
    let Layout::Legacy { hierarchies, unified } = layout else { return Ok(Vec::new()) };
    let mut nodes: Vec<Node> = hierarchies
        .iter()
        .filter_map(|h| {
            let controllers: Vec<String> = ordered(h.controllers.iter()).into_iter().cloned().collect();
            let base = if absolute { &h.mountpoint } else { &h.own_dir };
            (!controllers.is_empty()).then(|| Node { controllers, path: base.join(inner), mountpoint: h.mountpoint.clone() })
        })
        .collect();
    // Without it a container could open any device, so this one is not optional.
    if !nodes.iter().any(|n| n.controllers.iter().any(|c| c == "devices")) {
        let needs = "the devices controller, and no such hierarchy is mounted";
        return Err(Error::unsupported("finding the cgroup hierarchies", "", needs)
            .hint("mount it: mount -t cgroup -o devices cgroup /sys/fs/cgroup/devices; or mount cgroup2 on /sys/fs/cgroup"));
    }
    if let Some(unified) = unified {
        // As with runc, a hybrid machine's v2 hierarchy takes a relative path from its mountpoint.
        let (path, mountpoint) = (unified.mountpoint.join(inner), unified.mountpoint.clone());
        nodes.push(Node { controllers: vec![String::new()], path, mountpoint });
    }
    nodes.sort_by_key(|n| rank(&n.controllers[0]));
    Ok(nodes)
}

fn rank(controller: &str) -> usize {
    KNOWN.iter().position(|k| *k == controller).unwrap_or(KNOWN.len())
}

/// The controllers of these that containers join, in the order in which they do.
pub(super) fn ordered<'a>(controllers: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut known: Vec<&String> = controllers.filter(|c| rank(c) < KNOWN.len()).collect();
    known.sort_by_key(|c| rank(c));
    known
}

/// The path without `.` and with each `..` taking back a step, never above the start; without its leading slash.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => _ = out.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::Hierarchy;

    fn hybrid() -> Layout {
        let at = |controllers: &[&str], dir: &str, own: &str| Hierarchy {
            controllers: controllers.iter().map(|c| c.to_string()).collect(),
            mountpoint: Path::new("/sys/fs/cgroup").join(dir),
            own_dir: Path::new("/sys/fs/cgroup").join(dir).join(own),
        };
        Layout::Legacy {
            hierarchies: vec![
                at(&["name=systemd"], "systemd", ""),
                at(&["name=other"], "other", ""),
                at(&["cpuacct", "cpu"], "cpu,cpuacct", "user"),
                at(&["devices"], "devices", "user"),
                at(&["cpuset"], "cpuset", ""),
            ],
            unified: Some(Unified { mountpoint: "/sys/fs/cgroup/unified".into(), own: "/user".into() }),
        }
    }

    fn v2(own: &str) -> Layout {
        Layout::Unified(Unified { mountpoint: "/sys/fs/cgroup".into(), own: own.into() })
    }

    fn paths(layout: &Layout, cgroups_path: &str) -> Vec<(String, String)> {
        let cgroup = Cgroup::plan(layout, cgroups_path, "box", false).unwrap();
        cgroup.paths().into_iter().map(|(c, p)| (c, p.display().to_string())).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn v1_absolute_counts_from_the_mountpoint() {
        let expected = pairs(&[
            ("", "/sys/fs/cgroup/unified/docker/x"),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/docker/x"),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/docker/x"),
            ("cpuset", "/sys/fs/cgroup/cpuset/docker/x"),
            ("devices", "/sys/fs/cgroup/devices/docker/x"),
            ("name=systemd", "/sys/fs/cgroup/systemd/docker/x"),
        ]);
        assert_eq!(paths(&hybrid(), "/docker/x"), expected);
        assert_eq!(paths(&hybrid(), "/../../docker/./y/../x"), expected);
    }

    #[test]
    fn v1_relative_and_empty_count_from_our_own() {
        for (path, name) in [("", "box"), ("a/b", "a/b"), ("../../a", "a")] {
            let cgroup = Cgroup::plan(&hybrid(), path, "box", false).unwrap();
            assert_eq!(cgroup.path("cpu").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/user").join(name));
            assert_eq!(cgroup.path("cpuset").unwrap(), Path::new("/sys/fs/cgroup/cpuset").join(name));
            assert_eq!(cgroup.path("").unwrap(), Path::new("/sys/fs/cgroup/unified").join(name));
            assert_eq!(cgroup.nodes[0].controllers, ["cpuset"]);
        }
    }

    #[test]
    fn v2_relative_counts_from_above_our_own() {
        assert_eq!(paths(&v2("/user.slice/session-1.scope"), ""), pairs(&[("", "/sys/fs/cgroup/user.slice/box")]));
        assert_eq!(paths(&v2("/user.slice/session-1.scope"), "a"), pairs(&[("", "/sys/fs/cgroup/user.slice/a")]));
        assert_eq!(paths(&v2("/user.slice/session-1.scope"), "/a/b"), pairs(&[("", "/sys/fs/cgroup/a/b")]));
        assert_eq!(paths(&v2("/"), ""), pairs(&[("", "/sys/fs/cgroup/box")]));
    }

    #[test]
    fn a_path_to_nowhere_is_refused() {
        for path in ["/", ".", "..", "a/..", "/../.."] {
            let error = Cgroup::plan(&v2("/"), path, "box", false).unwrap_err();
            assert!(error.to_string().contains("/linux/cgroupsPath"), "{error}");
        }
    }

    #[test]
    fn no_devices_hierarchy_is_an_error() {
        let layout = Layout::Legacy { hierarchies: vec![], unified: None };
        assert!(Cgroup::plan(&layout, "", "box", false).unwrap_err().to_string().contains("devices controller"));
    }

    #[test]
    fn paths_come_back_from_state() {
        for layout in [hybrid(), v2("/")] {
            let cgroup = Cgroup::plan(&layout, "/a", "box", false).unwrap();
            let again = Cgroup::from_paths(&cgroup.paths(), false);
            assert_eq!(again.paths(), cgroup.paths());
            assert_eq!(again.version(), cgroup.version());
            assert_eq!(again.nodes.len(), cgroup.nodes.len());
        }
    }

    #[test]
    fn exec_below_the_container() {
        let cgroup = Cgroup::plan(&hybrid(), "/c", "box", false).unwrap();
        assert_eq!(cgroup.below(&["sub".into()]).unwrap().path("cpuset").unwrap(), Path::new("/sys/fs/cgroup/cpuset/c/sub"));
        let some = cgroup.below(&["cpu:x".into()]).unwrap();
        assert_eq!(some.path("cpuacct").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/c/x"));
        assert_eq!(some.path("cpuset"), cgroup.path("cpuset"));
        assert!(cgroup.below(&["..".into()]).unwrap_err().to_string().starts_with("bad sub cgroup path"));
        for bad in [&["bogus:x"][..], &[":x"], &["cpu:x", "cpu:y"], &["a", "b"]] {
            let wishes: Vec<String> = bad.iter().map(|s| s.to_string()).collect();
            assert!(cgroup.below(&wishes).unwrap_err().to_string().starts_with("invalid --cgroup argument"));
        }
        assert_eq!(cgroup.below(&["/".into()]).unwrap().path("devices"), cgroup.path("devices"));
    }
}
