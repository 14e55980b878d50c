#!/usr/bin/env bash
# Makes .venv beside the program, with all that its commands need; does nothing when that is done.
# Sourced by the other scripts, which then use "$python".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python

# install STAMP FILE ...: what the files of requirements ask for, unless .venv/STAMP says that it is there.
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
