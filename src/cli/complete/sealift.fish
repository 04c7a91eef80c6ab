# Completions of sealift for fish. What fits is what sealift answers to `__complete`.
function __sealift_answer
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    set -l program sealift
    string match --quiet '*/sealift' -- $words[1]
    and set program $words[1]
    set --erase words[1]
    set -l current (commandline --current-token --cut-at-cursor)
    $program __complete $words "$current" 2>/dev/null
end

# Whether the answer has one of these: 4, nothing but candidates; 16, folders.
function __sealift_says
    set -l answer (__sealift_answer)
    set -l directive (string replace : '' -- "$answer[-1]")
    string match --quiet --regex '^[0-9]+$' -- $directive
    and test (math "bitand($directive, $argv[1])") -ne 0
end

function __sealift_candidates
    set -l option (string match --regex -- '^--[^=]+=' (commandline --current-token --cut-at-cursor))
    for line in (__sealift_answer)[1..-2]
        echo "$option$line"
    end
end

complete --command sealift --condition '__sealift_says 4' --no-files --keep-order --arguments '(__sealift_candidates)'
complete --command sealift --condition 'not __sealift_says 4' --force-files --keep-order --arguments '(__sealift_candidates)'
