//! A client of the kubelet's CRI socket: gRPC by curl, and the few bytes of protobuf that its messages are.
//!
//! Field numbers are those of the public CRI API, `runtime.v1`.

use super::Machine;
use std::process::{Command, Stdio};

/// A message being written.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    pub fn number(mut self, field: u32, value: u64) -> Message {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Message {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    pub fn message(self, field: u32, value: Message) -> Message {
        self.bytes(field, value.0)
    }

    pub fn strings(self, field: u32, values: &[&str]) -> Message {
        values.iter().fold(self, |m, value| m.bytes(field, value))
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A message that came, as its fields.
#[derive(Debug, Default)]
pub struct Answer(Vec<(u32, Field)>);

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Answer {
    fn parse(mut data: &[u8]) -> Answer {
        let mut fields = Vec::new();
        while !data.is_empty() {
            let key = take_varint(&mut data);
            let field = match key & 7 {
                0 => Field::Number(take_varint(&mut data)),
                2 => {
                    let length = take_varint(&mut data) as usize;
                    let (bytes, rest) = data.split_at(length);
                    data = rest;
                    Field::Bytes(bytes.to_vec())
                }
                kind => panic!("wire type {kind}"),
            };
            fields.push(((key >> 3) as u32, field));
        }
        Answer(fields)
    }

    /// 0 where the field is absent, as protobuf has it.
    pub fn number(&self, field: u32) -> u64 {
        self.0.iter().find_map(|(f, v)| if let (true, Field::Number(n)) = (*f == field, v) { Some(*n) } else { None }).unwrap_or(0)
    }

    fn raw(&self, field: u32) -> &[u8] {
        self.0.iter().find_map(|(f, v)| if let (true, Field::Bytes(b)) = (*f == field, v) { Some(b.as_slice()) } else { None }).unwrap_or_default()
    }

    pub fn string(&self, field: u32) -> String {
        String::from_utf8_lossy(self.raw(field)).into_owned()
    }

    pub fn message(&self, field: u32) -> Answer {
        Answer::parse(self.raw(field))
    }
}

fn take_varint(data: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first().expect("a whole varint");
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than 64 bits")
}

/// Call `runtime.v1.RuntimeService/METHOD`; the error is the server's words.
pub fn call(machine: &Machine, method: &str, request: Message) -> Result<Answer, String> {
    let body = machine.dir.join(format!("cri.{method}"));
    let mut framed = vec![0];
    framed.extend((request.0.len() as u32).to_be_bytes());
    framed.extend(request.0);
    std::fs::write(&body, framed).unwrap();
    let (headers, answer) = (body.with_extension("headers"), body.with_extension("answer"));
    let mut curl: Command = machine.command("curl");
    curl.args(["-s", "--http2-prior-knowledge", "--unix-socket", "/run/containerd/containerd.sock", "--max-time", "60"])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary"])
        .arg(format!("@{}", body.display()))
        .arg("-D")
        .arg(&headers)
        .arg("-o")
        .arg(&answer)
        .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
        .stdin(Stdio::null());
    let _ = std::fs::remove_file(&answer);
    let done = curl.output().unwrap();
    let said = std::fs::read_to_string(&headers).unwrap_or_default();
    let trailer = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_string());
    match trailer("grpc-status:").as_deref() {
        Some("0") => Ok(Answer::parse(&std::fs::read(&answer).unwrap_or_default()[5..])),
        Some(_) => Err(trailer("grpc-message:").unwrap_or_default()),
        None => panic!("{method}: {done:?} {said}"),
    }
}
