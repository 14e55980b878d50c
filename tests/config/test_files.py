"""Flag --config: settings from a run's config.json or from YAML."""

import json

import pytest
import torch
from helpers import are_equal, load_final_weights, make_training_flags

from config import AdaptConfig, PredictConfig, TestConfig, TrainConfig, read_flags
from system.errors import UserError

SETTINGS = {**TrainConfig(train_dir_mslabel="labelled.h5", n_scale=8, precision="bf16", cuda="0").as_dict()}
RECORD = {**SETTINGS, "n_colors": 31, "iterations": 9, "patches": {"labelled": 4}, "versions": {"torch": "2"}}


@pytest.fixture
def write(tmp_path):
    def write(content, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_config_json_repeats_a_run_exactly(run, stores, raw, tmp_path):
    flags = {**make_training_flags(stores, raw), "max_iterations": 2, "cuda": 0, "seed": 5}
    assert run("train", **flags, save_dir=tmp_path / "first")[0] == 0
    (first,) = (tmp_path / "first").iterdir()
    assert run("train", config=first / "config.json", save_dir=tmp_path / "second")[0] == 0
    (second,) = (tmp_path / "second").iterdir()
    assert are_equal(load_final_weights(first), load_final_weights(second))
    assert (first / "log.csv").read_text() == (second / "log.csv").read_text()
    # Another seed gives other weights: the command line overrides the file.
    assert run("train", config=first / "config.json", seed=6, save_dir=tmp_path / "third")[0] == 0
    (third,) = (tmp_path / "third").iterdir()
    assert not are_equal(load_final_weights(first), load_final_weights(third))


def test_config_json_of_a_run_serves_test(run, stores, tiny_flags, tmp_path):
    assert run("train", **tiny_flags, test_dir=stores / "test.h5", max_iterations=1, cuda=0)[0] == 0
    (folder,) = tiny_flags["save_dir"].iterdir()
    flags = {"config": folder / "config.json", "model_dir": folder / "last.pth", "result_path": tmp_path / "results"}
    assert run("test", **flags)[0] == 0
    (results,) = (tmp_path / "results").glob("*_results.json")
    trained = json.loads((folder / "results.json").read_text())
    assert json.loads(results.read_text())["scenes"] == trained["scenes"]


def test_records_of_a_run_are_not_settings(write):
    path = write({**RECORD, "resume": "last"}, "config.json")
    expected = {name: value for name, value in SETTINGS.items() if name != "resume"}
    assert read_flags(path, TrainConfig) == expected


@pytest.mark.parametrize(
    ("config_class", "expected"),
    [
        (TestConfig, {"n_scale": 8, "cuda": "0", "n_feats": 256, "n_colors": 31, "model_title": "DeepShare"}),
        (PredictConfig, {"cuda": "0"}),
        (AdaptConfig, {"cuda": "0", "seed": 3000}),
    ],
)
def test_other_commands_take_shared_settings_only(write, config_class, expected):
    read = read_flags(write(RECORD, "config.json"), config_class)
    assert read.items() >= expected.items()
    assert "precision" not in read and "epochs" not in read


def test_yaml_values_are_those_of_flags(write):
    path = write("learning_rate: 1e-3\ndataset_name: 0123\nUseRGB: true\ntrain_dir_mslabel: ~/x\n")
    read = read_flags(path, TrainConfig)
    assert read["learning_rate"] == 1e-3 and read["dataset_name"] == "0123" and read["UseRGB"] is True
    assert read["train_dir_mslabel"].endswith("/x") and "~" not in read["train_dir_mslabel"]


def test_yaml_lists_become_text_with_commas(write):
    assert read_flags(write("wavelengths: [400, 700]"), PredictConfig) == {"wavelengths": "400,700"}


def test_config_expands_the_home_folder(write, monkeypatch):
    path = write("seed: 7")
    monkeypatch.setenv("HOME", str(path.parent))
    assert read_flags("~/settings.yaml", TrainConfig) == {"seed": 7}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learning_rat: 1", "--learning_rat is not a flag of this command; did you mean --learning_rate?"),
        ("iterations: 1", "did you mean --max_iterations?"),
        ("epochs: many", "--epochs takes a whole number, not 'many'"),
        ("epochs: {a: 1}", "epochs takes a number or text, not {'a': '1'}"),
        ('{"epochs": null}', "epochs takes a number or text, not None"),
        ("- epochs", "contains a list, not keys with values"),
        ("[1, 2]", "contains a list"),
        ("epochs", "contains a str"),
        ("", "not keys with values"),
        ("a: b: c", "line 1: is neither JSON nor YAML"),
        ("{", "is neither JSON nor YAML"),
        ("n_scale: 5", "--n_scale takes 2, 3, 4, 6, 8 or 16, not 5"),
        (json.dumps({**RECORD, "epoch": 1}), "--epoch is not a flag of this command; did you mean --epochs?"),
    ],
)
def test_wrong_files_are_refused_in_a_sentence(write, refused, content, words):
    assert words in refused("train", config=write(content), train_dir_mslabel="x")


def test_yaml_of_another_command_is_refused(write):
    with pytest.raises(UserError, match="--epochs is not a flag of this command"):
        read_flags(write("epochs: 3\nn_scale: 4"), TestConfig)


def test_unreadable_files_are_refused_in_a_sentence(write, refused, tmp_path):
    assert "No such file" in refused("test", config=tmp_path / "missing.yaml")
    assert "Is a directory" in refused("test", config=tmp_path)
    torch.save({}, tmp_path / "weights.pth")
    assert "is not text" in refused("test", config=tmp_path / "weights.pth")


def test_prepare_has_no_settings_file(refused):
    assert "--config is not a flag of this command" in refused("prepare", config="x")
