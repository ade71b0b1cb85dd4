//! `dhowctl build` and what goes wrong: mistakes, strangers' files, a full disk, too little memory, signals. A clear error,
//! nothing left, and the cache still valid.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/site.rs"]
mod site;
mod support;

use ctl::gzip;
use registry::Registry;
use site::{GitDaemon, Site, done, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{eventually, pty};

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

/// Each with what was being done, to what, and what is allowed; before anything is run.
#[test]
fn mistakes_are_told_in_words() {
    needs_root!();
    let site = Site::new("mistakes");
    let registry = Registry::plain(&site.0);
    site.write("a", "a");
    let none = registry.name("none:1");
    for (dockerfile, words) in [
        ("FROM base\nCOPPY a /\n", &["Dockerfile:2:1", "COPPY", "COPY", "^"][..]),
        ("FROM base\nRUN --mout=type=tmpfs,target=/t true\n", &["Dockerfile:2", "--mout", "mount"]),
        ("FROM base\nCOPY a\n", &["Dockerfile:2", "COPY"]),
        ("RUN true\n", &["FROM"]),
        ("", &["no instructions", "FROM"]),
        ("FROM b AS a\nFROM a AS b\n", &["Dockerfile:1", "b"]),
        ("FROM a AS a\n", &["a"]),
        ("FROM base AS a\nCOPY --from=b /etc/passwd /x\nFROM base AS b\nCOPY --from=a /etc/passwd /x\n", &["Dockerfile:2", "b"]),
        ("FROM base\nCOPY --from=0 /etc/passwd /x\n", &["Dockerfile:2"]),
        ("FROM base\nCOPY missing /\n", &["Dockerfile:2", "missing", "not in the context"]),
        ("FROM base\nCOPY --chown=nobody-here a /\n", &["Dockerfile:2", "nobody-here"]),
        ("FROM base\nUSER nobody-here\nRUN true\n", &["Dockerfile:3", "nobody-here"]),
        ("FROM base\nCOPY --chmod=9 a /\n", &["Dockerfile:2", "--chmod"]),
        ("FROM base\nRUN [\"/no/such/program\"]\n", &["Dockerfile:2", "/no/such/program"]),
        ("FROM base\nADD http://127.0.0.1:1/x /\n", &["Dockerfile:2", "127.0.0.1:1"]),
        ("FROM base\nENV\n", &["Dockerfile:2", "ENV"]),
        ("# syntax=example.org/mine\nFROM base\n", &["example.org/mine"]),
    ] {
        let outcome = site.build(dockerfile, &[]);
        assert!((1..=2).contains(&outcome.code), "{dockerfile}: {outcome:?}");
        outcome.fails(outcome.code, words);
    }
    site.build(&format!("FROM {none}\nRUN true\n"), &[]).fails(1, &["Dockerfile:1", &none, "no repository none"]);
    site.build("FROM base AS one\nFROM base AS two\n", &["--target", "tow"]).fails(1, &["tow", "two"]);
    fs::remove_file(site.0.path("ctx/Dockerfile")).unwrap();
    site.0.ctl(&["build", "ctx"]).fails(1, &["Dockerfile", "-f FILE"]);
    site.0.ctl(&["build", "nowhere"]).fails(1, &["nowhere"]);
    site.assert_nothing_left();
}

/// Archives and repositories are strangers': what they unpack to stays in the image.
#[test]
fn archives_and_repositories_stay_inside() {
    needs_root!();
    let site = Site::new("inside");
    let target = site.0.path("target");
    fs::create_dir(&target).unwrap();
    let shown = target.display().to_string();
    let evil = |entries: &[(&str, Option<&str>, &str)]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, link, content) in entries {
            let mut header = tar::Header::new_gnu();
            // As an attacker writes it: the crate would refuse such names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            if let Some(to) = link {
                header.set_entry_type(tar::EntryType::Symlink);
                header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let up = format!("{}{}/up", "../".repeat(12), &shown[1..]);
    let archives = [
        evil(&[(&up, None, "x")]),
        evil(&[(&format!("{shown}/absolute"), None, "x")]),
        evil(&[("link", Some(&shown), ""), ("link/through", None, "x")]),
        evil(&[("up", Some(&format!("{}{}", "../".repeat(12), &shown[1..])), ""), ("up/through", None, "x")]),
    ];
    for (number, archive) in archives.iter().enumerate() {
        let packed = if number % 2 == 0 { archive.clone() } else { gzip(archive) };
        fs::write(site.0.path("ctx/evil.tar"), packed).unwrap();
        // Refused or kept inside, as one likes.
        let outcome = site.build("FROM base\nADD evil.tar /in/\n", &[]);
        assert!(!outcome.err.contains("panicked"), "{}", outcome.err);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "archive {number}: {}", outcome.err);
    }
    let repository = site.0.path("repository.git");
    fs::create_dir(&repository).unwrap();
    let git = |words: &[&str]| site.0.tool("git", &[&["-C", "repository.git", "-c", "user.name=a", "-c", "user.email=a@b"], words].concat());
    git(&["init", "--quiet", "-b", "main"]);
    symlink(&shown, repository.join("out")).unwrap();
    symlink("/etc/passwd", repository.join("passwd")).unwrap();
    fs::write(repository.join(".gitmodules"), "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% PLACE/run\n".replace("PLACE", &shown)).unwrap();
    git(&["add", "."]);
    git(&["update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,x"]);
    git(&["commit", "--quiet", "-m", "one"]);
    let daemon = GitDaemon::start(&site);
    let url = format!("{}/repository.git", daemon.url);
    site.build(&format!("FROM base\nADD {url} /in/\n"), &[]).fails(1, &["fetching the repository"]);
    let root = site.root(&format!("FROM base\nADD {url}?submodules=false /in/\nADD {url}?submodules=false#main:../../.. /top/\n"), &[]);
    site.build(&format!("FROM base\nADD {url}?submodules=false#main:out /out/\n"), &[]).code(1);
    drop(daemon);
    assert_eq!(fs::read_link(root.join("in/passwd")).unwrap(), Path::new("/etc/passwd"), "a link, not what it leads to");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    site.assert_nothing_left();
}

