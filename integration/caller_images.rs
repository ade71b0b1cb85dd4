//! README's way from a registry to a running server: nginx and Python images, built here since there is no registry to
//! have them from, pushed to docker-registry, fetched, unpacked, run by dhow, and the page read. And Docker and Podman at
//! the same registry and the same store.

mod callers;
#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
mod support;

use callers::docker::Docker;
use callers::images;
use ctl::Scratch;
use registry::Registry;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// With whole systems in the images, longer than the tests' limit.
fn long(scratch: &Scratch, args: &[&str]) {
    let log = scratch.path("long.log");
    let status = scratch.ctl_command(args).stderr(fs::File::create(&log).unwrap()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{args:?}: {}", fs::read_to_string(&log).unwrap());
}

fn build(scratch: &Scratch, name: &str, files: &[(&str, &str)]) {
    let context = scratch.path("context");
    let _ = fs::remove_dir_all(&context);
    fs::create_dir(&context).unwrap();
    files.iter().for_each(|(file, content)| fs::write(context.join(file), content).unwrap());
    // Over the file itself, the package ca-certificates could not be installed.
    let volume = format!("{CA}:/ca.pem:ro");
    long(scratch, &["build", "-t", name, "--volume", &volume, "context"]);
}

fn base(scratch: &Scratch) {
    let root = scratch.text("root");
    let made = Command::new("debootstrap").args(["--variant=minbase", "bookworm", &root]).stdout(Stdio::null()).status().unwrap();
    assert!(made.success());
    scratch.tool("tar", &["-C", &root, "-cf", "rootfs.tar", "."]);
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(scratch.path("base")).unwrap();
    fs::rename(scratch.path("rootfs.tar"), scratch.path("base/rootfs.tar")).unwrap();
    fs::write(scratch.path("base/Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCMD [\"bash\"]\n").unwrap();
    long(scratch, &["build", "-t", "debian", "base"]);
}

/// `fetch`, `unpack`, `dhow run`; what the server says once it listens.
fn page(scratch: &Scratch, name: &str, id: &str, port: u16) -> String {
    long(scratch, &["fetch", name]);
    long(scratch, &["unpack", "--host-network", name, id]);
    let mut command = scratch.command(env!("CARGO_BIN_EXE_dhow"), &["--root", "state", "run", "--bundle", id, id]);
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let got = Command::new("curl").args(["-s", "--noproxy", "*", "--retry", "60", "--retry-connrefused", "--retry-delay", "1", &url]).output().unwrap();
    end(scratch, id, &mut server);
    String::from_utf8(got.stdout).unwrap()
}

fn end(scratch: &Scratch, id: &str, server: &mut Child) {
    let dhow = Path::new(env!("CARGO_BIN_EXE_dhow"));
    let _ = scratch.command(dhow, &["--root", "state", "kill", id, "KILL"]).status();
    assert!(support::wait(server, Duration::from_secs(20)).is_some(), "{id} didn't end");
    let _ = scratch.command(dhow, &["--root", "state", "delete", "--force", id]).status();
}

#[test]
#[ignore = "make test-callers"]
fn nginx_and_python_from_a_registry_to_a_page() {
    needs_root!();
    let scratch = Scratch::new("readme");
    let registry = Registry::plain(&scratch);
    base(&scratch);
    let (nginx, python) = (registry.name("demo/nginx:1.22"), registry.name("demo/python:3.11"));
    build(
        &scratch,
        &nginx,
        &[
            (
                "Dockerfile",
                "FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends nginx-light\n\
                 RUN sed -i 's/80 default_server/18084 default_server/' /etc/nginx/sites-enabled/default\n\
                 COPY index.html /var/www/html/\nEXPOSE 18084\nSTOPSIGNAL SIGQUIT\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n",
            ),
            ("index.html", "hello from nginx\n"),
        ],
    );
    build(
        &scratch,
        &python,
        &[
            (
                "Dockerfile",
                "FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip ca-certificates\nWORKDIR /app\n\
                 RUN pip install --break-system-packages --cert /ca.pem Flask\nCOPY app.py .\nEXPOSE 18085\nCMD [\"flask\", \"run\", \"--port\", \"18085\"]\n",
            ),
            ("app.py", "from flask import Flask\napp = Flask(__name__)\n\n@app.route(\"/\")\ndef hello():\n    return \"hello from Python\\n\"\n"),
        ],
    );
    for name in [&nginx, &python] {
        long(&scratch, &["push", name]);
        long(&scratch, &["rmi", name]);
    }
    assert_eq!(page(&scratch, &nginx, "nginx", 18084), "hello from nginx\n");
    assert_eq!(page(&scratch, &python, "python", 18085), "hello from Python\n");
    long(&scratch, &["verify"]);
}

/// What one of the three pushes, saves or stores the others pull, load and read, and it runs.
#[test]
fn docker_and_podman_read_what_dhowctl_brings_and_it_what_they_push() {
    needs_caller!("dockerd", "podman", "conmon", "docker-registry", "skopeo", "curl");
    let d = Docker::new("images");
    let dir = d.machine.dir.clone();
    let path = |name: &str| dir.join(name).display().to_string();
    let config = json!({"version": "0.1", "log": {"level": "error"}, "http": {"addr": "127.0.0.1:5000"}, "storage": {"filesystem": {"rootdirectory": path("registry")}}});
    fs::write(dir.join("registry.yml"), config.to_string()).unwrap();
    let up = || d.machine.call("curl", &["-sf", "http://127.0.0.1:5000/v2/"]).code == 0;
    let mut registry = d.machine.daemon("docker-registry", &["serve", &path("registry.yml")], up);

    let store = path("store");
    let ctl = |args: &[&str]| {
        let mut command = d.machine.settled(env!("CARGO_BIN_EXE_dhowctl"));
        command.args(["--store", &store]).args(args);
        d.machine.finish(command, callers::LIMIT).ok().to_string()
    };
    let podman = |args: &[&str]| {
        let mut command = d.machine.settled("podman");
        command.args(args);
        d.machine.finish(command, callers::LIMIT).ok().to_string()
    };
    let podman_run = |name: &str| {
        podman(&[
            "run",
            "--rm",
            "--runtime",
            "/usr/local/bin/dhow",
            "--cgroup-manager",
            "cgroupfs",
            "--ulimit",
            "nofile=20000:20000",
            "--ulimit",
            "nproc=1000:1000",
            "--network",
            "none",
            name,
        ])
    };
    let image = images::busybox(&dir, "ours:1", &["cat", "/www/index.html"]);
    let (ours, dockers, podmans) = ("127.0.0.1:5000/by/dhowctl:1", "127.0.0.1:5000/by/docker:1", "127.0.0.1:5000/by/podman:1");

    // Pushed by dhowctl.
    ctl(&["push", &format!("docker-archive:{}", image.display()), ours]);
    d.ok(&["pull", "-q", ours]);
    assert_eq!(d.ok(&["run", "--rm", ours]), "the page");
    podman(&["pull", "-q", "--tls-verify=false", ours]);
    assert_eq!(podman_run(ours), "the page");
    // Pushed by them.
    d.ok(&["tag", ours, dockers]);
    d.ok(&["push", "-q", dockers]);
    podman(&["push", "-q", "--tls-verify=false", ours, podmans]);
    for name in [ours, dockers, podmans] {
        ctl(&["fetch", "-q", name]);
        assert_eq!(ctl(&["run", "-q", "--runtime", "/usr/local/bin/dhow", name]), "the page");
    }
    assert!(ctl(&["verify"]).ends_with("0 faults"));
    // Out of the store.
    podman(&["rmi", "-f", ours]);
    // It gives it a name of the directory's; the id is what it prints.
    let id = podman(&["pull", "-q", &format!("oci:{store}:{ours}")]);
    assert_eq!(podman_run(&id), "the page");
    d.ok(&["rmi", "-f", ours, dockers]);
    ctl(&["fetch", "-q", "-o", &format!("oci:{}:1", path("out")), dockers]);
    d.machine.call("skopeo", &["copy", "-q", &format!("oci:{}:1", path("out")), "docker-daemon:from/store:1"]).ok();
    assert_eq!(d.ok(&["run", "--rm", "from/store:1"]), "the page");
    // In a file.
    ctl(&["fetch", "-q", "-o", &format!("docker-archive:{}:saved:1", path("saved.tar")), podmans]);
    assert!(d.ok(&["load", "-i", &path("saved.tar")]).contains("saved:1"));
    assert_eq!(d.ok(&["run", "--rm", "saved:1"]), "the page");
    podman(&["load", "-q", "-i", &path("saved.tar")]);
    assert_eq!(podman_run("saved:1"), "the page");
    d.ok(&["save", "-o", &path("theirs.tar"), "saved:1"]);
    assert_eq!(ctl(&["run", "-q", "--runtime", "/usr/local/bin/dhow", &format!("docker-archive:{}", path("theirs.tar"))]), "the page");
    let _ = registry.kill();
    let _ = registry.wait();
}
