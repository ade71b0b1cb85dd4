//! `dhowctl build`: what its flags do.

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
use serde_json::Value;
use site::{Site, done, owner, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use support::{eventually, pty};

/// An agent with one key in it.
struct Agent {
    child: std::process::Child,
    fingerprint: String,
}

impl Agent {
    fn start(site: &Site) -> Agent {
        let command = site.0.command("ssh-agent", &["-D", "-a", "agent.sock"]);
        let child = site.0.spawn(command).child;
        eventually("ssh-agent listens", || site.0.path("agent.sock").exists().then_some(()));
        site.0.tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "key"]);
        let mut add = site.0.command("ssh-add", &["key"]);
        add.env("SSH_AUTH_SOCK", site.0.path("agent.sock"));
        site.0.spawn(add).finish().ok();
        let fingerprint = site.0.tool("ssh-keygen", &["-l", "-f", "key.pub"]).split(' ').nth(1).unwrap().to_string();
        Agent { child, fingerprint }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// ssh-add with its libraries, below `ssh` of the context.
fn bring_ssh_add(site: &Site) {
    let program = "/usr/bin/ssh-add";
    let listed = site.0.tool("ldd", &[program]);
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let to = site.0.path("ctx/ssh").join(&file[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, &to).unwrap();
    }
}

#[test]
fn ssh_gives_a_run_the_agent() {
    needs_root!();
    let site = Site::new("ssh");
    let agent = Agent::start(&site);
    bring_ssh_add(&site);
    let with = "FROM base AS with\nCOPY ssh /\n";
    let dockerfile = format!(
        "{with}RUN --mount=type=ssh ssh-add -l > /keys\nRUN echo ${{SSH_AUTH_SOCK:-none}} > /without\n\
         RUN --mount=type=ssh,target=/tmp/own.sock SSH_AUTH_SOCK=/tmp/own.sock ssh-add -l >> /keys\n\
         USER web\nRUN --mount=type=ssh,uid=33,gid=34,mode=0600 ssh-add -l > /tmp/keys && ls -ln $SSH_AUTH_SOCK > /tmp/listed\n"
    );
    let socket = format!("default={}", site.0.text("agent.sock"));
    let root = site.root(&dockerfile, &["--ssh", &socket]);
    assert_eq!(text(&root.join("keys")).matches(&agent.fingerprint).count(), 2, "{}", text(&root.join("keys")));
    assert!(text(&root.join("tmp/keys")).contains(&agent.fingerprint), "another user");
    let listed = text(&root.join("tmp/listed"));
    assert!(listed.starts_with("srw-------") && listed.contains(" 33 "), "{listed}");
    assert_eq!(text(&root.join("without")), "none\n");
    assert!(!root.join("run").exists() && !root.join("tmp/own.sock").exists(), "the socket's place is no part of the image");
    // By the environment, another name, and none at all.
    let mut command = site.0.ctl_command(&["build", "--ssh", "default", "ctx"]);
    command.env("SSH_AUTH_SOCK", site.0.path("agent.sock"));
    let again = site.0.spawn(command).finish();
    again.ok();
    assert!(done(&again).is_empty(), "which agent it is means nothing to the cache: {}", again.err);
    let named = format!("{with}RUN --mount=type=ssh,id=other,required ssh-add -l\n");
    site.build(&named, &["--ssh", &socket]).fails(1, &["Dockerfile:3", "other", "--ssh"]);
    site.build(&named, &["--ssh", &socket.replace("default", "other")]).ok();
    site.build(&named, &["--ssh", "other=/nowhere"]).fails(1, &["/nowhere"]);
    site.build(&format!("{with}RUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n"), &[]).ok();
    site.assert_nothing_left();
}

/// git asks ssh for a repository; ssh is one of ours that says what it was given.
#[test]
fn add_of_a_repository_by_ssh_has_the_agent() {
    needs_root!();
    let site = Site::new("git-ssh");
    let repository = site.0.path("repository.git");
    fs::create_dir(&repository).unwrap();
    let git = |words: &[&str]| site.0.tool("git", &[&["-C", "repository.git", "-c", "user.name=a", "-c", "user.email=a@b"], words].concat());
    git(&["init", "--quiet", "-b", "main"]);
    fs::write(repository.join("file"), "by ssh").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let bin = site.0.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("ssh"), "#!/bin/sh\necho \"$SSH_AUTH_SOCK $*\" >> \"$HOME/asked\"\nfor last; do :; done\nexec sh -c \"$last\"\n").unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    site.write("Dockerfile", &format!("FROM base\nADD git@example.org:{} /in/\n", repository.display()));
    let _agent = std::os::unix::net::UnixListener::bind(site.0.path("agent")).unwrap();
    let mut command = site.0.ctl_command(&["build", "--ssh", "default=agent", "-o", "bundle:bundle", "ctx"]);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    site.0.spawn(command).finish().ok();
    assert_eq!(text(&site.0.path("bundle/rootfs/in/file")), "by ssh");
    let asked = text(&site.0.path("asked"));
    assert!(asked.contains("/agent ") && asked.contains("BatchMode=yes") && asked.contains("git@example.org"), "{asked}");
}

