//! Everything that is wrong with a `config.json`, at once.
//!
//! [`validate`] judges a text: broken JSON, then every wrong type, missing or unknown property ([`shape`], against
//! the table of the whole spec in [`table`]), then what the values mean. [`check`] is that last part alone, over a
//! parsed [`Spec`]: `create` calls it, so it allocates only where it finds something, and it refuses nothing that
//! runc 1.5 accepts unless a MUST or a REQUIRED of the spec says so.
//!
//! Whatever needs the machine to judge (does the path exist, is SELinux on) is not judged here.

mod ids;
mod isolation;
mod kernel;
mod lists;
mod mounts;
mod namespaces;
pub(super) mod print;
mod process;
mod resources;
mod seccomp;
mod shape;
pub(crate) mod suggest;
mod table;
mod top;
mod tree;

use super::{Namespace, Spec};
use crate::Error;
use serde::Serialize;
use std::fmt::Display;

/// How bad it is. Ordered: the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `create` refuses it.
    Fault,
    /// It works, but surely not as meant.
    Warning,
    /// Worth knowing: mostly what weakens the isolation.
    Note,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Where: RFC 6901. A missing property is named by the pointer that it would have.
    pub pointer: String,
    /// What is there.
    pub message: String,
    /// What should be.
    pub expected: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Finding {
    fn new(severity: Severity, pointer: impl Display, message: impl Display, expected: impl Display) -> Self {
        Finding { severity, pointer: pointer.to_string(), message: message.to_string(), expected: expected.to_string(), hint: String::new() }
    }

    /// The finding as the error with which `create` fails.
    pub fn to_error(&self) -> Error {
        let error = Error::invalid(self.pointer.as_str(), format!("{}; expected {}", self.message, self.expected));
        if self.hint.is_empty() { error } else { error.hint(self.hint.as_str()) }
    }
}

/// All findings of one document: by severity, then in the order of the document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl Report {
    /// The findings for which `create` would refuse the document.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.severity == Severity::Fault)
    }

    pub fn is_valid(&self) -> bool {
        self.faults().next().is_none()
    }
}

/// Every finding of the text of a `config.json`.
pub fn validate(text: &[u8]) -> Report {
    let root = match tree::parse(text) {
        Ok(root) => root,
        Err(finding) => return Report { findings: vec![finding] },
    };
    let shape::Outcome { value, mut findings, unreadable, joined } = shape::examine(&root, &table::SPEC);
    // What has the right shape is judged, even where something beside it has not.
    match typed(&value) {
        Ok(spec) => findings.extend(judge(&spec, &unreadable, true)),
        Err(e) => findings.push(Finding::new(Severity::Fault, "", e, "what runtime-spec has here")),
    }
    // The table and the model say the same; should they ever differ, the model decides, for it is what `create` reads.
    if !joined
        && !findings.iter().any(|f| f.severity == Severity::Fault)
        && let Err(e) = serde_json::from_slice::<Spec>(text)
    {
        findings.push(Finding::new(Severity::Fault, "", e, "what runtime-spec has here"));
    }
    let positions = tree::positions(&root);
    findings.sort_by_cached_key(|f| (f.severity, tree::position(&positions, &f.pointer)));
    Report { findings }
}

/// Through text again: one more decoder for the model would be a fifth of the binary.
fn typed(value: &serde_json::Value) -> serde_json::Result<Spec> {
    serde_json::to_vec(value).and_then(|text| serde_json::from_slice(&text))
}

/// A document that the model's decoder refuses only since it has an object under two spellings, of which runc makes one.
/// Its shape may be at fault outside of `place`.
pub(super) fn read_joined(text: &[u8], place: &str) -> Option<Spec> {
    let outcome = shape::examine(&tree::parse(text).ok()?, &table::SPEC);
    let faulty = outcome.findings.iter().any(|f| f.severity == Severity::Fault && tree::is_within(&f.pointer, place));
    if outcome.joined && !faulty { typed(&outcome.value).ok() } else { None }
}

/// The faults and warnings of a parsed configuration, the faults first; no notes.
pub fn check(spec: &Spec) -> Vec<Finding> {
    judge(spec, &[], false)
}

