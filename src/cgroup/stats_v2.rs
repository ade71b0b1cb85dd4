//! v2's files → [`Stats`], under v1's names, as runc has them (cgroup-v2.rst § Controllers).

use super::stats::{BlkioEntry, HugetlbStats, MemoryEntry, Psi, PsiLine, Stats, huge_page_sizes};
use super::{Cgroup, file, processes};
use crate::Result;
use std::io;
use std::path::Path;

pub fn read(cgroup: &Cgroup) -> Result<Stats> {
    let dir = cgroup.require_primary("reading the container's statistics")?;
    let mut stats = Stats::default();
    let readers: [fn(&Path, &mut Stats) -> io::Result<()>; 5] = [pids, memory, io, cpu, hugetlb];
    for reader in readers {
        match reader(dir, &mut stats) {
            Ok(()) => {}
            // A user may lack the right to some of the files; what can be had is worth having.
            Err(_) if cgroup.rootless => {}
            Err(e) => return Err(file::failure(&e, "reading the statistics in", dir, "")),
        }
    }
    Ok(stats)
}

fn number_or_zero(dir: &Path, name: &str) -> io::Result<u64> {
    Ok(file::if_there(file::read_number(dir, name))?.unwrap_or(0))
}

fn pids(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let Some(current) = file::if_there(file::read_number(dir, "pids.current"))? else {
        // Without the controller, count them.
        stats.pids.current = processes::of(dir)?.len() as u64;
        return Ok(());
    };
    stats.pids.current = current;
    stats.pids.limit = Some(number_or_zero(dir, "pids.max")?).filter(|max| *max != u64::MAX).unwrap_or(0);
    Ok(())
}

fn memory(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let out = &mut stats.memory;
    out.psi = pressure(dir, "memory.pressure")?;
    let Some(text) = file::if_there(file::read(dir, "memory.stat"))? else { return Ok(()) };
    out.raw = file::keyed(&text).map(|(key, n)| (key.to_string(), n)).collect();
    out.cache = out.raw.get("file").copied().unwrap_or(0);
    out.usage = memory_entry(dir, "memory")?;
    // v1's "swap" is memory and swap together; a peak of both at once can't be told.
    let swap = memory_entry(dir, "memory.swap")?;
    let limit = if swap.limit == u64::MAX { u64::MAX } else { swap.limit.saturating_add(out.usage.limit) };
    out.swap = MemoryEntry { usage: swap.usage + out.usage.usage, limit, ..MemoryEntry::default() };
    Ok(())
}

/// `.peak` is there from Linux 5.19 on, for swap from 6.5, and no swap file without swap accounting.
fn memory_entry(dir: &Path, module: &str) -> io::Result<MemoryEntry> {
    let number = |name: &str| number_or_zero(dir, &format!("{module}.{name}"));
    Ok(MemoryEntry { usage: number("current")?, limit: number("max")?, max: number("peak")?, failcnt: 0 })
}

fn cpu(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let out = &mut stats.cpu;
    out.psi = pressure(dir, "cpu.pressure")?;
    let Some(text) = file::if_there(file::read(dir, "cpu.stat"))? else { return Ok(()) };
    for (key, n) in file::keyed(&text) {
        match key {
            "usage_usec" => out.usage.total = n * 1000,
            "user_usec" => out.usage.user = n * 1000,
            "system_usec" => out.usage.kernel = n * 1000,
            "nr_periods" => out.throttling.periods = n,
            "nr_throttled" => out.throttling.throttled_periods = n,
            "throttled_usec" => out.throttling.throttled_time = n * 1000,
            _ => {}
        }
    }
    Ok(())
}

fn io(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    let out = &mut stats.blkio;
    out.psi = pressure(dir, "io.pressure")?;
    let Some(text) = file::if_there(file::read(dir, "io.stat"))? else { return Ok(()) };
    for (op_key, op, bytes) in [("rbytes", "Read", true), ("wbytes", "Write", true), ("rios", "Read", false), ("wios", "Write", false)] {
        let table = if bytes { &mut out.io_service_bytes_recursive } else { &mut out.io_serviced_recursive };
        table.extend(text.lines().filter_map(|line| parse_io_line(line, op_key, op)));
    }
    Ok(())
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …`.
fn parse_io_line(line: &str, key: &str, op: &str) -> Option<BlkioEntry> {
    let mut fields = line.split_whitespace();
    let (major, minor) = fields.next()?.split_once(':')?;
    let value = fields.find_map(|f| f.strip_prefix(key)?.strip_prefix('='))?;
    Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op: op.into(), value: value.parse().ok()? })
}

fn hugetlb(dir: &Path, stats: &mut Stats) -> io::Result<()> {
    for size in huge_page_sizes() {
        for name in [format!("hugetlb.{size}.rsvd.current"), format!("hugetlb.{size}.current")] {
            if let Some(usage) = file::if_there(file::read_number(dir, &name))? {
                let failcnt = file::if_there(file::read_keyed(dir, &format!("hugetlb.{size}.events"), "max"))?.unwrap_or(0);
                stats.hugetlb.insert(size, HugetlbStats { usage, max: 0, failcnt });
                break;
            }
        }
    }
    Ok(())
}

/// None on a kernel without PSI (before 4.20), with PSI switched off for this cgroup, or for the machine (EOPNOTSUPP).
fn pressure(dir: &Path, name: &str) -> io::Result<Option<Psi>> {
    match file::if_there(file::read(dir, name)) {
        Ok(text) => Ok(text.map(|text| parse_pressure(&text))),
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse_pressure(text: &str) -> Psi {
    let line = |kind: &str| {
        let mut out = PsiLine::default();
        let fields = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or("");
        for (key, value) in fields.split_whitespace().filter_map(|f| f.split_once('=')) {
            match key {
                "avg10" => out.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => out.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => out.avg300 = value.parse().unwrap_or(0.0),
                "total" => out.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        out
    };
    Psi { some: line("some "), full: line("full ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_lines() {
        let psi = parse_pressure("some avg10=1.50 avg60=0.00 avg300=0.02 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
        assert_eq!((psi.some.avg10, psi.some.avg300, psi.some.total, psi.full.total), (1.5, 0.02, 42, 7));
    }

    #[test]
    fn io_lines() {
        let line = "8:16 rbytes=4096 wbytes=12 rios=3 wios=1 dbytes=0 dios=0";
        assert_eq!(parse_io_line(line, "rios", "Read"), Some(BlkioEntry { major: 8, minor: 16, op: "Read".into(), value: 3 }));
        assert_eq!(parse_io_line("8:16", "rios", "Read"), None);
    }
}
