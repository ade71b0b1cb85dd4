//! `dhowctl build`: what each instruction leaves, which steps are cached, and that nothing else is left.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
mod support;

use ctl::{Scratch, busybox, gzip};
use fake::{Fake, Reply};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::Outcome;

const BASE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
    RUN mkdir -p /etc /tmp /root && printf 'root:x:0:0::/root:/bin/sh\\nweb:x:33:34::/:/bin/sh\\n' > /etc/passwd && \
    printf 'root:x:0:\\nwww:x:34:\\n' > /etc/group && chmod 1777 /tmp\nCMD [\"/bin/sh\"]\n";

/// A context with some files, and a store with a busybox image named `base`.
struct Site(Scratch);

impl Site {
    fn new(test: &str) -> Site {
        let site = Site(Scratch::new(&format!("build-{test}")));
        let dir = site.0.path("base");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("busybox"), busybox()).unwrap();
        fs::set_permissions(dir.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("Dockerfile"), BASE).unwrap();
        site.0.ctl(&["build", "-t", "base", "base"]).ok();
        fs::create_dir(site.0.path("ctx")).unwrap();
        site
    }

    fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.0.path("ctx").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn build(&self, dockerfile: &str, flags: &[&str]) -> Outcome {
        self.write("Dockerfile", dockerfile);
        self.0.ctl(&[&["build"], flags, &["ctx"]].concat())
    }

    /// Built into a bundle; its root.
    #[track_caller]
    fn root(&self, dockerfile: &str, flags: &[&str]) -> PathBuf {
        let bundle = self.0.path("bundle");
        let _ = fs::remove_dir_all(&bundle);
        self.build(dockerfile, &[flags, &["-o", "bundle:bundle"]].concat()).ok();
        bundle.join("rootfs")
    }

    /// The config of the image `name`.
    fn config(&self, name: &str) -> Value {
        let store = self.0.store();
        let entry = store.resolve(name).unwrap();
        let image = store.image(&entry.descriptor, &dhow::image::Platform::host()).unwrap();
        serde_json::from_slice(&store.read_blob(&image.manifest.config).unwrap()).unwrap()
    }

    /// No mount, container, process or half-made directory.
    #[track_caller]
    fn assert_nothing_left(&self) {
        let here = self.0.dir.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&here), "{mounts}");
        for dir in ["store/run", "store/.ingest"] {
            let left: Vec<_> = fs::read_dir(self.0.path(dir)).into_iter().flatten().map(|e| e.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
        let layers = fs::read_dir(self.0.path("store/layers")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let staged: Vec<_> = layers.filter(|name| name.starts_with(".staging")).collect();
        assert!(staged.is_empty(), "{staged:?}");
    }
}

/// The steps that a build says it did: title → how it ended.
fn steps(outcome: &Outcome) -> Vec<(String, String)> {
    let (mut titles, mut out) = (BTreeMap::new(), Vec::new());
    for line in outcome.err.lines() {
        let Some((number, text)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) else { continue };
        match titles.get(number) {
            None => drop(titles.insert(number.to_string(), text.to_string())),
            Some(title) => {
                let word = text.split(' ').next().unwrap_or_default();
                if ["DONE", "CACHED", "ERROR", "STOPPED"].contains(&word) {
                    out.push((title.clone(), word.to_string()));
                }
            }
        }
    }
    out
}

/// The instructions that were done, not found in the cache: their first words.
fn done(outcome: &Outcome) -> Vec<String> {
    let steps = steps(outcome).into_iter().filter(|(title, word)| word != "CACHED" && title.starts_with('['));
    steps.map(|(title, _)| title.split("] ").nth(1).unwrap_or_default().to_string()).collect()
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

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
fn copies_that_can_t_be() {
    needs_root!();
    let site = Site::new("copy-bad");
    site.write("a", "a");
    site.write("d/b", "b");
    for (instruction, words) in [
        ("COPY missing /", &["missing"][..]),
        ("COPY a /bin/", &[]),
        ("RUN mkdir /x /x/a\nCOPY a /x/a/..", &["directory in its place"]),
        ("RUN mkdir -p /x/a\nCOPY a /x/", &["directory in its place"]),
        ("RUN mkdir /x && touch /x/d\nCOPY . /x/", &["no directory"]),
    ] {
        let outcome = site.build(&format!("FROM base\n{instruction}\n"), &[]);
        if words.is_empty() {
            outcome.ok();
        } else {
            outcome.fails(1, words);
        }
    }
    site.assert_nothing_left();
}

/// Neither a symlink of the context nor one of the image leads out.
#[test]
fn symlinks_stay_inside() {
    needs_root!();
    let site = Site::new("escape");
    let secret = site.0.path("secret");
    fs::write(&secret, "host").unwrap();
    symlink(&secret, site.0.path("ctx/out")).unwrap();
    symlink("../secret", site.0.path("ctx/up")).unwrap();
    symlink("/", site.0.path("ctx/top")).unwrap();
    site.write("a", "a");
    for pattern in ["out", "up", "../secret", "top/../../secret", "top/etc/passwd"] {
        site.build(&format!("FROM base\nCOPY {pattern} /got\n"), &[]).code(1);
    }
    let target = site.0.path("target");
    fs::create_dir(&target).unwrap();
    let shown = target.display();
    let root = site.root(
        &format!("FROM base\nRUN ln -s {shown} /evil && ln -s ../../../../../../../{shown} /up\nCOPY a /evil/a\nCOPY a /up/b\nCOPY <<E /evil/c/d\nx\nE\n"),
        &[],
    );
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(text(&root.join(format!(".{shown}/a"))), "a");
    let outcome = site.build(
        "FROM base AS evil\nRUN ln -s /etc/passwd /p && ln -s / /r\nFROM base\nRUN --mount=from=evil,source=/p,target=/m cat /m; cat /m > /got\n",
        &["-o", "bundle:evil"],
    );
    outcome.ok();
    assert!(text(&site.0.path("evil/rootfs/got")).starts_with("root:x:0:0::/root:/bin/sh\nweb"), "the image's own passwd");
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
    let served = Fake::start(|_| Reply::ok("from the web").with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"));
    let digest = dhow::image::Digest::of(b"from the web");
    let url = format!("http://{}/file.txt", served.address);
    let root = site.root(
        &format!("FROM base\nADD plain.bin /plain\nADD zipped.bin /gzip\nADD bz.bin /bz\nADD xz.bin /xz\nADD zst.bin /zst\nADD not.tar /n/\nADD data.gz /n/\nADD --checksum={digest} {url} /web/\n"),
        &[],
    );
    for dir in ["plain", "gzip", "bz", "xz", "zst"] {
        assert_eq!(text(&root.join(dir).join("inner/file")), "inside", "{dir}");
    }
    assert_eq!(text(&root.join("n/not.tar")), "text");
    assert_eq!(fs::read(root.join("n/data.gz")).unwrap(), gzip(b"text"));
    assert_eq!(text(&root.join("web/file.txt")), "from the web");
    assert_eq!((owner(&root.join("web/file.txt")), fs::metadata(root.join("web/file.txt")).unwrap().mtime()), ((0, 0, 0o600), 784_111_777));
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
    let daemon = format!("{}/git-daemon", site.0.tool("git", &["--exec-path"]));
    let daemon =
        site.0.command(daemon, &["--export-all", "--reuseaddr", "--listen=127.0.0.1", "--port=19418", &format!("--base-path={}", site.0.dir.display())]);
    let begun = site.0.spawn(daemon);
    let ready = (0..100).any(|_| {
        std::net::TcpStream::connect("127.0.0.1:19418").is_ok() || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            false
        }
    });
    let outcome = site.build("FROM base\nADD git://127.0.0.1:19418/repository.git /whole\n", &["-o", "bundle:bundle"]);
    let mut child = begun.child;
    let _ = child.kill();
    let _ = child.wait();
    if !ready {
        eprintln!("skipped: add_takes_a_git_repository: git has no daemon here");
        return;
    }
    outcome.ok();
    let root = site.0.path("bundle/rootfs");
    assert_eq!(text(&root.join("whole/sub/file")), "tracked");
    assert!(!root.join("whole/.git").exists());
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

#[test]
fn a_failing_run_tells_all_and_leaves_nothing() {
    needs_root!();
    let site = Site::new("failing");
    let dockerfile = "FROM base\nRUN echo first > /first\nRUN echo to out && echo to err >&2 && exit 42\n";
    let outcome = site.build(dockerfile, &["-t", "never"]);
    outcome.fails(1, &["to out", "to err", "exit code: 42", "Dockerfile:3", "3 | RUN echo to out", "^"]);
    site.0.ctl(&["inspect", "never"]).code(1);
    let quiet = site.build(dockerfile, &["--quiet"]);
    quiet.fails(1, &["to err", "exit code: 42"]);
    // What came before it is kept.
    let mended = site.build(&dockerfile.replace("exit 42", "true"), &[]);
    mended.ok();
    assert_eq!(done(&mended).len(), 1, "{}", mended.err);
    site.assert_nothing_left();
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

/// Broken off by a signal, and killed: what is left the next build removes.
#[test]
fn interrupted_builds_leave_nothing() {
    needs_root!();
    let site = Site::new("signals");
    site.write("Dockerfile", "FROM base\nRUN echo kept > /kept\nRUN echo now > /meet/fifo; sleep 1000\n");
    let meet = site.0.path("meet");
    fs::create_dir(&meet).unwrap();
    site.0.tool("mkfifo", &["meet/fifo"]);
    let volume = format!("{}:/meet", meet.display());
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let begun = site.0.spawn(site.0.ctl_command(&["build", "--volume", &volume, "ctx"]));
        // Returns when the RUN is at it.
        assert_eq!(text(&meet.join("fifo")), "now\n");
        // SAFETY: the child is ours and not reaped.
        unsafe { libc::kill(begun.child.id() as i32, signal) };
        let code = begun.finish().code;
        assert_eq!(code, if signal == libc::SIGKILL { 1000 } else { 128 } + signal);
        if signal != libc::SIGKILL {
            site.assert_nothing_left();
        }
    }
    let after = site.build("FROM base\nRUN echo kept > /kept\nRUN true\n", &[]);
    after.ok();
    assert_eq!(done(&after), ["RUN true"], "{}", after.err);
    site.assert_nothing_left();
    site.0.assert_sound();
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

/// buildah's bud makes the same of it.
#[test]
fn buildah_makes_the_same() {
    needs_root!();
    let site = Site::new("buildah");
    site.write("a", "a");
    let deep = site.write("dir/deep/b", "b");
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o600)).unwrap();
    let dockerfile = "FROM base\nENV A=b\nRUN mkdir -p /made/here && echo $A > /made/file && chown 5:6 /made/file && rm /etc/group\nWORKDIR /work\nCOPY a .\nCOPY dir /copied\n\
        COPY --chown=33:34 dir/deep /owned/\nUSER web\nWORKDIR /users\nEXPOSE 80\nVOLUME /data\nLABEL k=v\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\", \"true\"]\n";
    site.build(dockerfile, &["-t", "ours", "-o", "bundle:ours"]).ok();
    site.0.ctl(&["build", "-t", "base", "-o", "oci:layout:base", "base"]).ok();
    fs::write(site.0.path("docker/config.json"), "{}").unwrap();
    let roots = ["--root", "storage", "--runroot", "runroot", "--storage-driver", "vfs"];
    let buildah = |words: &[&str]| site.0.tool("buildah", &[&roots, words].concat());
    buildah(&["pull", "--policy", "always", "oci:layout:base"]);
    let base = buildah(&["images", "-q"]).lines().next().unwrap().to_string();
    buildah(&["tag", &base, "localhost/base"]);
    site.write("Dockerfile", &dockerfile.replace("FROM base", "FROM localhost/base"));
    buildah(&["bud", "--isolation", "chroot", "--pull-never", "-t", "theirs", "ctx"]);
    let container = buildah(&["from", "--pull-never", "theirs"]);
    let mounted = PathBuf::from(buildah(&["mount", &container]));
    let list = |root: &Path| {
        let found = Command::new("find").arg(root).args(["-mindepth", "1", "-printf", "%P %y %m %U:%G %l %s\n"]).output().unwrap();
        let text = String::from_utf8(found.stdout).unwrap();
        // Sizes of directories are the file system's; buildah leaves its mount points.
        let known = |line: &&str| {
            !["proc", "sys", "dev", "run", "data", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc"].contains(&line.split(' ').next().unwrap())
        };
        let plain = |line: &str| if line.contains(" d ") { line.rsplit_once(' ').unwrap().0.to_string() } else { line.to_string() };
        text.lines().filter(known).filter(|l| !l.starts_with("run/")).map(plain).collect::<std::collections::BTreeSet<_>>()
    };
    let (ours, theirs) = (list(&site.0.path("ours/rootfs")), list(&mounted));
    let difference: Vec<_> = ours.symmetric_difference(&theirs).collect();
    let inspected: Value = serde_json::from_str(&buildah(&["inspect", "--type", "image", "theirs"])).unwrap();
    let config = &inspected["OCIv1"]["config"];
    buildah(&["rm", &container]);
    buildah(&["rmi", "--all", "--force"]);
    assert!(difference.is_empty(), "{difference:?}");
    let mine = site.config("ours");
    for field in ["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes"] {
        assert_eq!(mine["config"][field], config[field], "{field}");
    }
    assert_eq!(config["Labels"]["k"], "v");
}
