//! `linux.memoryPolicy`, as the kernel shows it of the running process.

#[macro_use]
mod support;

use serde_json::json;
use support::Bundle;

#[test]
fn the_policy_of_new_pages() {
    needs_root!();
    for (policy, shown) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
    ] {
        let b = Bundle::new("mempolicy");
        if !std::path::Path::new("/proc/self/numa_maps").exists() {
            skip!("a kernel with NUMA (no /proc/self/numa_maps)");
        }
        b.set("/linux/memoryPolicy", policy.clone()).sh("grep stack /proc/self/numa_maps");
        let ran = b.run();
        let line = ran.ok();
        assert_eq!(line.split(' ').nth(1), Some(shown), "{policy}: {line}");
    }
}
