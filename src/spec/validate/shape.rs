//! Types, missing, unknown and duplicate properties: a document against the table of the spec's shape.
//!
//! The walk also hands back the document with what is unreadable left out, so that the rest can still be judged.

use super::tree::Node;
use super::{Finding, Severity, suggest};
use crate::spec::escape_pointer;
use serde_json::{Map, Value};
use std::fmt::Display;

/// What a value has to be.
#[derive(Clone, Copy)]
pub enum Shape {
    Bool,
    Text,
    U16,
    U32,
    U64,
    I32,
    I64,
    /// A u64, or -1 for "unlimited".
    Limit,
    List(&'static Shape),
    /// Any names, values of one shape.
    Map(&'static Shape),
    Object(&'static [Field]),
    /// Not for Linux: known, not read. The platform's name.
    Foreign(&'static str),
}

/// A property of an object.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub need: Need,
}

#[derive(Clone, Copy)]
pub enum Need {
    Optional,
    /// REQUIRED by the spec.
    Required,
    /// REQUIRED by the spec, but every runtime takes this value where it is missing.
    Assumed(&'static str),
}

/// What the walk gives back.
pub struct Outcome {
    /// The document without what could not be read; places in lists are kept.
    pub value: Value,
    pub findings: Vec<Finding>,
    /// Pointers at which something is missing from `value`.
    pub unreadable: Vec<String>,
    /// An object under two spellings was made one, which the model's decoder does not do.
    pub joined: bool,
}

pub fn examine(root: &Node, shape: &Shape) -> Outcome {
    let mut walk = Walk { pointer: String::new(), findings: Vec::new(), unreadable: Vec::new(), joined: false };
    let value = walk.value(root, shape).unwrap_or_else(|| empty(shape));
    Outcome { value, findings: walk.findings, unreadable: walk.unreadable, joined: walk.joined }
}

struct Walk {
    pointer: String,
    findings: Vec<Finding>,
    unreadable: Vec<String>,
    joined: bool,
}

impl Walk {
    fn below<T>(&mut self, token: &str, visit: impl FnOnce(&mut Self) -> T) -> T {
        let end = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(token);
        let result = visit(self);
        self.pointer.truncate(end);
        result
    }

    fn add(&mut self, severity: Severity, message: impl Display, expected: impl Display, hint: impl Display) {
        let mut finding = Finding::new(severity, &self.pointer, message, expected);
        finding.hint = hint.to_string();
        self.findings.push(finding);
    }

    /// The readable part of `node`; None (and a fault) where it has the wrong type.
    fn value(&mut self, node: &Node, shape: &Shape) -> Option<Value> {
        match (shape, node) {
            (Shape::Bool, Node::Bool(b)) => Some(Value::Bool(*b)),
            (Shape::Text, Node::Text(s)) => Some(Value::String(s.clone())),
            (Shape::List(item), Node::List(list)) => Some(self.list(list, item)),
            (Shape::Map(item), Node::Object(fields)) => Some(self.map(fields, item)),
            (Shape::Object(known), Node::Object(fields)) => Some(self.object(fields, known)),
            (Shape::Foreign(_), _) => None,
            (_, Node::Number(n)) if fits(n, shape) => Some(Value::Number(n.clone())),
            _ => {
                let (what, hint) = (describe(node), advise(node, shape));
                self.add(Severity::Fault, format_args!("is {what}"), expected(shape), hint);
                self.unreadable.push(self.pointer.clone());
                None
            }
        }
    }

    fn list(&mut self, list: &[Node], item: &Shape) -> Value {
        let one = |(i, node): (usize, &Node)| self.below(&i.to_string(), |walk| walk.value(node, item)).unwrap_or_else(|| empty(item));
        Value::Array(list.iter().enumerate().map(one).collect())
    }

    fn map(&mut self, fields: &[(String, Node)], item: &Shape) -> Value {
        let mut out = Map::new();
        for (i, (name, node)) in fields.iter().enumerate() {
            self.below(&escape_pointer(name), |walk| {
                if fields[..i].iter().any(|(earlier, _)| earlier == name) {
                    walk.add(Severity::Warning, format_args!("{name:?} is given more than once; the last one counts"), "each name once", "");
                }
                if let Some(value) = walk.value(node, item) {
                    out.insert(name.clone(), value);
                }
            });
        }
        Value::Object(out)
    }

    fn object(&mut self, fields: &[(String, Node)], known: &[Field]) -> Value {
        let mut out = Map::new();
        for (i, (name, node)) in fields.iter().enumerate() {
            let meant = spelled(name);
            let mut earlier = fields[..i].iter().filter(|(earlier, _)| spelled(earlier) == meant).peekable();
            let twice = earlier.peek().is_some();
            // runc reads such two into one object, the members of both; which of two same ones counts is in doubt.
            let joins = twice && earlier.all(|(other, first)| other != name && are_apart(first, node));
            self.below(&escape_pointer(name), |walk| match known.iter().find(|field| field.name == meant) {
                None => walk.unknown(name, known),
                Some(Field { shape: Shape::Foreign(platform), .. }) => {
                    walk.add(Severity::Note, format_args!("is for {platform}; ignored"), "Linux settings, under `linux`", "");
                }
                Some(field) => {
                    if meant != name {
                        walk.add(Severity::Note, format_args!("{name:?} is taken as {meant:?}"), "the spec's spelling", "");
                    }
                    walk.joined |= joins;
                    if twice && !joins {
                        let hint = "parsers differ on which one counts; leave one";
                        walk.add(Severity::Fault, format_args!("{name:?} is given more than once"), "each property once (RFC 8259 § 4)", hint);
                    }
                    // The spec's Go types, and so every caller, take null for absent.
                    if !matches!(node, Node::Null)
                        && let Some(value) = walk.value(node, &field.shape)
                    {
                        insert(&mut out, meant, value, joins);
                    }
                }
            });
        }
        for field in known {
            let given = fields.iter().find(|(name, _)| spelled(name) == field.name).map(|(_, node)| node);
            if matches!(given, None | Some(Node::Null)) {
                self.below(field.name, |walk| walk.missing(field, given.is_some()));
            }
        }
        Value::Object(out)
    }

    fn missing(&mut self, field: &Field, null: bool) {
        let how = if null { "is null" } else { "is missing" };
        match field.need {
            Need::Optional => {}
            Need::Required => {
                self.add(Severity::Fault, how, format_args!("{}: the spec requires it", expected(&field.shape)), "");
                self.unreadable.push(self.pointer.clone());
            }
            Need::Assumed(value) => {
                self.add(Severity::Warning, format_args!("{how}; taken as {value}"), expected(&field.shape), "");
            }
        }
    }

    /// config.md § Extensibility: unknown properties MUST be ignored, and MAY be mentioned.
    fn unknown(&mut self, name: &str, known: &[Field]) {
        let names: Vec<&str> = known.iter().filter(|f| !matches!(f.shape, Shape::Foreign(_))).map(|f| f.name).collect();
        let hint = match suggest::closest(name, &names) {
            Some(meant) if meant.eq_ignore_ascii_case(name) => format!("the spec has {meant:?}: names are case-sensitive (some runtimes are lenient here)"),
            Some(meant) => format!("did you mean {meant:?}?"),
            None => elsewhere(name, &super::table::SPEC, String::new()).map(|at| format!("the spec has it at {at}")).unwrap_or_default(),
        };
        self.add(Severity::Warning, format_args!("{name:?} is not a property of the spec; ignored"), format_args!("one of {}", names.join(", ")), hint);
    }
}

/// Limits that are written in another case somewhere, and that runc applies, since Go's decoder takes any case. Ignored,
/// as the spec has it of unknown properties, they would be limits that hold nobody.
const SPELLINGS: [(&str, &str); 4] = [("CPU", "cpu"), ("Cpus", "cpus"), ("Mems", "mems"), ("pagesize", "pageSize")];

fn spelled(name: &str) -> &str {
    SPELLINGS.iter().find(|(other, _)| *other == name).map_or(name, |(_, meant)| meant)
}

/// Two objects of which no member is in both.
fn are_apart(a: &Node, b: &Node) -> bool {
    let (Node::Object(a), Node::Object(b)) = (a, b) else { return false };
    a.iter().all(|(name, _)| b.iter().all(|(other, _)| spelled(name) != spelled(other)))
}

fn insert(out: &mut Map<String, Value>, name: &str, value: Value, joins: bool) {
    match (out.get_mut(name), value) {
        (Some(Value::Object(first)), Value::Object(more)) if joins => first.extend(more),
        (_, value) => drop(out.insert(name.to_string(), value)),
    }
}

/// Where the spec has a property of this name, `*` for any entry of a list or map.
fn elsewhere(name: &str, shape: &Shape, at: String) -> Option<String> {
    match shape {
        Shape::Object(fields) => {
            let found = fields.iter().find(|f| f.name == name && !matches!(f.shape, Shape::Foreign(_))).map(|f| format!("{at}/{}", f.name));
            found.or_else(|| fields.iter().find_map(|f| elsewhere(name, &f.shape, format!("{at}/{}", f.name))))
        }
        Shape::List(item) | Shape::Map(item) => elsewhere(name, item, format!("{at}/*")),
        _ => None,
    }
}

/// Stands in a list for an item that could not be read.
pub fn empty(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Text => Value::String(String::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object(_) => Value::Object(Map::new()),
        Shape::Foreign(_) => Value::Null,
        _ => Value::from(0),
    }
}

fn fits(n: &serde_json::Number, shape: &Shape) -> bool {
    match shape {
        Shape::U16 => n.as_u64().is_some_and(|n| u16::try_from(n).is_ok()),
        Shape::U32 => n.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
        Shape::U64 => n.is_u64(),
        Shape::I32 => n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Shape::I64 => n.is_i64(),
        Shape::Limit => n.is_u64() || n.as_i64() == Some(-1),
        _ => false,
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "true or false".into(),
        Shape::Text => "a string".into(),
        Shape::U16 => "a whole number from 0 to 65535".into(),
        Shape::U32 => "a whole number from 0 to 4294967295".into(),
        Shape::U64 => "a whole number from 0 to 18446744073709551615".into(),
        Shape::I32 => "a whole number from -2147483648 to 2147483647".into(),
        Shape::I64 => "a whole number from -9223372036854775808 to 9223372036854775807".into(),
        Shape::Limit => "a whole number from 0 to 18446744073709551615, or -1 for unlimited".into(),
        Shape::List(Shape::Text) => "a list of strings".into(),
        Shape::List(Shape::Object(_)) => "a list of objects".into(),
        Shape::List(_) => "a list of numbers".into(),
        Shape::Map(Shape::Text) => "an object whose values are strings".into(),
        Shape::Map(_) => "an object whose values are objects".into(),
        Shape::Object(_) => "an object".into(),
        Shape::Foreign(platform) => format!("settings for {platform}"),
    }
}

/// "a string, "abc"": the type and, where it is short, the value.
fn describe(node: &Node) -> String {
    match node {
        Node::Null => "null".into(),
        Node::Bool(b) => format!("{b}"),
        Node::Number(n) if n.is_f64() => format!("the number {n}, with a fraction, an exponent or too large"),
        Node::Number(n) => format!("the number {n}"),
        Node::Text(s) if s.len() <= 64 => format!("the string {s:?}"),
        Node::Text(s) => format!("a string of {} bytes", s.len()),
        Node::List(_) => "a list".into(),
        Node::Object(_) => "an object".into(),
    }
}

/// What the writer most likely wanted to write.
fn advise(node: &Node, shape: &Shape) -> String {
    match (shape, node) {
        (Shape::Bool, Node::Text(s)) if s == "true" || s == "false" => format!("write {s} without quotes"),
        (Shape::Bool, Node::Number(_)) => "write true or false".into(),
        (Shape::Text, Node::Number(n)) => format!("write it in quotes: \"{n}\""),
        (Shape::Text, Node::Bool(b)) => format!("write it in quotes: \"{b}\""),
        (Shape::List(Shape::Text), Node::Text(s)) => format!("write a list: [{s:?}]"),
        (Shape::List(Shape::Object(_)), Node::Object(_)) => "put the object in a list: [{…}]".into(),
        (Shape::Map(Shape::Text), Node::List(_)) => "write name and value as {\"name\": \"value\"}".into(),
        (_, Node::Text(s)) if s.trim().parse::<i64>().is_ok() && is_number(shape) => number_in_quotes(s.trim()),
        _ => String::new(),
    }
}

fn is_number(shape: &Shape) -> bool {
    matches!(shape, Shape::U16 | Shape::U32 | Shape::U64 | Shape::I32 | Shape::I64 | Shape::Limit)
}

fn number_in_quotes(s: &str) -> String {
    match i64::from_str_radix(s, 8) {
        Ok(octal) if s.starts_with('0') && s.len() > 1 => format!("numbers are decimal: octal {s} is {octal}"),
        _ => format!("write {s} without quotes"),
    }
}
