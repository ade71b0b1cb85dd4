//! A JSON document as it was written: the order of properties and their duplicates kept, which `serde_json::Value`
//! loses; and broken JSON explained.

use super::{Finding, Severity};
use crate::spec::escape_pointer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use std::collections::HashMap;
use std::fmt;

pub enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Node, E> {
                Ok(Node::Bool(b))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Node, E> {
                Ok(Node::Number(n.into()))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Node, E> {
                Ok(Node::Number(n.into()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Node, E> {
                Ok(Number::from_f64(n).map_or(Node::Null, Node::Number))
            }
            fn visit_str<E>(self, s: &str) -> Result<Node, E> {
                Ok(Node::Text(s.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Node::Object(fields))
            }
        }
        d.deserialize_any(Any)
    }
}

/// Parse a document, or say where and why it is not JSON.
pub fn parse(text: &[u8]) -> Result<Node, Finding> {
    if text.trim_ascii().is_empty() {
        return Err(broken("", "the document is empty", "a JSON object", "`dhow spec` writes a config.json to start from"));
    }
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err(broken("", "the document starts with a byte order mark", "JSON in UTF-8 without one (RFC 8259 § 8.1)", "save it as UTF-8 without BOM"));
    }
    let mut de = serde_json::Deserializer::from_slice(text);
    let (pointer, error) = match serde_path_to_error::deserialize::<_, Node>(&mut de) {
        Ok(node) => match de.end() {
            Ok(()) => return Ok(node),
            Err(e) => (String::new(), e),
        },
        Err(e) => (pointer_of(e.path()), e.into_inner()),
    };
    Err(explain(text, pointer, &error))
}

/// RFC 6901 form of the path at which serde stopped.
fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } => out.push_str(&format!("/{}", escape_pointer(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

fn broken(pointer: &str, message: &str, expected: &str, hint: &str) -> Finding {
    let mut finding = Finding::new(Severity::Fault, pointer, message, expected);
    finding.hint = hint.to_owned();
    finding
}

/// What the parser said, put for people.
fn explain(text: &[u8], pointer: String, error: &serde_json::Error) -> Finding {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let (expected, hint) = match said {
        s if s.starts_with("EOF") => ("more text: a closing `}`, `]` or `\"`", "the file looks cut short, or a bracket is never closed"),
        "trailing comma" => ("no comma after the last entry", "remove the comma"),
        "trailing characters" => ("nothing after the document's closing `}`", "is there a second document, or one `}` too many?"),
        "key must be a string" => ("a property's name in double quotes", "JSON has no comments, no single quotes and no bare names"),
        "expected value" => ("a value: an object, a list, a string, a number, true, false or null", "strings stand in double quotes"),
        "invalid number" => ("a decimal number", "JSON has no octal (0755), no hex and no leading +"),
        "invalid escape" => ("one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX", "a backslash itself is written \\\\"),
        s if s.starts_with("control character") => {
            ("no raw control character inside a string", "write it as an escape such as \\n; is a closing quote missing?")
        }
        "recursion limit exceeded" => ("less than 128 levels of nesting", ""),
        s if s.starts_with("expected ") => (&s["expected ".len()..], "is a comma or a bracket missing just before?"),
        _ => ("JSON (RFC 8259)", ""),
    };
    let message = format!("not JSON at line {}, column {}: {said}{}", error.line(), error.column(), quote(text, error.line(), error.column()));
    broken(&pointer, &message, expected, hint)
}

/// The piece of the line around the place.
fn quote(text: &[u8], line: usize, column: usize) -> String {
    let Some(line) = text.split(|&b| b == b'\n').nth(line.saturating_sub(1)) else { return String::new() };
    let end = column.saturating_add(10).min(line.len());
    let start = column.saturating_sub(30).min(end);
    let piece = String::from_utf8_lossy(&line[start..end]);
    if piece.trim().is_empty() { String::new() } else { format!(", near `{}`", piece.trim()) }
}

/// The place of each pointer in the document's order.
pub fn positions(root: &Node) -> HashMap<String, usize> {
    fn walk(node: &Node, pointer: &mut String, out: &mut HashMap<String, usize>) {
        let next = out.len();
        out.entry(pointer.clone()).or_insert(next);
        let mut child = |token: &str, node: &Node| {
            let end = pointer.len();
            pointer.push('/');
            pointer.push_str(token);
            walk(node, pointer, out);
            pointer.truncate(end);
        };
        match node {
            Node::List(list) => list.iter().enumerate().for_each(|(i, item)| child(&i.to_string(), item)),
            Node::Object(fields) => fields.iter().for_each(|(name, value)| child(&escape_pointer(name), value)),
            _ => {}
        }
    }
    let mut out = HashMap::new();
    walk(root, &mut String::new(), &mut out);
    out
}

/// A pointer's place; that of the nearest thing above it where the pointer names something missing.
pub fn position(positions: &HashMap<String, usize>, pointer: &str) -> usize {
    let mut at = pointer;
    loop {
        if let Some(place) = positions.get(at) {
            return *place;
        }
        match at.rfind('/') {
            Some(cut) => at = &at[..cut],
            None => return 0,
        }
    }
}

/// Whether `pointer` is `outer` or lies below it.
pub fn is_within(pointer: &str, outer: &str) -> bool {
    pointer.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
