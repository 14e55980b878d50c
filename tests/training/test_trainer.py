import json
import os
import signal
import subprocess
import sys
import time

import fixtures
import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    TINY,
    TITLE,
    are_equal,
    compute_released_losses,
    format_words,
    load_final_weights,
    make_training_flags,
    read_rows,
)

import mains
from config import TrainConfig
from data.spectral import read_conversion
from evaluation import scoring as evaluator
from models import build_model, registry
from models import weights as checkpoint
from objectives import labelled_loss
from system.errors import UserError
from trainer import Trainer
from training import checkpoint as runs
from training.log import RunLog


def test_two_iterations_give_the_released_losses(golden_x4, tiny_flags, monkeypatch):
    flags = {k: str(v) for k, v in tiny_flags.items()}
    trainer = Trainer(TrainConfig.from_flags({**flags, "n_feats": 32}))
    losses = compute_released_losses(trainer, golden_x4, monkeypatch)
    assert losses == pytest.approx(golden_x4.values["losses_two_iterations"], rel=1e-5)
    with torch.no_grad():
        output = trainer.model(golden_x4["ms"], golden_x4["lms"])
    assert (output - golden_x4["spectral_after_two_iterations"]).abs().max() < 1e-5


def test_run_writes_its_files_and_resumes(run, tiny_flags, stores):
    scenes = {"eval_dir_ms": stores / "test.h5", "test_dir": stores / "test.h5"}
    flags = {**tiny_flags, **scenes, "patch_stride": 32, "epochs": 3, "log_interval": 3, "cuda": 0}
    run_dir = flags["save_dir"] / TITLE
    code, out, _ = run("train", **flags, max_iterations=7)
    assert code == 0
    files = sorted(p.name for p in run_dir.iterdir() if p.is_file())
    weights = [f for f in files if "_epoch_1_" in f]
    assert len(weights) == 1
    others = ["config.json", "last.pth", "log.csv", "results.json", "samples.npz", "train.log", "validation.csv"]
    assert files == sorted([*weights, *others])
    assert all(str(run_dir / name) in out for name in files)
    assert [r["iteration"] for r in read_rows(run_dir / "log.csv")] == ["3", "6", "7"]

    assert run("train", **flags, resume="last")[0] == 0
    # 2 scenes of 2 x 2 patches in 8 positions, 8 to a batch: 8 iterations to an epoch.
    rows = read_rows(run_dir / "log.csv")
    assert [(r["epoch"], r["iteration"]) for r in rows][2:6] == [("1", "7"), ("1", "8"), ("2", "9"), ("2", "12")]
    assert rows[-1]["iteration"] == "24"
    assert [float(r["lr"]) for r in (rows[0], rows[-1])] == pytest.approx([1e-4, 3e-5])
    # Epochs 1 and 2 of 3 are in the first half (e - 1 <= 1.5), epoch 3 is not.
    assert rows[5]["consistency"]
    assert not rows[-1]["consistency"]
    assert all(float(r[b]) > 0 for r in rows for b in ("labelled", "mixup", "rgb"))
    assert [r["epoch"] for r in read_rows(run_dir / "validation.csv")] == ["1", "2", "3"]
    results = json.loads((run_dir / "results.json").read_text())
    assert results["protocol"] == "corrected"
    assert set(results["scenes"]) == set(fixtures.TEST)
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["patch_size"], config["n_colors"], config["iterations"]) == (16, 31, 24)
    # 1 x 2 places in each of the two pictures, 2 x 2 in each of the scenes.
    assert config["patches"] == {"labelled": 8, "rgb": 4, "unlabelled": 8}
    assert config["rgb_is_halved"] is False

    # Another run of the same title takes a folder of its own.
    assert run("train", **flags, max_iterations=1)[0] == 0
    assert (flags["save_dir"] / f"{TITLE}_2" / "last.pth").is_file()


def test_seed_determines_the_log(run, tiny_flags, tmp_path):
    logs = []
    for number, seed in enumerate((1, 1, 2)):
        save_dir = tmp_path / str(number)
        assert (
            run("train", **{**tiny_flags, "save_dir": save_dir, "seed": seed}, max_iterations=6, log_interval=1)[0] == 0
        )
        logs.append((save_dir / TITLE / "log.csv").read_text())
    assert logs[0] == logs[1] != logs[2]


