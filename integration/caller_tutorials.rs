//! The applications of Docker's tutorials, whole: images built with apt and pip in RUN, kept in a registry, served.

mod callers;
mod support;

use callers::docker::Docker;
use callers::{await_true, images};
use std::process::{Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);

const FLASK: [(&str, &str); 3] = [
    (
        "Dockerfile",
        "FROM localhost:5000/debian
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip ca-certificates
WORKDIR /app
COPY ca.pem /etc/ssl/certs/ca-certificates.crt
ADD . /app
RUN pip install --break-system-packages --cert /etc/ssl/certs/ca-certificates.crt -r requirements.txt
EXPOSE 80
ENV NAME World
CMD [\"python3\", \"app.py\"]
",
    ),
    ("requirements.txt", "Flask\n"),
    (
        "app.py",
        "from flask import Flask
import os, socket

app = Flask(__name__)

@app.route(\"/\")
def hello():
    return f\"<h3>Hello {os.getenv('NAME')}!</h3><b>Hostname:</b> {socket.gethostname()}\"

if __name__ == \"__main__\":
    app.run(host='0.0.0.0', port=80)
",
    ),
];

const NGINX: [(&str, &str); 2] = [
    (
        "Dockerfile",
        "FROM localhost:5000/debian\nRUN apt-get update && apt-get install -y nginx-light\nCOPY index.html /var/www/html/\nEXPOSE 80\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n",
    ),
    ("index.html", "by nginx\n"),
];

const APACHE: [(&str, &str); 2] = [
    (
        "Dockerfile",
        "FROM localhost:5000/debian\nRUN apt-get update && apt-get install -y apache2\nCOPY index.html /var/www/html/\nEXPOSE 80\nCMD [\"apachectl\", \"-D\", \"FOREGROUND\"]\n",
    ),
    ("index.html", "by apache\n"),
];

#[test]
#[ignore = "make test-callers: a debootstrap, and packages from the network"]
fn flask_nginx_and_apache() {
    needs_caller!("dockerd", "docker-registry", "debootstrap", "slirp4netns", "curl");
    let d = Docker::new("tutorials");
    // the way out, without a rule or a route on this machine
    let mut network = Command::new("slirp4netns")
        .args(["--configure", "--mtu=65520", "--disable-host-loopback", &d.machine.pid.to_string(), "tap0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    d.machine.sh("echo nameserver 10.0.2.3 >/etc/resolv.conf").ok();
    d.machine.write(
        "/etc/docker/registry/config.yml",
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/docker/registry}}\nhttp: {addr: 127.0.0.1:5000}\n",
    );
    let mut registry =
        d.machine.daemon("docker-registry", &["serve", "/etc/docker/registry/config.yml"], || d.machine.get("http://127.0.0.1:5000/v2/").is_some());
    let debian = images::debian();
    d.run_within(LONG, &["import", debian.to_str().unwrap(), "localhost:5000/debian"]).ok();
    d.run_within(LONG, &["push", "-q", "localhost:5000/debian"]).ok();

    for (name, files, port, words) in
        [("flask", &FLASK[..], "4000", "Hello World!"), ("nginx", &NGINX, "4001", "by nginx"), ("apache", &APACHE, "4002", "by apache")]
    {
        let context = format!("/root/{name}");
        files.iter().for_each(|(file, text)| d.machine.write(&format!("{context}/{file}"), text));
        d.machine.sh(&format!("cp /etc/ssl/certs/ca-certificates.crt {context}/ca.pem")).ok();
        let image = format!("localhost:5000/{name}:v1");
        d.run_within(LONG, &["build", "-t", &image, &context]).ok();
        d.run_within(LONG, &["push", "-q", &image]).ok();
        d.ok(&["rmi", &image]);
        d.run_within(LONG, &["run", "-d", "--name", name, "-p", &format!("{port}:80"), &image]).ok();
        let page = || d.machine.get(&format!("http://127.0.0.1:{port}/"));
        await_true("the page", callers::LIMIT, || page().is_some(), || d.run(&["logs", name]).err);
        assert!(page().unwrap().contains(words), "{:?}", page());
        d.ok(&["stop", name]);
        d.ok(&["rm", name]);
    }
    for child in [&mut registry, &mut network] {
        let _ = child.kill();
        let _ = child.wait();
    }
}
