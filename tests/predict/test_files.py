import shutil
from pathlib import Path

import fixtures
import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import torch
from helpers import OWN_CUBE, make_tiny_network, write_reflectance_envi
from PIL import Image
from spectral.io import envi

import formats
from data.imresize import imresize
from models import weights as checkpoint


def expected_of(cube, value_scale=65535.0):
    """What the tiny network makes of an integer cube, by a direct call."""
    ms = (cube / value_scale).astype(np.float32)
    lms = imresize(ms, 4).astype(np.float32)
    with torch.inference_mode():
        y = make_tiny_network()(*(torch.from_numpy(x).permute(2, 0, 1)[None] for x in (ms, lms)))
    info = np.iinfo(cube.dtype)
    return np.clip(np.rint(y[0].permute(1, 2, 0).numpy().astype(np.float64) * value_scale), info.min, info.max)


@pytest.mark.parametrize("kind", ["mat5", "mat73", "npy", "npz", "hdf5", "tiff", "envi"])
def test_every_format_through_the_command(run, unlabelled_weights, tmp_path, kind):
    source = fixtures.write_own(tmp_path / "in", kind, OWN_CUBE)
    target = tmp_path / "out" / source.name
    code, out, _ = run("predict", input=source, output=target, model_dir=unlabelled_weights)
    assert code == 0
    result = formats.open_raster(target)
    assert (result.shape, result.dtype.newbyteorder("=")) == ((112, 112, 31), np.uint16)
    assert np.abs(result.read().astype(int) - expected_of(OWN_CUBE)).max() <= 1
    assert "28 x 28 x 31 -> 112 x 112" in out
    assert str(target) in out
    assert not list((tmp_path / "out").glob(".*"))


def test_a_cave_scene_goes_through_the_command(run, raw, weights, tmp_path):
    code, out, _ = run(
        "predict", input=raw / "cave_lr_x4" / "cd_ms" / "cd_ms", output=tmp_path / "cd_ms", model_dir=weights
    )
    assert code == 0
    assert "not known" not in out
    lr = (fixtures.make_smooth_cube(11, 12, 12) * 65535).round().astype(np.uint16)
    expected = expected_of(lr)
    for k in (0, 30):
        with Image.open(tmp_path / "cd_ms" / f"cd_ms_{k + 1:02d}.png") as band:
            assert np.abs(np.array(band).astype(int) - expected[:, :, k]).max() <= 1
    assert str(tmp_path / "cd_ms") in out


def test_reflectance_scale_comes_from_header_or_flag(run, weights, tmp_path):
    recognised, cube = write_reflectance_envi(tmp_path / "a", **{"reflectance scale factor": 10000})
    asked, _ = write_reflectance_envi(tmp_path / "b")
    results = []
    for source, flags in ((recognised, {}), (asked, {"value_scale": 10000}), (asked, {})):
        target = tmp_path / f"{len(results)}.hdr"
        code, out, _ = run("predict", input=source, output=target, model_dir=weights, **flags)
        assert code == 0
        results.append(np.array(envi.open(str(target)).open_memmap()))
        assert ("full-scale value 10000, as the file specifies" in out) == (source is recognised)
    # The last one is neither declared nor given.
    assert "brightest value is 9500; assuming a full-scale value of 32767 (the maximum of int16)" in out
    assert (results[0] == results[1]).all()
    hole = np.zeros((112, 112), bool)
    hole[12:20, 16:24] = True
    assert (results[0][hole] == -9999).all() and (results[0][~hole] > -1000).all()
    far = slice(40, None)
    clean = np.where(cube == -9999, 0, cube)
    assert np.abs(results[0][far] - expected_of(clean, 10000.0)[far]).max() <= 40


def test_a_result_in_another_format(run, weights, tmp_path):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    assert run("predict", input=source, output=tmp_path / "out.mat", model_dir=weights)[0] == 0
    assert scipy.io.loadmat(tmp_path / "out.mat")["image"].shape == (112, 112, 31)
    assert run("predict", input=source, output=tmp_path / "folder", model_dir=weights)[0] == 0
    assert np.load(tmp_path / "folder" / "scene.npy").shape == (112, 112, 31)


def test_too_small_disk_is_refused_before_inference(refused, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path / "in", "npy", OWN_CUBE)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100000))
    sentence = refused("predict", input=source, output=tmp_path / "out" / "a.npy", model_dir=weights)
    assert "the disk lacks 1.5 MB (the prediction needs 1.6 MB)" in sentence
    assert not (tmp_path / "out").exists()


def test_damaged_scene_in_folder_is_reported(run, weights, tmp_path):
    fixtures.write_own(tmp_path / "in" / "sub", "npy", OWN_CUBE, "a")
    fixtures.write_own(tmp_path / "in", "mat5", OWN_CUBE, "b")
    fixtures.write_cave_scene(tmp_path / "in", "c", OWN_CUBE / 65535)
    (tmp_path / "in" / "bad.npy").write_bytes(b"\x93NUMPY but not much more")
    code, out, err = run("predict", input=tmp_path / "in", output=tmp_path / "out", model_dir=weights)
    assert code == 2
    assert "1 of 4 scenes failed (bad.npy)" in err
    assert f"failed: {tmp_path / 'in' / 'bad.npy'}: cannot be read" in out
    for path in ("sub/a.npy", "b.mat", "c_ms/c_ms"):
        assert formats.open_raster(tmp_path / "out" / path).shape == (112, 112, 31)
        assert str(tmp_path / "out" / path) in out
    (tmp_path / "in" / "bad.npy").unlink()
    code, out, _ = run("predict", input=tmp_path / "in", output=tmp_path / "out", model_dir=weights)
    assert code == 0
    assert out.count("already exists") == 3


