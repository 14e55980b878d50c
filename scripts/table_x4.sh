#!/usr/bin/env bash
# The published x4 table: every method on every data set that is prepared; the others are named.
# REDUCED=1 for short runs on a CPU. Started again it does only what is missing. Settings: rows.sh.
SCALE=4
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
for set in cave harvard ntire2020; do
    stores_of $set >/dev/null || continue
    bicubic $set
    for network in GDRRN 3DFCNN SSPSR MCNet; do peer $set $network; done
    plain $set
    with_rgb $set
    with_rgb_ssl $set
    with_all $set
done
tables
