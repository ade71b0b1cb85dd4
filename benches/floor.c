// The floor: what the kernel alone takes for a container. It makes what the default `spec` config asks for - the namespaces, a
// read-only root, /proc, /dev with its nodes and links, devpts, shm, mqueue, /sys, /sys/fs/cgroup, the masked and the read-only
// paths - pivots into it, executes a program and waits. No config, no state, no checks, no capabilities, no seccomp: a
// runtime can approach this number and not pass it. `-x` is the same for exec.
//
//   floor [-c] [-C] [-N] ROOTFS PROGRAM [ARG...]   run; -c makes, joins and removes a cgroup in every hierarchy,
//                                                  -C adds a cgroup namespace, -N leaves out the network namespace
//   floor -x PID [-c] PROGRAM [ARG...]             exec; -c joins the cgroups of PID
//   floor -m FILE PROGRAM [ARG...]                 not a floor: run PROGRAM, write its peak resident set (KiB) to FILE
//
// start.py compiles it: gcc -O2 -static. ROOTFS needs /proc, /dev and /sys.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIE(...) do { fprintf(stderr, "floor: " __VA_ARGS__); fprintf(stderr, ": %s\n", strerror(errno)); _exit(125); } while (0)
#define MUST(e) do { if ((e) < 0) DIE("%s", #e); } while (0)

static struct hier { char dir[1024], name[256]; int v2, procs; } hiers[32];
static int nhiers, unified;

static char *slurp(const char *path) {
	static char buf[4][65536];
	static int next;
	char *b = buf[next++ % 4];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) DIE("%s", path);
	size_t n = 0;
	for (ssize_t r; n < sizeof buf[0] - 1 && (r = read(fd, b + n, sizeof buf[0] - 1 - n)) > 0;) n += r;
	b[n] = 0;
	close(fd);
	return b;
}

// One entry for each cgroup hierarchy mounted under /sys/fs/cgroup: its mount point and, below that, PID's own cgroup.
static void find_hierarchies(const char *pid) {
	char path[64], *cg, *save;
	snprintf(path, sizeof path, "/proc/%s/cgroup", pid);
	cg = slurp(path);
	for (char *l = strtok_r(slurp("/proc/self/mountinfo"), "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char mnt[256], *dash = strstr(l, " - cgroup");
		if (!dash || sscanf(l, "%*s %*s %*s %*s %255s", mnt) != 1 || strncmp(mnt, "/sys/fs/cgroup", 14)) continue;
		struct hier *h = &hiers[nhiers];
		h->v2 = dash[9] == '2';
		if (h->v2 && !mnt[14]) unified = 1;
		snprintf(h->name, sizeof h->name, "%s", mnt[14] ? mnt + 15 : "");
		char *own = NULL; // in /proc/PID/cgroup: "N:controllers:/path"
		for (char *c = cg; c && *c; c = strchr(c, '\n'), c = c ? c + 1 : NULL) {
			char *list = strchr(c, ':') + 1, *rest = strchr(list, ':');
			size_t len = rest - list, n = strlen(h->name);
			if (h->v2 ? len == 0
			          : (len == n && !strncmp(list, h->name, n)) || (len == n + 5 && !strncmp(list, "name=", 5) && !strncmp(list + 5, h->name, n)))
				own = rest + 1;
		}
		if (!own || nhiers == 31) continue;
		int len = strcspn(own, "\n");
		if (len == 1) len = 0; // "/"
		snprintf(h->dir, sizeof h->dir, "%s%.*s", mnt, len, own);
		nhiers++;
	}
}

static void join(void) {
	for (int i = 0; i < nhiers; i++)
		if (hiers[i].procs >= 0) MUST(write(hiers[i].procs, "0", 1));
}

static void copy_cpuset(const char *dir, int parent) { // a new v1 cpuset is empty, and nothing can join it so
	static const char *files[] = {"cpuset.cpus", "cpuset.mems"};
	for (int i = 0; i < 2; i++) {
		char p[1100], *v;
		snprintf(p, sizeof p, "%.*s/%s", parent, dir, files[i]);
		v = slurp(p);
		snprintf(p, sizeof p, "%s/%s", dir, files[i]);
		int fd = open(p, O_WRONLY | O_CLOEXEC);
		MUST(fd);
		MUST(write(fd, v, strlen(v)));
		close(fd);
	}
}

static void open_procs(void) {
	for (int i = 0; i < nhiers; i++) {
		char p[1100];
		snprintf(p, sizeof p, "%.1000s/cgroup.procs", hiers[i].dir);
		MUST(hiers[i].procs = open(p, O_WRONLY | O_CLOEXEC));
	}
}

static void bind_over(const char *src, const char *dst, unsigned long remount) {
	if (mount(src, dst, NULL, MS_BIND, NULL) < 0) {
		if (errno == ENOENT || errno == ENOTDIR) return;
		DIE("bind %s", dst);
	}
	if (remount) MUST(mount(NULL, dst, NULL, MS_BIND | MS_REMOUNT | remount, NULL));
}

static void cgroup_mounts(int cgroupns) {
	const unsigned long nxds = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	if (unified) {
		if (cgroupns) MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", nxds | MS_RDONLY, NULL));
		else bind_over(hiers[0].dir, "sys/fs/cgroup", nxds | MS_RDONLY);
		return;
	}
	MUST(mount("cgroup", "sys/fs/cgroup", "tmpfs", nxds, "mode=755"));
	for (int i = 0; i < nhiers; i++) {
		char p[300];
		snprintf(p, sizeof p, "sys/fs/cgroup/%s", hiers[i].name);
		MUST(mkdir(p, 0755));
		MUST(mount(hiers[i].dir, p, NULL, MS_BIND, NULL));
	}
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV};
	MUST(syscall(SYS_mount_setattr, AT_FDCWD, "sys/fs/cgroup", AT_RECURSIVE, &ro, sizeof ro));
}