def test_results_below_the_input_are_not_scenes(run, refused, weights, tmp_path):
    fixtures.write_own(tmp_path / "in", "npy", OWN_CUBE, "a")
    flags = {"input": tmp_path / "in", "output": tmp_path / "in" / "out", "model_dir": weights}
    for _ in range(2):
        assert run("predict", **flags)[0] == 0
    assert [p.name for p in (tmp_path / "in").rglob("*.npy")] == ["a.npy", "a.npy"]
    assert "the folder of the input itself" in refused("predict", **{**flags, "output": tmp_path / "in"})


def test_existing_files_are_not_overwritten(run, refused, weights, tmp_path):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    target = tmp_path / "out.hdr"
    (tmp_path / "out.img").write_text("mine")
    flags = {"input": source, "output": target, "model_dir": weights}
    assert "out.img: already exists" in refused("predict", **flags)
    assert (tmp_path / "out.img").read_text() == "mine"
    assert run("predict", **flags, overwrite=1)[0] == 0
    assert envi.open(str(target)).shape == (112, 112, 31)
    assert "the input itself" in refused("predict", **{**flags, "output": source}, overwrite=1)
    folder = fixtures.write_cave_scene(tmp_path, "c", OWN_CUBE / 65535)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    sentence = refused("predict", input=folder, output=tmp_path / "home", model_dir=weights, overwrite=1)
    assert "a folder that contains other files" in sentence


def test_envi_overwrite_replaces_only_its_own_data(run, refused, unlabelled_weights, tmp_path):
    source = fixtures.write_own(tmp_path / "in", "envi", OWN_CUBE)
    out = tmp_path / "out"
    flags = {"input": source, "output": out / "scene.hdr", "model_dir": unlabelled_weights, "overwrite": 1}
    # Readers look for .img before .dat, which this result has: somebody's own .img is not touched.
    out.mkdir()
    (out / "scene.img").write_bytes(b"no result")
    assert "the existing scene.img beside it" in refused("predict", **flags)
    assert (out / "scene.img").read_bytes() == b"no result"
    # One that belongs to a header there is replaced with it.
    assert run("predict", **{**flags, "input": fixtures.write_own(tmp_path / "in2", "npy", OWN_CUBE)})[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ["scene.hdr", "scene.img"]
    assert run("predict", **flags)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ["scene.dat", "scene.hdr"]
    assert envi.open(str(out / "scene.hdr")).shape == (112, 112, 31)


def test_unwritable_output_is_named(refused, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    # Permissions do not keep a superuser out.
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
    sentence = refused("predict", input=source, output=tmp_path / "out" / "a.npy", model_dir=weights)
    assert f"{tmp_path / 'out' / 'a.npy'}: not writable" in sentence
    assert not (tmp_path / "out").exists()


def test_diverged_weights_are_named(refused, tmp_path):
    model = make_tiny_network()
    model.final.weight.data[:] = 1e38
    checkpoint.save_weights(model, tmp_path / "w.pth", 2)
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    assert "not finite" in refused("predict", input=source, output=tmp_path / "out.npy", model_dir=tmp_path / "w.pth")
    assert not list(tmp_path.glob("*out*"))


def test_masked_scene_with_gains_is_predicted(run, weights, tmp_path):
    cube = fixtures.make_smooth_cube(0, 28, 28)
    counts = np.rint((cube + 0.1) * 10000).astype(np.uint16)
    mask = np.full((28, 28), 255, np.uint8)
    mask[:9, 3:] = 0
    counts[mask == 0] = 60000
    profile = {"driver": "GTiff", "width": 28, "height": 28, "count": 31, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(tmp_path / "a.tif", "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as f:
            f.write(counts.transpose(2, 0, 1))
            f.scales, f.offsets = [1e-4] * 31, [-0.1] * 31
            f.write_mask(mask)
    flags = {"input": tmp_path / "a.tif", "model_dir": weights, "wavelengths": "400,700", "tile_size": 24}
    flags |= {"tile_overlap": 8, "report": 1}
    assert run("predict", **flags, output=tmp_path / "b.tif")[0] == 0
    assert run("predict", **flags, output=tmp_path / "c.h5")[0] == 0
    there = (mask != 0).repeat(4, axis=0).repeat(4, axis=1)
    with rasterio.open(tmp_path / "b.tif") as f:
        np.testing.assert_array_equal(f.dataset_mask() != 0, there)
        reflectance = f.read().transpose(1, 2, 0) * 1e-4 - 0.1
        assert (f.scales[0], f.offsets[0]) == (1e-4, -0.1)
    # What stands under the mask did not bleed.
    assert reflectance[there].max() < 1.2
    with h5py.File(tmp_path / "c.h5") as f:
        np.testing.assert_array_equal((f["image"][()] != f["image"].attrs["_FillValue"]).all(axis=2), there)
        np.testing.assert_allclose(f["image"][()][there] * 1e-4 - 0.1, reflectance[there], atol=1.1e-4)
