//! COPY and ADD.

use super::super::expand::Lexer;
use super::super::lines;
use super::super::parse::Instruction;
use super::super::{chmod, git, path};
use super::{Done, Planner};
use crate::image::Digest;
use crate::image::build::plan::{Action, Chmod, Copy, CopySource, Inline, Origin};

impl Planner<'_> {
    pub(super) fn copy_step(&mut self, instruction: &Instruction, sources: &[String], to: &str, add: bool) -> Result<Done, String> {
        let to = self.word(instruction, to)?;
        let chown = self.flag(instruction, "chown")?;
        let mode = self.flag(instruction, "chmod")?;
        let parents = instruction.switch("parents").unwrap_or(false);
        let mut history = String::from(if add { "ADD" } else { "COPY" });
        if parents {
            history.push_str(" --parents");
        }
        for (name, value) in [("chown", &chown), ("chmod", &mode)] {
            if !value.is_empty() {
                history.push_str(&format!(" --{name}={value}"));
            }
        }
        let words = self.sources(instruction, sources)?;
        let checksum = self.flag(instruction, "checksum")?;
        if !checksum.is_empty() && words.len() + instruction.documents.len() != 1 {
            return Err("--checksum is of one source, and there are several".into());
        }
        let from = match instruction.flag("from") {
            Some(name) => self.origin(name)?,
            None => Origin::Context,
        };
        let mut all = Vec::new();
        for word in &words {
            history.push_str(&format!(" {word}"));
            all.push(source(instruction, word, &from, add, &checksum, parents)?);
        }
        for document in &instruction.documents {
            history.push_str(&format!(" <<{}", document.name));
            all.push(CopySource::Inline(self.inline(instruction, document)?));
        }
        history.push_str(&format!(" {to} # buildkit"));
        let copy = Copy {
            sources: all,
            to: path::destination(self.working_dir(), &to),
            chown,
            chmod: mode_of(&mode)?,
            link: instruction.switch("link").unwrap_or(false),
            parents,
            exclude: instruction.flags("exclude").map(String::from).collect(),
        };
        Ok(Done { action: Action::Copy(copy), history: Some(history) })
    }

    fn flag(&mut self, instruction: &Instruction, name: &str) -> Result<String, String> {
        match instruction.flag(name) {
            Some(text) => self.word(instruction, text).map_err(|e| format!("--{name}: {e}")),
            None => Ok(String::new()),
        }
    }

    /// The sources that are not here-documents, expanded.
    fn sources(&mut self, instruction: &Instruction, sources: &[String]) -> Result<Vec<String>, String> {
        let is_document = |word: &String| !instruction.documents.is_empty() && lines::document(word).is_some();
        sources.iter().filter(|word| !is_document(word)).map(|word| self.word(instruction, word)).collect()
    }

    fn inline(&mut self, instruction: &Instruction, document: &lines::Document) -> Result<Inline, String> {
        let name = document.name.clone();
        if name.contains('/') || name == "." || name == ".." {
            return Err(format!("the here-document's name {name:?} becomes a file's name, so it can't have a slash"));
        }
        let mut data = document.content();
        if document.expand {
            // Quotes are text in a file.
            let lexer = Lexer { plain_quotes: true, ..Lexer::new('\\') };
            let found = lexer.word(&data, &self.state.env.lookup()).map_err(|e| format!("here-document {name:?}: {e}"))?;
            self.undefined(instruction, &found.missing);
            data = found.text;
        }
        Ok(Inline { name, data })
    }
}

fn source(instruction: &Instruction, word: &str, from: &Origin, add: bool, checksum: &str, parents: bool) -> Result<CopySource, String> {
    if let Some(address) = git::parse(word) {
        let address = address?;
        let mut git = address.git;
        if !add {
            return Err(format!("COPY can't take from a git repository: use ADD {word}"));
        }
        let flag = instruction.switch("keep-git-dir");
        if flag.is_some() && address.keep_git_dir.is_some() && flag != address.keep_git_dir {
            return Err("--keep-git-dir and the address say different things".into());
        }
        git.keep_git_dir = flag.or(address.keep_git_dir).unwrap_or(false);
        if !checksum.is_empty() {
            if !git.checksum.is_empty() && git.checksum != checksum {
                return Err(format!("--checksum is {checksum}, and the address says {}", git.checksum));
            }
            if !checksum.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(format!("--checksum is {checksum:?}: of a git repository it is a commit"));
            }
            git.checksum = checksum.into();
        }
        return Ok(CopySource::Git(git));
    }
    let unpack = instruction.switch("unpack");
    if word.starts_with("http://") || word.starts_with("https://") {
        if !add {
            return Err(format!("COPY can't take from the web: use ADD {word}"));
        }
        let checksum = if checksum.is_empty() { None } else { Some(checksum.parse::<Digest>().map_err(|e| format!("--checksum: {e}"))?) };
        return Ok(CopySource::Http { url: word.into(), name: name_of(word), checksum, unpack: unpack.unwrap_or(false) });
    }
    if !checksum.is_empty() {
        return Err("--checksum is for sources on the web and git repositories".into());
    }
    let (base, pattern) = match word.split_once("/./").filter(|_| parents) {
        Some((base, pattern)) => (path::absolute("/", base), path::absolute("/", pattern)),
        None => ("/".to_string(), path::absolute("/", word)),
    };
    Ok(CopySource::Files { from: from.clone(), base, pattern, unpack: unpack.unwrap_or(add) })
}

/// The last part of an address' path.
fn name_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or("", |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("" | "." | "..") | None => "__unnamed__".into(),
        Some(name) => name.into(),
    }
}

fn mode_of(text: &str) -> Result<Option<Chmod>, String> {
    let wrong = || format!("--chmod is {text:?}: an octal number up to 7777, or the likes of u=rwX,go-w, is needed");
    if text.is_empty() {
        return Ok(None);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(|mode| Some(Chmod::Mode(mode))).ok_or_else(wrong);
    }
    chmod::parse(text).map(|_| Some(Chmod::Symbolic(text.into()))).ok_or_else(wrong)
}