#[test]
fn named_contexts_are_directories_images_and_layouts() {
    needs_root!();
    let site = Site::new("contexts");
    for (file, content) in [("more/file", "more"), ("more/skipped", "x"), ("more/.dockerignore", "skipped\n")] {
        let path = site.0.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    site.build("FROM base\nRUN echo v1 > /version\n", &["-t", "other:1", "-o", "oci:layout:v1"]).ok();
    site.build("FROM base\nRUN echo v2 > /version\n", &["-t", "other:2", "-o", "oci:layout:v2"]).ok();
    // Gone from the store, so it comes from where it is said to be.
    site.0.ctl(&["rmi", "other:2"]).ok();
    let dockerfile = "FROM example.org/not/there:1 AS main\nCOPY --from=more . /more/\nCOPY --from=image /version /image\nCOPY --from=layout /version /layout\n\
        RUN --mount=from=more,target=/m cat /m/file > /mounted; ls /m >> /mounted\nRUN cat /version > /own\n";
    let contexts = ["example.org/not/there:1=docker-image://other:1", "more=more", "image=docker-image://other:1", "layout=oci-layout://layout:v2"];
    let flags: Vec<&str> = contexts.iter().flat_map(|context| ["--build-context", context]).collect();
    let root = site.root(dockerfile, &flags);
    for (path, content) in [("more/file", "more"), ("image", "v1\n"), ("layout", "v2\n"), ("own", "v1\n"), ("mounted", "morefile\n")] {
        assert_eq!(text(&root.join(path)), content, "{path}");
    }
    assert!(!root.join("more/skipped").exists(), "a context has its own ignore file");
    // By digest, as the base; a stage's name; and those that aren't there.
    let index: Value = serde_json::from_str(&text(&site.0.path("layout/index.json"))).unwrap();
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().is_some_and(|name| name.ends_with("v1"));
    let digest = index["manifests"].as_array().unwrap().iter().find(named).unwrap()["digest"].as_str().unwrap();
    let by_digest = format!("base2=oci-layout://{}@{digest}", site.0.text("layout"));
    site.build("FROM base2\nRUN grep -q v1 /version\n", &["--build-context", &by_digest]).ok();
    let root = site.root("FROM base AS tools\nRUN exit 1\nFROM base\nCOPY --from=tools file /x\n", &["--build-context", "tools=more"]);
    assert_eq!(text(&root.join("x")), "more", "it stands in for the stage of its name");
    site.build("FROM more\n", &["--build-context", "more=more"]).fails(1, &["more", "directory"]);
    site.build("FROM base\nCOPY --from=x a /\n", &["--build-context", "x=nowhere"]).fails(1, &["nowhere"]);
    site.build("FROM x\n", &["--build-context", "x=oci-layout://layout:v9"]).fails(1, &["v9"]);
    site.build("FROM base\nCOPY --from=more ../secret /x\n", &["--build-context", "more=more"]).code(1);
    site.assert_nothing_left();
}

#[test]
fn platforms() {
    needs_root!();
    let site = Site::new("platform");
    site.write("a", "a");
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS build\nARG TARGETPLATFORM TARGETARCH BUILDARCH\nRUN echo $TARGETPLATFORM $TARGETARCH $BUILDARCH > /said\n\
        FROM scratch\nCOPY --from=build /said /\nCMD [\"/said\"]\n";
    site.build(dockerfile, &["--platform", "linux/arm64/v8", "-t", "arm", "-o", "oci:layout:arm"]).ok();
    let config: Value = serde_json::from_str(&site.0.tool("skopeo", &["inspect", "--config", "--raw", "oci:layout:arm"])).unwrap();
    assert_eq!((&config["os"], &config["architecture"]), (&"linux".into(), &"arm64".into()));
    let host = dhow::image::Platform::host();
    site.0.ctl(&["unpack", "--platform", "linux/arm64", "arm", "unpacked"]).ok();
    assert!(text(&site.0.path("unpacked/rootfs/said")).starts_with(&format!("linux/arm64 arm64 {}", host.architecture)));
    // The base is there for this machine alone: as in BuildKit it is taken, and that is said. A program of another machine
    // can't be run.
    let taken = site.build("FROM base\n", &["--platform", "linux/s390x"]).succeeds();
    assert!(taken.err.contains("InvalidBaseImagePlatform") && taken.err.contains("linux/s390x"), "{}", taken.err);
    let mut foreign = fs::read(site.0.path("base/busybox")).unwrap();
    // e_machine: a s390.
    foreign[18] = 22;
    fs::write(site.0.path("ctx/foreign"), foreign).unwrap();
    fs::set_permissions(site.0.path("ctx/foreign"), fs::Permissions::from_mode(0o755)).unwrap();
    site.build("FROM scratch\nCOPY foreign /bin/sh\nRUN true\n", &["--platform", "linux/s390x"]).fails(1, &["Dockerfile:3", "exec format error"]);
    site.build("FROM base\n", &["--platform", "linux/amd64,linux/arm64"]).fails(1, &["one platform"]);
    site.assert_nothing_left();
}

#[test]
fn targets_labels_and_dockerfiles_elsewhere() {
    needs_root!();
    let site = Site::new("targets");
    let dockerfile = "FROM base AS one\nRUN echo 1 > /is\nFROM one AS two\nRUN echo 2 > /is\nLABEL own=1 both=1\nFROM base\nRUN echo 3 > /is\n";
    for (target, content) in [("one", "1\n"), ("TWO", "2\n"), ("0", "1\n"), ("1", "2\n")] {
        assert_eq!(text(&site.root(dockerfile, &["--target", target]).join("is")), content, "{target}");
    }
    site.build(dockerfile, &["--target", "two", "-t", "two:1", "-t", "again", "--label", "both=2", "--label", "given=x=y"]).ok();
    let labels = &site.config("two:1")["config"]["Labels"];
    assert_eq!((&labels["own"], &labels["both"], &labels["given"]), (&"1".into(), &"2".into(), &"x=y".into()));
    assert_eq!(site.config("again"), site.config("two:1"));
    // A Dockerfile outside of the context, with an ignore file of its own.
    fs::create_dir(site.0.path("files")).unwrap();
    fs::write(site.0.path("files/Own"), "FROM base\nCOPY . /all/\n").unwrap();
    fs::write(site.0.path("files/Own.dockerignore"), "b\n").unwrap();
    site.write("a", "a");
    site.write("b", "b");
    site.write(".dockerignore", "a\n");
    site.0.ctl(&["build", "-f", "files/Own", "-o", "bundle:elsewhere", "ctx"]).ok();
    let root = site.0.path("elsewhere/rootfs/all");
    assert!(root.join("a").exists() && !root.join("b").exists());
    let both = site.0.ctl_with_input(&["build", "-f", "-", "-"], "FROM base\n");
    both.fails(1, &["standard input"]);
}

/// An archive as `docker save` writes it, for those who have no registry.
#[test]
fn outputs() {
    needs_root!();
    let site = Site::new("outputs");
    let dockerfile = "FROM base\nRUN echo x > /x\nCMD [\"/bin/cat\", \"/x\"]\n";
    site.build(dockerfile, &["-t", "team/app:1", "-o", "docker-archive:app.tar"]).ok();
    let manifest: Value = serde_json::from_str(&site.0.tool("tar", &["-xOf", "app.tar", "manifest.json"])).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0].as_str().unwrap().trim_start_matches("docker.io/"), "team/app:1");
    site.0.tool("skopeo", &["copy", "-q", "--insecure-policy", "docker-archive:app.tar", "oci:copied:app"]);
    site.build(dockerfile, &["-o", "docker-archive:named.tar:other:2"]).ok();
    assert!(site.0.tool("tar", &["-xOf", "named.tar", "manifest.json"]).contains("other:2"));
    site.build(dockerfile, &["-o", "oci:layout:one"]).ok();
    site.0.tool("umoci", &["unpack", "--image", "layout:one", "by-umoci"]);
    assert_eq!(text(&site.0.path("by-umoci/rootfs/x")), "x\n");
    // There already, or nowhere.
    fs::create_dir_all(site.0.path("taken/x")).unwrap();
    let taken = site.build(dockerfile, &["-o", "bundle:taken"]);
    taken.fails(1, &["taken", "not empty"]);
    assert!(!taken.err.contains("#1"), "said before anything is built: {}", taken.err);
    site.build(dockerfile, &["-o", "docker-archive:no/such/dir/a.tar:x"]).fails(1, &["no/such/dir"]);
    site.build(dockerfile, &["-o", "somewhere"]).fails(1, &["somewhere", "bundle:DIR"]);
    site.assert_nothing_left();
}

