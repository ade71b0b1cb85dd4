#!/usr/bin/env python3
"""A Dockerfile to an image: dhowctl build beside docker build (the classic builder and BuildKit) and buildah, in one run.

    python3 benches/build.py [--rounds N] [--cache DIR] [--only NAME,...]

Needs root, debootstrap, and the peers' packages; peers that are missing are left out. The base image (a Debian with
python3, pip and the wheels of Flask in /wheels) is made once, or taken from --cache. Each builder has it unpacked in a
store of its own, on an ext4 of its own in memory. A round is, for one builder after the other: cold, with an empty build
cache; cached, the same again; changed, with another line in app.py. For each: the median of the rounds, wall s, CPU s (client,
daemons, and what RUN runs), and the largest resident size of a process of the builder's, in MB.
"""
import argparse, contextlib, json, multiprocessing, os, shutil, signal, statistics, subprocess, sys, tempfile, time
import image
from image import DHOWCTL, measure, peak_of, rm, sh

DHOW = os.environ.get("DHOW", os.path.join(os.path.dirname(DHOWCTL), "dhow"))
# Another docker may come first in PATH, without BuildKit's client.
DOCKER = os.environ.get("DOCKER", "/usr/bin/docker")
WAYS = ["cold", "cached", "changed"]

DOCKERFILE = """\
FROM {base}
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-index --find-links /wheels -r requirements.txt
COPY . .
EXPOSE 5000
ENV NAME=World
CMD ["python3", "app.py"]
"""
APP = """\
import os
from flask import Flask

app = Flask(__name__)

@app.route("/")
def hello():
    return f"Hello {os.environ['NAME']}!"

if __name__ == "__main__":
    app.run(host="0.0.0.0")
"""


# ---- what is built


def make_rootfs(directory):
    """A Debian with python3, pip, and Flask's wheels."""
    if os.path.isdir(os.path.join(directory, "wheels")):
        return
    rm(directory)
    sh("debootstrap", "--variant=minbase", "--include=python3,python3-pip", "bookworm", directory)
    # As in Docker's python images, where pip may write.
    for base, _, names in os.walk(os.path.join(directory, "usr/lib")):
        if "EXTERNALLY-MANAGED" in names:
            os.remove(os.path.join(base, "EXTERNALLY-MANAGED"))
    fetched = os.path.join(directory, ".wheels")
    platform = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux2014_x86_64"]
    sh(sys.executable, "-m", "pip", "download", "-q", "-d", fetched, *platform, "flask")
    os.rename(fetched, os.path.join(directory, "wheels"))


def make_base(rootfs, layout):
    left_out = ("./proc/", "./sys/", "./dev/", "./var/cache/apt/", "./var/lib/apt/lists/")
    image.layout(layout, [image.tar_of(rootfs, lambda name: not name.startswith(left_out))])


def make_context(directory, base):
    os.makedirs(directory)
    for name, text in [("Dockerfile", DOCKERFILE.format(base=base)), ("requirements.txt", "flask\n"), ("app.py", APP), (".dockerignore", "*.pyc\n.git\n")]:
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)


def change(directory):
    """Another line in app.py, one that no builder has seen."""
    with open(os.path.join(directory, "app.py"), "w") as file:
        file.write(APP + f"# {time.time_ns()}\n")


# ---- measuring


