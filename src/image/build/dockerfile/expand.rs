//! Variables, quotes and escapes in the words of a Dockerfile, read as BuildKit reads them: a small part of what a shell
//! does, with its own corners (an unset `$1` is empty, `\t` is `t`, a lone `$` stays).

use std::collections::BTreeSet;

/// Values by name; None for a name that isn't set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// `\`, or a backtick by the `escape` directive.
    pub escape: char,
    /// Quotes stay in the text.
    pub raw_quotes: bool,
    /// Escapes stay in the text.
    pub raw_escapes: bool,
    /// Quotes are characters as any other (in here-documents).
    pub plain_quotes: bool,
    /// References to what isn't set stay as they are.
    pub keep_unset: bool,
}

/// A word with its variables expanded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expanded {
    pub text: String,
    pub found: BTreeSet<String>,
    pub missing: BTreeSet<String>,
}

impl Lexer {
    pub fn new(escape: char) -> Lexer {
        Lexer { escape, raw_quotes: false, raw_escapes: false, plain_quotes: false, keep_unset: false }
    }

    /// One word: blanks stay.
    ///
    /// # Errors
    /// In words: a quote or brace without its end, an operator that doesn't exist, `${x?…}`'s message.
    pub fn word(self, text: &str, lookup: Lookup) -> Result<Expanded, String> {
        let (text, _, reader) = self.read(text, lookup)?;
        Ok(Expanded { text, found: reader.found, missing: reader.missing })
    }

    /// Words, parted at the blanks outside of quotes, those that come out of variables included.
    ///
    /// # Errors
    /// As [`Lexer::word`].
    pub fn words(self, text: &str, lookup: Lookup) -> Result<Vec<String>, String> {
        self.read(text, lookup).map(|(_, words, _)| words)
    }

    fn read<'a>(self, text: &str, lookup: Lookup<'a>) -> Result<(String, Vec<String>, Reader<'a>), String> {
        let mut reader = Reader { lexer: self, chars: text.chars().collect(), at: 0, depth: 0, lookup, found: BTreeSet::new(), missing: BTreeSet::new() };
        let (text, words) = reader.until(None, self.raw_escapes)?;
        Ok((text, words, reader))
    }
}

/// `${a:-${b:-…}}` can't go deeper; nobody writes that, and the stack is finite.
const MOST_DEPTH: usize = 100;

struct Reader<'a> {
    lexer: Lexer,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    lookup: Lookup<'a>,
    found: BTreeSet<String>,
    missing: BTreeSet<String>,
}

/// The words so far, and the one that is being read.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    open: String,
}