/// Over a file that is there, in a directory that isn't, as a variable: the image has nothing of it.
#[test]
fn secrets_stay_out_of_layers() {
    needs_root!();
    let site = Site::new("secrets");
    fs::write(site.0.path("token"), "hush-hush-3").unwrap();
    let root = site.root(
        "FROM base\nRUN echo own > /own\nRUN --mount=type=secret,id=token,target=/own grep hush /own && touch /made\n\
         RUN --mount=type=secret,id=token,target=/new/dir/token,mode=0440,uid=33,gid=34 ls -ln /new/dir/token > /listed\n\
         USER web\nRUN --mount=type=secret,id=token,mode=0444,env=TOKEN [ \"$TOKEN\" = \"$(cat /run/secrets/token 2>/dev/null || echo $TOKEN)\" ]\n",
        &["--secret", "id=token,src=token", "--cache-to", "oci:cache"],
    );
    assert_eq!(text(&root.join("own")), "own\n");
    assert!(!root.join("new").exists() && !root.join("run").exists());
    let listed = text(&root.join("listed"));
    assert!(listed.starts_with("-r--r-----") && listed.contains(" 33 ") && listed.contains(" 34 "), "{listed}");
    for place in ["store", "cache", "bundle"] {
        let found = Command::new("grep").args(["-r", "-l", "hush-hush-3"]).arg(site.0.path(place)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{place}");
    }
    let layers = site.0.tool("sh", &["-c", "for b in store/blobs/sha256/*; do (gunzip -c $b 2>/dev/null || cat $b) | grep -c hush-hush-3; done | sort -u"]);
    assert_eq!(layers, "0");
    // Read by the next build, from a variable of the environment; written to by RUN it is refused.
    let mut command = site.0.ctl_command(&["build", "--secret", "id=token,env=HUSH", "ctx"]);
    site.write("Dockerfile", "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n; echo x > /run/secrets/token\n");
    command.env("HUSH", "12345");
    site.0.spawn(command).finish().fails(1, &["Read-only file system"]);
    site.assert_nothing_left();
}

/// The memory that the build may have is too little for a RUN: the RUN dies, and says of what.
#[test]
fn a_run_that_the_oom_killer_ends() {
    needs_root!();
    let site = Site::new("oom");
    let group = Path::new("/sys/fs/cgroup/memory").join(format!("dhowctl-oom-{}", std::process::id()));
    if !Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        skip!("the memory controller is not one of cgroup v1's here");
    }
    fs::create_dir(&group).unwrap();
    fs::write(group.join("memory.limit_in_bytes"), (96 << 20).to_string()).unwrap();
    site.write("Dockerfile", "FROM base\nRUN echo kept > /kept\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n");
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
    let mut command = site.0.command("sh", &["-c", &script, "sh", env!("CARGO_BIN_EXE_dhowctl"), "build", "ctx"]);
    command.stdin(std::process::Stdio::null());
    let outcome = site.0.spawn(command).finish();
    let after = site.build("FROM base\nRUN echo kept > /kept\nRUN true\n", &[]);
    eventually("the group is empty", || fs::remove_dir(&group).ok());
    outcome.fails(1, &["Dockerfile:3", "exit code: 137", "memory"]);
    after.ok();
    assert_eq!(done(&after), ["RUN true"], "{}", after.err);
    site.assert_nothing_left();
    site.0.assert_sound();
}

