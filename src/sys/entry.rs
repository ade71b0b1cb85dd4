//! The first instructions of `dhow`: before libc's, and before the binary's own addresses were relocated.
//!
//! A program that comes within a container's reach runs from a read-only mount of its binary (`stage::seal`). To get
//! there it execs itself, and what it did before that is done for nothing: relocating twenty pages, libc, the command
//! line, half a millisecond. So the usual case is done here. Whatever is unusual is left to `stage::seal`, which runs
//! later in any case; this file decides nothing about safety but "yes, that mount is read-only".
//!
//! The code here lives without relocations: no table with addresses in it, no call into a library, no thread-local.

use super::mount::MountAttr;
use std::arch::{asm, naked_asm};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

/// `struct statfs` as the kernel has it: 8 bytes each, f_flags the eleventh.
const STATFS_WORDS: usize = 15;
const STATFS_FLAGS: usize = 10;

static SEALED: AtomicBool = AtomicBool::new(false);

/// The program began on a read-only mount, and saw it.
pub fn began_sealed() -> bool {
    SEALED.load(Ordering::Relaxed)
}

unsafe extern "C" {
    /// libc's entry point (crt1.o).
    fn _start() -> !;
}

/// The binary's entry point (`build.rs`): [`seal`], then libc's, with all as the kernel left it: the arguments on the
/// stack, and in rdx what the dynamic linker wants called at the end (System V ABI for x86-64, 3.4.1).
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn dhow_start() -> ! {
    naked_asm!(
        "mov rdi, rsp",
        "push rdx",
        "sub rsp, 8", // a call wants the stack aligned to 16, as it was
        "call {seal}",
        "add rsp, 8",
        "pop rdx",
        "jmp {start}",
        seal = sym seal,
        start = sym _start,
    )
}

/// `stack` is the kernel's: argc, argv, 0, envp, 0.
unsafe extern "C" fn seal(stack: *const usize) {
    // SAFETY: the kernel's own layout; argc counts the pointers, and each is a string that ends in NUL.
    unsafe {
        let argc = *stack;
        let argv = stack.add(1);
        if (1..argc).any(|n| enters(*argv.add(n) as *const u8)) {
            seal_again(argv, argv.add(argc + 1));
        }
    }
}

/// One of the commands of which a process comes within the container's reach (`cli`'s `Verb::enters`)? A word that
/// only looks like one costs an exec.
///
/// SAFETY: `word` ends in NUL.
unsafe fn enters(word: *const u8) -> bool {
    // SAFETY: `all` stops at the first difference, so nothing behind the word's NUL is read.
    let is = |verb: &[u8]| verb.iter().enumerate().all(|(n, byte)| unsafe { *word.add(n) == *byte });
    is(b"run\0") || is(b"create\0") || is(b"exec\0")
}

/// Note that we are sealed, or exec ourselves so; return when neither can be.
///
/// SAFETY: `argv` and `envp` are arrays of strings as execve takes them.
unsafe fn seal_again(argv: *const usize, envp: *const usize) {
    let exe = c"/proc/self/exe".as_ptr() as usize;
    let here = libc::AT_FDCWD as usize;
    // SAFETY: constant strings, structs of the kernel's layout and size, descriptors that we just got. A failed execveat
    // leaves us as we were.
    unsafe {
        let fd = call(libc::SYS_openat, [here, exe, (libc::O_PATH | libc::O_CLOEXEC) as usize, 0, 0]);
        if fd < 0 {
            return;
        }
        let mut found = MaybeUninit::<[u64; STATFS_WORDS]>::uninit();
        let answer = call(libc::SYS_fstatfs, [fd as usize, found.as_mut_ptr() as usize, 0, 0, 0]);
        call(libc::SYS_close, [fd as usize, 0, 0, 0, 0]);
        if answer < 0 {
            return;
        }
        if found.assume_init()[STATFS_FLAGS] & libc::ST_RDONLY != 0 {
            SEALED.store(true, Ordering::Relaxed);
            return;
        }
        let clone = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize;
        let tree = call(libc::SYS_open_tree, [here, exe, clone, 0, 0]);
        if tree < 0 {
            return;
        }
        let read_only = MountAttr { set: super::mount::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
        let (nothing, whole) = (c"".as_ptr() as usize, libc::AT_EMPTY_PATH as usize);
        let size = size_of::<MountAttr>();
        if call(libc::SYS_mount_setattr, [tree as usize, nothing, whole, &raw const read_only as usize, size]) == 0 {
            call(libc::SYS_execveat, [tree as usize, nothing, argv as usize, envp as usize, whole]);
        }
        call(libc::SYS_close, [tree as usize, 0, 0, 0, 0]);
    }
}

/// A system call, by hand: libc's keeps errno in a thread-local, and there is no thread yet. Minus errno on failure.
///
/// SAFETY: what the call itself asks for.
unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel's convention; it changes rcx and r11 beside the result.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}
