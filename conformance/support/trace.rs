//! What strace saw, in numbers.

use std::collections::BTreeMap;
use std::process::Command;

/// Whether programs can be traced here.
pub fn is_possible() -> bool {
    Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

/// 5 % more than what was measured.
pub fn bound(measured: usize) -> usize {
    measured + measured / 20
}

/// System calls by name, for the runtime and for each process it made.
pub struct Trace {
    pub parent: BTreeMap<String, usize>,
    pub children: Vec<BTreeMap<String, usize>>,
}

impl Trace {
    /// Of `strace -f -o`: "PID call(…". The first line is the runtime's.
    pub fn parse(text: &str) -> Trace {
        let mut order: Vec<&str> = Vec::new();
        let mut counts: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        for line in text.lines() {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            if !order.contains(&pid) {
                order.push(pid);
            }
            let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
            // "<... read resumed>", "+++ exited", "--- SIGCHLD": not calls. Rust's debug builds ask F_GETFD at each close.
            let is_call = call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_call && !(call == "fcntl" && arguments.contains("F_GETFD")) {
                *counts.entry(pid).or_default().entry(call.to_string()).or_default() += 1;
            }
        }
        let mut of = order.into_iter().map(|pid| counts.remove(pid).unwrap_or_default());
        Trace { parent: of.next().unwrap_or_default(), children: of.collect() }
    }
}

pub fn total(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}

/// The most frequent first.
pub fn table(counts: &BTreeMap<String, usize>) -> String {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), (*name).clone()));
    rows.iter().map(|(name, n)| format!("{n:5} {name}\n")).collect()
}
