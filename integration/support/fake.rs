//! A registry that behaves as badly as the test wants: a bare HTTP server whose every answer is decided by a closure.

#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// How many requests for this path there were before.
    pub count: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where a `Range: bytes=N-` begins.
    pub fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

pub enum Reply {
    Send {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The body is announced with `length` bytes; after those that there are the connection ends.
    Cut {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        length: usize,
    },
    /// The same, but then silence.
    Stall {
        body: Vec<u8>,
        length: usize,
    },
    /// The same, but then a byte every now and then.
    Drip {
        length: usize,
    },
    /// No answer at all.
    Hang,
    /// A body without end, of blanks.
    Endless,
    /// Not even HTTP.
    Raw(Vec<u8>),
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::status(200, body)
    }

    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::Send { status, headers: Vec::new(), body: body.into() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        if let Reply::Send { headers, .. } | Reply::Cut { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub struct Fake {
    /// `host:port`
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        Fake::start_on("127.0.0.1", handler)
    }

    pub fn start_on(host: &str, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_by_us, stopped, handler): (_, _, Arc<Handler>) = (seen.clone(), stop.clone(), Arc::new(handler));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, handler) = (seen_by_us.clone(), handler.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &*handler));
            }
        });
        Fake { address, seen, stop, thread: Some(thread) }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Those for paths with `part` in them.
    pub fn seen_of(&self, part: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|r| r.path.contains(part)).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request; the connection ends with its answer.
fn serve(stream: TcpStream, seen: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    // A TLS handshake begins so; nobody here understands it.
    if reader.fill_buf().is_ok_and(|start| start.first() == Some(&0x16)) {
        return;
    }
    let Some(mut request) = read_request(&mut reader) else { return };
    let reply = {
        let mut seen = seen.lock().unwrap();
        request.count = seen.iter().filter(|r| r.path == request.path && r.method == request.method).count();
        seen.push(request.clone());
        drop(seen);
        handler(&request)
    };
    // Whether the client still listens is its own affair.
    let _ = answer(stream, &request, reply);
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_string()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    Some(Request { method, path, headers, body, count: 0 })
}

fn answer(mut stream: TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    let head = |status: u16, headers: &[(String, String)], length: Option<usize>| {
        let mut text = format!("HTTP/1.1 {status} As-Told\r\nConnection: close\r\n");
        text.extend(length.map(|length| format!("Content-Length: {length}\r\n")));
        text.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        text + "\r\n"
    };
    match reply {
        Reply::Send { status, headers, body } => {
            stream.write_all(head(status, &headers, Some(body.len())).as_bytes())?;
            if request.method != "HEAD" {
                stream.write_all(&body)?;
            }
        }
        Reply::Cut { status, headers, body, length } => {
            stream.write_all(head(status, &headers, Some(length)).as_bytes())?;
            stream.write_all(&body)?;
        }
        Reply::Stall { body, length } => {
            stream.write_all(head(200, &[], Some(length)).as_bytes())?;
            stream.write_all(&body)?;
            wait_for_hangup(&mut stream);
        }
        Reply::Drip { length } => {
            stream.write_all(head(200, &[], Some(length)).as_bytes())?;
            loop {
                stream.write_all(b"x")?;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        Reply::Hang => wait_for_hangup(&mut stream),
        Reply::Endless => {
            stream.write_all(head(200, &[], None).as_bytes())?;
            loop {
                stream.write_all(&[b' '; 65536])?;
            }
        }
        Reply::Raw(bytes) => stream.write_all(&bytes)?,
    }
    Ok(())
}

/// Until the client gives up.
fn wait_for_hangup(stream: &mut TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A proxy that tunnels, and notes where to.
pub struct Proxy {
    pub address: String,
    tunnels: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tunnels = Arc::new(Mutex::new(Vec::new()));
        let noted = tunnels.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let noted = noted.clone();
                std::thread::spawn(move || tunnel(client.unwrap(), &noted));
            }
        });
        Proxy { address, tunnels }
    }

    pub fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().unwrap().clone()
    }
}

fn tunnel(client: TcpStream, noted: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let request = read_request(&mut reader)?;
    noted.lock().unwrap().push(format!("{} {}", request.method, request.path));
    let server = TcpStream::connect(&request.path).ok()?;
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 Tunnel\r\n\r\n").ok()?;
    let (mut back, mut from_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    });
    let mut server = server;
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Write);
    Some(())
}
