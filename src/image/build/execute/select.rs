//! Which files a COPY takes: a pattern below a directory → a list, which the cache's key is made of and which is copied.
//!
//! Context and rootfs belong to strangers: whatever is looked at is resolved below their root by openat2(2).

use super::files::{self, c_string, join, told};
use crate::image::build::dockerfile::ignore::Verdict;
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::unpack::entry::{Entry, Kind, show};
use crate::sys::fs::{self, resolve};
use crate::sys::{Errno, Result as SysResult};
use crate::{Error, Kind as ErrorKind, Result};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
/// A context with more is a mistake.
const MOST_DEPTH: usize = 256;

/// What patterns say of a path.
pub(super) type Judge<'a> = dyn Fn(&[u8]) -> Verdict + 'a;

/// A tree that files are taken from.
pub(super) struct Tree<'a> {
    pub root: BorrowedFd<'a>,
    /// Asked with the path below the root.
    pub ignore: Option<&'a Judge<'a>>,
    /// The context's files are root's, whoever owns them here.
    pub roots_own: bool,
}

/// What the patterns of `--exclude` say of a path below what is copied (of a file: of its name).
pub(super) type Exclude<'a> = Judge<'a>;

/// What matched: a file, or a directory of which all that is in it is taken.
pub(super) struct Top {
    /// Below the root of the tree, as it matched.
    pub path: Vec<u8>,
    pub is_dir: bool,
    /// The first is the file or the directory itself, whose path below it is "".
    pub items: Vec<Item>,
}

pub(super) struct Item {
    /// The path is below the tree's root.
    pub entry: Entry,
    /// Where in that the part below the [`Top`] begins.
    below: usize,
    /// Of a file with several names: which file it is.
    pub same: Option<(u64, u64)>,
    /// Of a file, if it was asked for: SHA-256.
    content: Option<[u8; 32]>,
}

impl Item {
    /// Below the tree's root.
    pub fn source(&self) -> &[u8] {
        &self.entry.path
    }

    /// Below the [`Top`].
    pub fn path(&self) -> &[u8] {
        &self.entry.path[self.below..]
    }
}

/// What is to be found out about files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// For [`digest`].
    Contents,
    HeadersOnly,
}

/// All that matches `pattern` below `base`, in the order of names. `deep`: `**` is any number of directories, else it is `*`.
///
/// # Errors
/// There is nothing, and `pattern` has no wildcards.
pub(super) fn select(tree: &Tree, base: &str, pattern: &str, deep: bool, exclude: &Exclude, read: Read) -> Result<Vec<Top>> {
    let parts = |path: &str| path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_string).collect::<Vec<_>>();
    let start = parts(base).join("/");
    let wanted = parts(pattern);
    let mut search = Search { tree, deep, found: Vec::new() };
    search.expand(start.into_bytes(), &wanted, false)?;
    let mut found = search.found;
    if deep {
        // A directory is taken with all that is in it, which may match as well.
        found.sort();
        found.dedup();
        let within = |path: &[u8], dir: &[u8]| dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
        found = found.iter().filter(|path| !found.iter().any(|dir| dir != *path && within(path, dir))).cloned().collect();
    }
    if found.is_empty() && !has_wildcards(pattern) {
        let shown = format!("{}/{}", base.trim_end_matches('/'), pattern.trim_start_matches('/'));
        return Err(Error::new(
            ErrorKind::NotFound,
            "copying",
            shown,
            if tree.ignore.is_some() { "it is not in the context, or ignored" } else { "there is no such file" },
        ));
    }
    let mut walk = Walk { tree, exclude, buffer: if read == Read::Contents { vec![0; 128 << 10] } else { Vec::new() }, top: 0, items: Vec::new() };
    let mut tops = Vec::new();
    for path in found {
        tops.extend(walk.gather(path)?);
    }
    Ok(tops)
}

pub(super) fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

fn ignored(tree: &Tree, path: &[u8]) -> Verdict {
    if path.is_empty() { Verdict::Keep } else { tree.ignore.map_or(Verdict::Keep, |ignore| ignore(path)) }
}

/// The search for what matches.
struct Search<'a> {
    tree: &'a Tree<'a>,
    deep: bool,
    found: Vec<Vec<u8>>,
}

