use super::*;

fn lookup(name: &str) -> Option<String> {
    let table =
        [("HOME", "/root"), ("SH", "bash"), ("EMPTY", ""), ("WIDE", "a  b"), ("LEAD", "  x"), ("TAR", "app.tar.gz"), ("UNI", "größe"), ("STAR", "a*b*c")];
    table.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
}

fn word(text: &str) -> Result<String, String> {
    Lexer::new('\\').word(text, &lookup).map(|e| e.text)
}

#[track_caller]
fn all(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(word(text).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn quotes_and_escapes() {
    all(&[
        ("plain", "plain"),
        ("pl'ai'n", "plain"),
        (r"pl\'ain", "pl'ain"),
        (r"a\tb", "atb"),
        (r#""a\tb""#, r"a\tb"),
        (r#""a\\tb""#, r"a\tb"),
        (r"'a\tb'", r"a\tb"),
        (r"end\", "end"),
        (r"end\\", r"end\"),
        (r#""it's""#, "it's"),
        (r#"'say "x"'"#, r#"say "x""#),
        (r"'end\'", r"end\"),
        (r#""say \"x\"""#, r#"say "x""#),
        ("two  words", "two  words"),
        ("grö'ße'", "größe"),
    ]);
    for bad in ["it's", r#""open"#, r#""open\""#, r"it\\'s", "'open"] {
        assert!(word(bad).unwrap_err().contains("no end"), "{bad}");
    }
}

#[test]
fn plain_references() {
    all(&[
        ("$HOME", "/root"),
        ("x$HOME/y", "x/root/y"),
        ("x${HOME}y", "x/rooty"),
        ("$HOMEy", ""),
        ("$home", ""),
        ("$.", "$."),
        ("a$", "a$"),
        ("$1x", "x"),
        ("$12x", "x"),
        ("$@@", "@"),
        ("$$HOME", "HOME"),
        ("${1:-one}", "one"),
        ("${#}", ""),
        ("${-:-x}", "x"),
        (r"\$HOME", "$HOME"),
        (r"\\$HOME", r"\/root"),
        (r"\${HOME}", "${HOME}"),
        (r#""\$HOME $HOME""#, "$HOME /root"),
        ("'$HOME'", "$HOME"),
        (r#""'$HOME'""#, "'/root'"),
        ("${NONE}}", "}"),
    ]);
}

#[test]
fn defaults_and_alternatives() {
    all(&[
        ("${NONE:-d}", "d"),
        ("${NONE-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${HOME:-d}", "/root"),
        ("${NONE:+a}", ""),
        ("${NONE+a}", ""),
        ("${EMPTY:+a}", ""),
        ("${EMPTY+a}", "a"),
        ("${HOME:+a}", "a"),
        ("${NONE:-${ALSO:-$SH}}", "bash"),
        ("${HOME:+${HOME}:}x", "/root:x"),
        (r"${NONE:-\$HOME:}", "$HOME:"),
        (r"${NONE:-\${HOME}z}", "${HOMEz}"),
        ("${NONE:-a b}", "a b"),
        (r#"${NONE:-"a } b"}"#, "a } b"),
        ("${HOME?}", "/root"),
        ("${EMPTY?}", ""),
    ]);
    assert_eq!(word("${NONE?}").unwrap_err(), "NONE: is not allowed to be unset");
    assert_eq!(word("${EMPTY:?}").unwrap_err(), "EMPTY: is not allowed to be empty");
    assert_eq!(word("${NONE:?say it}").unwrap_err(), "NONE: say it");
}

#[test]
fn cutting() {
    all(&[
        ("${TAR%.*}", "app.tar"),
        ("${TAR%%.*}", "app"),
        ("${TAR#*.}", "tar.gz"),
        ("${TAR##*.}", "gz"),
        ("${TAR#nope}", "app.tar.gz"),
        ("${TAR%???}", "app.tar"),
        ("${TAR#}", "app.tar.gz"),
        ("${TAR##*}", ""),
        (r"${STAR#a\*}", "b*c"),
        (r"${STAR%\*c}", "a*b"),
        ("${UNI%ß*}", "grö"),
        ("${UNI#gr?}", "ße"),
        ("${NONE%x}", ""),
        ("${TAR%$SH}", "app.tar.gz"),
    ]);
    assert!(word("${HOME:#x}").unwrap_err().contains(":# is no operator"));
    assert!(word(r"${HOME#\q}").unwrap_err().contains("escapes nothing"));
}

#[test]
fn replacing() {
    all(&[
        ("${TAR/./-}", "app-tar.gz"),
        ("${TAR//./-}", "app-tar-gz"),
        ("${TAR/a*r/X}", "X.gz"),
        ("${TAR/p?/X}", "aX.tar.gz"),
        ("${TAR//zz/X}", "app.tar.gz"),
        ("${HOME/\\//:}", ":root"),
        ("${TAR/./}", "apptar.gz"),
        ("${TAR//./$SH}", "appbashtarbashgz"),
        (r"${STAR//\*/-}", "a-b-c"),
        ("${SH//*/X}", "X"),
        ("${SH///-}", "-b-a-s-h-"),
        ("${EMPTY/*/x}", "x"),
        ("${NONE/a/b}", ""),
    ]);
    assert!(word("${TAR/x}").unwrap_err().contains("/ is missing"));
    assert!(word("${TAR/x/y").unwrap_err().contains("} is missing"));
}

#[test]
fn what_is_no_substitution() {
    for bad in ["${}", "${:}", "${{x}", "${:-x}", "${HOME", "${HOME:-x", "${.}", "${HOME:=x}", "${NONE:x}", "${NONE:-a ${x}", "${HOME!}"] {
        assert!(word(bad).is_err(), "{bad}");
    }
    let deep = format!("{}x{}", "${A:-".repeat(5000), "}".repeat(5000));
    assert!(word(&deep).unwrap_err().contains("too deeply"));
}

#[test]
fn a_pattern_of_many_stars_ends_soon() {
    let value = "a".repeat(300);
    let values = |_: &str| Some(value.clone());
    let text = format!("${{X#{}b}}", "a*".repeat(60));
    assert_eq!(Lexer::new('\\').word(&text, &values).unwrap().text, value);
}

#[test]
fn words_part_at_blanks() {
    let words = |text: &str| Lexer::new('\\').words(text, &lookup);
    let table: [(&str, &[&str]); 11] = [
        ("one", &["one"]),
        (" one  two ", &["one", "two"]),
        (r"one\ two", &["one two"]),
        (r#""one  two" three"#, &["one  two", "three"]),
        ("x${WIDE}y", &["xa", "by"]),
        (r#"x"${WIDE}"y"#, &["xa  by"]),
        ("x$LEAD", &["x", "x"]),
        ("$NONE", &[]),
        ("a << EOF b", &["a", "<< EOF", "b"]),
        ("cat <<'E O' > f", &["cat", "<<E O", ">", "f"]),
        ("<a", &["<a"]),
    ];
    for (text, expected) in table {
        assert_eq!(words(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn other_ways_of_reading() {
    let tick = Lexer::new('`').word(r"C:\x`$HOME\`", &lookup).unwrap().text;
    assert_eq!(tick, r"C:\x$HOME\");
    let raw = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    for text in [r#"echo "$NONE ${NONE}" '\$x' a\ b ${NONE:-y}"#, "<<'EOF'"] {
        assert_eq!(raw.word(text, &lookup).unwrap().text, text);
    }
    let document = Lexer { plain_quotes: true, ..Lexer::new('\\') };
    assert_eq!(document.word("it's \"$SH\" \\$SH\n", &lookup).unwrap().text, "it's \"bash\" $SH\n");
    let used = Lexer::new('\\').word("$HOME$NONE", &lookup).unwrap();
    assert_eq!((used.found.len(), used.missing.into_iter().collect::<Vec<_>>()), (1, vec!["NONE".to_string()]));
}
