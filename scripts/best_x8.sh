#!/usr/bin/env bash
# The recipe of best_x4.sh at x8, with the same settings.
SCALE=8
source "$(dirname "${BASH_SOURCE[0]}")/best_x4.sh"
