//! The command line: one file a command, each of which turns arguments into one call of the library and prints.
//!
//! Only the command that is called gets built: [`main`] looks for the verb first, and a [`Verb`] is a constant whose
//! flags are made on demand. Names, short forms, defaults, output and exit codes are runc's (docs/callers/contract.md).

mod args;
mod call;
#[cfg(feature = "image")]
pub mod ctl;
mod globals;
mod help;
mod output;

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;
mod validate;
mod version;

use crate::{Error, log};
use args::FlagsEnd;
use call::{Call, Words};
use globals::Globals;
use std::ffi::OsString;
use std::process::ExitCode;

/// What runc returns for a command that it doesn't have.
const UNKNOWN_COMMAND: u8 = 3;

/// One command, as a constant: cheap to list, built only when called.
pub(crate) struct Verb {
    pub name: &'static str,
    /// A line for the list of commands.
    pub about: &'static str,
    /// The positionals, for the usage line.
    pub usage: &'static str,
    /// How many positionals: at least, at most.
    pub positionals: (usize, usize),
    pub flags_end: FlagsEnd,
    /// It never looks at `--root`.
    pub stateless: bool,
    /// A process of it comes within the container's reach, so the binary is sealed first.
    pub enters: bool,
    pub flags: fn() -> Vec<clap::Arg>,
    /// The exit code.
    pub run: fn(&Call) -> anyhow::Result<u8>,
    /// Of a failure of `run`; wrong usage is always 1.
    pub failure: Failure,
}

/// How a command says that it failed.
pub(crate) struct Failure {
    pub code: u8,
    /// What goes in front of the message: nothing, `exec failed: `, or the program's and the command's name.
    pub prefix: Prefix,
}

#[derive(Clone, Copy)]
pub(crate) enum Prefix {
    None,
    Verb,
    ProgramAndVerb,
}

impl Verb {
    /// What most commands have in common: one positional, the id, and no flags.
    const BASE: Verb = Verb {
        name: "",
        about: "",
        usage: "<container-id>",
        positionals: (1, 1),
        flags_end: FlagsEnd::Never,
        stateless: false,
        enters: false,
        flags: Vec::new,
        run: |_| Ok(0),
        failure: Failure { code: 1, prefix: Prefix::None },
    };

    /// What looks at a bundle and makes nothing.
    const OF_BUNDLE: Verb = Verb {
        usage: "[bundle]",
        positionals: (0, 1),
        stateless: true,
        flags: || vec![args::path("bundle", "DIR", "the bundle (default: the current directory)").short('b'), args::format(["text", "json"])],
        ..Verb::BASE
    };

    fn command(&self) -> clap::Command {
        args::command(self.name, (self.flags)())
    }
}

static VERBS: [&Verb; 22] = [
    &checkpoint::VERB,
    &create::VERB,
    &delete::VERB,
    &events::VERB,
    &exec::VERB,
    &explain::VERB,
    &features::VERB,
    &help::VERB,
    &kill::VERB,
    &list::VERB,
    &pause::VERB,
    &ps::VERB,
    &restore::VERB,
    &resume::VERB,
    &run::VERB,
    &spec::VERB,
    &start::VERB,
    &state::VERB,
    &update::VERB,
    &validate::VERB,
    &version::VERB,
    &help::SHORT,
];

fn find_verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name).copied()
}

/// Why the program ends with a code other than that of a container's process.
struct Stop {
    code: u8,
    message: String,
}

impl Stop {
    fn usage(message: impl Into<String>) -> Stop {
        Stop { code: 1, message: message.into() }
    }
}

impl From<Error> for Stop {
    fn from(err: Error) -> Stop {
        Stop::usage(err.to_string())
    }
}

/// Everything that the binary does.
pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let code = match dispatch(&argv) {
        Ok(code) => {
            log::finish();
            code
        }
        Err(stop) => {
            log::error(&stop.message);
            stop.code
        }
    };
    ExitCode::from(code)
}

