#!/usr/bin/env bash
# The published x4 table: every method on every data set that is prepared; the other ones are reported.
# REDUCED=1 for short runs on a CPU. A second call does only what is missing. Settings: rows.sh.
SCALE=4
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
published_table
