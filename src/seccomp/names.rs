//! System calls by name: their numbers on each architecture we compile for.

use super::Arch;
use super::table::ROWS;

/// The numbers of one system call.
pub struct Row {
    /// In place: 508 pointers would have to be relocated at every start.
    name: [u8; LONGEST_NAME],
    name_len: u8,
    /// By [`Arch`], -1 where the architecture lacks the call; x32 without its bit.
    numbers: [i32; 5],
    /// 100 + n: socketcall(2)'s call n on x86; 200 + n: ipc(2)'s; 0: neither.
    multiplexed: u16,
}

/// A call that 32-bit x86 also offers through another one, whose first argument says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplexed {
    /// [`SOCKETCALL_X86`] or [`IPC_X86`].
    pub through: u32,
    /// The value of the first argument: `SYS_SOCKET` … of linux/net.h, `SEMOP` … of linux/ipc.h.
    pub number: u32,
}

/// socketcall(2) and ipc(2) on 32-bit x86 (arch/x86/entry/syscalls/syscall_32.tbl).
pub const SOCKETCALL_X86: u32 = 102;
pub const IPC_X86: u32 = 117;

/// `__X32_SYSCALL_BIT` (asm/unistd.h): set in the number of each x32 call.
pub const X32_BIT: u32 = 0x4000_0000;

const LONGEST_NAME: usize = 28;

pub(super) const fn row(name: &str, numbers: [i32; 5], multiplexed: u16) -> Row {
    let bytes = name.as_bytes();
    let mut held = [0; LONGEST_NAME];
    let mut i = 0;
    while i < bytes.len() {
        held[i] = bytes[i];
        i += 1;
    }
    Row { name: held, name_len: bytes.len() as u8, numbers, multiplexed }
}

impl Row {
    pub fn name(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    const fn bytes(&self) -> &[u8] {
        self.name.split_at(self.name_len as usize).0
    }

    /// The number that the kernel shows in `seccomp_data.nr`, so with bit 30 on x32.
    pub fn number(&self, arch: Arch) -> Option<u32> {
        let number = u32::try_from(self.numbers[arch as usize]).ok()?;
        Some(match arch {
            Arch::X32 => number | X32_BIT,
            _ => number,
        })
    }

    /// How 32-bit x86 reaches this call through socketcall(2) or ipc(2), the only way before Linux 4.3 and 5.1.
    pub fn multiplexed(&self) -> Option<Multiplexed> {
        let (through, base) = match self.multiplexed {
            0 => return None,
            n if n < 200 => (SOCKETCALL_X86, 100),
            _ => (IPC_X86, 200),
        };
        Some(Multiplexed { through, number: u32::from(self.multiplexed - base) })
    }
}

/// Every row, sorted by name.
pub fn all() -> &'static [Row] {
    &ROWS
}

/// The row of the call named `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    find_index(name).map(|index| &ROWS[index])
}

/// An open hash table over [`ROWS`], built by the compiler: a profile names some 400 calls, and a binary search
/// over strings costs more than all the rest of the compilation.
static BUCKETS: [u16; BUCKET_COUNT] = buckets();
const BUCKET_COUNT: usize = 2048;
const EMPTY: u16 = u16::MAX;

pub(super) fn find_index(name: &str) -> Option<usize> {
    let mut slot = hash(name.as_bytes());
    loop {
        let index = BUCKETS[slot];
        if index == EMPTY {
            return None;
        }
        if ROWS[index as usize].bytes() == name.as_bytes() {
            return Some(index as usize);
        }
        slot = (slot + 1) % BUCKET_COUNT;
    }
}

/// FNV-1a, folded to a bucket's index.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ (hash >> 15)) as usize % BUCKET_COUNT
}

const fn buckets() -> [u16; BUCKET_COUNT] {
    let mut buckets = [EMPTY; BUCKET_COUNT];
    let mut i = 0;
    while i < ROWS.len() {
        let mut slot = hash(ROWS[i].bytes());
        while buckets[slot] != EMPTY {
            slot = (slot + 1) % BUCKET_COUNT;
        }
        buckets[slot] = i as u16;
        i += 1;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found() {
        assert!(ROWS.windows(2).all(|w| w[0].name() < w[1].name()));
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(find_index(row.name()), Some(index));
        }
        assert!(find("no_such_call").is_none());
        assert!(find("").is_none());
    }

    /// libseccomp translates name → native number → name → other number; we go by the name. The same, as long as
    /// no two names share a number.
    #[test]
    fn a_number_has_one_name() {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm] {
            let mut numbers: Vec<u32> = ROWS.iter().filter_map(|r| r.number(arch)).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{arch:?}");
        }
    }

    #[test]
    fn well_known_numbers() {
        let read = find("read").unwrap();
        assert_eq!(read.number(Arch::X86_64), Some(0));
        assert_eq!(read.number(Arch::X86), Some(3));
        assert_eq!(read.number(Arch::X32), Some(X32_BIT));
        assert_eq!(read.number(Arch::Aarch64), Some(63));
        assert_eq!(find("open").unwrap().number(Arch::Aarch64), None);
        assert_eq!(find("socket").unwrap().multiplexed(), Some(Multiplexed { through: SOCKETCALL_X86, number: 1 }));
        assert_eq!(find("shmctl").unwrap().multiplexed().unwrap().number, 24);
    }
}
