//! config.md § Process.

use super::object;

object! {
    /// config.md § Process and § Linux Process.
    Process {
        terminal: bool,
        console_size: Option<ConsoleSize>,
        user: User,
        args: Vec<String>,
        env: Vec<String>,
        cwd: String,
        capabilities: Option<Capabilities>,
        rlimits: Vec<Rlimit>,
        no_new_privileges: bool,
        apparmor_profile: String,
        oom_score_adj: Option<i32>,
        scheduler: Option<Scheduler>,
        selinux_label: String,
        io_priority: Option<IoPriority>,
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<CpuAffinity>,
    }
}

object! {
    /// Characters.
    ConsoleSize {
        height: u16,
        width: u16,
    }
}

object! {
    /// config.md § User. `umask` is a number, not an octal string.
    User {
        uid: u32,
        gid: u32,
        umask: Option<u32>,
        additional_gids: Vec<u32>,
        username: String,
    }
}

object! {
    /// Names as `CAP_CHOWN`; an unknown name is warned of and dropped, as runc does.
    Capabilities {
        bounding: Vec<String>,
        effective: Vec<String>,
        inheritable: Vec<String>,
        permitted: Vec<String>,
        ambient: Vec<String>,
    }
}

/// One resource limit: `RLIMIT_NOFILE`, …
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "super::u64_or_minus_one")]
    pub hard: u64,
    #[serde(deserialize_with = "super::u64_or_minus_one")]
    pub soft: u64,
}

object! {
    /// sched_setattr(2); runtime, deadline and period in nanoseconds.
    Scheduler {
        policy: String,
        nice: i32,
        priority: i32,
        flags: Vec<String>,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
}

object! {
    /// ioprio_set(2).
    IoPriority {
        class: String,
        priority: i32,
    }
}

object! {
    /// CPU lists (`0-3,7`) for processes that `exec` starts: before and after they join the container's cgroup.
    CpuAffinity {
        initial: String,
        #[serde(rename = "final")]
        last: String,
    }
}
