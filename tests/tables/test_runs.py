import json

import pytest
from helpers import PLAIN_RUN, ROOT, write_finished_run, write_unfinished_run

from models import weights
from models.registry import PRETRAINED
from tables.runs import Run


@pytest.mark.parametrize(
    ("name", "partial"),
    [
        ("Cave_DeepShare_epoch_10_now.pth", None),
        ("Cave_DeepShare_epoch_2_now.pth", "of epoch 2 of 10"),
        ("best.pth", None),
        ("", None),
    ],
)
def test_weights_from_before_the_end_of_a_run_are_told(tmp_path, name, partial):
    write_finished_run(tmp_path)
    assert Run(PLAIN_RUN, tmp_path).partial(name) == partial


def test_weights_of_a_run_that_never_ended_are_told(tmp_path):
    write_unfinished_run(tmp_path)
    assert Run(PLAIN_RUN, tmp_path).partial("last.pth") == "of an unfinished run"


def test_the_protocol_is_as_asked_else_that_of_the_runs_own_test(tmp_path):
    assert Run({"protocol": "corrected"}, tmp_path).protocol() == "corrected"
    assert Run({"protocol": ""}, tmp_path).protocol() == ""
    write_finished_run(tmp_path, protocol="published")
    assert Run({"protocol": ""}, tmp_path).protocol() == "published"


@pytest.mark.parametrize("name", sorted(path.stem for path in PRETRAINED.glob("*.pth")))
def test_the_config_of_the_programs_own_weights_agrees_with_their_tensors(name):
    told = json.loads((ROOT / "pretrained" / f"{name}.json").read_text(encoding="utf-8"))
    loaded = weights.load(name)
    architecture = dict(loaded.architecture)
    assert architecture.pop("name") == told["model_title"]
    assert architecture == {key: told[key] for key in architecture}
    assert sum(p.numel() for p in loaded.model.parameters()) == told["parameters"]
    # Patches every so many pixels in 5 scenes of 512 x 512, 15 alike, and 100 pieces of 256 x 256 pixels, or halved;
    # cave_x4, cave_x8 and cave_x3_small have seen 500 photographs of 481 x 321 pixels beside them, halved too, the last
    # one also two pictures of 333 x 250 pixels.
    size, stride = told["patch_size"], told["patch_stride"]
    scene, piece, half = (((edge - size) // stride + 1) ** 2 for edge in (512, 256, 128))
    photograph = ((240 - size) // stride + 1) * ((160 - size) // stride + 1)
    both = 100 * half + 500 * photograph
    two = 2 * ((166 - size) // stride + 1) * ((125 - size) // stride + 1)
    pictures = {"cave_x2_small": 100 * half, "cave_x3_small": both + two, "cave_x4": both, "cave_x8": both}
    expected = {"labelled": 5 * scene, "rgb": pictures.get(name, 100 * piece)}
    if told["UseUnlabelConsistency"]:
        expected["unlabelled"] = 15 * scene
    assert told["patches"] == expected
    # All 8 flips and rotations of each patch, in batches of 8.
    assert told["iterations"] == told["epochs"] * told["patches"]["labelled"]
