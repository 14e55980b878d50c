"""Folders of scenes: links, hidden files, label images, unusual names, this program's results."""

import os
import shutil
import unicodedata

import fixtures
import numpy as np
import pytest
import scipy.io
from helpers import read_scene_names

from data import raw
from formats import find_scenes_below
from formats.folders import find_mats, find_pictures
from models import build_model
from models.weights import save_weights
from system.errors import DataError
from utils import parse_names, scene_name

OLD, OLD_TEXT = b"Pr\xfcfung", "Prüfung"


def own_scene(path, seed=0, bands=12, size=(24, 28)):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image=fixtures.make_smooth_cube(seed, *size, bands).astype(np.float32))
    return path


def flags_of(tmp_path, **flags):
    return {"dataset_name": "Mine", "raw_dir": tmp_path / "raw", "out_dir": tmp_path / "out", "n_scale": 2, **flags}


@pytest.mark.parametrize(
    ("find", "name"),
    [
        (find_mats, "b.mat"),
        (find_pictures, "b.png"),
        (lambda folder: raw.find_scenes("Mine", folder), "b.npz"),
        (lambda folder: raw.find_scenes("Mine", folder), "day_2"),
        (lambda folder: raw.find_scenes("Harvard", folder), "b.mat"),
        (lambda folder: raw.find_scenes("Cave", folder), "b_ms_01.png"),
        (find_scenes_below, "b.tif"),
    ],
)
def test_links_to_nothing_are_refused(tmp_path, find, name):
    own_scene(tmp_path / "a.npz")
    for k, link in enumerate((name, f"c{name}")):
        (tmp_path / link).symlink_to(f"/nowhere/annex/{k}")
    with pytest.raises(DataError, match=f"2 broken links .{', '.join(sorted((name, f'c{name}')))}."):
        find(tmp_path)


def test_file_links_are_scenes_unless_hidden(tmp_path):
    own_scene(tmp_path / "elsewhere" / "a.npz")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "b.npz").symlink_to(tmp_path / "elsewhere" / "a.npz")
    (tmp_path / "raw" / ".#b.npz").symlink_to("user@host.123")
    assert list(raw.find_scenes("Mine", tmp_path / "raw")) == ["b"]


@pytest.mark.parametrize("dataset", ["Harvard", "NTIRE2020"])
def test_downloads_behind_links_exclude_hidden_files(tmp_path, dataset):
    write = {"Harvard": fixtures.write_harvard, "NTIRE2020": fixtures.write_ntire}[dataset]
    write(tmp_path / "disk", names=("one", "two"))
    (tmp_path / "raw" / "__MACOSX").mkdir(parents=True)
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "disk")
    for folder in (tmp_path / "disk", tmp_path / "raw" / "__MACOSX"):
        (folder / "._one.mat").write_bytes(b"\0\5\x16\7" + bytes(60))
    assert sorted(raw.find_scenes(dataset, tmp_path / "raw")) == ["one", "two"]


def test_scenes_lie_up_to_five_folders_down(tmp_path):
    # A CAVE scene adds two folders.
    fixtures.write_cave_scene(tmp_path / "1" / "2" / "3", "hairs", fixtures.make_smooth_cube(0, 8, 8))
    assert list(raw.find_scenes("Cave", tmp_path)) == ["hairs"]
    shutil.move(tmp_path / "1", tmp_path / "0" / "1")
    with pytest.raises(DataError, match="no CAVE scenes in it, up to 5 folders down"):
        raw.find_scenes("Cave", tmp_path)


def test_label_images_beside_scenes_are_skipped(run, tmp_path):
    labels = np.arange(24 * 28).reshape(24, 28).astype(np.uint8) % 9
    for seed, name in enumerate(("PaviaU", "Salinas")):
        own_scene(tmp_path / "raw" / f"{name}.npz", seed)
        scipy.io.savemat(tmp_path / "raw" / f"{name}_gt.mat", {"labels": labels})
    fixtures.write_own(tmp_path / "raw", "tiff", labels[:, :, None].repeat(3, 2), "PaviaU_GT")
    np.save(tmp_path / "raw" / "labels.npy", labels)
    # A cube with the name of labels is a scene.
    own_scene(tmp_path / "raw" / "Houston_gt.npz", 5)
    code, out, err = run("prepare", **flags_of(tmp_path, fractions="1,0,0"))
    assert code == 0
    assert read_scene_names(tmp_path / "out" / "labelled.h5") == ["Houston_gt", "PaviaU", "Salinas"]
    printed = next(line for line in (out + err).splitlines() if "label images" in line)
    assert all(name in printed for name in ("PaviaU_gt.mat", "Salinas_gt.mat", "PaviaU_GT.tif", "labels.npy"))


