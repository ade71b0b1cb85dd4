#!/usr/bin/env python3
"""How long a container takes to start: dhow beside crun, runc and the floor. See README.md. Needs root, gcc, busybox-static."""
import argparse, contextlib, ctypes, json, os, pathlib, platform, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE, PR_SET_CHILD_SUBREAPER = 0x20000, 0x1000, 0x4000, 0x40000, 36
FLOORS = ("floor", []), ("floor+procs", ["-p"]), ("floor+cg", ["-c"])  # no cgroup; joined by cgroup.procs; joined the cheapest way
HIDE = "/sys/fs/cgroup/unified/cgroup.controllers"


def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Runtime:
    def __init__(self, name, path):
        self.name, self.path = name, str(path)
        self.namespace = None  # a mount namespace to be in when it is called; None: ours
        self.bundles = {}
        self.root = None

    def argv(self, *args):
        return [self.path, "--root", self.root, *args]


class Floor:
    namespace = None

    def __init__(self, name, path, *flags):
        self.name, self.path, self.flags = name, str(path), list(flags)


class Spawner:
    """spawn + wait by posix_spawn, nothing between the two clocks but the child."""

    def __init__(self, work):
        must(LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        null = os.open("/dev/null", os.O_RDWR)
        self.log = work / "stderr"
        err = os.open(self.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
        self.ours = os.open("/proc/self/ns/mnt", os.O_RDONLY)

    @contextlib.contextmanager
    def inside(self, namespace):
        if namespace is None:
            yield
            return
        must(LIBC.setns(namespace, CLONE_NEWNS))
        try:
            yield
        finally:
            must(LIBC.setns(self.ours, CLONE_NEWNS))

    def spawn(self, argv):
        return os.posix_spawn(argv[0], argv, os.environ, file_actions=self.actions)

    def once(self, runtime, argv):
        """(wall ms, CPU ms of the runtime and of all it waited for)"""
        with self.inside(runtime.namespace):
            before = time.perf_counter_ns()
            pid = self.spawn(argv)
            _, status, usage = os.wait4(pid, 0)
            after = time.perf_counter_ns()
        if status:
            raise RuntimeError(f"{runtime.name}: {' '.join(argv)}: status {status:#x}: {self.log.read_text()[-400:]}")
        return (after - before) / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3

    def batch(self, runtime, commands, width):
        """seconds for all the commands, `width` of them at a time"""
        with self.inside(runtime.namespace):
            before, flying = time.perf_counter_ns(), 0
            for argv in commands:
                if flying == width:
                    os.wait()
                    flying -= 1
                self.spawn(argv)
                flying += 1
            while flying:
                os.wait()
                flying -= 1
            return (time.perf_counter_ns() - before) / 1e9


def hidden_unified(spawner):
    """A mount namespace without the unified controllers: crun refuses a hybrid host otherwise. Nobody else lives in it."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            must(LIBC.unshare(CLONE_NEWNS))
            must(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
            must(LIBC.mount(b"/dev/null", HIDE.encode(), None, MS_BIND, None))
            os.write(ready[1], b"x")
            os.close(done[1])
            os.read(done[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    if os.read(ready[0], 1) != b"x":
        raise RuntimeError("cannot make crun's mount namespace")
    fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    os.close(done[1])
    os.waitpid(pid, 0)
    for end in (ready[0], done[0]):
        os.close(end)
    return fd


def docker_seccomp(path, capabilities):
    """Docker's profile, with its conditions resolved for this machine, as dockerd writes it into config.json."""
    profile = json.loads(path.read_text())
    if "archMap" not in profile:
        return profile
    machine = platform.machine()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    native = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[machine]
    number = lambda text: tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in text.split(".")[:2])
    kernel = number(platform.release())

    def wanted(rule):
        inc, exc = rule.get("includes") or {}, rule.get("excludes") or {}
        if arch in exc.get("arches", []) or set(exc.get("caps", [])) & set(capabilities):
            return False
        if exc.get("minKernel") and kernel >= number(exc["minKernel"]):
            return False
        if inc.get("arches") and arch not in inc["arches"]:
            return False
        if inc.get("minKernel") and kernel < number(inc["minKernel"]):
            return False
        return set(inc.get("caps", [])) <= set(capabilities)

    keep = ("names", "action", "errnoRet", "args")
    return {
        "defaultAction": profile["defaultAction"],
        **({"defaultErrnoRet": profile["defaultErrnoRet"]} if "defaultErrnoRet" in profile else {}),
        "architectures": next([native, *(m["subArchitectures"] or [])] for m in profile["archMap"] if m["architecture"] == native),
        "syscalls": [{k: r[k] for k in keep if r.get(k)} for r in profile["syscalls"] if wanted(r)],
    }


def make_rootfs(work):
    rootfs = work / "rootfs"
    for d in ("bin", "proc", "dev", "sys", "etc", "tmp", "root", "lib", "usr", "var"):
        (rootfs / d).mkdir(parents=True)
    busybox = shutil.which("busybox") or sys.exit("no busybox (apt install busybox-static)")
    if b"/ld-linux" in pathlib.Path(busybox).read_bytes()[:4096]:
        sys.exit(f"{busybox} is dynamic: busybox-static is wanted")
    shutil.copy2(busybox, rootfs / "bin/busybox")
    for applet in ("sh", "true", "sleep", "cat"):
        os.link(rootfs / "bin/busybox", rootfs / "bin" / applet)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nwheel:x:10:root\n")
    for f in ("resolv.conf", "hostname", "hosts"):
        (rootfs / "etc" / f).touch()
        (work / f).write_text("127.0.0.1 localhost\n" if f == "hosts" else "")
    (work / "shm").mkdir()
    return rootfs


def make_configs(work, rootfs, names, profile):
    unified = not os.path.isdir("/sys/fs/cgroup/memory")
    configs = {}
    for name in names:
        text = (HERE / ("docker.json" if name.startswith("docker") else "default.json")).read_text()
        config = json.loads(text.replace("@BUNDLE@", str(work)))
        config["root"]["path"] = str(rootfs)
        if unified:  # `spec` and dockerd both add it there, and only there
            config["linux"]["namespaces"].append({"type": "cgroup"})
        if name == "nonet":
            config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
        if name == "docker":
            config["linux"]["seccomp"] = docker_seccomp(profile, config["process"]["capabilities"]["bounding"])
        configs[name] = config
    return configs


def write_bundles(work, configs):
    bundles = {}
    for name, config in configs.items():
        for suffix, args in (("", ["/bin/true"]), ("-sleep", ["/bin/sleep", "100000"])):
            config["process"]["args"] = args
            bundle = work / (name + suffix)
            bundle.mkdir()
            (bundle / "config.json").write_text(json.dumps(config, indent=1))
            bundles[name + suffix] = str(bundle)
    return bundles


def interleave(spawner, entries, rounds, gap):
    """entries: [(runtime, a function that gives the command line of the next call)]. Every round runs each once, starting one further each time."""
    samples = {r.name: [] for r, _ in entries}
    for i in range(-3, rounds):
        k = i % len(entries)
        for runtime, command in entries[k:] + entries[:k]:
            argv = command()
            sample = spawner.once(runtime, argv)
            if i >= 0:  # the first three rounds warm the caches
                samples[runtime.name].append(sample)
            time.sleep(gap / 1e3)  # the kernel still tears the last one's namespaces down
    return samples


def table(title, samples, floor, results):
    rows = {}
    for name, pairs in samples.items():
        wall = sorted(w for w, _ in pairs)
        rows[name] = {"min": wall[0], "median": statistics.median(wall), "p90": wall[min(len(wall) - 1, int(len(wall) * 0.9))],
                      "cpu": statistics.median(c for _, c in pairs), "n": len(wall)}
    results[title] = rows
    ratio = lambda name, to: f"{rows[name]['median'] / rows[to]['median']:7.2f}" if to in rows else "      -"
    print(f"\n{title}\n{'':12}{'min':>8}{'median':>8}{'p90':>8}{'cpu':>8}   x crun  x floor")
    for name, r in rows.items():
        print(f"{name:12}{r['min']:8.2f}{r['median']:8.2f}{r['p90']:8.2f}{r['cpu']:8.2f}  {ratio(name, 'crun')}  {ratio(name, floor)}")


def describe_host():
    read = lambda p: pathlib.Path(p).read_text().strip() if os.path.exists(p) else "?"
    layout = "v1+hybrid" if os.path.exists(HIDE) else "v1" if os.path.isdir("/sys/fs/cgroup/memory") else "v2"
    return (f"host: Linux {platform.release()}, {os.cpu_count()} CPUs, cgroup {layout}, rcu_expedited={read('/sys/kernel/rcu_expedited')}, "
            f"rcu_normal={read('/sys/kernel/rcu_normal')}, load {os.getloadavg()[0]:.2f}")


def binary(runtime, work):
    real = os.path.realpath(runtime.path)
    copy = work / f"{runtime.name}.stripped"
    shutil.copy2(real, copy)
    stripped = shutil.which("strip") and subprocess.run(["strip", copy], capture_output=True).returncode == 0
    size = copy.stat().st_size
    linkage = "static" if b"/ld-linux" not in copy.read_bytes()[:4096] else "dynamic"
    copy.unlink()
    return size, linkage + ("" if stripped else ", not stripped")


def find_runtimes(extra):
    found = []
    wanted = [("dhow", os.environ.get("DHOW")), ("crun", os.environ.get("CRUN", "crun")), ("runc", os.environ.get("RUNC", "runc")),
              ("runc15", os.environ.get("RUNC15"))]
    wanted += [tuple(e.split("=", 1)) for e in extra]
    for name, path in wanted:
        if name == "dhow" and not path:
            built = [REPO / "target" / d / "dhow" for d in ("x86_64-unknown-linux-musl/release", "release")]
            path = next((str(p) for p in built if p.exists()), None)
            if not path:
                print("dhow: not built (cargo build --release, or DHOW=PATH): left out")
        path = path and shutil.which(path)
        if path:
            found.append(Runtime(name, os.path.abspath(path)))
        elif name != "dhow" and name in ("crun", "runc"):
            print(f"{name}: not installed: left out")
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("-n", type=int, default=100, help="rounds (100)")
    p.add_argument("--configs", default="default,docker", help="of default, nonet, docker, docker-noseccomp")
    p.add_argument("--only", default="run,exec,lifecycle,jobs,size", help="which measurements")
    p.add_argument("--jobs", type=int, default=16, help="containers at a time in `jobs` (16)")
    p.add_argument("--gap", type=float, default=5, help="ms of rest after each container (5)")
    p.add_argument("--seccomp", type=pathlib.Path, default=REPO / "seccomp-profiles/default.json", help="Docker's or an OCI profile, for docker")
    p.add_argument("--json", type=pathlib.Path, help="write the numbers there")
    p.add_argument("runtime", nargs="*", metavar="NAME=PATH", help="more runtimes")
    a = p.parse_args()
    only, names = a.only.split(","), a.configs.split(",")
    if os.geteuid() != 0:
        sys.exit("start.py: root is needed")
    if "docker" in names and not a.seccomp.exists():
        print(f"docker: no seccomp profile at {a.seccomp} (--seccomp FILE): docker-noseccomp instead")
        names[names.index("docker")] = "docker-noseccomp"

    work = pathlib.Path(tempfile.mkdtemp(prefix="dhow-bench."))
    state = pathlib.Path(tempfile.mkdtemp(prefix="dhow-bench.", dir="/run"))
    running, results = [], {}
    try:
        work.chmod(0o755)
        spawner = Spawner(work)
        floor_bin = pathlib.Path(os.environ.get("FLOOR", work / "floor"))
        if "FLOOR" not in os.environ:
            subprocess.run(["gcc", "-O2", "-static", "-o", floor_bin, HERE / "floor.c"], check=True)
        rootfs = make_rootfs(work)
        configs = make_configs(work, rootfs, names, a.seccomp)
        bundles = write_bundles(work, configs)
        runtimes = find_runtimes(a.runtime)
        for r in runtimes:
            r.root = str(state / r.name)
            if os.path.basename(os.path.realpath(r.path)).startswith("crun") and os.path.exists(HIDE):
                r.namespace = hidden_unified(spawner)
        counter = iter(range(1 << 30))
        fresh = lambda r: f"bench-{r.name}-{os.getpid()}-{next(counter)}"
        run = lambda r, config: lambda: r.argv("run", "--bundle", bundles[config], fresh(r))
        for r in list(runtimes):  # one that cannot do it at all is named and left out
            try:
                for config in names:
                    spawner.once(r, run(r, config)())
            except RuntimeError as e:
                print(f"LEFT OUT: {e}")
                runtimes.remove(r)
        cgns = [] if os.path.isdir("/sys/fs/cgroup/memory") else ["-C"]
        floors = lambda config: [Floor(n, floor_bin, *f, *cgns, *(["-N"] if config == "nonet" else [])) for n, f in FLOORS]
        floor_run = lambda f: lambda: [f.path, *f.flags, str(rootfs), "/bin/true"]
        print(describe_host())
        for r in runtimes:
            print(f"{r.name}: {r.path}: {subprocess.run([r.path, '--version'], capture_output=True, text=True).stdout.splitlines()[0]}")

        if "run" in only:
            for config in names:
                entries = [(f, floor_run(f)) for f in floors(config)] + [(r, run(r, config)) for r in runtimes]
                table(f"run /bin/true, {config} config: ms of wall and CPU, {a.n} rounds", interleave(spawner, entries, a.n, a.gap), "floor+cg", results)

        if "exec" in only:
            for config in names:
                entries, target = [], None
                for r in runtimes:
                    name, pidfile = fresh(r), work / "pid"
                    running.append((r, name))
                    spawner.once(r, r.argv("run", "--detach", "--bundle", bundles[config + "-sleep"], "--pid-file", str(pidfile), name))
                    target = pidfile.read_text().strip()
                    entries.append((r, lambda r=r, name=name: r.argv("exec", name, "/bin/true")))
                if target:
                    for f in (Floor(n, floor_bin, *flags) for n, flags in FLOORS):
                        entries.insert(len(entries) - len(runtimes), (f, lambda f=f, pid=target: [f.path, *f.flags, "-x", pid, "/bin/true"]))
                    table(f"exec /bin/true, {config} config: ms of wall and CPU, {a.n} rounds", interleave(spawner, entries, a.n, a.gap), "floor+cg", results)
                while running:
                    r, name = running.pop()
                    spawner.once(r, r.argv("delete", "--force", name))

        if "lifecycle" in only:  # as a shim does it: the init process is ours once create has ended
            config, sums = names[0], {}
            parts = {r.name: {"create": [], "start": [], "delete": []} for r in runtimes}
            for i in range(-2, a.n):
                for r in runtimes[i % len(runtimes):] + runtimes[:i % len(runtimes)]:
                    name, pidfile = fresh(r), work / "pid"
                    running.append((r, name))
                    took = {"create": spawner.once(r, r.argv("create", "--bundle", bundles[config], "--pid-file", str(pidfile), name))}
                    init = int(pidfile.read_text())
                    took["start"] = spawner.once(r, r.argv("start", name))
                    os.waitpid(init, 0)
                    took["delete"] = spawner.once(r, r.argv("delete", name))
                    running.pop()
                    if i >= 0:
                        for part, sample in took.items():
                            parts[r.name][part].append(sample)
                        sums.setdefault(r.name, []).append(tuple(map(sum, zip(*took.values()))))
                    time.sleep(a.gap / 1e3)
            if sums:
                table(f"create + start + delete, {config} config: ms of wall and CPU of the three calls, {a.n} rounds", sums, "-", results)
                for name, p in parts.items():
                    print(f"{name:12}" + "  ".join(f"{part} {statistics.median(w for w, _ in s):.2f}" for part, s in p.items()))

        if "jobs" in only:
            config, rates, total = names[0], {}, a.jobs * 6
            entries = [(f, floor_run(f)) for f in floors(config)[-1:]] + [(r, run(r, config)) for r in runtimes]
            for _ in range(3):
                for r, command in entries:
                    rates.setdefault(r.name, []).append(total / spawner.batch(r, [command() for _ in range(total)], a.jobs))
                    time.sleep(0.3)
            results[f"jobs{a.jobs}"] = rates
            print(f"\nrun /bin/true, {config} config, {a.jobs} at a time: containers a second, best and median of 3 x {total}")
            for name, r in rates.items():
                print(f"{name:12}{max(r):8.1f}{statistics.median(r):8.1f}")

        if "size" in only:
            config = names[-1]
            print(f"\n{'':12}{'binary KiB':>12}  peak RSS KiB of run, {config}")
            for r in runtimes:
                peaks = []
                for _ in range(5):
                    spawner.once(r, [str(floor_bin), "-m", str(work / "rss"), *run(r, config)()])
                    peaks.append(int((work / "rss").read_text()))
                size, linkage = binary(r, work)
                results.setdefault("size", {})[r.name] = {"bytes": size, "rss_kib": max(peaks)}
                print(f"{r.name:12}{size / 1024:12.0f}{max(peaks):14}   {linkage}")
        print(f"\nload at the end {os.getloadavg()[0]:.2f}")
        if a.json:
            a.json.write_text(json.dumps({"host": describe_host(), "results": results}, indent=1) + "\n")
    finally:
        for r, name in running:
            with contextlib.suppress(Exception):
                spawner.once(r, r.argv("delete", "--force", name))
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
