"""The completion script of each shell. It hands the words typed so far to `riseml complete`."""

_BASH = r"""# riseml's completion for bash
_riseml() {
  local line
  COMPREPLY=()
  compopt -o nosort 2> /dev/null  # bash 4.4
  while IFS= read -r line; do
    if [ "$line" = :files ]; then
      compopt -o default 2> /dev/null
    else
      COMPREPLY+=("${line%%$'\t'*}")
    fi
  done < <("$1" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
}
complete -F _riseml riseml
"""

_ZSH = r"""#compdef riseml
# riseml's completion for zsh
_riseml() {
  local line
  local -a candidates
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      _files
    else
      candidates+=("${${line%%$'\t'*}//:/\\:}:${${(M)line%%$'\t'*}#$'\t'}")
    fi
  done < <("${(Q)words[1]}" complete -- "${(@Q)words[2,CURRENT]}" 2> /dev/null)
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
    if test "$candidates" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $candidates
    end
end
complete -c riseml -f -k -a '(__riseml_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""Shell → its script."""
