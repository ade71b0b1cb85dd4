//! An image's config → a runtime's `config.json` (image-spec, conversion.md), with Docker's defaults for the rest.

pub(super) mod defaults;
pub(super) mod user;

use super::ImageConfig;
use super::unpack::Owners;
use crate::spec::defaults::{host_sys, mount, namespace};
use crate::spec::{IdMapping, OCI_VERSION, Process, Root, Spec};
use crate::sys::process::{getegid, geteuid};
use crate::{Error, Result};
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
    /// No network namespace of its own.
    pub host_network: bool,
    /// For a cgroup namespace, which Docker gives on cgroup v2.
    pub cgroup_v2: bool,
    /// For a user without privileges: (uid, gid) of the caller, who becomes root inside.
    pub rootless: Option<(u32, u32)>,
}

impl Wishes {
    /// What follows from the machine and from who we are.
    pub fn here(owners: &Owners) -> Wishes {
        let cgroup_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Wishes { root: super::bundle::ROOTFS.into(), cgroup_v2, rootless: (*owners == Owners::Own).then(|| (geteuid(), getegid())), ..Wishes::default() }
    }
}

/// The configuration for a container of the image whose root file system is at `rootfs`. `owners` are those with which
/// it was unpacked: a mapped one needs a user namespace with the same maps.
///
/// # Errors
/// The image's User is unknown to it or overflows, or there is no program to run.
pub fn convert(config: &ImageConfig, rootfs: BorrowedFd, owners: &Owners, wishes: &Wishes) -> Result<Spec> {
    let execution = &config.config;
    let user = user::resolve(&execution.user, rootfs)?;
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
    adapt(&mut spec, owners, wishes);
    Ok(spec)
}

fn working_dir(dir: &str) -> String {
    if dir.starts_with('/') { dir.into() } else { format!("/{dir}") }
}

/// Namespaces and mounts for the caller's wishes.
fn adapt(spec: &mut Spec, owners: &Owners, wishes: &Wishes) {
    let linux = &mut spec.linux;
    if wishes.cgroup_v2 {
        linux.namespaces.push(namespace("cgroup"));
    }
    let maps = match (owners, wishes.rootless) {
        (Owners::Mapped(uids, gids), _) => {
            let lines =
                |ranges: &[super::unpack::IdRange]| ranges.iter().map(|r| IdMapping { container_id: r.container, host_id: r.host, size: r.size }).collect();
            Some((lines(uids), lines(gids)))
        }
        (_, Some((uid, gid))) => Some((vec![IdMapping { container_id: 0, host_id: uid, size: 1 }], vec![IdMapping { container_id: 0, host_id: gid, size: 1 }])),
        _ => None,
    };
    if let Some((uids, gids)) = maps {
        linux.namespaces.push(namespace("user"));
        (linux.uid_mappings, linux.gid_mappings) = (uids, gids);
    }
    if wishes.rootless.is_some() {
        // No right to make cgroups, and of the ids there is but root's.
        linux.resources = None;
        if let Some(process) = &mut spec.process {
            process.user.additional_gids.clear();
        }
        spec.mounts.retain(|m| m.destination != "/sys/fs/cgroup");
        spec.mounts.iter_mut().for_each(|m| m.options.retain(|option| option != "gid=5"));
    }
    if wishes.host_network {
        linux.namespaces.retain(|ns| ns.kind != "network");
        let bind = |path: &str| mount(path, "bind", path, &["rbind", "ro", "nosuid", "nodev"]);
        spec.mounts.extend(["/etc/resolv.conf", "/etc/hosts"].map(bind));
        if wishes.rootless.is_some() {
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
        convert(&config, root.as_fd(), &Owners::AsSaid, wishes)
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
