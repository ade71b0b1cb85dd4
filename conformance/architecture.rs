//! The arrows of `src/lib.rs`'s map, and the other house rules that a reader of the source can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each top-level module may use of the others, beside `error` and `log`, which all may.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("cli", &["container", "image", "plan", "spec"]),
    ("container", &["stage", "cgroup", "seccomp", "plan", "host", "spec", "sys"]),
    ("stage", &["cgroup", "seccomp", "plan", "idmap", "spec", "sys"]),
    ("cgroup", &["host", "spec", "sys"]),
    ("seccomp", &["spec"]),
    ("plan", &["host", "spec"]),
    ("host", &["sys"]),
    ("idmap", &["spec", "sys"]),
    ("image", &["idmap", "spec", "sys"]),
    ("spec", &[]),
    ("sys", &[]),
    ("error", &[]),
    ("log", &[]),
];

/// Pure modules and the one file of them that reads: `spec::load` and `read_config`.
const PURE: [&str; 3] = ["plan", "spec", "seccomp"];
const READS_FILES: [&str; 1] = ["spec/mod.rs"];

const MOST_LINES: usize = 620;

struct Source {
    /// Below `src`.
    path: String,
    /// As it is, for counting.
    lines: usize,
    /// Without comments, strings and the tests at its end.
    code: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = Vec::new();
    collect(&root, &root, &mut out);
    assert!(out.len() > 50, "the sources were found");
    out
}

fn collect(root: &Path, dir: &Path, out: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
            out.push(Source { lines: text.lines().count(), code: code_of(&text), path });
        }
    }
}

/// The text up to its tests, with comments and the insides of strings blanked.
fn code_of(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let bytes = text.as_bytes();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = if rest.starts_with(b"//") {
            rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"r#\"") {
            3 + rest[3..].windows(2).position(|w| w == b"\"#").map_or(rest.len() - 3, |n| n + 2)
        } else if rest[0] == b'"' {
            string_length(rest)
        } else if rest.starts_with(b"'\"'") || rest.starts_with(b"b'\"'") {
            3
        } else {
            out.push(rest[0] as char);
            at += 1;
            continue;
        };
        out.push(' ');
        at += skipped;
    }
    out
}

/// A string's length with its quotes.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// The names X of all `crate::X` and `crate::{X, …}`.
fn uses(code: &str) -> BTreeSet<&str> {
    let mut out = BTreeSet::new();
    for (at, marker) in code.match_indices("crate::") {
        let rest = &code[at + marker.len()..];
        match rest.strip_prefix('{') {
            Some(list) => out.extend(items(list)),
            None => out.extend(words(rest).next()),
        }
    }
    out
}

/// The first name of each item of a list in braces, up to its end; `list` starts behind the opening brace.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (1, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            out.extend(words(&list[start..at]).next());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    out
}

/// How many `super`s the longest chain of them has.
fn supers(code: &str) -> usize {
    let lengths = code.match_indices("super::").map(|(at, _)| code[at..].split("::").take_while(|word| *word == "super").count());
    lengths.max().unwrap_or(0)
}

/// "file: fault" each; the test fails with all of them.
#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn arrows_run_down_only() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| !s.path.starts_with("bin/") && s.path != "lib.rs") {
        let Some(may) = allowed.get(source.module()) else {
            faults.push(format!("{}: the module is in no row of ALLOWED", source.path));
            continue;
        };
        let others = uses(&source.code).into_iter().filter(|name| allowed.contains_key(name) && *name != source.module());
        let bad = others.filter(|name| !may.contains(name) && !["error", "log"].contains(name));
        faults.extend(bad.map(|name| format!("{}: uses crate::{name}, which {} may not", source.path, source.module())));
    }
    none(faults);
}

/// `super::super::…` up to the crate's root would go round the test above.
#[test]
fn no_path_leaves_its_module_by_super() {
    // One more where the file has a module in braces.
    let inline = |s: &Source| s.code.lines().any(|l| l.trim_end().ends_with('{') && words(l).any(|w| w == "mod"));
    let depth = |s: &Source| s.path.trim_end_matches("/mod.rs").split('/').count() + usize::from(inline(s));
    let bad = |s: &&Source| s.path != "lib.rs" && supers(&s.code) >= depth(s);
    none(sources().iter().filter(bad).map(|s| format!("{}: {} supers", s.path, supers(&s.code))).collect());
}

/// The map names every module, so that a new one needs a row here.
#[test]
fn every_module_of_the_map_has_a_row() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = map.lines().filter_map(|l| l.strip_prefix("pub mod ")?.split(';').next());
    let rows: BTreeSet<_> = ALLOWED.iter().map(|row| row.0).collect();
    assert_eq!(modules.collect::<BTreeSet<_>>(), rows);
}

/// `plan`, `spec` and `seccomp` can be tested without root, since they neither call the kernel nor touch files.
#[test]
fn pure_modules_are_pure() {
    let all = sources();
    let pure = all.iter().filter(|s| PURE.contains(&s.module()) && !READS_FILES.contains(&s.path.as_str()));
    let impure =
        |code: &str| ["std::fs", "File::open", "std::process", "std::net", "std::env"].into_iter().find(|word| code.contains(word)).map(str::to_string);
    none(pure.filter_map(|s| impure(&s.code).map(|word| format!("{}: {word}", s.path))).collect());
}

#[test]
fn unsafe_is_where_it_may_be() {
    let may = |s: &Source| s.module() == "sys" || s.path == "stage/freeze.rs";
    let bad = |s: &&Source| !may(s) && words(&s.code).any(|w| w == "unsafe");
    none(sources().iter().filter(bad).map(|s| format!("{}: unsafe", s.path)).collect());
}

/// Stdout and `anyhow` are the command line's. Macros that print to stderr are nobody's: `log` does it.
#[test]
fn only_the_command_line_prints() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| !["cli", "bin"].contains(&s.module())) {
        let bad = ["anyhow", "println!", "print!", "eprintln!", "eprint!", "dbg!"].into_iter().filter(|w| source.code.contains(w));
        faults.extend(bad.map(|w| format!("{}: {w}", source.path)));
    }
    none(faults);
}

#[test]
fn files_are_short() {
    none(sources().iter().filter(|s| s.lines > MOST_LINES).map(|s| format!("{}: {} lines", s.path, s.lines)).collect());
}

/// The reader itself: without this a test above could pass by seeing nothing.
#[test]
fn the_reader_sees_code_only() {
    let code = code_of(
        "use crate::{a, b::{c, d}, e};\n// unsafe crate::x\nlet s = \"crate::y \\\" unsafe\"; let q = '\"'; crate::f::g();\n#[cfg(test)]\nmod tests { crate::h }",
    );
    assert_eq!(uses(&code).into_iter().collect::<Vec<_>>(), ["a", "b", "e", "f"]);
    assert!(!words(&code).any(|w| w == "unsafe"));
    assert_eq!(supers("use super::a; super::super::b()"), 2);
}
