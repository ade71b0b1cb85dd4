//! What is kept of a container: `state.json` in its directory, with runc's names where monitors read them.

use super::{StateReport, Status};
use crate::cgroup::{Cgroup, Unit};
use crate::spec;
use crate::sys::fs::read_file;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// The file in the container's directory.
pub const FILE: &str = "state.json";
/// What stands for it before the first process is known.
const CLAIM: &str = "claim.json";
/// A copy of the bundle's config.json as it was at `create`: later changes of the bundle have no effect.
pub const CONFIG: &str = "config.json";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub id: String,
    pub oci_version: String,
    /// 0 until the container's first process is known.
    pub init_process_pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot: a pid that was given again has another.
    pub init_process_start: u64,
    /// RFC 3339.
    pub created: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub annotations: BTreeMap<String, String>,
    pub owner_uid: u32,
    pub rootless_cgroups: bool,
    /// Controller → directory; "" for v2.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// systemd's unit, where it made the cgroup.
    pub systemd_unit: Option<Unit>,
    /// resctrl's group, if one is used, and whether it was made for this container.
    pub intel_rdt_path: Option<PathBuf>,
    pub intel_rdt_owned: bool,
    /// The limits in force, `update`s included.
    pub resources: spec::Resources,
}

impl Record {
    pub fn load(dir: &Path) -> Result<Record> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::read(dir.join(CLAIM)),
            other => other,
        };
        let text = text.map_err(|e| Error::io(&e, "reading the container's state", path.display().to_string()))?;
        // serde takes a list for an object, field by field.
        let object = text.trim_ascii_start().first() == Some(&b'{');
        let parsed = if object { serde_json::from_slice(&text).map_err(|e| e.to_string()) } else { Err("it is no JSON object".into()) };
        parsed.map_err(|e| Error::other("reading the container's state", path.display().to_string(), e))
    }

    /// Written beside and renamed: a reader sees the old or the new, never a part.
    pub fn save(&self, dir: &Path) -> Result<()> {
        write_renamed(&dir.join(FILE), &self.text()?)
    }

    /// Before anything else is made, so that `delete --force` finds it whatever happens. Not a first `state.json`: on
    /// ext4 a rename over a file that was just written waits for the disk.
    pub fn claim(&self, dir: &Path) -> Result<()> {
        let path = dir.join(CLAIM);
        std::fs::write(&path, self.text()?).map_err(|e| Error::io(&e, "writing", path.display().to_string()))
    }

    /// The first process is known: the state takes the claim's place.
    pub fn redeem(&self, dir: &Path) -> Result<()> {
        self.save(dir)?;
        let path = dir.join(CLAIM);
        std::fs::remove_file(&path).map_err(|e| Error::io(&e, "removing", path.display().to_string()))
    }

    fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::other("writing the container's state", "", e))
    }

    pub fn cgroup(&self) -> Cgroup {
        Cgroup::from_paths(&self.cgroup_paths, self.rootless_cgroups).with_unit(self.systemd_unit.clone())
    }

    pub fn report(&self, status: Status) -> StateReport {
        StateReport {
            oci_version: spec::OCI_VERSION.into(),
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.init_process_pid },
            status,
            bundle: self.bundle.display().to_string(),
            rootfs: self.rootfs.display().to_string(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: user_name(self.owner_uid),
        }
    }

    /// What a hook gets on its stdin (runtime.md § State).
    pub fn hook_state(&self, status: &str, pid: i32) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct State<'a> {
            oci_version: &'a str,
            id: &'a str,
            status: &'a str,
            #[serde(skip_serializing_if = "is_zero")]
            pid: i32,
            bundle: &'a Path,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'a BTreeMap<String, String>,
        }
        let state = State { oci_version: spec::OCI_VERSION, id: &self.id, status, pid, bundle: &self.bundle, annotations: &self.annotations };
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// The same in two parts, around the pid, for hooks that the child runs and whose pid only it knows.
    pub fn hook_state_around_pid(&self, status: &str) -> (Vec<u8>, Vec<u8>) {
        // A pid that no other value of the state can be mistaken for.
        const MARK: i32 = i32::MAX - 1;
        let text = self.hook_state(status, MARK);
        let mark = format!("\"pid\":{MARK}").into_bytes();
        let at = text.windows(mark.len()).position(|w| w == mark).unwrap_or(0);
        let before = text[..at].iter().copied().chain(*b"\"pid\":").collect();
        (before, text[at + mark.len()..].to_vec())
    }
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// Write `text` to a file beside `path`, then rename it into place.
pub fn write_renamed(path: &Path, text: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let failed = |e: std::io::Error| {
        let _ = std::fs::remove_file(&beside);
        Error::io(&e, "writing", path.display().to_string())
    };
    std::fs::write(&beside, text).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

/// The name of `uid` in the host's /etc/passwd, or the number where it has none.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    });
    found.unwrap_or_else(|| uid.to_string())
}

/// What /proc/PID/stat says: its state letter and its start time; None when there is no such process.
pub fn process_stat(pid: i32) -> Option<(u8, u64)> {
    if pid <= 0 {
        return None;
    }
    let path = CString::new(format!("/proc/{pid}/stat")).ok()?;
    let mut buf = [0; 4096];
    let stat = read_file(&path, &mut buf).ok()?;
    // The name, field 2, may hold anything; fields count from the last parenthesis.
    let rest = &stat[stat.iter().rposition(|b| *b == b')')? + 2..];
    let rest = std::str::from_utf8(rest).ok()?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.bytes().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}