/// Global options → verb → its flags → the call.
fn dispatch(argv: &[OsString]) -> Result<u8, Stop> {
    let program = program_name(argv);
    let options = globals::command();
    let split = args::split(argv.get(1..).unwrap_or_default(), &options, None, FlagsEnd::AtFirst)?;
    let mut globals = Globals::read(options, split.own)?;
    let Some((name, rest)) = split.positionals.split_first() else {
        globals.open_log()?;
        return printed(if globals.version { version::print(&program) } else { help::print_all(&program) });
    };
    let Some(verb) = name.to_str().and_then(find_verb) else {
        globals.open_log()?;
        return Err(unknown_command(&name.to_string_lossy()));
    };
    if globals.version {
        return printed(version::print(&program));
    }
    if verb.enters {
        crate::container::run_sealed()?;
    }
    let command = verb.command();
    let options = globals::command();
    let split = args::split(rest, &command, Some(&options), verb.flags_end).map_err(|e| {
        // The log is where the caller looks for the reason, so it's opened even for words that can't be read.
        match globals.open_log() {
            Ok(()) => Stop::from(e),
            Err(log) => log.into(),
        }
    })?;
    globals.merge(Globals::read(options, split.inherited.clone())?);
    globals.open_log()?;
    if globals.help || split.own.iter().any(|flag| flag == "--help") {
        return printed(help::print_one(&program, verb));
    }
    call(program, verb, command, split, globals)
}

/// Check the positionals, read the flags, run.
fn call(program: String, verb: &'static Verb, command: clap::Command, split: args::Split, globals: Globals) -> Result<u8, Stop> {
    check_count(&program, verb.name, verb.positionals, split.positionals.len())?;
    let matches = command.try_get_matches_from(split.own).map_err(|e| Stop::usage(args::one_line(&e)))?;
    let (context, root_given) = if verb.stateless { Default::default() } else { globals.into_context()? };
    if log::debug_enabled() {
        let id = split.positionals.first().map_or_else(Default::default, |id| id.to_string_lossy());
        log::debug(&format!("dhow {}: {} {id}, state below {}", version::VERSION, verb.name, context.root.display()));
    }
    let call = Call { program, context, root_given, words: Words { matches, positionals: split.positionals, off: split.off } };
    (verb.run)(&call).map_err(|e| {
        let prefix = match verb.failure.prefix {
            Prefix::None => String::new(),
            Prefix::Verb => format!("{} failed: ", verb.name),
            Prefix::ProgramAndVerb => format!("{} {} failed: ", call.program, verb.name),
        };
        Stop { code: verb.failure.code, message: format!("{prefix}{e:#}") }
    })
}

fn printed(result: anyhow::Result<()>) -> Result<u8, Stop> {
    result.map(|()| 0).map_err(|e| Stop::usage(format!("{e:#}")))
}

fn unknown_command(name: &str) -> Stop {
    Stop { code: UNKNOWN_COMMAND, message: format!("No help topic for '{name}'") }
}

/// runc's words, which scripts match on, and where to read on.
fn check_count(program: &str, name: &str, (min, max): (usize, usize), given: usize) -> Result<(), Stop> {
    let rule = match (min, max) {
        (min, max) if min == max && given != min => format!("exactly {min}"),
        (min, _) if given < min => format!("a minimum of {min}"),
        (_, max) if given > max => format!("a maximum of {max}"),
        _ => return Ok(()),
    };
    Err(Stop::usage(format!("{program}: \"{name}\" requires {rule} argument(s) (see {program} {name} --help)")))
}

/// The name that we were called by: a link named `runc` makes dhow introduce itself in runc's place.
fn program_name(argv: &[OsString]) -> String {
    let path = argv.first().map(std::path::Path::new);
    path.and_then(|p| p.file_name()).map_or_else(|| "dhow".into(), |name| name.to_string_lossy().into_owned())
}

/// A flag as the parser knows it, for the test that holds man pages and completions against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagName {
    pub long: String,
    pub short: Option<char>,
}

/// Every verb with its flags; `""` stands for the global options.
pub fn vocabulary() -> Vec<(&'static str, Vec<FlagName>)> {
    let verbs = VERBS.iter().filter(|verb| verb.name != help::SHORT.name).map(|verb| (verb.name, flag_names(verb.command())));
    std::iter::once(("", flag_names(globals::command()))).chain(verbs).collect()
}

fn flag_names(command: clap::Command) -> Vec<FlagName> {
    let flags = command.get_arguments().filter_map(|arg| Some(FlagName { long: arg.get_long()?.into(), short: arg.get_short() }));
    flags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_every_declaration() {
        globals::command().debug_assert();
        for verb in VERBS {
            verb.command().debug_assert();
        }
    }

    #[test]
    fn every_flag_has_a_long_name_and_a_help_text() {
        for command in VERBS.iter().map(|verb| verb.command()).chain([globals::command()]) {
            for arg in command.get_arguments() {
                assert!(arg.get_long().is_some() && arg.get_help().is_some(), "{} {:?}", command.get_name(), arg.get_id());
            }
        }
    }
}
