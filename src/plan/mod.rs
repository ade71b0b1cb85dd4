//! (Spec, Host, Options) → [`Plan`]: what will be done, in order, as pure data.
//!
//! Nothing here touches the machine: `explain` prints a plan without root, the golden plans in `conformance/` are
//! tests of it, and the order that matters for security stands in [`build()`], one visible place. `stage` freezes a
//! plan into what the child applies.

mod build;
mod capabilities;
mod cgroup_mounts;
mod console;
mod describe;
mod devices;
mod env;
pub mod explain;
mod mounts;
mod namespaces;
mod op;
mod options;
mod paths;
mod process;

pub use build::{Options, build, build_exec};
pub use capabilities::{CapSet, capability_names, parse_capability};
pub use describe::human_field;
pub use namespaces::namespace_names;
pub use op::*;
pub use options::mount_option_names;
pub use process::{memory_policy_flags, memory_policy_modes};

use options::propagation;
