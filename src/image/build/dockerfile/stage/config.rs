//! The instructions that change the image's config alone.

use super::super::parse::{Command, Instruction, Kind, Pair};
use super::super::values;
use super::{Done, NOT_IN_ENV, Planner};
use crate::image::build::plan::Action;
use crate::image::model::Healthcheck;
use serde_json::json;

/// Parts of names whose values are better not kept in an image.
const SECRET: [&str; 12] = ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token", "pass", "pwd"];

impl Planner<'_> {
    pub(super) fn config_step(&mut self, instruction: &Instruction) -> Result<Done, String> {
        Ok(match &instruction.kind {
            Kind::Env(pairs) => Done::config(format!("ENV{}", self.env(instruction, pairs)?)),
            Kind::Label(pairs) => Done::config(format!("LABEL{}", self.label(instruction, pairs)?)),
            Kind::Arg(args) => Done::config(format!("ARG {}", self.arg(instruction, args)?)),
            Kind::Cmd(command) => {
                self.once(instruction, "CMD");
                self.prefers_array(instruction, command, "CMD");
                let args = self.with_shell(command);
                let config = &mut self.state.config;
                config.args_escaped = true;
                config.cmd.clone_from(&args);
                Done::config(format!("CMD {}", values::show_quoted(&args)))
            }
            Kind::Entrypoint(command) => {
                self.once(instruction, "ENTRYPOINT");
                self.prefers_array(instruction, command, "ENTRYPOINT");
                let args = self.with_shell(command);
                // The base's CMD was meant for the base's ENTRYPOINT.
                if !self.seen.contains("CMD") {
                    self.state.config.cmd.clear();
                }
                self.state.config.entrypoint.clone_from(&args);
                Done::config(format!("ENTRYPOINT {}", values::show_quoted(&args)))
            }
            Kind::Healthcheck(command) => {
                self.once(instruction, "HEALTHCHECK");
                let health = healthcheck(instruction, command.as_ref())?;
                let shown = format!("HEALTHCHECK {}", show_health(&health));
                self.state.config.healthcheck = Some(health);
                Done::config(shown)
            }
            Kind::Expose(words) => {
                let mut words = words.clone();
                words.sort();
                let lexer = super::Lexer::new(self.file.escape);
                let mut ports = Vec::new();
                for word in words {
                    for port in lexer.words(&word, &self.state.env.lookup())? {
                        ports.extend(values::ports(&port)?);
                    }
                }
                self.state.config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), json!({}))));
                Done::config(format!("EXPOSE {}", values::show_plain(&ports)))
            }
            Kind::Volume(paths) => {
                let paths = paths.iter().map(|path| self.word(instruction, path)).collect::<Result<Vec<_>, _>>()?;
                if paths.iter().any(String::is_empty) {
                    return Err("a volume's path is empty".into());
                }
                self.state.config.volumes.extend(paths.iter().map(|path| (path.clone(), json!({}))));
                Done::config(format!("VOLUME {}", values::show_plain(&paths)))
            }
            Kind::User(user) => {
                let user = self.word(instruction, user)?;
                self.state.config.user.clone_from(&user);
                Done::config(format!("USER {user}"))
            }
            Kind::StopSignal(signal) => {
                let signal = self.word(instruction, signal)?;
                if !values::is_signal(&signal) {
                    return Err(format!("{signal:?} is no signal: a name as SIGTERM, or a number from 1 to 64, is needed"));
                }
                self.state.config.stop_signal.clone_from(&signal);
                Done::config(format!("STOPSIGNAL {signal}"))
            }
            Kind::Shell(words) => {
                self.state.config.shell.clone_from(words);
                Done::config(format!("SHELL {}", values::show_plain(words)))
            }
            Kind::Maintainer(name) => {
                self.state.author.clone_from(name);
                Done::config(format!("MAINTAINER {name}"))
            }
            Kind::OnBuild(text) => {
                self.state.config.on_build.push(text.clone());
                Done { action: Action::Config, history: None }
            }
            Kind::From | Kind::Run(_) | Kind::Copy { .. } | Kind::Add { .. } | Kind::Workdir(_) => return Err("it changes more than the config".into()),
        })
    }

    /// All words are expanded with what was set before the instruction.
    fn pairs(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<Vec<(String, String)>, String> {
        if pairs.iter().any(|pair| pair.legacy) {
            self.warn(instruction, "LegacyKeyValueFormat", "NAME=VALUE should be used instead of NAME VALUE");
        }
        pairs.iter().map(|pair| Ok((self.word(instruction, &pair.name)?, self.word(instruction, &pair.value)?))).collect()
    }

    fn env(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<String, String> {
        let mut shown = String::new();
        for (name, value) in self.pairs(instruction, pairs)? {
            self.warn_of_secret(instruction, &name);
            shown.push_str(&format!(" {name}={value}"));
            self.state.env.set(&name, &value);
            let (line, prefix) = (format!("{name}={value}"), format!("{name}="));
            let env = &mut self.state.config.env;
            match env.iter_mut().find(|old| old.starts_with(&prefix) || **old == name) {
                Some(old) => *old = line,
                None => env.push(line),
            }
        }
        Ok(shown)
    }

    fn label(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<String, String> {
        let mut shown = String::new();
        for (name, value) in self.pairs(instruction, pairs)? {
            shown.push_str(&format!(" {name}={value}"));
            self.state.config.labels.insert(name, value);
        }
        Ok(shown)
    }

    /// The command line wins over the default, and that over what is set before the first FROM.
    fn arg(&mut self, instruction: &Instruction, args: &[(String, Option<String>)]) -> Result<String, String> {
        let mut shown = Vec::new();
        for (name, default) in args {
            self.warn_of_secret(instruction, name);
            let value = match (self.inputs.args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.word(instruction, default)?),
                (None, None) => self.globals.get(name).map(String::from),
            };
            if let Some(value) = value.as_ref().filter(|_| !NOT_IN_ENV.contains(&name.as_str())) {
                self.state.env.set(name, value);
            }
            shown.push(value.as_ref().map_or(name.clone(), |value| format!("{name}={value}")));
            match self.state.args.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1 = value,
                None => self.state.args.push((name.clone(), value)),
            }
        }
        Ok(shown.join(" "))
    }

    fn once(&mut self, instruction: &Instruction, keyword: &'static str) {
        // A trigger's is the base's, which may be replaced.
        if instruction.source.onbuild.is_none() && !self.seen.insert(keyword) {
            self.warn(instruction, "MultipleInstructionsDisallowed", format!("there are several {keyword} in this stage; only the last counts"));
        }
        self.seen.insert(keyword);
    }

    fn prefers_array(&mut self, instruction: &Instruction, command: &Command, keyword: &str) {
        if let Command::Shell(text) = command
            && self.state.config.shell.is_empty()
        {
            let message = if text.starts_with('[') {
                format!("this is no list, so a shell gets all of it, the bracket too: {keyword} [\"program\", \"argument\"] has double quotes and commas")
            } else {
                format!("{keyword} in a shell doesn't get the signals of the system: {keyword} [\"program\", \"argument\"] does")
            };
            self.warn(instruction, "JSONArgsRecommended", message);
        }
    }

    fn warn_of_secret(&mut self, instruction: &Instruction, name: &str) {
        let lower = name.to_ascii_lowercase();
        let is_public = lower.split('_').any(|part| part == "public");
        if !is_public && lower.split('_').any(|part| SECRET.contains(&part)) {
            self.warn(
                instruction,
                "SecretsUsedInArgOrEnv",
                format!("{name} looks like a secret, and its value is kept in the image: use RUN --mount=type=secret"),
            );
        }
    }
}

