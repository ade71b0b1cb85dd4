//! `update`: change the limits of a container.

use super::Verb;
use super::args::{path, text};
use super::call::Call;
use crate::log;
use crate::spec::{self, BlockIo, Cpu, Memory, Pids, Resources};
use anyhow::{Context, Result, anyhow};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

pub(crate) const VERB: Verb = Verb { name: "update", about: "change the resource limits of a container", flags, run, ..Verb::BASE };

fn flags() -> Vec<clap::Arg> {
    vec![
        path("resources", "FILE", "take all limits from a JSON file, as config.json's `linux.resources` (-: standard input)").short('r'),
        text("blkio-weight", "N", "relative share of block I/O, 10 to 1000"),
        text("cpu-period", "MICROSECONDS", "period of the CPU limit"),
        text("cpu-quota", "MICROSECONDS", "CPU time in each period; -1: unlimited"),
        text("cpu-burst", "MICROSECONDS", "CPU time that may be saved up for a burst"),
        text("cpu-share", "N", "relative share of CPU time"),
        text("cpu-rt-period", "MICROSECONDS", "period of the real-time limit"),
        text("cpu-rt-runtime", "MICROSECONDS", "real-time CPU time in each period"),
        text("cpuset-cpus", "LIST", "CPUs to run on, as 0-2,7"),
        text("cpuset-mems", "LIST", "memory nodes to use, as 0-2,7"),
        text("cpu-idle", "0|1", "1: run only when nothing else would (SCHED_IDLE)"),
        text("memory", "BYTES", "memory limit, as 64m; -1: unlimited"),
        text("memory-reservation", "BYTES", "memory that is spared when the host runs short"),
        text("memory-swap", "BYTES", "limit of memory and swap together; -1: unlimited"),
        text("kernel-memory", "BYTES", "ignored: no kernel has this limit any more").hide(true),
        text("kernel-memory-tcp", "BYTES", "ignored: no kernel has this limit any more").hide(true),
        text("pids-limit", "N", "how many processes there may be; -1: unlimited"),
        text("l3-cache-schema", "SCHEMA", "Intel RDT: L3 cache schema"),
        text("mem-bw-schema", "SCHEMA", "Intel RDT: memory bandwidth schema"),
    ]
}

fn run(call: &Call) -> Result<u8> {
    let resources = match call.path("resources") {
        Some(file) => read_resources(&file)?,
        None => from_flags(&|name| call.text(name))?,
    };
    if resources.memory.as_ref().is_some_and(|memory| memory.kernel.is_some() || memory.kernel_tcp.is_some()) {
        log::warn("Kernel memory settings are ignored and will be removed");
    }
    let rdt = (call.text("l3-cache-schema"), call.text("mem-bw-schema"));
    let rdt = match rdt {
        (None, None) => None,
        (l3, mem) => Some((l3.unwrap_or_default().to_string(), mem.unwrap_or_default().to_string())),
    };
    call.context.update(call.id()?, &resources, rdt)?;
    Ok(0)
}

fn read_resources(file: &Path) -> Result<Resources> {
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).context("reading resources from standard input")?;
    } else {
        text = std::fs::read(file).with_context(|| format!("reading --resources {}", file.display()))?;
    }
    Ok(spec::parse_resources(&text)?)
}

/// Only what was given is set: an absent field means "as it is".
fn from_flags<'a>(flag: &dyn Fn(&str) -> Option<&'a str>) -> Result<Resources> {
    let memory = Memory {
        limit: size(flag, "memory")?,
        reservation: size(flag, "memory-reservation")?,
        swap: size(flag, "memory-swap")?,
        kernel: size(flag, "kernel-memory")?,
        kernel_tcp: size(flag, "kernel-memory-tcp")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: number(flag, "cpu-share")?,
        quota: number(flag, "cpu-quota")?,
        burst: number(flag, "cpu-burst")?,
        period: number(flag, "cpu-period")?,
        realtime_runtime: number(flag, "cpu-rt-runtime")?,
        realtime_period: number(flag, "cpu-rt-period")?,
        cpus: flag("cpuset-cpus").unwrap_or_default().into(),
        mems: flag("cpuset-mems").unwrap_or_default().into(),
        idle: number(flag, "cpu-idle")?,
    };
    // To runc, and so to its callers, weight 0 is no weight.
    let block_io = BlockIo { weight: number(flag, "blkio-weight")?.filter(|&weight| weight != 0), ..BlockIo::default() };
    let pids = Pids { limit: number(flag, "pids-limit")? };
    Ok(Resources { memory: some(memory), cpu: some(cpu), pids: some(pids), block_io: some(block_io), ..Resources::default() })
}

/// None for an object of which nothing is set.
fn some<T: Default + PartialEq>(object: T) -> Option<T> {
    Some(object).filter(|object| *object != T::default())
}

fn number<'a, T: FromStr<Err: std::fmt::Display>>(flag: &dyn Fn(&str) -> Option<&'a str>, name: &str) -> Result<Option<T>> {
    let parse = |text: &str| text.parse().map_err(|e| anyhow!("invalid value for {name}: {text:?}: {e}"));
    flag(name).map(parse).transpose()
}

fn size<'a>(flag: &dyn Fn(&str) -> Option<&'a str>, name: &str) -> Result<Option<i64>> {
    let parse = |text: &str| parse_size(text).ok_or_else(|| anyhow!("invalid value for {name}: {text:?} is not a size, as in 64m"));
    flag(name).map(parse).transpose()
}

/// Bytes: `-1`, or a number, maybe with a fraction and a unit: b, k, kb, kib, m … p, in any case, each 1024 of the last.
fn parse_size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        unit => {
            let (letter, rest) = unit.split_at_checked(1)?;
            if !matches!(rest, "" | "b" | "ib") {
                return None;
            }
            "kmgtp".find(letter)? as u32 + 1
        }
    };
    let scale = 1024_i64.pow(power);
    if let Ok(whole) = number.parse::<u64>() {
        return i64::try_from(whole).ok()?.checked_mul(scale);
    }
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    (0.0..=i64::MAX as f64).contains(&bytes).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let plain = [("0", 0), ("1024", 1024), ("7b", 7), ("-1", -1)];
        let units = [("64m", 64 << 20), ("64MB", 64 << 20), ("2GiB", 2 << 30), ("1.5k", 1536), ("10 kb", 10240), ("1p", 1 << 50)];
        for (text, bytes) in plain.into_iter().chain(units) {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-2", "-1m", "1x", "1mm", "1kbb", "1ki", "1 2", "1.2.3", "99999999p", "0x10", "inf", "nan"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_given_fields_are_set() {
        let none = from_flags(&|_| None).unwrap();
        assert_eq!(none, Resources::default());
        let given = from_flags(&|name| match name {
            "memory" => Some("32m"),
            "cpu-quota" => Some("-1"),
            "pids-limit" => Some("0"),
            "blkio-weight" => Some("0"),
            _ => None,
        });
        let expected = Resources {
            memory: Some(Memory { limit: Some(32 << 20), ..Memory::default() }),
            cpu: Some(Cpu { quota: Some(-1), ..Cpu::default() }),
            pids: Some(Pids { limit: Some(0) }),
            ..Resources::default()
        };
        assert_eq!(given.unwrap(), expected);
    }

    #[test]
    fn a_bad_number_names_its_flag() {
        let err = from_flags(&|name| (name == "cpu-period").then_some("1e3")).unwrap_err();
        assert!(err.to_string().starts_with("invalid value for cpu-period: \"1e3\""), "{err}");
    }
}
