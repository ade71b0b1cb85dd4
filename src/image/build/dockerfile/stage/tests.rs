use super::super::outline::outline;
use super::*;
use crate::image::build::plan::{Chmod, Copy, CopySource, Inline, Network, Outline, Run};
use crate::image::model::ImageConfig;
use crate::image::platform::Platform;
use std::collections::BTreeMap;

fn inputs(args: &[(&str, &str)]) -> Inputs {
    let linux = "linux/amd64".parse::<Platform>().unwrap();
    let args = args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<BTreeMap<_, _>>();
    Inputs { args, target: None, build_platform: linux.clone(), target_platform: linux, contexts: BTreeSet::new() }
}

fn file(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

/// The only stage, from scratch.
fn plan_with(text: &str, args: &[(&str, &str)]) -> StagePlan {
    plan_stage(&file(text), &inputs(args), 0, State::scratch()).unwrap_or_else(|e| panic!("{e}"))
}

fn plan(text: &str) -> StagePlan {
    plan_with(&format!("FROM scratch\n{text}"), &[])
}

fn run(step: &Step) -> &Run {
    match &step.action {
        Action::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn copy(text: &str) -> Copy {
    match plan(text).steps.pop().unwrap().action {
        Action::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn outlined(text: &str, change: impl FnOnce(&mut Inputs)) -> Outline {
    let mut inputs = inputs(&[]);
    change(&mut inputs);
    outline(&file(text), &inputs).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let file = file(&format!("FROM scratch AS first\n{text}"));
    let inputs = inputs(&[]);
    let message = outline(&file, &inputs).and_then(|_| plan_stage(&file, &inputs, 0, State::scratch())).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{text:?}: {message}");
    }
}

fn history(plan: &StagePlan) -> Vec<&str> {
    plan.steps.iter().filter_map(|step| step.history.as_deref()).collect()
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn run_has_what_it_depends_on() {
    let plan = plan_with(
        "FROM scratch\nARG A=1 B C=x\nENV D=\"$A $C\" C=y\nWORKDIR /w\nWORKDIR sub/..\nUSER me:us\nRUN --network=none echo $D",
        &[("B", "b"), ("http_proxy", "p")],
    );
    let run = run(plan.steps.last().unwrap());
    assert_eq!(run.args, ["/bin/sh", "-c", "echo $D"]);
    assert_eq!(run.env, [DEFAULT_PATH, "A=1", "B=b", "D=1 x", "C=y"]);
    assert_eq!(run.proxies, ["HTTP_PROXY=p", "http_proxy=p"]);
    assert_eq!((run.cwd.as_str(), run.user.as_str(), run.network), ("/w", "me:us", Network::None));
    assert_eq!(
        history(&plan),
        ["ARG A=1 B=b C=x", "ENV D=1 x C=y", "WORKDIR /w", "WORKDIR /w", "USER me:us", "RUN |3 A=1 B=b C=y /bin/sh -c echo $D # buildkit"]
    );
    assert_eq!(plan.end.config.env, [DEFAULT_PATH, "D=1 x", "C=y"]);
    assert_eq!(plan.steps.last().unwrap().title, "RUN --network=none echo 1 x");
}

#[test]
fn the_same_run_whatever_comes_after() {
    let (one, other) = (plan("RUN a\nCMD b"), plan("RUN a\nLABEL x=y\nEXPOSE 80"));
    assert_eq!(one.steps[0].action, other.steps[0].action);
}

#[test]
fn here_documents_of_run() {
    let steps = plan("SHELL [\"/bin/bash\", \"-c\"]\nRUN <<EOF\na\nb\nEOF\nRUN <<X\n#!/bin/x\ny\nX\nRUN cat <<-1 <<2\n\t1a\n\t1\n2a\n2\n").steps;
    assert_eq!(run(&steps[1]).args, ["/bin/bash", "-c", "a\nb\n"]);
    assert_eq!(steps[1].title, "RUN <<EOF (a...)");
    assert_eq!(
        (&run(&steps[2]).args[2], &run(&steps[2]).script),
        (&"/dev/pipes/X".to_string(), &Some(Inline { name: "X".into(), data: "#!/bin/x\ny\n".into() }))
    );
    assert_eq!(run(&steps[3]).args[2], "cat <<-1 <<2\n\t1a\n1\n2a\n2");
}

#[test]
fn secrets_are_not_shown() {
    let plan = plan("ENV T=1\nRUN --mount=type=secret,id=t,env=T curl $T");
    assert_eq!(plan.steps[1].title, "RUN --mount=type=secret,id=t,env=T curl ****");
}

#[test]
fn what_is_copied() {
    let found = copy("WORKDIR /w\nENV D=dir\nCOPY --chown=$D:1 --chmod=0640 --link --exclude=*.o a* $D/../b ./");
    assert_eq!((found.to.as_str(), found.chown.as_str(), found.chmod, found.link), ("/w/", "dir:1", Some(Chmod::Mode(0o640)), true));
    assert_eq!(found.exclude, ["*.o"]);
    let context = |base: &str, pattern: &str, unpack| CopySource::Files { from: Origin::Context, base: base.into(), pattern: pattern.into(), unpack };
    assert_eq!(found.sources, [context("/", "/a*", false), context("/", "/b", false)]);
    assert_eq!(copy("COPY --parents a/./b/c d/e /x").sources, [context("/a", "/b/c", false), context("/", "/d/e", false)]);
    assert_eq!(copy("ADD ../../x.tar y").sources, [context("/", "/x.tar", true)]);
    assert_eq!(copy("ADD --unpack=false x.tar y").sources, [context("/", "/x.tar", false)]);
    assert_eq!(copy("COPY --chmod=u=rwX,go= a b").chmod, Some(Chmod::Symbolic("u=rwX,go=".into())));
    let text = "ENV X=1\nCOPY <<a <<'b' /d/\n$X \"it's\" \\$X\na\n$X\nb\n";
    let inline = |name: &str, data: &str| CopySource::Inline(Inline { name: name.into(), data: data.into() });
    assert_eq!(copy(text).sources, [inline("a", "1 \"it's\" $X\n"), inline("b", "$X\n")]);
    assert_eq!(history(&plan(text))[1], "COPY <<a <<b /d/ # buildkit");
}

#[test]
fn the_web_and_git() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let http = |url: &str, name: &str, checksum: Option<&str>, unpack| CopySource::Http {
        url: url.into(),
        name: name.into(),
        checksum: checksum.map(|d| d.parse().unwrap()),
        unpack,
    };
    assert_eq!(copy(&format!("ADD --checksum={digest} https://h/a/b.tgz?x=/y /d/")).sources, [http("https://h/a/b.tgz?x=/y", "b.tgz", Some(digest), false)]);
    assert_eq!(copy("ADD --unpack http://h/ /d/").sources, [http("http://h/", "__unnamed__", None, true)]);
    let CopySource::Git(git) = copy("ADD --keep-git-dir https://h/a.git#v1:sub /d").sources.remove(0) else { panic!() };
    assert_eq!((git.remote.as_str(), git.reference.as_str(), git.subdir.as_str(), git.keep_git_dir), ("https://h/a.git", "v1", "sub", true));
    refused("COPY https://h/a /d", &["use ADD"]);
    refused("COPY git@h:a /d", &["use ADD"]);
    refused("ADD --checksum=sha256:00 https://h/a /d", &["--checksum"]);
    refused(&format!("ADD --checksum={digest} a /d"), &["on the web"]);
    refused(&format!("ADD --checksum={digest} https://h/a https://h/b /d/"), &["several"]);
}

#[test]
fn the_image_s_config() {
    let plan = plan(
        "MAINTAINER me\nLABEL a=\"x y\" b=$PATH\nEXPOSE 443 80-81/udp\nVOLUME /v /w\nSTOPSIGNAL SIGQUIT\nSHELL [\"/s\", \"-c\"]\nCMD run it\nENTRYPOINT [\"e\"]\n\
         HEALTHCHECK --interval=1m30s --retries=3 CMD ok\nONBUILD RUN x\nONBUILD COPY --from=first a b",
    );
    let config = &plan.end.config;
    assert_eq!(plan.end.author, "me");
    assert_eq!(config.labels["a"], "x y");
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["443/tcp", "80/udp", "81/udp"]);
    assert_eq!((config.cmd.as_slice(), config.entrypoint.as_slice()), (["/s", "-c", "run it"].map(String::from).as_slice(), ["e".to_string()].as_slice()));
    assert_eq!(config.on_build, ["RUN x", "COPY --from=first a b"]);
    let health = config.healthcheck.as_ref().unwrap();
    assert_eq!((health.test.as_slice(), health.interval, health.retries), (["CMD-SHELL", "ok"].map(String::from).as_slice(), 90_000_000_000, 3));
    assert_eq!(
        history(&plan)[2..],
        [
            "EXPOSE [443/tcp 80/udp 81/udp]",
            "VOLUME [/v /w]",
            "STOPSIGNAL SIGQUIT",
            "SHELL [/s -c]",
            "CMD [\"/s\" \"-c\" \"run it\"]",
            "ENTRYPOINT [\"e\"]",
            "HEALTHCHECK {Test:[CMD-SHELL ok] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}"
        ]
    );
    assert!(plan.steps.iter().all(|step| step.action == Action::Config));
}

const BASE: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"User":"7","Env":["X=base","PATH=/bin"],
    "Cmd":["base"],"WorkingDir":"/base","Shell":["/b","-c"],"OnBuild":["ARG Y=1","RUN t $Y","COPY --from=tools /a /b"]}}"#;

#[test]
fn what_the_base_says() {
    let text = "FROM x AS tools\nFROM img\nENV Z=$X\nENTRYPOINT [\"e\"]\nWORKDIR d";
    let base = State::of_image(&ImageConfig::parse(BASE.as_bytes()).unwrap());
    let plan = plan_stage(&file(text), &inputs(&[]), 1, base).unwrap();
    assert_eq!(plan.steps[1].source.onbuild.as_deref(), Some("RUN t $Y"));
    assert_eq!((plan.steps[1].source.first_line, run(&plan.steps[1]).args.as_slice()), (2, ["/b", "-c", "t $Y"].map(String::from).as_slice()));
    assert_eq!(run(&plan.steps[1]).env, ["X=base", "PATH=/bin", "Y=1"]);
    assert_eq!(plan.needs().into_iter().collect::<Vec<_>>(), [Origin::Stage(0)]);
    assert_eq!(plan.steps.last().unwrap().action, Action::MakeDir(MakeDir { path: "/base/d".into(), user: "7".into() }));
    let config = &plan.end.config;
    assert_eq!((config.env.as_slice(), config.cmd.len(), config.on_build.len()), (["X=base", "PATH=/bin", "Z=base"].map(String::from).as_slice(), 0, 0));
    let outline = outline(&file(text), &inputs(&[])).unwrap();
    assert_eq!((outline.stages.len(), outline.spare[0].name.as_str()), (1, "tools"));
}

#[test]
fn a_stage_of_a_stage() {
    let text = "ARG G=g\nFROM scratch AS a\nARG X=1 G\nENV E=e\nCMD c\nONBUILD RUN t\nFROM a\nRUN r";
    let (file, inputs) = (file(text), inputs(&[]));
    let first = plan_stage(&file, &inputs, 0, State::scratch()).unwrap();
    let second = plan_stage(&file, &inputs, 1, first.end).unwrap();
    assert_eq!(run(&second.steps[1]).env, ["X=1", "G=g", DEFAULT_PATH, "E=e"]);
    assert_eq!(history(&second), ["RUN |2 X=1 G=g /bin/sh -c t # buildkit", "RUN |2 X=1 G=g /bin/sh -c r # buildkit"]);
    assert_eq!(second.end.config.cmd, ["/bin/sh", "-c", "c"]);
}

#[test]
fn which_args_there_are() {
    let env = |text: &str, args: &[(&str, &str)]| run(plan_with(text, args).steps.last().unwrap()).env[1..].join(" ");
    let global = "ARG V=1\nARG W=${V}2\nFROM scratch\n";
    assert_eq!(env(&format!("{global}RUN x"), &[]), "");
    assert_eq!(env(&format!("{global}ARG V W U\nRUN x"), &[]), "V=1 W=12");
    assert_eq!(env(&format!("{global}ARG V=own W\nRUN x"), &[("W", "given")]), "V=own W=given");
    assert_eq!(env(&format!("{global}ARG W\nRUN x"), &[("V", "9")]), "W=92");
    assert_eq!(
        env("FROM scratch\nARG TARGETPLATFORM TARGETARCH BUILDOS TARGETSTAGE\nRUN x", &[]),
        "TARGETPLATFORM=linux/amd64 TARGETARCH=amd64 BUILDOS=linux TARGETSTAGE=default"
    );
    assert_eq!(env("FROM scratch\nARG A=1 B=$A\nENV A=2\nRUN x", &[]), "B=1 A=2");
    assert_eq!(env("FROM scratch\nARG HTTP_PROXY\nRUN x", &[("HTTP_PROXY", "p")]), "HTTP_PROXY=p");
}

#[test]
fn which_stages_are_needed() {
    let text = "FROM a AS one\nFROM b AS two\nRUN x\nFROM one AS three\nCOPY --from=two a b\nFROM c AS four\nRUN --mount=from=one,target=/m x\nCOPY --from=img:1 a b\nCOPY --from=1 a b";
    let stages = |target: &str| outlined(text, |i| i.target = Some(target.into())).stages.iter().map(|s| s.index).collect::<Vec<_>>();
    assert_eq!(stages("four"), [0, 1, 3]);
    assert_eq!(stages("THREE"), [0, 1, 2]);
    assert_eq!(stages("1"), [1]);
    let last = outlined(text, |_| {}).stages.pop().unwrap();
    assert_eq!(last.needs.into_iter().collect::<Vec<_>>(), [Origin::Stage(0), Origin::Stage(1), Origin::Image("img:1".into())]);
    let message = outline(&file(text), &Inputs { target: Some("fuor".into()), ..inputs(&[]) }).unwrap_err().to_string();
    assert!(message.contains("did you mean four?"), "{message}");
}

#[test]
fn bases_and_platforms() {
    let text = "ARG TAG=12 P=linux/arm64\nFROM --platform=$P debian:$TAG AS a\nFROM a\nFROM --platform=$BUILDPLATFORM scratch";
    let found = outlined(text, |i| i.target_platform = "linux/riscv64".parse().unwrap());
    let all: Vec<_> = found.spare.iter().chain(&found.stages).map(|s| (s.base.clone(), s.platform.to_string())).collect();
    let image = Origin::Image("debian:12".into());
    assert_eq!(all, [(image, "linux/arm64".into()), (Origin::Stage(0), "linux/arm64".into()), (Origin::Scratch, "linux/amd64".into())]);
    let replaced = outlined("FROM debian AS a\nRUN x\nFROM alpine:3\nCOPY --from=src / /\nCOPY --from=a / /", |i| {
        i.contexts = ["a", "src", "docker.io/library/alpine:3"].map(String::from).into();
    });
    // What is given for a stage is taken from as it is: it may be a directory.
    assert_eq!((replaced.spare[0].index, replaced.stages.len()), (0, 1));
    assert_eq!(replaced.stages[0].base, Origin::Named("docker.io/library/alpine:3".into()));
    assert_eq!(replaced.stages[0].needs, ["a", "src"].map(|name| Origin::Named(name.into())).into());
    assert_eq!(outlined("FROM x", |i| drop(i.args.insert("SOURCE_DATE_EPOCH".into(), "7".into()))).epoch, Some(7));
}

#[test]
fn warnings() {
    let rules = |text: &str| plan(text).warnings.iter().map(|w| w.rule).collect::<Vec<_>>();
    assert_eq!(rules("ENV A=$NOPE"), ["UndefinedVar"]);
    assert_eq!(rules("ARG NOPE\nENV A=$NOPE"), [""; 0]);
    assert_eq!(rules("CMD a\nCMD [\"b\"]"), ["JSONArgsRecommended", "MultipleInstructionsDisallowed"]);
    assert_eq!(rules("WORKDIR a\nWORKDIR b"), ["WorkdirRelativePath"]);
    assert_eq!(rules("ENV A b\nENV API_TOKEN=x PUBLIC_KEY=y"), ["LegacyKeyValueFormat", "SecretsUsedInArgOrEnv"]);
    assert_eq!(outlined("FROM debian$X", |_| {}).warnings[0].rule, "UndefinedArgInFrom");
    assert_eq!(outlined("FROM x", |i| drop(i.args.insert("A".into(), "b".into()))).warnings[0].rule, "UnusedBuildArg");
    assert!(outlined("# check=skip=UndefinedArgInFrom\nFROM debian$X", |_| {}).warnings.is_empty());
}

#[test]
fn mistakes() {
    for (text, words) in [
        ("COPY --from=first a b", &["can't be used here", "it is this stage itself", "2:1"][..]),
        ("COPY --from=later a b\nFROM x AS later", &["it comes later"]),
        ("COPY --from=7 a b", &["there is no stage 7"]),
        ("COPY --from=0 a b", &["itself"]),
        ("COPY --from=$X a b", &["not expanded"]),
        ("COPY --from=Frist a b", &["did you mean the stage first?"]),
        ("COPY --chmod=9 a b", &["octal"]),
        ("COPY --chmod=u+q a b", &["--chmod"]),
        ("RUN --mount=type=bnd,target=/a x", &["did you mean bind?", "2:1"]),
        ("RUN --network=bridge x", &["default, none and host"]),
        ("RUN --security=insecure x", &["not supported"]),
        ("EXPOSE 99999", &["65535"]),
        ("STOPSIGNAL nope", &["no signal"]),
        ("HEALTHCHECK --interval=5 CMD x", &["--interval", "1m30s"]),
        ("HEALTHCHECK --retries=x CMD x", &["--retries"]),
        ("HEALTHCHECK --retries=2147483648 CMD x", &["--retries"]),
        ("ENV A=${B", &["} is missing"]),
        ("ENV A=\"b", &["no end"]),
        ("USER ${U:?who are you}", &["U: who are you"]),
        ("WORKDIR $NONE", &["WORKDIR is empty"]),
        ("VOLUME $NONE", &["empty"]),
        ("COPY <<a/b /d\na/b\n", &["can't have a slash"]),
    ] {
        refused(text, words);
    }
    let empty = outline(&file("FROM $X"), &inputs(&[])).unwrap_err().to_string();
    assert!(empty.contains("which is empty"), "{empty}");
    let unset = outline(&file("FROM debian:$X"), &inputs(&[])).unwrap_err().to_string();
    assert!(unset.contains("$X is not set"), "{unset}");
    let platform = outline(&file("FROM --platform=x y"), &inputs(&[])).unwrap_err().to_string();
    assert!(platform.contains("platform"), "{platform}");
}
