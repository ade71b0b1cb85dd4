//! D-Bus messages, as far as the calls to systemd need them (D-Bus Specification § Message Protocol). Pure.
//!
//! A value is aligned to its size, counted from the message's start; a body begins at a multiple of eight, so that it
//! can be written by itself. Numbers are in this machine's byte order, and the first byte says which.

/// A property's value: the types that systemd's properties of scopes have.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Byte(u8),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Text(String),
    Bytes(Vec<u8>),
    Uint32s(Vec<u32>),
    Texts(Vec<String>),
    /// `a(ss)`.
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::Int32(_) => "i",
            Value::Uint32(_) => "u",
            Value::Int64(_) => "x",
            Value::Uint64(_) => "t",
            Value::Text(_) => "s",
            Value::Bytes(_) => "ay",
            Value::Uint32s(_) => "au",
            Value::Texts(_) => "as",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// A property by its name.
pub type Property = (String, Value);

const ENDIAN: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
pub const METHOD_CALL: u8 = 1;
pub const METHOD_RETURN: u8 = 2;
pub const ERROR: u8 = 3;
pub const SIGNAL: u8 = 4;

/// The part of a header that has always the same length.
pub const FIXED: usize = 16;
/// No answer of systemd's comes near; the protocol's own limit is 128 MiB.
const LARGEST: usize = 1 << 20;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Bytes of a message under way.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub fn u32(&mut self, n: u32) {
        self.number(&n.to_ne_bytes());
    }

    pub fn boolean(&mut self, yes: bool) {
        self.u32(yes.into());
    }

    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// An array of elements that are aligned to `alignment`: its length in bytes does not count the padding before them.
    fn array<T>(&mut self, alignment: usize, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        items.iter().for_each(|item| write(self, item));
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub fn u32s(&mut self, numbers: &[u32]) {
        self.array(4, numbers, |w, n| w.u32(*n));
    }

    /// `a(sv)`.
    pub fn properties(&mut self, list: &[Property]) {
        self.array(8, list, |w, (name, value)| {
            w.align(8);
            w.text(name);
            w.variant(value);
        });
    }

    /// `a(sa(sv))` without elements: StartTransientUnit's units beside.
    pub fn no_structs(&mut self) {
        self.array(8, &[(); 0], |_, _| {});
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(b) => self.boolean(*b),
            Value::Byte(n) => self.0.push(*n),
            Value::Int32(n) => self.number(&n.to_ne_bytes()),
            Value::Uint32(n) => self.number(&n.to_ne_bytes()),
            Value::Int64(n) => self.number(&n.to_ne_bytes()),
            Value::Uint64(n) => self.number(&n.to_ne_bytes()),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, bytes, |w, b| w.0.push(*b)),
            Value::Uint32s(numbers) => self.u32s(numbers),
            Value::Texts(texts) => self.array(4, texts, |w, t| w.text(t)),
            Value::Pairs(pairs) => self.array(8, pairs, |w, (a, b)| {
                w.align(8);
                w.text(a);
                w.text(b);
            }),
        }
    }
}

/// Whom a method call is for.
pub struct Target<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
}

/// A method call, ready to be sent.
pub fn call(serial: u32, target: &Target, member: &str, signature: &str, body: &Writer) -> Vec<u8> {
    let mut out = Writer::default();
    out.0.extend_from_slice(&[ENDIAN, METHOD_CALL, 0, 1]);
    out.u32(body.0.len() as u32);
    out.u32(serial);
    let fields = [
        (PATH, "o", target.path),
        (INTERFACE, "s", target.interface),
        (MEMBER, "s", member),
        (DESTINATION, "s", target.destination),
        (SIGNATURE, "g", signature),
    ];
    out.array(8, &fields, |w, (code, kind, value)| {
        w.align(8);
        w.0.push(*code);
        w.signature(kind);
        if *kind == "g" { w.signature(value) } else { w.text(value) }
    });
    out.align(8);
    out.0.extend_from_slice(&body.0);
    out.0
}

/// What was received.
#[derive(Debug, Default)]
pub struct Message {
    pub kind: u8,
    pub reply_serial: u32,
    pub member: String,
    pub error_name: String,
    pub body: Vec<u8>,
}

/// The length of the whole message, by its fixed part. None: that is no message of ours.
pub fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let mut reader = Reader::new(&fixed[4..]);
    let (body, _serial, fields) = (reader.u32()? as usize, reader.u32()?, reader.u32()? as usize);
    let whole = FIXED.checked_add(fields)?.next_multiple_of(8).checked_add(body)?;
    (fixed[0] == ENDIAN && whole <= LARGEST).then_some(whole)
}

/// None where the bytes are no message.
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    let mut reader = Reader { bytes, at: 12 };
    let end = FIXED + reader.u32()? as usize;
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        match reader.signature()? {
            "g" => drop(reader.signature()?),
            "u" => {
                let number = reader.u32()?;
                if code == REPLY_SERIAL {
                    message.reply_serial = number;
                }
            }
            "s" | "o" => {
                let text = reader.text()?;
                match code {
                    MEMBER => message.member = text.into(),
                    ERROR_NAME => message.error_name = text.into(),
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    message.body = bytes.get(end.next_multiple_of(8)..)?.to_vec();
    Some(message)
}

/// Values of a received body, one after the other; None when there is none.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.byte()?;
        Some(text)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?.into();
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.byte()?;
        Some(text)
    }

    /// A variant that holds a string.
    pub fn text_in_variant(&mut self) -> Option<&'a str> {
        (self.signature()? == "s").then(|| self.text())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { destination: "a.b", path: "/c", interface: "a.b.C" };

    /// By the specification's own rules, by hand.
    #[test]
    fn a_body_is_aligned() {
        let mut w = Writer::default();
        w.text("ab");
        w.properties(&[("P".into(), Value::Uint64(7)), ("Q".into(), Value::Bool(true))]);
        let mut expected: Vec<u8> = vec![2, 0, 0, 0, b'a', b'b', 0, 0];
        expected.extend([40, 0, 0, 0, 0, 0, 0, 0]); // length, padding to the first struct
        expected.extend([1, 0, 0, 0, b'P', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(7u64.to_le_bytes());
        expected.extend([1, 0, 0, 0, b'Q', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0]);
        if ENDIAN == b'l' {
            assert_eq!(w.0, expected);
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut body = Writer::default();
        body.text("unit");
        body.u32s(&[1, 2]);
        let bytes = call(9, &TARGET, "Do", "sau", &body);
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(length(&fixed), Some(bytes.len()));
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (METHOD_CALL, "Do"));
        let mut reader = Reader::new(&message.body);
        assert_eq!((reader.text(), reader.u32(), reader.u32(), reader.u32(), reader.u32()), (Some("unit"), Some(8), Some(1), Some(2), None));
    }

    /// Whatever arrives: an answer or none, but no panic and no endless loop.
    #[test]
    fn broken_messages_are_none() {
        let mut body = Writer::default();
        body.text("unit");
        let whole = call(9, &TARGET, "Do", "s", &body);
        for at in 0..whole.len() {
            let _ = parse(&whole[..at]);
            for byte in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                let _ = length(&broken[..FIXED].try_into().unwrap());
                let _ = parse(&broken);
            }
        }
        assert_eq!(length(&[0xff; FIXED]), None);
    }
}
