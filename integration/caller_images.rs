//! README's way from a registry to a running server: nginx and Python images, built here since there is no registry to
//! have them from, pushed to docker-registry, fetched, unpacked, run by dhow, and the page read.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
mod support;

use ctl::Scratch;
use registry::Registry;
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
