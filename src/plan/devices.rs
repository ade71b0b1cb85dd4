//! /dev: the default devices (config-linux.md § Default Devices), the config's own, and the links beside them.

use super::op::{DeviceOp, MountSource, Op, Step};
use super::paths::clean;
use crate::host::Host;
use crate::spec;
use crate::{Error, Result};
use std::path::Path;

/// Character devices that every container has: path, major, minor. Mode 0666, owned by root.
const DEFAULTS: [(&str, u32, u32); 6] =
    [("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/full", 1, 7), ("/dev/random", 1, 8), ("/dev/urandom", 1, 9), ("/dev/tty", 5, 0)];

/// config-linux.md § Dev symbolic links; /dev/core only where /proc/kcore is.
const LINKS: [(&str, &str); 4] =
    [("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr")];

/// Highest major and minor number of dev_t (linux/kdev_t.h: 12 and 20 bits).
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// dhow fills /dev, unless the config binds one there: that is then taken as it is (runc's needsSetupDev).
pub(super) fn fills_dev(mounts: &[Step]) -> bool {
    let binds_dev = |step: &Step| matches!(&step.op, Op::Mount(m) if m.destination == Path::new("/dev") && matches!(m.source, MountSource::Bind { .. }));
    !mounts.iter().any(binds_dev)
}

/// The nodes and the links. `bind`: mknod(2) is not allowed in a user namespace, so bind the host's.
pub(super) fn steps(devices: &[spec::Device], host: &Host, bind: bool, warnings: &mut Vec<String>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (path, major, minor) in DEFAULTS {
        if devices.iter().any(|device| clean(&device.path) == Path::new(path)) {
            continue; // the config's own takes its place
        }
        let op = DeviceOp { path: path.into(), kind: libc::S_IFCHR, major, minor, mode: 0o666, uid: 0, gid: 0, bind };
        steps.push(Step { field: String::new(), op: Op::Device(op) });
    }
    for (i, device) in devices.iter().enumerate() {
        let field = format!("/linux/devices/{i}");
        if device.path.is_empty() {
            warnings.push(format!("linux.devices[{i}] has no path: no node is made"));
            continue;
        }
        let op = device_op(device, &field, bind)?;
        // /dev/ptmx is the link to the container's own devpts, below.
        if op.path != Path::new("/dev/ptmx") {
            steps.push(Step { field, op: Op::Device(op) });
        }
    }
    steps.push(link("pts/ptmx", "/dev/ptmx", true));
    steps.extend(LINKS.iter().map(|(target, path)| link(target, path, false)));
    if host.kcore {
        steps.push(link("/proc/kcore", "/dev/core", false));
    }
    Ok(steps)
}

fn link(target: &str, path: &str, replace: bool) -> Step {
    Step { field: String::new(), op: Op::Symlink { target: target.into(), path: path.into(), replace } }
}

fn device_op(device: &spec::Device, field: &str, bind: bool) -> Result<DeviceOp> {
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => return Err(Error::invalid(format!("{field}/type"), format!("invalid device type {other:?}: c, b, u or p"))),
    };
    let path = clean(&device.path);
    if path == Path::new("/") || device.path.contains('\0') {
        return Err(Error::invalid(format!("{field}/path"), format!("{:?} is not a path of a device", device.path)));
    }
    let (major, minor) = match kind {
        libc::S_IFIFO => (0, 0), // config-linux.md: the numbers are for devices only
        _ => (number(device.major, MAX_MAJOR, field, "major")?, number(device.minor, MAX_MINOR, field, "minor")?),
    };
    // Callers pass a whole st_mode; only the permission bits count.
    let mode = device.file_mode.unwrap_or(0o666) & !libc::S_IFMT;
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    Ok(DeviceOp { path, kind, major, minor, mode, uid, gid, bind })
}

fn number(value: i64, max: i64, field: &str, name: &str) -> Result<u32> {
    if !(0..=max).contains(&value) {
        return Err(Error::invalid(format!("{field}/{name}"), format!("{value} is not between 0 and {max}")));
    }
    Ok(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: &str) -> spec::Device {
        spec::Device { path: path.into(), kind: kind.into(), major: 10, minor: 229, ..Default::default() }
    }

    fn nodes(devices: &[spec::Device]) -> Vec<DeviceOp> {
        let steps = steps(devices, &Host::default(), false, &mut Vec::new()).unwrap();
        steps.into_iter().filter_map(|step| if let Op::Device(op) = step.op { Some(op) } else { None }).collect()
    }

    #[test]
    fn the_configs_own_takes_the_place_of_a_default() {
        let null = spec::Device { major: 1, minor: 3, file_mode: Some(0o20600), ..device("/dev//null", "c") };
        let nodes = nodes(&[null, device("/dev/fuse", "u"), device("/dev/ptmx", "c")]);
        assert_eq!(nodes.len(), 7);
        assert_eq!(nodes.iter().filter(|op| op.path == Path::new("/dev/null")).count(), 1);
        assert_eq!((nodes[5].mode, nodes[6].mode), (0o600, 0o666));
    }

    #[test]
    fn nonsense_is_refused() {
        let minor = spec::Device { minor: -1, ..device("/dev/x", "b") };
        for (bad, pointer) in [(device("/dev/x", "a"), "type"), (device("/", "c"), "path"), (minor, "minor")] {
            let err = steps(&[bad], &Host::default(), false, &mut Vec::new()).unwrap_err();
            assert_eq!(err.subject, format!("/linux/devices/0/{pointer}"));
        }
    }

    #[test]
    fn core_only_where_the_kernel_has_it() {
        let links = |kcore| {
            let host = Host { kcore, ..Host::default() };
            let steps = steps(&[], &host, false, &mut Vec::new()).unwrap();
            steps.iter().filter(|step| matches!(step.op, Op::Symlink { .. })).count()
        };
        assert_eq!((links(true), links(false)), (6, 5));
    }
}
