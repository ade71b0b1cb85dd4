//! dhowctl's words: manual and completions, what a terminal shows and what it does not.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
mod support;
#[path = "support/words.rs"]
mod words;

use ctl::{Scratch, image, noise, tar};
use registry::{PASSWORD, Registry, USER};
use std::collections::BTreeSet;
use std::process::{Child, Command};
use support::{LIMIT, pty, status_code, wait};
use words::{flags_in_fish, flags_in_manual, flags_of_bash, read};

/// A section of the page, up to the next.
fn section<'p>(page: &'p str, head: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n{head}\n")).unwrap_or_else(|| panic!("the manual lacks {head}"));
    let end = [rest.find("\n.Ss "), rest.find("\n.Sh ")].into_iter().flatten().min().unwrap_or(rest.len());
    &rest[..end]
}

/// Its flags, and those of the sections that it refers to.
fn flags(page: &str, head: &str) -> (BTreeSet<String>, String) {
    let text = section(page, head);
    let (mut all, mut whole) = (flags_in_manual(text), text.to_string());
    for line in text.lines().filter_map(|line| line.strip_prefix(".Sx ")) {
        let (more, its) = flags(page, &format!(".Sh {}", line.trim_end_matches(" .")));
        all.extend(more);
        whole += &its;
    }
    (all, whole)
}

#[test]
fn manual_and_completions_know_what_the_parser_knows() {
    let (bash, zsh, fish) = (read("completions/dhowctl.bash"), read("completions/_dhowctl"), read("completions/dhowctl.fish"));
    let page = read("man/dhowctl.8");
    for (verb, words) in dhow::cli::ctl::vocabulary() {
        let (mut in_manual, text) = if verb.is_empty() { flags(&page, ".Sh GLOBAL OPTIONS") } else { flags(&page, &format!(".Ss {verb}")) };
        // It is said once, for all.
        in_manual.insert("help".into());
        let known: BTreeSet<String> = words.iter().map(|flag| flag.long.clone()).collect();
        assert_eq!(in_manual, known, "the manual of dhowctl {verb}");
        for flag in words.iter().filter(|flag| flag.long != "help") {
            if let Some(short) = flag.short {
                assert!(text.contains(&format!(".It Fl {short} , -{}", flag.long)), "the manual of dhowctl {verb} lacks -{short}");
            }
            assert!(zsh.contains(&format!("--{}", flag.long)), "zsh lacks --{}", flag.long);
        }
        assert_eq!(flags_in_fish(&fish, verb), known, "fish, dhowctl {verb}");
        let expected = words.iter().flat_map(|f| [Some(format!("--{}", f.long)), f.short.map(|c| format!("-{c}"))]).flatten().collect();
        assert_eq!(flags_of_bash("dhowctl", verb), expected, "bash, dhowctl {verb}");
        if !verb.is_empty() {
            assert!(bash.contains(verb) && zsh.contains(&format!("'{verb}:")) && fish.contains(&format!("-a {verb} ")), "{verb}");
        }
    }
}

/// `command` at a terminal of ours.
fn at_terminal(mut command: Command) -> (Child, pty::Terminal, std::os::fd::OwnedFd) {
    let (terminal, slave) = pty::open();
    terminal.resize(30, 120);
    command.env("TERM", "xterm");
    pty::sit_at(&mut command, &slave);
    (command.spawn().unwrap(), terminal, slave)
}

#[test]
fn a_password_is_not_shown() {
    let scratch = Scratch::new("prompt");
    let registry = Registry::with_password(&scratch);
    let login = || scratch.ctl_command(&["login", "--cert-dir", "certs", "-u", USER, &registry.address]);
    let (mut child, mut terminal, slave) = at_terminal(login());
    let modes = pty::modes(&pty::open().1);
    terminal.expect("Password: ");
    assert_eq!(pty::modes(&slave).3 & libc::ECHO, 0);
    terminal.type_in(&format!("{PASSWORD}\n"));
    let said = terminal.expect("logged in to");
    assert!(!said.contains(PASSWORD), "{said}");
    assert_eq!(status_code(wait(&mut child, LIMIT).unwrap()), 0);
    assert_eq!(pty::modes(&slave), modes);
    // Ctrl-C leaves a terminal that shows what is typed.
    let (mut child, mut terminal, slave) = at_terminal(login());
    terminal.expect("Password: ");
    terminal.type_in("\x03");
    assert_eq!(status_code(wait(&mut child, LIMIT).unwrap()), 130);
    assert_eq!(pty::modes(&slave), modes);
}

#[test]
fn bars_and_their_total() {
    let scratch = Scratch::new("bars");
    let registry = Registry::plain(&scratch);
    let store = dhow::image::Store::open(&scratch.path("layout")).unwrap();
    image(&store, "v1", "linux/amd64", &[tar("a", &noise(1, 300_000)), tar("b", &noise(2, 500_000))]);
    let name = registry.name("a/b:v1");
    let pushed = scratch.ctl(&["push", "oci:layout:v1", &name]);
    pushed.ok();
    // Elsewhere than on a terminal: a line for each blob.
    assert_eq!(pushed.err.lines().filter(|line| line.ends_with("bytes  done")).count(), 3, "{}", pushed.err);
    let (mut child, mut terminal, _slave) = at_terminal(scratch.ctl_command(&["fetch", &name]));
    let shown = terminal.expect("sha256:");
    assert_eq!(status_code(wait(&mut child, LIMIT).unwrap()), 0);
    let total = shown.rsplit_once("total ").map(|(_, rest)| rest.lines().next().unwrap().to_string()).unwrap_or_default();
    // All that there was to come has come.
    let (come, all) = total.split_once('/').map(|(come, all)| (come.trim().rsplit("  ").next().unwrap(), all)).unwrap_or_else(|| panic!("{shown:?}"));
    assert!(shown.contains("done") && come.ends_with("KiB") && all.starts_with(come), "{shown:?}");
}
