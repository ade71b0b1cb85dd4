//! The words of one instruction's line: its keyword, its flags, and words with quotes.

use std::ops::Range;

/// `--name[=value]`, quotes gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    pub name: String,
    pub value: Option<String>,
    /// Of the line.
    pub place: Range<usize>,
}

/// A line taken apart: `KEYWORD --flag … arguments`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub keyword: Range<usize>,
    pub flags: Vec<Flag>,
    /// What is left, trimmed.
    pub arguments: Range<usize>,
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// Take `line` apart from `start` on.
pub fn head(line: &str, start: usize, escape: char) -> Head {
    let trimmed = line[start..].trim();
    let first = line.len() - line[start..].trim_start().len();
    let end = first + trimmed.len();
    let behind = trimmed.find(is_blank).map_or(end, |n| first + n);
    let (flags, at) = flags(line, behind, end, escape);
    let rest = &line[at..end];
    Head { keyword: first..behind, flags, arguments: end - rest.trim_start().len()..end }
}

/// The flags from `at` on, and where what is behind them begins. `--` ends them.
fn flags(line: &str, mut at: usize, end: usize, escape: char) -> (Vec<Flag>, usize) {
    let mut out = Vec::new();
    loop {
        at += line[at..end].len() - line[at..end].trim_start().len();
        if !line[at..end].starts_with("--") {
            return (out, at);
        }
        let (word, length) = unquoted(&line[at..end], escape);
        let place = at..at + length;
        at += length;
        if word == "--" {
            return (out, at);
        }
        let (name, value) = word[2..].split_once('=').map_or((&word[2..], None), |(name, value)| (name, Some(value.to_string())));
        out.push(Flag { name: name.into(), value, place });
    }
}

/// The first word without quotes and escapes, and its length with them.
fn unquoted(text: &str, escape: char) -> (String, usize) {
    let (mut out, mut quote) = (String::new(), None);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (out, at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if c == escape => out.extend(chars.next().map(|(_, c)| c)),
            _ => out.push(c),
        }
    }
    (out, text.len())
}

/// Words with quotes and escapes as they are; each with its offset.
pub fn quoted_words(text: &str, escape: char) -> Vec<(usize, String)> {
    let (mut out, mut open, mut quote) = (Vec::new(), None::<(usize, String)>, None);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            out.extend(open.take());
            continue;
        }
        let word = &mut open.get_or_insert_with(|| (at, String::new())).1;
        if c == escape && quote != Some('\'') {
            // At the end of the line it is nothing.
            if let Some((_, next)) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        word.push(c);
    }
    out.extend(open.filter(|(_, word)| !word.is_empty()));
    out
}

/// The strings of a JSON array. None: it isn't JSON. Err: it is an array, but not of strings.
pub fn json(text: &str) -> Option<Result<Vec<String>, ()>> {
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(()),
    });
    Some(strings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let line = r#" COPY --from=a --chown="x y":z --link  a\ b c "#;
        let found = head(line, 0, '\\');
        assert_eq!((&line[found.keyword.clone()], &line[found.arguments.clone()]), ("COPY", r"a\ b c"));
        let flags: Vec<_> = found.flags.iter().map(|f| (f.name.as_str(), f.value.as_deref())).collect();
        assert_eq!(flags, [("from", Some("a")), ("chown", Some("x y:z")), ("link", None)]);
        assert_eq!(&line[found.flags[1].place.clone()], r#"--chown="x y":z"#);
        for (line, rest, count) in [("RUN -- --x", "--x", 0), ("RUN", "", 0), ("RUN --a", "", 1), ("RUN -x", "-x", 0), ("RUN --a --", "", 1), ("", "", 0)] {
            let found = head(line, 0, '\\');
            assert_eq!((&line[found.arguments.clone()], found.flags.len()), (rest, count), "{line}");
        }
    }

    #[test]
    fn words_with_quotes() {
        let words = |text| quoted_words(text, '\\').into_iter().map(|w| w.1).collect::<Vec<_>>();
        assert_eq!(words(r#"a="b c" d='e f'  g\ h=1 i="#), [r#"a="b c""#, "d='e f'", r"g\ h=1", "i="]);
        assert_eq!(words(r#"a='b\' c="d\" e" f\"#), [r"a='b\'", r#"c="d\" e""#, "f"]);
        assert_eq!(words(r#""" \"#), [r#""""#]);
        assert_eq!(quoted_words(" ä b", '\\')[1].0, 4);
    }

    #[test]
    fn arrays() {
        assert_eq!(json(r#"["a", "b\n"] "#), Some(Ok(vec!["a".into(), "b\n".into()])));
        assert_eq!(json("[]"), Some(Ok(vec![])));
        assert_eq!(json(r#"["a", 1]"#), Some(Err(())));
        for text in ["['a']", "[ -f x ]", "a", r#"["a"] b"#, r#"["a",]"#] {
            assert_eq!(json(text), None, "{text}");
        }
    }
}
