# fish completion for dhow

# The containers below the --root that was typed, or the default one.
function __dhow_containers
    set -l words (commandline -opc)
    set -l at (contains -i -- --root $words)
    if test -n "$at"
        dhow --root $words[(math $at + 1)] list -q 2>/dev/null
    else
        dhow list -q 2>/dev/null
    end
end

complete -c dhow -f

# Global options and commands
complete -c dhow -n '__fish_use_subcommand' -l debug -d 'write debug lines'
complete -c dhow -n '__fish_use_subcommand' -l log -rF -d 'log file'
complete -c dhow -n '__fish_use_subcommand' -l log-format -xa 'text json' -d 'format of the log'
complete -c dhow -n '__fish_use_subcommand' -l root -xa '(__fish_complete_directories)' -d 'directory of all state'
complete -c dhow -n '__fish_use_subcommand' -l systemd-cgroup -d 'have systemd make the cgroups'
complete -c dhow -n '__fish_use_subcommand' -l rootless -xa 'auto true false' -d 'put up with missing permissions'
complete -c dhow -n '__fish_use_subcommand' -s v -l version -d 'print the version'
complete -c dhow -n '__fish_use_subcommand' -s h -l help -d 'show a summary'
complete -c dhow -n __fish_use_subcommand -a checkpoint -d 'save a running container (not in this build)'
complete -c dhow -n __fish_use_subcommand -a create -d 'create a container, ready to start'
complete -c dhow -n __fish_use_subcommand -a delete -d 'remove a stopped container'
complete -c dhow -n __fish_use_subcommand -a events -d 'print statistics and out-of-memory events'
complete -c dhow -n __fish_use_subcommand -a exec -d 'start another process in a container'
complete -c dhow -n __fish_use_subcommand -a explain -d 'print what create would do with a bundle'
complete -c dhow -n __fish_use_subcommand -a features -d 'print what this runtime can do'
complete -c dhow -n __fish_use_subcommand -a help -d 'show the commands, or the flags of one command'
complete -c dhow -n __fish_use_subcommand -a kill -d 'send a signal to a container'
complete -c dhow -n __fish_use_subcommand -a list -d 'list the containers'
complete -c dhow -n __fish_use_subcommand -a pause -d 'suspend all processes of a container'
complete -c dhow -n __fish_use_subcommand -a ps -d 'show the processes of a container'
complete -c dhow -n __fish_use_subcommand -a restore -d 'start a container from a checkpoint (not in this build)'
complete -c dhow -n __fish_use_subcommand -a resume -d 'let a paused container go on'
complete -c dhow -n __fish_use_subcommand -a run -d 'create a container, start it and wait for it'
complete -c dhow -n __fish_use_subcommand -a spec -d 'write a config.json to begin with'
complete -c dhow -n __fish_use_subcommand -a start -d 'run the program of a created container'
complete -c dhow -n __fish_use_subcommand -a state -d 'print the state of a container'
complete -c dhow -n __fish_use_subcommand -a update -d 'change the resource limits of a container'
complete -c dhow -n __fish_use_subcommand -a validate -d 'say all that is wrong with a config.json'
complete -c dhow -n __fish_use_subcommand -a version -d 'print the version'

# Containers, signals, bundles
complete -c dhow -n '__fish_seen_subcommand_from checkpoint delete events exec kill pause ps resume start state update' -a '(__dhow_containers)' -d container
complete -c dhow -n '__fish_seen_subcommand_from kill' -a 'TERM KILL HUP INT QUIT USR1 USR2 STOP CONT WINCH' -d signal
complete -c dhow -n '__fish_seen_subcommand_from explain validate' -a '(__fish_complete_directories)'
complete -c dhow -n '__fish_seen_subcommand_from help' -a 'checkpoint create delete events exec explain features help kill list pause ps restore resume run spec start state update validate version'

# checkpoint
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l image-path -xa '(__fish_complete_directories)' -d 'image files'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l work-path -xa '(__fish_complete_directories)' -d 'work files and logs'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l tcp-established -d 'allow open TCP connections'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l ext-unix-sk -d 'allow external unix sockets'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l shell-job -d 'allow shell jobs'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l lazy-pages -d 'fetch pages when needed'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l file-locks -d 'handle file locks'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l manage-cgroups-mode -xa 'soft full strict ignore' -d 'cgroups mode'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l empty-ns -x -d 'make but do not restore this namespace'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l auto-dedup -d 'drop pages saved twice'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l parent-path -xa '(__fish_complete_directories)' -d 'images of an earlier pre-dump'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l leave-running -d 'leave the container running'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l tcp-skip-in-flight -d 'skip TCP connections in the making'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l link-remap -d 'link unlinked files back'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l status-fd -x -d 'descriptor for readiness'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l page-server -x -d 'send pages there'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -l pre-dump -d 'save the memory only'
complete -c dhow -n '__fish_seen_subcommand_from checkpoint' -s h -l help -d 'show a summary'

