#!/usr/bin/env bash
# The components of the method one by one, on CAVE: SCALE=4 SEEDS="3000 3001" bash scripts/ablation.sh
# REDUCED=1 for a short run on a CPU. A second call does only what is missing. Settings: rows.sh.
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
bicubic cave
plain cave
plain_longer cave
with_rgb cave
with_rgb_ssl cave
with_mixup cave
with_all cave
tables