def command(flags):
    return [sys.executable, str(ROOT / "mains.py"), "train", *format_words(flags)]


def wait_for_iteration(run_dir, wanted, process):
    deadline = time.monotonic() + 120
    log = run_dir / "log.csv"
    while time.monotonic() < deadline and process.poll() is None:
        if log.is_file() and (rows := read_rows(log)) and int(rows[-1]["iteration"] or 0) >= wanted:
            return
        time.sleep(0.02)
    pytest.fail(f"the run did not come to iteration {wanted}")


@pytest.fixture(scope="module")
def undisturbed(stores, raw, tmp_path_factory):
    """A run of four epochs of 8 iterations that nobody stopped."""
    save_dir = tmp_path_factory.mktemp("undisturbed")
    flags = {"patch_stride": 32, "epochs": 4, "log_interval": 1, "cuda": 0}
    assert (
        mains.main(["train", *format_words({**make_training_flags(stores, raw), **flags, "save_dir": save_dir})]) == 0
    )
    run_dir = save_dir / TITLE
    return {"flags": flags, "weights": load_final_weights(run_dir), "log": (run_dir / "log.csv").read_text()}


# Between two checkpoints; before the first, and shortly after one.
KILLED_AT = (10, 3, 17) if os.environ.get("EVERY_MOMENT") else (10,)


