"""The completion script of each shell. It hands the words typed so far to `riseml complete`."""

_BASH = r"""# riseml's completion for bash
_riseml() {
  local line word i current all=1
  local -a words
  COMPREPLY=()
  compopt -o nosort 2> /dev/null  # bash 4.4
  # Bash cuts words at : and =, which URIs and options hold, and completes the last piece.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((${#words[@]})) && [[ ($word == [:=]* || ${COMP_WORDS[i-1]} == *[:=]) ]] &&
      [[ $COMP_LINE == *"${words[-1]}$word"* ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
  done
  current=${COMP_WORDS[COMP_CWORD]}
  [[ $current != [:=] ]] || current=
  word=${words[-1]%"$current"}
  while IFS= read -r line; do
    if [ "$line" = :files ]; then
      compopt -o default 2> /dev/null
    else
      line=${line%%$'\t'*}
      [[ $line == */ ]] || all=
      COMPREPLY+=("${line#"$word"}")
    fi
  done < <("$1" complete -- "${words[@]}" 2> /dev/null)
  [ -z "$all" ] || compopt -o nospace 2> /dev/null  # a directory goes on
}
complete -F _riseml riseml
"""

_ZSH = r"""#compdef riseml
# riseml's completion for zsh
_riseml() {
  local line
  local -a candidates directories
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      _files
    elif [[ ${line%%$'\t'*} == */ ]]; then
      directories+=("${${line%%$'\t'*}//:/\\:}:${${(M)line%%$'\t'*}#$'\t'}")
    else
      candidates+=("${${line%%$'\t'*}//:/\\:}:${${(M)line%%$'\t'*}#$'\t'}")
    fi
  done < <("${(Q)words[1]}" complete -- "${(@Q)words[2,CURRENT]}" 2> /dev/null)
  (( ! $#directories )) || _describe -V riseml directories -S ''
  (( ! $#candidates )) || _describe -V riseml candidates
}
if [[ $funcstack[1] == _riseml ]]; then
  _riseml "$@"
else
  compdef _riseml riseml
fi
"""

_FISH = r"""# riseml's completion for fish
function __riseml_complete
    set -l words (commandline -opc)
    set -l candidates (riseml complete -- $words[2..-1] (commandline -ct)"" 2> /dev/null)
    for candidate in $candidates
        if test "$candidate" = :files
            __fish_complete_path (commandline -ct)
        else
            printf '%s\n' $candidate
        end
    end
end
complete -c riseml -f -k -a '(__riseml_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""Shell → its script."""
