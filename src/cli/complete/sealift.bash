# shellcheck shell=bash
# Completions of sealift for bash 4.3 and later. What fits is what sealift answers to `__complete`.
_sealift() {
    local program=sealift rest=${COMP_LINE:0:COMP_POINT} words=() word candidate i
    [[ $1 != */sealift ]] || program=${1/#\~\//"$HOME/"}
    # bash has split words at colons and equal signs: what touches is one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${rest#"${rest%%[![:space:]]*}"}
        if ((i == 0)) || [[ $word != "$rest" ]]; then
            words+=('')
        fi
        rest=$word
        ((i == COMP_CWORD)) || word=${COMP_WORDS[i]}
        words[-1]+=$word
        rest=${rest#"$word"}
    done

    local answer
    mapfile -t answer < <("$program" __complete "${words[@]:1}" 2>/dev/null)
    [[ ${answer[-1]-} == :* ]] || return
    local directive=${answer[-1]#:}
    unset 'answer[-1]'

    # readline replaces what follows the last colon or equal sign, if it splits words there.
    local current=${words[-1]} before='' option=''
    if [[ $current == --*=* ]]; then
        [[ $COMP_WORDBREAKS == *=* ]] || option=${current%%=*}=
        current=${current#*=}
    fi
    [[ $COMP_WORDBREAKS != *:* ]] || before=${current%"${current##*:}"}
    COMPREPLY=()
    for candidate in "${answer[@]%%$'\t'*}"; do
        printf -v candidate %q "$option${candidate#"$before"}"
        COMPREPLY+=("$candidate")
    done

    ! ((directive & 2)) || compopt -o nospace
    if ((${#COMPREPLY[@]} == 0)); then
        if ((directive & 16)); then
            compopt -o dirnames
        elif ! ((directive & 4)); then
            compopt -o default
        fi
    fi
}
complete -o nosort -F _sealift sealift 2>/dev/null || complete -F _sealift sealift
