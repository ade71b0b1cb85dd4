//! The process that unpacks: dhowctl again, by another name, with nothing but what it is sent.
//!
//!     parent ── stdin: a SOCK_SEQPACKET, JSON and descriptors ──→ worker
//!     parent ←─ stdout: a pipe, a line of JSON a layer ────────── worker
//!
//! The first message has the directory that all is written below, the others a [`Job`] each with two descriptors: the
//! layer's bytes, and the directory for it. A job is done by a pair of threads, one that decompresses and one that writes;
//! with one pair jobs are done in order, and while a layer is written the next is being decompressed already.

use super::apply::{Applied, Settings, apply};
use super::confine;
use super::decompress::{Chunks, Used, chunks};
use super::reader::Reader;
use super::{Limits, Owners, Way};
use crate::image::digest::{Algorithm, Digest};
use crate::sys::{self, process, socket};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

/// The name by which dhowctl knows that it is to be the worker.
pub const NAME: &str = "dhowctl: unpacking";
const MOST_MESSAGE: usize = 64 << 10;
/// A deep tree costs a descriptor for each directory down to where we are.
const DESCRIPTORS: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Setup {
    pairs: usize,
    limits: Limits,
}

/// A layer to be unpacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub number: usize,
    pub way: Way,
    pub owners: Owners,
    /// Of its diff id.
    pub sha512: bool,
}

/// What came of the layer `number`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    pub number: usize,
    pub outcome: Result<Done, Failure>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    pub applied: Applied,
    /// Of the decompressed layer. None when it wasn't read to its end ([`Applied::needs_below`]).
    pub diff_id: Option<Digest>,
    pub bytes: u64,
}

/// An [`Error`] on its way between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    errno: Option<i32>,
    doing: String,
    subject: String,
    cause: String,
    hint: String,
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure { errno: e.errno(), doing: e.doing.clone(), subject: e.subject.clone(), cause: e.cause.clone(), hint: e.hint.clone() }
    }
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Error {
        let kind = f.errno.map_or(Kind::Other, |errno| Kind::Kernel { call: "", errno });
        Error::new(kind, f.doing, f.subject, f.cause).hint(f.hint)
    }
}

/// Workers that run, and whether all are to end.
static RUNNING: Mutex<(Vec<Arc<OwnedFd>>, bool)> = Mutex::new((Vec::new(), false));

/// End all workers, those too that would be started: whoever waits for one gets an error, and cleans up.
pub fn interrupt() {
    if let Ok(mut running) = RUNNING.lock() {
        running.1 = true;
        running.0.iter().for_each(|pidfd| {
            // It may have ended by itself.
            let _ = process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        });
    }
}

/// The parent's end. Dropped, it kills the worker.
pub struct Worker {
    pidfd: Arc<OwnedFd>,
    child: Child,
    jobs: OwnedFd,
    answers: BufReader<PipeReader>,
}

