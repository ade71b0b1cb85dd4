//! A Dockerfile's text → [`Dockerfile`]: stages of instructions, nothing expanded yet. All mistakes are found at once.
//!
//! `lines` joins what belongs together, and `words` takes the flags; the syntax of what is left is the `parse-dockerfile`
//! crate's business, an instruction at a time. It sees here-documents' marks and a trailing escape masked, since its rules
//! for them are not BuildKit's; texts are taken from the line itself by the crate's spans.

use super::lines::{self, Directives, Document, Line};
use super::mistake::{self, Mistake};
use super::syntax::{self, FlagKind, Rule};
use super::words::{self, Flag, Head};
use crate::image::build::plan::{Source, Warning};
use crate::{Error, Result};
use parse_dockerfile as crate_of;
use parse_dockerfile::Instruction as Parsed;
use std::ops::Range;

/// The one rule that isn't BuildKit's.
pub const UNUSED_BUILD_ARG: &str = "UnusedBuildArg";

/// No Dockerfile has more bytes.
pub const MOST_BYTES: usize = 4 << 20;

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// For messages.
    pub name: String,
    pub text: String,
    pub escape: char,
    pub check: Check,
    /// The ARGs before the first FROM.
    pub args: Vec<Instruction>,
    pub stages: Vec<Stage>,
    /// Of its text alone, unwanted ones included; the outline has what is left of them.
    pub warnings: Vec<Warning>,
}

/// `# check=skip=RULE,…;error=true`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Check {
    pub skip_all: bool,
    pub skip: Vec<String>,
    pub error: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub base: String,
    /// Lower case.
    pub name: Option<String>,
    pub platform: Option<String>,
    pub from: Instruction,
    pub instructions: Vec<Instruction>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// The whole instruction on one line, as it was written.
    pub text: String,
    pub kind: Kind,
    pub flags: Vec<Flag>,
    pub documents: Vec<Document>,
    pub source: Source,
    /// Of the keyword, in the file.
    pub place: Range<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    From,
    Add {
        sources: Vec<String>,
        to: String,
    },
    Copy {
        sources: Vec<String>,
        to: String,
    },
    Run(Command),
    Cmd(Command),
    Entrypoint(Command),
    /// None: `HEALTHCHECK NONE`.
    Healthcheck(Option<Command>),
    Shell(Vec<String>),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Arg(Vec<(String, Option<String>)>),
    Expose(Vec<String>),
    Volume(Vec<String>),
    User(String),
    Workdir(String),
    StopSignal(String),
    Maintainer(String),
    /// The trigger's text, here-documents included.
    OnBuild(String),
}

/// `NAME=VALUE`, or `NAME VALUE` if it is `legacy`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub name: String,
    pub value: String,
    pub legacy: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Exec(Vec<String>),
    Shell(String),
}

impl Instruction {
    /// The value of a flag that is given once.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|f| f.name == name).and_then(|f| f.value.as_deref())
    }

    pub fn flags<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |f| f.name == name).filter_map(|f| f.value.as_deref())
    }

    /// None if it isn't there.
    pub fn switch(&self, name: &str) -> Option<bool> {
        let flag = self.flags.iter().find(|f| f.name == name)?;
        Some(flag.value.as_deref().is_none_or(|value| value.eq_ignore_ascii_case("true")))
    }

    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake::new(self.place.clone(), message)
    }
}

