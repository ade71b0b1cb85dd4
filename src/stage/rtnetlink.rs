//! As much rtnetlink(7) as moving a device takes: find it, list its addresses, move it, add addresses, set it up.

use crate::sys::{Errno, Result, netlink};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

// linux/netlink.h, linux/rtnetlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Of a dump's answer: the list changed meanwhile.
const DUMP_INTERRUPTED: u16 = 0x10;
const EXCLUSIVE_CREATE: u16 = 0x600;
// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const UP: u32 = libc::IFF_UP as u32;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_F_PERMANENT: u32 = 0x80;
/// What was asked for when the address was added (NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN). The
/// other flags tell what became of it.
const IFA_F_ASKED: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const SCOPE_UNIVERSE: u8 = 0;

const HEADER: usize = 16;
/// Sizes of `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK_BODY: usize = 16;
const ADDRESS_BODY: usize = 8;
/// The kernel cuts a dump into pieces no longer than this (netlink_recvmsg).
const MOST: usize = 32 << 10;
/// How often a dump is tried that other changes interrupt.
const TRIES: u32 = 16;

/// A permanent address of global scope, and how it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST and IFA_RT_PRIORITY, as the kernel told them.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A device as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub up: bool,
}

/// A socket in one network namespace.
pub struct Route {
    socket: OwnedFd,
    sequence: u32,
}

impl Route {
    pub fn new(socket: OwnedFd) -> Route {
        Route { socket, sequence: 0 }
    }

    /// The device of this name, None when there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut request = Request::new(RTM_GETLINK, REQUEST, &link_body(0, 0, 0));
        request.attribute(IFLA_IFNAME, &terminated(name));
        match self.ask(request) {
            Err(Errno(libc::ENODEV)) => Ok(None),
            Err(e) => Err(e),
            Ok(answers) => {
                let link = |body: &Vec<u8>| Some(Link { index: word(body, 4)?, up: word(body, 8)? & UP != 0 });
                answers.first().and_then(link).map(Some).ok_or(Errno(libc::EBADMSG))
            }
        }
    }

    /// The indices of all devices.
    pub fn indices(&mut self) -> Result<BTreeSet<u32>> {
        let answers = self.dump(RTM_GETLINK, &link_body(0, 0, 0))?;
        Ok(answers.iter().filter_map(|a| word(a, 4)).collect())
    }

    /// The addresses of the device that a move must keep: config-linux.md § Network Devices.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>> {
        let answers = self.dump(RTM_GETADDR, &[0; ADDRESS_BODY])?;
        Ok(answers.iter().filter_map(|a| kept(a, index)).collect())
    }

    /// Move the device into `namespace` under the name `name`. It comes out down and without addresses.
    pub fn move_to(&mut self, index: u32, namespace: &impl AsFd, name: &str) -> Result<()> {
        use std::os::fd::AsRawFd;
        let mut request = Request::new(RTM_NEWLINK, REQUEST | ACK, &link_body(index, 0, 0));
        request.attribute(IFLA_IFNAME, &terminated(name));
        request.attribute(IFLA_NET_NS_FD, &namespace.as_fd().as_raw_fd().to_ne_bytes());
        self.ask(request).map(drop)
    }

    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.ask(Request::new(RTM_NEWLINK, REQUEST | ACK, &link_body(index, UP, UP))).map(drop)
    }

    pub fn add_address(&mut self, index: u32, address: &Address) -> Result<()> {
        let mut body = [0; ADDRESS_BODY];
        body[..4].copy_from_slice(&[address.family, address.prefix, address.flags as u8, SCOPE_UNIVERSE]);
        body[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::new(RTM_NEWADDR, REQUEST | ACK | EXCLUSIVE_CREATE, &body);
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        request.attribute(IFA_FLAGS, &address.flags.to_ne_bytes());
        self.ask(request).map(drop)
    }

    fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Vec<u8>>> {
        for _ in 0..TRIES {
            match self.ask(Request::new(kind, REQUEST | DUMP, body)) {
                Err(Errno(libc::EINTR)) => {}
                other => return other,
            }
        }
        Err(Errno(libc::EBUSY))
    }

    /// Send, and collect the bodies of what comes back until its end; EINTR for a dump that was interrupted.
    fn ask(&mut self, request: Request) -> Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let (message, dump) = request.finish(self.sequence);
        netlink::send(self.socket.as_fd(), &message)?;
        let acknowledged = u16::from_ne_bytes([message[6], message[7]]) & (ACK | DUMP) != 0;
        let mut buffer = vec![0; MOST];
        let (mut bodies, mut interrupted) = (Vec::new(), false);
        loop {
            let n = netlink::receive(self.socket.as_fd(), &mut buffer)?;
            for (header, body) in messages(&buffer[..n]) {
                if header.sequence != self.sequence {
                    continue;
                }
                interrupted |= dump && header.flags & DUMP_INTERRUPTED != 0;
                match header.kind {
                    NLMSG_ERROR => return verdict(body).map(|()| bodies),
                    NLMSG_DONE if interrupted => return Err(Errno(libc::EINTR)),
                    NLMSG_DONE => return verdict(body).map(|()| bodies),
                    _ => bodies.push(body.to_vec()),
                }
            }
            if !acknowledged && !bodies.is_empty() {
                return Ok(bodies);
            }
        }
    }
}

