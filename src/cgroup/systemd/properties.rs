//! `/linux/resources` → systemd's properties of a scope (systemd.resource-control(5), org.freedesktop.systemd1(5)).
//!
//! systemd gets what it can express, so that it writes the same when it writes a cgroup's files again (a reload, another
//! property); the files themselves are written by [`super::super::v2`] after it. Which those are is runc's choice.

use super::message::{Property, Value};
use crate::cgroup::convert;
use crate::cgroup::devices::{Exceptions, Kind, RuleSet, access};
use crate::spec::{Cpu, Memory, Pids, Resources};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// systemd's infinity.
const MAX: u64 = u64::MAX;
/// From here on CPUWeight=0 means idle, as `CPUWeight=idle` in a unit file.
const IDLE_SINCE: u32 = 252;
const OOM_POLICY_SINCE: u32 = 253;

fn property(name: &str, value: Value) -> Property {
    (name.into(), value)
}

/// The limits. `version` is asked only where a property's meaning depends on it.
pub fn of(resources: &Resources, version: &mut dyn FnMut() -> u32) -> Result<Vec<Property>> {
    let mut out = Vec::new();
    let mut number = |name: &str, value: u64| out.push(property(name, Value::Uint64(value)));
    if let Some(memory) = &resources.memory {
        memory_limits(memory, &mut number)?;
    }
    if let Some(Pids { limit: Some(limit) }) = resources.pids {
        // TasksMax=0 is refused; see convert::pids_max.
        number("TasksMax", if limit < 0 { MAX } else { (limit as u64).max(1) });
    }
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut out, version)?;
    }
    for (key, value) in &resources.unified {
        unified(key, value.trim(), resources, &mut out, version)?;
    }
    Ok(out)
}

fn memory_limits(memory: &Memory, number: &mut dyn FnMut(&str, u64)) -> Result<()> {
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    // -1, "unlimited", becomes the largest number by itself.
    for (name, value) in [("MemoryMax", limit), ("MemoryLow", memory.reservation.unwrap_or(0))] {
        if value != 0 {
            number(name, value as u64);
        }
    }
    if let Some(alone) = convert::swap_alone(swap, limit)? {
        number("MemorySwapMax", alone as u64);
    }
    Ok(())
}

fn cpu_limits(cpu: &Cpu, out: &mut Vec<Property>, version: &mut dyn FnMut() -> u32) -> Result<()> {
    let idle = cpu.idle == Some(1) && version() >= IDLE_SINCE;
    let weight = if idle { Some(0) } else { cpu.shares.and_then(convert::cpu_weight) };
    out.extend(weight.map(|w| property("CPUWeight", Value::Uint64(w))));
    quota(cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0), out);
    for (name, field, list) in [("AllowedCPUs", "cpu/cpus", &cpu.cpus), ("AllowedMemoryNodes", "cpu/mems", &cpu.mems)] {
        if !list.is_empty() {
            let bits = bits(list).ok_or_else(|| Error::invalid(format!("/linux/resources/{field}"), format!("{list:?} is no list of numbers, as 0-3,7")))?;
            out.push(property(name, Value::Bytes(bits)));
        }
    }
    Ok(())
}

fn quota(quota: i64, period: u64, out: &mut Vec<Property>) {
    if period != 0 {
        out.push(property("CPUQuotaPeriodUSec", Value::Uint64(period)));
    }
    if quota != 0 || period != 0 {
        let per_second = if quota > 0 { per_second(quota, period) } else { MAX };
        out.push(property("CPUQuotaPerSecUSec", Value::Uint64(per_second)));
    }
}

/// systemd counts whole percents of a CPU, so a quota between two is rounded up.
fn per_second(quota: i64, period: u64) -> u64 {
    const PERCENT: u64 = 10_000;
    exact_per_second(quota, period).min(MAX - PERCENT).next_multiple_of(PERCENT)
}

/// Microseconds of CPU time in a second, rounded down.
fn exact_per_second(quota: i64, period: u64) -> u64 {
    (quota as u64).saturating_mul(1_000_000) / if period == 0 { 100_000 } else { period }
}

/// The quota as systemd will have it: the file must say the same, or the next reload would change it.
pub fn rounded(resources: &Resources) -> Resources {
    let mut out = resources.clone();
    if let Some(cpu) = &mut out.cpu
        && let Some(quota) = cpu.quota.filter(|q| *q > 0)
    {
        let period = cpu.period.filter(|p| *p != 0).unwrap_or(100_000);
        if !exact_per_second(quota, period).is_multiple_of(10_000) {
            cpu.quota = Some((per_second(quota, period).saturating_mul(period) / 1_000_000) as i64);
        }
    }
    out
}

/// `0-3,7` as the bits of bytes, least significant first.
fn bits(list: &str) -> Option<Vec<u8>> {
    /// More CPUs than any kernel has.
    const MOST: usize = 1 << 16;
    let mut out: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        out.resize(out.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|n| out[n / 8] |= 1 << (n % 8));
    }
    (!out.is_empty()).then_some(out)
}

