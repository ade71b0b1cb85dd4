//! The tutorials' Dockerfiles, whole: built on a debootstrap, run with dhow, the page fetched.

#[path = "support/ctl.rs"]
mod ctl;
mod support;

use ctl::Scratch;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(300);
const CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Debian's base as an image named `debian`.
fn site() -> Scratch {
    let scratch = Scratch::new("build-tutorials");
    let root = scratch.text("root");
    let made = Command::new("debootstrap").args(["--variant=minbase", "bookworm", &root]).stdout(Stdio::null()).status().unwrap();
    assert!(made.success());
    fs::create_dir(scratch.path("base")).unwrap();
    scratch.tool("tar", &["-C", &root, "-cf", "base/rootfs.tar", "."]);
    fs::remove_dir_all(&root).unwrap();
    fs::write(scratch.path("base/Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCMD [\"bash\"]\n").unwrap();
    build(&scratch, "debian", "base");
    scratch
}

/// Longer than the tests' limit, so it is waited for here.
fn build(scratch: &Scratch, name: &str, context: &str) -> Duration {
    let began = Instant::now();
    // Over the file itself, the package ca-certificates could not be installed.
    let volume = format!("{CA}:/ca.pem:ro");
    let mut command = scratch.ctl_command(&["build", "-t", name, "--volume", &volume, context]);
    let log = scratch.path(&format!("{name}.log"));
    let status = command.stderr(fs::File::create(&log).unwrap()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(&log).unwrap());
    began.elapsed()
}

fn context(scratch: &Scratch, name: &str, files: &[(&str, &str)]) {
    fs::create_dir(scratch.path(name)).unwrap();
    files.iter().for_each(|(file, content)| fs::write(scratch.path(name).join(file), content).unwrap());
}

/// Run the image with the host's network and fetch the page.
fn page(scratch: &Scratch, name: &str, port: u16) -> String {
    let mut server = scratch.ctl_command(&["run", "--no-tty", "--host-network", name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    // curl waits for the port to be open.
    let got = Command::new("curl").args(["-s", "--retry", "60", "--retry-connrefused", "--retry-delay", "1", &url]).output().unwrap();
    // SAFETY: the child is ours and not reaped.
    unsafe { libc::kill(server.id() as i32, libc::SIGTERM) };
    if support::wait(&mut server, Duration::from_secs(20)).is_none() {
        eprintln!("{name} didn't end at SIGTERM");
    }
    String::from_utf8_lossy(&got.stdout).into_owned()
}

#[test]
#[ignore = "make test-callers"]
fn the_tutorials_build_and_serve() {
    needs_root!();
    let scratch = site();
    context(
        &scratch,
        "flask",
        &[
            (
                "Dockerfile",
                "FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip ca-certificates\nWORKDIR /app\n\
                 COPY requirements.txt .\nRUN pip install --break-system-packages --cert /ca.pem -r requirements.txt\nADD . /app\nEXPOSE 18080\nENV NAME=World\nCMD [\"python3\", \"app.py\"]\n",
            ),
            ("requirements.txt", "Flask\n"),
            (
                "app.py",
                "from flask import Flask\nimport os\napp = Flask(__name__)\n@app.route('/')\ndef hello():\n    return f\"Hello {os.getenv('NAME')}!\"\napp.run(host='127.0.0.1', port=18080)\n",
            ),
        ],
    );
    build(&scratch, "flask", "flask");
    assert_eq!(page(&scratch, "flask", 18080), "Hello World!");
    assert!(build(&scratch, "flask", "flask") < Duration::from_secs(5), "all of it is cached");
    context(
        &scratch,
        "nginx",
        &[
            (
                "Dockerfile",
                "FROM debian\nRUN apt-get update && apt-get install -y nginx-light\nRUN sed -i 's/80 default_server/18081 default_server/' /etc/nginx/sites-enabled/default\n\
                 COPY index.html /var/www/html/\nEXPOSE 18081\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n",
            ),
            ("index.html", "by nginx\n"),
        ],
    );
    build(&scratch, "nginx", "nginx");
    assert_eq!(page(&scratch, "nginx", 18081), "by nginx\n");
    context(
        &scratch,
        "httpd",
        &[
            (
                "Dockerfile",
                "FROM debian\nRUN apt-get update && apt-get install -y apache2\nRUN sed -i 's/Listen 80/Listen 18082/' /etc/apache2/ports.conf && sed -i 's/:80>/:18082>/' /etc/apache2/sites-enabled/000-default.conf\n\
                 COPY index.html /var/www/html/\nEXPOSE 18082\nCMD [\"apachectl\", \"-D\", \"FOREGROUND\"]\n",
            ),
            ("index.html", "by apache\n"),
        ],
    );
    build(&scratch, "httpd", "httpd");
    assert_eq!(page(&scratch, "httpd", 18082), "by apache\n");
    context(
        &scratch,
        "c",
        &[
            (
                "Dockerfile",
                "FROM debian AS build\nRUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev\nCOPY main.c .\nRUN gcc -O2 -static -o /main main.c\n\
                 FROM scratch\nCOPY --from=build /main /main\nCMD [\"/main\"]\n",
            ),
            ("main.c", "#include <stdio.h>\nint main(void) { puts(\"from scratch\"); return 0; }\n"),
        ],
    );
    build(&scratch, "c", "c");
    let began = Instant::now();
    let mut run = scratch.ctl_command(&["run", "--no-tty", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(run.wait().unwrap().success() && began.elapsed() < LONG);
    assert_eq!(line, "from scratch\n");
}
