//! `help`, `--help` and the list of commands.

use super::{Call, VERBS, Verb, find_verb, globals, output, unknown_command};
use anyhow::{Result, anyhow};

pub(crate) const VERB: Verb = Verb {
    name: "help",
    about: "show the commands, or one of them",
    usage: "[COMMAND]",
    details: "Without COMMAND: what there is. The same as --help.",
    positionals: (0, 1),
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    match call.positional(0)? {
        None => print_all(&call.program)?,
        Some(name) => match find_verb(name) {
            Some(verb) => print_one(&call.program, verb)?,
            None => return Err(anyhow!(unknown_command(&call.program, name).message)),
        },
    }
    Ok(0)
}

pub(crate) fn print_all(program: &str) -> Result<()> {
    let width = VERBS.iter().map(|verb| verb.name.len()).max().unwrap_or(0);
    let commands: String = VERBS.iter().map(|verb| format!("  {:width$}  {}\n", verb.name, verb.about)).collect();
    let options = globals().render_help();
    output::print(&format!(
        "NAME:\n   {program} - container images, from a registry to a bundle\n\n\
         USAGE:\n   {program} [global options] command [options] [arguments]\n\n\
         Images are named as Docker names them: ubuntu, nginx:1.27, localhost:5000/a/b@sha256:…\n\n\
         COMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{options}"
    ))
}

/// One command with its flags.
pub(crate) fn print_one(program: &str, verb: &Verb) -> Result<()> {
    let options = verb.command().render_help();
    let usage = format!("{program} {} [options] {}", verb.name, verb.usage);
    let details: String = verb.details.lines().map(|line| format!("   {line}").trim_end().to_string() + "\n").collect();
    output::print(&format!(
        "NAME:\n   {program} {} - {}\n\nUSAGE:\n   {}\n\n{details}\nOPTIONS:\n{options}\nGlobal options: see {program} --help.\n",
        verb.name,
        verb.about,
        usage.trim_end(),
    ))
}
