//! What manual and completions know of a program's flags.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Long flags in the `.It` lines of a page.
pub fn flags_in_manual(page: &str) -> BTreeSet<String> {
    let heads = page.lines().filter(|line| line.starts_with(".It Fl"));
    heads.flat_map(|line| line.split_whitespace().filter_map(|word| word.strip_prefix('-')).map(String::from).collect::<Vec<_>>()).collect()
}

pub fn flags_in_fish(text: &str, verb: &str) -> BTreeSet<String> {
    let condition = match verb {
        "" => "-n '__fish_use_subcommand'".to_string(),
        verb => format!("-n '__fish_seen_subcommand_from {verb}'"),
    };
    let lines = text.lines().filter(|line| line.contains(&condition));
    lines.filter_map(|line| Some(line.split_once(" -l ")?.1.split_whitespace().next()?.to_string())).collect()
}

/// What bash itself makes of the completion's table of flags.
pub fn flags_of_bash(program: &str, verb: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("completions/{program}.bash"));
    let script = format!("source \"$1\"; _{program}_flags \"$2\"");
    let done = Command::new("bash").args(["-c", &script, "bash"]).arg(file).arg(verb).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.split_whitespace().map(|flag| flag.trim_end_matches('=').to_string()).collect()
}
