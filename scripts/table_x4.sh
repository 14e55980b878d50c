#!/usr/bin/env bash
# The published x4 table: every method on every data set that is prepared; the others are named.
# REDUCED=1 for short runs on a CPU. Started again it does only what is missing. Settings: rows.sh.
SCALE=4
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
published_table
