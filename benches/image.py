#!/usr/bin/env python3
"""From a registry to a root file system: dhowctl beside skopeo + umoci, podman, docker and ctr, in one run.

    python3 benches/image.py [--rounds N] [--rootfs DIR] [--only NAME,...] [--images base,python,node] [--keep DIR]

Needs root, docker-registry, and the peers' packages; peers that are missing are left out. A Debian root file system is
made by debootstrap once, or taken from --rootfs. All runs against a registry on loopback with a cold store, on an ext4 of
its own in memory. For each: the median of the rounds, wall s, CPU s (client and
daemons), and the largest resident size of a client process, or of a daemon, in MB.

The last row is the floor, for CPU: what the fastest tools (igzip of package isal, openssl, tar) take on one core for what
cannot be left out, the digests of blobs and layers, inflating, and making the files. Nothing is fetched or stored in it.

Images: base, one layer, a Debian; python, the same below ten layers with changed copies of its libraries; node, the same
below four layers with 69,000 small files.
"""
import argparse, contextlib, gzip, hashlib, io, json, multiprocessing, os, random, shutil, signal, socket, statistics, subprocess, sys, tarfile, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
DHOWCTL = os.environ.get("DHOWCTL", os.path.join(HERE, "../build/dhowctl"))


def sh(*args, **more):
    return subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)


# ---- images


def tar_of(directory, name_filter=lambda path: True):
    """The directory as a tar, in order of names, owners as numbers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        def add(path, name):
            if not name_filter(name):
                return
            info = tar.gettarinfo(path, name)
            info.uname = info.gname = ""
            if info.isreg():
                with open(path, "rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)
            if info.isdir():
                for child in sorted(os.listdir(path)):
                    add(os.path.join(path, child), os.path.join(name, child))
        add(directory, ".")
    return out.getvalue()


def tar_of_files(files):
    """name → bytes, with the directories around them."""
    out, made = io.BytesIO(), set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files:
            parts = name.split("/")
            for at in range(1, len(parts)):
                parent = "/".join(parts[:at])
                if parent not in made:
                    made.add(parent)
                    info = tarfile.TarInfo(parent)
                    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                    tar.addfile(info)
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o644, 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def python_layers(rootfs):
    """Ten layers of about 30 MB: the libraries of the root file system, each copy a little different."""
    library = []
    for base, _, names in os.walk(os.path.join(rootfs, "usr/lib")):
        for name in sorted(names):
            path = os.path.join(base, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    library.append((os.path.relpath(path, rootfs), file.read()))
    for number in range(10):
        mark, size, files = b"layer %d " % number, 0, []
        for name, content in library[number * 7 % 50:]:
            if size > 32 << 20:
                break
            files.append((f"opt/{number}/{name}", mark + content))
            size += len(content)
        yield tar_of_files(files)


def node_layers():
    """69,000 files of some 1.6 KB in four layers, as node_modules has them."""
    rng = random.Random(1)
    words = ["const", "function", "return", "module.exports", "require('./x')", "=>", "{", "}", "if (a === b)", "throw new Error('no')", "// a comment", "\n"]
    for layer in range(4):
        files = []
        for number in range(17_250):
            text = " ".join(rng.choices(words, k=rng.randrange(20, 340)))
            files.append((f"app/node_modules/p{layer}-{number // 100}/lib/m{number % 5}/f{number}.js", text.encode()))
        yield tar_of_files(files)


def layout(directory, layers):
    blobs = os.path.join(directory, "blobs/sha256")
    os.makedirs(blobs, exist_ok=True)

    def put(media, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    described, ids = [], []
    for raw in layers:
        ids.append("sha256:" + hashlib.sha256(raw).hexdigest())
        packed = subprocess.run(["gzip", "-6nc"], input=raw, stdout=subprocess.PIPE, check=True).stdout
        described.append(put("application/vnd.oci.image.layer.v1.tar+gzip", packed))
    oci = "application/vnd.oci.image."
    config = put(oci + "config.v1+json", json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers", "diff_ids": ids}, "history": [{"created_by": "benches"} for _ in ids]}).encode())
    manifest = put(oci + "manifest.v1+json", json.dumps({"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": described}).encode())
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(os.path.join(directory, "oci-layout"), "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    with open(os.path.join(directory, "index.json"), "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, file)


def layer_blobs(directory):
    """The files of the layers, the lowest first."""
    blob = lambda descriptor: os.path.join(directory, "blobs", descriptor["digest"].replace(":", "/"))
    with open(os.path.join(directory, "index.json")) as file:
        top = json.load(file)["manifests"][0]
    with open(blob(top)) as file:
        return [blob(layer) for layer in json.load(file)["layers"]]


# ---- measuring


def cpu_of(pids):
    """User and system seconds of processes, with their reaped children."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += sum(int(fields[at]) for at in (11, 12, 13, 14))
    return total / os.sysconf("SC_CLK_TCK")


