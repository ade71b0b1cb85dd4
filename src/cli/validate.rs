//! `validate`: all faults of a config.json at once.

use super::call::Call;
use super::{Verb, output};
use crate::spec::read_config;
use crate::spec::validate::{Finding, Severity, validate};
use anyhow::Result;

pub(crate) const VERB: Verb = Verb { name: "validate", about: "say all that is wrong with a bundle's config.json", run, ..Verb::OF_BUNDLE };

/// 1 if there is a fault; a warning alone is none.
fn run(call: &Call) -> Result<u8> {
    let report = validate(&read_config(&call.bundle(Some(0))?)?);
    if call.text("format") == Some("json") {
        output::print_pretty_json(&report, "  ")?;
    } else {
        let text: String = report.findings.iter().map(as_text).collect();
        output::print(if text.is_empty() { "no faults found\n" } else { &text })?;
    }
    Ok(u8::from(report.findings.iter().any(|finding| finding.severity == Severity::Fault)))
}

/// `fault at /process/cwd: …`, and below it what would be right.
fn as_text(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Fault => "fault",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let place = if finding.pointer.is_empty() { "the top level" } else { &finding.pointer };
    let mut out = format!("{severity} at {place}: {}\n", finding.message);
    for (label, text) in [("expected", &finding.expected), ("hint", &finding.hint)] {
        if !text.is_empty() {
            out.push_str(&format!("    {label}: {text}\n"));
        }
    }
    out
}
