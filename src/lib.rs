//! dhow, a low-level OCI container runtime.
//!
//! The modules in the order in which a `create` passes through them; arrows run down only
//! (`conformance/architecture.rs` holds this):
//!
//! `cli` → `container` → `stage` → {`cgroup`, `seccomp`, `plan`} → `spec`; `plan`, `cgroup` → `host`;
//! `host`, `stage`, `cgroup`, `container` → `sys`; `stage` → `idmap` → {`spec`, `sys`}. Apart from them, for dhowctl:
//! `cli::ctl` → `image` → {`idmap`, `spec`, `sys`}.

pub mod cgroup; // v1, v2, hybrid, device programs
pub mod cli; // one file a command: arguments → one library call → print
pub mod container; // the store, its lock, state.json, the lifecycle
pub mod error;
pub mod host; // read-only facts about this machine
pub mod idmap; // user namespaces and their id maps
#[cfg(feature = "image")]
pub mod image; // registries, the image store; only dhowctl has it
pub mod log;
pub mod plan; // (Spec, Host, Options) → Plan, pure data
pub mod seccomp; // profile → decision table → range tree → BPF
pub mod spec; // config.json → Spec; validate
pub mod stage; // the plan frozen, the child that applies it, the parent that supervises
pub mod sys; // the only unsafe: system calls // one line an event, where `--log` says

pub use error::{Error, Kind, Result};
