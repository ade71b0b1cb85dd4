//! Compiled filters kept in the runtime's root directory, so that a profile is compiled once.
//!
//! An entry is `<root>/.seccomp-cache/<hash>.bpf`. It holds its whole key, the canonical bytes of the profile, which is
//! compared in full: the hash only names the file. Whatever is wrong with the cache, the answer is to compile: a full
//! disk, a read-only root, a torn or foreign file are not errors, since the filter does not depend on them.
//!
//! A filter is a boundary, so an entry counts only if it is ours: in a directory and a file that we own and that no one
//! else can write.

use crate::seccomp::{self, Arch, Compiled, Instruction, MAX_INSTRUCTIONS};
use crate::{Result, spec};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Under the runtime's root.
pub const DIRECTORY: &str = ".seccomp-cache";

/// The most entries kept. More distinct profiles than that are rare, and each is compiled in microseconds.
const MOST_ENTRIES: usize = 64;

/// What an entry starts with: the format and the compiler's version.
const HEADER: &str = concat!("dhow seccomp 1 ", env!("CARGO_PKG_VERSION"), "\n");

/// No entry is longer: the kernel's longest program, and a profile that fits a sane `config.json`.
const MOST_BYTES: usize = 1 << 20;

/// The compiled `profile`, from `cache_dir` if it is there; else it is compiled and put there.
pub fn load_or_compile(cache_dir: &Path, profile: &spec::Seccomp, native: Arch) -> Result<Compiled> {
    let key = key(profile, native);
    let path = cache_dir.join(file_name(&key));
    if let Some(found) = read(&path, &key) {
        return Ok(found);
    }
    let compiled = seccomp::compile(profile, native)?;
    // A warning is about this one start; an entry would swallow it from the second on.
    if compiled.warnings.is_empty() {
        // Not an error: see the module's words.
        let _ = store(cache_dir, &path, &key, &compiled);
    }
    Ok(compiled)
}

/// The header, then all that the program depends on, each string with its length before it.
fn key(profile: &spec::Seccomp, native: Arch) -> Vec<u8> {
    let mut key = Vec::with_capacity(8192);
    key.extend_from_slice(HEADER.as_bytes());
    key.push(native as u8);
    string(&mut key, &profile.default_action);
    option(&mut key, profile.default_errno_ret);
    strings(&mut key, &profile.architectures);
    key.push(u8::from(profile.flags.is_some()));
    strings(&mut key, profile.flags.as_deref().unwrap_or_default());
    // What these say does not get into the program, but whether they are there decides if it compiles.
    key.push(u8::from(profile.listener_path.is_empty()));
    key.push(u8::from(profile.listener_metadata.is_empty()));
    number(&mut key, profile.syscalls.len() as u32);
    for call in &profile.syscalls {
        strings(&mut key, &call.names);
        string(&mut key, &call.action);
        option(&mut key, call.errno_ret);
        number(&mut key, call.args.len() as u32);
        for arg in &call.args {
            number(&mut key, arg.index);
            key.extend_from_slice(&arg.value.to_le_bytes());
            key.extend_from_slice(&arg.value_two.to_le_bytes());
            string(&mut key, &arg.op);
        }
    }
    key
}

fn number(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn option(out: &mut Vec<u8>, n: Option<u32>) {
    out.push(u8::from(n.is_some()));
    number(out, n.unwrap_or(0));
}

fn string(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
}

fn strings(out: &mut Vec<u8>, texts: &[String]) {
    number(out, texts.len() as u32);
    for text in texts {
        string(out, text);
    }
}

/// FNV-1a over words of eight bytes. It need not resist anyone: who can write here owns the containers anyway, and a
/// collision costs a compilation.
fn file_name(key: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    format!("{hash:016x}.bpf")
}

/// An entry: the key (which begins with the header), then flags, notify, the number of instructions, and these, then
/// the key's length, so that a torn file does not pass.
fn encode(key: &[u8], compiled: &Compiled) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 8 * compiled.program.len() + 16);
    out.extend_from_slice(key);
    number(&mut out, compiled.flags);
    number(&mut out, compiled.notify.into());
    number(&mut out, compiled.program.len() as u32);
    for i in &compiled.program {
        out.extend_from_slice(&i.code.to_le_bytes());
        out.extend_from_slice(&[i.jt, i.jf]);
        number(&mut out, i.k);
    }
    number(&mut out, key.len() as u32);
    out
}

fn decode(entry: &[u8], key: &[u8]) -> Option<Compiled> {
    let (header, rest) = entry.strip_prefix(key)?.split_first_chunk::<12>()?;
    let (program, end) = rest.split_last_chunk::<4>()?;
    let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let count = field(8) as usize;
    let whole = program.len() == 8 * count && u32::from_le_bytes(*end) as usize == key.len();
    if !whole || count == 0 || count > MAX_INSTRUCTIONS {
        return None;
    }
    Some(Compiled {
        flags: field(0),
        notify: field(4) != 0,
        program: program
            .chunks_exact(8)
            .map(|b| Instruction { code: u16::from_le_bytes([b[0], b[1]]), jt: b[2], jf: b[3], k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]) })
            .collect(),
        warnings: Vec::new(),
    })
}

