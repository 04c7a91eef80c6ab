"""Types lines into an interactive shell and prints what each one runs.

    completions.py SHELL SCRIPT [LINE...]

SCRIPT holds the completions that the shell loads. <TAB> in a line is that key. `sealift` is a function of the shell that
prints its arguments, unless the completions call it.
"""

import os
import pty
import re
import select
import signal
import sys

SECONDS = 60
PROMPT = "ready> "

BEGIN = {
    "bash": """
unset PROMPT_COMMAND; bind 'set enable-bracketed-paste off' 'set bell-style none'
sealift() { [ "$1" = __complete ] && { command sealift "$@"; return; }; printf '<%s>' "$@"; echo; }
. {script}
PS1='rea''dy> '
""",
    "zsh": """
unsetopt beep zle_bracketed_paste; unset zle_bracketed_paste
autoload -Uz compinit && compinit -u -D
sealift() { [[ $1 == __complete ]] && { command sealift "$@"; return }; printf '<%s>' "$@"; echo }
. {script}
PROMPT='rea''dy> '
""",
    "fish": """
function fish_prompt; echo -n 'rea''dy> '; end; function fish_right_prompt; end
set -g fish_greeting; set -g fish_autosuggestion_enabled 0; set -g fish_color_normal normal
function sealift; if test "$argv[1]" = __complete; command sealift $argv; return; end; printf '<%s>' $argv; echo; end
source {script}
""",
}
COMMAND = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}


def main():
    shell, script, *lines = sys.argv[1:]
    begin = BEGIN[shell].replace("{script}", script)
    with open("begin", "w", encoding="utf-8") as file:
        file.write(begin)
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(COMMAND[shell][0], COMMAND[shell])
    text = ""

    def wait(pattern):
        nonlocal text
        while not (found := re.search(pattern, text, re.DOTALL)):
            ready, _, _ = select.select([terminal], [], [], SECONDS)
            if not ready:
                sys.exit(f"no {pattern!r} in {text!r}")
            text += os.read(terminal, 65536).decode(errors="replace")
        text = text[found.end():]
        return found

    # A shell reads keys once it has drawn its prompt; the echo of the line has quotes in the middle of the word.
    os.write(terminal, b". ./begin\r")
    wait(PROMPT)
    for line in lines:
        os.write(terminal, line.replace("<TAB>", "\t").encode() + b"\r")
        printed = wait(r"[\r\n](<[^\r\n]*>)\r\n")
        print(printed.group(1))
        wait(PROMPT)
    os.write(terminal, b"exit\r")
    os.kill(child, signal.SIGHUP)
    os.waitpid(child, 0)


main()
