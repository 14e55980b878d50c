#!/usr/bin/env bash
# Effect of the number of labelled scenes: every component with 1, 3 and 5 of CAVE, in short runs on a CPU.
# All rows see as many labelled mini-batches and take as many Adam steps: one for the sum of an iteration's losses.
#   SEEDS="3000 3001 3002" FLAGS="--precision bf16" bash scripts/few_labelled.sh
# COUNTS="1 5" for some. A second call does only what is missing. Settings: rows.sh.
REDUCED=1
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
bicubic cave
for count in ${COUNTS:-1 3 5}; do
    few=(--data_train_num $((count * per_scene)) --epochs $((15 / count)) --joint_loss 1 --learning_rate 2e-3
        --clip_gradient 0.05 --ema_decay 0.995)
    row cave "DeepShare,$count-labelled" "${few[@]}"
    row cave "DeepShare+RGB,$count-labelled" "${rgb[@]}" "${few[@]}"
    row cave "DeepShare+Mixup,$count-labelled" "${mixup[@]}" "${few[@]}"
    row cave "DeepShare+RGB+SSL,$count-labelled" "${rgb[@]}" $(ssl_of cave) "${few[@]}"
    row cave "DeepShare+RGB+SSL+Mixup,$count-labelled" "${rgb[@]}" "${mixup[@]}" $(ssl_of cave) "${few[@]}"
done
tables
