//! The command line from outside, without root: words, shapes and exit codes that callers match on (docs/callers/contract.md).

#[path = "support/words.rs"]
mod words;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use words::{flags_in_fish, flags_in_manual, flags_of_bash, read};

/// What a run of dhow came to.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

/// A directory of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("dhow-cli-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A command that finds no container: an empty `--root`.
    fn dhow(&self, args: &[&str]) -> Outcome {
        let root = self.path("root");
        fs::create_dir_all(&root).unwrap();
        let mut all = vec!["--root", root.to_str().unwrap()];
        all.extend(args);
        dhow(&all)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dhow"));
    command.args(args).stdin(Stdio::null());
    command
}

fn dhow(args: &[&str]) -> Outcome {
    outcome(&mut command(args))
}

fn outcome(command: &mut Command) -> Outcome {
    let done = command.output().unwrap();
    Outcome { code: done.status.code().unwrap_or(-1), out: String::from_utf8(done.stdout).unwrap(), err: String::from_utf8(done.stderr).unwrap() }
}

/// It fails with `code`, says nothing on stdout and `words` on stderr, in one line.
fn fails(outcome: &Outcome, code: i32, words: &str) {
    assert_eq!((outcome.code, outcome.out.as_str()), (code, ""), "stderr: {}", outcome.err);
    assert!(outcome.err.contains(words), "{words:?} is not in: {}", outcome.err);
    assert_eq!(outcome.err.lines().count(), 1, "{}", outcome.err);
}

