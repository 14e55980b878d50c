# Functions of the scripts for tables, which source this file. Settings come from the environment:
#   STORES   folder of the prepared stores: $STORES/cave_x4 or, for every scale, $STORES/cave (likewise
#            harvard, ntire2020)                                                        (default: stores)
#   RGB      rgb.h5 (prepare --dataset_name DIV2K), or a folder of pictures  (default: $STORES/rgb/rgb.h5)
#   RUNS     where the runs and the tables go                                     (default: runs/tables)
#   SCALE, FEATS, EPOCHS, SEEDS, REDUCED=1, ROWS="DeepShare SSPSR ..." for some rows only, and FLAGS="--precision bf16"
#   for flags of train that all rows get, in place of the row's own
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
STORES=${STORES:-stores} RGB=${RGB:-$STORES/rgb/rgb.h5} RUNS=${RUNS:-runs/tables}
SEEDS=${SEEDS:-3000} SCALE=${SCALE:-4}

# The published recipe, or the reduced one, which is the same for every network; of a flag given twice the last counts.
recipe=(--n_scale "$SCALE")
if [ "${REDUCED:-0}" = 1 ]; then
    FEATS=${FEATS:-32} EPOCHS=${EPOCHS:-2}
    size=$((8 * SCALE)) per_scene=64
    recipe+=(--patch_size $size --patch_stride 64 --global_residual 1 --init identity --learning_rate 1e-3
        --clip_gradient 1 --schedule cosine --warmup_iterations 20 --ema_decay 0.99)
    thetas=(--theta_rgb 1 --theta_LabeledSpectralMixUp 1 --theta_unlabel 1)
else
    [ "$SCALE" = 8 ] && per_scene=169 || per_scene=225
    thetas=(--theta_rgb 3 --theta_LabeledSpectralMixUp 1 --theta_unlabel 3)
fi
[ -z "${FEATS:-}" ] || recipe+=(--n_feats "$FEATS")
[ -z "${EPOCHS:-}" ] || recipe+=(--epochs "$EPOCHS")
# If the reduced recipe does not suit a baseline: GDRRN, cheap for its width, is made wider, and its loss needs a
# smaller gradient norm; MCNet, expensive for its width, is made narrower.
own_of() {
    [ "${REDUCED:-0}" = 1 ] || return 0
    case $1 in GDRRN) echo --n_feats 64 --clip_gradient 0.005 ;; MCNet) echo --n_feats 16 ;; esac
}

wanted() { [ -z "${ROWS:-}" ] || [[ " $ROWS " == *" $1 "* ]]; }

# stores_of SET: the folder of its stores; fails and names the set if it is not prepared.
stores_of() {
    local folder
    for folder in "$STORES/$1_x$SCALE" "$STORES/$1"; do
        [ -f "$folder/labelled.h5" ] && [ -f "$folder/test.h5" ] && echo "$folder" && return
    done
    echo "left out: $1 is not prepared under $STORES (mains.py prepare)" >&2
    return 1
}

# row SET NAME [flags ...]: train one row of a table for every seed, unless it is there already.
row() {
    local set=$1 name=$2 folder seed out
    shift 2
    wanted "$name" || return 0
    folder=$(stores_of "$set") || return 0
    for seed in $SEEDS; do
        out=$RUNS/${set}_x$SCALE/$name/seed$seed
        if compgen -G "$out/*/published/*_results.json" >/dev/null; then
            echo "there already: $out"
            continue
        fi
        if ! compgen -G "$out/*/results.json" >/dev/null; then
            "$python" mains.py train --dataset_name "$(title_of "$set")" --train_dir_mslabel "$folder/labelled.h5" \
                --test_dir "$folder/test.h5" --save_dir "$out" --seed "$seed" "${recipe[@]}" "$@" ${FLAGS:-} --resume last
        fi
        "$python" mains.py test --protocol published --test_dir "$folder/test.h5" \
            --model_dir "$(ls "$out"/*/*_epoch_*.pth | tail -1)" --result_path "$(ls -d "$out"/*/ | head -1)published"
    done
}

bicubic() {
    local folder protocol out=$RUNS/${1}_x$SCALE/Bicubic
    wanted Bicubic && folder=$(stores_of "$1") || return 0
    for protocol in corrected published; do
        [ -f "$out/$protocol/Bicubic_x${SCALE}_results.json" ] || "$python" mains.py test --model_title Bicubic \
            --n_scale "$SCALE" --test_dir "$folder/test.h5" --protocol $protocol --result_path "$out/$protocol"
    done
}

title_of() { case $1 in cave*) echo Cave ;; harvard) echo Harvard ;; ntire2020) echo NTIRE2020 ;; esac; }

# The rows of a table, each with its flags of train.
baseline() { row "$1" "$2" --model_title "$2" $(own_of "$2"); }
rgb=(--UseRGB 1 --train_dir_rgb "$RGB" "${thetas[@]}")
mixup=(--UseLabeledSpectralMixUp 1 "${thetas[@]}")
ssl_of() { echo --UseUnlabelConsistency 1 --train_dir_msunlabel "$(stores_of "$1")/unlabelled.h5"; }
plain() { row "$1" DeepShare; }
# As many Adam steps as with_all: separates the gain of the components from that of longer training. Reduced only.
plain_longer() { [ "${REDUCED:-0}" != 1 ] || row "$1" DeepShare,longer --epochs $((4 * EPOCHS)); }
with_rgb() { row "$1" DeepShare+RGB "${rgb[@]}"; }
with_rgb_ssl() { row "$1" DeepShare+RGB+SSL "${rgb[@]}" $(ssl_of "$1"); }
with_mixup() { row "$1" DeepShare+Mixup "${mixup[@]}"; }
with_all() { row "$1" DeepShare+RGB+SSL+Mixup "${rgb[@]}" "${mixup[@]}" $(ssl_of "$1"); }

# Every method on every set that is prepared.
published_table() {
    local set network
    for set in cave harvard ntire2020; do
        stores_of "$set" >/dev/null || continue
        bicubic "$set"
        for network in GDRRN 3DFCNN SSPSR MCNet; do baseline "$set" "$network"; done
        plain "$set"
        with_rgb "$set"
        with_rgb_ssl "$set"
        with_all "$set"
    done
    tables
}

tables() { "$python" mains.py tables "$RUNS"; }
