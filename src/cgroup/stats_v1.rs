//! v1's files → [`Stats`] (cgroup-v1/{cpuacct,cpusets,memory,blkio-controller,hugetlb,pids}.rst).

use super::stats::{BlkioEntry, CpuUsage, HugetlbStats, MemoryEntry, Stats, Throttling, huge_page_sizes};
use super::{Cgroup, file};
use crate::Result;
use std::io;
use std::path::Path;

/// Fills in what one controller's directory tells.
type Reader = fn(&Path, &mut Stats) -> io::Result<()>;

pub fn read(cgroup: &Cgroup) -> Result<Stats> {
    let mut stats = Stats::default();
    let readers: [(&str, Reader); 7] =
        [("cpu", throttling), ("cpuacct", cpu_usage), ("cpuset", cpuset), ("memory", memory), ("pids", pids), ("blkio", blkio), ("hugetlb", hugetlb)];
    for (controller, reader) in readers {
        if let Some(dir) = cgroup.path(controller) {
            reader(dir, &mut stats).map_err(|e| file::failure(&e, &format!("reading the {controller} statistics in"), dir, ""))?;
        }
    }
    Ok(stats)
}

/// The number in a file, 0 where this kernel has no such file.
fn number_or_zero(dir: &Path, name: &str) -> io::Result<u64> {
    Ok(file::if_there(file::read_number(dir, name))?.unwrap_or(0))
}

fn throttling(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let Some(text) = file::if_there(file::read(dir, "cpu.stat"))? else { return Ok(()) };
    let value = |key| file::keyed(&text).find(|(k, _)| *k == key).map_or(0, |(_, n)| n);
    stats.cpu.throttling = Throttling { periods: value("nr_periods"), throttled_periods: value("nr_throttled"), throttled_time: value("throttled_time") };
    Ok(())
}

/// cpuacct.stat counts in ticks of USER_HZ, which is 100 on every architecture that Rust runs on.
const NANOSECONDS_A_TICK: u64 = 1_000_000_000 / 100;

fn cpu_usage(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let Some(text) = file::if_there(file::read(dir, "cpuacct.stat"))? else { return Ok(()) };
    let ticks = |key| file::keyed(&text).find(|(k, _)| *k == key).map_or(0, |(_, n)| n * NANOSECONDS_A_TICK);
    let mut usage = CpuUsage { user: ticks("user"), kernel: ticks("system"), ..CpuUsage::default() };
    usage.total = number_or_zero(dir, "cpuacct.usage")?;
    if let Some(text) = file::if_there(file::read(dir, "cpuacct.usage_percpu"))? {
        usage.percpu = text.split_whitespace().filter_map(file::parse_number).collect();
    }
    // Lines of `cpu user system` below a heading.
    if let Some(text) = file::if_there(file::read(dir, "cpuacct.usage_all"))? {
        for line in text.lines().skip(1) {
            let mut fields = line.split(' ').skip(1).filter_map(file::parse_number);
            if let (Some(user), Some(kernel)) = (fields.next(), fields.next()) {
                usage.percpu_user.push(user);
                usage.percpu_kernel.push(kernel);
            }
        }
    }
    stats.cpu.usage = usage;
    Ok(())
}

fn cpuset(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let prefix = super::create::cpuset_prefix(dir);
    let number = |name: &str| number_or_zero(dir, &format!("{prefix}{name}"));
    let list = |name: &str| -> io::Result<Vec<u16>> {
        let text = file::if_there(file::read(dir, &format!("{prefix}{name}")))?.unwrap_or_default();
        parse_list(text.trim()).ok_or_else(|| io::Error::other(format!("{text:?} is no list of numbers")))
    };
    let out = &mut stats.cpuset;
    (out.cpus, out.mems) = (list("cpus")?, list("mems")?);
    out.cpu_exclusive = number("cpu_exclusive")?;
    out.mem_hardwall = number("mem_hardwall")?;
    out.mem_exclusive = number("mem_exclusive")?;
    out.memory_migrate = number("memory_migrate")?;
    out.memory_spread_page = number("memory_spread_page")?;
    out.memory_spread_slab = number("memory_spread_slab")?;
    out.memory_pressure = number("memory_pressure")?;
    out.sched_load_balance = number("sched_load_balance")?;
    // The one that may be negative: -1 is "the system's default".
    let level = file::if_there(file::read(dir, &format!("{prefix}sched_relax_domain_level")))?;
    out.sched_relax_domain_level = level.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Ok(())
}

/// `0-3,7` (cpuset(7) § List format).
pub(super) fn parse_list(text: &str) -> Option<Vec<u16>> {
    let mut out = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        out.extend(if from <= to { from..=to } else { return None });
    }
    Some(out)
}

