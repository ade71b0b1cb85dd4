use super::*;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

/// The instructions of the only stage.
fn kinds(text: &str) -> Vec<Kind> {
    parse(&format!("FROM x\n{text}")).stages.remove(0).instructions.into_iter().map(|i| i.kind).collect()
}

fn kind(text: &str) -> Kind {
    kinds(text).remove(0)
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

fn shell(text: &str) -> Command {
    Command::Shell(text.into())
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let message = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err().to_string();
    for word in expected {
        assert!(message.contains(word), "{text:?}: {message}");
    }
}

#[test]
fn stages() {
    let file = parse("ARG V=1 W\nFROM --platform=linux/arm64 debian:$V AS Build\nRUN a\nfrom build\nFROM scratch as last\n");
    assert_eq!(file.args[0].kind, Kind::Arg(vec![("V".into(), Some("1".into())), ("W".into(), None)]));
    let stages: Vec<_> = file.stages.iter().map(|s| (s.base.as_str(), s.name.as_deref(), s.platform.as_deref())).collect();
    assert_eq!(stages, [("debian:$V", Some("build"), Some("linux/arm64")), ("build", None, None), ("scratch", Some("last"), None)]);
    assert_eq!(file.warnings.iter().map(|w| w.rule).collect::<Vec<_>>(), ["StageNameCasing"]);
}

#[test]
fn commands() {
    assert_eq!(kind("RUN a && \\\n# no\n  b"), Kind::Run(shell("a &&   b")));
    assert_eq!(kind("RUN [\"a\", \\\n \"b c\"]"), Kind::Run(Command::Exec(strings(&["a", "b c"]))));
    assert_eq!(kind("RUN ['a']"), Kind::Run(shell("['a']")));
    assert_eq!(kind("RUN [ -f x ] || y"), Kind::Run(shell("[ -f x ] || y")));
    assert_eq!(kind("RUN [[ -f x ]]"), Kind::Run(shell("[[ -f x ]]")));
    assert_eq!(kind("CMD []"), Kind::Cmd(Command::Exec(vec![])));
    assert_eq!(kind("CMD"), Kind::Cmd(shell("")));
    assert_eq!(kind("entrypoint run $X"), Kind::Entrypoint(shell("run $X")));
    assert_eq!(kind(r"RUN echo a\\"), Kind::Run(shell(r"echo a\\")));
    assert_eq!(kind("SHELL [\"/bin/bash\", \"-c\"]"), Kind::Shell(strings(&["/bin/bash", "-c"])));
    assert_eq!(kind("HEALTHCHECK --retries=3 CMD [\"a\"]"), Kind::Healthcheck(Some(Command::Exec(strings(&["a"])))));
    assert_eq!(kind("HEALTHCHECK NONE"), Kind::Healthcheck(None));
}

#[test]
fn here_documents() {
    let file = parse("FROM x\nRUN python3 <<EOF > out\nprint(1) \\\nEOF\nCOPY <<a.txt <<-\"b c\" x /d/\none\na.txt\n\ttwo\n\tb c\nUSER u");
    let all = &file.stages[0].instructions;
    assert_eq!((&all[0].kind, all[0].documents[0].data.as_str()), (&Kind::Run(shell("python3 <<EOF > out")), "print(1) \\\n"));
    let Kind::Copy { sources, to } = &all[1].kind else { panic!("{:?}", all[1]) };
    assert_eq!((sources.len(), sources[0].as_str(), to.as_str()), (4, "<<a.txt", "/d/"));
    assert_eq!(all[1].documents.iter().map(|d| (d.name.as_str(), d.content())).collect::<Vec<_>>(), [("a.txt", "one\n".into()), ("b c", "two\n".into())]);
    assert_eq!((all[1].source.first_line, all[1].source.last_line), (5, 9));
    assert_eq!(all[2].kind, Kind::User("u".into()));
}

#[test]
fn pairs() {
    let pair = |name: &str, value: &str, legacy| Pair { name: name.into(), value: value.into(), legacy };
    assert_eq!(kind(r#"ENV A=1 B="x y" C=a\ b"#), Kind::Env(vec![pair("A", "1", false), pair("B", "\"x y\"", false), pair("C", r"a\ b", false)]));
    assert_eq!(kind("ENV A  b c=d"), Kind::Env(vec![pair("A", "b c=d", true)]));
    assert_eq!(kind("LABEL a=1 \\\n  b=2"), Kind::Label(vec![pair("a", "1", false), pair("b", "2", false)]));
    assert_eq!(kind("LABEL \"a b\"=1"), Kind::Label(vec![pair("\"a b\"", "1", false)]));
}

#[test]
fn copies_and_lists() {
    let file = parse("FROM x\nCOPY --from=a --chown=1:2 --link --exclude=*.o --exclude=t a b /c\nADD [\"a b\", \"/c\"]");
    let copy = &file.stages[0].instructions[0];
    assert_eq!(copy.kind, Kind::Copy { sources: strings(&["a", "b"]), to: "/c".into() });
    assert_eq!((copy.flag("from"), copy.switch("link"), copy.switch("parents"), copy.flags("exclude").count()), (Some("a"), Some(true), None, 2));
    assert_eq!(file.stages[0].instructions[1].kind, Kind::Add { sources: strings(&["a b"]), to: "/c".into() });
    assert_eq!(kind("EXPOSE 80 443/udp"), Kind::Expose(strings(&["80", "443/udp"])));
    assert_eq!(kind("VOLUME /a /b"), Kind::Volume(strings(&["/a", "/b"])));
    assert_eq!(kind("VOLUME [\"/a b\"]"), Kind::Volume(strings(&["/a b"])));
    assert_eq!(kind("WORKDIR /a b"), Kind::Workdir("/a b".into()));
}

#[test]
fn triggers() {
    assert_eq!(kind("ONBUILD RUN <<E\na\nE\n"), Kind::OnBuild("RUN <<E\na\nE".into()));
    let from = &parse("FROM x").stages[0].from;
    let found = trigger("RUN <<E\na\nE", from).unwrap();
    assert_eq!((found.documents.len(), found.source.first_line), (1, 1));
    for (bad, word) in [("ONBUILD RUN x", "can't be a trigger"), ("RNU x", "unknown instruction"), ("RUN a\nRUN b", "not one"), ("FROM x", "can't be")] {
        assert!(trigger(bad, from).unwrap_err().message.contains(word), "{bad}");
    }
    refused("FROM x\nONBUILD MAINTAINER me", &["2:9", "can't be a trigger"]);
    refused("FROM x\nONBUILD COPY a", &["2:9"]);
}

#[test]
fn files_of_other_systems() {
    let file = parse("\u{feff}# escape=`\r\nFROM x\r\nRUN a `\r\n  b\r\nCOPY C:\\x \\y\r\n");
    assert_eq!(file.stages[0].instructions[0].kind, Kind::Run(shell("a   b")));
    assert_eq!(file.stages[0].instructions[1].kind, Kind::Copy { sources: strings(&["C:\\x"]), to: "\\y".into() });
}

#[test]
fn directives() {
    for good in ["docker/dockerfile:1", "docker/dockerfile:1.4-labs", "docker.io/docker/dockerfile@sha256:00", "docker/dockerfile-upstream:master"] {
        parse(&format!("# syntax={good}\nFROM x"));
    }
    refused("# syntax=me/front:1\nFROM x", &["Dockerfile:1:1", "me/front:1", "not fetched"]);
    let file = parse("# check=skip=StageNameCasing;error=true\nFROM x AS A");
    assert!(file.check(file.warnings.clone()).unwrap().is_empty() && file.check.error);
    let strict = parse("# check=error=true\nFROM x AS A");
    let message = strict.check(strict.warnings.clone()).unwrap_err().to_string();
    assert!(message.contains("Dockerfile:2: StageNameCasing") && message.contains("  2 | FROM x AS A"), "{message}");
    refused("# check=ship=x\nFROM x", &["did you mean skip?"]);
    let quiet = parse("# check=skip=all\nFROM x AS A\nRUN a \\\n\n b");
    assert!(quiet.check(quiet.warnings.clone()).unwrap().is_empty());
    assert_eq!(parse("FROM x\nMAINTAINER me\nRUN a \\\n\n b").warnings.len(), 2);
}

#[test]
fn mistakes_say_where_and_what_is_allowed() {
    refused("FROM x\n  RNU y\n", &["Dockerfile:2:3: unknown instruction \"RNU\" (did you mean RUN? there are ADD,", "  2 |   RNU y\n    |   ^^^"]);
    refused("RUN x", &["no FROM before it", "1:1"]);
    refused("", &["no instructions"]);
    refused("# x\n", &["no instructions"]);
    refused("ARG x", &["no FROM"]);
    refused("FROM x\nCOPY --form=a b c", &["2:6", "COPY has no flag --form", "did you mean from?"]);
    refused("FROM x\nUSER --x=y z", &["it has none"]);
    refused("FROM x\nCOPY --link=yes a b", &["true and false"]);
    refused("FROM x\nCOPY --from a b", &["--from needs a value"]);
    refused("FROM x\nCOPY --from=a --from=b c d", &["twice"]);
    refused("FROM x\nCOPY a", &["at least two arguments", "SOURCE"]);
    refused("FROM x\nRUN [\"a\", 1]", &["strings only"]);
    refused("FROM x\nENV A", &["no value", "2:5"]);
    refused("FROM x\nENV A=1 B", &["2:9", "\"B\" has no ="]);
    refused("FROM x\nENV =1", &["no name before ="]);
    refused("FROM x\nWORKDIR", &["WORKDIR needs arguments", "WORKDIR PATH"]);
    refused("FROM x AS 1a", &["can't be a stage's name"]);
    refused("FROM x AS", &["1:"]);
    refused("FROM x y z w", &["1:"]);
    refused("FROM x\nHEALTHCHECK FOO x", &["CMD or NONE"]);
    refused("FROM x\nSHELL /bin/sh", &["JSON"]);
    refused("FROM x\nCOPY a <<E\nx\nE\n", &["can't be the destination"]);
    refused("FROM x\nRUN <<E\nx\n", &["\"E\" has no end", "a line that is just E"]);
    refused("# escape=x\nFROM x", &["it can be"]);
    refused("FROM x\nFOO\nBAR", &["2:1", "3:1"]);
    assert!(Dockerfile::parse("d", b"FROM \xff").unwrap_err().to_string().contains("UTF-8"));
}
