#!/usr/bin/env bash
# The program on a GPU that is available for a short time: bash scripts/gpu.sh STAGE, in the repository's root.
#   check     tests/test_cuda.py, then benchmarks/training.py; the fastest bf16 way goes to $OUT/choice.json
#   best      CAVE, the recipe of best_x4.sh (no unlabelled images), one cosine over EPOCHS (8: 9,000 iterations of 64-px
#             patches); otherwise as train
#   train     CAVE, the published schedule, with the flags in choice.json; stopped after SECONDS_TO_TRAIN with its
#             checkpoint safe, resumed by the next call; its weights in fp16, in pieces, its log and config go to $OUT
#   score     the pieces joined and scored (on the machine with the test store)
# Settings come from the environment:
#   PYTHON    a Python with the packages of requirements.txt, for check of requirements-dev.txt (default: python3)
#   OUT       where results go: small files only                                   (default: runs/gpu/out)
#   KEEP      where the run goes, kept from call to call                           (default: runs/gpu/keep)
#   STORES    folder with labelled.h5, unlabelled.h5, rgb.h5 (train), test.h5 (score)     (default: stores/cave)
#   SECONDS_TO_TRAIN (best 480, train 540), FEATS (256), WIDTHS (256), PATCH (64), PIECE (16, MiB), EPOCHS (best 8, train 10), HOWS, CUDA (1)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-runs/gpu/out} KEEP=${KEEP:-runs/gpu/keep} STORES=${STORES:-stores/cave}
FEATS=${FEATS:-256} WIDTHS=${WIDTHS:-256} PATCH=${PATCH:-64} PIECE=${PIECE:-16}
HOWS=${HOWS:-plain,fp32,tf32,bf16,bf16+deterministic,bf16+compile} CUDA=${CUDA:-1}
export PYTHONUNBUFFERED=1
mkdir -p "$OUT" "$KEEP"

check() {
    local failed=0
    "$PYTHON" -m pytest -q -n "${WORKERS:-4}" -p no:cacheprovider tests/test_cuda.py >"$OUT/tests.log" 2>&1 || failed=1
    grep -E "^(E  |FAILED|ERROR|[0-9]+ (passed|failed|skipped))" "$OUT/tests.log" | cut -c1-300 | tail -40 ||
        tail -5 "$OUT/tests.log"
    "$PYTHON" benchmarks/training.py --widths "$WIDTHS" --patch "$PATCH" --hows "$HOWS" --repeats "${REPEATS:-5}" \
        --json_file "$OUT/steps.json" --profile "$OUT/profile" 2>"$OUT/steps.err" | tee "$OUT/steps.txt"
    choose
    "$PYTHON" benchmarks/engine.py scene --width "${WIDTHS##*,}" --edge "${EDGE:-512}"
    return "$failed"
}

# The fastest of the bf16 ways, by the whole iteration.
choose() {
    "$PYTHON" - "$OUT/steps.json" "$OUT/choice.json" <<'END'
import json, sys
rows = [r for r in json.load(open(sys.argv[1])) if r["how"].startswith("bf16") and "iteration" in r["seconds"]]
best = min(rows, key=lambda r: r["seconds"]["iteration"])
flags = ["--precision", "bf16", *(w for name in best["how"].split("+")[1:] for w in (f"--{name}", "1"))]
json.dump({"how": best["how"], "flags": flags, "iteration": best["seconds"]["iteration"]}, open(sys.argv[2], "w"))
print("chosen:", best["how"])
END
    cp "$OUT/choice.json" "$KEEP/choice.json"
}

best() {
    SECONDS_TO_TRAIN=${SECONDS_TO_TRAIN:-480} EPOCHS=${EPOCHS:-8}
    run_training --theta_rgb 2 --loss relative --global_residual 1 --init identity --schedule cosine \
        --warmup_iterations 50 --ema_decay 0.999 --clip_gradient 0.05 --learning_rate 1e-3 "$@"
}

train() {
    SECONDS_TO_TRAIN=${SECONDS_TO_TRAIN:-540} EPOCHS=${EPOCHS:-10}
    run_training --theta_rgb 3 --UseUnlabelConsistency 1 --theta_unlabel 3 \
        --train_dir_msunlabel "$STORES/unlabelled.h5" "$@"
}

# run_training FLAGS ...: labelled, mixed and RGB mini-batches of CAVE, until the end or SECONDS_TO_TRAIN.
run_training() {
    local how=(--precision bf16) status=0 run
    [ ! -f "$KEEP/choice.json" ] || mapfile -t how < <("$PYTHON" -c \
        'import json, sys; print(*json.load(open(sys.argv[1]))["flags"], sep="\n")' "$KEEP/choice.json")
    timeout --signal TERM --kill-after 60 "$SECONDS_TO_TRAIN" "$PYTHON" mains.py train --dataset_name Cave --n_scale 4 \
        --n_feats "$FEATS" --epochs "$EPOCHS" --patch_size "$PATCH" --patch_stride $((PATCH / 2)) --cuda "$CUDA" \
        --train_dir_mslabel "$STORES/labelled.h5" --train_dir_rgb "$STORES/rgb.h5" --UseRGB 1 \
        --UseLabeledSpectralMixUp 1 --theta_LabeledSpectralMixUp 1 --save_dir "$KEEP/run" \
        --checkpoint_minutes "${CHECKPOINT_MINUTES:-2}" --resume last "${how[@]}" "$@" 2>&1 |
        tr '\r' '\n' | tee -a "$KEEP/train.log" | tail -5 || status=${PIPESTATUS[0]}
    run=$(dirname "$(ls "$KEEP"/run/*/last.pth)")
    # Of an unfinished run, the weights of its last checkpoint.
    "$PYTHON" scripts/pieces.py split "$(ls "$run"/*_epoch_*.pth 2>/dev/null || echo "$run/last.pth")" "$OUT" \
        --megabytes "$PIECE"
    cp "$run/log.csv" "$run/config.json" "$OUT/"
    tail -c 20000 "$KEEP/train.log" >"$OUT/train.log"
    if ls "$run"/*_epoch_*.pth >/dev/null 2>&1; then echo "done: $run"; else echo "not done; call it again"; fi
    # 124 and 143: stopped by the time limit or by SIGTERM; the checkpoint is safe.
    [ "$status" = 0 ] || [ "$status" = 124 ] || [ "$status" = 143 ]
}

score() {
    "$PYTHON" scripts/pieces.py join "$OUT" "$OUT/weights.pth"
    for protocol in corrected published; do
        "$PYTHON" mains.py test --test_dir "$STORES/test.h5" --model_dir "$OUT/weights.pth" --protocol "$protocol" \
            --result_path "$OUT/$protocol" --cuda "$CUDA" --n_ovls 2
    done
}

case ${1:-} in
best | check | train | score) "$@" ;;
*) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