static void container(const char *rootfs, char **argv, int cgroupns) {
	static const struct { const char *name; int major, minor; } nodes[] = {
		{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
	static const char *links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}, {"/proc/kcore", "dev/core"}};
	static const char *masked_dirs[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware"};
	static const char *masked_files[] = {"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug"};
	static const char *readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	const unsigned long nxds = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	const char *mask = NULL;

	join();
	if (cgroupns && !unified) MUST(unshare(CLONE_NEWCGROUP));
	MUST(sethostname("floor", 5));
	MUST(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
	MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
	MUST(chdir(rootfs));
	umask(0);
	MUST(mount("proc", "proc", "proc", 0, NULL));
	MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	MUST(mkdir("dev/pts", 0755));
	MUST(mkdir("dev/shm", 0755));
	MUST(mkdir("dev/mqueue", 0755));
	MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	MUST(mount("shm", "dev/shm", "tmpfs", nxds, "mode=1777,size=65536k"));
	MUST(mount("mqueue", "dev/mqueue", "mqueue", nxds, NULL));
	MUST(mount("sysfs", "sys", "sysfs", nxds | MS_RDONLY, NULL));
	cgroup_mounts(cgroupns);
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) MUST(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) MUST(symlink(links[i][0], links[i][1]));
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
	MUST(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) bind_over(readonly[i], readonly[i], MS_RDONLY);
	for (size_t i = 0; i < sizeof masked_files / sizeof *masked_files; i++) bind_over("/dev/null", masked_files[i], 0);
	for (size_t i = 0; i < sizeof masked_dirs / sizeof *masked_dirs; i++) { // one tmpfs for all of them
		if (mask) bind_over(mask, masked_dirs[i], 0);
		else if (mount("tmpfs", masked_dirs[i], "tmpfs", MS_RDONLY, "size=0k") == 0) mask = masked_dirs[i];
		else if (errno != ENOENT) DIE("mask %s", masked_dirs[i]);
	}
	execv(argv[0], argv);
	DIE("exec %s", argv[0]);
}

static int wait_for(pid_t pid, struct rusage *ru) {
	int st;
	MUST(wait4(pid, &st, 0, ru));
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

int main(int argc, char **argv) {
	int c, cgroups = 0, cgroupns = 0, net = CLONE_NEWNET, rc;
	const char *join_pid = NULL, *rss = NULL;
	while ((c = getopt(argc, argv, "+cCNx:m:")) != -1) {
		if (c == 'c') cgroups = 1;
		else if (c == 'C') cgroupns = 1;
		else if (c == 'N') net = 0;
		else if (c == 'x') join_pid = optarg;
		else if (c == 'm') rss = optarg;
		else return 125;
	}
	argv += optind;
	argc -= optind;
	if (argc < (join_pid || rss ? 1 : 2)) return fprintf(stderr, "floor: see the head of floor.c\n"), 125;
	if (rss) {
		struct rusage ru;
		pid_t pid = fork();
		if (pid == 0) { execvp(argv[0], argv); DIE("exec %s", argv[0]); }
		rc = wait_for(pid, &ru);
		FILE *f = fopen(rss, "w");
		if (!f) DIE("%s", rss);
		fprintf(f, "%ld\n", ru.ru_maxrss);
		fclose(f);
		return rc;
	}
	if (join_pid) {
		int fd = syscall(SYS_pidfd_open, atoi(join_pid), 0);
		MUST(fd);
		if (cgroups) { find_hierarchies(join_pid); open_procs(); }
		MUST(setns(fd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP));
		pid_t pid = fork();
		if (pid == 0) {
			join();
			execv(argv[0], argv);
			DIE("exec %s", argv[0]);
		}
		return wait_for(pid, NULL);
	}

	find_hierarchies("self");
	struct clone_args args = {.exit_signal = SIGCHLD, .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | net};
	for (int i = 0; i < nhiers; i++) hiers[i].procs = -1;
	if (cgroups) {
		for (int i = 0; i < nhiers; i++) {
			char *d = hiers[i].dir;
			size_t n = strlen(d);
			snprintf(d + n, sizeof hiers[i].dir - n, "/floor-%d", getpid());
			MUST(mkdir(d, 0755));
			if (strstr(hiers[i].name, "cpuset")) copy_cpuset(d, n);
		}
		if (unified) {
			args.flags |= CLONE_INTO_CGROUP;
			MUST(c = open(hiers[0].dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
			args.cgroup = c;
		} else open_procs();
	}
	if (cgroupns && unified) args.flags |= CLONE_NEWCGROUP;
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	MUST(pid);
	if (pid == 0) container(argv[0], argv + 1, cgroupns);
	rc = wait_for(pid, NULL);
	if (cgroups)
		for (int i = 0; i < nhiers; i++) MUST(rmdir(hiers[i].dir));
	return rc;
}
