# bash completion for dhowctl                               -*- shell-script -*-

# Flags of a command; those that need a value end in "=".
_dhowctl_flags() {
	local registry='--insecure --cert-dir= --registries-conf= --retries= --timeout='
	local transfer="$registry --parallel= --quiet -q --format="
	local bring="--platform= --pull --uid-map= --gid-map= --rootless --max-size= --max-ratio= --max-entries= $transfer"
	case $1 in
	'') echo --store= --debug --version -v --help -h ;;
	build) echo --tag= -t= --file= -f= --target= --build-arg= --secret= --ssh= --platform= --label= --no-cache --pull --build-context= --network= --volume= --output= -o= --cache-to= --cache-from= --progress= --runtime= --runtime-root= $transfer --help -h ;;
	fetch) echo --platform= --all-platforms --output= -o= $transfer --help -h ;;
	images) echo --format= --quiet -q --help -h ;;
	inspect) echo --format= --platform= --raw --help -h ;;
	login) echo --username= -u= --password-stdin $registry --help -h ;;
	push) echo $transfer --help -h ;;
	rmi) echo --keep-blobs --help -h ;;
	run) echo --name= --tty -t --no-tty -T --host-network --env= -e= --user= -u= --workdir= -w= --entrypoint= --volume= -v= --interactive -i --rm --copy --runtime= --runtime-root= $bring --help -h ;;
	unpack) echo --overlay --tty -t --host-network $bring --help -h ;;
	prune | verify) echo --format= --help -h ;;
	help | logout | tag | unshare | version) echo --help -h ;;
	esac
}

_dhowctl_commands() {
	echo build fetch help images inspect login logout prune push rmi run tag unpack unshare verify version
}

# Does the flag $2 of the command $1 (or the global one) take the next word as its value?
_dhowctl_takes_value() {
	[[ " $(_dhowctl_flags "$1") $(_dhowctl_flags '') " == *" $2= "* ]]
}

# The value of the flag $1 of the command $3.
_dhowctl_value() {
	case $1 in
	--format)
		case $3 in
		images | inspect) COMPREPLY=($(compgen -W 'table json' -- "$2")) ;;
		*) COMPREPLY=($(compgen -W 'text json' -- "$2")) ;;
		esac
		;;
	--platform) COMPREPLY=($(compgen -W 'linux/amd64 linux/arm64 linux/arm/v7 linux/s390x linux/ppc64le linux/riscv64' -- "$2")) ;;
	--network) COMPREPLY=($(compgen -W 'default none host' -- "$2")) ;;
	--progress) COMPREPLY=($(compgen -W 'auto plain tty quiet' -- "$2")) ;;
	--store | --cert-dir | --runtime-root) COMPREPLY=($(compgen -d -- "$2")) ;;
	--registries-conf | --runtime | --file) COMPREPLY=($(compgen -f -- "$2")) ;;
	esac
}

_dhowctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local program=${COMP_WORDS[0]} command='' word skip='' positionals=0 store=() i
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $skip ]]; then
			[[ $skip == --store ]] && store=(--store "$word")
			skip=''
		elif [[ $word == -* ]]; then
			_dhowctl_takes_value "$command" "$word" && skip=$word
		elif [[ ! $command ]]; then
			command=$word
		else
			((positionals++))
		fi
	done

	if [[ $skip ]]; then
		_dhowctl_value "$prev" "$cur" "$command"
	elif [[ $cur == -* ]]; then
		local flags
		flags=$(_dhowctl_flags "$command")
		COMPREPLY=($(compgen -W "${flags//=/}" -- "$cur"))
	elif [[ ! $command || $command == help && $positionals == 0 ]]; then
		COMPREPLY=($(compgen -W "$(_dhowctl_commands)" -- "$cur"))
	elif [[ $command == build ]]; then
		COMPREPLY=($(compgen -d -- "$cur"))
	elif [[ $command == unpack && $positionals == 1 ]]; then
		COMPREPLY=($(compgen -d -- "$cur"))
	elif [[ $command == unshare ]]; then
		[[ $positionals == 0 ]] && COMPREPLY=($(compgen -c -- "$cur")) || COMPREPLY=($(compgen -f -- "$cur"))
	elif [[ $command == rmi || $positionals == 0 ]]; then
		case $command in
		prune | verify | version | login | logout) ;;
		*)
			COMPREPLY=($(compgen -W "$("$program" "${store[@]}" images -q 2>/dev/null)" -- "$cur"))
			[[ $command == run ]] && COMPREPLY+=($(compgen -d -- "$cur"))
			;;
		esac
	fi
	# A colon parts words for bash; what stands before it is there already.
	declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}

complete -F _dhowctl dhowctl
