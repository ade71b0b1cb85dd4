#!/usr/bin/env python3
"""What a runtime costs through its callers: Docker and containerd, each with dhow and with runc. See README.md.

Every runtime gets a machine of namespaces of its own (integration/callers/machine.sh) with a dockerd and a containerd in
it; the machines take turns. The runtime's own part comes from timed.c, which stands between the shim and the runtime.
"""
import argparse, json, os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
CALLERS = HERE.parent / "integration" / "callers"


class Machine:
    """One runtime, its two daemons, and what its calls cost."""

    def __init__(self, name, runtime, work):
        self.name, self.dir = name, work / name
        self.dir.mkdir()
        self.log = self.dir / "calls"
        timed = self.dir / "runtime"
        subprocess.run(["gcc", "-O2", f'-DRUNTIME="{runtime}"', f'-DLOG="{self.log}"', "-o", timed, HERE / "timed.c"], check=True)
        self.shell = subprocess.Popen([CALLERS / "machine.sh", f"dhowb-{name}-{os.getpid()}", self.dir, timed], stdin=subprocess.PIPE, stderr=open(self.dir / "machine.log", "w"))
        self.until("the machine", lambda: (self.dir / "ready").exists())
        self.pid = (self.dir / "ready").read_text().strip()
        config = {"runtimes": {"measured": {"path": "/usr/local/bin/runtime"}}, "default-runtime": "measured"}
        self.sh(f"mkdir -p /etc/docker && echo '{json.dumps(config)}' >/etc/docker/daemon.json")
        self.daemons = [self.start("dockerd"), self.start("containerd")]
        self.until("dockerd", lambda: self.call("docker", "version").returncode == 0)
        self.until("containerd", lambda: self.call("ctr", "version").returncode == 0)

    def inside(self, *command):
        return ["nsenter", "-t", self.pid, "-m", "-p", "-n", "-i", "-C", "--", *command]

    def call(self, program, *args):
        program = {"docker": "/usr/bin/docker"}.get(program, program)
        return subprocess.run(self.inside(program, *args), stdin=subprocess.DEVNULL, capture_output=True, env=dict(os.environ, HOME="/root"))

    def sh(self, script):
        return self.call("sh", "-c", script)

    def start(self, program):
        out = open(self.dir / f"{program}.log", "w")
        return subprocess.Popen(self.inside(CALLERS / "enter.sh", program), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def until(self, what, ready):
        end = time.monotonic() + 60
        while not ready():
            if time.monotonic() > end:
                sys.exit(f"{self.name}: {what} is not up after a minute; see {self.dir}")
            time.sleep(0.05)

    def cpu(self):
        """seconds that everything in the machine has used"""
        file = f"/sys/fs/cgroup/cpuacct/dhowb-{self.name}-{os.getpid()}/cpuacct.usage"
        return int(pathlib.Path(file).read_text()) / 1e9

    def measure(self, args):
        """(wall ms, CPU ms of all in the machine, wall ms of the runtime, CPU ms of the runtime)"""
        self.log.write_text("")
        cpu, before = self.cpu(), time.perf_counter()
        done = self.call(*args)
        wall = time.perf_counter() - before
        if done.returncode:
            sys.exit(f"{self.name}: {' '.join(args)}: {done.stderr.decode()}")
        # the engine cleans up behind the client's back: `delete` belongs to the run
        verbs = "delete" if "exec" not in args else "exec"
        self.until(verbs, lambda: any(line.startswith(verbs) for line in self.log.read_text().splitlines()))
        calls = [line.split() for line in self.log.read_text().splitlines()]
        own = [sum(int(c[i]) for c in calls) / 1e6 for i in (1, 2)]
        return wall * 1e3, (self.cpu() - cpu) * 1e3, *own

    def stop(self):
        self.call("sh", "-c", "kill -9 1")
        subprocess.run(["kill", "-9", self.pid])
        self.shell.stdin.close()
        self.shell.wait()


def image(work):
    """busybox as an archive that both engines load"""
    script = """set -e; mkdir -p root/bin image; cp /bin/busybox root/bin/; for a in true sh sleep; do ln -sf busybox root/bin/$a; done
    tar -C root -cf image/layer.tar .; sum=$(sha256sum image/layer.tar | cut -d ' ' -f 1)
    arch=$(dpkg --print-architecture)
    echo '{"architecture":"'$arch'","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' >image/config.json
    echo '[{"Config":"config.json","RepoTags":["docker.io/library/bench:1"],"Layers":["layer.tar"]}]' >image/manifest.json
    tar -C image -cf image.tar manifest.json config.json layer.tar"""
    subprocess.run(["sh", "-c", script], cwd=work, check=True)
    return work / "image.tar"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("-n", type=int, default=30, help="rounds (30)")
    options.add_argument("--json", help="write the numbers to this file")
    args = options.parse_args()
    dhow = os.environ.get("DHOW") or str(HERE.parent / "build" / "dhow")
    runtimes = {"dhow": dhow, "runc": os.environ.get("RUNC") or shutil.which("runc")}
    work = pathlib.Path(tempfile.mkdtemp(prefix="dhow-callers-"))
    machines = [Machine(name, path, work) for name, path in runtimes.items() if path]
    try:
        tar = str(image(work))
        cases = {
            "docker run --rm": ("docker", "run", "--rm", "bench:1", "true"),
            "docker run, host net": ("docker", "run", "--rm", "--network", "host", "bench:1", "true"),  # without libnetwork's hook
            "docker exec": ("docker", "exec", "up", "true"),
            "ctr run --rm": ("ctr", "run", "--rm", "--runc-binary", "/usr/local/bin/runtime", "docker.io/library/bench:1", "one", "true"),
        }
        for machine in machines:
            for command in (("docker", "load", "-q", "-i", tar), ("ctr", "image", "import", tar), ("docker", "run", "-d", "--name", "up", "bench:1", "sleep", "100000")):
                done = machine.call(*command)
                assert done.returncode == 0, done.stderr
        taken = {(case, m.name): [] for case in cases for m in machines}
        for number in range(args.n + 3):
            for case, command in cases.items():
                for machine in machines[number % len(machines):] + machines[: number % len(machines)]:
                    figures = machine.measure(command)
                    if number >= 3:  # the first rounds warm up
                        taken[case, machine.name].append(figures)
        print(f"{os.cpu_count()} CPUs, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}, {args.n} rounds; milliseconds, min / median")
        print(f"{'':22}{'':8}{'wall':>16}{'CPU of all':>16}{'runtime, wall':>18}{'runtime, CPU':>18}")
        for (case, name), rows in taken.items():
            cells = [f"{min(c):.1f} / {statistics.median(c):.1f}" for c in zip(*rows)]
            print(f"{case:22}{name:8}{cells[0]:>16}{cells[1]:>16}{cells[2]:>18}{cells[3]:>18}")
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps({f"{c}, {n}": rows for (c, n), rows in taken.items()}))
    finally:
        for machine in machines:
            machine.stop()
        shutil.rmtree(work, ignore_errors=True)


main()
