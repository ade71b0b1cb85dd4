//! The spec speaks of cgroup v1; these are its numbers in v2's scales. Pure.
//!
//! Source: runtime-spec leaves it open, so these are runc's formulae (github.com/opencontainers/cgroups, which all
//! engines' users see in cpu.weight and io.weight).

use crate::{Error, Result};

/// cpu.shares (2…262144, default 1024) → cpu.weight (1…10000, default 100). None: unset.
///
/// 10^((log2(s)² + 125·log2(s))/612 − 7/34), rounded up: a curve through both ends and through the defaults. runc has
/// used it since 1.3; the line before it gave the default of 1024 a weight of 39.
pub fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let l = (shares as f64).log2();
            Some(10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64)
        }
    }
}

/// blkio.weight (10…1000) → io.weight (1…10000), linear. None: unset.
pub fn io_weight(weight: u16) -> Option<u64> {
    match weight {
        0 => None,
        w => Some(1 + u64::from(w.saturating_sub(10)) * 9999 / 990),
    }
}

/// The spec's swap limit counts memory and swap together, v2's swap alone. None: leave it as it is; -1: unlimited.
pub fn swap_alone(memory_and_swap: i64, memory: i64) -> Result<Option<i64>> {
    let wrong = |why: &str| Err(Error::invalid("/linux/resources/memory/swap", why));
    match (memory_and_swap, memory) {
        // Unlimited memory and not a word on swap means both, as on v1.
        (0, -1) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (-1, _) => Ok(Some(-1)),
        (swap, -1) => Ok(Some(swap)),
        (_, 0) => wrong("unable to set swap limit without memory limit"),
        (_, ..0) => wrong("the memory limit is negative, so there is nothing to subtract from memory+swap"),
        (swap, memory) if swap < memory => wrong("memory+swap limit should be >= memory limit"),
        (swap, memory) => Ok(Some(swap - memory)),
    }
}

/// pids.limit → pids.max. -1 (and any negative) is unlimited.
///
/// 0 means that none may be forked. pids.max counts the process that is in already, and systemd's TasksMax can't say
/// 0, so that 1 is what runc writes everywhere; the effect is the same.
pub fn pids_max(limit: i64) -> String {
    match limit {
        ..0 => "max".into(),
        0 => "1".into(),
        n => n.to_string(),
    }
}

/// A limit for a file that ends in .max, .low or .high. None: unset.
pub fn or_max(value: i64) -> Option<String> {
    match value {
        0 => None,
        -1 => Some("max".into()),
        n => Some(n.to_string()),
    }
}

/// cpu.max: `quota period`, either of which may be unset (0).
pub fn cpu_max(quota: i64, period: u64) -> String {
    // 100 ms is the kernel's own default (cgroup-v2.rst § cpu.max).
    let period = if period == 0 { 100_000 } else { period };
    if quota > 0 { format!("{quota} {period}") } else { format!("max {period}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight_meets_both_ends_and_the_default() {
        for (shares, weight) in [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (1024, Some(100)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
            (512, Some(59)),
            (2048, Some(174)),
            (4096, Some(303)),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn shares_to_weight_is_monotonic() {
        let weights: Vec<_> = (2..=262_144).step_by(97).map(cpu_weight).collect();
        assert!(weights.is_sorted());
    }

    #[test]
    fn blkio_weight() {
        for (from, to) in [(0, None), (10, Some(1)), (500, Some(4950)), (1000, Some(10_000)), (1, Some(1))] {
            assert_eq!(io_weight(from), to);
        }
    }

    #[test]
    fn swap() {
        assert_eq!(swap_alone(0, 0).unwrap(), None);
        assert_eq!(swap_alone(0, -1).unwrap(), Some(-1));
        assert_eq!(swap_alone(-1, 100).unwrap(), Some(-1));
        assert_eq!(swap_alone(300, -1).unwrap(), Some(300));
        assert_eq!(swap_alone(300, 100).unwrap(), Some(200));
        assert_eq!(swap_alone(100, 100).unwrap(), Some(0));
        for (swap, memory) in [(100, 0), (100, 200), (100, -5)] {
            assert!(swap_alone(swap, memory).is_err());
        }
    }

    #[test]
    fn pids_and_cpu() {
        assert_eq!((pids_max(-1), pids_max(0), pids_max(7)), ("max".into(), "1".into(), "7".into()));
        assert_eq!(cpu_max(-1, 0), "max 100000");
        assert_eq!(cpu_max(0, 5000), "max 5000");
        assert_eq!(cpu_max(2000, 5000), "2000 5000");
    }
}
