//! A configuration as text, by the table of the spec's shape: properties in the table's order, and those that the
//! spec requires there even where they have the default value, which the model doesn't print.

use super::shape::{Field, Need, Shape};
use super::table;
use crate::spec::Spec;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

/// The text, a tab a level, as Go's `json.MarshalIndent(spec, "", "\t")` has it.
pub fn pretty(spec: &Spec) -> String {
    let mut out = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"\t"));
    let printed = serde_json::to_value(spec).and_then(|value| Shaped { value: &value, shape: &table::SPEC }.serialize(&mut to));
    // Strings, numbers and string keys written to memory: nothing that can fail.
    debug_assert!(printed.is_ok());
    String::from_utf8(out).unwrap_or_default()
}

struct Shaped<'a> {
    value: &'a Value,
    shape: &'static Shape,
}

impl Serialize for Shaped<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (self.shape, self.value) {
            (Shape::Object(fields), Value::Object(map)) => {
                let mut out = s.serialize_map(None)?;
                for field in *fields {
                    match map.get(field.name) {
                        Some(value) => out.serialize_entry(field.name, &Shaped { value, shape: &field.shape })?,
                        None => {
                            if let Some(value) = default(field) {
                                out.serialize_entry(field.name, &Shaped { value: &value, shape: &field.shape })?;
                            }
                        }
                    }
                }
                out.end()
            }
            (Shape::List(shape), Value::Array(list)) => s.collect_seq(list.iter().map(|value| Shaped { value, shape })),
            (Shape::Map(shape), Value::Object(map)) => s.collect_map(map.iter().map(|(name, value)| (name, Shaped { value, shape }))),
            _ => self.value.serialize(s),
        }
    }
}

/// What stands for a required property that the model left out. A required object is left out with what is in it:
/// an empty one would pretend to be there.
fn default(field: &Field) -> Option<Value> {
    match (field.need, &field.shape) {
        (Need::Optional, _) | (Need::Required, Shape::Object(_)) => None,
        (Need::Required | Need::Assumed(_), shape) => Some(super::shape::empty(shape)),
    }
}
