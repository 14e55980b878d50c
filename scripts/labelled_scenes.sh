#!/usr/bin/env bash
# From 1 to 5 labelled scenes of CAVE, with the network alone and with all components; COUNTS="1 5" for some.
# REDUCED=1 for short runs on a CPU. A second call does only what is missing. Settings: rows.sh.
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
for count in ${COUNTS:-1 2 3 4 5}; do
    # Patches are counted scene by scene.
    few=(--data_train_num $((count * per_scene)))
    row cave "DeepShare,$count-labelled" "${few[@]}"
    row cave "DeepShare+RGB+SSL+Mixup,$count-labelled" "${few[@]}" "${rgb[@]}" "${mixup[@]}" $(ssl_of cave)
done
tables
