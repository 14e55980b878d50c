import json

import fixtures
import numpy as np
import pytest
import scipy.io
import torch
from helpers import GOLDEN
from PIL import Image

from data.imresize import imresize
from evaluation import scoring
from evaluation.scene_sets import TestScene
from metrics import quality_assessment
from models import build_model
from models import weights as checkpoint
from predict import super_resolve
from training import checkpoint as runs


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("n_scale", [4, 8])
@pytest.mark.parametrize("protocol", ["corrected", "published"])
def test_bicubic_is_scored_as_by_hand(run, stores, tmp_path, n_scale, protocol):
    flags = {"test_dir": stores / "test.h5", "n_scale": n_scale, "protocol": protocol, "result_path": tmp_path}
    code, out, _ = run("test", model_title="Bicubic", **flags)
    assert code == 0
    results = read(tmp_path / f"Bicubic_x{n_scale}_results.json")
    assert (results["model"], results["n_scale"], results["protocol"]) == ("Bicubic", n_scale, protocol)
    for seed, name in ((4, "jelly_beans"), (5, "watercolors")):
        eight_bit = name == "watercolors"
        levels = 255 if eight_bit else 65535
        scale = 65535 if protocol == "published" else levels
        gt = ((fixtures.make_smooth_cube(seed) * levels).round() / scale).astype(np.float32)
        lms = imresize(imresize(gt, 1 / n_scale).astype(np.float32), n_scale).astype(np.float32)
        expected = quality_assessment(gt, lms, ratio=4 if protocol == "published" else n_scale)
        assert results["scenes"][name] == pytest.approx(expected, rel=1e-4)
        assert format(results["scenes"][name]["MPSNR"], ".4f") in out
    for metric, mean in results["mean"].items():
        assert mean == pytest.approx(np.mean([row[metric] for row in results["scenes"].values()]))
    assert str(tmp_path / f"Bicubic_x{n_scale}_results.json") in out


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.pth"
    checkpoint.save_weights(build_model("DeepShare", 31, 4, n_feats=4, n_blocks=1, n_ovls=3), path, 3)
    return path


def test_weights_alone_are_scored_and_images_saved(run, stores, weights, tmp_path):
    flags = {"test_dir": stores / "test.h5", "model_dir": weights, "result_path": tmp_path / "out"}
    code, out, _ = run("test", **flags, save_images=1)
    assert code == 0
    results = read(tmp_path / "out" / "tiny_results.json")
    assert list(results["scenes"]) == list(fixtures.TEST)
    for name in fixtures.TEST:
        cube = scipy.io.loadmat(tmp_path / "out" / "tiny_images" / f"{name}.mat")["sr"]
        assert (cube.shape, cube.dtype) == ((fixtures.EDGE, fixtures.EDGE, 31), np.float32)
        with Image.open(tmp_path / "out" / "tiny_images" / f"{name}.png") as picture:
            assert picture.width > picture.height > fixtures.EDGE
    # The folder is listed in place of its files, so that the scores stay in view.
    assert str(tmp_path / "out" / "tiny_images") in out and "jelly_beans.mat" not in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"n_feats": 8}, "--n_feats 8"),
        ({"n_scale": 8}, "--n_scale 8"),
        ({"n_colors": 128}, "--n_colors 128"),
        ({"n_ovls": 2}, "--n_ovls 2: "),
        ({"n_ovls": 0}, "--n_ovls 0"),
        ({"n_blocks": 3}, "--n_blocks 3"),
        ({"n_subs": 6}, "--n_subs 6"),
    ],
)
def test_flags_that_contradict_the_weights_are_refused(refused, stores, weights, flags, words):
    assert words in refused("test", test_dir=stores / "test.h5", model_dir=weights, **flags)


@pytest.mark.parametrize("name", ["SSPSR", "MCNet"])
def test_weights_of_another_network_are_refused(refused, stores, weights, name):
    sentence = refused("test", test_dir=stores / "test.h5", model_dir=weights, model_title=name)
    assert f"--model_title {name}: {weights} is a DeepShare" in sentence


