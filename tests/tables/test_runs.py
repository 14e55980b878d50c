import json

import numpy as np
import pytest
from helpers import PLAIN_RUN, ROOT, select_own_rows, write_finished_run, write_unfinished_run

from models import weights
from models.registry import PRETRAINED
from tables.runs import Run, read_columns, traits_of_test


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Cave_DeepShare_epoch_10_now.pth", None),
        ("Cave_DeepShare_epoch_2_now.pth", "of epoch 2 of 10"),
        ("best.pth", "of the best validation"),
        ("", None),
    ],
)
def test_earlier_weights_of_a_run_are_named(tmp_path, name, words):
    write_finished_run(tmp_path)
    assert Run(PLAIN_RUN, tmp_path).describe_weights(name) == words


def test_weights_of_unfinished_runs_are_named(tmp_path):
    write_unfinished_run(tmp_path)
    assert Run(PLAIN_RUN, tmp_path).describe_weights("last.pth") == "of an unfinished run"


def test_protocol_falls_back_to_the_own_test(tmp_path):
    assert Run({"protocol": "corrected"}, tmp_path).protocol() == "corrected"
    assert Run({"protocol": ""}, tmp_path).protocol() == ""
    write_finished_run(tmp_path, protocol="published")
    assert Run({"protocol": ""}, tmp_path).protocol() == "published"


@pytest.mark.parametrize("name", sorted(path.stem for path in PRETRAINED.glob("*.pth")))
def test_bundled_configs_agree_with_their_weights(name):
    told = json.loads((ROOT / "pretrained" / f"{name}.json").read_text(encoding="utf-8"))
    loaded = weights.load(name)
    architecture = dict(loaded.architecture)
    assert architecture.pop("name") == told["model_title"]
    assert architecture == {key: told[key] for key in architecture}
    assert sum(p.numel() for p in loaded.model.parameters()) == told["parameters"]
    # Patches every so many pixels in 5 scenes of 512 x 512, 15 alike, and 100 pieces of 256 x 256 pixels, or halved;
    # cave_x4, cave_x3_small and cave_x8 have seen 500 photographs of 481 x 321 pixels beside them, halved too, the last
    # two also two pictures of 333 x 250 pixels.
    size, stride = told["patch_size"], told["patch_stride"]
    scene, piece, half = (((edge - size) // stride + 1) ** 2 for edge in (512, 256, 128))
    photograph = ((240 - size) // stride + 1) * ((160 - size) // stride + 1)
    both = 100 * half + 500 * photograph
    two = 2 * ((166 - size) // stride + 1) * ((125 - size) // stride + 1)
    pictures = {"cave_x2_small": 100 * half, "cave_x3_small": both + two, "cave_x4": both, "cave_x8": both + two}
    expected = {"labelled": 5 * scene, "rgb": pictures.get(name, 100 * piece)}
    if told["UseUnlabelConsistency"]:
        expected["unlabelled"] = 15 * scene
    assert told["patches"] == expected
    # All 8 flips and rotations of each patch.
    assert told["iterations"] == told["epochs"] * 8 * told["patches"]["labelled"] // told["batch_size"]


@pytest.mark.parametrize(
    ("recorded", "traits"),
    [
        ({"normalise": "none"}, {}),
        ({"bands": "exact", "normalise": "none", "taper": 50.0}, {}),
        ({"bands": "exact", "normalise": "scene"}, {"normalise": "scene"}),
        ({"bands": "windows", "normalise": "bands"}, {"bands": "windows"}),
        ({"bands": "windows", "normalise": "none"}, {"bands": "windows", "normalise": "none"}),
    ],
)
def test_default_flags_of_test_are_not_traits(recorded, traits):
    assert traits_of_test({"model_dir": "w.pth", **recorded}) == traits


def test_empty_fields_of_a_log_are_gaps(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,iteration,labelled,rgb\n1,5,0.5,\n1,10,0.25,2\n")
    columns = read_columns(tmp_path / "log.csv")
    assert list(columns) == ["epoch", "iteration", "labelled", "rgb"]
    np.testing.assert_array_equal(columns["labelled"], [0.5, 0.25])
    np.testing.assert_array_equal(columns["rgb"], [np.nan, 2])


@pytest.mark.parametrize("text", ["", "iteration,labelled\n"])
def test_logs_without_rows_have_no_columns(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    assert read_columns(tmp_path / "log.csv") == {}


@pytest.mark.parametrize(
    "text",
    [
        *("iteration,labelled\n1,abc\n", "epoch,labelled\n1,0.5\n", "iteration,labelled\nnan,1\n", "\x00\n1\n"),
        *("iteration,labelled\n1e300,1\n", "iteration,labelled\n1,1e300\n", "iteration,labelled\n1,2,3\n"),
        *("iteration,labelled\n\xff,1\n", "iteration,labelled\n" + "1" * 200_000 + ",1\n", "epoch,MPSNR\n,1\n"),
    ],
    ids=range(10),
)
def test_damaged_logs_are_passed_over_by_name(tabulate, tmp_path, text):
    write_finished_run(tmp_path / "runs" / "good")
    log = tmp_path / "runs" / "good" / "log.csv"
    log.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="column|text"):
        read_columns(log)
    markdown, rows, _ = tabulate()
    assert "good/log.csv: passed over" in markdown
    assert len(select_own_rows(rows)) == 1
