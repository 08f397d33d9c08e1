_clap_complete_escli() {
    local IFS=$'\013'
    local _CLAP_COMPLETE_INDEX=${COMP_CWORD}
    local _CLAP_COMPLETE_COMP_TYPE=${COMP_TYPE}
    if compopt +o nospace 2> /dev/null; then
        local _CLAP_COMPLETE_SPACE=false
    else
        local _CLAP_COMPLETE_SPACE=true
    fi
    local words=("${COMP_WORDS[@]}")
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        words[COMP_CWORD]="$2"
    fi
    COMPREPLY=( $( \
        _CLAP_IFS="$IFS" \
        _CLAP_COMPLETE_INDEX="$_CLAP_COMPLETE_INDEX" \
        _CLAP_COMPLETE_COMP_TYPE="$_CLAP_COMPLETE_COMP_TYPE" \
        _CLAP_COMPLETE_SPACE="$_CLAP_COMPLETE_SPACE" \
        COMPLETE="bash" \
        "escli" -- "${words[@]}" \
    ) )
    if [[ $? != 0 ]]; then
        unset COMPREPLY
    elif [[ $_CLAP_COMPLETE_SPACE == false ]] && [[ "${COMPREPLY-}" =~ [=/:]$ ]]; then
        compopt -o nospace
    fi
}
_escli() {
    local whole=("${COMP_WORDS[0]}") at=0 number word
    for ((number = 1; number < ${#COMP_WORDS[@]}; number++)); do
        word=${COMP_WORDS[number]}
        if [[ $number == "$COMP_CWORD" && $word != = ]]; then
            word=$2
        fi
        if [[ ${whole[-1]} == --*= || ( $word == = && ${whole[-1]} == --* ) ]]; then
            whole[-1]+=$word
        else
            whole+=("$word")
        fi
        if [[ $number == "$COMP_CWORD" ]]; then
            at=$((${#whole[@]} - 1))
        fi
    done
    local COMP_WORDS=("${whole[@]}") COMP_CWORD=$at
    _clap_complete_escli "$1" "${whole[at]}" "$3"
    if [[ ${whole[at]} == --*=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${whole[at]%%=*}="}")
    fi
}
if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -o nospace -o bashdefault -o nosort -F _escli escli
else
    complete -o nospace -o bashdefault -F _escli escli
fi
