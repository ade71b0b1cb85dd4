//! A connection to systemd: the few calls that a container needs, each with a time limit.
//!
//! Root speaks to /run/systemd/private, as systemctl does: it needs no D-Bus daemon and saves its two hops. A user's
//! manager has such a socket as well. The bus is the other way, where there is no such socket.

use super::message::{self, FIXED, Message, Property, Reader, Target, Writer};
use crate::{Error, Kind, Result};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For one call and its job. systemd answers in milliseconds, but not while it reloads.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: Target = Target { destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager" };
const PROPERTIES: Target = Target { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
const DAEMON: Target = Target { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// EXTERNAL with no name given: the server takes the socket's credentials, so that it works in a user namespace too.
const HANDSHAKE: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    System,
    User,
}

/// A call that failed.
#[derive(Debug)]
pub enum Failure {
    /// The connection is gone (systemd re-executes itself): worth another try.
    Lost(String),
    /// systemd's answer: the error's name, without its prefix, and words.
    Refused { name: String, words: String },
    /// No answer in time.
    Late,
}

impl Failure {
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Failure::Refused { name, .. } if name == wanted)
    }

    pub fn error(self, doing: &str, unit: &str) -> Error {
        let cause = match self {
            Failure::Lost(why) => format!("the connection to systemd was lost: {why}"),
            Failure::Refused { name, words } => format!("systemd refused: {words} ({name})"),
            Failure::Late => format!("systemd did not answer within {} s", PATIENCE.as_secs()),
        };
        Error::new(Kind::Other, doing, unit, cause)
    }
}

pub type Outcome<T> = std::result::Result<T, Failure>;

pub struct Bus {
    stream: UnixStream,
    serial: u32,
    deadline: Instant,
    /// Jobs that have ended: their object path and result.
    ended: Vec<(String, String)>,
}

impl Bus {
    pub fn connect(manager: Manager) -> Result<Bus> {
        let (private, bus) = sockets(manager);
        let deadline = Instant::now() + PATIENCE;
        let mut failed;
        loop {
            failed = String::new();
            let mut transient = false;
            for (path, is_bus) in private.iter().map(|p| (p, false)).chain(bus.iter().map(|p| (p, true))) {
                let failure = match Bus::open(path, is_bus) {
                    Ok(bus) => return Ok(bus),
                    Err(failure) => failure,
                };
                transient |= matches!(failure, Failure::Lost(_));
                failed += &format!("{}{}: {}", if failed.is_empty() { "" } else { "; " }, path.display(), failure.words());
            }
            if !transient || Instant::now() > deadline {
                break;
            }
            // While it re-executes itself nobody listens; there is nothing to wait on.
            std::thread::sleep(Duration::from_millis(20));
        }
        let hint = match manager {
            Manager::System => "the runtime must be root to use systemd's cgroup driver; see also --rootless",
            Manager::User => "the user needs a systemd of its own: log in, or `loginctl enable-linger`, with XDG_RUNTIME_DIR set",
        };
        let failed = if failed.is_empty() { "neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set".into() } else { failed };
        Err(Error::other("connecting to systemd", "", failed).hint(hint))
    }

    fn open(path: &PathBuf, is_bus: bool) -> Outcome<Bus> {
        let stream = UnixStream::connect(path).map_err(|e| match e.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock => lost(e),
            _ => Failure::Refused { name: String::new(), words: words_of(&e) },
        })?;
        let mut bus = Bus { stream, serial: 0, deadline: Instant::now() + PATIENCE, ended: Vec::new() };
        bus.send(HANDSHAKE)?;
        bus.await_ok()?;
        if is_bus {
            bus.call(&DAEMON, "Hello", "", &Writer::default())?;
            let mut rule = Writer::default();
            rule.text("type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
            bus.call(&DAEMON, "AddMatch", "s", &rule)?;
            bus.call(&MANAGER, "Subscribe", "", &Writer::default())?;
        }
        Ok(bus)
    }

