//! `dhowctl build`: what each instruction leaves.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/site.rs"]
mod site;
mod support;

use ctl::gzip;
use fake::{Fake, Reply};
use site::{GitDaemon, Site, done, owner, text};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

#[test]
fn run_writes_what_it_writes_and_nothing_else() {
    needs_root!();
    let site = Site::new("run");
    let root = site.root(
        "FROM base\nENV GREETING=hello\nRUN echo $GREETING > /out && rm /etc/group && mkdir /d && ln /out /d/link && chmod 4755 /d\nUSER web\nRUN id -u > /tmp/id\n",
        &["-t", "made"],
    );
    assert_eq!(text(&root.join("out")), "hello\n");
    assert_eq!(text(&root.join("tmp/id")), "33\n");
    assert_eq!(owner(&root.join("d")), (0, 0, 0o4755));
    assert_eq!(fs::metadata(root.join("out")).unwrap().nlink(), 2);
    for absent in ["etc/group", "etc/resolv.conf", "etc/hosts", "proc", "sys", "dev"] {
        assert!(!root.join(absent).exists(), "{absent}");
    }
    assert_eq!(site.0.ctl(&["run", "--no-tty", "made", "/bin/cat", "/out"]).ok(), "hello");
    site.0.assert_sound();
    site.assert_nothing_left();
}

#[test]
fn run_has_docker_s_capabilities_seccomp_and_masks() {
    needs_root!();
    let site = Site::new("confined");
    let root = site.root("FROM base\nRUN grep -E 'CapEff|Seccomp:' /proc/self/status > /s; cat /proc/interrupts > /k 2>&1; (echo x > /proc/sys/kernel/domainname) 2> /p || true\n", &[]);
    let status = text(&root.join("s"));
    assert!(status.contains("00000000a80425fb") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(text(&root.join("k")), "");
    assert!(text(&root.join("p")).contains("Read-only"), "{}", text(&root.join("p")));
}

#[test]
fn the_network_is_the_host_s_or_none() {
    needs_root!();
    let site = Site::new("network");
    let root = site.root("FROM base\nRUN ls /sys/class/net | wc -l > /a\nRUN --network=none ls /sys/class/net > /b\n", &[]);
    assert_eq!(text(&root.join("b")).split_whitespace().collect::<Vec<_>>(), ["lo"]);
    let host = fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(text(&root.join("a")).trim(), host.to_string());
    let root = site.root("FROM base\nRUN ls /sys/class/net > /c\n", &["--network", "none"]);
    assert_eq!(text(&root.join("c")).split_whitespace().collect::<Vec<_>>(), ["lo"]);
}

#[test]
fn copy_follows_docker_s_rules() {
    needs_root!();
    let site = Site::new("copy");
    site.write("a.txt", "a");
    site.write("b.txt", "b");
    let deep = site.write("dir/deep/c.txt", "c");
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&deep, Some(1234), Some(1234)).unwrap();
    symlink("c.txt", site.0.path("ctx/dir/deep/link")).unwrap();
    let root = site.root(
        "FROM base\nWORKDIR /work\nCOPY a.txt .\nCOPY a.txt named\nCOPY *.txt many/\nCOPY dir /contents\nCOPY --chown=web:www --chmod=750 dir/deep /owned\n\
         COPY --chown=7 a.txt /number\nCOPY --parents dir/deep/c.txt /parents/\nCOPY --exclude=*.txt dir/deep /excluded/\nCOPY --chmod=u=rwX,go=X dir /symbolic\n\
         COPY <<END /here/doc\ntext\nEND\nCOPY --link a.txt /linked/a\n",
        &[],
    );
    for (path, content) in [
        ("work/a.txt", "a"),
        ("work/named", "a"),
        ("work/many/b.txt", "b"),
        ("contents/deep/c.txt", "c"),
        ("parents/dir/deep/c.txt", "c"),
        ("here/doc", "text\n"),
        ("linked/a", "a"),
    ] {
        assert_eq!(text(&root.join(path)), content, "{path}");
    }
    assert_eq!(owner(&root.join("contents/deep/c.txt")), (0, 0, 0o640));
    assert_eq!(fs::read_link(root.join("contents/deep/link")).unwrap(), Path::new("c.txt"));
    assert_eq!(owner(&root.join("owned")), (33, 34, 0o750));
    assert_eq!(owner(&root.join("owned/c.txt")), (33, 34, 0o750));
    assert_eq!(owner(&root.join("number")), (7, 7, 0o644));
    assert_eq!(owner(&root.join("here/doc")), (0, 0, 0o644));
    assert!(root.join("excluded/link").is_symlink() && !root.join("excluded/c.txt").exists());
    assert_eq!(owner(&root.join("symbolic/deep")), (0, 0, 0o711));
    assert_eq!(owner(&root.join("symbolic/deep/c.txt")), (0, 0, 0o600));
}

