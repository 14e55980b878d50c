#!/usr/bin/env bash
# Creates .venv in the repository with the requirements of all commands, unless they are installed.
# Sourced by the other scripts, which then use "$python".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python

# install STAMP FILE ...: install the requirements in the files, unless .venv/STAMP equals them.
install() {
    local stamp=.venv/$1 file from=()
    shift
    cat "$@" | cmp -s - "$stamp" && return
    echo "setting up .venv with $* (once; PyTorch is a large download)"
    [ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
    for file in "$@"; do from+=(-r "$file"); done
    "$python" -m pip install --quiet --disable-pip-version-check "${from[@]}"
    cat "$@" >"$stamp"
}

install installed requirements.txt requirements-extra.txt
