//! What a step does, in words: for the sentence of an error and for `explain`.

use super::namespaces::names_of_flags;
use super::op::*;
use std::path::Path;

/// A config's field as people write it: `/mounts/6` → `mounts[6]`, `/linux/sysctl/net.ipv4.ip_forward` →
/// `linux.sysctl["net.ipv4.ip_forward"]`. The argument is a JSON pointer (RFC 6901).
pub fn human_field(pointer: &str) -> String {
    let mut out = String::new();
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        if !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(&format!("[{token}]"));
        } else if !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&token);
        } else {
            out.push_str(&format!("[{token:?}]"));
        }
    }
    out
}

impl Op {
    /// As the beginning of an error's sentence: `mounting tmpfs on /dev/shm`.
    pub fn describe(&self) -> String {
        match self {
            Op::JoinNamespace(join) => join.describe(),
            Op::JoinContainer { flags } => format!("joining the container's {} namespaces", names_of_flags(*flags)),
            Op::Unshare { flags } => format!("creating a new {} namespace", names_of_flags(*flags)),
            Op::SecondFork => "forking into the new namespaces".into(),
            Op::AwaitIdMaps => "waiting for the id mappings".into(),
            Op::AwaitTimeOffsets => "waiting for the time offsets".into(),
            Op::JoinCgroup => "waiting to be put into the cgroup".into(),
            Op::NewSession => "creating a new session".into(),
            Op::SessionKeyring { name, label, .. } if label.is_empty() => format!("joining the session keyring {name}"),
            Op::SessionKeyring { name, label, .. } => format!("joining the session keyring {name} with the label {label}"),
            Op::LoopbackUp => "bringing up the loopback interface".into(),
            Op::PrepareRoot { rootfs, .. } => format!("preparing the rootfs {}", rootfs.display()),
            Op::Mount(mount) => mount.describe(),
            Op::Device(device) => format!("creating device node {}", device.path.display()),
            Op::Symlink { path, target, .. } => format!("creating symlink {} to {target}", path.display()),
            Op::HostHooks => "waiting for network devices, and the prestart and createRuntime hooks".into(),
            Op::Hooks { phase, .. } => format!("running {phase} hooks"),
            Op::Console { .. } => "setting up the console".into(),
            Op::EnterRoot { how: EnterRoot::Pivot } => "pivoting into the rootfs".into(),
            Op::EnterRoot { how: EnterRoot::MoveMount } => "moving the rootfs over /".into(),
            Op::EnterRoot { how: EnterRoot::Chroot } => "changing the root to the rootfs".into(),
            Op::RootPropagation { .. } => "setting the propagation of the root mount".into(),
            Op::MakeDirectory { path } => format!("creating the directory {}", path.display()),
            Op::ReopenDevNull => "reopening /dev/null inside the container".into(),
            Op::RemountReadonly { path } => format!("making the mount on {} read-only", path.display()),
            Op::Hostname { name } => format!("setting the hostname to {name}"),
            Op::Domainname { name } => format!("setting the domainname to {name}"),
            Op::Sysctl { key, value } => format!("setting sysctl {key} to {value:?}"),
            Op::ReadonlyPath { path } => format!("making {} read-only", path.display()),
            Op::MaskPath { path } => format!("masking {}", path.display()),
            other => other.describe_process(),
        }
    }

    /// The second half: what concerns the process itself.
    fn describe_process(&self) -> String {
        match self {
            Op::Umask { mask } => format!("setting the umask to {mask:04o}"),
            Op::Scheduler(_) => "setting the scheduler".into(),
            Op::IoPriority { .. } => "setting the I/O priority".into(),
            Op::Affinity { after_cgroup: false, .. } => "setting the initial CPU affinity".into(),
            Op::Affinity { cpus, .. } if cpus.is_empty() => "resetting the CPU affinity".into(),
            Op::Affinity { .. } => "setting the final CPU affinity".into(),
            Op::MemoryPolicy { .. } => "setting the memory policy".into(),
            Op::Personality { .. } => "setting the personality".into(),
            Op::Apparmor { profile } => format!("applying apparmor profile {profile}"),
            Op::Selinux { label } => format!("setting the process label to {label}"),
            Op::NoNewPrivileges => "setting no_new_privs".into(),
            Op::Seccomp => "installing the seccomp filter".into(),
            Op::Rlimit(limit) => format!("error setting rlimits for process: setting {} to {}:{}", limit.name, limit.soft, limit.hard),
            Op::BoundingSet { .. } => "applying the capability bounding set".into(),
            Op::SetIds { uid, gid, .. } => format!("becoming uid {uid}, gid {gid}"),
            Op::Capabilities { .. } => "applying the capabilities".into(),
            Op::Chdir { path, .. } => format!("changing to the working directory {}", path.display()),
            Op::FindProgram { program, .. } => format!("looking for the program {program:?}"),
            Op::AwaitStart => "waiting for start".into(),
            Op::Exec { args, .. } => format!("executing {:?}", args.first().map_or("", String::as_str)),
            // All others are in `describe`, which is what a test holds.
            _ => String::new(),
        }
    }
}

impl Join {
    /// `joining the network namespace /run/netns/x`.
    pub fn describe(&self) -> String {
        format!("joining the {} namespace {}", self.kind.title(), self.path.display())
    }
}

impl MountOp {
    fn describe(&self) -> String {
        let on = |what: &str| format!("error mounting {what:?} to rootfs at {:?}", self.destination.display().to_string());
        match &self.source {
            MountSource::Bind { path, .. } => on(&path.display().to_string()),
            MountSource::Filesystem { fs, source, .. } if source.is_empty() || fs == source => on(fs),
            // Only a source that is a path tells anything: `shm` for /dev/shm does not.
            MountSource::Filesystem { fs, source, .. } if Path::new(source).is_absolute() => on(&format!("{fs} {source}")),
            MountSource::Filesystem { fs, .. } => on(fs),
            MountSource::Remount { .. } => format!("remounting {}", self.destination.display()),
            MountSource::PropagationOnly => format!("setting the propagation of {}", self.destination.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::human_field;

    #[test]
    fn fields_for_people() {
        for (pointer, text) in [
            ("", ""),
            ("/mounts/6", "mounts[6]"),
            ("/process/user/additionalGids/0", "process.user.additionalGids[0]"),
            ("/linux/sysctl/net.ipv4.ip_forward", "linux.sysctl[\"net.ipv4.ip_forward\"]"),
            ("/annotations/a~1b~0c", "annotations[\"a/b~c\"]"),
        ] {
            assert_eq!(human_field(pointer), text);
        }
    }
}
