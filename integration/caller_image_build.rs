//! What `dhowctl build` makes, beside what others make of the same Dockerfile, and in their hands: the tutorials'
//! Dockerfiles, whole, on a debootstrap, each built by buildah too; and an image that Docker and Podman load and run.

mod callers;
#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/site.rs"]
mod site;
mod support;

use callers::docker::Docker;
use callers::images;
use callers::podman::Podman;
use ctl::Scratch;
use dhow::image::Digest;
use serde_json::Value;
use site::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For one build.
const LONG: Duration = Duration::from_secs(400);
const CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What of an entry is left out of the comparison.
#[derive(PartialEq)]
enum Part {
    /// The content and its size.
    Content,
    /// All of it, and all below.
    Whole,
}

/// Below these paths two builds of one Dockerfile differ whoever does them, and why.
const DIFFERENT: &[(&str, Part, &str)] = &[
    ("var/log", Part::Content, "times and durations"),
    ("var/cache/ldconfig/aux-cache", Part::Content, "inode numbers and times of the libraries"),
    ("var/lib/dpkg/info", Part::Content, "lists in the order in which the directory was read"),
    ("var/cache/debconf", Part::Content, "databases in the order of a hash"),
    ("var/cache/apt", Part::Content, "a cache of what the mounted lists say"),
    ("root/.cache", Part::Whole, "pip's, mounted"),
    ("root/.wget-hsts", Part::Whole, "times"),
    ("etc/ssl/private", Part::Content, "keys that were made at installation"),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", Part::Content, "made at installation"),
    ("etc/ld.so.cache", Part::Content, "libraries of one version in the order in which the directory was read"),
    ("etc/machine-id", Part::Content, "made at installation"),
    ("etc/resolv.conf", Part::Whole, "the host's, mounted; buildah leaves an empty file"),
    ("etc/hosts", Part::Whole, "mounted; buildah leaves an empty file"),
    ("etc/hostname", Part::Whole, "buildah's"),
    ("run/.containerenv", Part::Whole, "buildah's"),
    ("run/secrets", Part::Whole, "buildah's"),
    ("run/lock", Part::Content, "locks of programs at installation"),
    ("proc", Part::Whole, "a place to mount on"),
    ("sys", Part::Whole, "a place to mount on"),
    ("dev", Part::Whole, "the container's own in a RUN; what is left of it in buildah's chroot"),
    ("ca.pem", Part::Whole, "the place of a volume, which buildah leaves"),
];

/// An entry: kind, mode, owner, what it leads to or has in it.
fn tree(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap_or("?").to_string();
            let part = DIFFERENT.iter().find(|(below, ..)| name == *below || name.starts_with(&format!("{below}/"))).map(|(_, part, _)| part);
            if part == Some(&Part::Whole) {
                continue;
            }
            // By the hash of a certificate that was made at installation.
            if fs::read_link(&path).is_ok_and(|to| to == Path::new("ssl-cert-snakeoil.pem")) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            // Compiled modules have the source's time in them.
            let content = if part == Some(&Part::Content) || name.ends_with(".pyc") {
                String::new()
            } else if kind.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if kind.is_file() {
                Digest::of(&fs::read(&path).unwrap()).to_string()
            } else if kind.is_char_device() || kind.is_block_device() {
                meta.rdev().to_string()
            } else {
                String::new()
            };
            let links = if kind.is_file() { meta.nlink() } else { 1 };
            out.insert(name, format!("{kind:?} {:o} {}:{} x{links} {content}", meta.permissions().mode(), meta.uid(), meta.gid()));
            if kind.is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

#[track_caller]
fn assert_same_files(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (tree(ours), tree(theirs));
    assert!(!ours.is_empty(), "there is something to compare");
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differ: Vec<String> = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| format!("{name}: {:?} here, {:?} there", ours.get(name).map_or("", String::as_str), theirs.get(name).map_or("", String::as_str)))
        .collect();
    assert!(differ.is_empty(), "{} of {} entries:\n{}", differ.len(), ours.len(), differ[..differ.len().min(40)].join("\n"));
    println!("{} entries are the same", ours.len());
}

/// The config of an image in a layout, as `skopeo inspect --config` reads it.
fn config(scratch: &Scratch, layout: &str) -> Value {
    serde_json::from_str(&scratch.tool("skopeo", &["inspect", "--config", layout])).unwrap()
}

