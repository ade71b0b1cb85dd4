# bash completion for dhow                                  -*- shell-script -*-

# Flags of a command; those that need a value end in "=".
_dhow_flags() {
	case $1 in
	'') echo --debug --log= --log-format= --root= --systemd-cgroup --rootless= --version -v --help -h ;;
	checkpoint) echo --image-path= --work-path= --parent-path= --leave-running --tcp-established --tcp-skip-in-flight \
		--link-remap --ext-unix-sk --shell-job --lazy-pages --status-fd= --page-server= --file-locks --pre-dump \
		--manage-cgroups-mode= --empty-ns= --auto-dedup --help -h ;;
	create) echo --bundle= -b= --console-socket= --pidfd-socket= --pid-file= --no-pivot --no-new-keyring \
		--preserve-fds= --help -h ;;
	delete) echo --force -f --help -h ;;
	events) echo --interval= --stats --help -h ;;
	exec) echo --console-socket= --pidfd-socket= --cwd= --env= -e= --tty -t --user= -u= --additional-gids= -g= \
		--process= -p= --detach -d --pid-file= --process-label= --apparmor= --no-new-privs --cap= -c= \
		--preserve-fds= --cgroup= --ignore-paused --help -h ;;
	explain | validate) echo --bundle= -b= --format= --help -h ;;
	kill) echo --all -a --help -h ;;
	list) echo --format= -f= --quiet -q --help -h ;;
	ps) echo --format= -f= --help -h ;;
	restore) echo --console-socket= --image-path= --work-path= --tcp-established --ext-unix-sk --shell-job \
		--file-locks --manage-cgroups-mode= --bundle= -b= --detach -d --pid-file= --no-subreaper --no-pivot \
		--empty-ns= --auto-dedup --lazy-pages --lsm-profile= --lsm-mount-context= --help -h ;;
	run) echo --bundle= -b= --console-socket= --pidfd-socket= --detach -d --keep --pid-file= --no-subreaper \
		--no-pivot --no-new-keyring --preserve-fds= --help -h ;;
	spec) echo --bundle= -b= --rootless --help -h ;;
	update) echo --resources= -r= --blkio-weight= --cpu-period= --cpu-quota= --cpu-burst= --cpu-share= \
		--cpu-rt-period= --cpu-rt-runtime= --cpuset-cpus= --cpuset-mems= --cpu-idle= --memory= \
		--memory-reservation= --memory-swap= --kernel-memory= --kernel-memory-tcp= --pids-limit= \
		--l3-cache-schema= --mem-bw-schema= --help -h ;;
	features | help | pause | resume | start | state | version) echo --help -h ;;
	esac
}

_dhow_commands() {
	echo checkpoint create delete events exec explain features help kill list pause ps restore resume run spec start \
		state update validate version
}

# Does the flag $2 of the command $1 (or the global one) take the next word as its value?
_dhow_takes_value() {
	[[ " $(_dhow_flags "$1") $(_dhow_flags '') " == *" $2= "* ]]
}

# The value of the flag $1.
_dhow_value() {
	case $1 in
	--log-format) COMPREPLY=($(compgen -W 'text json' -- "$2")) ;;
	--rootless) COMPREPLY=($(compgen -W 'auto true false' -- "$2")) ;;
	--manage-cgroups-mode) COMPREPLY=($(compgen -W 'soft full strict ignore' -- "$2")) ;;
	--format | -f)
		case $3 in
		list | ps) COMPREPLY=($(compgen -W 'table json' -- "$2")) ;;
		*) COMPREPLY=($(compgen -W 'text json' -- "$2")) ;;
		esac
		;;
	--root | --bundle | -b | --image-path | --work-path | --parent-path) COMPREPLY=($(compgen -d -- "$2")) ;;
	--log | --*-socket | --pid-file | --process | -p | --resources | -r) COMPREPLY=($(compgen -f -- "$2")) ;;
	esac
}

_dhow() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local program=${COMP_WORDS[0]} command='' word skip='' positionals=0 root=() i
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $skip ]]; then
			[[ $skip == --root ]] && root=(--root "$word")
			skip=''
		elif [[ $word == -* ]]; then
			_dhow_takes_value "$command" "$word" && skip=$word
		elif [[ ! $command ]]; then
			command=$word
		else
			((positionals++))
		fi
	done

	if [[ $skip ]]; then
		_dhow_value "$prev" "$cur" "$command"
	elif [[ $cur == -* ]]; then
		local flags
		flags=$(_dhow_flags "$command")
		COMPREPLY=($(compgen -W "${flags//=/}" -- "$cur"))
	elif [[ ! $command || $command == help && $positionals == 0 ]]; then
		COMPREPLY=($(compgen -W "$(_dhow_commands)" -- "$cur"))
	elif [[ $command == explain || $command == validate ]]; then
		COMPREPLY=($(compgen -d -- "$cur"))
	elif [[ $command == kill && $positionals == 1 ]]; then
		COMPREPLY=($(compgen -W 'TERM KILL HUP INT QUIT USR1 USR2 STOP CONT WINCH' -- "${cur^^}"))
	elif [[ $positionals == 0 ]]; then
		case $command in
		create | run | restore | spec | list | features | version) ;;
		*) COMPREPLY=($(compgen -W "$("$program" "${root[@]}" list -q 2>/dev/null)" -- "$cur")) ;;
		esac
	fi
}

complete -F _dhow dhow
