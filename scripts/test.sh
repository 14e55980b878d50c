#!/usr/bin/env bash
# Sets up on the first call, then runs the tests: bash scripts/test.sh [pytest's arguments ...]
# Two processes (-n 4 for more, -n 0 for none) with a thread each (OMP_NUM_THREADS). A training is killed at one moment;
# EVERY_MOMENT=1 kills it at every kind of moment.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install installed-dev requirements-dev.txt
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# As mains.py does before it imports torch.
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-10000}
exec "$python" -m pytest -q -n 2 --dist worksteal "$@"
