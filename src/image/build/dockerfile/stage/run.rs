//! RUN.

use super::super::args;
use super::super::lines::{self, Document};
use super::super::mount::{self, Around};
use super::super::parse::{Command, Instruction};
use super::{Done, Planner};
use crate::image::build::plan::{Action, Inline, Mount, MountKind, Network, Run};

/// Where a here-document with a `#!` line is put.
const SCRIPTS: &str = "/dev/pipes";

impl Planner<'_> {
    pub(super) fn run_step(&mut self, instruction: &Instruction, command: &Command) -> Result<Done, String> {
        let (command, script) = with_documents(command, &instruction.documents);
        let network = network(instruction)?;
        match instruction.flag("security") {
            None | Some("sandbox") => {}
            Some("insecure") => return Err("--security=insecure is not supported: RUN has the default capabilities, always".into()),
            Some(other) => return Err(format!("--security is {other:?}: sandbox is allowed")),
        }
        let args = self.with_shell(&command);
        if args.is_empty() {
            return Err("RUN has no program".into());
        }
        let mounts = self.mounts(instruction)?;
        let env = self.state.env.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let history = format!("RUN {}{} # buildkit", self.build_args(), args.join(" "));
        let cwd = self.working_dir().to_string();
        let user = self.state.config.user.clone();
        let run = Run { args, env, proxies: args::proxies(self.inputs), cwd, user, script, mounts, network };
        Ok(Done { action: Action::Run(run), history: Some(history) })
    }

    fn mounts(&mut self, instruction: &Instruction) -> Result<Vec<Mount>, String> {
        let mut out: Vec<Mount> = Vec::new();
        for text in instruction.flags("mount") {
            let around = Around {
                expand: &|word| super::Lexer::new(self.file.escape).word(word, &self.state.env.lookup()).map(|found| found.text),
                origin: &|name| self.origin(name),
                cwd: self.working_dir(),
                agents: out.iter().filter(|mount| matches!(mount.kind, MountKind::Ssh { .. })).count(),
                cache_space: self.inputs.args.get(args::CACHE_SPACE).map_or("", String::as_str),
                has_auth_sock: self.state.env.get("SSH_AUTH_SOCK").is_some(),
            };
            out.push(mount::parse(text, &around).map_err(|e| format!("--mount={text}: {e}"))?);
        }
        Ok(out)
    }

    /// The declared ARGs as they stand in a RUN's history: `|2 A=1 B= `.
    fn build_args(&self) -> String {
        let args = &self.state.args;
        if args.is_empty() {
            return String::new();
        }
        let value = |name: &str, value: &Option<String>| self.state.env.get(name).map(String::from).or_else(|| value.clone()).unwrap_or_default();
        let shown: Vec<String> = args.iter().map(|(name, own)| format!("{name}={}", value(name, own))).collect();
        format!("|{} {} ", args.len(), shown.join(" "))
    }
}

fn network(instruction: &Instruction) -> Result<Network, String> {
    match instruction.flag("network") {
        None | Some("default") => Ok(Network::Default),
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(other) => Err(format!("--network is {other:?}: default, none and host are allowed")),
    }
}

/// What is run of a command with here-documents: a single one is the script itself, or a program if it says which is to
/// read it; otherwise the shell gets all of it.
fn with_documents(command: &Command, documents: &[Document]) -> (Command, Option<Inline>) {
    let (Command::Shell(text), [first, ..]) = (command, documents) else { return (command.clone(), None) };
    if lines::document(text).is_none() {
        let all = documents.iter().fold(text.clone(), |all, document| format!("{all}\n{}{}", document.data, document.name));
        return (Command::Shell(all), None);
    }
    let data = first.content();
    if !data.starts_with("#!") {
        return (Command::Shell(data), None);
    }
    // The name may have slashes; the file is in the directory all the same.
    let name: String = first.name.chars().map(|c| if c == '/' { '_' } else { c }).collect();
    (Command::Shell(format!("{SCRIPTS}/{name}")), Some(Inline { name, data }))
}

/// ` (first line...)` of a command that is one here-document.
pub(super) fn summary(command: &Command, documents: &[Document]) -> String {
    match (command, documents) {
        (Command::Shell(text), [first, ..]) if lines::document(text).is_some() => {
            let mut lines = first.data.trim().lines();
            let start = lines.next().unwrap_or_default();
            format!(" ({start}{})", if lines.next().is_some() { "..." } else { "" })
        }
        _ => String::new(),
    }
}

/// The variables that have a secret's value.
pub(super) fn secret_names(instruction: &Instruction) -> Vec<String> {
    let env = |text: &str| text.split(',').find_map(|field| field.strip_prefix("env=").map(String::from));
    instruction.flags("mount").filter_map(env).collect()
}