def test_results_of_this_program_are_not_scenes(run, tmp_path):
    for k, name in enumerate("abcde"):
        own_scene(tmp_path / "raw" / f"{name}.npz", k, size=(32, 32))
    flags = flags_of(tmp_path, out_dir=tmp_path / "raw", format="mat", patch_size=16, patch_stride=16)
    assert run("prepare", **flags)[0] == 0
    stores = {split: read_scene_names(tmp_path / "raw" / f"{split}.h5") for split in ("labelled", "unlabelled", "test")}
    model = build_model("DeepShare", 12, 2, n_feats=4, n_blocks=1)
    save_weights(model, tmp_path / "raw" / "w.pth", 2)
    about = {"test_dir": tmp_path / "raw" / "test.h5", "result_path": tmp_path / "raw" / "results"}
    assert run("test", model_dir=tmp_path / "raw" / "w.pth", save_images=1, **about)[0] == 0
    training = {"n_feats": 4, "n_blocks": 1, "patch_size": 16, "max_iterations": 1, "cuda": 0, "n_scale": 2}
    folders = {"train_dir_mslabel": tmp_path / "raw" / "labelled.h5", "test_dir": tmp_path / "raw" / "test.h5"}
    assert run("train", dataset_name="Mine", **training, **folders, save_dir=tmp_path / "raw" / "runs")[0] == 0
    partial = tmp_path / "raw" / ".a.npz.partial"
    partial.mkdir()
    shutil.copy(tmp_path / "raw" / "a.npz", partial / "values.npz")
    found = list((tmp_path / "raw").rglob("*"))
    assert {"w_samples.npz", "samples.npz", "block_000001.mat"} <= {path.name for path in found}
    code, out, err = run("prepare", **flags)
    assert code == 0
    assert (out + err).count("up to date") == 3
    assert "nothing to write" in out
    assert {split: read_scene_names(tmp_path / "raw" / f"{split}.h5") for split in stores} == stores
    # Folders of scenes for predict are listed in the same way.
    assert [path.name for path in find_scenes_below(tmp_path / "raw")] == [f"{name}.npz" for name in "abcde"]


def test_lists_of_names_may_contain_quoted_commas():
    assert parse_names('a, "b, c" ,d,') == ["a", "b, c", "d"]
    assert parse_names('"a,b"') == ["a,b"]
    assert parse_names(' 5" disk , b') == ['5" disk', "b"]


def test_names_are_composed_and_valid_text():
    decomposed = unicodedata.normalize("NFD", OLD_TEXT)
    assert decomposed != OLD_TEXT
    assert scene_name(decomposed) == scene_name(os.fsdecode(OLD)) == OLD_TEXT


@pytest.mark.parametrize(
    ("on_disk", "given"),
    [
        (OLD, os.fsdecode(OLD)),
        (OLD, OLD_TEXT),
        (unicodedata.normalize("NFD", OLD_TEXT).encode(), OLD_TEXT),
        (OLD_TEXT.encode(), unicodedata.normalize("NFD", OLD_TEXT)),
        (b"a,b", '"a,b"'),
    ],
)
def test_any_scene_name_is_prepared_and_scored(run, tmp_path, on_disk, given):
    path = own_scene(tmp_path / "raw" / "x.npz")
    os.rename(path, os.fsencode(path.parent) + b"/" + on_disk + b".npz")
    assert run("prepare", **flags_of(tmp_path, test=given))[0] == 0
    (name,) = read_scene_names(tmp_path / "out" / "test.h5")
    assert name == (OLD_TEXT if "b" not in name else "a,b")
    scoring = {"model_title": "Bicubic", "n_scale": 2, "test_dir": tmp_path / "out" / "test.h5"}
    assert run("test", **scoring, result_path=tmp_path / "results")[0] == 0


def test_missing_names_with_commas_suggest_quotes(refused, tmp_path):
    own_scene(tmp_path / "raw" / "a,b.npz")
    assert "put names that contain a comma in double quotes" in refused("prepare", **flags_of(tmp_path, test="a,b"))


def test_names_that_become_the_same_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        own_scene(tmp_path / f"{unicodedata.normalize(form, OLD_TEXT)}.npz")
    with pytest.raises(DataError, match=f"scene {OLD_TEXT} exists twice"):
        raw.find_scenes("Mine", tmp_path)


