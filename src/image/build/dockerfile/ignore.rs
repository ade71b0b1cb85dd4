//! Docker's patterns of what is left out: .dockerignore, `NAME.dockerignore`, `--exclude`.
//!
//! The last pattern that matches a path, or a directory that it is in, decides; one with `!` takes back in. `*` and `?`
//! stop at slashes, `**` doesn't. Unlike git's, a pattern without a slash is at the top alone.

use super::path;

/// The patterns of one file, in its order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    takes_back: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Is(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**/`: any number of directories.
    Dirs,
    /// `**` at the end or before something else than a slash.
    All,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// What is to become of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// It is left out, but something in it may not be.
    Look,
    /// It is left out with all that is in it.
    Skip,
}

impl Patterns {
    /// Read an ignore file: a pattern a line, `#` at its start for a comment.
    ///
    /// # Errors
    /// In words, with the line's number.
    pub fn parse(text: &str) -> Result<Patterns, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        let patterns = lines.filter_map(|(at, line)| Pattern::parse(line).map_err(|e| format!("line {}: {e}", at + 1)).transpose());
        patterns.collect::<Result<_, _>>().map(Patterns)
    }

    /// Of `--exclude`: a pattern each.
    ///
    /// # Errors
    /// In words.
    pub fn of(patterns: &[String]) -> Result<Patterns, String> {
        patterns.iter().filter_map(|text| Pattern::parse(text).transpose()).collect::<Result<_, _>>().map(Patterns)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Judge `path`, relative to the top, without a slash at its start.
    pub fn judge(&self, path: &[u8]) -> Verdict {
        let path: Vec<char> = String::from_utf8_lossy(path).chars().collect();
        let ends: Vec<usize> = path.iter().enumerate().filter(|(_, c)| **c == '/').map(|(at, _)| at).chain([path.len()]).collect();
        let mut is_out = false;
        for pattern in &self.0 {
            // Only the one that changes the verdict is of interest.
            if pattern.takes_back == is_out && ends.iter().rev().any(|end| pattern.matches(&path[..*end])) {
                is_out = !pattern.takes_back;
            }
        }
        if !is_out {
            return Verdict::Keep;
        }
        let below: Vec<char> = path.iter().chain(&['/']).copied().collect();
        if self.0.iter().any(|pattern| pattern.takes_back && pattern.goes_on(&below)) { Verdict::Look } else { Verdict::Skip }
    }
}

impl Pattern {
    /// None for an empty line.
    fn parse(text: &str) -> Result<Option<Pattern>, String> {
        let text = text.trim();
        let (takes_back, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        if text.is_empty() {
            return if takes_back { Err("there is nothing behind !".into()) } else { Ok(None) };
        }
        let clean = path::clean(text);
        let clean = clean.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&clean);
        Ok(Some(Pattern { takes_back, parts: parts(clean)? }))
    }

    fn matches(&self, path: &[char]) -> bool {
        self.reach(path, |_| {})[path.len()]
    }

    /// Whether something below the directory `start`, with its slash, may match.
    fn goes_on(&self, start: &[char]) -> bool {
        let mut live = false;
        self.reach(start, |reached| live |= reached[start.len()]);
        live
    }

    /// For each offset of `path` whether the parts may end there; `seen` gets that behind each part.
    fn reach(&self, path: &[char], mut seen: impl FnMut(&[bool])) -> Vec<bool> {
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            let mut next = vec![false; path.len() + 1];
            let mut any = false;
            for at in 0..=path.len() {
                any |= reached[at];
                let before = at.checked_sub(1).map(|n| path[n]);
                next[at] = match (part, before) {
                    (Part::Many, Some(c)) => reached[at] || (next[at - 1] && c != '/'),
                    (Part::Many, None) => reached[at],
                    (Part::Dirs, Some('/')) => any,
                    (Part::Dirs, _) => reached[at],
                    (Part::All, _) => any,
                    (part, Some(c)) => reached[at - 1] && part.takes(c),
                    (_, None) => false,
                };
            }
            seen(&next);
            reached = next;
        }
        reached
    }
}

impl Part {
    /// A single character.
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Is(own) => *own == c,
            Part::One => c != '/',
            Part::Class { negated, ranges } => ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated,
            Part::Many | Part::Dirs | Part::All => false,
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                let slash = chars.next_if_eq(&'/').is_some();
                // `**x` at the start ends a name, `a**x` begins one anew: so does Docker.
                if chars.peek().is_none() || (!slash && out.is_empty()) { Part::All } else { Part::Dirs }
            }
            '*' => Part::Many,
            '?' => Part::One,
            '\\' => Part::Is(chars.next().ok_or_else(|| format!("pattern {text:?} ends in a \\ that escapes nothing"))?),
            '[' => class(&mut chars).ok_or_else(|| format!("pattern {text:?} has a [ without its end, or nothing in it"))?,
            c => Part::Is(c),
        });
    }
    Ok(out)
}