impl Search<'_> {
    /// `walked`: there was a wildcard before, and what those find is no way through a symlink.
    fn expand(&mut self, at: Vec<u8>, wanted: &[String], walked: bool) -> Result<()> {
        let Some((first, rest)) = wanted.split_first() else {
            match open(self.tree.root, &at, libc::O_PATH) {
                Ok(_) => self.found.push(at),
                Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                Err(e) => return Err(told("openat2", "looking at", &at)(e)),
            }
            return Ok(());
        };
        if !has_wildcards(first) && !walked {
            return self.expand(join(&at, first.as_bytes()), rest, false);
        }
        let dir = match open(self.tree.root, &at, libc::O_RDONLY | libc::O_DIRECTORY) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(()),
            other => other.map_err(told("openat2", "opening", &at))?,
        };
        let any_depth = self.deep && first == "**";
        if any_depth {
            self.expand(at.clone(), rest, true)?;
        }
        for name in files::sorted_names(dir.as_fd(), &at)? {
            let path = join(&at, name.to_bytes());
            let is_way = || fs::lstatat(dir.as_fd(), &name).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
            let (matches, rest) = if any_depth { (is_way(), wanted) } else { (glob(first.as_bytes(), name.to_bytes()) && (rest.is_empty() || is_way()), rest) };
            if matches && ignored(self.tree, &path) != Verdict::Skip {
                self.expand(path, rest, true)?;
            }
        }
        Ok(())
    }
}

/// Open `path` below `root`, symlinks followed within it.
pub(super) fn open(root: BorrowedFd, path: &[u8], flags: i32) -> SysResult<OwnedFd> {
    let path = if path.is_empty() { c".".to_owned() } else { c_string(path) };
    fs::openat2(root, &path, flags, 0, IN_ROOT)
}

/// A file to be read, wherever symlinks below `root` lead.
pub(super) fn open_file(root: BorrowedFd, path: &[u8]) -> Result<std::fs::File> {
    let failed = told("openat2", "opening", path);
    let file = open(root, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY).map_err(&failed)?;
    match fs::fstat(file.as_fd()).map_err(&failed)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(file.into()),
        _ => Err(Error::other("opening", show(path), "it was replaced while it was read")),
    }
}

/// A look at everything below a path.
struct Walk<'a> {
    tree: &'a Tree<'a>,
    exclude: &'a Exclude<'a>,
    /// Contents pass through it; empty if nobody asks for them.
    buffer: Vec<u8>,
    /// Bytes of the top's path.
    top: usize,
    items: Vec<Item>,
}

impl Walk<'_> {
    fn gather(&mut self, path: Vec<u8>) -> Result<Option<Top>> {
        let tree = self.tree;
        let failed = |e: Errno| told("openat2", "looking at", &path)(e);
        let handle = open(tree.root, &path, libc::O_PATH).map_err(&failed)?;
        let stat = fs::fstat(handle.as_fd()).map_err(&failed)?;
        let verdict = ignored(tree, &path);
        let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if verdict == Verdict::Skip || (verdict == Verdict::Look && !is_dir) || (!is_dir && (self.exclude)(name) != Verdict::Keep) {
            return Ok(None);
        }
        drop(handle);
        self.top = path.len();
        if is_dir {
            let dir = open(tree.root, &path, libc::O_RDONLY | libc::O_DIRECTORY).map_err(&failed)?;
            let mut entry = files::entry(dir.as_fd(), c".", &stat, path.clone())?.unwrap_or_default();
            entry.xattrs = files::xattrs(dir.as_fd(), &path)?;
            self.keep(entry, None, None);
            self.below(dir.as_fd(), &path, 0)?;
        } else if let Some(mut entry) = files::entry(tree.root, c".", &stat, path.clone())? {
            let content = match entry.kind {
                Kind::File => self.file(&open_file(tree.root, &path)?, &mut entry, &path)?,
                _ => None,
            };
            self.keep(entry, None, content);
        }
        Ok(Some(Top { path, is_dir, items: std::mem::take(&mut self.items) }))
    }

    /// All in `dir`, which is `source` below the root.
    fn below(&mut self, dir: BorrowedFd, source: &[u8], depth: usize) -> Result<()> {
        if depth > MOST_DEPTH {
            return Err(Error::other("copying", show(source), format!("directories are nested more than {MOST_DEPTH} deep")));
        }
        for name in files::sorted_names(dir, source)? {
            let source = join(source, name.to_bytes());
            let verdict = match (ignored(self.tree, &source), (self.exclude)(&source[self.skip(&source)..])) {
                (Verdict::Skip, _) | (_, Verdict::Skip) => continue,
                (Verdict::Keep, Verdict::Keep) => Verdict::Keep,
                _ => Verdict::Look,
            };
            let stat = match fs::lstatat(dir, &name) {
                // It went a moment ago.
                Err(Errno(libc::ENOENT)) => continue,
                other => other.map_err(told("fstatat", "looking at", &source))?,
            };
            let Some(mut entry) = files::entry(dir, &name, &stat, source.clone())? else { continue };
            match entry.kind {
                Kind::Directory => {
                    let child = files::open_dir(dir, &name, &source)?;
                    entry.xattrs = files::xattrs(child.as_fd(), &source)?;
                    let at = self.items.len();
                    self.keep(entry, None, None);
                    self.below(child.as_fd(), &source, depth + 1)?;
                    if verdict == Verdict::Look && self.items.len() == at + 1 {
                        self.items.pop();
                    }
                }
                _ if verdict != Verdict::Keep => {}
                Kind::File => {
                    let content = self.file(&files::open_file(dir, &name, &source)?, &mut entry, &source)?;
                    self.keep(entry, (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino)), content);
                }
                _ => self.keep(entry, None, None),
            }
        }
        Ok(())
    }

    /// What only the open file tells.
    fn file(&mut self, file: &File, entry: &mut Entry, source: &[u8]) -> Result<Option<[u8; 32]>> {
        entry.xattrs = files::xattrs(file.as_fd(), source)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let (mut hasher, mut count) = (Sha256::new(), 0);
        // A file that says it is empty may be one of those that have no size.
        while count < entry.size || count == 0 {
            match (&*file).read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&self.buffer[..n]);
                    count += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(&e, "reading", show(source))),
            }
        }
        Ok(Some(hasher.finalize().into()))
    }

    /// Where the part below the top begins.
    fn skip(&self, source: &[u8]) -> usize {
        if self.top == 0 { 0 } else { source.len().min(self.top + 1) }
    }

    fn keep(&mut self, mut entry: Entry, same: Option<(u64, u64)>, content: Option<[u8; 32]>) {
        if self.tree.roots_own {
            (entry.uid, entry.gid) = (0, 0);
        }
        let below = self.skip(&entry.path);
        self.items.push(Item { entry, below, same, content });
    }
}

