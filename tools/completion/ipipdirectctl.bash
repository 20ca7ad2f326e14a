# SPDX-License-Identifier: MIT
#
# Completion of ipipdirectctl for bash. Commands, options and what a command takes are read from its own
# --help, so that this file never lags behind; remotes and names from its JSON.

# Takes from stdin the lines that begin with what is typed. Never `compgen -W`, which expands what others
# have named their namespaces.
_ipipdirectctl_offer() {
	local line
	while IFS= read -r line; do
		[[ $line == "$cur"* ]] && COMPREPLY+=("$line")
	done < <(sort -u)
}

# The commands, one a line, all their words: "map get".
_ipipdirectctl_commands() {
	"$program" --help 2>/dev/null |
		sed -n '/^Commands/,/^$/s/^  \([a-z][a-z]*\( [a-z][a-z]*\)\{0,1\}\)\( .*\|$\)/\1/p'
}

_ipipdirectctl_options() {
	"$program" "${command[@]}" --help 2>/dev/null |
		sed -n '/^Options/,/^$/s/^  *\(-.*\)/\1/p' | sed 's/  .*//' | grep -oE -- '-{1,2}[a-z][a-z-]*'
}

# The strings at some keys of a document, without those that a shell or a reader could misunderstand.
_ipipdirectctl_strings() {
	local key
	for key; do
		grep -oE "\"$key\":\"[][A-Za-z0-9._:@%+-]+\"" <<<"$document" | cut -d'"' -f4
	done
}

# Those of the host that the program can be on: not lo, and not the tunnels themselves.
_ipipdirectctl_interfaces() {
	local tunnels
	tunnels=$(ip -o link show type ipip 2>/dev/null | sed 's/^[0-9]*: //; s/[@:].*//')
	sed -n 's/^ *\([][A-Za-z0-9._@%+-]*\):.*/\1/p' /proc/net/dev | grep -vxF -e lo -e "$tunnels"
}

# What may stand in the place of a word of the usage line.
_ipipdirectctl_values() {
	local document
	case $1 in
	REMOTE)
		document=$("$program" -j map dump 2>/dev/null)$("$program" -j tunnels 2>/dev/null)
		_ipipdirectctl_offer < <(_ipipdirectctl_strings remote)
		;;
	INNER_SOURCE)
		document=$("$program" -j map get "${arguments[0]}" 2>/dev/null)
		_ipipdirectctl_offer < <(_ipipdirectctl_strings inner_source)
		;;
	NETNS)
		document=$("$program" -j tunnels 2>/dev/null)
		_ipipdirectctl_offer < <(_ipipdirectctl_strings remote netns)
		;;
	INTERFACE)
		_ipipdirectctl_offer < <(_ipipdirectctl_interfaces)
		;;
	IFNAME)
		document=$("$program" -j tunnels 2>/dev/null)
		_ipipdirectctl_offer < <(_ipipdirectctl_strings ifname)
		;;
	WORD)
		document=$("$program" -j tunnels 2>/dev/null)
		_ipipdirectctl_offer < <(_ipipdirectctl_strings remote netns ifname)
		;;
	MODE)
		_ipipdirectctl_offer <<<$'default\ndirect\nshadow\ntunnel'
		;;
	FILE)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2>/dev/null
		;;
	esac
}

# Sorts what stands before the cursor into words and options; `command` and `arguments` are the caller's.
_ipipdirectctl_parse() {
	local -a words=() names
	local i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--status-file | --textfile | --sort | --rounds | --delay | --config | -n | -d | -c) ((i++)) ;;
		--watch) [[ ${COMP_WORDS[i + 1]} != '=' ]] || ((i += 2)) ;;
		-*) ;;
		*) words+=("${COMP_WORDS[i]}") ;;
		esac
	done
	command=("${words[@]:0:1}")
	# A second word of the command, where it has such: all of its lines have two.
	mapfile -t names < <(_ipipdirectctl_commands | grep -- "^${command[0]:-.}")
	has_second=
	if [[ ${#command[@]} = 1 && ${#names[@]} -gt 0 && ${names[0]} == *' '* ]]; then
		has_second=yes
		command=("${words[@]:0:2}")
	fi
	arguments=("${words[@]:${#command[@]}}")
}

_ipipdirectctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]}
	local -a command arguments usage
	local has_second
	COMPREPLY=()
	case $prev in
	--status-file | --textfile | --config)
		_ipipdirectctl_values FILE
		return
		;;
	--sort)
		_ipipdirectctl_offer <<<$'b\nk\nn\np'
		return
		;;
	-n | --rounds | -d | --delay) return ;;
	esac
	_ipipdirectctl_parse
	if [[ $cur == -* ]]; then
		_ipipdirectctl_offer < <(_ipipdirectctl_options)
	elif [[ ${#command[@]} = 0 ]]; then
		_ipipdirectctl_offer < <(_ipipdirectctl_commands | cut -d' ' -f1)
	elif [[ $has_second && ${#command[@]} = 1 ]]; then
		_ipipdirectctl_offer < <(_ipipdirectctl_commands | sed -n "s/^${command[0]}[a-z]* //p")
	else
		read -ra usage < <("$program" "${command[@]}" --help 2>/dev/null | sed -n '1s/\[OPTION\]\.*//p' |
			grep -oE '[][A-Z_]{3,}' | tr -d '[]' | tr '\n' ' ')
		if [[ ${usage[0]-} = IFNAME ]]; then
			usage[0]=INTERFACE # in no other namespace
		elif [[ ${usage[0]-} = NETNS && ${arguments[0]-} =~ ^[0-9]+(\.[0-9]+){3}$ ]]; then
			usage=(REMOTE "${usage[@]:2}") # the remote stands for both words
		fi
		_ipipdirectctl_values "${usage[${#arguments[@]}]-}"
	fi
}

complete -F _ipipdirectctl ipipdirectctl
