#!/usr/bin/env bash
# Sets up on the first call, then runs the demo: bash scripts/demo.sh [--out_dir DIR ...]
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec "$python" mains.py demo "$@"