#[test]
fn add_unpacks_by_content_and_fetches() {
    needs_root!();
    let site = Site::new("add");
    let tar = ctl::tar("inner/file", b"inside");
    fs::write(site.0.path("ctx/plain.bin"), &tar).unwrap();
    fs::write(site.0.path("ctx/zipped.bin"), gzip(&tar)).unwrap();
    fs::write(site.0.path("ctx/not.tar"), "text").unwrap();
    fs::write(site.0.path("ctx/data.gz"), gzip(b"text")).unwrap();
    for (program, name) in [("bzip2", "bz.bin"), ("xz", "xz.bin"), ("zstd", "zst.bin")] {
        let out = Command::new(program).args(["-c", "-k"]).arg(site.0.path("ctx/plain.bin")).output();
        fs::write(site.0.path("ctx").join(name), out.unwrap_or_else(|e| panic!("{program}: {e}")).stdout).unwrap();
    }
    let archive = gzip(&tar);
    let served = Fake::start(move |request| match request.path.as_str() {
        "/archive" => Reply::ok(archive.clone()),
        _ => Reply::ok("from the web").with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    });
    let digest = dhow::image::Digest::of(b"from the web");
    let url = format!("http://{}/file.txt", served.address);
    let root = site.root(
        &format!("FROM base\nADD plain.bin /plain\nADD zipped.bin /gzip\nADD bz.bin /bz\nADD xz.bin /xz\nADD zst.bin /zst\nADD not.tar /n/\nADD data.gz /n/\nADD --checksum={digest} {url} /web/\n\
             ADD --unpack=false zipped.bin /as-is/\nADD --unpack=true http://{address}/archive /unpacked\nADD http://{address}/archive /fetched\nADD --chmod=640 --chown=33:34 {url} /owned\n", address = served.address),
        &[],
    );
    for dir in ["plain", "gzip", "bz", "xz", "zst"] {
        assert_eq!(text(&root.join(dir).join("inner/file")), "inside", "{dir}");
    }
    assert_eq!(text(&root.join("n/not.tar")), "text");
    assert_eq!(fs::read(root.join("n/data.gz")).unwrap(), gzip(b"text"));
    assert_eq!(text(&root.join("web/file.txt")), "from the web");
    assert_eq!((owner(&root.join("web/file.txt")), fs::metadata(root.join("web/file.txt")).unwrap().mtime()), ((0, 0, 0o600), 784_111_777));
    assert!(root.join("as-is/zipped.bin").is_file() && root.join("fetched").is_file());
    assert_eq!((text(&root.join("unpacked/inner/file")).as_str(), owner(&root.join("owned"))), ("inside", (33, 34, 0o640)));
    let wrong = dhow::image::Digest::of(b"else");
    site.build(&format!("FROM base\nADD --checksum={wrong} {url} /web/\n"), &[]).fails(1, &["--checksum"]);
    site.assert_nothing_left();
}

