//! What is wrong with a Dockerfile, and where: `Dockerfile:3:5: …`, the line, a caret.

use crate::{Error, Kind};
use std::ops::Range;

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// Of the file, in bytes.
    pub place: Range<usize>,
    pub message: String,
    /// What is allowed, or was probably meant. May be empty.
    pub hint: String,
}

impl Mistake {
    pub fn new(place: Range<usize>, message: impl Into<String>) -> Mistake {
        Mistake { place, message: message.into(), hint: String::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Mistake {
        self.hint = hint.into();
        self
    }

    /// `known` words, and which of them `word` may have been meant to be.
    pub fn allowed(self, word: &str, known: &[&str]) -> Mistake {
        let all = known.join(", ");
        let hint = match crate::spec::validate::suggest::closest(word, known) {
            Some(near) => format!("did you mean {near}? there are {all}"),
            None => format!("there are {all}"),
        };
        self.hint(hint)
    }

    /// For people: `name` is the Dockerfile's, `text` what is in it.
    fn render(&self, name: &str, text: &str) -> String {
        let (line, column) = position(text, self.place.start);
        let hint = if self.hint.is_empty() { String::new() } else { format!(" ({})", self.hint) };
        let Some(shown) = text.lines().nth(line - 1) else { return format!("{name}: {}{hint}", self.message) };
        let until_end = shown.chars().count().saturating_sub(column - 1);
        let length = text.get(self.place.clone()).map_or(1, |t| t.chars().count()).min(until_end).max(1);
        // Tabs stay, so that the caret is below what it means.
        let indent: String = shown.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let margin = " ".repeat(line.to_string().len());
        format!("{name}:{line}:{column}: {}{hint}\n  {line} | {shown}\n  {margin} | {indent}{}", self.message, "^".repeat(length))
    }
}

/// Line and column of an offset, from 1; columns are characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// All of them as one error.
pub fn error(name: &str, text: &str, mistakes: &[Mistake]) -> Error {
    let all: Vec<String> = mistakes.iter().map(|m| m.render(name, text)).collect();
    Error::new(Kind::Other, all.join("\n"), "", "")
}

/// The lines `first` to `last` (from 1) with their numbers, and a caret below the first.
pub fn excerpt(text: &str, first: usize, last: usize) -> String {
    let width = last.to_string().len();
    let mut out = Vec::new();
    for (at, line) in text.lines().enumerate().skip(first.saturating_sub(1)).take(last.saturating_sub(first.saturating_sub(1))) {
        out.push(format!("  {:>width$} | {line}", at + 1));
        if at + 1 == first {
            let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
            out.push(format!("  {:>width$} | {indent}{}", "", "^".repeat(line.trim().chars().count().max(1))));
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_below_the_word() {
        let text = "FROM x\n\tRNU größe\n";
        let message = error("Dockerfile", text, &[Mistake::new(8..11, "unknown").hint("RUN?")]).to_string();
        assert_eq!(message, "Dockerfile:2:2: unknown (RUN?)\n  2 | \tRNU größe\n    | \t^^^");
        let end = error("d", "FROM", &[Mistake::new(4..4, "no more")]).to_string();
        assert_eq!(end, "d:1:5: no more\n  1 | FROM\n    |     ^");
        assert_eq!(error("d", "", &[Mistake::new(0..0, "empty")]).to_string(), "d: empty");
    }

    #[test]
    fn excerpts() {
        assert_eq!(excerpt("FROM x\nRUN a \\\n  b\nUSER c", 2, 3), "  2 | RUN a \\\n    | ^^^^^^^\n  3 |   b");
    }
}
