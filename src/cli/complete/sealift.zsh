#compdef sealift
# Completions of sealift for zsh. What fits is what sealift answers to `__complete`.
_sealift() {
    local -a answer candidates options
    local program=sealift line about directive found=1
    [[ $words[1] != */sealift ]] || program=${~words[1]}
    answer=("${(@f)$($program __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    [[ $answer[-1] == :<-> ]] || return 1
    directive=${answer[-1]#:}
    answer[-1]=()

    [[ $PREFIX != --*=* ]] || compset -P '*='
    for line in $answer; do
        about=
        [[ $line != *$'\t'* ]] || about=${line#*$'\t'}
        line=${line%%$'\t'*}
        candidates+=("${line//:/\\:}${about:+:$about}")
    done
    ! ((directive & 2)) || options=(-S '')
    if (($#candidates)); then
        _describe -V sealift candidates "${options[@]}" && found=0
    fi
    if ((directive & 16)); then
        _files -/ && found=0
    elif ! ((directive & 4)); then
        _files && found=0
    fi
    return found
}

if [[ $funcstack[1] == _sealift ]]; then
    _sealift "$@"
else
    compdef _sealift sealift
fi
