//! An image's config → a runtime's `config.json` (image-spec, conversion.md), with Docker's defaults for the rest.

pub(super) mod defaults;
pub(super) mod user;

use super::ImageConfig;
use super::ids;
use super::unpack::{IdRange, Owners};
use crate::spec::defaults::{host_sys, mount, namespace};
use crate::spec::{IdMapping, Mount, OCI_VERSION, Process, Root, Spec};
use crate::sys::process::{getegid, geteuid};
use crate::{Error, Result, log};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// What the caller says beside the image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// In place of the image's Cmd; its Entrypoint stays.
    pub command: Vec<String>,
    /// `root.path`.
    pub root: String,
    pub terminal: bool,
    /// Behind those that every container has.
    pub mounts: Vec<Mount>,
    /// No network namespace of its own.
    pub host_network: bool,
    /// For a cgroup namespace, which Docker gives on cgroup v2.
    pub cgroup_v2: bool,
    /// A user namespace of the container's own with these maps, of uids and of gids.
    pub maps: Option<[Vec<IdMapping>; 2]>,
    /// Whoever starts it has no rights on the host's cgroups.
    pub unprivileged: bool,
    /// It will be started now, and so has to be such that it can be.
    pub now: bool,
}

impl Wishes {
    /// What follows from the machine and from who we are, for a container that we start. `owners` are those with which
    /// the image is unpacked: a mapped one needs a user namespace with the same maps.
    pub fn for_us(owners: &Owners) -> Wishes {
        let ids = ids::ours();
        let own = |id| vec![IdMapping { container_id: 0, host_id: id, size: 1 }];
        let maps = match owners {
            Owners::Mapped(uids, gids) => Some([as_said(uids), as_said(gids)]),
            Owners::Own if !ids.entered => Some([own(geteuid()), own(getegid())]),
            _ => None,
        };
        Wishes { maps, unprivileged: *owners == Owners::Own || !ids.are_all(), ..Wishes::anywhere() }
    }

    /// The same for one that our caller starts, who isn't in the user namespace that we may have entered.
    pub fn for_caller(owners: &Owners) -> Wishes {
        let ids = ids::ours();
        if !ids.entered {
            return Wishes::for_us(owners);
        }
        let maps = match owners {
            Owners::Mapped(uids, gids) => [ids.outside(uids, "uid"), ids.outside(gids, "gid")],
            _ => [ids.uids.clone(), ids.gids.clone()],
        };
        Wishes { maps: Some(maps), unprivileged: true, ..Wishes::anywhere() }
    }

    fn anywhere() -> Wishes {
        let cgroup_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Wishes { root: super::bundle::ROOTFS.into(), cgroup_v2, ..Wishes::default() }
    }

    /// Of the container's ids these are known to be some.
    fn has(&self, uid: u32, gid: u32) -> bool {
        let within = |maps: &[IdMapping], id: u32| maps.iter().any(|m| id.checked_sub(m.container_id).is_some_and(|n| n < m.size));
        match &self.maps {
            Some([uids, gids]) => within(uids, uid) && within(gids, gid),
            None => ids::ours().has(uid, gid),
        }
    }
}

fn as_said(ranges: &[IdRange]) -> Vec<IdMapping> {
    ranges.iter().map(|r| IdMapping { container_id: r.container, host_id: r.host, size: r.size }).collect()
}

/// The configuration for a container of the image whose root file system is at `rootfs`.
///
/// # Errors
/// The image's User is unknown to it, overflows or is none of the ids that there are, or there is no program to run.
pub fn convert(config: &ImageConfig, rootfs: BorrowedFd, wishes: &Wishes) -> Result<Spec> {
    let execution = &config.config;
    let user = user::resolve(&execution.user, rootfs)?;
    if !wishes.has(user.uid, user.gid) {
        let cause = format!("it is {}:{}, for which the container has no ids", user.uid, user.gid);
        let error = Error::other("converting the image's User", format!("{:?}", execution.user), cause).hint(ids::advice());
        if wishes.now {
            return Err(error);
        }
        log::warn(&error.to_string());
    }
    let args: Vec<String> = execution.entrypoint.iter().chain(if wishes.command.is_empty() { &execution.cmd } else { &wishes.command }).cloned().collect();
    if args.is_empty() {
        return Err(
            Error::other("converting the image's config", "", "it has neither Entrypoint nor Cmd").hint("say which program to run behind the image's name")
        );
    }
    let mut env = execution.env.clone();
    if !env.iter().any(|line| line.starts_with("PATH=")) {
        env.insert(0, defaults::PATH.into());
    }
    if wishes.terminal && !env.iter().any(|line| line.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    let process = Process {
        terminal: wishes.terminal,
        capabilities: Some(defaults::capabilities(user.uid)),
        user,
        args,
        env,
        cwd: working_dir(&execution.working_dir),
        ..Process::default()
    };
    let mut spec = Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(process),
        root: Some(Root { path: wishes.root.clone(), readonly: false }),
        mounts: defaults::mounts(),
        annotations: annotations(config),
        linux: defaults::linux()?,
        ..Spec::default()
    };
    adapt(&mut spec, wishes);
    spec.mounts.extend(wishes.mounts.iter().cloned());
    Ok(spec)
}

fn working_dir(dir: &str) -> String {
    if dir.starts_with('/') { dir.into() } else { format!("/{dir}") }
}