impl Worker {
    /// Start it; it may write below `area` alone, and does `pairs` jobs at once.
    pub fn start(area: BorrowedFd, pairs: usize, limits: &Limits) -> Result<Worker> {
        let failed = |e: std::io::Error| Error::io(&e, "starting the unpacker", "");
        let (ours, theirs) = socket::seqpacket_pair().map_err(|e| e.error("socketpair", "starting the unpacker", ""))?;
        let (answers, out) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::from(out)).stderr(Stdio::inherit());
        let child = command.spawn().map_err(failed)?;
        // The command has our copies of the worker's ends.
        drop(command);
        let pidfd = Arc::new(process::pidfd_open(child.id() as i32).map_err(|e| e.error("pidfd_open", "starting the unpacker", ""))?);
        let worker = Worker { pidfd: pidfd.clone(), child, jobs: ours, answers: BufReader::new(answers) };
        match RUNNING.lock() {
            Ok(mut running) if !running.1 => running.0.push(pidfd),
            _ => return Err(interrupted()),
        }
        worker.send(&Setup { pairs, limits: *limits }, &[area.as_raw_fd()])?;
        Ok(worker)
    }

    fn send(&self, message: &impl Serialize, fds: &[i32]) -> Result<()> {
        let text = serde_json::to_vec(message).map_err(|e| Error::other("telling the unpacker", "", e))?;
        if text.len() > MOST_MESSAGE {
            return Err(Error::other("telling the unpacker", "", "the id map is too long"));
        }
        socket::send(self.jobs.as_fd(), &text, fds).map_err(|e| e.error("sendmsg", "telling the unpacker", ""))
    }

    /// Unpack the layer in `data` onto `directory`.
    pub fn begin(&self, job: &Job, data: BorrowedFd, directory: BorrowedFd) -> Result<()> {
        self.send(job, &[data.as_raw_fd(), directory.as_raw_fd()])
    }

    /// Wait for the next layer to be done: its number and what came of it.
    pub fn answer(&mut self) -> Result<(usize, Result<Done>)> {
        let mut line = String::new();
        let n = self.answers.read_line(&mut line).map_err(|e| Error::io(&e, "hearing from the unpacker", ""))?;
        if n == 0 {
            return Err(self.died());
        }
        let answer: Answer = serde_json::from_str(&line).map_err(|e| Error::other("hearing from the unpacker", "", e))?;
        Ok((answer.number, answer.outcome.map_err(Error::from)))
    }

    fn died(&mut self) -> Error {
        if RUNNING.lock().is_ok_and(|running| running.1) {
            return interrupted();
        }
        let how = match self.child.wait() {
            Ok(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("it was killed by signal {signal}"),
                (None, code) => format!("it ended with code {}", code.unwrap_or_default()),
            },
            Err(e) => e.to_string(),
        };
        Error::other("unpacking", "", format!("the unpacking process is gone: {how}"))
    }
}

fn interrupted() -> Error {
    Error::other("unpacking", "", "interrupted by a signal")
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.lock() {
            running.0.retain(|pidfd| !Arc::ptr_eq(pidfd, &self.pidfd));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is meant to be a worker.
pub fn is_wanted(argv0: Option<&std::ffi::OsStr>) -> bool {
    argv0.is_some_and(|name| name == NAME)
}

/// The worker: until its parent has no more jobs.
///
/// # Errors
/// It could not be set up. What goes wrong with a layer is that layer's [`Answer`].
pub fn main() -> Result<()> {
    process::set_name(c"dhowctl-unpack");
    let stdin = sys::fs::STDIO[0];
    let (setup, [area, _]) = receive::<Setup>(stdin)?.ok_or_else(|| Error::other("setting up the unpacker", "", "no instructions"))?;
    let area = Arc::new(area.ok_or_else(|| Error::other("setting up the unpacker", "", "no directory"))?);
    if let Ok((_, hard)) = process::rlimit(process::DESCRIPTORS) {
        let _ = process::set_rlimit(0, process::DESCRIPTORS, hard.min(DESCRIPTORS), hard);
    }
    confine::process(area.as_fd().as_fd())?;
    let filter = Arc::new(confine::filter()?);
    let common = Arc::new(Common {
        limits: setup.limits,
        used: Used::default(),
        acls: AtomicBool::new(false),
        out: Mutex::new(File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(|e| Error::io(&e, "setting up the unpacker", ""))?)),
    });
    let (give, take) = channel();
    let take = Arc::new(Mutex::new(take));
    let (ready, is_ready) = channel();
    for _ in 0..setup.pairs.max(1) {
        let (to_writer, from_pump) = sync_channel(1);
        spawn(&area, &filter, &ready, {
            let (common, take) = (common.clone(), take.clone());
            move || decompress(&common, &take, &to_writer)
        })?;
        spawn(&area, &filter, &ready, {
            let common = common.clone();
            move || write(&common, &from_pump)
        })?;
    }
    drop(ready);
    confine::thread(area.as_fd().as_fd(), &filter)?;
    // All threads are confined before there is anything to do.
    for _ in 0..setup.pairs.max(1) * 2 {
        is_ready.recv().map_err(|_| Error::other("setting up the unpacker", "", "a thread failed"))??;
    }
    while let Some((job, [data, directory])) = receive::<Job>(stdin)? {
        let (Some(data), Some(directory)) = (data, directory) else { return Err(Error::other("setting up the unpacker", "", "descriptors are missing")) };
        if give.send(Work { job, data, directory }).is_err() {
            break;
        }
    }
    // Our parent wants no more, or is gone.
    Ok(())
}

/// What all threads share.
struct Common {
    limits: Limits,
    used: Used,
    /// Some layer had default ACLs.
    acls: AtomicBool,
    out: Mutex<File>,
}

struct Work {
    job: Job,
    data: OwnedFd,
    directory: OwnedFd,
}

/// A layer on its way from the decompressing to the writing thread.
struct Begun {
    job: Job,
    directory: OwnedFd,
    chunks: Chunks,
}

/// One message; None at the end.
fn receive<T: for<'a> Deserialize<'a>>(socket: BorrowedFd) -> Result<Option<(T, [Option<OwnedFd>; 2])>> {
    let mut text = vec![0; MOST_MESSAGE];
    let mut fds = [None, None];
    let (n, _) = socket::recv(socket, &mut text, &mut fds).map_err(|e| e.error("recvmsg", "hearing what to unpack", ""))?;
    if n == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&text[..n]).map_err(|e| Error::other("hearing what to unpack", "", e))?;
    Ok(Some((message, fds)))
}