# create
complete -c dhow -n '__fish_seen_subcommand_from create' -s b -l bundle -xa '(__fish_complete_directories)' -d 'the bundle'
complete -c dhow -n '__fish_seen_subcommand_from create' -l console-socket -rF -d 'socket that is sent the terminal'
complete -c dhow -n '__fish_seen_subcommand_from create' -l pidfd-socket -rF -d 'socket that is sent a pidfd'
complete -c dhow -n '__fish_seen_subcommand_from create' -l pid-file -rF -d 'write the pid there'
complete -c dhow -n '__fish_seen_subcommand_from create' -l no-pivot -d 'enter the root without pivot_root'
complete -c dhow -n '__fish_seen_subcommand_from create' -l no-new-keyring -d 'keep the session keyring'
complete -c dhow -n '__fish_seen_subcommand_from create' -l preserve-fds -x -d 'pass more file descriptors'
complete -c dhow -n '__fish_seen_subcommand_from create' -s h -l help -d 'show a summary'

# delete
complete -c dhow -n '__fish_seen_subcommand_from delete' -s f -l force -d 'kill it first'
complete -c dhow -n '__fish_seen_subcommand_from delete' -s h -l help -d 'show a summary'

# events
complete -c dhow -n '__fish_seen_subcommand_from events' -l interval -x -d 'time between statistics'
complete -c dhow -n '__fish_seen_subcommand_from events' -l stats -d 'print once'
complete -c dhow -n '__fish_seen_subcommand_from events' -s h -l help -d 'show a summary'

# exec
complete -c dhow -n '__fish_seen_subcommand_from exec' -l console-socket -rF -d 'socket that is sent the terminal'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l pidfd-socket -rF -d 'socket that is sent a pidfd'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l cwd -x -d 'working directory'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s e -l env -x -d 'environment variable'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s t -l tty -d 'give it a terminal'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s u -l user -x -d 'user by number'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s g -l additional-gids -x -d 'supplementary group'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s p -l process -rF -d 'the process as JSON'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s d -l detach -d 'leave when it runs'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l pid-file -rF -d 'write the pid there'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l process-label -x -d 'SELinux label'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l apparmor -x -d 'AppArmor profile'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l no-new-privs -d 'set no_new_privs'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s c -l cap -x -d 'add a capability'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l preserve-fds -x -d 'pass more file descriptors'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l cgroup -x -d 'cgroup below the container'
complete -c dhow -n '__fish_seen_subcommand_from exec' -l ignore-paused -d 'in a paused container too'
complete -c dhow -n '__fish_seen_subcommand_from exec' -s h -l help -d 'show a summary'

# explain
complete -c dhow -n '__fish_seen_subcommand_from explain' -s b -l bundle -xa '(__fish_complete_directories)' -d 'the bundle'
complete -c dhow -n '__fish_seen_subcommand_from explain' -l format -xa 'text json' -d 'how to print'
complete -c dhow -n '__fish_seen_subcommand_from explain' -s h -l help -d 'show a summary'

# features
complete -c dhow -n '__fish_seen_subcommand_from features' -s h -l help -d 'show a summary'

# help
complete -c dhow -n '__fish_seen_subcommand_from help' -s h -l help -d 'show a summary'

# kill
complete -c dhow -n '__fish_seen_subcommand_from kill' -s a -l all -d 'put up with a stopped container'
complete -c dhow -n '__fish_seen_subcommand_from kill' -s h -l help -d 'show a summary'

# list
complete -c dhow -n '__fish_seen_subcommand_from list' -s f -l format -xa 'table json' -d 'how to print'
complete -c dhow -n '__fish_seen_subcommand_from list' -s q -l quiet -d 'ids only'
complete -c dhow -n '__fish_seen_subcommand_from list' -s h -l help -d 'show a summary'

# pause
complete -c dhow -n '__fish_seen_subcommand_from pause' -s h -l help -d 'show a summary'

# ps
complete -c dhow -n '__fish_seen_subcommand_from ps' -s f -l format -xa 'table json' -d 'how to print'
complete -c dhow -n '__fish_seen_subcommand_from ps' -s h -l help -d 'show a summary'

# restore
complete -c dhow -n '__fish_seen_subcommand_from restore' -l image-path -xa '(__fish_complete_directories)' -d 'image files'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l work-path -xa '(__fish_complete_directories)' -d 'work files and logs'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l tcp-established -d 'allow open TCP connections'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l ext-unix-sk -d 'allow external unix sockets'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l shell-job -d 'allow shell jobs'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l lazy-pages -d 'fetch pages when needed'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l file-locks -d 'handle file locks'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l manage-cgroups-mode -xa 'soft full strict ignore' -d 'cgroups mode'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l empty-ns -x -d 'make but do not restore this namespace'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l auto-dedup -d 'drop pages saved twice'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l console-socket -rF -d 'socket that is sent the terminal'
complete -c dhow -n '__fish_seen_subcommand_from restore' -s b -l bundle -xa '(__fish_complete_directories)' -d 'the bundle'
complete -c dhow -n '__fish_seen_subcommand_from restore' -s d -l detach -d 'leave when it runs'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l pid-file -rF -d 'write the pid there'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l no-subreaper -d 'do not adopt orphans'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l no-pivot -d 'enter the root without pivot_root'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l lsm-profile -x -d 'security profile'
complete -c dhow -n '__fish_seen_subcommand_from restore' -l lsm-mount-context -x -d 'SELinux mount context'
complete -c dhow -n '__fish_seen_subcommand_from restore' -s h -l help -d 'show a summary'