impl Dockerfile {
    /// Read a Dockerfile that messages call `name`.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile> {
        let wrong = |cause: String| Error::other("reading", name, cause);
        if bytes.len() > MOST_BYTES {
            return Err(wrong(format!("it has {} bytes; {MOST_BYTES} are the most", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| wrong(format!("it is not UTF-8 at byte {}", e.valid_up_to())))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Parser::default().run(name, text).map_err(|mistakes| mistake::error(name, text, &mistakes))
    }

    /// The lines of `source`, numbered, with a caret; for a trigger those of FROM and the trigger.
    pub fn excerpt(&self, source: &Source) -> String {
        let lines = mistake::excerpt(&self.text, source.first_line, source.last_line);
        match &source.onbuild {
            Some(trigger) => format!("{lines}\n  ONBUILD {trigger}"),
            None => lines,
        }
    }

    /// `mistake` as an error of this file.
    pub fn error(&self, mistake: &Mistake) -> Error {
        mistake::error(&self.name, &self.text, std::slice::from_ref(mistake))
    }

    /// The warnings that are wanted.
    ///
    /// # Errors
    /// There are some, and `# check=error=true` makes them errors. (Not our own rule: the file can't know the arguments.)
    pub fn check(&self, mut warnings: Vec<Warning>) -> Result<Vec<Warning>> {
        warnings.retain(|warning| self.warns(warning.rule));
        let fatal: Vec<&Warning> = warnings.iter().filter(|warning| self.check.error && warning.rule != UNUSED_BUILD_ARG).collect();
        if fatal.is_empty() {
            return Ok(warnings);
        }
        let lines: Vec<String> =
            fatal.iter().map(|w| format!("{}:{}: {}: {}\n{}", self.name, w.source.first_line, w.rule, w.message, self.excerpt(&w.source))).collect();
        Err(Error::other(lines.join("\n"), "", "").hint("# check=error=true makes warnings errors"))
    }

    fn warns(&self, rule: &str) -> bool {
        !self.check.skip_all && !self.check.skip.iter().any(|skipped| skipped.eq_ignore_ascii_case(rule))
    }
}

/// An ONBUILD trigger of a base image; its lines are those of `from`.
pub fn trigger(text: &str, from: &Instruction) -> Result<Instruction, Mistake> {
    let wrong = |m: Mistake| from.mistake(format!("the base has the trigger ONBUILD {text}: {}", m.message)).hint(m.hint);
    let (directives, lines) = lines::read(text, takes_documents).map_err(wrong)?;
    let [line] = &lines[..] else { return Err(from.mistake(format!("the base has the trigger {text:?}, which is not one instruction"))) };
    let mut instruction = instruction(line, &directives, 0).map_err(wrong)?;
    forbid_in_trigger(&line.text, line, 0, directives.escape).map_err(wrong)?;
    instruction.place = from.place.clone();
    instruction.source = Source { onbuild: Some(text.to_string()), ..from.source.clone() };
    Ok(instruction)
}

/// Here-documents mean something to ADD, COPY and RUN, also as triggers, but not in their JSON form.
fn takes_documents(line: &str, escape: char) -> bool {
    let head = words::head(line, 0, escape);
    let keyword = &line[head.keyword.clone()];
    if keyword.eq_ignore_ascii_case("ONBUILD") {
        return takes_documents(&line[head.arguments], escape);
    }
    ["ADD", "COPY", "RUN"].iter().any(|k| k.eq_ignore_ascii_case(keyword)) && words::json(&line[head.arguments]).is_none()
}

#[derive(Default)]
struct Parser {
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
    args: Vec<Instruction>,
    stages: Vec<Stage>,
}

impl Parser {
    fn run(mut self, name: &str, text: &str) -> Result<Dockerfile, Vec<Mistake>> {
        let (directives, lines) = lines::read(text, takes_documents).map_err(|m| vec![m])?;
        self.mistakes.extend(directives.syntax.as_ref().and_then(|(value, place)| foreign_frontend(value, place)));
        let check = match directives.check.as_ref().map(|(value, place)| check(value, place)).transpose() {
            Ok(check) => check.unwrap_or_default(),
            Err(mistake) => {
                self.mistakes.push(mistake);
                Check::default()
            }
        };
        for line in &lines {
            match instruction(line, &directives, 0) {
                Ok(instruction) => self.take(instruction, line),
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
        if self.stages.is_empty() && self.mistakes.is_empty() {
            let what = if lines.is_empty() { "there are no instructions in it" } else { "there is no FROM in it" };
            self.mistakes.push(Mistake::new(text.len()..text.len(), what).hint("a Dockerfile needs a FROM"));
        }
        if !self.mistakes.is_empty() {
            return Err(self.mistakes);
        }
        let Parser { args, stages, warnings, .. } = self;
        Ok(Dockerfile { name: name.into(), text: text.into(), escape: directives.escape, check, args, stages, warnings })
    }

    fn warn(&mut self, rule: &'static str, source: &Source, message: impl Into<String>) {
        self.warnings.push(Warning { source: source.clone(), rule, message: message.into() });
    }

    fn take(&mut self, instruction: Instruction, line: &Line) {
        if line.has_gap {
            self.warn("NoEmptyContinuation", &instruction.source, "an empty line between continued ones; in a future release of BuildKit that is an error");
        }
        match (&instruction.kind, self.stages.last_mut()) {
            (Kind::From, _) => match self.stage(instruction) {
                Ok(stage) => self.stages.push(stage),
                Err(mistake) => self.mistakes.push(mistake),
            },
            (_, Some(stage)) => {
                if matches!(instruction.kind, Kind::Maintainer(_)) {
                    self.warnings.push(Warning {
                        source: instruction.source.clone(),
                        rule: "MaintainerDeprecated",
                        message: "MAINTAINER is deprecated: use LABEL org.opencontainers.image.authors".into(),
                    });
                }
                stage.instructions.push(instruction);
            }
            (Kind::Arg(_), None) => self.args.push(instruction),
            (_, None) => {
                // A FROM that is wrong has been told already.
                if self.mistakes.is_empty() {
                    self.mistakes
                        .push(instruction.mistake("there is no FROM before it").hint("only ARG, comments and directives may stand before the first FROM"));
                }
            }
        }
    }

    fn stage(&mut self, from: Instruction) -> Result<Stage, Mistake> {
        let words: Vec<&str> = from.text.split_whitespace().skip(1 + from.flags.len()).collect();
        let (base, name) = match words[..] {
            [base] => (base, None),
            [base, _, name] => (base, Some(name)),
            _ => return Err(from.mistake("FROM takes an image and a name").hint("FROM [--platform=…] IMAGE [AS NAME]")),
        };
        let lower = name.map(str::to_lowercase);
        if let (Some(name), Some(lower)) = (name, &lower) {
            let good =
                lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !good {
                return Err(from.mistake(format!("{name:?} can't be a stage's name")).hint("letters, digits and - _ . are allowed, the first a letter"));
            }
            if lower != name {
                self.warn("StageNameCasing", &from.source, format!("the stage's name {name:?} should be lower case"));
            }
            if lower == "scratch" || lower == "context" {
                self.warn("ReservedStageName", &from.source, format!("the stage's name {lower:?} is reserved"));
            }
            if self.stages.iter().any(|stage| stage.name.as_ref() == Some(lower)) {
                self.warn("DuplicateStageName", &from.source, format!("there is a stage {lower:?} already; from here on the name is this one's"));
            }
        }
        let platform = from.flag("platform").map(String::from);
        Ok(Stage { base: base.into(), name: lower, platform, from, instructions: Vec::new() })
    }
}

/// Frontends other than Docker's are programs that would have to be fetched and run.
fn foreign_frontend(value: &str, place: &Range<usize>) -> Option<Mistake> {
    let image = value.split_whitespace().next().unwrap_or_default();
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or_default();
    let ours = matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream");
    (!ours).then(|| {
        Mistake::new(place.clone(), format!("syntax {image:?} names a frontend that is not here")).hint("docker/dockerfile is built in; others are not fetched")
    })
}

fn check(value: &str, place: &Range<usize>) -> Result<Check, Mistake> {
    let mut out = Check::default();
    for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| Mistake::new(place.clone(), format!("check has {part:?}, which is no KEY=VALUE")))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "skip" => {
                out.skip = value.split(',').map(|rule| rule.trim().to_string()).collect();
                out.skip_all = out.skip.iter().any(|rule| rule.eq_ignore_ascii_case("all"));
            }
            "error" => out.error = value.trim().eq_ignore_ascii_case("true") || value.trim() == "1",
            // Rules that BuildKit doesn't check unless asked; there are none of them here.
            "experimental" => {}
            key => return Err(Mistake::new(place.clone(), format!("check has the unknown key {key:?}")).allowed(key, &["skip", "error", "experimental"])),
        }
    }
    Ok(out)
}

/// The instruction that begins at `start` of the line.
fn instruction(line: &Line, directives: &Directives, start: usize) -> Result<Instruction, Mistake> {
    let escape = directives.escape;
    let head = words::head(&line.text, start, escape);
    let keyword = &line.text[head.keyword.clone()];
    let place = line.place(head.keyword.clone());
    let Some(rule) = syntax::find(keyword) else {
        return Err(Mistake::new(place, format!("unknown instruction {keyword:?}")).allowed(keyword, &syntax::keywords()));
    };
    check_flags(rule, &head, line)?;
    let kind = Reader { line, head: &head, rule, escape }.kind(directives)?;
    let source = Source { first_line: line.first, last_line: line.last, onbuild: None };
    Ok(Instruction { text: line.text[start..].trim().to_string(), kind, flags: head.flags, documents: line.documents.clone(), source, place })
}

fn check_flags(rule: &Rule, head: &Head, line: &Line) -> Result<(), Mistake> {
    for (at, flag) in head.flags.iter().enumerate() {
        let name = &flag.name;
        let wrong = |message: String| Mistake::new(line.place(flag.place.clone()), message);
        let Some((_, kind)) = rule.flags.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = rule.flags.iter().map(|(known, _)| *known).collect();
            let mistake = wrong(format!("{} has no flag --{name}", rule.keyword));
            return Err(if known.is_empty() { mistake.hint(format!("it has none: {}", rule.usage)) } else { mistake.allowed(name, &known) });
        };
        if *kind != FlagKind::List && head.flags[..at].iter().any(|before| before.name == *name) {
            return Err(wrong(format!("--{name} is there twice")));
        }
        match (kind, flag.value.as_deref()) {
            (FlagKind::Switch, Some(value)) if !["true", "false"].contains(&value.to_ascii_lowercase().as_str()) => {
                return Err(wrong(format!("--{name} is {value:?}")).hint("true and false are allowed"));
            }
            (FlagKind::Text | FlagKind::List, None) => return Err(wrong(format!("--{name} needs a value")).hint(format!("--{name}=…"))),
            _ => {}
        }
    }
    Ok(())
}

