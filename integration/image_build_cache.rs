//! `dhowctl build`: which steps are cached, for whom, and that the same inputs give the same image.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/site.rs"]
mod site;
mod support;

use registry::Registry;
use site::{Site, done};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};
use support::Outcome;

#[test]
fn what_is_cached_and_what_is_not() {
    needs_root!();
    let site = Site::new("cache");
    let app = site.write("app", "1");
    site.write("other", "x");
    let dockerfile = "FROM base\nARG WHO=me\nRUN echo ${WHO} > /who\nWORKDIR /app\nCOPY app .\nRUN cat app > /copy\nCMD [\"a\"]\n";
    let build = |dockerfile: &str, flags: &[&str]| {
        let outcome = site.build(dockerfile, &[flags, &["-t", "cached"]].concat());
        outcome.ok();
        (done(&outcome).iter().map(|step| step.split(' ').next().unwrap().to_string()).collect::<Vec<_>>(), outcome.ok().to_string())
    };
    let first = build(dockerfile, &[]);
    assert_eq!(first.0, ["RUN", "WORKDIR", "COPY", "RUN"]);
    let again = build(dockerfile, &[]);
    assert_eq!((again.0.len(), &again.1), (0, &first.1), "the same image");
    // Hits: another time, an unrelated file, a later CMD.
    fs::File::open(&app).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(build(dockerfile, &[]).0.is_empty());
    site.write("other", "y");
    assert!(build(dockerfile, &[]).0.is_empty());
    assert!(build(&dockerfile.replace("CMD [\"a\"]", "CMD [\"b\"]\nLABEL x=y"), &[]).0.is_empty());
    // Misses, and what follows them.
    fs::set_permissions(&app, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(build(dockerfile, &[]).0, ["COPY", "RUN"]);
    fs::write(&app, "2").unwrap();
    assert_eq!(build(dockerfile, &[]).0, ["COPY", "RUN"]);
    assert_eq!(build(dockerfile, &["--build-arg", "WHO=you"]).0, ["RUN", "WORKDIR", "COPY", "RUN"]);
    assert_eq!(build(&dockerfile.replace("cat app", "cat  app"), &[]).0, ["RUN"]);
    assert_eq!(build(&dockerfile.replace("COPY app .", "COPY app .\nENV A=b"), &[]).0, ["RUN"]);
    assert_eq!(build(dockerfile, &["--no-cache"]).0, ["RUN", "WORKDIR", "COPY", "RUN"]);
    // All of the first is still there.
    fs::set_permissions(&app, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&app, "1").unwrap();
    assert!(build(dockerfile, &[]).0.is_empty());
}

#[test]
fn the_cache_can_be_given_to_others() {
    needs_root!();
    let site = Site::new("share");
    site.write("a", "a");
    let dockerfile = "FROM base\nCOPY a /\nRUN cat /a > /b\n";
    site.build(dockerfile, &["--cache-to", "oci:shared"]).ok();
    let other = site.0.text("other");
    site.0.ctl(&["--store", &other, "build", "-t", "base", "base"]).ok();
    // The bases were made at different times: what is below the steps has to be the same.
    fs::remove_dir_all(&other).unwrap();
    let copied = dhow::image::Store::open(Path::new(&other)).unwrap();
    let entry = site.0.store().resolve("base").unwrap();
    copied.copy_image(&site.0.store(), &entry.descriptor).unwrap();
    copied.set(&entry.name, &entry.descriptor).unwrap();
    let outcome = site.0.ctl(&["--store", &other, "build", "--cache-from", "oci:shared", "ctx"]);
    outcome.ok();
    assert!(done(&outcome).is_empty(), "{}", outcome.err);
}

#[test]
fn the_same_inputs_give_the_same_image() {
    needs_root!();
    let site = Site::new("reproducible");
    site.write("a", "a");
    let dockerfile = "FROM base\nCOPY a /d/\nRUN echo x > /x\nWORKDIR /w\n";
    let build = || site.build(dockerfile, &["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"]).ok().to_string();
    let first = build();
    // Another second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(first, build());
}

/// What the table's builds begin with: an ARG, an ENV, files of all kinds, mounts.
const TABLE: &str = "FROM base\nARG WHO=me\nENV LANG=C\nRUN echo ${WHO} > /who\nWORKDIR /app\nCOPY app link .\nCOPY dir /dir/\nRUN cat app > /copy\n\
    RUN --mount=type=bind,source=bound,target=/bound cat /bound/b > /b\nCOPY --link app /linked\nCMD [\"a\"]\n";

/// A change, undone when the row is through, and the instructions that are done because of it.
struct Row {
    what: &'static str,
    change: fn(&Site),
    dockerfile: fn(String) -> String,
    flags: &'static [&'static str],
    done: &'static [&'static str],
}