#[test]
fn add_takes_a_git_repository() {
    needs_root!();
    let site = Site::new("git");
    let repository = site.0.path("repository.git");
    fs::create_dir(&repository).unwrap();
    let git = |words: &[&str]| site.0.tool("git", &[&["-C", "repository.git", "-c", "user.name=a", "-c", "user.email=a@b"], words].concat());
    git(&["init", "--quiet", "-b", "main"]);
    fs::create_dir(repository.join("sub")).unwrap();
    fs::write(repository.join("sub/file"), "tracked").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let head = git(&["rev-parse", "HEAD"]);
    fs::write(repository.join("sub/file"), "changed").unwrap();
    git(&["commit", "--quiet", "-a", "-m", "two"]);
    let daemon = GitDaemon::start(&site);
    let url = format!("{}/repository.git", daemon.url);
    let dockerfile = format!("FROM base\nADD --checksum={} {url}#{head} /whole\nADD {url}#main:sub /sub\nADD --keep-git-dir=true {url} /with\n", &head[..10]);
    let outcome = site.build(&dockerfile, &["-o", "bundle:bundle"]);
    site.build(&format!("FROM base\nADD --checksum=abc123 {url} /whole\n"), &[]).fails(1, &["--checksum", "abc123"]);
    site.build(&format!("FROM base\nADD {url}#no-such-branch /whole\n"), &[]).fails(1, &["Dockerfile:2", "no-such-branch"]);
    drop(daemon);
    outcome.ok();
    let root = site.0.path("bundle/rootfs");
    assert_eq!(text(&root.join("whole/sub/file")), "tracked");
    assert_eq!(text(&root.join("sub/file")), "changed");
    assert!(!root.join("whole/.git").exists() && root.join("with/.git/HEAD").exists());
}

#[test]
fn stages_give_and_take() {
    needs_root!();
    let site = Site::new("stages");
    site.write("a", "a");
    let dockerfile = "FROM base AS one\nRUN mkdir -p /o && echo 1 > /o/f && chown 5:6 /o/f\nFROM base AS unused\nRUN exit 1\nFROM base AS two\nCOPY a /two/a\n\
        FROM scratch\nCOPY --from=one /o /from-one\nCOPY --from=two /two/a /from-two\nCOPY --from=base /etc/passwd /passwd\nCMD [\"/x\"]\n";
    let outcome = site.build(dockerfile, &["-o", "bundle:bundle"]);
    outcome.ok();
    let root = site.0.path("bundle/rootfs");
    assert_eq!((text(&root.join("from-one/f")).as_str(), owner(&root.join("from-one/f")).0), ("1\n", 5));
    assert_eq!(text(&root.join("from-two")), "a");
    assert!(text(&root.join("passwd")).contains("web:"));
    assert!(!outcome.err.contains("exit 1"), "an unused stage is skipped");
    let target = site.build(dockerfile, &["--target", "two", "-t", "two"]);
    target.ok();
    assert!(!target.err.contains("from-one"));
    // What comes from a stage counts by its content, however it came about.
    let other = site.build(&dockerfile.replace("echo 1", "true && echo 1"), &[]);
    other.ok();
    assert_eq!(done(&other).len(), 1, "{}", other.err);
}

/// Independent stages run at once: each waits for the other.
#[test]
fn independent_stages_run_at_once() {
    needs_root!();
    let site = Site::new("parallel");
    let dir = site.0.path("meet");
    fs::create_dir(&dir).unwrap();
    for fifo in ["a", "b"] {
        site.0.tool("mkfifo", &[&format!("meet/{fifo}")]);
    }
    let volume = format!("{}:/meet", dir.display());
    let dockerfile = "FROM base AS one\nRUN echo > /meet/a && read x < /meet/b\nFROM base AS two\nRUN read x < /meet/a && echo > /meet/b\n\
        FROM scratch\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n";
    site.build(dockerfile, &["--volume", &volume]).ok();
}

