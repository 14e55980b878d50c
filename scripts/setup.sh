#!/usr/bin/env bash
# Makes .venv beside the program, with what requirements.txt asks for; does nothing when that is done.
# Sourced by the other scripts, which then use "$python".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
stamp=.venv/installed
if ! cmp -s requirements.txt "$stamp"; then
    echo "setting up .venv (once; PyTorch is a large download)"
    [ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
    "$python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$stamp"
fi