def test_weights_without_scale_need_n_scale(run, refused, stores, tmp_path):
    flags = {"test_dir": stores / "test.h5", "model_dir": GOLDEN / "peers" / "gdrrn_31bands.pth"}
    assert "set --n_scale" in refused("test", **flags)
    assert run("test", **flags, n_scale=8, n_subs=8, data_test_num=1, result_path=tmp_path)[0] == 0
    results = read(tmp_path / "gdrrn_31bands_results.json")
    assert (results["model"], results["n_scale"]) == ("GDRRN", 8)
    assert "--n_colors 8" in refused("test", **flags, n_scale=8, n_colors=8)


def test_flags_that_agree_with_the_weights_pass(run, stores, weights, tmp_path):
    agreeing = {
        "n_feats": 4,
        "n_scale": 4,
        "n_colors": 31,
        "n_ovls": 3,
        "n_blocks": 1,
        "n_subs": 8,
        "model_title": "DeepShare",
    }
    assert run("test", test_dir=stores / "test.h5", model_dir=weights, result_path=tmp_path, **agreeing)[0] == 0


@pytest.mark.parametrize("keys", [("gt",), ("gt", "ms"), ("gt", "ms", "ms_bicubic")])
def test_folders_may_hold_ms_or_not(run, tmp_path, keys):
    folder = fixtures.write_patches(tmp_path / "scenes", count=1, keys=keys)
    assert run("test", model_title="Bicubic", test_dir=folder, result_path=tmp_path / "out")[0] == 0
    arrays = fixtures.make_patch_arrays(50)
    if "ms_bicubic" not in keys:
        ms = arrays["ms"] if "ms" in keys else imresize(arrays["gt"], 1 / 4).astype(np.float32)
        arrays["ms_bicubic"] = imresize(ms, 4).astype(np.float32)
    expected = quality_assessment(arrays["gt"], arrays["ms_bicubic"])
    row = read(tmp_path / "out" / "Bicubic_x4_results.json")["scenes"]["block_1"]
    assert row == pytest.approx(expected, rel=1e-4)


def test_data_test_num_limits_the_scored_scenes(run, stores, tmp_path):
    code, out, err = run(
        "test", model_title="Bicubic", test_dir=stores / "test.h5", data_test_num=1, result_path=tmp_path
    )
    assert code == 0
    assert "first 1 of 2" in out + err
    assert list(read(tmp_path / "Bicubic_x4_results.json")["scenes"]) == ["jelly_beans"]


def test_dark_band_with_infinite_ergas_is_named(run, tmp_path):
    cube = fixtures.make_smooth_cube(0).astype(np.float32)
    cube[:, :, 3] = 0
    ms = imresize(cube, 1 / 4)
    ms[:, :, 3] = 0.01
    fixtures.write_mat(tmp_path / "scenes" / "dark.mat", {"gt": cube, "ms": ms.astype(np.float32)})
    code, out, err = run("test", model_title="Bicubic", test_dir=tmp_path / "scenes", result_path=tmp_path / "out")
    assert code == 0
    assert "dark: ERGAS is infinite: no light in band 4" in out + err
    assert read(tmp_path / "out" / "Bicubic_x4_results.json")["mean"]["ERGAS"] == np.inf


def test_scenes_that_cannot_be_scored_are_refused(refused, stores, weights, tmp_path):
    assert "not divisible by --n_scale 16" in refused(
        "test",
        model_title="Bicubic",
        n_scale=16,
        test_dir=fixtures.write_patches(tmp_path / "a", edge=24, keys=("gt",)),
    )
    folder = fixtures.write_patches(tmp_path / "b", bands=30)
    assert "30 bands" in refused("test", model_dir=weights, test_dir=folder, bands="exact")
    assert "LR image" in refused("test", model_title="Bicubic", test_dir=stores / "unlabelled.h5")
    assert "too few" in refused(
        "test", model_title="Bicubic", test_dir=fixtures.write_patches(tmp_path / "c", edge=4, keys=("gt",))
    )
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("count", "words"), [(40, "in 2 overlapping windows of 31 bands"), (9, "together")])
def test_scenes_of_different_bands_use_windows(run, weights, tmp_path, count, words):
    folder = fixtures.write_patches(tmp_path / "other", bands=count, keys=("gt",))
    code, out, _ = run("test", model_dir=weights, test_dir=folder, result_path=tmp_path / "results", cuda=0)
    assert code == 0 and f"{count} bands of unknown wavelengths, super-resolved {words}" in out
    results = read(tmp_path / "results" / f"{weights.stem}_windows_results.json")
    assert (results["config"]["bands"], results["config"]["normalise"]) == ("windows", "bands")
    truth = scipy.io.loadmat(folder / "block_1.mat")["gt"]
    with pytest.warns(UserWarning, match="super-resolved"):
        result = super_resolve(imresize(truth, 1 / 4).astype(np.float32), weights, value_scale=1.0, cuda="0")
    error = np.mean((result - truth) ** 2, axis=(0, 1))
    assert results["scenes"]["block_1"]["MPSNR"] == pytest.approx(np.mean(-10 * np.log10(error)), abs=1e-3)


