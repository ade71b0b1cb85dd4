//! Go's flag syntax → the GNU form that clap reads, and the few kinds of flag that dhow has.
//!
//! dhow's callers were written against a Go program. There one dash is as good as two (`-bundle x`, `--b=x`), short
//! flags don't bundle, a switch takes `=true` or `=false`, and whatever follows a flag that needs a value is that value,
//! even if it starts with a dash. clap knows none of this, so [`split`] goes first, with clap's own declaration of the
//! flags as its only knowledge: `--name=value` for clap, the rest positional.

use crate::Error;
use clap::{Arg, ArgAction, Command, builder::PossibleValuesParser, builder::ValueParser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Where a command's flags end; `--` ends them anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagsEnd {
    /// Before the first positional: the global options.
    AtFirst,
    /// After the first positional (the id), so that `exec ID cmd -x` leaves `-x` to the command.
    AfterFirst,
    /// Flags and positionals mix.
    Never,
}

/// A command line taken apart.
#[derive(Debug, Default, PartialEq)]
pub struct Split {
    /// The command's own flags in GNU form.
    pub own: Vec<OsString>,
    /// Global options given after the verb, in GNU form.
    pub inherited: Vec<OsString>,
    pub positionals: Vec<OsString>,
    /// Switches whose last word was `=false`; elsewhere that is the same as not given.
    pub off: Vec<String>,
}

/// Take `argv` apart by the flags of `own`, then by those of `inherited`.
pub fn split(argv: &[OsString], own: &Command, inherited: Option<&Command>, end: FlagsEnd) -> Result<Split, Error> {
    let mut out = Split::default();
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if end == FlagsEnd::AfterFirst && !out.positionals.is_empty() {
            out.positionals.push(word.clone());
            break;
        }
        let Some((name, value)) = as_flag(word) else {
            out.positionals.push(word.clone());
            if end == FlagsEnd::AtFirst {
                break;
            }
            continue;
        };
        let (arg, is_own) = match (find(own, name), inherited.and_then(|c| find(c, name))) {
            (Some(arg), _) => (arg, true),
            (None, Some(arg)) => (arg, false),
            (None, None) if spread(own, word).is_some() => {
                for arg in spread(own, word).unwrap_or_default() {
                    set_switch(arg, None, &mut out.own, &mut out.off)?;
                }
                continue;
            }
            (None, None) => return Err(Error::usage(format!("flag provided but not defined: -{}", name.to_string_lossy()))),
        };
        let Split { own, inherited, off, .. } = &mut out;
        let flags = if is_own { own } else { inherited };
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            set_switch(arg, value, flags, off)?;
        } else {
            let value = match value {
                Some(value) => value,
                None => words.next().ok_or_else(|| Error::usage(format!("flag needs an argument: {}", word.to_string_lossy())))?,
            };
            flags.push(gnu(arg, Some(value)));
        }
    }
    out.positionals.extend(words.cloned());
    Ok(out)
}

/// The name and the `=value` of a word that is a flag; `-` and `-9` are not.
fn as_flag(word: &OsStr) -> Option<(&OsStr, Option<&OsStr>)> {
    let bytes = word.as_bytes();
    let name = match bytes {
        [b'-', b'-', rest @ ..] => rest,
        [b'-', letter, ..] if letter.is_ascii_alphabetic() => &bytes[1..],
        _ => return None,
    };
    let cut = name.iter().position(|&b| b == b'=');
    let (name, value) = match cut {
        Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]))),
        None => (name, None),
    };
    Some((OsStr::from_bytes(name), value))
}

/// `-it`: switches of one letter each, which Go's programs don't know, so that nobody means anything else by it.
fn spread<'a>(command: &'a Command, word: &OsStr) -> Option<Vec<&'a Arg>> {
    let letters = word.to_str()?.strip_prefix('-')?;
    let is_switch = |arg: &&Arg| matches!(arg.get_action(), ArgAction::SetTrue);
    letters.chars().map(|letter| command.get_arguments().find(|arg| arg.get_short() == Some(letter)).filter(is_switch)).collect()
}

/// By the long name or the short one, however many dashes were typed.
fn find<'a>(command: &'a Command, name: &OsStr) -> Option<&'a Arg> {
    let name = name.to_str()?;
    let mut letters = name.chars();
    let short = letters.next().filter(|_| letters.next().is_none());
    command.get_arguments().find(|arg| arg.get_long() == Some(name) || (short.is_some() && arg.get_short() == short))
}

/// The last of several words counts, so `=false` takes back what came before.
fn set_switch(arg: &Arg, value: Option<&OsStr>, flags: &mut Vec<OsString>, off: &mut Vec<String>) -> Result<(), Error> {
    let flag = gnu(arg, None);
    let long = arg.get_long().unwrap_or_default();
    flags.retain(|f| *f != flag);
    off.retain(|name| name != long);
    match value.map_or(Some("true"), OsStr::to_str) {
        Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => flags.push(flag),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => off.push(long.to_string()),
        _ => {
            let value = value.unwrap_or_default().to_string_lossy();
            return Err(Error::usage(format!("invalid value \"{value}\" for flag -{long}: neither true nor false")));
        }
    }
    Ok(())
}

