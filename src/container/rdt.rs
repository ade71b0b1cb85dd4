//! Intel RDT: the resctrl file system's groups (kernel Documentation/arch/x86/resctrl.rst, config-linux.md § IntelRdt).

use super::record::Record;
use super::store::Reservation;
use crate::spec::{IntelRdt, Spec};
use crate::{Error, Result, log};
use std::path::{Path, PathBuf};

/// Where the kernel's documentation mounts it.
const MOUNT: &str = "/sys/fs/resctrl";

/// Put `pid` into the group of /linux/intelRdt, which is made where it is missing.
pub fn enter(spec: &Spec, id: &str, pid: i32, record: &mut Record, reservation: &mut Reservation) -> Result<()> {
    let Some(rdt) = &spec.linux.intel_rdt else { return Ok(()) };
    let base = mountpoint()?;
    let wants_schemata = !schemata(rdt).is_empty();
    let group = base.join(if rdt.clos_id.is_empty() { id } else { rdt.clos_id.as_str() });
    let made = make_group(&group)?;
    if made {
        reservation.owns_rdt(group.clone());
    }
    // A group that was there with other settings is somebody's: config-linux.md demands an error rather than a change.
    if wants_schemata {
        if !made && !rdt.clos_id.is_empty() && !has_schemata(&group, &schemata(rdt))? {
            return Err(Error::invalid("/linux/intelRdt", format!("the group {} exists with another schemata", group.display())));
        }
        write(&group.join("schemata"), &(schemata(rdt).join("\n") + "\n"), "/linux/intelRdt")?;
    }
    write(&group.join("tasks"), &pid.to_string(), "/linux/intelRdt")?;
    if rdt.enable_monitoring || rdt.enable_cmt || rdt.enable_mbm {
        let monitoring = group.join("mon_groups").join(id);
        make_group(&monitoring)?;
        write(&monitoring.join("tasks"), &pid.to_string(), "/linux/intelRdt/enableMonitoring")?;
    }
    record.intel_rdt_path = Some(group);
    record.intel_rdt_owned = made && rdt.clos_id.is_empty();
    Ok(())
}

/// Remove what was made for this container alone.
pub fn leave(record: &Record) {
    let Some(group) = &record.intel_rdt_path else { return };
    let target = if record.intel_rdt_owned { group.clone() } else { group.join("mon_groups").join(&record.id) };
    match std::fs::remove_dir(&target) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => log::warn(&format!("removing the RDT group {}: {e}", target.display())),
        _ => {}
    }
}

/// `update --l3-cache-schema --mem-bw-schema`.
pub fn update(record: &Record, l3: &str, bandwidth: &str) -> Result<()> {
    let group = match &record.intel_rdt_path {
        Some(group) => group.clone(),
        None => return Err(Error::unsupported("updating Intel RDT of", record.id.clone(), "a container created with /linux/intelRdt")),
    };
    let lines: Vec<&str> = [l3, bandwidth].into_iter().filter(|s| !s.is_empty()).collect();
    write(&group.join("schemata"), &(lines.join("\n") + "\n"), "--l3-cache-schema, --mem-bw-schema")
}

fn mountpoint() -> Result<PathBuf> {
    let base = PathBuf::from(MOUNT);
    if base.join("schemata").exists() {
        return Ok(base);
    }
    Err(Error::unsupported("applying", "/linux/intelRdt", format!("a resctrl file system on {MOUNT} (and a CPU with RDT)"))
        .hint("mount -t resctrl resctrl /sys/fs/resctrl"))
}

/// The lines to write: `schemata` whole, or the two older fields.
fn schemata(rdt: &IntelRdt) -> Vec<String> {
    let mut lines: Vec<String> = [&rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().filter(|s| !s.is_empty()).cloned().collect();
    lines.extend(rdt.schemata.iter().cloned());
    lines
}

fn has_schemata(group: &Path, wanted: &[String]) -> Result<bool> {
    let path = group.join("schemata");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&e, "reading", path.display().to_string()))?;
    let have: Vec<&str> = text.lines().map(str::trim).collect();
    Ok(wanted.iter().all(|line| have.contains(&line.trim())))
}

/// True when it was made now.
fn make_group(path: &Path) -> Result<bool> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io(&e, "making the RDT group", path.display().to_string())),
    }
}

fn write(path: &Path, text: &str, field: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::io(&e, format!("applying {field} by writing {:?} to", text.trim()), path.display().to_string()))
}
