"""completion: the script that connects a shell to the completer."""

from __future__ import annotations

from seom.cli import output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError

# bash splits words at ":" and "=" too; what stands before the last of them is already typed.
_BASH = """\
# Add to ~/.bashrc:  eval "$(seom completion bash)"
_seom() {
    local line typed="${COMP_LINE:0:COMP_POINT}" current="${COMP_WORDS[COMP_CWORD]}" word prefix
    word="${typed##*[[:space:]]}"
    prefix="${word%"$current"}"
    [[ $current == [:=] ]] && prefix="$word"
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current")
        else
            COMPREPLY+=("${line#"$prefix"}")
        fi
    done < <(seom __complete bash "$typed" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _seom seom
"""

_ZSH = """\
#compdef seom
# Add to ~/.zshrc, after compinit:  eval "$(seom completion zsh)"
_seom() {
    local line
    local -a found
    for line in "${(@f)$(seom __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ $line == :files ]]; then
            _files
        elif [[ -n $line ]]; then
            local name="${line%%$'\\t'*}" text=""
            [[ $line == *$'\\t'* ]] && text="${line#*$'\\t'}"
            found+=("${name//:/\\\\:}${text:+:$text}")
        fi
    done
    (( ${#found} )) && _describe -V 'seom' found
}
if [[ $funcstack[1] == _seom ]]; then _seom "$@"; else compdef _seom seom; fi
"""

_FISH = """\
# Add to ~/.config/fish/config.fish:  seom completion fish | source
function __seom_complete
    set -l words (commandline -opc)[2..] (commandline -ct)
    for line in (seom __complete fish $words 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c seom -f -a '(__seom_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def _completion(invocation: Invocation) -> int:
    shell = invocation.arguments[0]
    if shell not in SCRIPTS:
        raise CommandError(f'no completion for "{shell}"; there is one for bash, zsh and fish')
    output.write(SCRIPTS[shell])
    return 0


COMPLETION = Command(
    _completion,
    "bash|zsh|fish",
    (1, 1),
    completes="bash zsh fish",
    details=(
        'bash:  eval "$(seom completion bash)"       in ~/.bashrc\n'
        'zsh:   eval "$(seom completion zsh)"        in ~/.zshrc, after compinit\n'
        "fish:  seom completion fish | source        in ~/.config/fish/config.fish"
    ),
)
