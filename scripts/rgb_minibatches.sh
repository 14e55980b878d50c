#!/usr/bin/env bash
# RMSE against the RGB mini-batches for each labelled one (theta_rgb 0..10), on CAVE; THETAS="0 1 3" for some.
# REDUCED=1 for short runs on a CPU. A second call does only what is missing. Settings: rows.sh.
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
for theta in ${THETAS:-0 1 2 3 4 5 6 8 10}; do
    if [ "$theta" = 0 ]; then plain cave; else row cave "DeepShare+RGB$theta" "${rgb[@]}" --theta_rgb "$theta"; fi
done
tables