/// Of what is in `tops`, selected with their contents: names, headers without times, contents, attributes.
pub(super) fn digest(tops: &[Top]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for top in tops {
        add(&mut hasher, top.path.rsplit(|b| *b == b'/').next().unwrap_or_default());
        for item in &top.items {
            let e = &item.entry;
            add(&mut hasher, item.path());
            add(&mut hasher, &e.link);
            let numbers = format!("{:?} {:o} {} {} {} {:?}", e.kind, e.mode, e.uid, e.gid, e.size, e.device);
            add(&mut hasher, numbers.as_bytes());
            for (name, value) in &e.xattrs {
                add(&mut hasher, name);
                add(&mut hasher, value);
            }
            add(&mut hasher, item.content.as_ref().map_or(&[], |sum| &sum[..]));
        }
        add(&mut hasher, b"");
    }
    hasher.finish()
}

fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Go's filepath.Match for one component: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
pub(super) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skip| glob(rest, &name[skip..])),
        Some((b'?', rest)) => !name.is_empty() && glob(rest, &name[char_length(name)..]),
        Some((b'[', rest)) => match class(rest, name) {
            Some((matches, rest)) => matches && glob(rest, &name[char_length(name)..]),
            None => false,
        },
        Some((b'\\', rest)) if !rest.is_empty() => name.first() == rest.first() && glob(&rest[1..], &name[1..]),
        Some((byte, rest)) => name.first() == Some(byte) && glob(rest, &name[1..]),
    }
}

fn char_length(text: &[u8]) -> usize {
    let length = match text.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    length.min(text.len())
}

/// Behind the `[`: whether the first of `name` is in the class, and what follows it.
fn class<'p>(mut rest: &'p [u8], name: &[u8]) -> Option<(bool, &'p [u8])> {
    let byte = *name.first()?;
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = &rest[1..];
    }
    let (mut matches, mut first) = (false, true);
    loop {
        if rest.first() == Some(&b']') && !first {
            return Some((matches != negated, &rest[1..]));
        }
        first = false;
        let (low, after) = class_end(rest)?;
        let (high, after) = if after.first() == Some(&b'-') { class_end(&after[1..])? } else { (low, after) };
        matches |= (low..=high).contains(&byte);
        rest = after;
    }
}

fn class_end(rest: &[u8]) -> Option<(u8, &[u8])> {
    match rest {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_one_component() {
        for (pattern, name, matches) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "zx", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("**", "any", true),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("[", "[", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), matches, "{pattern} {name}");
        }
    }
}