impl Words {
    fn soft(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() { self.end() } else { self.open.push(c) }
        }
    }

    fn end(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Up to `stop`, or to the end. The text, and the same as words.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), String> {
        let before = std::mem::replace(&mut self.lexer.raw_escapes, raw_escapes);
        self.depth += 1;
        let out = if self.depth > MOST_DEPTH { Err("substitutions are nested too deeply".into()) } else { self.until_stop(stop) };
        self.depth -= 1;
        self.lexer.raw_escapes = before;
        out
    }

    fn until_stop(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
        let (mut out, mut words) = (String::new(), Words::default());
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                words.end();
                return Ok((out, words.done));
            }
            match c {
                '\'' | '"' if !self.lexer.plain_quotes => {
                    let text = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.open.push_str(&text);
                    out.push_str(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    words.soft(&text);
                    out.push_str(&text);
                }
                '<' => {
                    let text = self.here_document();
                    words.open.push_str(&text);
                    out.push_str(&text);
                }
                _ if c == self.lexer.escape => {
                    self.at += 1;
                    let kept = self.lexer.raw_escapes.then_some(c);
                    // At the very end it escapes nothing and is gone.
                    for c in kept.into_iter().chain(self.next()) {
                        words.open.push(c);
                        out.push(c);
                    }
                }
                _ => {
                    self.at += 1;
                    words.soft(c.encode_utf8(&mut [0; 4]));
                    out.push(c);
                }
            }
        }
        match stop {
            Some(stop) => Err(format!("there is no {stop:?} that ends it")),
            None => {
                words.end();
                Ok((out, words.done))
            }
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let start = self.at;
        let Some(length) = self.chars[start + 1..].iter().position(|c| *c == '\'') else {
            return Err("a single quote (') has no end".into());
        };
        self.at = start + 1 + length + 1;
        let inner = if self.lexer.raw_quotes { start..self.at } else { start + 1..self.at - 1 };
        Ok(self.chars[inner].iter().collect())
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let quote = self.lexer.raw_quotes.then_some('"');
        self.at += 1;
        let mut out = String::from_iter(quote);
        loop {
            match self.peek() {
                None => return Err("a double quote (\") has no end".into()),
                Some('"') => {
                    self.at += 1;
                    out.extend(quote);
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) => {
                    self.at += 1;
                    if c != self.lexer.escape {
                        out.push(c);
                        continue;
                    }
                    out.extend(self.lexer.raw_escapes.then_some(c));
                    match self.peek() {
                        // The escape is at the end: the missing quote is told in the next round.
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == c => {
                            self.at += 1;
                            out.push(next);
                        }
                        Some(_) => out.push(c),
                    }
                }
            }
        }
    }

    /// `<<` keeps the blanks behind it, so that `<< EOF` is one word.
    fn here_document(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".into();
        }
        self.at += 1;
        let mut out = String::from("<<");
        while let Some(c) = self.peek().filter(|c| matches!(c, ' ' | '\t' | '\r')) {
            self.at += 1;
            out.push(c);
        }
        out
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.value(&name) {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(MISSING_BRACE.into()),
            Some('{' | '}' | ':') => return Err("${ needs the name of a variable behind it".into()),
            Some(_) => {}
        }
        let name = self.name();
        self.operator(&name)
    }

    /// What stands behind the name in braces.
    fn operator(&mut self, name: &str) -> Result<String, String> {
        let mut sign = self.next().ok_or(MISSING_BRACE)?;
        if sign == '}' {
            return Ok(match self.value(name) {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            });
        }
        if sign == '/' {
            return self.replace(name);
        }
        let colon = sign == ':';
        if colon {
            sign = self.next().ok_or(MISSING_BRACE)?;
        }
        let written = format!("{}{sign}", if colon { ":" } else { "" });
        let cuts = matches!(sign, '#' | '%');
        if !matches!(sign, '-' | '+' | '?' | '#' | '%') || (colon && cuts) {
            return Err(format!("${{{name}{written}…}}: {written} is no operator; there are - + ? :- :+ :? # ## % %% / //"));
        }
        let word = self.until(Some('}'), cuts).map_err(|e| if self.peek().is_none() { MISSING_BRACE.into() } else { e })?.0;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let filled = value.as_ref().is_some_and(|v| !colon || !v.is_empty());
        match sign {
            '-' => Ok(if filled { value.unwrap_or_default() } else { word }),
            '+' => Ok(if filled { word } else { String::new() }),
            '?' if filled => Ok(value.unwrap_or_default()),
            '?' => {
                let what = if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                Err(format!("{name}: {}", if word.is_empty() { what } else { &word }))
            }
            _ => cut(sign, &word, &value.unwrap_or_default()),
        }
    }

    /// `${name/pattern/replacement}`, or of all with two slashes.
    fn replace(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let slash = |reader: &Self, e| if reader.peek().is_none() { "a / is missing in ${…/…/…}".into() } else { e };
        let pattern = self.until(Some('/'), true).map_err(|e| slash(self, e))?.0;
        let with = self.until(Some('}'), true).map_err(|e| if self.peek().is_none() { MISSING_BRACE.into() } else { e })?.0;
        let Some(value) = self.value(name) else {
            return Ok(if self.lexer.keep_unset { format!("${{{name}/{pattern}/{with}}}") } else { String::new() });
        };
        Ok(Pattern::new(&pattern, true)?.replace(&value, &with, all))
    }

    /// Letters, digits and `_`; only digits behind a digit; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_numeric() => self.at += self.chars[start..].iter().take_while(|c| c.is_numeric()).count(),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => self.at += self.chars[start..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let names = if value.is_some() { &mut self.found } else { &mut self.missing };
        names.insert(name.to_string());
        value
    }
}

