//! `linux.netDevices`: the host's devices into the container's network namespace (config-linux.md § Network Devices).
//!
//! All is looked up before the first device moves, so that the common faults (no such device, a name that is taken)
//! leave the host as it was. A device keeps its attributes; addresses it loses by the move, so they are added again.
//! When the container can't be finished, the devices come back ([`Moved`]); their routes are lost, as by any move.
//! What becomes of one when the namespace ends later is the kernel's business: physical ones come back, others vanish.

use super::rtnetlink::{Address, Link, Route};
use crate::spec::escape_pointer;
use crate::sys::netlink::{self, Visit};
use crate::sys::{Errno, fs};
use crate::{Error, Kind, Result, log};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// Devices that have moved. Dropped before [`Moved::stay`], it takes them back; while it lives, so does the namespace.
pub struct Moved {
    sides: Sides,
    /// The host's network namespace.
    home: OwnedFd,
    /// With the index that it has there.
    devices: Vec<(Device, u32)>,
}

/// Move `devices`, (name on the host, name inside) each, into the network namespace of `pid`, and set them up there.
pub fn move_all(devices: &[(String, String)], pid: i32) -> Result<Option<Moved>> {
    if devices.is_empty() {
        return Ok(None);
    }
    let mut sides = Sides::open(pid)?;
    let found = devices.iter().map(|(name, inside)| sides.look(name, inside)).collect::<Result<Vec<_>>>()?;
    let home = namespace(c"/proc/self/ns/net", "opening the network namespace of the runtime")?;
    let mut moved = Moved { sides, home, devices: Vec::new() };
    for device in found {
        let index = moved.sides.carry_over(&device)?;
        moved.devices.push((device, index));
        moved.set_up_last()?;
    }
    Ok(Some(moved))
}

impl Moved {
    /// The container is there: they are its own.
    pub fn stay(mut self) {
        self.devices.clear();
    }

    fn set_up_last(&mut self) -> Result<()> {
        let Some((device, index)) = self.devices.last() else { return Ok(()) };
        furnish(&mut self.sides.there, device, *index, true)
    }

    fn take_back(&mut self, device: &Device, index: u32) -> Result<()> {
        self.sides.there.move_to(index, &self.home, &device.name).map_err(device.fail("RTM_NEWLINK", "taking back"))?;
        let link = self.sides.here.link(&device.name).map_err(device.fail("RTM_GETLINK", "looking for"))?;
        let link = link.ok_or_else(|| device.fail("RTM_GETLINK", "looking for")(Errno(libc::ENODEV)))?;
        furnish(&mut self.sides.here, device, link.index, device.link.up)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for (device, index) in std::mem::take(&mut self.devices).into_iter().rev() {
            if let Err(e) = self.take_back(&device, index) {
                log::warn(&format!("undoing a failed create: {e}"));
            }
        }
    }
}

/// What a move takes away: its addresses, and that it is up.
fn furnish(side: &mut Route, device: &Device, index: u32, up: bool) -> Result<()> {
    for address in &device.addresses {
        side.add_address(index, address).map_err(device.fail("RTM_NEWADDR", "keeping an address of"))?;
    }
    if up { side.set_up(index).map_err(device.fail("RTM_NEWLINK", "setting up")) } else { Ok(()) }
}

/// A device that can be moved.
struct Device {
    name: String,
    inside: String,
    /// As it was on the host.
    link: Link,
    addresses: Vec<Address>,
}

impl Device {
    /// The kernel is to choose the number.
    fn is_template(&self) -> bool {
        self.inside.contains("%d")
    }

    fn fail(&self, call: &'static str, doing: &str) -> impl Fn(Errno) -> Error {
        let (doing, subject) = (format!("{doing} the network device {} of", self.name), pointer(&self.name));
        move |e| e.error(call, doing.clone(), subject.clone())
    }
}

fn pointer(name: &str) -> String {
    format!("/linux/netDevices/{}", escape_pointer(name))
}

fn namespace(path: &CStr, doing: &str) -> Result<OwnedFd> {
    fs::openat(fs::CWD, path, libc::O_RDONLY, 0).map_err(|e| e.error("openat", doing, path.to_string_lossy()))
}

/// Both ends of the move.
struct Sides {
    target: OwnedFd,
    here: Route,
    there: Route,
}

impl Sides {
    fn open(pid: i32) -> Result<Sides> {
        let path = format!("/proc/{pid}/ns/net");
        let c_path = CString::new(path.as_str()).map_err(|e| Error::other("opening", path.clone(), e))?;
        let target = namespace(&c_path, "opening the container's network namespace")?;
        let here = netlink::route_socket().map_err(|e| e.error("socket", "opening a netlink socket for", "/linux/netDevices"))?;
        let there = match netlink::route_socket_in(target.as_fd()) {
            Visit::Done(socket) => socket,
            Visit::Failed(call, e) => return Err(e.error(call, "opening a netlink socket in the container's network namespace", path)),
            // What follows an error (hooks, the undoing) would act on the container's network.
            Visit::Stranded(_) => std::process::abort(),
        };
        Ok(Sides { target, here: Route::new(here), there: Route::new(there) })
    }

    /// Is it there, and is its new name free?
    fn look(&mut self, name: &str, inside: &str) -> Result<Device> {
        let mut device = Device { name: name.into(), inside: inside.into(), link: Link { index: 0, up: false }, addresses: Vec::new() };
        let link = self.here.link(name).map_err(device.fail("RTM_GETLINK", "looking for"))?;
        let missing = || Error::new(Kind::NotFound, "moving the network device of", pointer(name), format!("the host has no network device {name:?}"));
        device.link = link.ok_or_else(|| missing().hint("see `ip link`; it must be in the network namespace of the runtime"))?;
        if !device.is_template() && self.there.link(inside).map_err(device.fail("RTM_GETLINK", "choosing the name inside for"))?.is_some() {
            let taken = format!("the container's network namespace has a device {inside:?} already: file exists");
            return Err(
                Error::new(Kind::Exists, "moving the network device of", pointer(name), taken).hint("give another `name`, or one with %d for a free number")
            );
        }
        device.addresses = self.here.addresses(device.link.index).map_err(device.fail("RTM_GETADDR", "listing the addresses of"))?;
        Ok(device)
    }

    /// Its index on the other side.
    fn carry_over(&mut self, device: &Device) -> Result<u32> {
        let looking = device.fail("RTM_GETLINK", "looking in the container for");
        let before = if device.is_template() { self.there.indices().map_err(&looking)? } else { Default::default() };
        // The kernel closes the device itself, and not before it knows that the move is possible. Setting it down here,
        // as runc does, would cost it its IPv6 addresses.
        self.here.move_to(device.link.index, &self.target, &device.inside).map_err(|e| {
            let err = device.fail("RTM_NEWLINK", "moving")(e);
            match e {
                Errno(libc::EINVAL) => err.hint("some devices can't leave their namespace (NETIF_F_NETNS_LOCAL: bridges, lo, …)"),
                Errno(libc::EPERM) => err.hint("CAP_NET_ADMIN is needed in both network namespaces"),
                _ => err,
            }
        })?;
        let index = match device.is_template() {
            true => self.there.indices().map(|now| now.difference(&before).next().copied()),
            false => self.there.link(&device.inside).map(|link| link.map(|l| l.index)),
        };
        index.map_err(&looking)?.ok_or_else(|| looking(Errno(libc::ENODEV)))
    }
}