const NOTHING: fn(&Site) = |_| ();
const SAME: fn(String) -> String = |text| text;
/// Steps that do something.
const ALL: usize = 7;
const FROM_APP: &[&str] = &["COPY app", "COPY dir", "RUN cat", "RUN --mount", "COPY --link"];
const FROM_DIR: &[&str] = &["COPY dir", "RUN cat", "RUN --mount"];
/// What `COPY --link` puts down doesn't depend on what is below.
const WITHOUT_LINK: &[&str] = &["RUN echo", "WORKDIR", "COPY app", "COPY dir", "RUN cat", "RUN --mount"];

fn ctx(site: &Site, path: &str) -> std::path::PathBuf {
    site.0.path("ctx").join(path)
}

/// As BuildKit has it: each row was looked up in its reference or follows from the key that its docs describe.
const ROWS: &[Row] = &[
    // Hits.
    Row { what: "nothing", change: NOTHING, dockerfile: SAME, flags: &[], done: &[] },
    Row {
        what: "times of files and directories",
        change: |site| {
            for path in ["app", "dir", "dir/one", "bound"] {
                fs::File::open(ctx(site, path)).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(77)).unwrap();
            }
        },
        dockerfile: SAME,
        flags: &[],
        done: &[],
    },
    Row { what: "another owner", change: |site| chown(ctx(site, "app"), Some(1234), Some(1234)).unwrap(), dockerfile: SAME, flags: &[], done: &[] },
    Row { what: "a file that nothing takes", change: |site| drop(site.write("other", "y")), dockerfile: SAME, flags: &[], done: &[] },
    Row { what: "an ignored file", change: |site| drop(site.write("dir/x.log", "y")), dockerfile: SAME, flags: &[], done: &[] },
    Row {
        what: "the ignore file, without effect",
        change: |site| drop(site.write(".dockerignore", "# why\n**/*.log\nnone\n")),
        dockerfile: SAME,
        flags: &[],
        done: &[],
    },
    Row {
        what: "the same content anew",
        change: |site| {
            fs::remove_file(ctx(site, "app")).unwrap();
            site.write("app", "1");
        },
        dockerfile: SAME,
        flags: &[],
        done: &[],
    },
    Row { what: "a later CMD", change: NOTHING, dockerfile: |text| text.replace("[\"a\"]", "[\"b\"]"), flags: &[], done: &[] },
    Row {
        what: "metadata in between",
        change: NOTHING,
        dockerfile: |text| text.replace("WORKDIR", "LABEL a=b\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL INT\nWORKDIR"),
        flags: &[],
        done: &[],
    },
    Row { what: "comments and empty lines", change: NOTHING, dockerfile: |text| text.replace("RUN", "# why\n\nRUN"), flags: &[], done: &[] },
    Row { what: "small letters, blanks behind the keyword", change: NOTHING, dockerfile: |text| text.replace("RUN cat", "run   cat"), flags: &[], done: &[] },
    Row {
        what: "a line in two, with the same text",
        change: NOTHING,
        dockerfile: |text| text.replace("RUN cat app", "RUN cat \\\napp"),
        flags: &[],
        done: &[],
    },
    Row {
        what: "an ARG that is declared later",
        change: NOTHING,
        dockerfile: |text| text.replace("CMD", "ARG LATER=1\nCMD"),
        flags: &["--build-arg", "LATER=2"],
        done: &[],
    },
    Row { what: "an ARG that nobody declares", change: NOTHING, dockerfile: SAME, flags: &["--build-arg", "NOBODY=1"], done: &[] },
    Row { what: "a proxy", change: NOTHING, dockerfile: SAME, flags: &["--build-arg", "HTTP_PROXY=http://127.0.0.1:9"], done: &[] },
    Row { what: "the ARG's default, given", change: NOTHING, dockerfile: SAME, flags: &["--build-arg", "WHO=me"], done: &[] },
    Row { what: "a label, a name", change: NOTHING, dockerfile: SAME, flags: &["--label", "a=b", "-t", "other"], done: &[] },
    Row { what: "a stage that nobody needs", change: NOTHING, dockerfile: |text| format!("FROM base AS spare\nRUN exit 1\n{text}"), flags: &[], done: &[] },
    // Misses.
    Row { what: "the ARG's value", change: NOTHING, dockerfile: SAME, flags: &["--build-arg", "WHO=you"], done: WITHOUT_LINK },
    Row { what: "another ARG, used or not", change: NOTHING, dockerfile: |text| text.replace("ENV", "ARG MORE=1\nENV"), flags: &[], done: WITHOUT_LINK },
    Row { what: "ENV", change: NOTHING, dockerfile: |text| text.replace("LANG=C", "LANG=D"), flags: &[], done: WITHOUT_LINK },
    Row { what: "USER", change: NOTHING, dockerfile: |text| text.replace("ENV", "USER 0\nENV"), flags: &[], done: WITHOUT_LINK },
    Row {
        what: "SHELL",
        change: NOTHING,
        dockerfile: |text| text.replace("RUN cat", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN cat"),
        flags: &[],
        done: &["RUN cat", "RUN --mount"],
    },
    Row { what: "white space in RUN", change: NOTHING, dockerfile: |text| text.replace("cat app", "cat  app"), flags: &[], done: &["RUN cat", "RUN --mount"] },
    Row {
        what: "WORKDIR",
        change: NOTHING,
        dockerfile: |text| text.replace("/app", "/app2"),
        flags: &[],
        done: &["WORKDIR", "COPY app", "COPY dir", "RUN cat", "RUN --mount"],
    },
    Row { what: "the network", change: NOTHING, dockerfile: SAME, flags: &["--network", "none"], done: WITHOUT_LINK },
    Row { what: "content", change: |site| drop(site.write("app", "2")), dockerfile: SAME, flags: &[], done: FROM_APP },
    Row {
        what: "the mode",
        change: |site| fs::set_permissions(ctx(site, "app"), fs::Permissions::from_mode(0o755)).unwrap(),
        dockerfile: SAME,
        flags: &[],
        done: FROM_APP,
    },
    Row {
        what: "an extended attribute",
        change: |site| dhow::sys::fs::set_xattr(fs::File::open(ctx(site, "app")).unwrap().as_fd(), c"user.a", b"b").unwrap(),
        dockerfile: SAME,
        flags: &[],
        done: FROM_APP,
    },
    Row {
        what: "where a symlink leads",
        change: |site| {
            fs::remove_file(ctx(site, "dir/to")).unwrap();
            symlink("two", ctx(site, "dir/to")).unwrap();
        },
        dockerfile: SAME,
        flags: &[],
        done: FROM_DIR,
    },
    Row { what: "a new file in a directory", change: |site| drop(site.write("dir/new", "")), dockerfile: SAME, flags: &[], done: FROM_DIR },
    Row { what: "a file less", change: |site| fs::remove_file(ctx(site, "dir/one")).unwrap(), dockerfile: SAME, flags: &[], done: FROM_DIR },
    Row { what: "a file's name", change: |site| fs::rename(ctx(site, "dir/one"), ctx(site, "dir/uno")).unwrap(), dockerfile: SAME, flags: &[], done: FROM_DIR },
    Row {
        what: "the mode of a directory",
        change: |site| fs::set_permissions(ctx(site, "dir"), fs::Permissions::from_mode(0o700)).unwrap(),
        dockerfile: SAME,
        flags: &[],
        done: FROM_DIR,
    },
    Row { what: "a file in a mounted directory", change: |site| drop(site.write("bound/b", "2")), dockerfile: SAME, flags: &[], done: &["RUN --mount"] },
    Row {
        what: "an owner that is asked for",
        change: NOTHING,
        dockerfile: |text| text.replace("COPY app", "COPY --chown=33 app"),
        flags: &[],
        done: FROM_LINK_CHOWN,
    },
];