def test_unusable_result_path_is_refused_before_scoring(refused, stores, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("evaluation.scoring.evaluate", lambda *_, **__: pytest.fail("scored first"))
    flags = {"model_title": "Bicubic", "test_dir": stores / "test.h5"}
    assert "a file has the name of a folder" in refused("test", **flags, result_path=tmp_path / "file" / "sub")


def test_run_results_are_named_after_its_folder(run, stores, tmp_path):
    content = dict.fromkeys(runs.RUN.fields, 0)
    model = build_model("DeepShare", 31, 4, n_feats=4)
    (tmp_path / "my_run").mkdir()
    torch.save({**content, "model": model.state_dict(), "config": {"n_ovls": 2}}, tmp_path / "my_run" / "last.pth")
    flags = {"test_dir": stores / "test.h5", "model_dir": tmp_path / "my_run" / "last.pth"}
    assert run("test", **flags, result_path=tmp_path)[0] == 0
    assert (tmp_path / "my_run_results.json").is_file()


def test_scenes_of_mixed_bands_are_refused(refused, weights, tmp_path):
    fixtures.write_mat(tmp_path / "p" / "a.mat", {"gt": fixtures.make_smooth_cube(0)})
    fixtures.write_mat(tmp_path / "p" / "b.mat", {"gt": fixtures.make_smooth_cube(0, bands=8)})
    assert "b has 8 bands, the network 31" in refused("test", model_dir=weights, test_dir=tmp_path / "p")


def test_released_weights_are_scored_without_flags(run, stores, golden_x4, tmp_path):
    flags = {"test_dir": stores / "test.h5", "model_dir": golden_x4.weights_path, "result_path": tmp_path}
    assert run("test", **flags, data_test_num=1)[0] == 0
    assert read(tmp_path / "deepshare_x4_31bands_results.json")["model"] == "DeepShare"


def test_exactly_reproduced_band_is_excluded_from_mpsnr(capsys):
    gt = torch.rand(1, 3, 16, 16)
    scene = TestScene("dim", gt, gt, gt, ["400 nm", "500 nm", "600 nm"])
    output = gt[0].permute(1, 2, 0).numpy() + np.array([0.1, 0, 0.01], dtype=np.float32)
    # By hand: 20 and 40 dB; the second band has no error.
    assert scoring.score(scene, output, 4)["MPSNR"] == pytest.approx(30, abs=1e-3)
    assert "MPSNR leaves out 1 of 3 bands, reproduced exactly: 500 nm" in capsys.readouterr().out
    assert scoring.score(scene, output * 0 + gt[0].permute(1, 2, 0).numpy(), 4)["MPSNR"] == np.inf


def test_back_projection_equals_the_written_out_iteration(run, stores, tmp_path):
    flags = {"test_dir": stores / "test.h5", "model_title": "Bicubic", "n_scale": 4, "result_path": tmp_path}
    code, out, _ = run("test", **flags, back_projection=2)
    path = tmp_path / "Bicubic_x4_projected2_results.json"
    assert code == 0 and str(path) in out
    gt = ((fixtures.make_smooth_cube(4) * 65535).round() / 65535).astype(np.float32)
    lr = imresize(gt, 1 / 4)
    result = imresize(lr, 4)
    for _ in range(2):
        result += imresize(lr - imresize(result, 1 / 4), 4)
    assert read(path)["scenes"]["jelly_beans"] == pytest.approx(quality_assessment(gt, result, ratio=4), rel=1e-4)
