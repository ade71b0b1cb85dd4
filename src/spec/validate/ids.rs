//! User and group id mappings: of the user namespace, and of an id-mapped mount, which the kernel holds to the same
//! rules (user_namespaces(7) § Defining user and group ID mappings).

use super::Checker;
use crate::spec::IdMapping;
use std::fmt::Display;

/// user_namespaces(7): the kernel takes 340 lines (since 4.15) …
const MOST_LINES: usize = 340;
/// … in one write of less than a page. Pages are larger on some machines.
const PAGE: usize = if cfg!(any(target_arch = "x86_64", target_arch = "x86", target_arch = "s390x")) { 4096 } else { 65536 };

/// Each mapping by itself and all against each other; `at` points to the list.
pub fn check(cx: &mut Checker, at: impl Display, mappings: &[IdMapping]) {
    for (i, m) in mappings.iter().enumerate() {
        for (field, first) in [("containerID", m.container_id), ("hostID", m.host_id)] {
            if u64::from(first) + u64::from(m.size) > u64::from(u32::MAX) {
                let last = u64::from(first) + u64::from(m.size) - 1;
                cx.fault(format_args!("{at}/{i}/{field}"), format_args!("{first} and {} more ids end at {last}", m.size), "ids up to 4294967294");
            }
        }
        if m.size == 0 {
            cx.fault(format_args!("{at}/{i}/size"), "maps 0 ids", "at least 1").hint("remove the mapping, or give the number of ids");
        }
        for (j, other) in mappings[..i].iter().enumerate() {
            for (field, a, b) in [("containerID", m.container_id, other.container_id), ("hostID", m.host_id, other.host_id)] {
                if overlap((a, m.size), (b, other.size)) {
                    let message = format_args!("the range {} overlaps {} of mapping {j}", range(a, m.size), range(b, other.size));
                    cx.fault(format_args!("{at}/{i}/{field}"), message, "ranges that don't overlap (user_namespaces(7))");
                }
            }
        }
        // Beyond this the list is refused as a whole; comparing all with all would only take long.
        if i >= MOST_LINES {
            break;
        }
    }
    if mappings.len() > MOST_LINES {
        cx.fault(&at, format_args!("{} mappings", mappings.len()), format_args!("at most {MOST_LINES}: more the kernel does not take"));
    } else if text_len(mappings) >= PAGE {
        cx.fault(&at, format_args!("mappings of {} bytes as the kernel reads them", text_len(mappings)), format_args!("less than {PAGE} bytes"))
            .hint("join neighbouring ranges");
    }
}

/// The host's id for an id of the container.
pub fn to_host(mappings: &[IdMapping], id: u32) -> Option<u32> {
    mappings.iter().find_map(|m| {
        let offset = id.checked_sub(m.container_id)?;
        if offset < m.size { m.host_id.checked_add(offset) } else { None }
    })
}

fn overlap((a, a_size): (u32, u32), (b, b_size): (u32, u32)) -> bool {
    let (a, b) = (u64::from(a), u64::from(b));
    a < b + u64::from(b_size) && b < a + u64::from(a_size)
}

fn range(first: u32, size: u32) -> String {
    format!("{first}-{}", (u64::from(first) + u64::from(size)).saturating_sub(1))
}

/// The length of `uid_map`'s text: three numbers, two spaces, a newline.
fn text_len(mappings: &[IdMapping]) -> usize {
    let digits = |n: u32| n.checked_ilog10().unwrap_or(0) as usize + 1;
    mappings.iter().map(|m| digits(m.container_id) + digits(m.host_id) + digits(m.size) + 3).sum()
}