const FROM_LINK_CHOWN: &[&str] = &["COPY --chown", "COPY dir", "RUN cat", "RUN --mount"];

/// The first two words of what was done.
fn begins(outcome: &Outcome) -> Vec<String> {
    done(outcome).iter().map(|step| step.split(' ').take(2).collect::<Vec<_>>().join(" ").split('=').next().unwrap_or_default().to_string()).collect()
}

#[test]
fn hits_and_misses() {
    needs_root!();
    let site = Site::new("table");
    let lay_out = |site: &Site| {
        fs::remove_dir_all(site.0.path("ctx")).unwrap();
        for (path, content) in
            [("app", "1"), ("dir/one", "1"), ("dir/two", "2"), ("dir/x.log", "x"), ("bound/b", "1"), ("other", "x"), (".dockerignore", "**/*.log\n")]
        {
            site.write(path, content);
        }
        for dir in ["dir", "bound"] {
            fs::set_permissions(ctx(site, dir), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("one", ctx(site, "dir/to")).unwrap();
        symlink("app", ctx(site, "link")).unwrap();
    };
    lay_out(&site);
    let first = site.build(TABLE, &[]);
    first.ok();
    assert_eq!(begins(&first).len(), ALL, "{}", first.err);
    for row in ROWS {
        lay_out(&site);
        (row.change)(&site);
        let outcome = site.build(&(row.dockerfile)(TABLE.into()), row.flags);
        assert_eq!(outcome.code, 0, "{}: {}", row.what, outcome.err);
        let wanted = |step: &String| row.done.iter().any(|begin| step.starts_with(begin.split(' ').next().unwrap_or_default()));
        let found = begins(&outcome);
        let same = found.len() == row.done.len() && found.iter().zip(row.done).all(|(found, wanted)| found.starts_with(wanted));
        assert!(same && found.iter().all(wanted), "{}: {found:?} instead of {:?}\n{}", row.what, row.done, outcome.err);
    }
    lay_out(&site);
    let last = site.build(TABLE, &[]);
    assert_eq!((last.ok(), begins(&last).len()), (first.ok(), 0), "what was there at first is still there");
    assert_eq!(begins(&site.build(TABLE, &["--no-cache"])).len(), ALL);
}

/// A cache in a registry and in a layout, used by a store that has never built anything.
#[test]
fn a_registry_keeps_the_cache_for_others() {
    needs_root!();
    let site = Site::new("remote-cache");
    let registry = Registry::plain(&site.0);
    let place = registry.name("team/cache:main");
    site.write("a", "a");
    site.write("secret", "hush-hush-2");
    let dockerfile = "FROM base AS one\nRUN --mount=type=secret,id=s cat /run/secrets/s > /dev/null && echo 1 > /one\nFROM base\nCOPY a /\nCOPY --from=one /one /\nRUN cat /a > /b\n";
    let flags = ["--secret", "id=s,src=ctx/secret"];
    let first = site.build(dockerfile, &[&flags[..], &["--cache-to", &place, "--cache-to", "oci:layout"]].concat());
    first.ok();
    let found = std::process::Command::new("grep").args(["-r", "-l", "hush-hush-2"]).args([site.0.path("layout"), site.0.path("registry.0")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret is in no cache");
    for from in [place.as_str(), "oci:layout"] {
        let other = site.0.text("other");
        let _ = fs::remove_dir_all(&other);
        let store = dhow::image::Store::open(Path::new(&other)).unwrap();
        let entry = site.0.store().resolve("base").unwrap();
        store.copy_image(&site.0.store(), &entry.descriptor).unwrap();
        store.set(&entry.name, &entry.descriptor).unwrap();
        let fetched = site.0.ctl(&[&["--store", &other, "build", "--cache-from", from], &flags[..], &["ctx"]].concat());
        assert_eq!(fetched.ok(), first.ok(), "{from}: the same image");
        assert!(begins(&fetched).is_empty(), "{from}: {}", fetched.err);
        let listed = site.0.ctl(&["--store", &other, "images"]);
        assert!(!listed.ok().contains("cache"), "{from}: a cache is no image: {}", listed.out);
        // What came over is complete: without the cache's place it is found again, and the image is whole.
        let again = site.0.ctl(&[&["--store", &other, "build", "-t", "again"], &flags[..], &["ctx"]].concat());
        again.ok();
        assert!(begins(&again).is_empty(), "{}", again.err);
        assert_eq!(site.0.ctl(&["--store", &other, "run", "--no-tty", "again", "/bin/cat", "/b"]).ok(), "a");
        site.0.ctl(&["--store", &other, "verify"]).ok();
    }
    // One that isn't there costs time only.
    for from in [registry.name("team/none:x"), "oci:none".into(), registry.name("team/cache@sha256:00")] {
        let outcome = site.build(dockerfile, &[&flags[..], &["--cache-from", &from]].concat());
        if from.contains('@') {
            outcome.code(1);
        } else {
            assert!(outcome.succeeds().err.contains("cache"), "{from}");
        }
    }
}

/// In fresh stores, on other days, with other times and another order of the files on disk.
#[test]
fn source_date_epoch_makes_the_same_image_anywhere() {
    needs_root!();
    let site = Site::new("anywhere");
    let names = ["z", "a", "m", "dir/z", "dir/a", "dir/sub/x"];
    let dockerfile = "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
        COPY . /all/\nRUN mkdir -p /made/b /made/a && echo 1 > /made/a/1 && ln /made/a/1 /made/b/2 && ln -s nowhere /made/link && mkfifo /made/fifo && rm /all/z\n\
        WORKDIR /w\nADD archive.tar /added/\nCOPY --link <<E /doc\ntext\nE\nCMD [\"x\"]\n";
    let mut digests = Vec::new();
    for round in 0..2 {
        let context = site.0.path(&format!("context.{round}"));
        fs::create_dir_all(context.join("dir/sub")).unwrap();
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        fs::copy(site.0.path("base/busybox"), context.join("busybox")).unwrap();
        fs::write(context.join("archive.tar"), ctl::tar("in", b"inside")).unwrap();
        let mut order = names.to_vec();
        if round == 1 {
            order.reverse();
            std::thread::sleep(Duration::from_millis(1100));
        }
        order.iter().for_each(|name| fs::write(context.join(name), name).unwrap());
        let store = site.0.text(&format!("store.{round}"));
        let layout = format!("oci:image.{round}:x");
        let mut command = site.0.ctl_command(&["--store", &store, "build", "-t", "epoch", "-o", &layout, &format!("context.{round}")]);
        command.env("SOURCE_DATE_EPOCH", "1000000000");
        let outcome = site.0.spawn(command).finish();
        digests.push(outcome.ok().to_string());
        let config = site.0.tool("skopeo", &["inspect", "--config", &layout]);
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["created"], "2001-09-09T01:46:40Z");
        assert!(config["history"].as_array().unwrap().iter().all(|line| line["created"] == "2001-09-09T01:46:40Z"), "{config}");
    }
    assert_eq!(digests[0], digests[1]);
    site.build("FROM base\nRUN true\n", &["--build-arg", "SOURCE_DATE_EPOCH=yesterday"]).fails(1, &["SOURCE_DATE_EPOCH", "yesterday"]);
}