/// The config counts for who runs it, the history for who reads it: instruction by instruction in the same order.
#[track_caller]
fn assert_same_config(ours: &Value, theirs: &Value) {
    for field in ["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal"] {
        let plain = |config: &Value| config["config"].get(field).cloned().filter(|value| *value != "" && *value != "/").unwrap_or(Value::Null);
        assert_eq!(plain(ours), plain(theirs), "{field}");
    }
    for field in ["os", "architecture"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    // buildah says `/bin/sh -c #(nop) …` of what is no RUN, BuildKit's style is the instruction and `# buildkit`.
    let words = |config: &Value| -> Vec<String> {
        let history = config["history"].as_array().unwrap().iter();
        let plain = history.map(|line| {
            line["created_by"]
                .as_str()
                .unwrap_or_default()
                .replace("/bin/sh -c #(nop)", "")
                .replace("|1 X=1 /bin/sh", "/bin/sh")
                .replace("RUN /bin/sh -c ", "/bin/sh -c ")
        });
        plain.map(|line| line.split_whitespace().next().unwrap_or_default().to_string()).filter(|word| *word != "FROM").collect()
    };
    assert_eq!(words(ours), words(theirs), "the history");
}

/// One tutorial: a context, built by dhowctl as the image and bundle `NAME`, and by buildah.
struct Tutorial {
    scratch: Scratch,
    _one_at_a_time: std::sync::MutexGuard<'static, ()>,
}

impl Tutorial {
    /// Files of the context; in the Dockerfile `debian` is the base.
    fn new(name: &str, files: &[(&str, &str)]) -> Tutorial {
        // apt's locks are on directories that all share.
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::new(&format!("tutorial-{name}"));
        let debian = images::debian();
        for dir in ["debian", name] {
            fs::create_dir(scratch.path(dir)).unwrap();
        }
        fs::hard_link(&debian, scratch.path("debian/rootfs.tar")).or_else(|_| fs::copy(&debian, scratch.path("debian/rootfs.tar")).map(drop)).unwrap();
        fs::write(scratch.path("debian/Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCMD [\"bash\"]\n").unwrap();
        files.iter().for_each(|(file, content)| fs::write(scratch.path(name).join(file), content).unwrap());
        Tutorial { scratch, _one_at_a_time: one }
    }

    /// What both builders bind into RUNs: the CAs here, and packages, so that they come over the network once.
    fn volumes() -> Vec<String> {
        let cache = images::debian().with_file_name("packages");
        let mut out = vec!["-v".to_string(), format!("{CA}:/ca.pem:ro")];
        for (dir, at) in [("archives", "/var/cache/apt/archives"), ("lists", "/var/lib/apt/lists"), ("pip", "/root/.cache/pip")] {
            fs::create_dir_all(cache.join(dir).join("partial")).unwrap();
            out.extend(["-v".into(), format!("{}:{at}", cache.join(dir).display())]);
        }
        out
    }

    #[track_caller]
    fn finish(&self, what: &str, mut command: Command) {
        let began = Instant::now();
        let log = self.scratch.path(&format!("{}.log", what.replace(' ', "-")));
        let mut child =
            command.stdin(Stdio::null()).stdout(File::create(&log).unwrap()).stderr(File::options().append(true).open(&log).unwrap()).spawn().unwrap();
        let status = support::wait(&mut child, LONG);
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(status.is_some_and(|status| status.success()), "{what}: {status:?}\n{said}");
    }

    #[track_caller]
    fn ours(&self, name: &str, flags: &[&str]) -> Duration {
        let volumes = Tutorial::volumes().iter().map(|word| word.replace("-v", "--volume")).collect::<Vec<_>>();
        let mut command = self.scratch.ctl_command(&["build", "-t", name]);
        command.args(volumes).args(flags).arg(name);
        let began = Instant::now();
        self.finish(&format!("dhowctl build {name}"), command);
        began.elapsed()
    }

    fn buildah(&self, words: &[&str]) -> Command {
        let mut command = self.scratch.command("buildah", &["--root", "storage", "--runroot", "runroot", "--storage-driver", "overlay"]);
        command.args(words);
        command
    }

    /// Built by buildah too: the same files, config and history.
    #[track_caller]
    fn compare(&self, name: &str) {
        fs::write(self.scratch.path("docker/config.json"), "{}").unwrap();
        let text = fs::read_to_string(self.scratch.path(name).join("Dockerfile")).unwrap();
        fs::write(self.scratch.path("theirs.Dockerfile"), text.replace("FROM debian", "FROM localhost/debian")).unwrap();
        self.finish("buildah's base", self.buildah(&["bud", "--isolation", "chroot", "-t", "localhost/debian", "debian"]));
        let mut command = self.buildah(&["bud", "--isolation", "chroot", "--layers=false", "--pull-never", "-t", "theirs", "-f", "theirs.Dockerfile"]);
        command.args(Tutorial::volumes()).arg(name);
        self.finish("buildah bud", command);
        self.finish("buildah push", self.buildah(&["push", "-q", "--disable-compression", "theirs", "dir:theirs"]));
        let output = |mut command: Command| {
            let done = command.output().unwrap();
            assert!(done.status.success(), "{done:?}");
            String::from_utf8(done.stdout).unwrap().trim().to_string()
        };
        let container = output(self.buildah(&["from", "--pull-never", "theirs"]));
        let mounted = PathBuf::from(output(self.buildah(&["mount", &container])));
        let compared = std::panic::catch_unwind(|| {
            assert_same_files(&self.scratch.path("bundle/rootfs"), &mounted);
        });
        output(self.buildah(&["umount", &container]));
        output(self.buildah(&["rm", &container]));
        output(self.buildah(&["rmi", "--all", "--force"]));
        compared.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
        assert_same_config(&config(&self.scratch, "oci:ours:x"), &config(&self.scratch, "dir:theirs"));
    }

    /// All of it: built, the second time from the cache, compared.
    #[track_caller]
    fn go(&self, name: &str) {
        self.ours("debian", &[]);
        self.ours(name, &["-o", "bundle:bundle"]);
        let again = self.ours(name, &["-o", "oci:ours:x"]);
        assert!(again < Duration::from_secs(10), "all of it is cached, but for what is copied to the layout: {again:?}");
        self.compare(name);
    }

    /// Run the image with the host's network, fetch the page, and end it as `docker stop` does: by SIGTERM, and where pid 1 is
    /// deaf to that by force.
    fn page(&self, name: &str, port: u16) -> String {
        let log = File::create(self.scratch.path("server.log")).unwrap();
        let id = format!("tutorial-{name}-{}", std::process::id());
        let mut command = self.scratch.ctl_command(&["run", "--no-tty", "--host-network", "--name", &id, name]);
        let mut server = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}/");
        // curl waits for the port to be open.
        let got = Command::new("curl").args(["-s", "--retry", "60", "--retry-connrefused", "--retry-delay", "1", &url]).output().unwrap();
        let runtime = |words: &[&str]| self.scratch.command(support::runtime(), words).output().unwrap();
        assert!(runtime(&["kill", &id, "TERM"]).status.success());
        let end = Instant::now() + Duration::from_secs(3);
        while server.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        if server.try_wait().unwrap().is_none() {
            assert!(runtime(&["delete", "--force", &id]).status.success());
            let ended = support::wait(&mut server, Duration::from_secs(20));
            assert!(ended.is_some(), "{name} doesn't end: {}", fs::read_to_string(self.scratch.path("server.log")).unwrap());
        }
        String::from_utf8_lossy(&got.stdout).into_owned()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
#[ignore = "make test-callers: a debootstrap, and packages from the network"]
fn flask() {
    needs_caller!("buildah", "debootstrap", "curl");
    let port = free_port();
    let app = "from flask import Flask\nimport os\napp = Flask(__name__)\n@app.route('/')\ndef hello():\n    return f\"Hello {os.getenv('NAME')}!\"\n\
               app.run(host='127.0.0.1', port=PORT)\n";
    let tutorial = Tutorial::new(
        "flask",
        &[
            (
                "Dockerfile",
                &"FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip ca-certificates\nWORKDIR /app\n\
                  COPY requirements.txt .\nRUN pip install --break-system-packages --cert /ca.pem -r requirements.txt\nADD . /app\nEXPOSE PORT\nENV NAME=World\n\
                  CMD [\"python3\", \"app.py\"]\n"
                    .replace("PORT", &port.to_string()),
            ),
            ("requirements.txt", "Flask\n"),
            ("app.py", &app.replace("PORT", &port.to_string())),
        ],
    );
    tutorial.go("flask");
    assert_eq!(tutorial.page("flask", port), "Hello World!");
}

#[test]
#[ignore = "make test-callers: a debootstrap, and packages from the network"]
fn nginx() {
    needs_caller!("buildah", "debootstrap", "curl");
    let port = free_port();
    let dockerfile = "FROM debian\nRUN apt-get update && apt-get install -y nginx-light\nRUN sed -i 's/80 default_server/PORT default_server/' /etc/nginx/sites-enabled/default\n\
                      COPY index.html /var/www/html/\nEXPOSE PORT\nSTOPSIGNAL SIGQUIT\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    let tutorial = Tutorial::new("nginx", &[("Dockerfile", &dockerfile.replace("PORT", &port.to_string())), ("index.html", "by nginx\n")]);
    tutorial.go("nginx");
    assert_eq!(tutorial.page("nginx", port), "by nginx\n");
}

#[test]
#[ignore = "make test-callers: a debootstrap, and packages from the network"]
fn httpd() {
    needs_caller!("buildah", "debootstrap", "curl");
    let port = free_port();
    let dockerfile = "FROM debian\nRUN apt-get update && apt-get install -y apache2\n\
                      RUN sed -i 's/Listen 80/Listen PORT/' /etc/apache2/ports.conf && sed -i 's/:80>/:PORT>/' /etc/apache2/sites-enabled/000-default.conf\n\
                      COPY index.html /var/www/html/\nEXPOSE PORT\nCMD [\"apachectl\", \"-D\", \"FOREGROUND\"]\n";
    let tutorial = Tutorial::new("httpd", &[("Dockerfile", &dockerfile.replace("PORT", &port.to_string())), ("index.html", "by apache\n")]);
    tutorial.go("httpd");
    assert_eq!(tutorial.page("httpd", port), "by apache\n");
}

#[test]
#[ignore = "make test-callers: a debootstrap, and packages from the network"]
fn a_c_program_in_two_stages() {
    needs_caller!("buildah", "debootstrap", "curl");
    let tutorial = Tutorial::new(
        "c",
        &[
            (
                "Dockerfile",
                "FROM debian AS build\nRUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev\nWORKDIR /src\nCOPY main.c .\n\
                 RUN gcc -O2 -static -o /main main.c && touch -d @0 /main\nFROM scratch\nCOPY --from=build /main /main\nUSER 1000\nENTRYPOINT [\"/main\"]\nCMD [\"world\"]\n",
            ),
            ("main.c", "#include <stdio.h>\nint main(int n, char **words) { printf(\"hello %s\\n\", words[n - 1]); return 0; }\n"),
        ],
    );
    tutorial.go("c");
    assert_eq!(tutorial.scratch.ctl(&["run", "--no-tty", "c"]).ok(), "hello world");
    assert_eq!(tutorial.scratch.ctl(&["run", "--no-tty", "c", "you"]).ok(), "hello you");
}

/// A Dockerfile with most of what changes files or config, on the busybox base.
const ALL: &str = "FROM BASE\nENV A=b\nARG X=1\nRUN mkdir -p /made/here && echo $A$X > /made/file && chown 5:6 /made/file && rm /etc/group\nWORKDIR /work\nCOPY a .\nCOPY dir /copied\n\
    COPY --chown=33:34 dir/deep /owned/\nADD archive.tar /added/\nUSER web\nWORKDIR /users\nEXPOSE 80\nVOLUME /data\nLABEL k=v\nSTOPSIGNAL SIGINT\n\
    HEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\", \"cat /made/file; id -u; pwd\"]\n";

fn all(test: &str) -> Site {
    let site = Site::new(test);
    site.write("a", "a");
    fs::write(site.0.path("ctx/archive.tar"), ctl::tar("inner/file", b"inside")).unwrap();
    let deep = site.write("dir/deep/b", "b");
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o600)).unwrap();
    site
}

/// buildah's bud makes the same of it.
#[test]
fn buildah_makes_the_same() {
    needs_caller!("buildah");
    let site = all("buildah");
    site.build(&ALL.replace("BASE", "base"), &["-t", "ours", "-o", "bundle:bundle"]).ok();
    site.build(&ALL.replace("BASE", "base"), &["-o", "oci:ours:x"]).ok();
    site.0.ctl(&["build", "-t", "base", "-o", "oci:layout:base", "base"]).ok();
    fs::write(site.0.path("docker/config.json"), "{}").unwrap();
    let roots = ["--root", "storage", "--runroot", "runroot", "--storage-driver", "vfs"];
    let buildah = |words: &[&str]| site.0.tool("buildah", &[&roots, words].concat());
    buildah(&["pull", "--policy", "always", "oci:layout:base"]);
    let base = buildah(&["images", "-q"]).lines().next().unwrap().to_string();
    buildah(&["tag", &base, "localhost/base"]);
    site.write("Dockerfile", &ALL.replace("BASE", "localhost/base"));
    // In the format that has a health check.
    buildah(&["bud", "--format", "docker", "--isolation", "chroot", "--layers=false", "--pull-never", "-t", "theirs", "ctx"]);
    buildah(&["push", "-q", "--format", "docker", "theirs", "dir:theirs"]);
    let container = buildah(&["from", "--pull-never", "theirs"]);
    let mounted = PathBuf::from(buildah(&["mount", &container]));
    // buildah makes the place of a volume at a RUN, and leaves one to mount on.
    for dir in ["data", "run"] {
        let _ = fs::remove_dir_all(mounted.join(dir));
    }
    let (ours, theirs) = (tree(&site.0.path("bundle/rootfs")), tree(&mounted));
    buildah(&["rm", &container]);
    buildah(&["rmi", "--all", "--force"]);
    let differ: Vec<_> =
        ours.iter().filter(|(name, entry)| theirs.get(*name) != Some(entry)).chain(theirs.iter().filter(|(name, _)| !ours.contains_key(*name))).collect();
    assert!(differ.is_empty() && ours.len() > 20, "{differ:?}");
    assert_same_config(&config(&site.0, "oci:ours:x"), &config(&site.0, "dir:theirs"));
}

/// `docker load`, `history`, `inspect`, `run`; the same by podman; and Docker's own build of the same.
#[test]
fn docker_and_podman_take_the_image() {
    needs_caller!("dockerd", "podman", "conmon");
    let site = all("loaded");
    site.build(&ALL.replace("BASE", "base"), &["-t", "team/app:1", "-o", "docker-archive:app.tar"]).ok();
    let ours = site.config("team/app:1");
    let archive = site.0.text("app.tar");
    let wanted: Vec<&str> = ours["history"].as_array().unwrap().iter().map(|line| line["created_by"].as_str().unwrap()).collect();
    let prints = "b1\n33\n/users";

    let d = Docker::new("image-build");
    assert!(d.ok(&["load", "-i", &archive]).contains("team/app:1"));
    let history = d.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "team/app:1"]);
    assert_eq!(history.lines().rev().collect::<Vec<_>>(), wanted);
    let inspected = d.inspect("team/app:1");
    for field in ["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck"] {
        assert_eq!(inspected["Config"][field], ours["config"][field], "{field}");
    }
    assert_eq!(d.ok(&["run", "--rm", "team/app:1"]), prints);
    // Docker's builder, on the same base.
    site.0.ctl(&["build", "-t", "base:1", "-o", "docker-archive:base.tar", "base"]).ok();
    d.ok(&["load", "-q", "-i", &site.0.text("base.tar")]);
    site.write("Dockerfile", &ALL.replace("BASE", "base:1"));
    d.ok(&["build", "-q", "-t", "theirs", &site.0.text("ctx")]);
    let exported = |image: &str, dir: &str| {
        let container = d.ok(&["create", image]);
        let tar = d.machine.dir.join(format!("{dir}.tar"));
        d.ok(&["export", "-o", tar.to_str().unwrap(), &container]);
        fs::create_dir(site.0.path(dir)).unwrap();
        site.0.tool("tar", &["-C", dir, "-xpf", tar.to_str().unwrap()]);
        d.ok(&["rm", "-v", &container]);
        tree(&site.0.path(dir))
    };
    let (mut as_ours, as_theirs) = (exported("team/app:1", "by-ours"), exported("theirs", "by-theirs"));
    // The classic builder makes WORKDIRs root's; BuildKit, and we, the USER's.
    let differ: Vec<_> = as_theirs.iter().filter(|(name, entry)| as_ours.get(*name) != Some(entry)).map(|(name, _)| name.clone()).collect();
    assert_eq!(differ, ["users"]);
    as_ours.retain(|name, _| !as_theirs.contains_key(name));
    assert!(as_ours.is_empty(), "{as_ours:?}");

    let p = Podman::new("image-build");
    p.ok(&["load", "-q", "-i", &archive]);
    let history = p.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "team/app:1"]);
    assert_eq!(history.lines().rev().collect::<Vec<_>>(), wanted);
    assert_eq!(p.ok(&["run", "--rm", "team/app:1"]), prints);
}
