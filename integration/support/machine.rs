//! What is there on the machine: cgroups, processes, mounts, descriptors.

use std::fs;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All cgroup directories that have `id` in their last component, in every hierarchy, parents first.
pub fn cgroup_dirs(id: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, id: &str, inside: bool, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let ours = inside || entry.file_name().to_string_lossy().starts_with(id);
            if ours {
                found.push(entry.path());
            }
            if depth < 6 {
                walk(&entry.path(), id, ours, depth + 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), id, false, 0, &mut found);
    found
}

/// Processes that are in a cgroup of `id`, or carry it on their command line; zombies aside.
pub fn processes_of(id: &str) -> Vec<i32> {
    let ours = |pid: i32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |text: &[u8]| text.windows(id.len()).any(|w| w == id.as_bytes());
        let zombie = String::from_utf8_lossy(&read("stat")).rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        !zombie && (has(&read("cgroup")) || has(&read("cmdline")))
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() as i32 && ours(*pid)).collect()
}

/// `open_fd` at number `fd` in the child that `command` starts.
pub fn give_fd(command: &mut Command, open_fd: RawFd, fd: RawFd) {
    // SAFETY: dup2(2) and fcntl(2) are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let done = if open_fd == fd { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(open_fd, fd) };
            if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// A tmpfs at `dir`, until dropped.
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    pub fn new(dir: PathBuf, options: &str) -> Tmpfs {
        fs::create_dir_all(&dir).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&dir).status().unwrap();
        assert!(done.success(), "mount tmpfs");
        Tmpfs(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.0).stderr(Stdio::null()).status();
    }
}

/// A line of the mountinfo that `text` is, by its mount point.
pub fn mount_line<'t>(text: &'t str, point: &str) -> Option<&'t str> {
    text.lines().rfind(|l| l.split(' ').nth(4) == Some(point))
}

/// Its per-mount options.
#[track_caller]
pub fn mount_options<'t>(text: &'t str, point: &str) -> Vec<&'t str> {
    let line = mount_line(text, point).unwrap_or_else(|| panic!("nothing is mounted at {point}: {text}"));
    line.split(' ').nth(5).unwrap().split(',').collect()
}

/// A field of /proc/PID/status.
pub fn status_field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|l| l.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_string()
}
