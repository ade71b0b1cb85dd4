//! dhowctl's command line: images, from a registry to a bundle.
//!
//! Shaped as dhow's: a file for each command, a [`Verb`] is a constant. Flags are read in the same way ([`super::args`]).

mod beside;
mod bring;
mod build;
mod fetch;
mod help;
mod images;
mod inspect;
mod login;
mod logout;
mod network;
mod prune;
mod push;
mod rmi;
mod run;
mod tag;
mod unpack;
mod unshare;
mod verify;
mod version;

use super::args::{self, FlagsEnd, path, switch};
use super::call::Words;
use super::{FlagName, Stop, check_count, flag_names, output, printed, program_name};
use crate::image::Store;
use crate::image::ids::{self, Need};
use crate::image::layers::fuse;
use crate::image::live;
use crate::image::unpack::{are_root, worker};
use crate::image::watch;
use crate::{Error, log};
use anyhow::Result;
use clap::ArgMatches;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// One command.
pub(crate) struct Verb {
    pub name: &'static str,
    /// A line for the list of commands.
    pub about: &'static str,
    /// The positionals, for the usage line.
    pub usage: &'static str,
    /// What `--help` says below the usage: what it does, with examples.
    pub details: &'static str,
    /// How many positionals: at least, at most.
    pub positionals: (usize, usize),
    pub flags_end: FlagsEnd,
    pub flags: fn() -> Vec<clap::Arg>,
    /// What it needs of a caller who isn't root.
    pub need: fn(&Call) -> Need,
    /// The exit code.
    pub run: fn(&Call) -> Result<u8>,
}

impl Verb {
    const BASE: Verb = Verb {
        name: "",
        about: "",
        usage: "",
        details: "",
        positionals: (0, 0),
        flags_end: FlagsEnd::Never,
        flags: Vec::new,
        need: |_| Need::Nothing,
        run: |_| Ok(0),
    };

    fn command(&self) -> clap::Command {
        args::command(self.name, (self.flags)())
    }
}

static VERBS: [&Verb; 16] = [
    &build::VERB,
    &fetch::VERB,
    &help::VERB,
    &images::VERB,
    &inspect::VERB,
    &login::VERB,
    &logout::VERB,
    &prune::VERB,
    &push::VERB,
    &rmi::VERB,
    &run::VERB,
    &tag::VERB,
    &unpack::VERB,
    &unshare::VERB,
    &verify::VERB,
    &version::VERB,
];

/// Docker's words for what goes by another name here.
const HABITS: [(&[&str], &str); 6] = [
    (&["pull"], "Docker's pull is fetch here"),
    (&["image", "ls"], "images lists them; fetch, push, inspect, tag, rmi and prune have names of their own"),
    (&["history"], "inspect shows an image's history"),
    (&["save", "export"], "fetch -o docker-archive:FILE writes what docker load reads"),
    (&["load", "import"], "unpack, run and push read docker-archive:FILE as it is"),
    (
        &["ps", "create", "start", "stop", "kill", "rm", "exec", "logs", "container"],
        "run is for the foreground; unpack and dhow run --detach make a container that stays, which dhow list, exec, kill and delete know",
    ),
];

/// And flags that say what there isn't.
const FLAG_HABITS: [(&[&str], &str); 3] = [
    (&["network", "net"], "its own without a connection, or with --host-network the host's"),
    (&["d", "detach"], "run is for the foreground; a container that stays is made by unpack and dhow run --detach"),
    (&["p", "publish", "P", "publish-all"], "there are no published ports; --host-network gives the host's network"),
];

fn with_habits(verb: &Verb, e: Error) -> Error {
    let said = e.to_string();
    let advice = FLAG_HABITS.iter().find(|(names, _)| verb.name == "run" && names.iter().any(|name| said.ends_with(&format!("not defined: -{name}"))));
    match advice {
        Some((_, advice)) => e.hint(*advice),
        None => e,
    }
}

/// What a command gets.
pub(crate) struct Call {
    /// The name that dhowctl was called by.
    pub program: String,
    /// `--store`, or the default.
    pub store_dir: PathBuf,
    words: Words,
}

impl std::ops::Deref for Call {
    type Target = Words;

    fn deref(&self) -> &Words {
        &self.words
    }
}

impl Call {
    pub fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.store_dir)?)
    }

    /// The positional at `index`, which [`Verb::positionals`] says is there.
    pub fn word(&self, index: usize) -> Result<&str> {
        Ok(self.positional(index)?.unwrap_or_default())
    }
}

fn globals() -> clap::Command {
    let flags = vec![
        path("store", "DIR", "the image store (default: $DHOW_STORE, else /var/lib/dhow/images; without root: $XDG_DATA_HOME/dhow/images)"),
        switch("debug", "say on standard error what is being done"),
        switch("version", "print the version").short('v'),
    ];
    args::command("dhowctl", flags)
}

/// The global options, as typed before the command or after it.
struct Globals(Vec<ArgMatches>);