/// Behind `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars>) -> Option<Part> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |chars: &mut std::iter::Peekable<std::str::Chars>| match chars.next()? {
        '\\' => chars.next(),
        ']' | '-' => None,
        c => Some(c),
    };
    while ranges.is_empty() || chars.peek() != Some(&']') {
        let first = one(chars)?;
        let last = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { first };
        if last < first {
            return None;
        }
        ranges.push((first, last));
    }
    chars.next();
    Some(Part::Class { negated, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(patterns: &str, path: &str) -> Verdict {
        Patterns::parse(patterns).unwrap().judge(path.as_bytes())
    }

    #[track_caller]
    fn out(pattern: &str, paths: &[&str], kept: &[&str]) {
        for path in paths {
            assert_ne!(judge(pattern, path), Verdict::Keep, "{pattern} {path}");
        }
        for path in kept {
            assert_eq!(judge(pattern, path), Verdict::Keep, "{pattern} {path}");
        }
    }

    #[test]
    fn one_pattern() {
        out("a", &["a", "a/b", "a/b/c"], &["b", "b/a", "ab"]);
        out("/a/", &["a", "a/b"], &["b/a"]);
        out("a/./b//../c", &["a/c"], &["a/b"]);
        out("*.o", &["x.o", "x.o/y", ".o"], &["d/x.o", "x.oo"]);
        out("*/*.o", &["d/x.o"], &["x.o", "d/e/x.o"]);
        out("a?c", &["abc", "aéc"], &["ac", "a/c"]);
        out("[a-c]x", &["ax", "cx"], &["dx", "x"]);
        out("[^a-c]x", &["dx"], &["ax"]);
        out(r"a\*b", &["a*b"], &["axb"]);
        out(r"[\]]", &["]"], &["[", "\\"]);
        out("a.b+(c)|$", &["a.b+(c)|$"], &["axb+(c)|$"]);
        out("  x y  ", &["x y"], &["x"]);
        out("größe*", &["größe.txt"], &["gr"]);
    }

    #[test]
    fn two_stars() {
        out("**", &["a", "a/b", ".x"], &[]);
        out("**/", &["a", "a/b"], &[]);
        out("**/**", &["a", "a/b"], &[]);
        out("a/**", &["a/b", "a/b/c"], &["a", "b"]);
        out("**/x", &["x", "a/x", "a/b/x", "a/x/y"], &["ax", "xa"]);
        out("**x", &["x", "ax", "a/bx"], &["xa"]);
        out("**/*.txt", &["a.txt", "a/b.txt", "a/b/c.txt"], &["txt", "a/b.md"]);
        out("a**/*.txt", &["a/f.txt", "a/b/c/f.txt"], &["b/f.txt"]);
        out("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "b"]);
        out("**/a/**/b", &["a/b", "x/a/y/b"], &["a", "b"]);
        out("x*.txt**", &["xa.txt", "x.txt/y"], &["y.txt"]);
    }

    #[test]
    fn the_last_that_matches_decides() {
        out("*.md\n!README.md", &["a.md"], &["README.md", "x"]);
        out("*.md\n!README*.md\nREADME-secret.md", &["a.md", "README-secret.md"], &["README.md"]);
        out("**\n!src", &["a"], &["src", "src/x/y"]);
        out("a\n!a/b\na/b/c", &["a", "a/x", "a/b/c"], &["a/b", "a/b/d"]);
        out("!a\na", &["a"], &[]);
        out("# a\n#b\n\n  \nc", &["c"], &["a", "# a", "#b"]);
        out("\u{feff}a\r\nb\r\n", &["a", "b"], &[]);
    }

    #[test]
    fn directories_that_need_no_look() {
        for (patterns, path, expected) in [
            ("a", "a", Verdict::Skip),
            ("a\n!b", "a", Verdict::Skip),
            ("a\n!a/b/c", "a", Verdict::Look),
            ("a\n!a/b/c", "a/b", Verdict::Look),
            ("a\n!a/b/c", "a/x", Verdict::Skip),
            ("a\n!**/keep", "a", Verdict::Look),
            ("a\n!a/**", "a", Verdict::Look),
            ("a\n!*/x/y", "a", Verdict::Look),
            ("a\n!*/x/y", "a/z", Verdict::Skip),
            ("a\n!**keep", "a/b/c", Verdict::Look),
            ("a\n!a/*/x", "a/b", Verdict::Look),
            ("a\n!ab", "a", Verdict::Skip),
        ] {
            assert_eq!(judge(patterns, path), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, word) in [("a\n!", "line 2"), ("[", "line 1"), ("[]", "["), ("a[b-a]", "["), ("x\\", "escapes nothing"), ("[a", "without its end")] {
            let message = Patterns::parse(text).unwrap_err();
            assert!(message.contains(word), "{text:?}: {message}");
        }
        assert!(Patterns::of(&["a".into(), "!".into()]).is_err());
        assert!(Patterns::parse("# nothing\n").unwrap().is_empty());
    }
}
