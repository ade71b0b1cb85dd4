//! What ADD has beside COPY: files from the web, git repositories, archives that are unpacked.

use super::copy;
use super::select;
use crate::image::Digest;
use crate::image::build::plan::{Git, Inline};
use crate::image::digest::{Algorithm, Hasher};
use crate::image::ids;
use crate::image::registry::Client;
use crate::image::store::failed;
use crate::image::unpack::entry::{Entry, show};
use crate::image::unpack::reader::Reader;
use crate::image::unpack::worker::{Job, Worker};
use crate::image::unpack::{Limits, Way};
use crate::sys::tree::{self, Time};
use crate::{Error, Result};
use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Of a file from the web, in bytes.
const MOST_DOWNLOAD: u64 = 16 << 30;

/// A here-document as a file of `dir`.
pub(super) fn write_inline(dir: &Path, inline: &Inline, mode: u32, epoch: Option<u64>) -> Result<()> {
    let path = dir.join(&inline.name);
    std::fs::write(&path, &inline.data).map_err(failed("writing", &path))?;
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed("writing", &path))?;
    if let Some(seconds) = epoch {
        let file = File::open(&path).map_err(failed("opening", &path))?;
        let time = Time { seconds: seconds as i64, nanoseconds: 0 };
        tree::set_times(file.as_fd(), time, time).map_err(|e| e.error("utimensat", "writing", path.display().to_string()))?;
    }
    Ok(())
}

/// Fetch `url` into the file `to`, mode 0600, with the server's time.
pub(super) fn download(client: &Client, url: &str, checksum: Option<&Digest>, to: &Path) -> Result<()> {
    let (mut body, modified) = client.get(url)?;
    let mut file = File::create_new(to).map_err(failed("making", to))?;
    let mut hasher = Hasher::new(checksum.map_or(Algorithm::Sha256, Digest::algorithm));
    let (mut buffer, mut count) = (vec![0; 128 << 10], 0);
    loop {
        let n = body.read(&mut buffer).map_err(|e| Error::io(&e, "fetching", url))?;
        if n == 0 {
            break;
        }
        count += n as u64;
        if count > MOST_DOWNLOAD {
            return Err(Error::other("fetching", url, format!("it has more than {MOST_DOWNLOAD} bytes")));
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(failed("writing", to))?;
    }
    if let Some(checksum) = checksum {
        let found = hasher.finish();
        if found != *checksum {
            return Err(Error::other("fetching", url, format!("its digest is {found}, --checksum says {checksum}")));
        }
    }
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed("writing", to))?;
    let time = Time { seconds: modified.unwrap_or(0), nanoseconds: 0 };
    tree::set_times(file.as_fd(), time, time).map_err(|e| e.error("utimensat", "writing", to.display().to_string()))
}

/// Check the repository out below `dir`; where. `agent`: the socket of ssh's.
pub(super) fn clone(git: &Git, agent: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    let tree = dir.join("tree");
    std::fs::create_dir(&tree).map_err(failed("making", &tree))?;
    let run = |words: &[&str]| -> Result<String> {
        // A checkout's modes are 644 and 755, whatever ours would be.
        let mut command = Command::new("sh");
        command.args(["-c", "umask 022 && exec git \"$@\"", "git"]);
        // No hooks, no programs that the repository or a configuration names, no questions.
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false"]);
        command.args(words).current_dir(&tree).stdin(Stdio::null());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "http:https:ssh:git:file");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            // ssh would ask the terminal.
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        command.envs(agent.map(|socket| ("SSH_AUTH_SOCK", socket)));
        let done = command.output().map_err(|e| Error::io(&e, "running", "git"))?;
        if done.status.code() == Some(127) {
            return Err(Error::other("fetching the repository", git.remote.clone(), "git is not installed").hint("ADD of a repository needs it"));
        }
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let last = said.lines().last().unwrap_or_default().to_string();
            return Err(Error::other("fetching the repository", git.remote.clone(), last));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_string())
    };
    if git.remote.starts_with('-') || git.reference.starts_with('-') {
        return Err(Error::usage(format!("{:?} is no repository", git.remote)));
    }
    let reference = if git.reference.is_empty() { "HEAD" } else { &git.reference };
    run(&["init", "--quiet"])?;
    run(&["remote", "add", "origin", &git.remote])?;
    let shallow = run(&["fetch", "--quiet", "--depth=1", "origin", reference]);
    match shallow {
        Ok(_) => run(&["checkout", "--quiet", "FETCH_HEAD"])?,
        // A short commit id, or a server that has no shallow fetches.
        Err(_) => {
            run(&["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
            run(&["checkout", "--quiet", reference]).or_else(|_| run(&["checkout", "--quiet", &format!("origin/{reference}")]))?
        }
    };
    let commit = run(&["rev-parse", "HEAD"])?;
    if !commit.starts_with(&git.checksum) {
        return Err(Error::other("fetching the repository", git.remote.clone(), format!("its commit is {commit}, --checksum says {}", git.checksum)));
    }
    if git.submodules && tree.join(".gitmodules").exists() {
        run(&["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"])?;
    }
    if !git.keep_git_dir {
        crate::image::layers::remove_tree(&tree.join(".git"))?;
    }
    Ok(tree)
}

/// Whether the file is a tar archive, compressed or not, by its content.
pub(super) fn is_archive(root: BorrowedFd, path: &[u8]) -> Result<bool> {
    let file = select::open_file(root, path)?;
    if file.metadata().map_err(|e| Error::io(&e, "looking at", show(path)))?.len() == 0 {
        return Ok(false);
    }
    let Ok(plain) = decompressed(file) else { return Ok(false) };
    Ok(Reader::new(BufReader::new(plain)).next(&mut Entry::default()).unwrap_or(false))
}

/// Unpack the archive at `path` below `from` into the directory `to` of `root`, in the process that unpacks layers.
pub(super) fn unpack(root: BorrowedFd, from: BorrowedFd, path: &[u8], to: &str, owner: Option<(u32, u32)>) -> Result<()> {
    if owner.is_some() {
        return Err(Error::unsupported("unpacking", show(path), "its own owners: --chown of an archive").hint("chown it in a RUN"));
    }
    let (directory, _) = copy::make_dirs(root, to.as_bytes(), (0, 0), false)?;
    let failed = |e: io::Error| Error::io(&e, "unpacking", show(path));
    let mut plain = decompressed(select::open_file(from, path)?).map_err(failed)?;
    let (read, mut write) = io::pipe().map_err(failed)?;
    let mut worker = Worker::start(root, 1, &Limits::default())?;
    worker.begin(&Job { number: 0, way: Way::Above, owners: ids::owners(), sha512: false }, read.as_fd(), directory.as_fd())?;
    drop(read);
    // The worker's own failure says more than the broken pipe that it leaves.
    let fed = io::copy(&mut plain, &mut write);
    drop(write);
    let (_, outcome) = worker.answer()?;
    outcome.map_err(|e| e.within(&format!("unpacking {}", show(path))))?;
    fed.map(drop).map_err(failed)
}

/// However it is compressed: its first bytes say.
fn decompressed(mut file: File) -> io::Result<Box<dyn Read>> {
    let mut start = [0; 6];
    let mut filled = 0;
    while filled < start.len() {
        match file.read(&mut start[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    file.rewind()?;
    let input = BufReader::with_capacity(128 << 10, file);
    Ok(match &start[..filled] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new(input, true)),
        _ => Box::new(input),
    })
}