impl Globals {
    fn read(flags: [Vec<OsString>; 2]) -> Result<Globals, Error> {
        let parse = |flags| globals().try_get_matches_from(flags).map_err(|e| Error::usage(args::one_line(&e)));
        flags.into_iter().map(parse).collect::<Result<_, _>>().map(Globals)
    }

    fn switch(&self, name: &str) -> bool {
        self.0.iter().any(|matches| matches.get_flag(name))
    }

    fn store_dir(&self) -> Result<PathBuf> {
        let typed = self.0.iter().rev().find_map(|matches| matches.get_one::<PathBuf>("store"));
        let named = typed.cloned().or_else(|| std::env::var_os("DHOW_STORE").map(PathBuf::from));
        match named.filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => Ok(dir),
            None => Ok(Store::default_dir()?),
        }
    }
}

/// The commands with their flags, "" being the global options: for tests of the manual and the completions.
pub fn vocabulary() -> Vec<(&'static str, Vec<FlagName>)> {
    let verbs = VERBS.iter().map(|verb| (verb.name, flag_names(verb.command())));
    std::iter::once(("", flag_names(globals()))).chain(verbs).collect()
}

/// Everything that the binary does.
pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let name = argv.first().map(OsString::as_os_str);
    if worker::is_wanted(name) {
        return helper(worker::main);
    }
    if watch::is_wanted(name) {
        return helper(|| watch::main(argv.get(1).map(OsString::as_os_str)));
    }
    if fuse::is_wanted(name) {
        log::configure(log::Config { file: None, format: log::Format::Plain, debug: false });
        return fuse::main();
    }
    ExitCode::from(dispatch(&argv).unwrap_or_else(|stop| {
        log::error(&stop.message);
        stop.code
    }))
}

/// A process of our own, that nobody calls by hand.
fn helper(main: impl FnOnce() -> crate::Result<()>) -> ExitCode {
    log::configure(log::Config { file: None, format: log::Format::Plain, debug: false });
    let told = |e: crate::Error| {
        log::error(&e.to_string());
        ExitCode::FAILURE
    };
    main().map_or_else(told, |()| ExitCode::SUCCESS)
}

/// Global options → verb → its flags → the call.
fn dispatch(argv: &[OsString]) -> Result<u8, Stop> {
    let program = program_name(argv);
    let configure = |debug| log::configure(log::Config { file: None, format: log::Format::Plain, debug });
    let first = args::split(argv.get(1..).unwrap_or_default(), &globals(), None, FlagsEnd::AtFirst).inspect_err(|_| configure(false))?;
    let Some((name, rest)) = first.positionals.split_first() else {
        configure(false);
        let options = Globals::read([first.own, Vec::new()])?;
        return printed(if options.switch("version") { version::print(&program) } else { help::print_all(&program) });
    };
    let verb = name.to_str().and_then(find_verb).ok_or_else(|| {
        configure(false);
        unknown_command(&program, &name.to_string_lossy())
    })?;
    let command = verb.command();
    let split = args::split(rest, &command, Some(&globals()), verb.flags_end).map_err(|e| with_habits(verb, e)).inspect_err(|_| configure(false))?;
    let options = Globals::read([first.own, split.inherited])?;
    configure(options.switch("debug"));
    if options.switch("help") || split.own.iter().any(|flag| flag == "--help") {
        return printed(help::print_one(&program, verb));
    }
    check_count(&program, verb.name, verb.positionals, split.positionals.len())?;
    let matches = command.try_get_matches_from(split.own).map_err(|e| Stop::usage(args::one_line(&e)))?;
    let words = Words { matches, positionals: split.positionals, off: split.off };
    let store_dir = options.store_dir().map_err(|e| Stop::usage(format!("{e:#}")))?;
    let call = Call { program, store_dir, words };
    let need = (verb.need)(&call);
    if need == Need::Mounts && !are_root() {
        live::end_stale(&call.store_dir.join("run"));
    }
    // Here there are no threads yet.
    ids::enter(need).map_err(|e| Stop::usage(e.to_string()))?;
    (verb.run)(&call).map_err(|e| Stop::usage(format!("{e:#}")))
}

fn find_verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name).copied()
}

fn unknown_command(program: &str, name: &str) -> Stop {
    let names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let habit = HABITS.iter().find(|(words, _)| words.contains(&name));
    let advice = match (habit, crate::spec::validate::suggest::closest(name, &names)) {
        (Some((_, advice)), _) => advice.to_string(),
        (None, Some(near)) => format!("did you mean {near}?"),
        (None, None) => format!("{program} help lists them"),
    };
    Stop::usage(format!("there is no command {name:?} ({advice})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_every_declaration() {
        globals().debug_assert();
        for verb in VERBS {
            verb.command().debug_assert();
            assert!(!verb.about.is_empty() && !verb.details.is_empty(), "{}", verb.name);
        }
    }

    #[test]
    fn every_flag_has_a_long_name_and_a_help_text() {
        for command in VERBS.iter().map(|verb| verb.command()).chain([globals()]) {
            for arg in command.get_arguments() {
                assert!(arg.get_long().is_some() && arg.get_help().is_some(), "{} {:?}", command.get_name(), arg.get_id());
            }
        }
    }
}
