//! A Dockerfile's text → its logical lines: directives read, comments gone, continuations joined, here-documents taken
//! out. What stands in a line is `parse`'s business.

use super::expand::Lexer;
use super::mistake::Mistake;
use std::ops::Range;

/// What the comments at the top say.
#[derive(Debug, Clone, PartialEq)]
pub struct Directives {
    pub escape: char,
    pub syntax: Option<(String, Range<usize>)>,
    pub check: Option<(String, Range<usize>)>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// On one line.
    pub text: String,
    /// The line numbers of the file, from 1, here-documents included.
    pub first: usize,
    pub last: usize,
    pub documents: Vec<Document>,
    /// There is an empty line between continued ones.
    pub has_gap: bool,
    /// Where pieces of `text` begin: (in `text`, in the file), ascending.
    pieces: Vec<(usize, usize)>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub name: String,
    /// The name has no quotes, so variables in the data are expanded.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines don't count.
    pub chomp: bool,
    /// As it stands in the file.
    pub data: String,
}

impl Document {
    /// The data without the tabs that don't count.
    pub fn content(&self) -> String {
        if !self.chomp {
            return self.data.clone();
        }
        self.data.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

impl Line {
    /// Of the file, for a range of `text`.
    pub fn place(&self, range: Range<usize>) -> Range<usize> {
        let at = |offset: usize| {
            let piece = self.pieces.iter().rev().find(|(own, _)| *own <= offset).copied().unwrap_or((0, 0));
            piece.1 + offset - piece.0
        };
        // The end belongs to the piece of the last character, not to that behind it.
        let end = if range.end > range.start { at(range.end - 1) + 1 } else { at(range.start) };
        at(range.start)..end
    }
}

/// The text by its lines: (offset, with the line's end).
struct Physical<'a> {
    text: &'a str,
    at: usize,
    number: usize,
}

impl<'a> Iterator for Physical<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let line = self.text[self.at..].split_inclusive('\n').next()?;
        let at = self.at;
        self.at += line.len();
        self.number += 1;
        Some((at, line))
    }
}

/// Take `text` apart. `takes_documents` says of a line whether `<<` means something in it.
pub fn read(text: &str, takes_documents: impl Fn(&str, char) -> bool) -> Result<(Directives, Vec<Line>), Mistake> {
    let mut directives = Directives { escape: '\\', syntax: None, check: None };
    let (mut lines, mut at_top) = (Vec::new(), true);
    let mut physical = Physical { text, at: 0, number: 0 };
    while let Some((offset, raw)) = physical.next() {
        let whole = raw.trim_end_matches(['\r', '\n']);
        let start = whole.trim_start();
        let offset = offset + whole.len() - start.len();
        if start.starts_with('#') {
            at_top = at_top && directive(&mut directives, start, offset)?;
            continue;
        }
        at_top = false;
        if start.is_empty() {
            continue;
        }
        let mut line = Line { text: String::new(), first: physical.number, last: 0, documents: Vec::new(), has_gap: false, pieces: vec![(0, offset)] };
        join(&mut line, start, &mut physical, directives.escape);
        line.last = physical.number;
        if line.text.trim().is_empty() {
            continue;
        }
        if line.text.contains("<<") && takes_documents(&line.text, directives.escape) {
            documents(&mut line, &mut physical)?;
        }
        lines.push(line);
    }
    Ok((directives, lines))
}

/// The first line and those that continue it.
fn join(line: &mut Line, start: &str, physical: &mut Physical, escape: char) {
    let (mut part, mut goes_on) = continued(start, escape);
    line.text.push_str(part);
    while goes_on {
        let Some((offset, raw)) = physical.next() else { break };
        let whole = raw.trim_end_matches(['\r', '\n']);
        let bare = whole.trim_start();
        if bare.starts_with('#') {
            continue;
        }
        if bare.is_empty() {
            line.has_gap = true;
            continue;
        }
        (part, goes_on) = continued(whole, escape);
        line.pieces.push((line.text.len(), offset));
        line.text.push_str(part);
    }
}

/// The line without the escape that ends it, and whether there is one. An escape that is itself escaped is none.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let bare = line.trim_end_matches([' ', '\t']);
    match bare.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// Read a comment at the top as a directive. Whether it is one; behind one that isn't there are no more.
fn directive(out: &mut Directives, comment: &str, offset: usize) -> Result<bool, Mistake> {
    let body = comment[1..].trim_start();
    let Some((name, value)) = body.split_once('=') else { return Ok(false) };
    let (key, value) = (name.trim_end().to_ascii_lowercase(), value.trim());
    if value.is_empty() {
        return Ok(false);
    }
    let place = offset..offset + comment.trim_end().len();
    let slot = match key.as_str() {
        "escape" => {
            let mut chars = value.chars();
            match (chars.next(), chars.next()) {
                (Some(c @ ('\\' | '`')), None) => out.escape = c,
                _ => return Err(Mistake::new(place, format!("escape is {value:?}")).hint("it can be \\ or `")),
            }
            return Ok(true);
        }
        "syntax" => &mut out.syntax,
        "check" => &mut out.check,
        _ => return Ok(false),
    };
    if slot.is_some() {
        return Err(Mistake::new(place, format!("there are two {key} directives")).hint("only one is allowed"));
    }
    *slot = Some((value.to_string(), place));
    Ok(true)
}

