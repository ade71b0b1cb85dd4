//! `linux.netDevices`: the host's devices into the container's network namespace (config-linux.md § Network Devices).
//!
//! All is looked up before the first device moves, so that the common faults (no such device, a name that is taken)
//! leave the host as it was. A device keeps its attributes; addresses it loses by the move, so they are added again.
//! What becomes of it when the namespace ends is the kernel's business: physical ones come back, others vanish.

use super::rtnetlink::{Address, Route};
use crate::spec::escape_pointer;
use crate::sys::netlink::{self, Visit};
use crate::sys::{Errno, fs};
use crate::{Error, Kind, Result};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// Move `devices`, (name on the host, name inside) each, into the network namespace of `pid`, and set them up there.
pub fn move_all(devices: &[(String, String)], pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let mut sides = Sides::open(pid)?;
    let found = devices.iter().map(|(name, inside)| sides.look(name, inside)).collect::<Result<Vec<_>>>()?;
    found.iter().try_for_each(|device| sides.carry_over(device))
}

/// A device that can be moved.
struct Device<'a> {
    name: &'a str,
    inside: &'a str,
    index: u32,
    addresses: Vec<Address>,
}

impl Device<'_> {
    /// The kernel is to choose the number.
    fn is_template(&self) -> bool {
        self.inside.contains("%d")
    }

    fn fail(&self, call: &'static str, doing: &str) -> impl Fn(Errno) -> Error {
        let (doing, subject) = (format!("{doing} the network device {} of", self.name), pointer(self.name));
        move |e| e.error(call, doing.clone(), subject.clone())
    }
}

fn pointer(name: &str) -> String {
    format!("/linux/netDevices/{}", escape_pointer(name))
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
        let target =
            fs::openat(fs::CWD, &c_path, libc::O_RDONLY, 0).map_err(|e| e.error("openat", "opening the container's network namespace", path.clone()))?;
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
    fn look<'a>(&mut self, name: &'a str, inside: &'a str) -> Result<Device<'a>> {
        let mut device = Device { name, inside, index: 0, addresses: Vec::new() };
        let index = self.here.index_of(name).map_err(device.fail("RTM_GETLINK", "looking for"))?;
        let missing = || Error::new(Kind::NotFound, "moving the network device of", pointer(name), format!("the host has no network device {name:?}"));
        device.index = index.ok_or_else(|| missing().hint("see `ip link`; it must be in the network namespace of the runtime"))?;
        if !device.is_template() && self.there.index_of(inside).map_err(device.fail("RTM_GETLINK", "choosing the name inside for"))?.is_some() {
            let taken = format!("the container's network namespace has a device {inside:?} already: file exists");
            return Err(
                Error::new(Kind::Exists, "moving the network device of", pointer(name), taken).hint("give another `name`, or one with %d for a free number")
            );
        }
        device.addresses = self.here.addresses(device.index).map_err(device.fail("RTM_GETADDR", "listing the addresses of"))?;
        Ok(device)
    }

    fn carry_over(&mut self, device: &Device) -> Result<()> {
        let looking = device.fail("RTM_GETLINK", "looking in the container for");
        let before = if device.is_template() { self.there.indices().map_err(&looking)? } else { Default::default() };
        // The kernel closes the device itself, and not before it knows that the move is possible. Setting it down here,
        // as runc does, would cost it its IPv6 addresses.
        self.here.move_to(device.index, &self.target, device.inside).map_err(|e| {
            let err = device.fail("RTM_NEWLINK", "moving")(e);
            match e {
                Errno(libc::EINVAL) => err.hint("some devices can't leave their namespace (NETIF_F_NETNS_LOCAL: bridges, lo, …)"),
                Errno(libc::EPERM) => err.hint("CAP_NET_ADMIN is needed in both network namespaces"),
                _ => err,
            }
        })?;
        let index = match device.is_template() {
            true => self.there.indices().map(|now| now.difference(&before).next().copied()),
            false => self.there.index_of(device.inside),
        };
        let index = index.map_err(&looking)?.ok_or_else(|| looking(Errno(libc::ENODEV)))?;
        for address in &device.addresses {
            self.there.add_address(index, address).map_err(device.fail("RTM_NEWADDR", "keeping an address of"))?;
        }
        self.there.set_up(index).map_err(device.fail("RTM_NEWLINK", "setting up"))
    }
}