fn spawn(area: &Arc<OwnedFd>, filter: &Arc<seccompiler::BpfProgram>, ready: &Sender<Result<()>>, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let (area, filter, ready) = (area.clone(), filter.clone(), ready.clone());
    let confined = move || {
        let confined = confine::thread(area.as_fd().as_fd(), &filter);
        let go = confined.is_ok();
        if ready.send(confined).is_ok() && go {
            drop(ready);
            work();
        }
    };
    std::thread::Builder::new().stack_size(8 << 20).spawn(confined).map(drop).map_err(|e| Error::io(&e, "starting a thread", ""))
}

fn decompress(common: &Common, work: &Mutex<Receiver<Work>>, writer: &SyncSender<Begun>) {
    loop {
        let next = work.lock().map(|take| take.recv());
        let Ok(Ok(Work { job, data, directory })) = next else { return };
        let algorithm = if job.sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let (pump, chunks) = chunks();
        if writer.send(Begun { job, directory, chunks }).is_err() {
            return;
        }
        pump.run(File::from(data), algorithm, &common.limits, &common.used);
    }
}

fn write(common: &Common, begun: &Receiver<Begun>) {
    while let Ok(Begun { job, directory, chunks }) = begun.recv() {
        let outcome = unpack(common, &job, directory.as_fd(), chunks).map_err(Failure::from);
        // A line always serialises. Where the parent is gone, so are we soon.
        let mut line = serde_json::to_vec(&Answer { number: job.number, outcome }).unwrap_or_default();
        line.push(b'\n');
        if let Ok(mut out) = common.out.lock() {
            let _ = out.write_all(&line);
        }
    }
}

fn unpack(common: &Common, job: &Job, directory: BorrowedFd, chunks: Chunks) -> Result<Done> {
    let left = common.limits.entries.saturating_sub(common.used.entries.load(Ordering::Relaxed));
    let settings = Settings { way: job.way, owners: job.owners.clone(), acls: common.acls.load(Ordering::Relaxed), entries: left };
    let mut reader = Reader::new(chunks);
    let applied = apply(&mut reader, directory, &settings)?;
    common.used.entries.fetch_add(applied.entries, Ordering::Relaxed);
    common.acls.fetch_or(applied.acls, Ordering::Relaxed);
    let sum = reader.into_inner().sum().cloned();
    Ok(Done { applied, bytes: sum.as_ref().map_or(0, |sum| sum.bytes), diff_id: sum.map(|sum| sum.digest) })
}