/// A file of v2 that systemd has a property for; others it leaves alone.
fn unified(key: &str, value: &str, all: &Resources, out: &mut Vec<Property>, version: &mut dyn FnMut() -> u32) -> Result<()> {
    let wrong = || Error::invalid(format!("/linux/resources/unified/{}", crate::spec::escape_pointer(key)), format!("{value:?} is no value for {key}"));
    let limit = |value: &str| if value == "max" { Ok(MAX) } else { value.parse().map_err(|_| wrong()) };
    let idle = |version: &mut dyn FnMut() -> u32| all.unified.get("cpu.idle").is_some_and(|v| v.trim() == "1") && version() >= IDLE_SINCE;
    let mut number = |name: &str, value: u64| out.push(property(name, Value::Uint64(value)));
    match key {
        "memory.max" => number("MemoryMax", limit(value)?),
        "memory.high" => number("MemoryHigh", limit(value)?),
        "memory.low" => number("MemoryLow", limit(value)?),
        "memory.min" => number("MemoryMin", limit(value)?),
        "memory.swap.max" => number("MemorySwapMax", limit(value)?),
        "pids.max" => number("TasksMax", limit(value)?.max(1)),
        "cpu.idle" if idle(version) => number("CPUWeight", 0),
        "cpu.weight" if !idle(version) => number("CPUWeight", limit(value)?),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let of = match words.next() {
                Some("max") => 0,
                Some(digits) => digits.parse().map_err(|_| wrong())?,
                None => return Err(wrong()),
            };
            quota(of, words.next().map_or(Ok(100_000), |p| p.parse().map_err(|_| wrong()))?, out);
        }
        "cpuset.cpus" => out.push(property("AllowedCPUs", Value::Bytes(bits(value).ok_or_else(wrong)?))),
        "cpuset.mems" => out.push(property("AllowedMemoryNodes", Value::Bytes(bits(value).ok_or_else(wrong)?))),
        _ => {}
    }
    Ok(())
}

/// What can be said only when the unit is made.
pub fn at_start(resources: &Resources, version: &mut dyn FnMut() -> u32) -> Option<Property> {
    let policy = match resources.unified.get("memory.oom.group")?.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    (version() >= OOM_POLICY_SINCE).then(|| property("OOMPolicy", Value::Text(policy.into())))
}

/// The device rules, so that systemd's own program, which comes back with a reload, allows what ours does. Of two
/// programs both must allow: where systemd can't say the same (exceptions from "all"), it allows all, and ours denies.
pub fn devices(rules: &RuleSet) -> Vec<Property> {
    let all = rules.default_allow;
    let list = if all { Vec::new() } else { allowed(&rules.exceptions) };
    let policy = if all { "auto" } else { "strict" };
    vec![property("DevicePolicy", Value::Text(policy.into())), property("DeviceAllow", Value::Pairs(list))]
}

fn allowed(exceptions: &Exceptions) -> Vec<(String, String)> {
    let entry = |(devices, bits): (&crate::cgroup::devices::Devices, &u8)| {
        let kind = if devices.kind == Kind::Block { "block" } else { "char" };
        let path = match (devices.major, devices.minor) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{major}"),
            // One minor of every major can't be said, so all of the kind are allowed here, and ours denies the others.
            (None, _) => format!("{kind}-*"),
        };
        let letters = [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')];
        (path, letters.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter).collect())
    };
    exceptions.iter().map(entry).collect()
}

const ANNOTATION: &str = "org.systemd.property.";

/// `org.systemd.property.NAME: VALUE` annotations, the value in GVariant's text format. A name that ends in Sec is
/// systemd's USec in seconds.
pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut out = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        let wrong = |why: &str| Error::invalid(format!("/annotations/{}", crate::spec::escape_pointer(key)), why);
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(wrong("that is no name of a systemd property"));
        }
        if let Some(stem) = name.strip_suffix("Sec").filter(|_| !name.ends_with("USec")) {
            let micros = micros(text.trim()).ok_or_else(|| wrong("a time in seconds is a number"))?;
            out.push(property(&format!("{stem}USec"), Value::Uint64(micros)));
            continue;
        }
        let value = value_of_text(text.trim())
            .ok_or_else(|| wrong("the value is none that dhow reads").hint("GVariant text: true, 5, uint64 5, 'text' or ['a', 'b'] (docs/cgroups.md)"))?;
        out.push(property(name, value));
    }
    Ok(out)
}

/// `5`, `uint32 5` or `1.5` seconds.
fn micros(seconds: &str) -> Option<u64> {
    let number = seconds.rsplit_once(' ').map_or(seconds, |(_, number)| number);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

fn value_of_text(text: &str) -> Option<Value> {
    if let Some(quoted) = unquote(text) {
        return Some(Value::Text(quoted));
    }
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return list.split(',').map(|item| unquote(item.trim())).collect::<Option<_>>().map(Value::Texts);
    }
    if let Some((kind, digits)) = text.split_once(' ') {
        let digits = digits.trim();
        return match kind {
            "byte" => digits.parse().ok().map(Value::Byte),
            "int32" => digits.parse().ok().map(Value::Int32),
            "uint32" => digits.parse().ok().map(Value::Uint32),
            "int64" => digits.parse().ok().map(Value::Int64),
            "uint64" => digits.parse().ok().map(Value::Uint64),
            _ => None,
        };
    }
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => text.parse().ok().map(Value::Int32),
    }
}

