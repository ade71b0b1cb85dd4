//! Mounts that only the parent's rights can make: binds under a user namespace, and idmapped ones.
//!
//! They are made one at a time, when the child comes to them, by a helper process that enters the child's mount
//! namespace: a source may be what an earlier mount put there, or a path that the user namespace's root can't reach.

use super::child::{Attributes, host_tree};
use crate::idmap;
use crate::plan::{MountOp, MountSource, NsKind, Op, Plan};
use crate::sys::process::{self, CLONE_NEWNS};
use crate::sys::{Errno, socket};
use crate::{Error, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The detached mount for step `number`, whose child is `pid`.
pub fn make(plan: &Plan, number: usize, pid: i32, pidfd: BorrowedFd) -> Result<OwnedFd> {
    let Some(step) = plan.steps.get(number) else { return Err(Error::other("making a mount", "", "the child asked for a step that there is not")) };
    let (Op::Mount(m), field) = (&step.op, &step.field) else { return Err(Error::other("making a mount", "", "the child asked for a step that is none")) };
    let MountSource::Bind { path, recursive } = &m.source else {
        return Err(Error::invalid(field, "only bind mounts can be made from outside of the container"));
    };
    let userns = user_namespace(plan, m, pid)?;
    let source = CString::new(path.to_string_lossy().as_bytes()).map_err(|_| Error::invalid(field, "the source holds a NUL byte"))?;
    let request = Request {
        source: &source,
        recursive: *recursive,
        attributes: (m.set, m.clear, m.exact_flags, m.rec_set, m.rec_clear),
        userns: userns.as_ref().map(|(fd, recursive)| (fd.as_fd(), *recursive)),
        // Without a mount namespace of its own the child's is ours.
        enter: plan.steps.iter().any(|s| matches!(s.op, Op::PrepareRoot { propagation, .. } if propagation != 0)).then_some(pidfd),
    };
    request.by_helper().map_err(|e| {
        let err = e.error("open_tree", format!("{} from {}", step.op.describe(), path.display()), format!("({})", crate::plan::human_field(field)));
        if m.idmap.is_some() { err.hint("the source's file system must support idmapped mounts (mount_setattr(2))") } else { err }
    })
}

/// Whose id maps the mount gets, and whether all that is below it does.
fn user_namespace(plan: &Plan, m: &MountOp, pid: i32) -> Result<Option<(OwnedFd, bool)>> {
    let Some(map) = &m.idmap else { return Ok(None) };
    let joined = plan.steps.iter().find_map(|s| match &s.op {
        Op::JoinNamespace(join) if join.kind == NsKind::User => Some(join),
        _ => None,
    });
    let fd = match (map.uid.is_empty() && map.gid.is_empty(), joined) {
        (true, Some(join)) => super::freeze::open_namespace(&join.path, &join.field)?,
        (true, None) => idmap::of_process(pid)?,
        (false, _) => {
            let named = ["the mount's uidMappings", "the mount's gidMappings"];
            let maps = idmap::Maps { uid: &map.uid, gid: &map.gid, by_helper: false, deny_setgroups: false, named };
            idmap::namespace(&maps, "making a user namespace for an idmapped mount")?
        }
    };
    Ok(Some((fd, map.recursive)))
}

struct Request<'a> {
    source: &'a CStr,
    recursive: bool,
    attributes: Attributes,
    userns: Option<(BorrowedFd<'a>, bool)>,
    enter: Option<BorrowedFd<'a>>,
}

impl Request<'_> {
    /// A child of ours makes it, since entering a mount namespace is for good: root and working directory go with it.
    fn by_helper(&self) -> Result<OwnedFd, Errno> {
        let (here, there) = socket::seqpacket_pair()?;
        let Some(helper) = process::clone3(0, None)? else {
            let made = self
                .enter
                .map_or(Ok(()), |pidfd| process::setns(pidfd, CLONE_NEWNS))
                .and_then(|()| host_tree(self.source, self.recursive, self.attributes, self.userns));
            let sent = match &made {
                Ok(tree) => socket::send(there.as_fd(), &[0; 4], &[tree.as_raw_fd()]),
                Err(Errno(n)) => socket::send(there.as_fd(), &n.to_ne_bytes(), &[]),
            };
            process::exit_now(i32::from(sent.is_err()));
        };
        drop(there);
        let (mut errno, mut fds) = ([0u8; 4], [None]);
        let received = socket::recv(here.as_fd(), &mut errno, &mut fds);
        process::wait_pidfd(helper.pidfd.as_fd(), true)?;
        received?;
        fds[0].take().ok_or(match i32::from_ne_bytes(errno) {
            0 => Errno(libc::ECHILD),
            n => Errno(n),
        })
    }
}