/// `--name` or `--name=value`. Every flag of dhow has a long name.
fn gnu(arg: &Arg, value: Option<&OsStr>) -> OsString {
    let mut out = format!("--{}", arg.get_long().unwrap_or_default()).into_bytes();
    if let Some(value) = value {
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
    OsString::from_vec(out)
}

/// The clap command of a verb (or of the global options), which reads what [`split`] left in `own`.
pub fn command(name: &'static str, flags: Vec<Arg>) -> Command {
    Command::new(name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .help_template("{options}")
        .args(flags)
        .arg(switch("help", "show this help").short('h'))
}

/// clap's message as one line, without its "error:" and its advice.
pub fn one_line(err: &clap::Error) -> String {
    let text = err.to_string();
    let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_string()
}

/// A flag that is there or not.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

/// A flag with a string.
pub fn text(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    valued(name, placeholder, help, ValueParser::string())
}

/// A flag with a path, which need not be UTF-8.
pub fn path(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    valued(name, placeholder, help, ValueParser::path_buf())
}

/// A flag with a count.
pub fn count(name: &'static str, help: &'static str) -> Arg {
    valued(name, "N", help, clap::value_parser!(u32).into())
}

/// A flag that can be given several times. No comma splits a value: `--cgroup cpu,cpuacct:sub` is one.
pub fn list(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    text(name, placeholder, help).action(ArgAction::Append)
}

/// `--format`, the first choice being the default.
pub fn format<const N: usize>(choices: [&'static str; N]) -> Arg {
    valued("format", "FORMAT", "how to print", PossibleValuesParser::new(choices).into()).default_value(choices[0])
}

fn valued(name: &'static str, placeholder: &'static str, help: &'static str, parser: ValueParser) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).help(help).action(ArgAction::Set).value_parser(parser)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Command {
        command("sample", vec![path("bundle", "DIR", "").short('b'), switch("force", "").short('f'), list("env", "E", "").short('e')])
    }

    fn globals() -> Command {
        command("globals", vec![switch("debug", ""), switch("force", "shadowed"), text("root", "DIR", "")])
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn run(text: &str, end: FlagsEnd) -> Result<Split, String> {
        split(&words(text), &sample(), Some(&globals()), end).map_err(|e| e.to_string())
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        for line in ["-bundle x id", "--bundle x id", "-bundle=x id", "--bundle=x id", "-b x id", "--b=x id", "id -b x"] {
            let got = run(line, FlagsEnd::Never).unwrap();
            assert_eq!((got.own, got.positionals), (words("--bundle=x"), words("id")), "{line}");
        }
    }

    #[test]
    fn switches_of_a_letter_may_stand_together() {
        assert_eq!(run("-fh ID", FlagsEnd::Never).unwrap(), Split { own: words("--force --help"), positionals: words("ID"), ..Split::default() });
        for line in ["-fb x", "--fh", "-fx", "-fh=true"] {
            assert!(run(line, FlagsEnd::Never).unwrap_err().contains("not defined"), "{line}");
        }
    }

    #[test]
    fn the_value_may_look_like_a_flag() {
        assert_eq!(run("-b -f - ID", FlagsEnd::Never).unwrap(), Split { own: words("--bundle=-f"), positionals: words("- ID"), ..Split::default() });
    }

    #[test]
    fn switches_take_a_value_and_the_last_one_counts() {
        assert_eq!(run("-f --force=false", FlagsEnd::Never).unwrap(), Split { off: vec!["force".into()], ..Split::default() });
        assert_eq!(run("-force=0 -f=T", FlagsEnd::Never).unwrap(), Split { own: words("--force"), ..Split::default() });
        assert!(run("--force=maybe", FlagsEnd::Never).unwrap_err().contains("invalid value \"maybe\" for flag -force"));
    }

    #[test]
    fn flags_end_where_the_command_says() {
        let got = run("-f ID cmd -f -- -b", FlagsEnd::AfterFirst).unwrap();
        assert_eq!((got.own, got.positionals), (words("--force"), words("ID cmd -f -- -b")));
        let got = run("ID -- cmd -f", FlagsEnd::AfterFirst).unwrap();
        assert_eq!((got.own, got.positionals), (words(""), words("ID cmd -f")));
        let got = run("-f verb -b x", FlagsEnd::AtFirst).unwrap();
        assert_eq!((got.own, got.positionals), (words("--force"), words("verb -b x")));
        let got = run("ID -9", FlagsEnd::AfterFirst).unwrap();
        assert_eq!(got.positionals, words("ID -9"));
    }

    #[test]
    fn global_options_after_the_verb() {
        let got = run("--debug ID --root /r -f", FlagsEnd::Never).unwrap();
        assert_eq!((got.own, got.inherited), (words("--force"), words("--debug --root=/r")));
    }

    #[test]
    fn go_s_words_for_what_is_wrong() {
        assert_eq!(run("--bundle", FlagsEnd::Never).unwrap_err(), "flag needs an argument: --bundle");
        assert_eq!(run("--nope=1", FlagsEnd::Never).unwrap_err(), "flag provided but not defined: -nope");
    }
}
