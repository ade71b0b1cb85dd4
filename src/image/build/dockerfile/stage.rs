//! One stage's instructions → its plan: variables expanded, the config and the history as they will be.

mod config;
mod copy;
mod run;

use super::args::{self, Values};
use super::expand::Lexer;
use super::mistake::Mistake;
use super::outline::{self, is_replaced};
use super::parse::{self, Command, Dockerfile, Instruction, Kind, Stage};
use super::path;
use crate::Result;
use crate::image::build::plan::{Action, Inputs, MakeDir, Origin, StagePlan, State, Step, Warning};
use std::collections::BTreeSet;

/// Docker's PATH, for images that have none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// ARGs that say something to the builder, and nothing to RUN.
const NOT_IN_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Plan the stage `index`, which begins with what its base leaves: `State::scratch()`, `State::of_image`, or the `end`
/// of the base stage's plan. Its ONBUILD triggers come first.
///
/// # Errors
/// A mistake in an instruction, or in a trigger.
pub fn plan_stage(file: &Dockerfile, inputs: &Inputs, index: usize, state: State) -> Result<StagePlan> {
    let stage = &file.stages[index];
    let globals = args::globals(file, inputs).map_err(|m| file.error(&m))?;
    let mut planner = Planner { file, inputs, stage, index, globals, state, warnings: Vec::new(), seen: BTreeSet::new() };
    let steps = planner.run().map_err(|m| file.error(&m))?;
    Ok(StagePlan { index, steps, end: planner.state, warnings: file.check(planner.warnings)? })
}

struct Planner<'a> {
    file: &'a Dockerfile,
    inputs: &'a Inputs,
    stage: &'a Stage,
    index: usize,
    globals: Values,
    state: State,
    warnings: Vec<Warning>,
    /// Instructions that were there already in this stage, of those that should be there once.
    seen: BTreeSet<&'static str>,
}

/// What an instruction comes to: what is done, and its line in the history.
struct Done {
    action: Action,
    history: Option<String>,
}

impl Done {
    fn config(history: String) -> Done {
        Done { action: Action::Config, history: Some(history) }
    }
}

impl Planner<'_> {
    fn run(&mut self) -> Result<Vec<Step>, Mistake> {
        self.inherit();
        if is_replaced(self.stage, self.inputs) {
            return Ok(Vec::new());
        }
        let from = &self.stage.from;
        let triggers = std::mem::take(&mut self.state.config.on_build);
        let triggers = triggers.iter().map(|text| parse::trigger(text, from)).collect::<Result<Vec<_>, _>>()?;
        let own = &self.stage.instructions;
        triggers.iter().chain(own).map(|instruction| self.step(instruction)).collect()
    }

    /// What the base's config means for this stage.
    fn inherit(&mut self) {
        let State { config, env, .. } = &mut self.state;
        if !config.env.iter().any(|line| line.starts_with("PATH=")) {
            config.env.push(format!("PATH={PATH}"));
        }
        for line in &config.env {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            env.set(name, value);
        }
        if !config.working_dir.is_empty() {
            config.working_dir = path::absolute("/", &config.working_dir);
        }
    }

    fn step(&mut self, instruction: &Instruction) -> Result<Step, Mistake> {
        let done = match &instruction.kind {
            Kind::Run(command) => self.run_step(instruction, command),
            Kind::Copy { sources, to } => self.copy_step(instruction, sources, to, false),
            Kind::Add { sources, to } => self.copy_step(instruction, sources, to, true),
            Kind::Workdir(dir) => self.workdir(instruction, dir),
            _ => self.config_step(instruction),
        };
        let done = done.map_err(|message| instruction.mistake(message))?;
        let title = self.title(instruction);
        Ok(Step { source: instruction.source.clone(), title, history: done.history, action: done.action })
    }

    fn workdir(&mut self, instruction: &Instruction, dir: &str) -> Result<Done, String> {
        let dir = self.word(instruction, dir)?;
        if dir.is_empty() {
            return Err("WORKDIR is empty".into());
        }
        if !dir.starts_with('/') && self.seen.insert("WORKDIR") {
            self.warn(instruction, "WorkdirRelativePath", format!("{dir:?} is relative to whatever the base image says"));
        }
        self.seen.insert("WORKDIR");
        let path = path::absolute(&self.state.config.working_dir, &dir);
        self.state.config.working_dir.clone_from(&path);
        let history = Some(format!("WORKDIR {path}"));
        let action = if path == "/" { Action::Config } else { Action::MakeDir(MakeDir { path, user: self.state.config.user.clone() }) };
        Ok(Done { action, history })
    }

    /// One word with the variables that are set here.
    fn word(&mut self, instruction: &Instruction, text: &str) -> Result<String, String> {
        let found = Lexer::new(self.file.escape).word(text, &self.state.env.lookup()).map_err(|e| format!("{text:?}: {e}"))?;
        self.undefined(instruction, &found.missing);
        Ok(found.text)
    }

    fn undefined(&mut self, instruction: &Instruction, missing: &BTreeSet<String>) {
        for name in missing {
            let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if is_name && !self.state.args.iter().any(|(arg, _)| arg == name) {
                let known: Vec<&str> = self.state.env.0.iter().map(|(name, _)| name.as_str()).collect();
                let near = crate::spec::validate::suggest::closest(name, &known).map(|near| format!(" (did you mean ${near}?)"));
                self.warn(instruction, "UndefinedVar", format!("${name} is not set{}", near.unwrap_or_default()));
            }
        }
    }

    fn warn(&mut self, instruction: &Instruction, rule: &'static str, message: impl Into<String>) {
        self.warnings.push(Warning { source: instruction.source.clone(), rule, message: message.into() });
    }

    fn origin(&self, name: &str) -> Result<Origin, String> {
        outline::origin(self.file, self.inputs, name, self.index)
    }

    fn working_dir(&self) -> &str {
        match self.state.config.working_dir.as_str() {
            "" => "/",
            dir => dir,
        }
    }

    /// The command as it is executed.
    fn with_shell(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let shell = &self.state.config.shell;
                let shell: Vec<String> = if shell.is_empty() { SHELL.map(String::from).to_vec() } else { shell.clone() };
                shell.into_iter().chain([text.clone()]).collect()
            }
        }
    }

    /// The instruction for people: on one line, keyword in upper case, variables expanded, the start of a script.
    fn title(&self, instruction: &Instruction) -> String {
        let (keyword, rest) = instruction.text.split_once(char::is_whitespace).unwrap_or((&instruction.text, ""));
        let mut text = format!("{} {rest}", keyword.to_uppercase()).trim_end().to_string();
        let mut lexer = Lexer::new(self.file.escape);
        let mut hidden = Vec::new();
        match &instruction.kind {
            Kind::Run(command) => {
                lexer = Lexer { raw_quotes: true, keep_unset: true, ..lexer };
                text.push_str(&run::summary(command, &instruction.documents));
                hidden = run::secret_names(instruction);
            }
            Kind::Copy { .. } | Kind::Add { .. } | Kind::Workdir(_) => {}
            _ => return text,
        }
        let lookup = |name: &str| if hidden.iter().any(|h| h == name) { Some("****".to_string()) } else { self.state.env.get(name).map(String::from) };
        lexer.word(&text, &lookup).map_or(text.clone(), |found| found.text)
    }
}

#[cfg(test)]
mod tests;