/// Every rule over the typed configuration. What lies at an `unreadable` pointer is not judged: it was of the wrong
/// type, has been reported, and is not in `spec`.
fn judge(spec: &Spec, unreadable: &[String], notes: bool) -> Vec<Finding> {
    let mut cx = Checker { spec, findings: Vec::new(), unreadable, notes };
    top::check(&mut cx);
    process::check(&mut cx);
    mounts::check(&mut cx);
    namespaces::check(&mut cx);
    kernel::check(&mut cx);
    resources::check(&mut cx);
    seccomp::check(&mut cx);
    if notes {
        isolation::check(&mut cx);
    }
    let mut findings = cx.findings;
    findings.retain(|f| !unreadable.iter().any(|u| tree::is_within(&f.pointer, u)));
    findings.sort_by_key(|f| f.severity);
    findings
}

/// What the rules work with: the configuration, and where their findings go.
struct Checker<'a> {
    spec: &'a Spec,
    findings: Vec<Finding>,
    unreadable: &'a [String],
    /// Whether notes are wanted; `create` has no use for them.
    notes: bool,
}

/// A finding just made, for its hint.
struct Added<'a>(Option<&'a mut Finding>);

impl Added<'_> {
    fn hint(self, hint: impl Display) {
        if let Some(finding) = self.0 {
            finding.hint = hint.to_string();
        }
    }

    /// `did you mean "x"?`, where there is something to be meant.
    fn did_you_mean(self, meant: Option<&str>) {
        if let Some(meant) = meant {
            self.hint(format_args!("did you mean {meant:?}?"));
        }
    }
}

impl<'a> Checker<'a> {
    fn add(&mut self, severity: Severity, at: impl Display, message: impl Display, expected: impl Display) -> Added<'_> {
        self.findings.push(Finding::new(severity, at, message, expected));
        Added(self.findings.last_mut())
    }

    fn fault(&mut self, at: impl Display, message: impl Display, expected: impl Display) -> Added<'_> {
        self.add(Severity::Fault, at, message, expected)
    }

    fn warn(&mut self, at: impl Display, message: impl Display, expected: impl Display) -> Added<'_> {
        self.add(Severity::Warning, at, message, expected)
    }

    fn note(&mut self, at: impl Display, message: impl Display, expected: impl Display) -> Added<'_> {
        if self.notes { self.add(Severity::Note, at, message, expected) } else { Added(None) }
    }

    /// A fault unless `value` is one of `known`.
    fn one_of(&mut self, at: impl Display, value: &str, known: &[&str]) {
        if !known.contains(&value) {
            self.fault(at, format_args!("{value:?} is not known"), format_args!("one of {}", known.join(", "))).did_you_mean(suggest::closest(value, known));
        }
    }

    /// A fault where a string that the kernel takes NUL-terminated has a NUL inside.
    fn no_nul(&mut self, at: impl Display, value: &str) {
        if value.contains('\0') {
            self.fault(at, format_args!("{value:?} contains a NUL byte"), "a string without NUL bytes");
        }
    }

    /// A fault unless `path` starts with `/` and has no NUL.
    fn absolute(&mut self, at: impl Display, path: &str) {
        if !path.starts_with('/') {
            self.fault(&at, format_args!("{path:?} is not absolute"), "an absolute path")
                .hint(format_args!("write {:?}", format!("/{}", path.trim_start_matches("./"))));
        }
        self.no_nul(at, path);
    }

    /// The entry of `linux.namespaces` for this type.
    fn namespace(&self, kind: &str) -> Option<&'a Namespace> {
        self.spec.linux.namespaces.iter().find(|ns| ns.kind == kind)
    }

    /// Whether the container surely shares the runtime's namespace of this type.
    fn lacks(&self, kind: &str) -> bool {
        self.namespace(kind).is_none() && self.readable("/linux/namespaces")
    }

    /// Whether everything at and below `pointer` could be read. A rule over two values asks, lest it judge a value
    /// that isn't the one written.
    fn readable(&self, pointer: impl Display) -> bool {
        self.unreadable.is_empty() || {
            let pointer = pointer.to_string();
            !self.unreadable.iter().any(|u| tree::is_within(u, &pointer) || tree::is_within(&pointer, u))
        }
    }
}