# resume
complete -c dhow -n '__fish_seen_subcommand_from resume' -s h -l help -d 'show a summary'

# run
complete -c dhow -n '__fish_seen_subcommand_from run' -s b -l bundle -xa '(__fish_complete_directories)' -d 'the bundle'
complete -c dhow -n '__fish_seen_subcommand_from run' -l console-socket -rF -d 'socket that is sent the terminal'
complete -c dhow -n '__fish_seen_subcommand_from run' -l pidfd-socket -rF -d 'socket that is sent a pidfd'
complete -c dhow -n '__fish_seen_subcommand_from run' -l pid-file -rF -d 'write the pid there'
complete -c dhow -n '__fish_seen_subcommand_from run' -l no-pivot -d 'enter the root without pivot_root'
complete -c dhow -n '__fish_seen_subcommand_from run' -l no-new-keyring -d 'keep the session keyring'
complete -c dhow -n '__fish_seen_subcommand_from run' -l preserve-fds -x -d 'pass more file descriptors'
complete -c dhow -n '__fish_seen_subcommand_from run' -s d -l detach -d 'leave when it runs'
complete -c dhow -n '__fish_seen_subcommand_from run' -l keep -d 'keep the container after its end'
complete -c dhow -n '__fish_seen_subcommand_from run' -l no-subreaper -d 'do not adopt orphans'
complete -c dhow -n '__fish_seen_subcommand_from run' -s h -l help -d 'show a summary'

# spec
complete -c dhow -n '__fish_seen_subcommand_from spec' -s b -l bundle -xa '(__fish_complete_directories)' -d 'the bundle'
complete -c dhow -n '__fish_seen_subcommand_from spec' -l rootless -d 'for a container without root'
complete -c dhow -n '__fish_seen_subcommand_from spec' -s h -l help -d 'show a summary'

# start
complete -c dhow -n '__fish_seen_subcommand_from start' -s h -l help -d 'show a summary'

# state
complete -c dhow -n '__fish_seen_subcommand_from state' -s h -l help -d 'show a summary'

# update
complete -c dhow -n '__fish_seen_subcommand_from update' -s r -l resources -rF -d 'limits as JSON'
complete -c dhow -n '__fish_seen_subcommand_from update' -l blkio-weight -x -d 'share of block I/O'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-period -x -d 'period of the CPU limit'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-quota -x -d 'CPU time in a period'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-burst -x -d 'CPU time to save up'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-share -x -d 'share of CPU time'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-rt-period -x -d 'period of the real-time limit'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-rt-runtime -x -d 'real-time CPU time'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpuset-cpus -x -d 'CPUs to run on'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpuset-mems -x -d 'memory nodes to use'
complete -c dhow -n '__fish_seen_subcommand_from update' -l cpu-idle -x -d 'run only when idle'
complete -c dhow -n '__fish_seen_subcommand_from update' -l memory -x -d 'memory limit'
complete -c dhow -n '__fish_seen_subcommand_from update' -l memory-reservation -x -d 'memory that is spared'
complete -c dhow -n '__fish_seen_subcommand_from update' -l memory-swap -x -d 'memory and swap'
complete -c dhow -n '__fish_seen_subcommand_from update' -l kernel-memory -x -d 'ignored'
complete -c dhow -n '__fish_seen_subcommand_from update' -l kernel-memory-tcp -x -d 'ignored'
complete -c dhow -n '__fish_seen_subcommand_from update' -l pids-limit -x -d 'number of processes'
complete -c dhow -n '__fish_seen_subcommand_from update' -l l3-cache-schema -x -d 'Intel RDT L3 cache'
complete -c dhow -n '__fish_seen_subcommand_from update' -l mem-bw-schema -x -d 'Intel RDT memory bandwidth'
complete -c dhow -n '__fish_seen_subcommand_from update' -s h -l help -d 'show a summary'

# validate
complete -c dhow -n '__fish_seen_subcommand_from validate' -s b -l bundle -xa '(__fish_complete_directories)' -d 'the bundle'
complete -c dhow -n '__fish_seen_subcommand_from validate' -l format -xa 'text json' -d 'how to print'
complete -c dhow -n '__fish_seen_subcommand_from validate' -s h -l help -d 'show a summary'

# version
complete -c dhow -n '__fish_seen_subcommand_from version' -s h -l help -d 'show a summary'