/// The entry at `path`, if it is there, ours and whole.
fn read(path: &Path, key: &[u8]) -> Option<Compiled> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK).open(path).ok()?;
    let about = file.metadata().ok()?;
    if !about.is_file() || !is_ours(&about) || about.len() as usize > MOST_BYTES {
        return None;
    }
    // The directory too: in one that others can write to, a file of ours may have been put in another's place.
    let directory = fs::symlink_metadata(path.parent()?).ok()?;
    if !directory.is_dir() || !is_ours(&directory) {
        return None;
    }
    let mut entry = vec![0; about.len() as usize];
    file.read_exact(&mut entry).ok()?;
    decode(&entry, key)
}

/// Owned by us, and neither the group nor others can write.
fn is_ours(about: &Metadata) -> bool {
    about.uid() == crate::sys::process::geteuid() && about.mode() & 0o022 == 0
}

/// Write the entry beside its place, then rename it there: a reader sees a whole one or none.
fn store(cache_dir: &Path, path: &Path, key: &[u8], compiled: &Compiled) -> std::io::Result<()> {
    let entry = encode(key, compiled);
    if entry.len() > MOST_BYTES {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(cache_dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if !is_ours(&fs::symlink_metadata(cache_dir)?) {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    make_room(cache_dir)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = create(&temporary).and_then(|mut file| file.write_all(&entry));
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// Leave room for one more entry: remove the oldest, temporary files of crashed runs among them.
fn make_room(cache_dir: &Path) -> std::io::Result<()> {
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for file in fs::read_dir(cache_dir)? {
        let file = file?;
        files.push((file.metadata()?.modified()?, file.path()));
    }
    if files.len() < MOST_ENTRIES {
        return Ok(());
    }
    files.sort();
    let too_many = files.len() + 1 - MOST_ENTRIES;
    files.iter().take(too_many).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("dhow-cache-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Scratch(path)
        }

        fn entries(&self) -> Vec<PathBuf> {
            let Ok(dir) = fs::read_dir(&self.0) else {
                return Vec::new();
            };
            dir.map(|e| e.unwrap().path()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn profile(errno: u32) -> spec::Seccomp {
        spec::Seccomp { default_action: "SCMP_ACT_ERRNO".into(), default_errno_ret: Some(errno), ..Default::default() }
    }

    fn load(dir: &Scratch, errno: u32) -> Compiled {
        load_or_compile(&dir.0, &profile(errno), Arch::X86_64).unwrap()
    }

    /// Put another program under the key of `errno`, to see whether an entry is used.
    fn plant(dir: &Scratch, errno: u32) -> PathBuf {
        load(dir, errno);
        let key = key(&profile(errno), Arch::X86_64);
        let path = dir.0.join(file_name(&key));
        let mut other = seccomp::compile(&profile(99), Arch::X86_64).unwrap();
        other.flags = 4096;
        fs::write(&path, encode(&key, &other)).unwrap();
        path
    }

    #[test]
    fn the_second_time_it_is_read() {
        let dir = Scratch::new("second");
        let first = load(&dir, 1);
        assert_eq!(dir.entries().len(), 1);
        assert_eq!(load(&dir, 1), first);
        plant(&dir, 1);
        assert_eq!(load(&dir, 1).flags, 4096);
        assert_ne!(load(&dir, 2).flags, 4096);
        assert_eq!(dir.entries().len(), 2);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&dir.0), mode(&dir.entries()[0])), (0o700, 0o600));
    }

    #[test]
    fn what_others_can_write_is_not_trusted() {
        let dir = Scratch::new("trust");
        let path = plant(&dir, 1);
        for mode in [0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_ne!(load(&dir, 1).flags, 4096, "{mode:o}");
            plant(&dir, 1);
        }
        fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o770)).unwrap();
        assert_ne!(load(&dir, 1).flags, 4096);
        fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(load(&dir, 1).flags, 4096);
        let elsewhere = dir.0.join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_ne!(load(&dir, 1).flags, 4096, "a link");
    }

    #[test]
    fn what_is_corrupt_is_compiled_again() {
        let dir = Scratch::new("corrupt");
        let path = plant(&dir, 1);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], &key(&profile(1), Arch::X86_64)).is_none());
        }
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let good = load(&dir, 1);
        assert_ne!(good.flags, 4096);
        assert_eq!(load(&dir, 1), good);
        assert_ne!(fs::read(&path).unwrap(), whole, "it was written anew");
    }

    #[test]
    fn another_key_under_the_same_name_does_not_count() {
        let dir = Scratch::new("collision");
        let path = plant(&dir, 1);
        let other = dir.0.join(file_name(&key(&profile(2), Arch::X86_64)));
        fs::copy(path, other).unwrap();
        assert_ne!(load(&dir, 2).flags, 4096);
    }

    #[test]
    fn no_directory_is_no_error() {
        let compiled = load_or_compile(Path::new("/proc/no/such"), &profile(1), Arch::X86_64);
        assert_eq!(compiled.unwrap(), seccomp::compile(&profile(1), Arch::X86_64).unwrap());
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let dir = Scratch::new("bound");
        for errno in 0..MOST_ENTRIES as u32 + 20 {
            load(&dir, errno);
        }
        assert_eq!(dir.entries().len(), MOST_ENTRIES);
    }

    #[test]
    fn keys_differ_where_programs_may() {
        let a = profile(1);
        let mut b = a.clone();
        b.flags = Some(vec!["SECCOMP_FILTER_FLAG_LOG".into()]);
        let keys = [key(&a, Arch::X86_64), key(&a, Arch::Aarch64), key(&b, Arch::X86_64), key(&profile(2), Arch::X86_64)];
        for (n, one) in keys.iter().enumerate() {
            assert!(keys[n + 1..].iter().all(|other| other != one));
        }
    }
}