fn healthcheck(instruction: &Instruction, command: Option<&Command>) -> Result<Healthcheck, String> {
    let test = match command {
        None => return Ok(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }),
        Some(Command::Shell(text)) if text.is_empty() => return Err("HEALTHCHECK CMD has no command".into()),
        Some(Command::Shell(text)) => vec!["CMD-SHELL".into(), text.clone()],
        Some(Command::Exec(words)) => ["CMD".to_string()].into_iter().chain(words.iter().cloned()).collect(),
    };
    let time = |name: &str| {
        let wanted = instruction.flag(name).filter(|text| !text.is_empty());
        let value = wanted.map_or(Ok(0), values::duration).map_err(|e| format!("--{name}: {e}"))?;
        if value != 0 && value < 1_000_000 { Err(format!("--{name} is less than a millisecond")) } else { Ok(value) }
    };
    let retries = instruction.flag("retries").filter(|text| !text.is_empty());
    let retries = retries.map_or(Ok(0), |text| {
        text.parse::<u32>().ok().filter(|n| i32::try_from(*n).is_ok()).ok_or_else(|| format!("--retries is {text:?}: a number is needed"))
    })?;
    Ok(Healthcheck {
        test,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries: retries.into(),
    })
}

/// As Go prints the structure.
fn show_health(health: &Healthcheck) -> String {
    let Healthcheck { test, interval, timeout, start_period, start_interval, retries } = health;
    let time = |nanoseconds: &i64| values::show_duration(*nanoseconds);
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{retries}}}",
        values::show_plain(test),
        time(interval),
        time(timeout),
        time(start_period),
        time(start_interval)
    )
}