#[test]
fn mounts_bring_and_leave_nothing() {
    needs_root!();
    let site = Site::new("mounts");
    site.write("in/a", "a");
    fs::write(site.0.path("token"), "hush-hush-1").unwrap();
    let root = site.root(
        "FROM base AS other\nRUN echo o > /o\nFROM base\n\
         RUN --mount=type=bind,source=in,target=/m/in cat /m/in/a > /a; touch /m/in/b 2>/dev/null || echo ro >> /a\n\
         RUN --mount=type=bind,from=other,source=/o,target=/m/o cat /m/o > /o\n\
         RUN --mount=type=bind,from=other,target=/m/all,rw touch /m/all/new && ls /m/all/new > /rw\n\
         RUN --mount=type=tmpfs,target=/m/t touch /m/t/x && grep ' /m/t ' /proc/mounts > /t\n\
         RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /s\n\
         RUN --mount=type=secret,id=token,env=TOKEN echo ${#TOKEN} > /e\n\
         RUN --mount=type=cache,target=/m/c echo 1 >> /m/c/count\n\
         RUN --mount=type=cache,target=/m/c,sharing=locked cat /m/c/count > /c\n",
        &["--secret", "id=token,src=token", "-t", "mounts"],
    );
    for (path, content) in [("a", "a"), ("o", "o\n"), ("rw", "/m/all/new\n"), ("s", "11\n"), ("e", "11\n"), ("c", "1\n")] {
        assert!(text(&root.join(path)).starts_with(content), "{path}: {}", text(&root.join(path)));
    }
    assert!(text(&root.join("t")).contains("tmpfs"));
    assert!(text(&root.join("a")).contains("ro"));
    assert!(!root.join("m").exists() && !root.join("run").exists(), "mount points are no part of the image");
    // Nowhere in the store.
    let found = Command::new("grep").args(["-r", "-l", "hush-hush-1"]).arg(site.0.path("store")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    site.build("FROM base\nRUN --mount=type=secret,id=nope,required cat /run/secrets/nope\n", &[]).fails(1, &["nope", "--secret"]);
    site.assert_nothing_left();
}

#[test]
fn config_and_history_are_docker_s() {
    needs_root!();
    let site = Site::new("config");
    site.write("a", "a");
    site.build(
        "FROM base\nLABEL k=v\nEXPOSE 80/tcp\nENV A=b\nARG X=1\nRUN true\nCOPY a /a\nVOLUME /data\nUSER web\nWORKDIR /w\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\"]\n",
        &["-t", "config", "--label", "more=label"],
    )
    .ok();
    let config = site.config("config");
    let inner = &config["config"];
    assert_eq!((&inner["User"], &inner["WorkingDir"], &inner["StopSignal"]), (&"web".into(), &"/w".into(), &"SIGINT".into()));
    assert_eq!((&inner["Labels"]["k"], &inner["Labels"]["more"]), (&"v".into(), &"label".into()));
    assert!(inner["ExposedPorts"]["80/tcp"].is_object() && inner["Volumes"]["/data"].is_object() && inner["Healthcheck"]["Test"].is_array());
    let history: Vec<(&str, bool)> =
        config["history"].as_array().unwrap()[4..].iter().map(|h| (h["created_by"].as_str().unwrap(), h["empty_layer"] == true)).collect();
    for (line, empty) in
        [("LABEL k=v", true), ("RUN |1 X=1 /bin/sh -c true # buildkit", false), ("COPY a /a # buildkit", false), ("WORKDIR /w", false), ("USER web", true)]
    {
        assert!(history.contains(&(line, empty)), "{line}: {history:?}");
    }
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap().len();
    assert_eq!(layers, config["history"].as_array().unwrap().iter().filter(|h| h["empty_layer"] != true).count());
    // WORKDIR behind USER is that user's.
    let root = site.root("FROM base\nUSER web\nWORKDIR /x/y\n", &[]);
    assert_eq!(owner(&root.join("x/y")), (33, 34, 0o755));
}

/// The store may be named from where one is, and what it has of builds is removed on demand.
#[test]
fn a_relative_store_and_prune() {
    needs_root!();
    let site = Site::new("relative");
    site.write("Dockerfile", "FROM base\nRUN --mount=type=cache,target=/c echo 1 > /c/x\n");
    let build = || site.0.ctl(&["--store", "store", "build", "ctx"]);
    assert_eq!(done(&build()).len(), 1);
    build().ok();
    let pruned = site.0.ctl(&["prune"]);
    assert!(pruned.ok().contains("1 mounted caches"), "{pruned:?}");
    assert_eq!(fs::read_dir(site.0.path("store/build/mounts")).unwrap().count(), 0);
    let again = build();
    again.ok();
    assert_eq!(done(&again).len(), 1, "{}", again.err);
}

#[test]
fn a_context_and_a_dockerfile_on_standard_input() {
    needs_root!();
    let site = Site::new("stdin");
    site.0.ctl_with_input(&["build", "-t", "piped", "-"], "FROM base\nRUN echo x > /x\n").ok();
    assert_eq!(site.0.ctl(&["run", "--no-tty", "piped", "/bin/cat", "/x"]).ok(), "x");
    site.write("a", "from the context");
    site.0.ctl_with_input(&["build", "-t", "mixed", "-f", "-", "ctx"], "FROM base\nCOPY a /a\n").ok();
    assert_eq!(site.0.ctl(&["run", "--no-tty", "mixed", "/bin/cat", "/a"]).ok(), "from the context");
    let tar = site.0.path("context.tar");
    let mut out = fs::File::create(&tar).unwrap();
    let mut both = tar::Builder::new(Vec::new());
    for (name, content) in [("Dockerfile", &b"FROM base\nCOPY b /b\n"[..]), ("b", b"in the archive")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        both.append_data(&mut header, name, content).unwrap();
    }
    out.write_all(&both.into_inner().unwrap()).unwrap();
    let mut command = site.0.ctl_command(&["build", "-t", "archive", "-"]);
    command.stdin(fs::File::open(&tar).unwrap());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(site.0.ctl(&["run", "--no-tty", "archive", "/bin/cat", "/b"]).ok(), "in the archive");
    site.assert_nothing_left();
}

#[test]
fn ignored_files_are_not_there() {
    needs_root!();
    let site = Site::new("ignore");
    for file in ["keep", "drop.log", "dir/drop.log", "dir/keep", "secret/in", "secret/not"] {
        site.write(file, file);
    }
    site.write(".dockerignore", "**/*.log\nsecret\n!secret/not\n");
    let root = site.root("FROM base\nCOPY . /all/\nRUN --mount=target=/ctx ls -R /ctx > /listing\n", &[]);
    assert!(root.join("all/keep").exists() && root.join("all/dir/keep").exists() && root.join("all/secret/not").exists());
    for absent in ["all/drop.log", "all/dir/drop.log", "all/secret/in"] {
        assert!(!root.join(absent).exists(), "{absent}");
    }
    let listing = text(&root.join("listing"));
    assert!(listing.contains("keep") && !listing.contains("drop.log"), "{listing}");
    site.build("FROM base\nCOPY drop.log /\n", &[]).fails(1, &["drop.log"]);
}

#[test]
fn here_documents_are_scripts_and_files() {
    needs_root!();
    let site = Site::new("documents");
    let root = site.root(
        "FROM base\nENV NAME=value\nRUN <<END\necho one > /1\necho two $NAME > /2\nEND\nRUN <<'A' cat > /3 && cat <<B >> /3\n$NAME\nA\nin B\nB\n\
         RUN <<END\n#!/bin/cat\nitself\nEND\nRUN <<-END\n\techo tabs > /4\n\tEND\nCOPY <<one <<\"two\" /files/\n$NAME\none\n$NAME\ntwo\n",
        &[],
    );
    for (path, content) in [("1", "one\n"), ("2", "two value\n"), ("3", "$NAME\nin B\n"), ("4", "tabs\n"), ("files/one", "value\n"), ("files/two", "$NAME\n")] {
        assert_eq!(text(&root.join(path)), content, "{path}");
    }
    assert!(!root.join("dev/pipes").exists());
    site.build("FROM base\nRUN <<END\necho first\nexit 3\nEND\n", &[]).fails(1, &["exit code: 3", "Dockerfile:2"]);
}

#[test]
fn triggers_run_where_they_are_based_on() {
    needs_root!();
    let site = Site::new("triggers");
    site.write("a", "a");
    site.build(
        "FROM base\nONBUILD COPY a /app/\nONBUILD RUN cat /app/a > /ran\nONBUILD ENV SET=by-trigger\nONBUILD COPY --from=tools /t /t\nRUN test ! -e /app\n",
        &["-t", "with"],
    )
    .ok();
    assert_eq!(site.config("with")["config"]["OnBuild"].as_array().unwrap().len(), 4);
    let dockerfile = "FROM base AS tools\nRUN echo tool > /t\nFROM with\nRUN echo $SET > /set\n";
    let root = site.root(dockerfile, &["-t", "on"]);
    for (path, content) in [("app/a", "a"), ("ran", "a"), ("set", "by-trigger\n"), ("t", "tool\n")] {
        assert_eq!(text(&root.join(path)), content, "{path}");
    }
    assert!(site.config("on")["config"]["OnBuild"].is_null(), "they are done with");
    let root = site.root("FROM base AS a\nONBUILD RUN echo stage > /stage\nFROM a\n", &[]);
    assert_eq!(text(&root.join("stage")), "stage\n");
}

#[test]
fn shells_and_variables() {
    needs_root!();
    let site = Site::new("shells");
    site.write("file-1.2", "f");
    let dockerfile = "ARG TAG=base\nARG VERSION=1.2\nFROM ${TAG}\nARG VERSION\nARG WITH=default OTHER=${VERSION%.*}\nENV A=one B=\"two $A\" C='$A'\nENV OLD style value\n\
        COPY file-${VERSION} /${WITH}/\nRUN echo \"$VERSION $WITH $OTHER|$A|$B|$C|$OLD|${NONE-unset}\" > /values\n\
        SHELL [\"/bin/busybox\", \"sh\", \"-euc\"]\nRUN echo $0 > /shell; set -o | grep -q 'nounset.*on' && echo strict >> /shell\n\
        RUN [\"/bin/echo\", \"$A\"]\nRUN echo ${HTTP_PROXY:-none} > /proxy\nARG A=arg\nRUN echo $A > /last\n";
    let root = site.root(dockerfile, &["-t", "vars", "--build-arg", "WITH=given", "--build-arg", "http_proxy=http://p:1"]);
    assert_eq!(text(&root.join("values")), "1.2 given 1|one|two |$A|style value|unset\n");
    assert_eq!(text(&root.join("given/file-1.2")), "f");
    assert_eq!(text(&root.join("shell")), "/bin/busybox\nstrict\n".replace("/bin/busybox", text(&root.join("shell")).lines().next().unwrap()));
    assert_eq!((text(&root.join("proxy")).as_str(), text(&root.join("last")).as_str()), ("http://p:1\n", "arg\n"), "the last that sets it");
    let config = site.config("vars");
    assert!(!config.to_string().contains("http://p:1"), "a proxy is in no image");
    assert!(config["config"]["Env"].as_array().unwrap().iter().all(|line| !line.as_str().unwrap().starts_with("WITH")), "an ARG is no ENV");
    site.build("FROM base\nRUN echo ${NOT_SET:?is missing}\n", &[]).fails(1, &["is missing"]);
    site.build("FROM base\nWORKDIR /${NOT_SET:?is missing}\n", &[]).fails(1, &["Dockerfile:2", "is missing"]);
}