/// Read the here-documents that `line` announces from the lines behind it.
fn documents(line: &mut Line, physical: &mut Physical) -> Result<(), Mistake> {
    let announced = announced(&line.text);
    for mut document in announced {
        loop {
            let Some((_, raw)) = physical.next() else {
                let at = line.text.find("<<").unwrap_or(0);
                let place = line.place(at..line.text[at..].find(char::is_whitespace).map_or(line.text.len(), |n| at + n));
                return Err(Mistake::new(place, format!("the here-document {:?} has no end", document.name))
                    .hint(format!("a line that is just {} ends it", document.name)));
            };
            let bare = raw.trim_end_matches(['\r', '\n']);
            if (if document.chomp { bare.trim_start_matches('\t') } else { bare }) == document.name {
                break;
            }
            document.data.push_str(raw);
        }
        line.last = physical.number;
        line.documents.push(document);
    }
    Ok(())
}

/// The here-documents of a line, without their data.
pub fn announced(text: &str) -> Vec<Document> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    // An open quote is for the shell to judge.
    let words = lexer.words(text, &|_| None).unwrap_or_default();
    words.iter().filter_map(|word| document(word)).collect()
}

/// `[digits]<<[-]NAME`, with quotes or without.
pub fn document(word: &str) -> Option<Document> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let read = |raw_quotes| {
        let lexer = Lexer { raw_quotes, keep_unset: true, ..Lexer::new('\\') };
        let words = lexer.words(rest, &|_| None).ok()?;
        (words.len() == 1).then(|| words.concat())
    };
    let (name, raw) = (read(false)?, read(true)?);
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Document { expand: quotes(&name) == quotes(&raw), name, chomp, data: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        read(text, |line, _| line.starts_with("RUN") || line.starts_with("COPY")).unwrap().1
    }

    fn texts(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn continuations() {
        assert_eq!(texts("RUN a \\\n  b \\\n\n# c\n   # d\n c\nUSER x"), ["RUN a   b  c", "USER x"]);
        assert_eq!(texts("RUN a\\  \t\nb\\\\\nUSER x\\"), ["RUN ab\\\\", "USER x"]);
        assert_eq!(texts("  RUN a \\\r\n b\r\nUSER x\r\n"), ["RUN a  b", "USER x"]);
        assert_eq!(texts("\\\nUSER x"), ["USER x"]);
        assert_eq!(texts("# escape=`\nRUN a\\\nRUN b `\n c"), ["RUN a\\", "RUN b  c"]);
        let gap = &lines("RUN a \\\n\n b")[0];
        assert!(gap.has_gap && (gap.first, gap.last) == (1, 3));
    }

    #[test]
    fn places_in_the_file() {
        let text = "# c\n  RUN one \\\n # no\n  two three\n";
        let line = &lines(text)[0];
        let at = line.text.find("two").unwrap();
        assert_eq!(&text[line.place(at..at + 3)], "two");
        assert_eq!(&text[line.place(0..3)], "RUN");
        let at = line.text.find("one").unwrap();
        assert_eq!(&text[line.place(at..at + 3)], "one");
    }

    #[test]
    fn directives() {
        let read = |text| super::read(text, |_, _| false).map(|(d, _)| d);
        let found = read("# syntax = docker/dockerfile:1 \n#escape=`\n# check=skip=all\nFROM x").unwrap();
        assert_eq!((found.escape, found.syntax.unwrap().0.as_str(), found.check.unwrap().0.as_str()), ('`', "docker/dockerfile:1", "skip=all"));
        for late in ["# hello\n# escape=`\n", "\n# escape=`\n", "# unknown=x\n# escape=`\n", "FROM x\n# escape=`\n"] {
            assert_eq!(read(late).unwrap().escape, '\\', "{late:?}");
        }
        assert!(read("# escape=x\n").is_err());
        assert!(read("# syntax=a\n# syntax=b\n").is_err());
    }

    #[test]
    fn here_documents() {
        let found = lines("RUN <<EOF\na \\\n# b\n  EOF\nEOF\nRUN cat <<-'x y' > f && cat <<2\n\t1\n\tx y\nz\n2\nUSER x");
        assert_eq!(found.len(), 3);
        let first = &found[0].documents[0];
        assert_eq!((first.data.as_str(), first.expand, first.chomp), ("a \\\n# b\n  EOF\n", true, false));
        assert_eq!((found[0].first, found[0].last), (1, 5));
        let names: Vec<_> = found[1].documents.iter().map(|d| (d.name.as_str(), d.expand, d.content())).collect();
        assert_eq!(names, [("x y", false, "1\n".to_string()), ("2", true, "z\n".to_string())]);
    }

    #[test]
    fn what_is_no_here_document() {
        for text in ["RUN cat <<<x", "RUN echo \"<<EOF\"", "RUN echo $((1<<2))", "RUN a << ", "USER <<EOF", "RUN echo \\<<EOF"] {
            assert_eq!(lines(text)[0].documents, [], "{text}");
        }
        assert!(read("RUN <<EOF\na\n", |_, _| true).unwrap_err().message.contains("\"EOF\" has no end"));
    }
}
