#!/usr/bin/env bash
# The recipe of cave_x4, for some hours on a CPU: labelled, mixed and RGB mini-batches of CAVE, the relative loss.
#   FLAGS="--precision bf16" bash scripts/best_x4.sh                                       # from scratch
#   RUNS=runs/further WEIGHTS=cave_x4 EPOCHS=4 FLAGS="--precision bf16" bash scripts/best_x4.sh   # fine-tune
# Scored under both protocols in fp32, plain and with self-ensemble, normalisation and back-projection. A second call
# does only what is missing. FEATS (64), EPOCHS (8), SCALE (4); the other settings: rows.sh.
FEATS=${FEATS:-64} EPOCHS=${EPOCHS:-8}
source "$(dirname "${BASH_SOURCE[0]}")/rows.sh"
best=("${rgb[@]}" "${mixup[@]}" --theta_rgb 2 --loss relative --patch_size $((12 * SCALE)) --patch_stride $((8 * SCALE))
    --global_residual 1 --init identity --schedule cosine --warmup_iterations 50 --ema_decay 0.999 --clip_gradient 0.05)
if [ -n "${WEIGHTS:-}" ]; then best+=(--weights "$WEIGHTS" --learning_rate 5e-4); else best+=(--learning_rate 1e-3); fi
bicubic cave
row cave best "${best[@]}"
folder=$(stores_of cave)
for seed in $SEEDS; do
    weights=$(ls "$RUNS/cave_x$SCALE/best/seed$seed"/*/*_epoch_*.pth | tail -1)
    for protocol in corrected published; do
        out=$(dirname "$weights")/$protocol
        compgen -G "$out/*_ensemble_*_results.json" >/dev/null && continue
        "$python" mains.py test --model_dir "$weights" --test_dir "$folder/test.h5" --protocol $protocol \
            --normalise scene --back_projection 2 --self_ensemble 1 --result_path "$out"
    done
done
tables
