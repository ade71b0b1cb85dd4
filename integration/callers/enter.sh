#!/bin/sh
# enter.sh COMMAND...: COMMAND in the machine's own v1 cgroups; run inside its namespaces.
set -eu
for top in /sys/fs/cgroup/*/; do
    # a thread that moves itself by v1's `tasks` needs not wait for the kernel's grace period, as with cgroup.procs
    if [ -e "$top/tasks" ]; then echo 0 >"$top/tasks"; else echo 0 >"$top/cgroup.procs"; fi
done
exec "$@"
