//! `--chmod=u=rwX,go-w`: modes in chmod(1)'s words.

/// What is done to a mode, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes(Vec<Change>);

#[derive(Debug, Clone, PartialEq)]
struct Change {
    /// The bits of those who are meant: u 0o4700, g 0o2070, o 0o1007.
    who: u32,
    sign: char,
    letters: String,
}

/// Read the likes of `u=rwX,go-w`, `+x`, `a=g`. None: it is nothing of the kind.
pub fn parse(text: &str) -> Option<Changes> {
    let mut out = Vec::new();
    for clause in text.split(',') {
        let start = clause.find(['+', '-', '='])?;
        let mut who = 0;
        for c in clause[..start].chars() {
            who |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        let who = if who == 0 { 0o7777 } else { who };
        let mut rest = &clause[start..];
        while let Some(sign) = rest.chars().next() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |n| n + 1);
            let letters = &rest[1..end];
            let copies = matches!(letters, "u" | "g" | "o");
            if !copies && !letters.chars().all(|c| "rwxXst".contains(c)) {
                return None;
            }
            out.push(Change { who, sign, letters: letters.into() });
            rest = &rest[end..];
        }
    }
    (!out.is_empty()).then_some(Changes(out))
}

impl Changes {
    /// `mode` after them; `X` is `x` for directories and for what somebody may execute.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        self.0.iter().fold(mode, |mode, change| {
            let bits = change.bits(mode, is_dir);
            match change.sign {
                '+' => mode | bits,
                '-' => mode & !bits,
                // The special bits of a directory stay unless they are named, as in GNU's.
                _ => {
                    let kept = if is_dir { 0o6000 } else { 0 };
                    (mode & !(change.who & !kept)) | bits
                }
            }
        })
    }
}

impl Change {
    fn bits(&self, mode: u32, is_dir: bool) -> u32 {
        let three = |shift: u32| {
            let bits = mode >> shift & 7;
            bits << 6 | bits << 3 | bits
        };
        let wanted = self.letters.chars().fold(0, |bits, c| {
            bits | match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => three(6),
                'g' => three(3),
                'o' => three(0),
                _ => 0,
            }
        });
        wanted & self.who
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        for (text, mode, is_dir, expected) in [
            ("u=rwx,go=rx", 0o600, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o777, false, 0o555),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("go=", 0o777, false, 0o700),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("g-w+x", 0o660, false, 0o650),
            ("u=rw", 0o4755, false, 0o655),
        ] {
            assert_eq!(parse(text).unwrap().apply(mode, is_dir), expected, "{text} {mode:o}");
        }
        for bad in ["", "rwx", "u", "z+x", "u+q", "u+x,", "u=ug", "9+x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