fn forbid_in_trigger(text: &str, line: &Line, start: usize, escape: char) -> Result<(), Mistake> {
    let head = words::head(text, start, escape);
    let keyword = text[head.keyword.clone()].to_ascii_uppercase();
    match keyword.as_str() {
        "FROM" | "MAINTAINER" | "ONBUILD" => Err(Mistake::new(line.place(head.keyword), format!("{keyword} can't be a trigger of ONBUILD"))),
        _ => Ok(()),
    }
}

/// Reads the arguments of one instruction.
struct Reader<'a> {
    line: &'a Line,
    head: &'a Head,
    rule: &'a Rule,
    escape: char,
}

/// Something before the instruction, so that it may be any.
const BEFORE: &str = "FROM x\n";

impl Reader<'_> {
    fn kind(&self, directives: &Directives) -> Result<Kind, Mistake> {
        let arguments = &self.line.text[self.head.arguments.clone()];
        if arguments.is_empty() && !self.allows_nothing() {
            return Err(self.wrong(self.head.keyword.clone(), format!("{} needs arguments", self.rule.keyword)));
        }
        if matches!(words::json(arguments), Some(Err(()))) && self.takes_array() {
            return Err(self.wrong(self.head.arguments.clone(), "the array has to be of strings only"));
        }
        // Ours; the crate would take the trigger's syntax for that of this file.
        if self.rule.keyword == "ONBUILD" {
            return self.onbuild(directives);
        }
        if self.rule.keyword == "RUN" && arguments.is_empty() {
            return Ok(Kind::Run(Command::Shell(String::new())));
        }
        let masked = self.masked();
        let parsed = crate_of::parse_iter(&masked).and_then(|mut all| all.nth(1).transpose());
        match parsed {
            Ok(Some(parsed)) => self.convert(&parsed),
            Ok(None) => Err(self.wrong(self.head.keyword.clone(), "it is no instruction")),
            Err(e) => {
                // Of HEALTHCHECK the crate has read a letter too much by then.
                let at = if self.rule.keyword == "HEALTHCHECK" {
                    self.head.arguments.start
                } else {
                    self.offset(e.column().saturating_sub(1).min(self.line.text.len()))
                };
                Err(self.wrong(at..self.head.arguments.end.max(at), format!("{e:#}")))
            }
        }
    }

    fn wrong(&self, place: Range<usize>, message: impl Into<String>) -> Mistake {
        Mistake::new(self.line.place(place), message).hint(self.rule.usage)
    }

    fn takes_array(&self) -> bool {
        !matches!(self.rule.keyword, "ENV" | "LABEL" | "ARG" | "EXPOSE" | "FROM" | "USER" | "WORKDIR" | "STOPSIGNAL" | "MAINTAINER" | "HEALTHCHECK")
    }

    fn allows_nothing(&self) -> bool {
        self.rule.keyword == "CMD"
    }

    /// The instruction as the crate may see it: [`BEFORE`], keyword, spaces for the flags, arguments; of the same length.
    fn masked(&self) -> String {
        let text = &self.line.text;
        let (keyword, arguments) = (&text[self.head.keyword.clone()], &text[self.head.arguments.clone()]);
        let gap = self.head.arguments.start - self.head.keyword.end;
        let arguments = if self.line.documents.is_empty() { arguments.to_string() } else { arguments.replace("<<", "::") };
        let arguments = match arguments.strip_suffix('\\') {
            Some(rest) => format!("{rest}_"),
            None => arguments,
        };
        format!("{BEFORE}{keyword}{}{arguments}", " ".repeat(gap))
    }

    /// Of the line, for an offset of the masked instruction without [`BEFORE`].
    fn offset(&self, masked: usize) -> usize {
        self.head.keyword.start + masked
    }

    /// The line's text where the crate found something.
    fn text(&self, span: &Range<usize>) -> &str {
        let range = self.offset(span.start - BEFORE.len())..self.offset(span.end - BEFORE.len());
        self.line.text.get(range).unwrap_or_default()
    }

    fn convert(&self, parsed: &Parsed) -> Result<Kind, Mistake> {
        Ok(match parsed {
            Parsed::From(_) => Kind::From,
            Parsed::Add(add) => {
                let (sources, to) = self.copy(&add.src, &add.dest)?;
                Kind::Add { sources, to }
            }
            Parsed::Copy(copy) => {
                let (sources, to) = self.copy(&copy.src, &copy.dest)?;
                Kind::Copy { sources, to }
            }
            Parsed::Run(run) => Kind::Run(self.command(&run.arguments)),
            Parsed::Cmd(cmd) => Kind::Cmd(self.command(&cmd.arguments)),
            Parsed::Entrypoint(entrypoint) => Kind::Entrypoint(self.command(&entrypoint.arguments)),
            Parsed::Healthcheck(health) => Kind::Healthcheck(match &health.arguments {
                crate_of::HealthcheckArguments::Cmd { arguments, .. } => Some(self.command(arguments)),
                _ if self.head.flags.is_empty() => None,
                _ => return Err(self.wrong(self.head.flags[0].place.clone(), "HEALTHCHECK NONE takes no flags")),
            }),
            Parsed::Shell(shell) => Kind::Shell(shell.arguments.iter().map(|word| word.value.to_string()).collect()),
            Parsed::Env(_) => Kind::Env(self.pairs()?),
            Parsed::Label(_) => Kind::Label(self.pairs()?),
            Parsed::Arg(_) => Kind::Arg(self.args()?),
            Parsed::Expose(expose) => Kind::Expose(expose.arguments.iter().map(|word| self.text(&word.span).to_string()).collect()),
            Parsed::Volume(volume) => Kind::Volume(match &volume.arguments {
                crate_of::JsonOrStringArray::Json(array) => array.value.iter().map(|word| word.value.trim().to_string()).collect(),
                crate_of::JsonOrStringArray::String(words) => words.iter().map(|word| self.text(&word.span).to_string()).collect(),
            }),
            Parsed::User(_) => Kind::User(self.rest()),
            Parsed::Workdir(_) => Kind::Workdir(self.rest()),
            Parsed::Stopsignal(_) => Kind::StopSignal(self.rest()),
            Parsed::Maintainer(_) => Kind::Maintainer(self.rest()),
            _ => return Err(self.wrong(self.head.keyword.clone(), "it is not known here")),
        })
    }

    fn rest(&self) -> String {
        self.line.text[self.head.arguments.clone()].to_string()
    }

    fn command(&self, command: &crate_of::Command) -> Command {
        match command {
            crate_of::Command::Exec(array) => Command::Exec(array.value.iter().map(|word| word.value.to_string()).collect()),
            crate_of::Command::Shell(text) => Command::Shell(self.text(&text.span).to_string()),
            _ => Command::Shell(self.rest()),
        }
    }

    fn copy(&self, sources: &[crate_of::Source], to: &crate_of::UnescapedString) -> Result<(Vec<String>, String), Mistake> {
        let is_array = words::json(&self.line.text[self.head.arguments.clone()]).is_some();
        let word = |word: &crate_of::UnescapedString| if is_array { word.value.to_string() } else { self.text(&word.span).to_string() };
        let sources = sources.iter().filter_map(|source| match source {
            crate_of::Source::Path(path) => Some(word(path)),
            _ => None,
        });
        let to = word(to);
        if !is_array && lines::document(&to).is_some() {
            return Err(self.wrong(self.head.arguments.clone(), "a here-document can't be the destination"));
        }
        Ok((sources.collect(), to))
    }

    fn words(&self) -> Vec<(usize, String)> {
        words::quoted_words(&self.line.text[self.head.arguments.clone()], self.escape)
    }

    fn word_place(&self, at: usize, word: &str) -> Range<usize> {
        let start = self.head.arguments.start + at;
        start..(start + word.len()).min(self.line.text.len())
    }

    fn pairs(&self) -> Result<Vec<Pair>, Mistake> {
        let words = self.words();
        if words.first().is_some_and(|(_, first)| !first.contains('=')) {
            let rest = self.rest();
            let parts = rest.split_once([' ', '\t', '\x0b', '\x0c', '\r']);
            let (name, value) = parts.ok_or_else(|| self.wrong(self.head.arguments.clone(), format!("{rest:?} has no value")))?;
            return Ok(vec![Pair { name: name.into(), value: value.trim_start().into(), legacy: true }]);
        }
        let pair = |(at, word): &(usize, String)| match word.split_once('=') {
            Some(("", _)) => Err(self.wrong(self.word_place(*at, word), "there is no name before =")),
            Some((name, value)) => Ok(Pair { name: name.into(), value: value.into(), legacy: false }),
            None => {
                Err(self.wrong(self.word_place(*at, word), format!("{word:?} has no =")).hint("NAME=VALUE is needed; quotes keep a value with blanks together"))
            }
        };
        words.iter().map(pair).collect()
    }

    fn args(&self) -> Result<Vec<(String, Option<String>)>, Mistake> {
        let arg = |(at, word): (usize, String)| match word.split_once('=') {
            Some(("", _)) => Err(self.wrong(self.word_place(at, &word), "there is no name before =")),
            Some((name, value)) => Ok((name.to_string(), Some(value.to_string()))),
            None => Ok((word, None)),
        };
        self.words().into_iter().map(arg).collect()
    }

    fn onbuild(&self, directives: &Directives) -> Result<Kind, Mistake> {
        let start = self.head.arguments.start;
        forbid_in_trigger(&self.line.text, self.line, start, self.escape)?;
        instruction(self.line, directives, start)?;
        let mut text = self.rest();
        for document in &self.line.documents {
            text.push_str(&format!("\n{}{}", document.data, document.name));
        }
        Ok(Kind::OnBuild(text))
    }
}

#[cfg(test)]
mod tests;
