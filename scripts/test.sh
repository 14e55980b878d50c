#!/usr/bin/env bash
# Sets up on the first call, then runs the tests: bash scripts/test.sh [pytest's arguments ...]
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$python" -c "import pytest, spectral, rasterio, matplotlib" 2>/dev/null || "$python" -m pip install --quiet --disable-pip-version-check "pytest>=8" "spectral>=0.23" "rasterio>=1.3" "matplotlib>=3.7"
exec "$python" -m pytest -q "$@"