/// A store on a file system of 24 MB.
#[test]
fn a_full_disk_leaves_nothing_half_made() {
    needs_root!();
    let site = Site::new("full");
    let small = site.0.text("small");
    fs::create_dir(&small).unwrap();
    site.0.tool("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs", &small]);
    let store = format!("{small}/store");
    let build = |dockerfile: &str, flags: &[&str]| {
        site.write("Dockerfile", dockerfile);
        site.0.ctl(&[&["--store", &store, "build"], flags, &["ctx"]].concat())
    };
    let base = site.0.ctl(&["--store", &store, "build", "-t", "base", "base"]);
    fs::write(site.0.path("ctx/big"), ctl::noise(1, 14 << 20)).unwrap();
    let outcomes = [
        // The step's own files don't fit; its layer doesn't fit beside them; nor does a copy.
        (build("FROM base\nRUN echo kept > /kept\nRUN dd if=/dev/zero of=/big bs=1M count=30\n", &[]), &["Dockerfile:3", "No space left", "exit code: 1"][..]),
        (build("FROM base\nRUN echo kept > /kept\nRUN head -c 12m /dev/urandom > /noise\n", &[]), &["RUN head", "no space left", "make room"]),
        (build("FROM base\nRUN echo kept > /kept\nCOPY big /1\nCOPY big /2\n", &[]), &["COPY big", "no space left", "make room"]),
    ];
    let left: Vec<String> = fs::read_dir(format!("{store}/layers")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let after = build("FROM base\nRUN echo kept > /kept\nRUN true\n", &["-t", "after"]);
    let sound = site.0.ctl(&["--store", &store, "verify"]);
    let ran = site.0.ctl(&["--store", &store, "run", "--no-tty", "after", "/bin/cat", "/kept"]);
    site.0.tool("umount", &[&small]);
    base.ok();
    for (outcome, words) in &outcomes {
        outcome.fails(1, words);
    }
    assert!(!left.iter().any(|name| name.starts_with(".staging")), "{left:?}");
    after.ok();
    assert_eq!(done(&after), ["RUN true"], "{}", after.err);
    sound.ok();
    assert_eq!(ran.ok(), "kept");
    site.assert_nothing_left();
}

/// A RUN that says when it is at it, and goes on for a while.
struct Endless {
    site: Site,
    meet: std::path::PathBuf,
}

impl Endless {
    fn new(test: &str) -> Endless {
        let site = Site::new(test);
        let meet = site.0.path("meet");
        fs::create_dir(&meet).unwrap();
        site.0.tool("mkfifo", &["meet/fifo"]);
        // Deaf to all that can be ignored, with a child in a session of its own.
        site.write("Dockerfile", "FROM base\nRUN echo kept > /kept\nRUN trap '' INT TERM HUP; setsid sleep 1001 & echo now > /meet/fifo; sleep 1000\n");
        Endless { site, meet }
    }

    fn volume(&self) -> String {
        format!("{}:/meet", self.meet.display())
    }

    fn begin(&self) -> ctl::Begun {
        let begun = self.site.0.spawn(self.site.0.ctl_command(&["build", "--volume", &self.volume(), "ctx"]));
        // Returns when the RUN is at it.
        assert_eq!(text(&self.meet.join("fifo")), "now\n");
        begun
    }