/// What a builder is told by `--build-arg`s of BuildKit's own.
#[test]
fn build_args_for_the_builder() {
    needs_root!();
    let site = Site::new("args");
    let dockerfile = "FROM base\nRUN hostname > /name\nRUN --mount=type=cache,id=c,target=/c echo 1 >> /c/n; wc -l < /c/n > /count\n";
    let root = site.root(dockerfile, &[]);
    assert_eq!(text(&root.join("name")), "buildkitsandbox\n");
    let again = ["--no-cache", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=mine", "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=own"];
    let root = site.root(dockerfile, &again);
    assert_eq!((text(&root.join("name")).as_str(), text(&root.join("count")).trim()), ("mine\n", "1"));
    assert_eq!(text(&site.root(dockerfile, &again).join("count")).trim(), "2");
    let outcome = site.build(dockerfile, &["--build-arg", "BUILDKIT_INLINE_CACHE=1", "--build-arg", "TYPO=1"]).succeeds();
    assert!(outcome.err.contains("BUILDKIT_INLINE_CACHE") && outcome.err.contains("TYPO"), "what means nothing is said: {}", outcome.err);
}

/// For users who read: a terminal shows colours and marks, anything else plain lines, `--quiet` the digest alone.
#[test]
fn what_is_shown_where() {
    needs_root!();
    let site = Site::new("shown");
    let dockerfile = "FROM base\nRUN echo from the step\n";
    let plain = site.build(dockerfile, &[]).succeeds();
    assert!(
        plain.err.contains("[stage-0 2/2] RUN echo from the step") && plain.err.contains(" from the step\n") && plain.err.contains("DONE"),
        "{}",
        plain.err
    );
    assert!(!plain.err.contains('\x1b') && plain.ok().starts_with("sha256:"));
    let cached = site.build(dockerfile, &["--progress", "tty"]).succeeds();
    assert!(cached.err.contains("CACHED") && cached.err.contains('\x1b'), "{}", cached.err);
    let (mut terminal, slave) = pty::open();
    terminal.resize(30, 100);
    let mut command = site.0.ctl_command(&["build", "ctx"]);
    command.env("TERM", "xterm");
    pty::sit_at(&mut command, &slave);
    let mut child = command.spawn().unwrap();
    drop((command, slave));
    let shown = terminal.rest();
    assert!(child.wait().unwrap().success());
    assert!(shown.contains("\x1b[36m#2 CACHED") && !shown.contains("total"), "where nothing is fetched there is no bar: {shown:?}");
    let quiet = site.build(dockerfile, &["--quiet", "--no-cache"]).succeeds();
    assert!(quiet.err.is_empty() && quiet.ok().starts_with("sha256:") && quiet.ok().lines().count() == 1, "{quiet:?}");
}

/// `COPY --parents`, and what patterns mean.
#[test]
fn patterns_and_parents() {
    needs_root!();
    let site = Site::new("patterns");
    for file in ["src/a.txt", "src/x/b.txt", "src/x/y/c.txt", "src/x/y/d.md", "arr[0].txt", "top.txt"] {
        site.write(file, file);
    }
    std::os::unix::fs::symlink(".", site.0.path("ctx/src/x/loop")).unwrap();
    let list = |instruction: &str| {
        let root = site.root(&format!("FROM base\n{instruction}\n"), &[]);
        let found = Command::new("find").arg(root.join("to")).args(["-not", "-type", "d", "-printf", "%P\n"]).stderr(Stdio::null()).output().unwrap();
        let mut names: Vec<String> = String::from_utf8(found.stdout).unwrap().lines().map(String::from).collect();
        names.sort();
        names.join(" ")
    };
    for (instruction, found) in [
        // One level without --parents, as Go's filepath.Match.
        ("COPY src/**/*.txt /to/", "b.txt"),
        ("COPY src/**/**/*.txt /to/", "c.txt"),
        ("COPY --parents src/**/*.txt /to/", "src/a.txt src/x/b.txt src/x/y/c.txt"),
        ("COPY --parents ./src/./**/*.txt /to/", "a.txt x/b.txt x/y/c.txt"),
        ("COPY --parents **/y /to/", "src/x/y/c.txt src/x/y/d.md"),
        ("COPY --parents --exclude=**/*.md src/x/y /to/", "src/x/y/c.txt"),
        ("COPY arr[[]0].txt /to/", "arr[0].txt"),
        ("COPY none*.x /to/", ""),
        ("COPY ../top.txt /to/", "top.txt"),
        ("COPY src/x/ /to/", "b.txt loop y/c.txt y/d.md"),
        ("COPY top.txt src/a.txt /to", "a.txt top.txt"),
    ] {
        assert_eq!(list(instruction), found, "{instruction}");
    }
    site.build("FROM base\nCOPY --parents missing/x /to/\n", &[]).fails(1, &["missing/x"]);
    // Directories keep their modes with --parents.
    fs::set_permissions(site.0.path("ctx/src/x"), fs::Permissions::from_mode(0o700)).unwrap();
    let root = site.root("FROM base\nCOPY --parents src/x/b.txt /to/\n", &[]);
    assert_eq!(owner(&root.join("to/src/x")), (0, 0, 0o700));
}

/// Where builders differ, as BuildKit has it.
#[test]
fn where_builders_differ() {
    needs_root!();
    let site = Site::new("differ");
    site.write("a", "a");
    site.write("b", "b");
    let root = site.root(
        "FROM base\nVOLUME /data\nRUN mkdir -p /data && echo kept > /data/x\nCOPY a /data/\nUSER web:0\nWORKDIR /own/deep\nRUN touch here\nUSER 0\nWORKDIR rel\nCOPY a b /d\n\
         WORKDIR /own/deep\nUSER 77\nWORKDIR /number\n",
        &["-t", "differ"],
    );
    assert_eq!((text(&root.join("data/x")).as_str(), text(&root.join("data/a")).as_str()), ("kept\n", "a"));
    assert_eq!((owner(&root.join("own")), owner(&root.join("own/deep"))), ((33, 0, 0o755), (33, 0, 0o755)));
    assert_eq!(owner(&root.join("own/deep/rel")).0, 0);
    assert_eq!(owner(&root.join("own/deep/here")).0, 33);
    assert_eq!((text(&root.join("d/a")).as_str(), text(&root.join("d/b")).as_str()), ("a", "b"));
    assert_eq!(owner(&root.join("number")).0, 77);
    assert_eq!(site.config("differ")["config"]["WorkingDir"], "/number");
}

#[test]
fn pull_looks_for_a_newer_base() {
    needs_root!();
    let site = Site::new("pull");
    let registry = Registry::plain(&site.0);
    let name = registry.name("team/base:1");
    let publish = |content: &str| {
        site.build(&format!("FROM base\nRUN echo {content} > /version\n"), &["-t", "published"]).ok();
        site.0.ctl(&["push", "published", &name]).ok();
    };
    publish("old");
    let dockerfile = format!("FROM {name}\nRUN cat /version > /copy\n");
    assert_eq!(text(&site.root(&dockerfile, &[]).join("copy")), "old\n");
    publish("new");
    let cached = site.build(&dockerfile, &[]);
    cached.ok();
    assert!(done(&cached).is_empty(), "what is in the store does: {}", cached.err);
    assert_eq!(text(&site.root(&dockerfile, &["--pull"]).join("copy")), "new\n");
    drop(registry);
    site.build(&dockerfile, &["--pull"]).fails(1, &[&name]);
    site.build(&dockerfile, &[]).ok();
}