fn memory(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let Some(text) = file::if_there(file::read(dir, "memory.stat"))? else { return Ok(()) };
    let out = &mut stats.memory;
    out.raw = file::keyed(&text).map(|(key, n)| (key.to_string(), n)).collect();
    out.cache = out.raw.get("cache").copied().unwrap_or(0);
    out.usage = memory_entry(dir, "memory")?;
    // These depend on the kernel's configuration.
    out.swap = memory_entry(dir, "memory.memsw")?;
    out.kernel = memory_entry(dir, "memory.kmem")?;
    out.kernel_tcp = memory_entry(dir, "memory.kmem.tcp")?;
    Ok(())
}

fn memory_entry(dir: &Path, module: &str) -> io::Result<MemoryEntry> {
    let number = |name: &str| number_or_zero(dir, &format!("{module}.{name}"));
    Ok(MemoryEntry { usage: number("usage_in_bytes")?, max: number("max_usage_in_bytes")?, failcnt: number("failcnt")?, limit: number("limit_in_bytes")? })
}

fn pids(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    stats.pids.current = number_or_zero(dir, "pids.current")?;
    // No limit has always been printed as 0.
    stats.pids.limit = Some(number_or_zero(dir, "pids.max")?).filter(|max| *max != u64::MAX).unwrap_or(0);
    Ok(())
}

/// Whose counters there are depends on the I/O scheduler. The first set that is there counts: BFQ with its debugging
/// files, BFQ, CFQ, else what the throttling layer counts, over the children if the kernel can.
fn blkio(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    const ALL: [&str; 8] = ["io_serviced", "io_service_bytes", "sectors", "io_service_time", "io_wait_time", "io_merged", "io_queued", "time"];
    let sets: [(&str, &[&str], &str); 5] = [
        ("blkio.bfq.", &ALL, "_recursive"),
        ("blkio.bfq.", &ALL[..2], "_recursive"),
        ("blkio.", &ALL, "_recursive"),
        ("blkio.throttle.", &ALL[..2], "_recursive"),
        ("blkio.throttle.", &ALL[..2], ""),
    ];
    for (prefix, names, suffix) in sets {
        let tables = names.iter().map(|name| blkio_table(dir, &format!("{prefix}{name}{suffix}"))).collect::<io::Result<Option<Vec<_>>>>()?;
        let Some(tables) = tables else { continue };
        let out = &mut stats.blkio;
        let slots = [
            &mut out.io_serviced_recursive,
            &mut out.io_service_bytes_recursive,
            &mut out.sectors_recursive,
            &mut out.io_service_time_recursive,
            &mut out.io_wait_time_recursive,
            &mut out.io_merged_recursive,
            &mut out.io_queued_recursive,
            &mut out.io_time_recursive,
        ];
        slots.into_iter().zip(tables).for_each(|(slot, table)| *slot = table);
        break;
    }
    Ok(())
}

/// None where there is no such file.
fn blkio_table(dir: &Path, name: &str) -> io::Result<Option<Vec<BlkioEntry>>> {
    let text = file::if_there(file::read(dir, name))?;
    Ok(text.map(|text| text.lines().filter_map(parse_blkio_line).collect()))
}

/// `8:0 Read 4096` or `8:0 4096`; the line of the grand total, `Total 4096`, is none of a device.
fn parse_blkio_line(line: &str) -> Option<BlkioEntry> {
    let fields: Vec<&str> = line.split([' ', ':']).filter(|f| !f.is_empty()).collect();
    let (major, minor, op, value) = match fields[..] {
        [major, minor, op, value] => (major, minor, op, value),
        [major, minor, value] => (major, minor, "", value),
        _ => return None,
    };
    Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op: op.into(), value: file::parse_number(value)? })
}

fn hugetlb(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    for size in huge_page_sizes() {
        // Reservations include the pages in use; older kernels count those alone.
        for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
            if let Some(usage) = file::if_there(file::read_number(dir, &format!("{prefix}.usage_in_bytes")))? {
                let max = number_or_zero(dir, &format!("{prefix}.max_usage_in_bytes"))?;
                let failcnt = number_or_zero(dir, &format!("{prefix}.failcnt"))?;
                stats.hugetlb.insert(size, HugetlbStats { usage, max, failcnt });
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("x"), None);
    }

    #[test]
    fn blkio_lines() {
        let entry = parse_blkio_line("8:16 Read 4096").unwrap();
        assert_eq!((entry.major, entry.minor, entry.op.as_str(), entry.value), (8, 16, "Read", 4096));
        assert_eq!(parse_blkio_line("8:0 6792").unwrap().value, 6792);
        assert_eq!(parse_blkio_line("Total 5"), None);
    }
}
