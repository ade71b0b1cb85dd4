//! `help`, `--help` and the list of commands.

use super::call::Call;
use super::{Failure, Prefix, Stop, UNKNOWN_COMMAND, VERBS, Verb, find_verb, globals, output, unknown_command};
use anyhow::{Result, anyhow};

pub(crate) const VERB: Verb = Verb {
    name: "help",
    about: "show the commands, or the flags of one command",
    usage: "[command]",
    positionals: (0, 1),
    stateless: true,
    run,
    failure: Failure { code: UNKNOWN_COMMAND, prefix: Prefix::None },
    ..Verb::BASE
};

/// The same under the short name that runc gives it; it isn't listed.
pub(crate) const SHORT: Verb = Verb { name: "h", failure: VERB.failure, ..VERB };

fn run(call: &Call) -> Result<u8> {
    match call.positional(0)? {
        None => print_all(&call.program)?,
        Some(name) => match find_verb(name) {
            Some(verb) => print_one(&call.program, verb)?,
            None => {
                let Stop { message, .. } = unknown_command(name);
                return Err(anyhow!(message));
            }
        },
    }
    Ok(0)
}

/// What dhow is, its commands and its global options.
pub(crate) fn print_all(program: &str) -> Result<()> {
    let listed = || VERBS.iter().filter(|verb| verb.name != SHORT.name);
    let width = listed().map(|verb| verb.name.len()).max().unwrap_or(0);
    let commands: String = listed().map(|verb| format!("  {:width$}  {}\n", verb.name, verb.about)).collect();
    let options = globals::command().render_help();
    output::print(&format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         USAGE:\n   {program} [global options] command [options] [arguments]\n\n\
         A container is made from a bundle: a directory with a config.json and a root filesystem.\n\
         `{program} spec` writes a config.json to begin with, `{program} run ID` starts what it describes.\n\n\
         COMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{options}"
    ))
}

/// One command with its flags.
pub(crate) fn print_one(program: &str, verb: &Verb) -> Result<()> {
    let options = verb.command().render_help();
    let usage = format!("{program} {} [options] {}", verb.name, verb.usage);
    output::print(&format!(
        "NAME:\n   {program} {} - {}\n\nUSAGE:\n   {}\n\nOPTIONS:\n{options}\nGlobal options: see {program} --help.\n",
        verb.name,
        verb.about,
        usage.trim_end(),
    ))
}