def peak_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def measure(commands, daemons=(), env=None):
    before, start, cpu, peak = cpu_of(daemons), time.monotonic(), 0, 0
    for command in commands:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise RuntimeError(f"{command}: {errors.decode(errors='replace')[-600:]}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
    wall = time.monotonic() - start
    return wall, cpu + cpu_of(daemons) - before, max([peak] + [peak_of(pid) for pid in daemons])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Bench:
    def __init__(self, work, stack):
        self.work, self.stack = work, stack
        self.disk = os.path.join(work, "disk")
        self.registry = None

    def start(self, *command, **more):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.work, "daemons.log"), "ab"), **more)
        def stop():
            child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(15)
            if child.poll() is None:
                child.kill()
                child.wait()
        self.stack.callback(stop)
        return child

    def ready(self, chosen):
        """What the method of each name makes; a name whose method fails is left out, and told."""
        made = {}
        for name, maker in chosen.items():
            try:
                made[name] = getattr(self, maker)()
            except (OSError, subprocess.CalledProcessError) as e:
                print(f"left out: {name}: {e} {getattr(e, 'stderr', None) or ''}", file=sys.stderr)
        return made

    def mount_disk(self):
        """An ext4 in memory, so that neither the machine's disk nor its journal is measured."""
        memory = os.path.join(self.work, "memory")
        for directory in (self.disk, memory):
            os.makedirs(directory, exist_ok=True)
        sh("mount", "-t", "tmpfs", "-o", "size=12g", "tmpfs", memory)
        self.stack.callback(subprocess.run, ["umount", "-l", memory])
        image = os.path.join(memory, "disk.img")
        with open(image, "wb") as file:
            file.truncate(11 << 30)
        sh("mkfs.ext4", "-q", "-F", "-N", "2000000", image)
        sh("mount", "-o", "loop,noatime", image, self.disk)
        self.stack.callback(subprocess.run, ["umount", "-l", self.disk])

    def start_registry(self):
        port = free_port()
        config = os.path.join(self.work, "registry.yml")
        with open(config, "w") as file:
            file.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.work}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
        self.start("docker-registry", "serve", config)
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        self.registry = f"127.0.0.1:{port}"

    def push(self, name, directory):
        sh("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{directory}:latest", f"docker://{self.registry}/{name}:latest")

    # Each returns a function: the image's name → (commands, clean-up).

    def dhowctl(self):
        store, bundle = f"{self.disk}/dhow", f"{self.disk}/bundle"
        return lambda image: measure([[DHOWCTL, "--store", store, "unpack", "--quiet", f"{self.registry}/{image}", bundle]]), lambda image: rm(store, bundle)

    def dhowctl_overlay(self):
        store, bundle = f"{self.disk}/dhow", f"{self.disk}/bundle"
        def clean(image):
            subprocess.run(["umount", f"{bundle}/rootfs"], stderr=subprocess.DEVNULL)
            rm(store, bundle)
        return lambda image: measure([[DHOWCTL, "--store", store, "unpack", "--overlay", "--quiet", f"{self.registry}/{image}", bundle]]), clean

    def umoci(self):
        oci, root = f"{self.disk}/oci", f"{self.disk}/umoci"
        def run(image):
            return measure([["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{self.registry}/{image}:latest", f"oci:{oci}:latest"], ["umoci", "raw", "unpack", "--image", f"{oci}:latest", root]])
        return run, lambda image: rm(oci, root)

    def floor(self):
        """Blobs and layers are at hand as files; the digest of a layer is that of a file too, so no pipe is split."""
        root, layers = f"{self.disk}/floor", os.path.join(self.work, "memory", "layers")
        os.makedirs(layers, exist_ok=True)
        one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]

        def run(image):
            blobs = layer_blobs(os.path.join(self.work, image))
            tars = [os.path.join(layers, os.path.basename(blob)) for blob in blobs]
            for blob, tar in zip(blobs, tars):
                if not os.path.exists(tar):
                    with open(tar, "wb") as out:
                        subprocess.run(["igzip", "-dc", blob], stdout=out, check=True)
            os.makedirs(root)
            unpack = f'for blob; do igzip -dc "$blob" | tar -x -C {root} || exit 1; done'
            return measure([one_core + command for command in (["openssl", "dgst", "-sha256", *blobs], ["sh", "-c", unpack, "sh", *blobs], ["openssl", "dgst", "-sha256", *tars])])
        return run, lambda image: rm(root)

    def podman(self):
        base = ["podman", "--root", f"{self.disk}/podman", "--runroot", f"{self.disk}/podman-run", "--storage-driver", "overlay"]
        clean = lambda image: (subprocess.run(["umount", "-l", f"{self.disk}/podman/overlay"], stderr=subprocess.DEVNULL), rm(f"{self.disk}/podman", f"{self.disk}/podman-run"))
        return lambda image: measure([base + ["pull", "-q", "--tls-verify=false", f"{self.registry}/{image}:latest"]]), clean

    def containerd(self):
        sock, config = f"{self.work}/c.sock", f"{self.work}/containerd.toml"
        with open(config, "w") as file:
            file.write(f'version = 2\nroot = "{self.disk}/containerd"\nstate = "{self.work}/c-state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{sock}"\n')
        child = self.start("containerd", "-c", config, "-l", "error")
        wait_for(lambda: sh("ctr", "-a", sock, "version"))
        return sock, child.pid

    def ctr(self):
        sock, pid = self.containerd()
        ctr = ["ctr", "-a", sock]
        clean = lambda image: sh(*ctr, "images", "rm", "--sync", f"{self.registry}/{image}:latest")
        return lambda image: measure([ctr + ["images", "pull", "--plain-http", f"{self.registry}/{image}:latest"]], [pid]), clean

    def dockerd(self, client="docker", name="docker"):
        """A dockerd of our own: the client's words for it, and its processes."""
        host, state = f"unix://{self.work}/{name}.sock", f"{self.work}/{name}-state"
        child = self.start("dockerd", "--host", host, "--data-root", f"{self.disk}/{name}", "--exec-root", state, "--pidfile", f"{self.work}/{name}.pid", "--bridge", "none", "--iptables=false", "--storage-driver", "overlay2", "--insecure-registry", self.registry)
        docker = [client, "--host", host]
        wait_for(lambda: sh(*docker, "version"))
        return docker, [child.pid] + [int(pid) for pid in subprocess.run(["pgrep", "-P", str(child.pid)], stdout=subprocess.PIPE).stdout.split()]

    def docker(self):
        docker, daemons = self.dockerd()
        return lambda image: measure([docker + ["pull", "-q", f"{self.registry}/{image}:latest"]], daemons), lambda image: sh(*docker, "rmi", "-f", f"{self.registry}/{image}:latest")