/// A string in single or double quotes, without escapes.
fn unquote(text: &str) -> Option<String> {
    let inner = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))?;
    (!inner.contains(['\\', '\'', '"'])).then(|| inner.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(json: &str) -> Vec<String> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        of(&resources, &mut || 252).unwrap().iter().map(|(name, value)| format!("{name}={value:?}")).collect()
    }

    #[test]
    fn limits() {
        assert_eq!(
            show(r#"{"memory":{"limit":100,"swap":150,"reservation":-1},"pids":{"limit":0},"cpu":{"shares":1024,"quota":5000,"period":10000,"cpus":"0,9"}}"#),
            [
                "MemoryMax=Uint64(100)",
                "MemoryLow=Uint64(18446744073709551615)",
                "MemorySwapMax=Uint64(50)",
                "TasksMax=Uint64(1)",
                "CPUWeight=Uint64(100)",
                "CPUQuotaPeriodUSec=Uint64(10000)",
                "CPUQuotaPerSecUSec=Uint64(500000)",
                "AllowedCPUs=Bytes([1, 2])"
            ]
        );
        assert_eq!(show(r#"{"cpu":{"idle":1,"shares":7}}"#), ["CPUWeight=Uint64(0)"]);
        assert_eq!(show(r#"{"cpu":{"quota":-1}}"#), ["CPUQuotaPerSecUSec=Uint64(18446744073709551615)"]);
        assert_eq!(show("{}"), [""; 0]);
    }

    #[test]
    fn unified_files() {
        let shown = show(r#"{"unified":{"memory.high":"max","pids.max":"0","cpu.max":"5000","cpu.weight":"3","cpu.idle":"1","hugetlb.2MB.max":"5"}}"#);
        assert_eq!(
            shown,
            [
                "CPUWeight=Uint64(0)",
                "CPUQuotaPeriodUSec=Uint64(100000)",
                "CPUQuotaPerSecUSec=Uint64(50000)",
                "MemoryHigh=Uint64(18446744073709551615)",
                "TasksMax=Uint64(1)"
            ]
        );
        let bad: Resources = serde_json::from_str(r#"{"unified":{"memory.max":"lots"}}"#).unwrap();
        assert!(of(&bad, &mut || 252).unwrap_err().to_string().contains("/linux/resources/unified/memory.max"));
    }

    #[test]
    fn a_quota_is_rounded_up_to_a_percent() {
        for (quota, period, expected) in [(5000, 10000, 5000), (1, 100_000, 1000), (3333, 10000, 3400), (-1, 10000, -1), (150_000, 0, 150_000)] {
            let resources: Resources = serde_json::from_value(serde_json::json!({"cpu": {"quota": quota, "period": period}})).unwrap();
            assert_eq!(rounded(&resources).cpu.unwrap().quota, Some(expected), "{quota}/{period}");
        }
    }

    #[test]
    fn device_lists() {
        let rules = |json: &str| RuleSet::build(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap();
        let list = devices(&rules(
            r#"[{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},{"allow":true,"type":"b","major":8,"access":"r"},{"allow":true,"type":"c","access":"m"}]"#,
        ));
        let pairs = [("/dev/char/1:3", "rw"), ("block-8", "r"), ("char-*", "m")].map(|(a, b)| (a.to_string(), b.to_string()));
        assert_eq!(list[0].1, Value::Text("strict".into()));
        assert_eq!(list[1].1, Value::Pairs(pairs.into()));
        let open = devices(&rules(r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":11,"access":"r"}]"#));
        assert_eq!((&open[0].1, &open[1].1), (&Value::Text("auto".into()), &Value::Pairs(vec![])));
    }

    #[test]
    fn annotations() {
        let read = |key: &str, value: &str| of_annotations(&[(format!("org.systemd.property.{key}"), value.to_string())].into());
        assert_eq!(read("CollectMode", "'inactive-or-failed'").unwrap(), [property("CollectMode", Value::Text("inactive-or-failed".into()))]);
        assert_eq!(read("TimeoutStopUSec", "uint64 123456789").unwrap(), [property("TimeoutStopUSec", Value::Uint64(123456789))]);
        assert_eq!(read("TimeoutStopSec", "1.5").unwrap(), [property("TimeoutStopUSec", Value::Uint64(1_500_000))]);
        assert_eq!(read("After", "['a.service', 'b.service']").unwrap()[0].1, Value::Texts(vec!["a.service".into(), "b.service".into()]));
        for (key, value) in [("Ok", "true"), ("A-b", "1"), ("TimeoutStopSec", "'x'"), ("Wants", "unquoted"), ("Wants", "@as []")] {
            assert!(read(key, value).unwrap_err().to_string().contains("/annotations/org.systemd.property."), "{key}");
        }
        assert!(of_annotations(&[("other".to_string(), "x".to_string())].into()).unwrap().is_empty());
    }
}