    /// Make the transient scope `unit` and wait until it stands.
    pub fn start(&mut self, unit: &str, properties: &[Property]) -> Outcome<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties);
        body.no_structs();
        let job = self.job("StartTransientUnit", "ssa(sv)a(sa(sv))", &body)?;
        match job.as_str() {
            "done" => Ok(()),
            result => Err(Failure::Refused { name: result.into(), words: format!("the unit's start ended with {result:?}") }),
        }
    }

    /// Stop `unit` and wait until it is gone; one that is not there is fine.
    pub fn stop(&mut self, unit: &str) -> Outcome<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        match self.job("StopUnit", "ss", &body) {
            Err(e) if e.is("NoSuchUnit") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Let systemd forget a failed unit, or its name stays taken.
    pub fn reset_failed(&mut self, unit: &str) -> Outcome<()> {
        let mut body = Writer::default();
        body.text(unit);
        match self.call(&MANAGER, "ResetFailedUnit", "s", &body) {
            Err(e) if e.is("NoSuchUnit") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Change properties until the unit ends.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Outcome<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.boolean(true);
        body.properties(properties);
        self.call(&MANAGER, "SetUnitProperties", "sba(sv)", &body).map(drop)
    }

    /// Have systemd move `pid` into the unit's cgroup, or into `below` it ("" or a path that begins with a slash).
    pub fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Outcome<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text(below);
        body.u32s(&[pid as u32]);
        self.call(&MANAGER, "AttachProcessesToUnit", "ssau", &body).map(drop)
    }

    /// systemd's version: "252.30-1~deb12u2" → 252; 0 where it can't be told.
    pub fn version(&mut self) -> Outcome<u32> {
        let mut body = Writer::default();
        body.text(MANAGER.interface);
        body.text("Version");
        let reply = self.call(&PROPERTIES, "Get", "ss", &body)?;
        let text = Reader::new(&reply.body).text_in_variant().unwrap_or_default();
        let digits = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).next();
        Ok(digits.and_then(|d| d.parse().ok()).unwrap_or(0))
    }

    /// A call that starts a job; the job's result.
    fn job(&mut self, member: &str, signature: &str, body: &Writer) -> Outcome<String> {
        let reply = self.call(&MANAGER, member, signature, body)?;
        let path = Reader::new(&reply.body).text().unwrap_or_default().to_string();
        loop {
            if let Some(n) = self.ended.iter().position(|(ended, _)| *ended == path) {
                return Ok(self.ended.swap_remove(n).1);
            }
            self.receive()?;
        }
    }

    fn call(&mut self, target: &Target, member: &str, signature: &str, body: &Writer) -> Outcome<Message> {
        self.deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let serial = self.serial;
        self.send(&message::call(serial, target, member, signature, body))?;
        loop {
            let Some(reply) = self.receive()? else { continue };
            match reply.kind {
                _ if reply.reply_serial != serial => {}
                message::METHOD_RETURN => return Ok(reply),
                message::ERROR => {
                    let name = reply.error_name.rsplit('.').next().unwrap_or_default().to_string();
                    let words = Reader::new(&reply.body).text().unwrap_or_default().to_string();
                    // The bus is there, but systemd is not just now.
                    return Err(if name == "NoReply" { Failure::Lost(words) } else { Failure::Refused { name, words } });
                }
                _ => {}
            }
        }
    }

    /// The next message; None for a signal, which is noted if it is of a job.
    fn receive(&mut self) -> Outcome<Option<Message>> {
        let mut fixed = [0; FIXED];
        self.read(&mut fixed)?;
        let length = message::length(&fixed).ok_or_else(|| Failure::Lost("it sent what is no message".into()))?;
        let mut bytes = fixed.to_vec();
        bytes.resize(length, 0);
        self.read(&mut bytes[FIXED..])?;
        let message = message::parse(&bytes).ok_or_else(|| Failure::Lost("it sent what is no message".into()))?;
        if message.kind != message::SIGNAL {
            return Ok(Some(message));
        }
        if message.member == "JobRemoved" {
            // uoss: number, path, unit, result.
            let mut reader = Reader::new(&message.body);
            if let (Some(_), Some(path), Some(_), Some(result)) = (reader.u32(), reader.text(), reader.text(), reader.text()) {
                self.ended.push((path.into(), result.into()));
            }
        }
        Ok(None)
    }

    /// The server's lines up to its OK: it answers the empty name with an empty DATA first.
    fn await_ok(&mut self) -> Outcome<()> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
            if !line.ends_with(b"\r\n") && line.len() < 1000 {
                continue;
            }
            match &line[..] {
                b"DATA\r\n" => line.clear(),
                ok if ok.starts_with(b"OK ") => return Ok(()),
                other => return Err(Failure::Lost(format!("it does not let us in: {:?}", String::from_utf8_lossy(other).trim_end()))),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.stream.set_write_timeout(Some(self.left()?)).map_err(lost)?;
        self.stream.write_all(bytes).map_err(|e| if e.kind() == io::ErrorKind::WouldBlock { Failure::Late } else { lost(e) })
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Outcome<()> {
        while !bytes.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?)).map_err(lost)?;
            match self.stream.read(bytes) {
                Ok(0) => return Err(Failure::Lost("it closed it".into())),
                Ok(n) => bytes = &mut bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(Failure::Late),
                Err(e) => return Err(lost(e)),
            }
        }
        Ok(())
    }

    /// What is left of the time for this call; a socket's timeout of zero would mean none.
    fn left(&self) -> Outcome<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Failure::Late) } else { Ok(left) }
    }
}

impl Failure {
    fn words(&self) -> &str {
        match self {
            Failure::Lost(words) | Failure::Refused { words, .. } => words,
            Failure::Late => "no answer",
        }
    }
}

fn lost(e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::TimedOut => Failure::Late,
        _ => Failure::Lost(words_of(&e)),
    }
}

fn words_of(e: &io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), crate::error::describe_errno)
}

/// The manager's own socket, and the bus's.
fn sockets(manager: Manager) -> (Option<PathBuf>, Option<PathBuf>) {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match manager {
        Manager::System => (Some("/run/systemd/private".into()), Some("/run/dbus/system_bus_socket".into())),
        Manager::User => {
            let dir = env("XDG_RUNTIME_DIR");
            let named = env("DBUS_SESSION_BUS_ADDRESS").and_then(|a| path_of_address(a.to_str()?));
            (dir.as_ref().map(|d| d.join("systemd/private")), named.or_else(|| dir.map(|d| d.join("bus"))))
        }
    }
}

/// `unix:path=/run/user/1000/bus,guid=…;…`.
fn path_of_address(address: &str) -> Option<PathBuf> {
    let path = address.split(';').find_map(|a| a.strip_prefix("unix:")?.split(',').find_map(|pair| pair.strip_prefix("path=")))?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_path() {
        assert_eq!(path_of_address("unix:abstract=x;unix:path=/run/bus,guid=1"), Some("/run/bus".into()));
        assert_eq!(path_of_address("tcp:host=x"), None);
    }

    /// Against a server of a few lines: lost in the middle, and an answer out of turn.
    #[test]
    fn a_connection_that_breaks_is_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut bus = Bus { stream: ours, serial: 0, deadline: Instant::now(), ended: Vec::new() };
        let server = std::thread::spawn(move || {
            let mut theirs = theirs;
            theirs.read_exact(&mut [0; 20]).unwrap();
        });
        assert!(matches!(bus.stop("x.scope"), Err(Failure::Lost(_))));
        server.join().unwrap();
    }
}