    fn assert_cache_is_good(&self) {
        let after = self.site.build("FROM base\nRUN echo kept > /kept\nRUN true\n", &["--no-cache"]);
        after.ok();
        self.site.write("Dockerfile", "FROM base\nRUN echo kept > /kept\nRUN trap '' INT TERM HUP; setsid sleep 1001 & echo now > /meet/fifo; sleep 1000\n");
        self.site.assert_nothing_left();
        self.site.0.assert_sound();
    }
}

/// Processes that have this directory in what they were started with, or are in a container of a build that has.
fn processes_of(site: &Site) -> Vec<String> {
    let here = site.0.dir.display().to_string();
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        // The mounts of a container tell whose it is.
        let mounts = String::from_utf8_lossy(&read("mountinfo")).into_owned();
        let of_ours = line.contains(&here) || (line.contains("sleep 100") && mounts.contains("/meet "));
        if of_ours && entry.file_name().to_string_lossy().parse::<u32>().is_ok_and(|pid| pid != std::process::id()) {
            out.push(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    out
}

#[test]
fn signals_end_a_build_and_leave_nothing() {
    needs_root!();
    let endless = Endless::new("signals");
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let begun = endless.begin();
        // SAFETY: the child is ours and not reaped.
        unsafe { libc::kill(begun.child.id() as i32, signal) };
        begun.finish().code(128 + signal);
        endless.site.assert_nothing_left();
        assert_eq!(processes_of(&endless.site), Vec::<String>::new());
    }
    // At a terminal Ctrl-C goes to all of them, the RUN too.
    let (mut terminal, slave) = pty::open();
    let mut command = endless.site.0.ctl_command(&["build", "--volume", &endless.volume(), "ctx"]);
    pty::sit_at(&mut command, &slave);
    let mut child = command.spawn().unwrap();
    drop((command, slave));
    assert_eq!(text(&endless.meet.join("fifo")), "now\n");
    terminal.type_in("\x03");
    assert!(terminal.rest().contains("STOPPED"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    endless.site.assert_nothing_left();
    assert_eq!(processes_of(&endless.site), Vec::<String>::new());
    endless.assert_cache_is_good();
}

/// Nobody can catch SIGKILL: another process cleans up, at once.
#[test]
fn a_killed_build_takes_its_runs_with_it() {
    needs_root!();
    let endless = Endless::new("killed");
    for group in [false, true] {
        let begun = endless.begin();
        assert!(processes_of(&endless.site).len() >= 4, "{:?}", processes_of(&endless.site));
        let pid = begun.child.id() as i32;
        // SAFETY: the child is ours and not reaped; so is what it started.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        if group {
            // The runtime that supervises the RUN too, as `kill -9` of all that one sees.
            let line = processes_of(&endless.site).into_iter().find(|line| line.contains(" run --bundle"));
            let supervisor = line.and_then(|line| line.split(' ').next()?.parse::<i32>().ok());
            // SAFETY: see above.
            supervisor.map(|pid| unsafe { libc::kill(pid, libc::SIGKILL) });
        }
        begun.finish().code(1000 + libc::SIGKILL);
        let killed = std::time::Instant::now();
        eventually("no process is left", || processes_of(&endless.site).is_empty().then_some(()));
        assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
        endless.site.assert_nothing_left();
        endless.assert_cache_is_good();
    }
}

/// Killed at any moment, a build leaves nothing that the next would stumble over.
#[test]
fn a_build_killed_at_any_moment() {
    needs_root!();
    let site = Site::new("moments");
    fs::write(site.0.path("ctx/big"), ctl::noise(2, 3 << 20)).unwrap();
    let dockerfile = "FROM base\nRUN echo 1 > /1\nCOPY big /\nRUN sleep 0.05; cp /big /2\nRUN echo 3 > /3\n";
    site.write("Dockerfile", dockerfile);
    let mut at = Duration::from_millis(2);
    loop {
        let mut begun = site.0.spawn(site.0.ctl_command(&["build", "--no-cache", "ctx"]));
        std::thread::sleep(at);
        let _ = begun.child.kill();
        let over = begun.finish().code == 0;
        eventually("no process is left", || processes_of(&site).is_empty().then_some(()));
        if over || at > Duration::from_secs(10) {
            break;
        }
        at = at * 7 / 5;
    }
    site.build(dockerfile, &["-t", "after"]).ok();
    assert_eq!(site.0.ctl(&["run", "--no-tty", "after", "/bin/cat", "/3"]).ok(), "3");
    site.assert_nothing_left();
    site.0.assert_sound();
}