/// An error message and a dump's end both begin with a negative errno, or 0.
fn verdict(body: &[u8]) -> Result<()> {
    match word(body, 0).map(|n| n as i32) {
        Some(0) | None => Ok(()),
        Some(n) => Err(Errno(n.wrapping_neg())),
    }
}

struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(body);
        Request { bytes }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// The message, and whether it asks for a dump.
    fn finish(mut self, sequence: u32) -> (Vec<u8>, bool) {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        let dump = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & DUMP == DUMP;
        (self.bytes, dump)
    }
}

/// `struct ifinfomsg`.
fn link_body(index: u32, flags: u32, change: u32) -> [u8; LINK_BODY] {
    let mut out = [0; LINK_BODY];
    out[4..8].copy_from_slice(&index.to_ne_bytes());
    out[8..12].copy_from_slice(&flags.to_ne_bytes());
    out[12..].copy_from_slice(&change.to_ne_bytes());
    out
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn aligned(n: usize) -> usize {
    (n + 3) & !3
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages of one datagram; one that is cut short ends them.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let header = Header { kind: half(bytes, 4)?, flags: half(bytes, 6)?, sequence: word(bytes, 8)? };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((header, body))
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = half(bytes, 0)? as usize;
        let found = (half(bytes, 2)?, bytes.get(4..length)?);
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(found)
    })
}

/// The address that an RTM_NEWADDR tells of, if it is the device's and one to keep.
fn kept(body: &[u8], index: u32) -> Option<Address> {
    let &[family, prefix, flags, scope, ..] = body else { return None };
    let all = || attributes(body.get(ADDRESS_BODY..).unwrap_or_default());
    // Eight bits in the struct; more, since Linux 3.14, in an attribute.
    let flags = all().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, v)| word(v, 0)).unwrap_or(flags.into());
    if word(body, 4) != Some(index) || flags & IFA_F_PERMANENT == 0 || scope != SCOPE_UNIVERSE {
        return None;
    }
    let wanted = all().filter(|(kind, _)| [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY].contains(kind));
    let attributes = wanted.map(|(kind, value)| (kind, value.to_vec())).collect();
    Some(Address { family, prefix, flags: flags & IFA_F_ASKED, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An RTM_NEWADDR's body for device 7: 10.1.2.3/24.
    fn told(flags: u8, scope: u8, wide_flags: Option<u32>) -> Vec<u8> {
        let mut request = Request::new(RTM_NEWADDR, 0, &[2, 24, flags, scope, 0, 0, 0, 0]);
        request.bytes[HEADER + 4..HEADER + 8].copy_from_slice(&7u32.to_ne_bytes());
        request.attribute(IFA_LOCAL, &[10, 1, 2, 3]);
        request.attribute(3, b"eth0\0");
        if let Some(wide) = wide_flags {
            request.attribute(IFA_FLAGS, &wide.to_ne_bytes());
        }
        request.bytes.split_off(HEADER)
    }

    #[test]
    fn permanent_global_addresses_are_kept() {
        let address = kept(&told(0x80, 0, None), 7).unwrap();
        assert_eq!((address.family, address.prefix, address.flags), (2, 24, 0));
        assert_eq!(address.attributes, [(IFA_LOCAL, vec![10, 1, 2, 3])], "without the label");
        assert_eq!(kept(&told(0x80, 0, Some(0x282)), 7).unwrap().flags, 0x202, "what was asked for");
    }

    #[test]
    fn other_addresses_are_not() {
        assert_eq!(kept(&told(0, 0, None), 7), None, "not permanent");
        assert_eq!(kept(&told(0x80, 0, Some(0x200)), 7), None, "the wide flags count");
        assert_eq!(kept(&told(0x80, 253, None), 7), None, "of the link's scope");
        assert_eq!(kept(&told(0x80, 0, None), 8), None, "of another device");
        assert_eq!(kept(&[2, 24], 7), None, "cut short");
    }

    #[test]
    fn messages_end_where_the_datagram_does() {
        let one = Request::new(RTM_NEWLINK, 0, b"abcde").finish(1).0;
        let mut two = [one.clone(), vec![0; 3], one].concat();
        assert_eq!(messages(&two).count(), 2);
        two.truncate(two.len() - 1);
        assert_eq!(messages(&two).count(), 1);
        assert_eq!(messages(&[0; 40]).count(), 0, "a length of 0 does not loop");
    }

    #[test]
    fn a_nameless_device_is_not_found_and_lo_is() {
        let mut route = Route::new(netlink::route_socket().unwrap());
        let lo = route.link("lo").unwrap().unwrap().index;
        assert!(route.indices().unwrap().contains(&lo));
        assert_eq!(route.link("no-such-device").unwrap(), None);
        assert_eq!(route.addresses(lo).unwrap(), [], "127.0.0.1 and ::1 are of the host's scope");
    }
}