class Peak:
    """The largest resident size of a command's processes that are the same program: what a RUN starts is not the builder's."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self):
        peak, program = 0, lambda pid: os.path.realpath(f"/proc/{pid}/exe")
        while self.child.poll() is None:
            for pid in [self.child.pid, *self.below(self.child.pid)]:
                with contextlib.suppress(OSError, StopIteration):
                    if program(pid) == program(self.child.pid):
                        peak = max(peak, peak_of(pid))
            time.sleep(0.002)
        return peak

    def below(self, pid):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    for child in file.read().split():
                        yield int(child)
                        yield from self.below(int(child))


class Builder:
    """`build` is a command; `forget` makes its cache empty and leaves the base image unpacked."""

    def __init__(self, build, forget, daemons=(), ways=WAYS):
        self.build, self.forget, self.daemons, self.ways = build, forget, daemons, ways

    def run(self, way, context):
        if way == "cold":
            self.forget()
        if way == "changed":
            change(context)
        os.sync()
        wall, cpu, _ = measure([self.build], self.daemons)
        return wall, cpu

    def memory(self, way, context):
        if way == "cold":
            self.forget()
        if way == "changed":
            change(context)
        return max([Peak(self.build).wait()] + [peak_of(pid) for pid in self.daemons])


class Bench(image.Bench):
    def __init__(self, work, stack):
        super().__init__(work, stack)
        self.context = os.path.join(work, "context")

    def base(self):
        return f"{self.registry}/base:latest"

    def dhowctl(self):
        ctl = [DHOWCTL, "--store", f"{self.disk}/dhow"]
        sh(*ctl, "fetch", "--quiet", self.base())
        build = [*ctl, "build", "-q", "--runtime", DHOW, "--runtime-root", f"{self.work}/dhow-run", "-t", "flask", self.context]
        # What a build unpacked of the base stays as long as the base does.
        sh(*build)
        def forget():
            subprocess.run([*ctl, "rmi", "flask"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            sh(*ctl, "prune")
        return Builder(build, forget)

    def buildah(self):
        roots = ["--root", f"{self.disk}/buildah", "--runroot", f"{self.work}/buildah-run", "--storage-driver", "overlay"]
        buildah = ["buildah", *roots]
        self.stack.callback(subprocess.run, ["umount", "-l", f"{self.disk}/buildah/overlay"], stderr=subprocess.DEVNULL)
        sh(*buildah, "pull", "-q", "--tls-verify=false", self.base())
        build = [*buildah, "build", "-q", "--layers", "--pull-never", "--isolation", "oci", "--runtime", "runc", "--network", "host", "-t", "flask", self.context]
        def forget():
            listed = json.loads(subprocess.run([*buildah, "images", "-a", "--json"], stdout=subprocess.PIPE, check=True).stdout or "[]")
            ours = [one["id"] for one in listed or [] if self.base() not in (one["names"] or [])]
            if ours:
                sh(*buildah, "rmi", "-f", *ours)
        return Builder(build, forget)

    def docker(self, buildkit):
        docker, daemons = self.dockerd(DOCKER, f"docker{buildkit}")
        sh(*docker, "pull", "-q", self.base())
        build = ["env", f"DOCKER_BUILDKIT={buildkit}", *docker, "build", "-q", "--network", "host", "-t", "flask", self.context]
        def forget():
            subprocess.run([*docker, "rmi", "-f", "flask"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            sh(*docker, "image", "prune", "-f")
            sh(*docker, "builder", "prune", "-af")
        return Builder(build, forget, daemons)

    def floor(self):
        """What RUN has to do, without a container: a cold build can't be quicker."""
        store, dirs = f"{self.disk}/floor-store", [f"{self.disk}/floor/{name}" for name in ("upper", "work", "merged")]
        sh(DHOWCTL, "--store", store, "unpack", "--quiet", self.base(), f"{self.disk}/floor")
        upper, work, merged = dirs
        unmount = lambda: subprocess.run(["umount", "-l", merged], stderr=subprocess.DEVNULL)
        self.stack.callback(unmount)
        def forget():
            unmount()
            rm(*dirs)
            for path in dirs:
                os.mkdir(path)
            sh("mount", "-t", "overlay", "-o", f"lowerdir={self.disk}/floor/rootfs,upperdir={upper},workdir={work}", "overlay", merged)
        return Builder(["chroot", merged, "pip", "install", "-q", "--no-index", "--find-links", "/wheels", "flask"], forget, ways=["cold"])

    def classic(self):
        return self.docker(0)

    def buildkit(self):
        return self.docker(1)


CONTENDERS = {
    "dhowctl build": ("dhowctl", []),
    "docker build, BuildKit": ("buildkit", ["dockerd", DOCKER]),
    "docker build, classic": ("classic", ["dockerd", DOCKER]),
    "buildah build --layers": ("buildah", ["buildah", "runc"]),
    "pip alone, in a chroot": ("floor", []),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", help="a directory that keeps the base image from run to run")
    parser.add_argument("--only", default="", help="contenders whose names contain one of these words")
    parser.add_argument("--ways", default=",".join(WAYS))
    options = parser.parse_args()
    chosen = {name: maker for name, (maker, needs) in CONTENDERS.items() if all(map(shutil.which, needs)) and (not options.only or any(word in name for word in options.only.split(",")))}
    # So that daemons and mounts go whatever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        work = tempfile.mkdtemp(prefix="dhow-bench-")
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        cache = options.cache or work
        os.makedirs(cache, exist_ok=True)
        layout, bench = os.path.join(cache, "layout"), Bench(work, stack)
        if not os.path.exists(os.path.join(layout, "index.json")):
            def make():
                make_rootfs(os.path.join(cache, "rootfs"))
                make_base(os.path.join(cache, "rootfs"), layout)
            # In a process of its own: a child's peak memory begins with what its parent had when it was forked.
            maker = multiprocessing.Process(target=make)
            maker.start()
            maker.join()
        bench.start_registry()
        bench.push("base", layout)
        make_context(bench.context, bench.base())
        bench.mount_disk()
        ready = bench.ready(chosen)
        results, peaks = {}, {}
        try:
            # The first round warms the page cache, and looks at memory, which takes time.
            for name, builder in ready.items():
                peaks[name] = max(builder.memory(way, bench.context) for way in builder.ways)
            for _ in range(options.rounds):
                for name, builder in ready.items():
                    for way in filter(options.ways.split(",").__contains__, builder.ways):
                        results.setdefault((name, way), []).append(builder.run(way, bench.context))
        finally:
            # Broken off, it says what it has.
            print("| Flask's Dockerfile | " + " | ".join(WAYS) + " | peak MB |\n|---|" + "---|" * (len(WAYS) + 1))
            for name in ready:
                cells = []
                for way in WAYS:
                    runs = results.get((name, way), [])
                    cells.append("{:.3f}/{:.3f}".format(*(statistics.median(column) for column in zip(*runs))) if runs else "–")
                print(f"| {name} | " + " | ".join(cells) + f" | {peaks[name]:.0f} |" if peaks.get(name) else " | – |")


if __name__ == "__main__":
    main()