/// Namespaces and mounts for the caller's wishes.
fn adapt(spec: &mut Spec, wishes: &Wishes) {
    let linux = &mut spec.linux;
    if wishes.cgroup_v2 {
        linux.namespaces.push(namespace("cgroup"));
    }
    if let Some([uids, gids]) = &wishes.maps {
        linux.namespaces.push(namespace("user"));
        (linux.uid_mappings, linux.gid_mappings) = (uids.clone(), gids.clone());
    }
    if wishes.unprivileged {
        linux.resources = None;
        if !wishes.cgroup_v2 {
            spec.mounts.retain(|m| m.destination != "/sys/fs/cgroup");
        }
    }
    // Where root is the only user there are no groups either, nor may any be set.
    if let (Some(_), Some(process)) = (wishes.maps.as_ref().filter(|_| wishes.unprivileged), &mut spec.process) {
        // The runtime may set none then, and would warn of each; of the user's own there is nothing to say.
        process.user.additional_gids.retain(|gid| *gid != process.user.gid);
    }
    if !wishes.has(0, 5) {
        if let Some(process) = &mut spec.process {
            process.user.additional_gids.clear();
        }
        spec.mounts.iter_mut().for_each(|m| m.options.retain(|option| option != "gid=5"));
    }
    if wishes.host_network {
        linux.namespaces.retain(|ns| ns.kind != "network");
        let bind = |path: &str| mount(path, "bind", path, &["rbind", "ro", "nosuid", "nodev"]);
        spec.mounts.extend(["/etc/resolv.conf", "/etc/hosts"].map(bind));
        if wishes.unprivileged {
            spec.mounts.iter_mut().filter(|m| m.destination == "/sys").for_each(|m| *m = host_sys());
        }
    }
}

/// What has no field of its own in the runtime's configuration; the image's labels as they are, and first.
fn annotations(config: &ImageConfig) -> BTreeMap<String, String> {
    let execution = &config.config;
    let names = |map: &BTreeMap<String, serde_json::Value>| map.keys().cloned().collect::<Vec<_>>().join(",");
    let implied = [
        ("org.opencontainers.image.os", config.platform.os.clone()),
        ("org.opencontainers.image.architecture", config.platform.architecture.clone()),
        ("org.opencontainers.image.variant", config.platform.variant.clone()),
        ("org.opencontainers.image.os.version", config.platform.os_version.clone()),
        ("org.opencontainers.image.os.features", config.platform.os_features.join(",")),
        ("org.opencontainers.image.author", config.author.clone()),
        ("org.opencontainers.image.created", config.created.clone()),
        ("org.opencontainers.image.stopSignal", execution.stop_signal.clone()),
        ("org.opencontainers.image.exposedPorts", names(&execution.exposed_ports)),
        // Not in conversion.md: where the image wants volumes, comma-separated.
        ("dhow.image.volumes", names(&execution.volumes)),
    ];
    let mut out: BTreeMap<String, String> = implied.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value)).collect();
    out.extend(execution.labels.iter().filter(|(key, _)| !key.is_empty()).map(|(key, value)| (key.clone(), value.clone())));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn converted(text: &str, wishes: &Wishes) -> Result<Spec> {
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        // A root without passwd and group.
        let root = File::open("/proc/self").unwrap();
        convert(&config, root.as_fd(), wishes)
    }

    const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","author":"me","rootfs":{"type":"layers","diff_ids":[]},"config":{
        "User":"7:8","Env":["A=1"],"Entrypoint":["/e"],"Cmd":["c"],"WorkingDir":"work","StopSignal":"SIGQUIT",
        "ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/data":{}},"Labels":{"k":"v","org.opencontainers.image.author":"you"}}}"#;

    #[test]
    fn the_image_s_fields_go_where_conversion_md_says() {
        let spec = converted(CONFIG, &Wishes { root: "rootfs".into(), ..Wishes::default() }).unwrap();
        let process = spec.process.clone().unwrap();
        assert_eq!((process.args, process.cwd.as_str()), (vec!["/e".into(), "c".into()], "/work"));
        assert_eq!((process.user.uid, process.user.gid), (7, 8));
        assert_eq!(process.env, [defaults::PATH, "A=1"]);
        let annotation = |key: &str| spec.annotations.get(key).map(String::as_str);
        assert_eq!(annotation("org.opencontainers.image.exposedPorts"), Some("53/udp,80/tcp"));
        assert_eq!(annotation("org.opencontainers.image.stopSignal"), Some("SIGQUIT"));
        assert_eq!(annotation("dhow.image.volumes"), Some("/data"));
        assert_eq!((annotation("k"), annotation("org.opencontainers.image.author")), (Some("v"), Some("you")));
        let report = crate::spec::validate::validate(crate::spec::defaults::to_pretty_json(&spec).as_bytes());
        assert_eq!(report.faults().map(|f| format!("{} {}", f.pointer, f.message)).collect::<Vec<_>>(), Vec::<String>::new());
    }

    #[test]
    fn a_command_replaces_cmd_alone() {
        let spec = converted(CONFIG, &Wishes { command: vec!["x".into()], ..Wishes::default() }).unwrap();
        assert_eq!(spec.process.unwrap().args, ["/e", "x"]);
        let bare = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":null}"#;
        assert!(converted(bare, &Wishes::default()).unwrap_err().to_string().contains("neither Entrypoint nor Cmd"));
    }
}