const MISSING_BRACE: &str = "a } is missing behind ${";

/// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`: `value` without what `word`, a pattern, matches at its start or end.
fn cut(sign: char, word: &str, value: &str) -> Result<String, String> {
    let (greedy, pattern) = match word.strip_prefix(sign) {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let mut chars: Vec<char> = value.chars().collect();
    let mut pattern = Pattern::new(pattern, greedy)?;
    if sign == '%' {
        // The end is the start of the reverse.
        pattern.parts.reverse();
        chars.reverse();
    }
    let end = pattern.at(&chars, 0).unwrap_or(0);
    let rest = &chars[end..];
    Ok(if sign == '%' { rest.iter().rev().collect() } else { rest.iter().collect() })
}

/// A pattern of `*`, `?` and characters. Neither wildcard matches a line's end.
struct Pattern {
    parts: Vec<Part>,
    greedy: bool,
}

#[derive(PartialEq)]
enum Part {
    Many,
    One,
    Is(char),
}

impl Pattern {
    fn new(text: &str, greedy: bool) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Many,
                '?' => Part::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Part::Is(c),
                    other => {
                        return Err(format!("pattern {text:?}: \\{} escapes nothing; \\* \\? \\\\ \\/ \\}} do", other.map(String::from).unwrap_or_default()));
                    }
                },
                c => Part::Is(c),
            });
        }
        // Two stars are one.
        parts.dedup_by(|a, b| *a == Part::Many && *b == Part::Many);
        Ok(Pattern { parts, greedy })
    }

    /// Where the match that begins at `start` ends.
    fn at(&self, text: &[char], start: usize) -> Option<usize> {
        let mut dead = BTreeSet::new();
        self.go(text, start, 0, &mut dead)
    }

    /// Tries the longest (or shortest) first; `dead` are the places that are known to lead nowhere.
    fn go(&self, text: &[char], at: usize, part: usize, dead: &mut BTreeSet<(usize, usize)>) -> Option<usize> {
        let Some(first) = self.parts.get(part) else { return Some(at) };
        if dead.contains(&(at, part)) {
            return None;
        }
        let found = match first {
            Part::Is(c) => (text.get(at) == Some(c)).then(|| self.go(text, at + 1, part + 1, dead)).flatten(),
            Part::One => text.get(at).filter(|c| **c != '\n').and_then(|_| self.go(text, at + 1, part + 1, dead)),
            Part::Many => {
                let most = at + text[at..].iter().take_while(|c| **c != '\n').count();
                let mut ends: Box<dyn Iterator<Item = usize>> = if self.greedy { Box::new((at..=most).rev()) } else { Box::new(at..=most) };
                ends.find_map(|end| self.go(text, end, part + 1, dead))
            }
        };
        if found.is_none() {
            dead.insert((at, part));
        }
        found
    }

    fn replace(&self, value: &str, with: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut last) = (String::new(), 0, None);
        while at <= chars.len() {
            match self.at(&chars, at) {
                // Nothing right behind a match is no other match.
                Some(end) if !(end == at && last == Some(at)) => {
                    out.push_str(with);
                    last = Some(end);
                    if !all {
                        out.extend(&chars[end..]);
                        return out;
                    }
                    if end > at {
                        at = end;
                        continue;
                    }
                }
                _ => {}
            }
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }
}

#[cfg(test)]
mod tests;