def test_every_command_accepts_any_folder_name(run, tmp_path):
    folder = tmp_path / os.fsdecode(OLD)
    folder.mkdir()
    scipy.io.savemat(folder / "x.mat", {"gt": fixtures.make_smooth_cube(0, 24, 28, 12).astype(np.float32)})
    os.rename(folder / "x.mat", os.fsencode(folder) + b"/" + OLD + b".mat")
    save_weights(build_model("DeepShare", 12, 2, n_feats=4, n_blocks=1), folder / "w.pth", 2)
    results = folder / "results"
    assert run("test", model_dir=folder / "w.pth", test_dir=folder, result_path=results, save_images=1)[0] == 0
    assert OLD_TEXT in (results / "w_results.json").read_text(encoding="utf-8")
    for name in ("a", "b"):
        own_scene(folder / "raw" / f"{name}.npz", ord(name))
    lists = {"labelled": "a", "test": "b", "raw_dir": folder / "raw", "out_dir": folder / "stores"}
    assert run("prepare", dataset_name="Mine", n_scale=2, **lists)[0] == 0
    training = {"n_feats": 4, "n_blocks": 1, "patch_size": 16, "max_iterations": 1, "cuda": 0, "n_scale": 2}
    stores = {"train_dir_mslabel": folder / "stores" / "labelled.h5", "test_dir": folder / "stores" / "test.h5"}
    assert run("train", dataset_name="Mine", **training, **stores, save_dir=results)[0] == 0
    code, out, _ = run("tables", runs_dir=results)
    assert code == 0
    assert "cannot be read" not in out
    page = (results / "tables" / "index.html").read_text(encoding="utf-8")
    assert OLD_TEXT in page


def test_test_scenes_of_one_name_are_refused(refused, tmp_path):
    for name in ("a.mat", "a.MAT"):
        with open(tmp_path / name, "wb") as f:
            scipy.io.savemat(f, {"gt": fixtures.make_smooth_cube(0, 24, 28, 12)})
    flags = {"model_title": "Bicubic", "n_scale": 2, "test_dir": tmp_path, "result_path": tmp_path / "results"}
    assert "scene a exists twice, in a.MAT and a.mat" in refused("test", **flags)
    assert not list((tmp_path / "results").glob("*"))


def test_colliding_picture_names_are_refused(refused, tmp_path):
    for name in ("a:b.mat", "a?b.mat"):
        scipy.io.savemat(tmp_path / name, {"gt": fixtures.make_smooth_cube(0, 24, 28, 12)})
    flags = {"model_title": "Bicubic", "n_scale": 2, "test_dir": tmp_path, "result_path": tmp_path / "results"}
    assert "a:b and a?b" in refused("test", **flags, save_images=1)


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch, capsys):
    own_scene(tmp_path / "a.npz")
    own_scene(tmp_path / "closed" / "b.npz")
    scandir = os.scandir

    def closed(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert list(raw.find_scenes("Mine", tmp_path)) == ["a"]
    assert "closed: passed over, the folder cannot be read (Permission denied)" in capsys.readouterr().out


def test_any_scene_name_in_folders_is_predicted(run, tmp_path):
    for name in (OLD, b"good", b"bad"):
        path = own_scene(tmp_path / "raw" / "x.npz", size=(24, 28))
        os.rename(path, os.fsencode(path.parent) + b"/" + name + b".npz")
    (tmp_path / "raw" / os.fsdecode(OLD + b"2.npz")).write_bytes(b"damaged")
    save_weights(build_model("DeepShare", 12, 2, n_feats=4, n_blocks=1), tmp_path / "w.pth", 2)
    flags = {"input": tmp_path / "raw", "output": tmp_path / "out", "model_dir": tmp_path / "w.pth", "report": 1}
    # One is damaged; the message names it.
    assert run("predict", **flags)[0] == 2
    results = sorted(os.listdir(os.fsencode(tmp_path / "out")))
    ends = (b".npz", b"_report.html", b"_report.png")
    assert results == sorted(name + end for name in (b"bad", b"good", OLD) for end in ends)
    assert run("predict", **flags)[0] == 2
    assert run("tables", runs_dir=tmp_path / "out")[0] == 0


def test_names_unusable_by_gdal_are_refused_early(refused, tmp_path):
    cube = fixtures.make_smooth_cube(0, 24, 28, 12).astype(np.float32)
    path = fixtures.write_own(tmp_path / "raw", "tiff", cube, "x")
    name = os.fsdecode(OLD + b".tif")
    os.rename(path, path.with_name(name))
    own_scene(tmp_path / "a.npz")
    save_weights(build_model("DeepShare", 12, 2, n_feats=4, n_blocks=1), tmp_path / "w.pth", 2)
    flags = {"model_dir": tmp_path / "w.pth"}
    for wrong in (
        {"input": path.with_name(name), "output": tmp_path / "out.tif"},
        {"input": tmp_path / "a.npz", "output": tmp_path / name},
    ):
        assert "path is not UTF-8" in refused("predict", **flags, **wrong)
    assert "path is not UTF-8" in refused("prepare", **flags_of(tmp_path, test=OLD_TEXT))