#[test]
fn version_has_the_word_once() {
    for args in [["--version"], ["-v"], ["-version"], ["version"]] {
        let got = dhow(&args);
        assert_eq!((got.code, got.err.as_str()), (0, ""), "{args:?}");
        let lines: Vec<&str> = got.out.lines().collect();
        assert_eq!(lines[0], format!("dhow version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("commit: "));
        assert_eq!(lines[2], "spec: 1.3.0");
        assert_eq!(got.out.matches("version").count(), 1);
    }
}

#[test]
fn a_link_answers_by_its_own_name() {
    let scratch = Scratch::new("link");
    let link = scratch.path("runc");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dhow"), &link).unwrap();
    let got = outcome(Command::new(&link).arg("--version"));
    assert!(got.out.starts_with("runc version "), "{}", got.out);
    assert!(got.out.ends_with("runtime: dhow\n"), "{}", got.out);
    let got = outcome(Command::new(&link).args(["kill", "-h"]));
    assert!(got.out.contains("runc kill - "), "{}", got.out);
}

#[test]
fn help_in_every_form() {
    for args in [&[][..], &["-h"], &["--help"], &["help"], &["h"]] {
        let got = dhow(args);
        assert_eq!((got.code, got.err.as_str()), (0, ""), "{args:?}");
        assert!(got.out.starts_with("NAME:\n   dhow - Open Container Initiative runtime\n"), "{}", got.out);
    }
    for (verb, _) in dhow::cli::vocabulary().iter().filter(|(verb, _)| !verb.is_empty()) {
        for args in [[verb, "--help"], [verb, "-h"], ["help", verb], ["-h", verb]] {
            let got = dhow(&args);
            assert_eq!((got.code, got.err.as_str()), (0, ""), "{args:?}");
            assert!(got.out.starts_with(&format!("NAME:\n   dhow {verb} - ")), "{}", got.out);
        }
    }
}

#[test]
fn help_of_an_unknown_command() {
    for args in [&["foo"][..], &["foo", "-h"], &["help", "foo"]] {
        fails(&dhow(args), 3, "No help topic for 'foo'");
    }
}

#[test]
fn wrong_usage_in_runc_s_words() {
    for (args, words) in [
        (&["kill"][..], r#"\"kill\" requires a minimum of 1 argument(s)"#),
        (&["kill", "a", "b", "c"], r#"\"kill\" requires a maximum of 2 argument(s)"#),
        (&["state"], r#"\"state\" requires exactly 1 argument(s)"#),
        (&["exec"], r#"\"exec\" requires a minimum of 1 argument(s)"#),
        (&["features", "x"], r#"\"features\" requires exactly 0 argument(s)"#),
        (&["state", "--nope", "x"], "flag provided but not defined: -nope"),
        (&["--nope"], "flag provided but not defined: -nope"),
        (&["create", "x", "--bundle"], "flag needs an argument: --bundle"),
        (&["restore", "--lsm-mount-context"], "flag needs an argument: --lsm-mount-context"),
        (&["delete", "--force=perhaps", "x"], r#"invalid value \"perhaps\" for flag -force"#),
        (&["create", "--preserve-fds", "-1", "x"], "invalid value '-1' for '--preserve-fds <N>'"),
        (&["list", "--format", "yaml"], "invalid value 'yaml' for '--format <FORMAT>' [possible values: table, json]"),
        (&["--root", "/", "list"], "--root argument should not be set to /"),
        (&["--log-format", "xml", "list"], "invalid log-format: xml"),
        (&["--rootless", "perhaps", "list"], r#"invalid value \"perhaps\" for flag -rootless"#),
    ] {
        fails(&dhow(args), 1, words);
    }
}

#[test]
fn a_missing_container_does_not_exist() {
    let scratch = Scratch::new("missing");
    for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps", "events", "update"] {
        fails(&scratch.dhow(&[verb, "nope"]), 1, "does not exist");
    }
    fails(&scratch.dhow(&["exec", "nope", "ls"]), 255, "exec failed: ");
    let got = scratch.dhow(&["delete", "--force", "nope"]);
    assert_eq!((got.code, got.err.as_str()), (0, ""));
}

#[test]
fn flags_in_go_s_style() {
    let scratch = Scratch::new("style");
    // Each gets as far as the container that isn't there: the flags were understood.
    for args in [
        &["delete", "-force=false", "nope"][..],
        &["delete", "nope", "--force=0"],
        &["--systemd-cgroup", "state", "nope"],
        &["-debug=false", "state", "nope"],
        &["state", "--log-format", "text", "nope"],
        &["state", "--", "nope"],
        &["events", "-interval=1s", "-stats", "nope"],
        &["update", "-memory=64m", "nope", "-cpu-share", "100"],
        &["kill", "-a", "nope", "KILL"],
        &["ps", "-f=json", "nope", "-aux"],
    ] {
        fails(&scratch.dhow(args), 1, "does not exist");
    }
    // After the id, flags belong to the command.
    fails(&scratch.dhow(&["exec", "-e", "A=1", "-cap", "CAP_KILL", "nope", "ls", "--detach", "-nope"]), 255, "does not exist");
}

#[test]
fn signals() {
    let scratch = Scratch::new("signals");
    for signal in ["9", "KILL", "SIGKILL", "sigterm", "0", "RTMIN+1", "SIGRTMAX-2", ""] {
        fails(&scratch.dhow(&["kill", "nope", signal]), 1, "does not exist");
    }
    for signal in ["FOO", "-9", "99"] {
        fails(&scratch.dhow(&["kill", "nope", signal]), 1, &format!("unknown signal \\\"{signal}\\\""));
    }
}

#[test]
fn exec_s_arguments() {
    let scratch = Scratch::new("exec");
    for (args, words) in [
        (&["exec", "nope"][..], "exec failed: exec args cannot be empty"),
        (&["exec", "--user", "root", "nope", "ls"], "exec failed: bad uid"),
        (&["exec", "--user", "0:staff", "nope", "ls"], "exec failed: bad gid"),
        (&["exec", "-g", "-1", "nope", "ls"], "additional-gids must be a positive number -1"),
        (&["exec", "--cgroup", "a", "--cgroup", "b", "nope", "ls"], "missing <controller>: prefix"),
        (&["exec", "--no-new-privs=false", "nope", "ls"], "--no-new-privs=false"),
        (&["exec", "--process", "/nonexistent", "nope"], "/nonexistent"),
    ] {
        fails(&scratch.dhow(args), 255, words);
    }
}

#[test]
fn update_s_arguments() {
    let scratch = Scratch::new("update");
    fails(&scratch.dhow(&["update", "--memory", "64q", "nope"]), 1, "invalid value for memory");
    fails(&scratch.dhow(&["update", "--cpu-period", "x", "nope"]), 1, "invalid value for cpu-period");
    fails(&scratch.dhow(&["update", "--resources", "/nonexistent", "nope"]), 1, "/nonexistent");
    let file = scratch.path("resources.json");
    fs::write(&file, r#"{"memory":{"limit":"much"}}"#).unwrap();
    fails(&scratch.dhow(&["update", "-r", file.to_str().unwrap(), "nope"]), 1, "/memory/limit");
    // From standard input, which is empty here.
    for args in [&["update", "--resources", "-", "nope"][..], &["update", "--resources=-", "nope"]] {
        fails(&scratch.dhow(args), 1, "parsing resources");
    }
    fails(&scratch.dhow(&["events", "--interval", "0", "nope"]), 1, "duration interval must be greater than 0");
}

#[test]
fn what_this_build_refuses() {
    if !Path::new("/run/systemd/system").exists() {
        fails(&dhow(&["--systemd-cgroup", "create", "x"]), 1, "systemd as this machine's first process");
        fails(&dhow(&["--systemd-cgroup", "run", "x"]), 1, "systemd as this machine's first process");
    }
    fails(&dhow(&["checkpoint", "--image-path", "x", "--leave-running", "id"]), 1, "CRIU");
    fails(&dhow(&["restore", "--detach", "--pid-file", "p", "-no-subreaper", "--bundle", "b", "id"]), 1, "CRIU");
    for args in [["--systemd-cgroup", "features"], ["--systemd-cgroup", "--version"], ["--systemd-cgroup", "help"]] {
        assert_eq!(dhow(&args).code, 0, "{args:?}");
    }
}

#[test]
fn a_failed_create_says_so() {
    let scratch = Scratch::new("create");
    let bundle = scratch.path("nowhere");
    for verb in ["create", "run"] {
        let got = scratch.dhow(&[verb, "--bundle", bundle.to_str().unwrap(), "id"]);
        fails(&got, 1, &format!("dhow {verb} failed: "));
        assert!(got.err.contains("no such file or directory"), "{}", got.err);
    }
}

#[test]
fn list_and_its_root() {
    let scratch = Scratch::new("list");
    let got = scratch.dhow(&["list"]);
    assert_eq!(got.code, 0);
    assert_eq!(got.out.split_whitespace().collect::<Vec<_>>(), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(scratch.dhow(&["list", "--format", "json"]).out, "[]\n");
    assert_eq!(scratch.dhow(&["list", "-q"]).out, "");
    fails(&dhow(&["--root", scratch.path("nowhere").to_str().unwrap(), "list"]), 1, "no such file or directory");
}

#[test]
fn features_is_json_alone() {
    let got = dhow(&["features"]);
    assert_eq!((got.code, got.err.as_str()), (0, ""));
    let features: Value = serde_json::from_str(&got.out).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    let linux = &features["linux"];
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    assert_eq!((&linux["cgroup"]["systemd"], &linux["cgroup"]["systemdUser"]), (&Value::Bool(true), &Value::Bool(true)));
    let has = |list: &Value, word: &str| list.as_array().unwrap().iter().any(|item| item == word);
    for option in ["ro", "rro", "rbind", "rprivate", "idmap", "ridmap", "tmpcopyup"] {
        assert!(has(&features["mountOptions"], option), "{option}");
    }
    assert!(has(&linux["namespaces"], "user") && has(&linux["namespaces"], "time"));
    assert!(has(&linux["seccomp"]["actions"], "SCMP_ACT_NOTIFY"));
    assert!(has(&linux["capabilities"], "CAP_SYS_ADMIN"));
}

#[test]
fn spec_writes_a_config_once() {
    let scratch = Scratch::new("spec");
    let dir = scratch.0.to_str().unwrap();
    let got = dhow(&["spec", "-b", dir]);
    assert_eq!((got.code, got.out.as_str(), got.err.as_str()), (0, "", ""));
    let written: Value = serde_json::from_slice(&fs::read(scratch.path("config.json")).unwrap()).unwrap();
    assert_eq!(written["ociVersion"], "1.3.0");
    fails(&dhow(&["spec", "--bundle", dir]), 1, "exists. Remove it first");
    fs::remove_file(scratch.path("config.json")).unwrap();
    assert_eq!(outcome(command(&["spec", "--rootless"]).current_dir(dir)).code, 0);
    assert!(scratch.path("config.json").exists());
    fails(&dhow(&["spec", "-b", "/nonexistent"]), 1, "/nonexistent/config.json");
}

#[test]
fn validate_and_explain_read_a_bundle() {
    let scratch = Scratch::new("validate");
    let dir = scratch.0.to_str().unwrap();
    for verb in ["validate", "explain"] {
        fails(&dhow(&[verb, dir]), 1, "config.json");
    }
    assert_eq!(dhow(&["spec", "-b", dir]).code, 0);
    let got = dhow(&["validate", dir]);
    assert_eq!(got.code, 0, "{}{}", got.out, got.err);
    let got = dhow(&["validate", "--format=json", "-b", dir]);
    assert!(serde_json::from_str::<Value>(&got.out).unwrap()["findings"].is_array(), "{}", got.out);
    fs::write(scratch.path("config.json"), r#"{"ociVersion":7}"#).unwrap();
    let got = dhow(&["validate", dir]);
    assert_eq!((got.code, got.err.as_str()), (1, ""));
    assert!(got.out.starts_with("fault at "), "{}", got.out);
}

#[test]
fn json_log_is_one_object_and_stderr_stands_alone() {
    let scratch = Scratch::new("json");
    let log = scratch.path("log.json");
    let got = scratch.dhow(&["--log", log.to_str().unwrap(), "--log-format", "json", "state", "nope"]);
    assert_eq!(got.code, 1);
    let line: Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(format!("{}\n", line["msg"].as_str().unwrap()), got.err);
    assert_rfc3339(line["time"].as_str().unwrap());
    // Words that can't be read are in the log too.
    let got = scratch.dhow(&["--log", log.to_str().unwrap(), "--log-format", "json", "state", "--nope"]);
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.ends_with("\n") && text.contains("flag provided but not defined: -nope") && got.err.contains("-nope"));
}

fn assert_rfc3339(time: &str) {
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99Z");
}

#[test]
fn text_log_looks_like_logrus() {
    let scratch = Scratch::new("text");
    let got = scratch.dhow(&["state", "nope"]);
    let (time, rest) = got.err.strip_prefix("time=\"").and_then(|rest| rest.split_once('"')).unwrap();
    assert_rfc3339(time);
    assert!(rest.starts_with(" level=error msg="), "{}", got.err);
    let got = scratch.dhow(&["--log-format=json", "state", "nope"]);
    assert_eq!(serde_json::from_str::<Value>(&got.err).unwrap()["level"], "error");
}

#[test]
fn debug_lines_go_to_the_log() {
    let scratch = Scratch::new("debug");
    let log = scratch.path("log");
    let got = scratch.dhow(&["--debug", "--log", log.to_str().unwrap(), "state", "nope"]);
    assert!(!got.err.contains("level="), "{}", got.err);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=debug") && text.contains("level=error"), "{text}");
    assert!(scratch.dhow(&["state", "nope", "--debug"]).err.contains("level=debug"));
}

#[test]
fn warnings_stay_out_of_a_failed_command_s_json_log() {
    let scratch = Scratch::new("warn");
    let log = scratch.path("log.json");
    let args = ["update", "--kernel-memory", "1m", "nope"];
    let got = scratch.dhow(&args);
    assert!(got.err.contains("level=warning") && got.err.contains("level=error"), "{}", got.err);
    let got = scratch.dhow(&[&["--log", log.to_str().unwrap(), "--log-format", "json"], &args[..]].concat());
    assert!(got.err.starts_with("warning: Kernel memory settings"), "{}", got.err);
    let line: Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
}

#[test]
fn a_closed_stdout_is_an_error_and_no_panic() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let got = outcome(command(&["features"]).stdout(full));
    assert_eq!(got.code, 1);
    assert!(got.err.contains("no space left") || got.err.contains("No space left"), "{}", got.err);
}

/// Each verb and each flag that the parser knows is in the manual and in every shell's completions, and nothing else is.
#[test]
fn manual_and_completions_know_what_the_parser_knows() {
    let (bash, zsh, fish) = (read("completions/dhow.bash"), read("completions/_dhow"), read("completions/dhow.fish"));
    let overview = read("man/dhow.8");
    for (verb, flags) in dhow::cli::vocabulary() {
        let page = if verb.is_empty() { overview.clone() } else { read(&format!("man/dhow-{verb}.8")) };
        let known: BTreeSet<String> = flags.iter().map(|flag| flag.long.clone()).collect();
        assert_eq!(flags_in_manual(&page), known, "the manual of dhow {verb}");
        for flag in flags.iter().filter(|flag| flag.short.is_some()) {
            let head = format!(".It Fl {} , -{}", flag.short.unwrap(), flag.long);
            assert!(page.contains(&head), "the manual of dhow {verb} lacks {head:?}");
        }
        assert_eq!(flags_in_fish(&fish, verb), known, "fish, dhow {verb}");
        let spoken: BTreeSet<String> = flags_of_bash("dhow", verb);
        let expected = flags.iter().flat_map(|f| [Some(format!("--{}", f.long)), f.short.map(|c| format!("-{c}"))]).flatten().collect();
        assert_eq!(spoken, expected, "bash, dhow {verb}");
        for flag in &flags {
            assert!(zsh.contains(&format!("--{}", flag.long)), "zsh lacks --{}", flag.long);
        }
        if !verb.is_empty() {
            assert!(overview.contains(&format!(".Xr dhow-{verb} 8")), "man/dhow.8 lacks {verb}");
            assert!(bash.contains(verb) && zsh.contains(&format!("'{verb}:")) && fish.contains(&format!("-a {verb} ")), "{verb}");
        }
    }
}