def rm(*paths):
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def wait_for(probe, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except (OSError, subprocess.CalledProcessError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


CONTENDERS = {
    "dhowctl": ("dhowctl", []),
    "dhowctl --overlay": ("dhowctl_overlay", []),
    "skopeo + umoci raw": ("umoci", ["skopeo", "umoci"]),
    "podman pull": ("podman", ["podman"]),
    "docker pull": ("docker", ["dockerd", "docker"]),
    "ctr pull": ("ctr", ["containerd", "ctr"]),
    "floor: igzip, openssl, tar": ("floor", ["igzip", "openssl", "tar", "taskset"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rootfs")
    parser.add_argument("--only", default="", help="contenders whose names contain one of these words")
    parser.add_argument("--images", default="base,python,node")
    parser.add_argument("--keep", metavar="DIR", help="make the images there, and find them there the next time: for a bench in short pieces")
    options = parser.parse_args()
    chosen = {name: maker for name, (maker, needs) in CONTENDERS.items() if all(map(shutil.which, needs)) and (not options.only or any(word in name for word in options.only.split(",")))}
    for name, (_, needs) in CONTENDERS.items():
        absent = [program for program in needs if not shutil.which(program)]
        if absent:
            print(f"left out: {name}: no {', '.join(absent)}" + (" (package isal)" if "igzip" in absent else ""), file=sys.stderr)
    images = options.images.split(",")
    # So that daemons and mounts go whatever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        work = options.keep and os.path.abspath(options.keep) or tempfile.mkdtemp(prefix="dhow-bench-")
        os.makedirs(work, exist_ok=True)
        if not options.keep:
            stack.callback(shutil.rmtree, work, ignore_errors=True)
        bench = Bench(work, stack)
        rootfs = options.rootfs or os.path.join(work, "rootfs")
        if not options.rootfs and not os.path.exists(rootfs):
            sh("debootstrap", "--variant=minbase", "bookworm", rootfs)
        makers = {"base": lambda: [], "python": lambda: python_layers(rootfs), "node": node_layers}
        bench.start_registry()
        missing = [name for name in images if not os.path.exists(os.path.join(work, name, "index.json"))]
        def build():
            base = tar_of(rootfs, lambda name: not name.startswith(("./proc/", "./sys/", "./dev/", "./var/cache/apt/", "./var/lib/apt/lists/")))
            for name in missing:
                layers = [base, *makers[name]()]
                entries = sum(len(tarfile.open(fileobj=io.BytesIO(layer)).getmembers()) for layer in layers)
                layout(os.path.join(work, name), layers)
                print(f"{name}: {len(layers)} layers, {sum(map(len, layers)) / 1e6:.0f} MB tar, {entries} entries", file=sys.stderr)
        # In a process of its own: a child's peak memory begins with what its parent had when it was forked.
        if missing:
            builder = multiprocessing.Process(target=build)
            builder.start()
            builder.join()
        for name in images:
            bench.push(name, os.path.join(work, name))
        bench.mount_disk()
        ready = bench.ready(chosen)
        results = {}
        try:
            for number in range(options.rounds + 1):
                for image in images:
                    for name, (run, clean) in ready.items():
                        try:
                            result = run(image)
                        except RuntimeError as e:
                            print(f"{name}: {e}", file=sys.stderr)
                            continue
                        finally:
                            with contextlib.suppress(subprocess.CalledProcessError):
                                clean(image)
                            os.sync()
                        # The first round warms the page cache of registry and programs.
                        if number:
                            results.setdefault((name, image), []).append(result)
        finally:
            # Broken off, it says what it has.
            print("| registry → root file system | " + " | ".join(images) + " |\n|---|" + "---|" * len(images))
            for name in ready:
                cells = []
                for image in images:
                    runs = results.get((name, image), [])
                    cells.append("{:.2f}/{:.2f}/{:.0f}".format(*(statistics.median(column) for column in zip(*runs))) if runs else "–")
                print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