@pytest.mark.parametrize("kill_at", KILLED_AT)
def test_killed_run_resumes_to_equal_weights(run, tiny_flags, tmp_path, kill_at, undisturbed):
    flags = {**tiny_flags, **undisturbed["flags"], "save_dir": tmp_path / "killed"}
    process = subprocess.Popen(command(flags), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    run_dir = flags["save_dir"] / TITLE
    wait_for_iteration(run_dir, kill_at, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(run_dir.glob("*_epoch_*.pth"))
    assert run("train", **flags, resume="last")[0] == 0
    assert are_equal(load_final_weights(run_dir), undisturbed["weights"])
    assert (run_dir / "log.csv").read_text() == undisturbed["log"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_a_resumable_checkpoint(run, tiny_flags, tmp_path, monkeypatch, undisturbed, number, code):
    flags = {**tiny_flags, **undisturbed["flags"], "save_dir": tmp_path / "stopped"}
    run_dir, log_losses = flags["save_dir"] / TITLE, RunLog.losses

    def signalled(log, epoch, iteration, *row):
        log_losses(log, epoch, iteration, *row)
        if iteration == 5:
            signal.raise_signal(number)

    monkeypatch.setattr(RunLog, "losses", signalled)
    stopped_with, _, err = run("train", **flags)
    monkeypatch.undo()
    assert stopped_with == code
    assert "--resume last" in err.splitlines()[-1]
    assert runs.load_run(run_dir / "last.pth")["iteration"] == 5
    assert run("train", **flags, resume=run_dir)[0] == 0
    assert are_equal(load_final_weights(run_dir), undisturbed["weights"])
    assert (run_dir / "log.csv").read_text() == undisturbed["log"]


def test_sigterm_leaves_a_checkpoint_and_code_143(tiny_flags, tmp_path):
    flags = {**tiny_flags, "epochs": 50, "log_interval": 1, "cuda": 0, "save_dir": tmp_path / "stopped"}
    process = subprocess.Popen(command(flags), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    run_dir = flags["save_dir"] / TITLE
    wait_for_iteration(run_dir, 5, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "--resume last" in err.splitlines()[-1]
    assert runs.load_run(run_dir / "last.pth")["iteration"] >= 5
    assert not list(run_dir.glob("*_epoch_*.pth"))


def test_resuming_with_different_settings_is_refused(run, refused, tiny_flags, tmp_path):
    assert run("train", **tiny_flags, max_iterations=2)[0] == 0
    sentence = refused("train", **{**tiny_flags, "batch_size": 4}, resume="last")
    assert "--batch_size 4 (was 8)" in sentence
    other = fixtures.write_pictures(tmp_path / "other", count=3)
    assert "'rgb': 18" in refused("train", **{**tiny_flags, "train_dir_rgb": other}, resume="last")
    run_dir = tiny_flags["save_dir"] / TITLE
    weights = next(run_dir.glob("*_epoch_*.pth"))
    sentence = refused("train", **tiny_flags, resume=weights)
    assert "not a checkpoint of a run" in sentence
    assert "--weights" in sentence and "--model_dir" not in sentence
    assert "no such file" in refused("train", **tiny_flags, resume=run_dir / "none.pth")


def test_resume_last_without_checkpoint_starts_anew(run, tiny_flags):
    code, out, err = run("train", **tiny_flags, max_iterations=1, resume="last")
    assert code == 0
    assert "starting from the beginning" in out + err


def test_inactive_branches_need_no_folder(run, stores, tmp_path):
    code, _, _ = run(
        "train", **TINY, train_dir_mslabel=stores / "labelled.h5", save_dir=tmp_path, max_iterations=2, log_interval=1
    )
    assert code == 0
    rows = read_rows(tmp_path / TITLE / "log.csv")
    assert [(r["mixup"], r["rgb"], r["consistency"]) for r in rows] == [("", "", "")] * 2


def test_documented_call_trains_on_mat_patches(run, tmp_path):
    fixtures.write_patches(tmp_path / "Train_Semi_Labeled_10_x4", seed=0)
    fixtures.write_patches(tmp_path / "Train_Semi_Unlabeled_30_x4", seed=10, version="7.3")
    fixtures.write_patches(tmp_path / "Train_RGB2020_8channels_x4", seed=20, bands=8)
    fixtures.write_patches(tmp_path / "Testx4_All", seed=30, count=2)
    documented = (
        "train --batch_size 8 --UseRGB 1 --theta_rgb 6 --UseLabeledSpectralMixUp 1 --theta_LabeledSpectralMixUp 2 "
        "--UseUnlabelConsistency 1 --theta_unlabel 3 --dataset_name Harvard "
        f"--train_dir_mslabel {tmp_path}/Train_Semi_Labeled_10_x4/ --data_train_num 3396 --data_test_num 40 "
        f"--test_dir {tmp_path}/Testx4_All/ --train_dir_rgb {tmp_path}/Train_RGB2020_8channels_x4/ "
        f"--train_dir_msunlabel {tmp_path}/Train_Semi_Unlabeled_30_x4/ --save_dir {tmp_path}"
    )
    # Only made small: the published width takes minutes on a CPU.
    code, _, err = run(*documented.split(), n_feats=4, max_iterations=2)
    assert code == 0, err
    run_dir = tmp_path / "Harvard_DeepShare_Blocks=3_Subs8_Ovls2_Feats=4_x4"
    assert set(json.loads((run_dir / "results.json").read_text())["scenes"]) == {"block_1", "block_2"}


@pytest.mark.parametrize("flag", ["joint_loss", "global_residual"])
def test_options_of_the_recipe_change_the_run(run, tiny_flags, tmp_path, flag):
    states = []
    for value in (0, 1):
        save_dir = tmp_path / f"{flag}{value}"
        assert run("train", **{**tiny_flags, "save_dir": save_dir}, **{flag: value}, max_iterations=2)[0] == 0
        states.append(load_final_weights(save_dir / TITLE))
    assert not torch.equal(states[0]["final.weight"], states[1]["final.weight"])


def test_joint_loss_takes_one_adam_step(tiny_flags):
    flags = {**{k: str(v) for k, v in tiny_flags.items()}, "joint_loss": "1"}
    trainer = Trainer(TrainConfig.from_flags(flags))
    steps = []
    trainer.optimizer.step = lambda: steps.append([p.grad for p in trainer.model.parameters()])
    trainer.iterate(epoch=1)
    assert len(steps) == 1
    assert all(g is not None for g in steps[0])


PEERS = {
    "SSPSR": "Cave_SSPSR_Blocks=3_Subs8_Ovls2_Feats=4",
    "GDRRN": "Cave_GDRRN_Feats=4",
    "3DFCNN": "Cave_3DFCNN",
    "MCNet": "Cave_MCNet_Blocks=1_Feats=4",
}


@pytest.mark.parametrize("name", PEERS)
def test_baseline_trains_resumes_and_is_scored(run, refused, stores, tmp_path, name):
    flags = {**TINY, "batch_size": 2, "log_interval": 1, "cuda": 0, "model_title": name, "save_dir": tmp_path}
    flags |= {"train_dir_mslabel": stores / "labelled.h5", "UseLabeledSpectralMixUp": 1}
    run_dir = tmp_path / f"{PEERS[name]}_x4"
    assert run("train", **flags, max_iterations=1)[0] == 0
    before = runs.load_run(run_dir / "last.pth")["model"]
    assert run("train", **flags, max_iterations=2, resume="last")[0] == 0
    rows = read_rows(run_dir / "log.csv")
    assert [r["iteration"] for r in rows] == ["1", "2"]
    assert all(float(r[b]) > 0 for r in rows for b in ("labelled", "mixup"))
    after = runs.load_run(run_dir / "last.pth")["model"]
    assert any(not torch.equal(after[k], before[k]) for k in before)
    assert json.loads((run_dir / "config.json").read_text())["loss"] == registry.get_entry(name).published.get(
        "loss", "hybrid"
    )

    weights = next(run_dir.glob(f"{PEERS[name]}_epoch_1_*.pth"))
    scored = {"test_dir": stores / "test.h5", "data_test_num": 1, "result_path": tmp_path / "results"}
    for path in (weights, run_dir / "last.pth"):
        assert run("test", **scored, model_dir=path)[0] == 0
    results = [json.loads(p.read_text()) for p in (tmp_path / "results").glob("*.json")]
    assert [(r["model"], r["n_scale"]) for r in results] == [(name, 4)] * 2
    assert results[0]["mean"] == results[1]["mean"]
    assert "--n_scale 8" in refused("test", **scored, model_dir=weights, n_scale=8)


@pytest.mark.parametrize("name", PEERS)
def test_every_baseline_accepts_the_short_recipe(run, tiny_flags, stores, name):
    flags = {k: v for k, v in tiny_flags.items() if "RGB" not in k and "Unlabel" not in k}
    recipe = {"model_title": name, "global_residual": 1, "init": "identity", "learning_rate": 1e-9, "weight_decay": 0}
    code, _, _ = run("train", **flags, **recipe, test_dir=stores / "test.h5", data_test_num=1, max_iterations=1)
    assert code == 0
    run_dir = flags["save_dir"] / f"{PEERS[name]}_x4"
    bicubic = run("test", model_title="Bicubic", **{"test_dir": stores / "test.h5", "result_path": run_dir})
    assert bicubic[0] == 0
    ours, theirs = (json.loads((run_dir / f).read_text()) for f in ("results.json", "Bicubic_x4_results.json"))
    scene = fixtures.TEST[0]
    assert ours["scenes"][scene]["MPSNR"] == pytest.approx(theirs["scenes"][scene]["MPSNR"], abs=1e-3)


def test_mcnet_takes_band_means_of_labelled_images(run, stores, tmp_path):
    flags = {**TINY, "patch_size": 48, "model_title": "MCNet", "save_dir": tmp_path, "max_iterations": 1}
    assert run("train", **flags, train_dir_mslabel=stores / "labelled.h5")[0] == 0
    means = load_final_weights(tmp_path / "Cave_MCNet_Blocks=1_Feats=4_x4")["band_means"]
    # Scenes 0 and 1 of the fixtures are the labelled ones; a patch is a whole scene.
    expected = np.mean([fixtures.make_smooth_cube(seed) for seed in (0, 1)], axis=(0, 1, 2))
    assert means.numpy() == pytest.approx(expected, abs=1e-5)


def test_loss_and_gradient_clipping_follow_the_flags(tiny_flags):
    flags = {**{k: str(v) for k, v in tiny_flags.items()}, "loss": "mse", "clip_gradient": "1e-3"}
    trainer = Trainer(TrainConfig.from_flags(flags))
    batch = trainer.streams["labelled"].batch(0)
    error = trainer.model(batch.ms, batch.lms) - batch.gt
    assert labelled_loss(trainer.model, batch, trainer.task).item() == pytest.approx(error.square().mean().item())
    norms = []
    trainer.optimizer.step = lambda: norms.append(
        sum(p.grad.square().sum().item() for p in trainer.model.parameters() if p.grad is not None) ** 0.5
    )
    trainer.iterate(epoch=1)
    assert norms == pytest.approx([1e-3] * 4, rel=1e-3)


def test_identity_start_through_the_command_line(run, refused, tiny_flags):
    assert "n_feats >= 31" in refused("train", **tiny_flags, init="identity")
    assert run("train", **{**tiny_flags, "n_feats": 32}, init="identity", max_iterations=1)[0] == 0
    assert run("train", **tiny_flags, init="identity", global_residual=1, max_iterations=1)[0] == 0


def test_diverging_run_keeps_its_last_good_checkpoint(run, refused, tiny_flags, monkeypatch):
    assert run("train", **tiny_flags, max_iterations=2)[0] == 0
    iterate = Trainer.iterate

    def diverge(trainer, epoch):
        with torch.no_grad():
            trainer.model.final.weight.fill_(torch.nan)
        return iterate(trainer, epoch)

    monkeypatch.setattr(Trainer, "iterate", diverge)
    sentence = refused("train", **tiny_flags, max_iterations=40, resume="last")
    assert "loss of iteration" in sentence
    assert "is not finite" in sentence
    assert "--learning_rate" in sentence
    last = tiny_flags["save_dir"] / TITLE / "last.pth"
    assert runs.load_run(last)["iteration"] == 2
    assert all(torch.isfinite(t).all() for t in checkpoint.load_state(last).values())


def test_run_diverging_at_once_names_no_checkpoint(refused, tiny_flags):
    sentence = refused("train", **tiny_flags, max_iterations=40, learning_rate=1e30)
    assert "is not finite" in sentence and "has no checkpoint yet" in sentence
    assert "last.pth" not in sentence and "--resume" not in sentence
    assert not list(tiny_flags["save_dir"].rglob("*.pth"))


@pytest.mark.parametrize("name", ["MCNet", "GDRRN", "3DFCNN"])
def test_few_bands_train_networks_without_groups(run, tmp_path, name):
    for k in range(2):
        fixtures.write_own(tmp_path / "cubes", "npy", fixtures.make_smooth_cube(k, 24, 20, 3), f"cube{k}")
    data = {"dataset_name": "Few", "n_scale": 2}
    assert run("prepare", **data, raw_dir=tmp_path / "cubes", out_dir=tmp_path, fractions="1,0,0")[0] == 0
    flags = {**data, "train_dir_mslabel": tmp_path / "labelled.h5", "save_dir": tmp_path / "runs", "cuda": 0}
    flags |= {"n_feats": 4, "patch_size": 16, "patch_stride": 16, "batch_size": 2, "max_iterations": 1}
    code, _, err = run("train", **flags, model_title=name)
    assert code == 0, err


def test_too_few_bands_suggest_group_flags(run, refused, tmp_path):
    fixtures.write_own(tmp_path / "cubes", "npy", fixtures.make_smooth_cube(0, 24, 20, 2), "cube")
    data = {"dataset_name": "Few", "n_scale": 2}
    assert run("prepare", **data, raw_dir=tmp_path / "cubes", out_dir=tmp_path, fractions="1,0,0")[0] == 0
    flags = {**data, "train_dir_mslabel": tmp_path / "labelled.h5", "save_dir": tmp_path / "runs", "cuda": 0}
    flags |= {"n_feats": 4, "patch_size": 16, "patch_stride": 16, "batch_size": 2, "max_iterations": 1}
    assert "give --n_subs 2 --n_ovls 1" in refused("train", **flags)
    assert run("train", **flags, n_subs=2, n_ovls=1)[0] == 0


def test_full_disk_keeps_the_earlier_checkpoint(run, refused, tiny_flags, monkeypatch):
    assert run("train", **tiny_flags, max_iterations=3)[0] == 0
    run_dir = tiny_flags["save_dir"] / TITLE

    def full(content, path):
        with open(path, "wb") as f:
            f.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert "disk is full" in refused("train", **tiny_flags, max_iterations=6, resume="last")
    monkeypatch.undo()
    assert runs.load_run(run_dir / "last.pth")["iteration"] == 3
    assert not list(run_dir.glob(".*"))


WRONG_DATA = {
    "no folder": (lambda d: {"train_dir_mslabel": d / "none"}, "no such file"),
    "empty folder": (lambda d: {"train_dir_mslabel": (d / "e").mkdir() or d / "e"}, "empty"),
    "no patches": (
        lambda d: {"train_dir_mslabel": fixtures.write_pictures(d / "p")},
        "neither a scene store nor a folder",
    ),
    "truncated": (lambda d: {"train_dir_mslabel": truncated_patch(d)}, "could not read bytes"),
    "truncated v7.3": (lambda d: {"train_dir_mslabel": truncated_patch(d, "7.3")}, "truncated"),
    "zero bytes": (lambda d: {"train_dir_mslabel": truncated_patch(d, keep=0)}, "0 bytes"),
    "wrong keys": (
        lambda d: {"train_dir_mslabel": fixtures.write_patches(d / "p", keys=("ms", "ms_bicubic"))},
        "contains ms, ms_bicubic, but not gt",
    ),
    "wrong bands": (
        lambda d: {"train_dir_mslabel": fixtures.write_patches(d / "p", bands=30)},
        "30 bands, Cave has 31",
    ),
    "wrong scale": (lambda d: {"train_dir_mslabel": fixtures.write_patches(d / "p", n_scale=8)}, "not x4"),
    "not a number": (lambda d: {"train_dir_mslabel": nan_patch(d)}, "NaN or infinite"),
    "other sizes": (lambda d: {"train_dir_mslabel": mixed_sizes(d)}, "of one size"),
    "large batch": (lambda d: {"batch_size": 1000}, "a batch of 1000"),
    "unlabelled bands": (
        lambda d: {"train_dir_msunlabel": fixtures.write_patches(d / "p", bands=8)},
        "8 bands of unknown wavelengths, but",
    ),
    "rgb channels": (lambda d: {"train_dir_rgb": fixtures.write_patches(d / "p", bands=3)}, "3 channels"),
    "rgb folder": (lambda d: {"train_dir_rgb": (d / "e").mkdir() or d / "e"}, "empty"),
    "test size": (lambda d: {"test_dir": odd_scene(d)}, "not divisible by --n_scale 4"),
    "test bands": (lambda d: {"test_dir": fixtures.write_patches(d / "p", bands=30)}, "30 bands, the network 31"),
    "test NaN": (lambda d: {"test_dir": nan_patch(d)}, "NaN or infinite"),
    "integers": (lambda d: {"train_dir_mslabel": integer_patches(d)}, "0..1 is needed"),
    "patch size": (
        lambda d: {"train_dir_mslabel": fixtures.write_patches(d / "p"), "patch_size": 64},
        "pixels and are not cut again",
    ),
    "mixed rgb": (lambda d: {"train_dir_rgb": mixed_kinds(d)}, "keep one kind in the folder"),
    "data set name": (lambda d: {"dataset_name": "a/b"}, "--dataset_name 'a/b'"),
    "seed": (lambda d: {"seed": 10**20}, "--seed takes a whole number"),
    "conversion": (lambda d: {"conversionMat_path": matrix_file(d)}, "one of 31 x 8"),
}


def truncated_patch(folder, version="5", keep=3000):
    path = fixtures.write_patches(folder / "p", version=version) / "block_2.mat"
    path.write_bytes(path.read_bytes()[:keep])
    return folder / "p"


def nan_patch(folder):
    arrays = fixtures.make_patch_arrays(0)
    arrays["gt"][3, 4, 5] = float("nan")
    fixtures.write_mat(folder / "p" / "a.mat", arrays)
    return folder / "p"


def mixed_sizes(folder):
    fixtures.write_patches(folder / "p", count=1)
    fixtures.write_mat(folder / "p" / "z.mat", fixtures.make_patch_arrays(0, edge=16))
    return folder / "p"


def integer_patches(folder):
    arrays = {k: (a * 255).astype(np.uint8) for k, a in fixtures.make_patch_arrays(0).items()}
    fixtures.write_mat(folder / "p" / "a.mat", arrays)
    return folder / "p"


def mixed_kinds(folder):
    fixtures.write_pictures(folder / "p")
    return fixtures.write_patches(folder / "p", bands=8)


def odd_scene(folder):
    fixtures.write_mat(folder / "p" / "a.mat", {"gt": fixtures.make_smooth_cube(0, 30, 32)})
    return folder / "p"


def matrix_file(folder):
    (folder / "m.csv").write_text("1,2\n3,4\n")
    return folder / "m.csv"


@pytest.mark.parametrize("case", WRONG_DATA)
def test_wrong_data_are_refused_before_writing(refused, tiny_flags, tmp_path, case):
    make, words = WRONG_DATA[case]
    wrong = make(tmp_path)
    # Patches of folders have a size of their own.
    flags = {k: v for k, v in tiny_flags.items() if k != "patch_size" or "train_dir_mslabel" not in wrong}
    assert words in refused("train", **{**flags, **wrong})
    assert not tiny_flags["save_dir"].exists()


def test_a_failed_validation_loses_no_checkpoint(tiny_flags, stores, monkeypatch, run, refused):
    flags = {**tiny_flags, "patch_stride": 32, "eval_dir_ms": stores / "test.h5", "epochs": 2, "cuda": 0}
    evaluate = evaluator.evaluate

    def out_of_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(evaluator, "evaluate", out_of_memory)
    assert "--accumulate 2" in refused("train", **flags)
    run_dir = tiny_flags["save_dir"] / TITLE
    assert runs.load_run(run_dir / "last.pth")["iteration"] == 8
    monkeypatch.setattr(evaluator, "evaluate", evaluate)
    assert run("train", **flags, resume="last")[0] == 0
    assert [r["epoch"] for r in read_rows(run_dir / "validation.csv")] == ["1", "2"]


def test_protocol_scales_8_bit_training_scenes(run, stores, tmp_path):
    flags = {**TINY, "train_dir_mslabel": stores / "test.h5", "max_iterations": 1, "log_interval": 1}
    losses = []
    for protocol in ("corrected", "published"):
        assert run("train", **flags, protocol=protocol, save_dir=tmp_path / protocol)[0] == 0
        losses.append(read_rows(tmp_path / protocol / TITLE / "log.csv")[0]["labelled"])
    assert losses[0] != losses[1]


def test_unwritable_save_dir_is_refused(refused, tiny_flags, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "a file has the name of a folder" in refused("train", **{**tiny_flags, "save_dir": tmp_path / "file"})


def test_own_conversions_are_read_from_files(tmp_path):
    matrix = np.random.default_rng(0).random((12, 8))
    np.savetxt(tmp_path / "m.csv", matrix, delimiter=",")
    fixtures.write_mat(tmp_path / "m.mat", {"other": np.zeros((2, 2)), "F": matrix})
    for name in ("m.csv", "m.mat"):
        np.testing.assert_allclose(read_conversion(str(tmp_path / name), 12, 8), matrix)
    with pytest.raises(UserError, match="the conversion of 12 bands cannot be derived"):
        read_conversion("", 12, 8)
    (tmp_path / "bad.csv").write_text("1,a\n")
    with pytest.raises(UserError, match="cannot be read as a matrix|not a matrix"):
        read_conversion(str(tmp_path / "bad.csv"), 12, 8)


def test_final_weights_load_into_new_networks(run, tiny_flags):
    assert run("train", **tiny_flags, max_iterations=1)[0] == 0
    state = torch.load(next((tiny_flags["save_dir"] / TITLE).glob("*_epoch_*.pth")), weights_only=True)
    build_model("DeepShare", 31, 4, n_feats=4).load_state_dict(state, strict=True)


def test_absent_cuda_device_is_refused(refused, tiny_flags):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "no CUDA device" in refused("train", **tiny_flags, cuda=1)


def test_work_can_start_in_any_folder(tiny_flags, tmp_path):
    flags = {**tiny_flags, "max_iterations": 1}
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command(flags), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
