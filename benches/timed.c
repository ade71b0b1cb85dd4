/* Stands in for a runtime between its caller and it: runs RUNTIME with the same arguments and adds a line to LOG:
 * verb, wall ns, CPU ns. Both are given to the compiler (-DRUNTIME='"…"' -DLOG='"…"'). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *VERBS[] = {"create", "start", "exec", "delete", "kill", "state", "run", "features", "--version"};

static const char *verb(char **argv) {
    for (; *argv; argv++)
        for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++)
            if (!strcmp(*argv, VERBS[i])) return VERBS[i];
    return "other";
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long ns(struct timeval t) { return t.tv_sec * 1000000000LL + t.tv_usec * 1000LL; }

int main(int argc, char **argv) {
    (void)argc;
    long long before = now();
    pid_t pid = vfork();
    if (pid == 0) {
        execv(RUNTIME, argv);
        _exit(125);
    }
    int status;
    struct rusage usage;
    wait4(pid, &status, 0, &usage);
    char line[128];
    int n = snprintf(line, sizeof line, "%s %lld %lld\n", verb(argv), now() - before, ns(usage.ru_utime) + ns(usage.ru_stime));
    int log = open(LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (log < 0 || write(log, line, n) != n) return 125;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
