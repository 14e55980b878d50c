"""Concurrent commands, full disks, foreign names, damaged files, closed streams and signals."""

import builtins
import errno
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import fixtures
import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import tifffile
import torch
from helpers import OWN_CUBE, ROOT, VISIBLE, make_tiny_network
from PIL import Image

from data.store import Store
from formats import CubeOptions, Output, open_raster
from formats.images import read_picture
from formats.raw import RawWindows
from models import weights as checkpoint
from models.weights import save_weights
from system.errors import DataError, UserError
from system.files import atomic_write, exclusive_lock, is_locked, refuse_irregular
from utils import file_name, sanitize_for_terminal

PROGRAM = [sys.executable, str(ROOT / "mains.py")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_weights(make_tiny_network(), path, 2, VISIBLE)
    return path


def start(*words, **options):
    return subprocess.Popen(
        [*PROGRAM, *map(str, words)], env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # fmt: skip


def told_to_stop(process, has_begun):
    """Send SIGTERM to a command that has begun its work; returns what it says of that, when it has ended with 143."""
    while not has_begun():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143, err
    return err


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EBADF])
def test_files_are_written_where_fsync_is_missing(tmp_path, monkeypatch, number):
    def fsync(handle):
        # As on Windows: a file opened for reading cannot be synced.
        if number != errno.EBADF or fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("content")
    assert (tmp_path / "a").read_text() == "content"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_disk_errors_are_raised(tmp_path, monkeypatch, number):
    def fsync(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((OSError, UserError)), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("content")
    assert not (tmp_path / "a").exists()


def test_raw_cubes_are_read_without_preadv(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "preadv")
    np.arange(60, dtype=np.uint16).tofile(tmp_path / "a.raw")
    windows = RawWindows(tmp_path / "a.raw", (4, 5, 3), np.dtype(np.uint16), "bil")
    # Line 2 begins at value 2 * 5 * 3, its second column one value later; bands are five values apart.
    np.testing.assert_array_equal(windows.read(slice(2, 3), slice(1, 3)), [[[31, 36, 41], [32, 37, 42]]])


def test_lock_is_held_until_its_end(tmp_path):
    path = tmp_path / "deep" / "result.npy"
    with exclusive_lock(path):
        assert is_locked(path)
        with pytest.raises(UserError, match="locked by another process"), exclusive_lock(path):
            pass
    assert not is_locked(path)
    # What was made for the lock is gone, and a file that a killed process left holds nothing.
    assert not (tmp_path / "deep").exists()
    (tmp_path / ".result.npy.lock").touch()
    with exclusive_lock(tmp_path / "result.npy"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_concurrent_predictions_of_one_output_are_refused(weights, tmp_path):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    words = ["predict", "--input", source, "--model_dir", weights, "--output"]
    assert start(*words, tmp_path / "alone.npy").wait() == 0
    pair = [start(*words, tmp_path / "out.npy") for _ in range(2)]
    said = [process.communicate() for process in pair]
    codes = sorted(process.returncode for process in pair)
    assert codes == [0, 2], said
    loser = next(err for process, (_, err) in zip(pair, said, strict=True) if process.returncode == 2)
    assert "locked by another process" in loser or "already exists" in loser
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(tmp_path / "alone.npy"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("command", ["prepare", "tables", "test", "train"])
def test_locked_outputs_are_refused_by_every_command(run, refused, stores, raw, tiny_flags, tmp_path, command):
    if command == "prepare":
        flags, place = {"raw_dir": raw / "cave", "out_dir": tmp_path, "test": "jelly_beans"}, tmp_path / "test.h5"
    elif command == "train":
        flags = {**tiny_flags, "max_iterations": 1, "resume": "last"}
        assert run("train", **{**flags, "resume": ""})[0] == 0
        place = next(p.parent for p in tmp_path.rglob("last.pth"))
    else:
        flags = {"model_title": "Bicubic", "test_dir": stores / "test.h5", "result_path": tmp_path}
        place = tmp_path / "Bicubic_x4_results.json"
        if command == "tables":
            assert run("test", **flags)[0] == 0
            flags, place = {"runs_dir": tmp_path}, tmp_path / "tables"
    with exclusive_lock(place):
        sentence = refused(command, **flags)
    assert "another process" in sentence
    assert run(command, **flags)[0] == 0


def test_new_run_takes_another_folder_if_locked(run, tiny_flags, tmp_path):
    flags = {**tiny_flags, "max_iterations": 1}
    assert run("train", **flags)[0] == 0
    first = next(p.parent for p in tmp_path.rglob("last.pth"))
    shutil.rmtree(first)
    with exclusive_lock(first):
        assert run("train", **flags)[0] == 0
    assert [p.parent.name for p in tmp_path.rglob("last.pth")] == [f"{first.name}_2"]


def test_newest_run_is_identified_by_number(run, tiny_flags, tmp_path):
    flags = {**tiny_flags, "max_iterations": 1}
    assert [run("train", **flags)[0] for _ in range(2)] == [0, 0]
    newest = next(p for p in tmp_path.rglob("last.pth") if p.parent.name.endswith("_2"))
    # A clock that was set back.
    os.utime(newest, (1, 1))
    code, out, err = run("train", **{**flags, "max_iterations": 2, "resume": "last"})
    assert code == 0
    assert str(newest.parent / "log.csv") in out + err


@pytest.mark.parametrize("name", ["../../x", "/abs/x", "a/b", "..", ".hidden", "x\0y", "con\nsole", "", "ü" * 400])
def test_file_names_contain_no_path(name):
    made = file_name(name)
    assert made and "/" not in made and not made.startswith(".") and made.isprintable()
    assert len(made.encode()) <= 200


def test_images_stay_inside_the_result_folder(run, stores, tmp_path):
    shutil.copy(stores / "test.h5", tmp_path / "test.h5")
    with h5py.File(tmp_path / "test.h5", "r+") as f:
        scene = next(iter(f["scenes"].values()))
        scene.attrs["name"] = f"{tmp_path}/outside/x"
    flags = {"model_title": "Bicubic", "test_dir": tmp_path / "test.h5", "result_path": tmp_path / "deep" / "results"}
    assert run("test", **flags, save_images=1)[0] == 0
    assert not (tmp_path / "outside").exists()
    images = list(tmp_path.rglob("*.png"))
    assert images and all((tmp_path / "deep" / "results") in p.parents for p in images)


def test_incomplete_hdf5_does_not_become_the_result(tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    output = Output(tmp_path / "out.h5", open_raster(source), 1)
    from formats import hdf5

    def lossy(dataset, array):
        """As on a full disk, where the error is lost: the last chunks are not there."""
        for window in list(dataset.iter_chunks())[:-1]:
            dataset[window] = array[window]

    monkeypatch.setattr(hdf5, "fill", lossy)
    with pytest.raises(OSError, match="was not written"):
        output.finish(OWN_CUBE)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("extension", [".npy", ".npz", ".mat", ".h5", ".hdr", ".tif"])
def test_file_size_limit_is_reported(weights, tmp_path, extension):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    words = [*PROGRAM, "predict", "--input", source, "--output", tmp_path / f"out{extension}", "--model_dir", weights]
    limited = f"ulimit -f 200; exec {' '.join(map(str, words))}"
    ended = subprocess.run(["bash", "-c", limited], env=ENVIRONMENT, text=True, capture_output=True)
    assert ended.returncode == 2, ended.stderr
    assert "exceeds the largest file size" in ended.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [source.name]


def test_virtual_gdal_datasets_are_not_opened(tmp_path):
    cube = np.zeros((64, 64, 8), np.uint8)
    vrt = (
        b'<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        b"<SourceFilename>/vsicurl/http://127.0.0.1:9/x.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "a.img").write_bytes(vrt.ljust(cube.size, b" "))
    (tmp_path / "a.hdr").write_text(
        "ENVI\nsamples = 64\nlines = 64\nbands = 8\ndata type = 1\ninterleave = bsq\nbyte order = 0\n"
        "map info = {UTM, 1, 1, 500000, 5400000, 30, 30, 33, North, WGS-84}\n"
    )
    raster = open_raster(tmp_path / "a.hdr")
    assert raster.read().shape == (64, 64, 8)
    assert raster.read_georeference().transform[0] == 30
    with pytest.raises(rasterio.errors.RasterioIOError):
        rasterio.open(tmp_path / "a.vrt")
    script = "import formats, rasterio\nwith rasterio.Env() as e:\n    print(sorted(e.drivers()))"
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True)
    assert "'GTiff'" in said.stdout and "'VRT'" not in said.stdout and "'HTTP'" not in said.stdout


def flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)


def test_one_flipped_bit_in_weights_is_found(weights, tmp_path):
    content = weights.read_bytes()
    tensor = make_tiny_network().state_dict()
    largest = max(tensor.values(), key=torch.numel).numpy().tobytes()
    shutil.copy(weights, tmp_path / "w.pth")
    flipped(tmp_path / "w.pth", content.index(largest) + len(largest) // 2)
    with pytest.raises(UserError, match="checksum"):
        checkpoint.load(tmp_path / "w.pth")


def test_damaged_last_checkpoint_resumes_from_previous(run, tiny_flags, tmp_path):
    assert run("train", **tiny_flags, max_iterations=2)[0] == 0
    last = next(tmp_path.rglob("last.pth"))
    shutil.copy(last, last.with_name("previous.pth"))
    flipped(last, last.stat().st_size // 2)
    code, out, err = run("train", **tiny_flags, max_iterations=3, resume="last")
    assert code == 0
    assert "previous.pth: resuming after iteration 2" in out + err


def test_damaged_pictures_and_arrays_are_found(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    flipped(tmp_path / "a.png", (tmp_path / "a.png").stat().st_size - 25)
    with pytest.raises(DataError, match="cannot be read as a PNG, JPEG, TIFF or BMP picture"):
        read_picture(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", image=OWN_CUBE)
    flipped(tmp_path / "a.npz", 5000)
    with pytest.raises(DataError, match="checksum"):
        open_raster(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", OWN_CUBE)
    with open(tmp_path / "a.npy", "ab") as f:
        f.write(b"more")
    with pytest.raises(DataError, match="its header specifies"):
        open_raster(tmp_path / "a.npy")


@pytest.mark.parametrize("how", ["virtual", "external"])
@pytest.mark.parametrize("name", ["a.h5", "a.mat"])
def test_externally_stored_cubes_are_refused(tmp_path, how, name):
    (tmp_path / "secret.bin").write_bytes(OWN_CUBE.tobytes())
    with h5py.File(tmp_path / name, "w") as f:
        if how == "external":
            f.create_dataset("gt", OWN_CUBE.shape, "u2", external=[(str(tmp_path / "secret.bin"), 0, OWN_CUBE.nbytes)])
        else:
            layout = h5py.VirtualLayout(OWN_CUBE.shape, "u2")
            layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "cube", OWN_CUBE.shape)
            f.create_virtual_dataset("gt", layout)
    with pytest.raises(DataError, match="virtual dataset|in another file"):
        open_raster(tmp_path / name, CubeOptions(band_axis=2))


@pytest.mark.parametrize("name", ["a.tif", "a.mat", "a.npy", "a.hdr"])
def test_pipes_are_refused_without_waiting(refused, weights, tmp_path, name):
    os.mkfifo(tmp_path / name)
    sentence = refused("predict", input=tmp_path / name, output=tmp_path / "o.npy", model_dir=weights)
    assert "contains no scenes" in sentence
    with pytest.raises(UserError, match="a pipe or device"):
        refuse_irregular(tmp_path / name)


def test_tiff_directories_in_a_circle_are_refused(tmp_path):
    entry = struct.pack("<HHII", 256, 4, 1, 1)
    (tmp_path / "a.tif").write_bytes(
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    )
    tifffile.imwrite(tmp_path / "b.tif", OWN_CUBE.transpose(2, 0, 1), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif") as f:
        first, last = f.pages[0].offset, f.pages[-1].offset
    content = bytearray((tmp_path / "b.tif").read_bytes())
    (entries,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * entries, first)
    (tmp_path / "b.tif").write_bytes(content)
    for name in ("a.tif", "b.tif"):
        with pytest.raises(DataError, match="cannot be read as TIFF"):
            open_raster(tmp_path / name)


def test_header_with_million_comments_is_read(tmp_path):
    fields = "samples = 4\nlines = 4\nbands = 4\ndata type = 1\ninterleave = bsq\nbyte order = 0\n"
    (tmp_path / "a.hdr").write_text("ENVI\n" + "; a comment\n" * 1_000_000 + fields)
    (tmp_path / "a.img").write_bytes(bytes(64))
    assert open_raster(tmp_path / "a.hdr").shape == (4, 4, 4)


def test_unreadable_file_does_not_stop_the_rest(run, weights, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    first = fixtures.write_own(tmp_path / "in", "npy", OWN_CUBE)
    shutil.copy(first, tmp_path / "in" / "other.npy")
    opened = builtins.open

    def forbidden(file, *words, **flags):
        """As for anybody but root, who may read everything."""
        if str(file) == str(first):
            raise PermissionError(errno.EACCES, "Permission denied", str(first))
        return opened(file, *words, **flags)

    monkeypatch.setattr("builtins.open", forbidden)
    code, out, err = run("predict", input=tmp_path / "in", output=tmp_path / "out", model_dir=weights)
    assert code == 2
    assert "may not be read" in out + err
    assert (tmp_path / "out" / "other.npy").exists()


def test_closed_output_does_not_prevent_results(stores, tmp_path):
    words = ["test", "--model_title", "Bicubic", "--test_dir", stores / "test.h5", "--result_path", tmp_path]
    process = start(*words)
    process.stdout.close()
    process.stderr.close()
    assert process.wait() == 0
    assert json.loads((tmp_path / "Bicubic_x4_results.json").read_text())["mean"]


def test_closed_and_ascii_terminals_are_supported(stores, tmp_path):
    words = [*PROGRAM, "info", str(stores / "test.h5")]
    closed = subprocess.run(["bash", "-c", f"{' '.join(words)} 2>&- >&-"], env=ENVIRONMENT)
    assert closed.returncode == 0
    poor = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    path = tmp_path / "größe.npy"
    ended = subprocess.run([*PROGRAM, "info", str(path)], env=poor, capture_output=True)
    assert (ended.returncode, b"gr\\xf6\\xdfe.npy" in ended.stderr) == (2, True)


def test_terminal_control_characters_are_escaped():
    assert sanitize_for_terminal("a\x1b[31mb\r") == "a\\x1b[31mb\\r"
    assert len(sanitize_for_terminal("x" * 5000)) < 200
    assert sanitize_for_terminal("größe 5 µm, 1\n2") == "größe 5 µm, 1\n2"


def test_sigterm_in_predict_keeps_the_tiles(weights, tmp_path):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE.repeat(12, axis=0).repeat(12, axis=1))
    words = ["predict", "--input", source, "--model_dir", weights, "--tile_size", 24, "--tile_overlap", 8, "--output"]
    process = start(*words, tmp_path / "out.npy")
    err = told_to_stop(process, (tmp_path / ".out.npy.partial" / "progress.json").exists)
    assert "SIGTERM" in err and "tiles are kept; repeat the command to continue" in err
    assert start(*words, tmp_path / "out.npy").wait() == 0
    assert start(*words, tmp_path / "again.npy").wait() == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(tmp_path / "again.npy"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"value_scale": "1e308"}, "--value_scale is at most"),
        ({"value_scale": "1e-300"}, "--value_scale is 0"),
        ({"value_scale": "inf"}, "--value_scale takes a number"),
        ({"nodata": "True"}, "--nodata takes a number or nan"),
        ({"memory_limit": "1e308"}, "--memory_limit is at most"),
        ({"gpus": "9" * 50}, "--gpus takes device numbers"),
        ({"input": "a\0b"}, "has a NUL in it"),
        ({"input": "~nosuchuserhere/a.npy"}, "nosuchuserhere"),
    ],
)
def test_absurd_flags_are_refused(refused, weights, tmp_path, flags, words):
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    asked = {"input": source, "output": tmp_path / "o.npy", "model_dir": weights, **flags}
    assert words in refused("predict", **asked)


@pytest.mark.parametrize("gain", ["inf", "1e308", "1e-300", "0"])
def test_absurd_gains_of_a_file_are_refused(tmp_path, gain):
    np.savez(tmp_path / "a.npz", image=OWN_CUBE, scale_factor=float(gain))
    with pytest.raises(DataError, match="among its gains|full-scale value"):
        open_raster(tmp_path / "a.npz")


def test_circular_links_are_refused(refused, weights, tmp_path):
    os.symlink(tmp_path / "b.npy", tmp_path / "a.npy")
    os.symlink(tmp_path / "a.npy", tmp_path / "b.npy")
    assert "a.npy" in refused("predict", input=tmp_path / "a.npy", output=tmp_path / "o.npy", model_dir=weights)


def test_foreign_names_are_escaped_in_tables(run, stores, tmp_path):
    flags = {"model_title": "Bicubic", "test_dir": stores / "test.h5", "result_path": tmp_path}
    assert run("test", **flags)[0] == 0
    path = tmp_path / "Bicubic_x4_results.json"
    content = json.loads(path.read_text())
    content |= {"model": '=HYPERLINK("http://x")', "dataset": "<img src=x>"}
    path.write_text(json.dumps(content))
    assert run("tables", runs_dir=tmp_path)[0] == 0
    assert "'=HYPERLINK" in (tmp_path / "tables" / "tables.csv").read_text()
    for name in ("tables.md", "index.html"):
        assert "<img src=x>" not in (tmp_path / "tables" / name).read_text()


@pytest.mark.parametrize("kind", ["npy", "envi"])
def test_file_truncated_while_open_is_an_error(tmp_path, kind):
    path = fixtures.write_own(tmp_path, kind, OWN_CUBE)
    raster = open_raster(path)
    np.testing.assert_array_equal(raster.read(slice(3, 9), slice(5, 8)), OWN_CUBE[3:9, 5:8])
    data = path if kind == "npy" else path.with_suffix(".dat")
    os.truncate(data, 3000)
    with pytest.raises(DataError, match="the file has become shorter"):
        raster.read()


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 8), (4, 4, 0)])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.h5"])
def test_empty_cubes_are_refused(refused, weights, tmp_path, name, shape):
    cube, path = np.zeros(shape, np.uint16), tmp_path / name
    if name == "a.npy":
        np.save(path, cube)
    elif name == "a.npz":
        np.savez(path, image=cube)
    elif name == "a.mat":
        scipy.io.savemat(path, {"image": cube})
    else:
        with h5py.File(path, "w") as f:
            f["image"] = cube
    flags = {"input": path, "output": tmp_path / "o.npy", "model_dir": weights, "band_axis": 2}
    assert "a." in refused("predict", **flags)
    assert not (tmp_path / "o.npy").exists()


def test_values_beyond_float32_are_refused(refused, weights, tmp_path):
    cube = OWN_CUBE.astype(np.float64)
    cube[3, 4, 5] = 1e300
    np.save(tmp_path / "a.npy", cube)
    flags = {"input": tmp_path / "a.npy", "output": tmp_path / "o.npy", "model_dir": weights, "value_scale": 65535}
    assert "values beyond the range of float32" in refused("predict", **flags, wavelengths="400,700", band_axis=2)


def test_stores_with_nan_values_are_refused(refused, stores, tiny_flags, tmp_path):
    for split in ("labelled", "test"):
        shutil.copy(stores / f"{split}.h5", tmp_path / f"{split}.h5")
        with h5py.File(tmp_path / f"{split}.h5", "r+") as f:
            key = next(iter(f["scenes"]))
            held = f["scenes"][key]
            cube, attributes = held[:].astype(np.float32), dict(held.attrs)
            cube[2, 3, 4] = np.nan
            del f["scenes"][key]
            f["scenes"].create_dataset(key, data=cube, chunks=True, fletcher32=True).attrs.update(attributes)
    words = "has 1 values that are NaN or infinite"
    assert words in refused("test", model_title="Bicubic", test_dir=tmp_path / "test.h5", result_path=tmp_path / "r")
    assert words in refused("train", **{**tiny_flags, "train_dir_mslabel": tmp_path / "labelled.h5"})
    assert words in refused("info", store=tmp_path / "test.h5", verify=1)
    with Store(tmp_path / "test.h5") as store, pytest.raises(DataError, match=words):
        for name in store.names:
            store.open_cube(name)[:8, :8]


def test_bicubic_image_of_wrong_size_is_refused(refused, tmp_path):
    (tmp_path / "in").mkdir()
    cube = OWN_CUBE[:24, :24] / np.float32(65535)
    scipy.io.savemat(tmp_path / "in" / "a.mat", {"gt": cube, "ms": cube[::4, ::4], "ms_bicubic": cube[:12]})
    sentence = refused("test", model_title="Bicubic", test_dir=tmp_path / "in", result_path=tmp_path / "r")
    assert "ms_bicubic is (12, 24, 31) and gt (24, 24, 31)" in sentence


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("prepare", {"wavelengths": "abc"}, "--wavelengths: is for own cubes; Cave does not need it"),
        ("prepare", {"value_scale": 10000}, "--value_scale: is for own cubes"),
        ("prepare", {"dataset_name": "DIV2K", "key": "a"}, "--key: is for own cubes"),
        ("train", {"save_dir": ""}, "--save_dir is empty"),
        ("train", {"dataset_name": " "}, "--dataset_name is empty"),
        ("test", {"result_path": ""}, "--result_path is empty"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(refused, raw, stores, tiny_flags, tmp_path, command, flags, words):
    given = {
        "prepare": {"raw_dir": raw / "cave", "out_dir": tmp_path, "test": "jelly_beans"},
        "train": tiny_flags,
        "test": {"model_title": "Bicubic", "test_dir": stores / "test.h5"},
    }
    assert words in refused(command, **{**given[command], **flags})


def test_absent_cuda_device_is_reported(run, stores, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    flags = {"model_title": "Bicubic", "test_dir": stores / "test.h5", "result_path": tmp_path}
    code, out, err = run("test", **flags, gpus=97)
    assert (code, "--gpus 97: no such CUDA device was found; running on the CPU" in out + err) == (0, True)
    code, out, err = run("test", **flags, gpus=97, cuda=0)
    assert (code, "--gpus" in out + err) == (0, False)


@pytest.fixture
def many(tmp_path):
    """Names of raw scenes below tmp_path / "raw", enough for a command to take some seconds."""
    names = [f"scene{k:02d}" for k in range(12)]
    for name in names:
        fixtures.write_cave_scene(tmp_path / "raw", name, OWN_CUBE / 60000)
    return names


def test_sigterm_in_prepare_keeps_finished_scenes(many, tmp_path):
    names = many
    words = ["prepare", "--raw_dir", tmp_path / "raw", "--workers", 1, "--test", ",".join(names), "--out_dir"]
    process = start(*words, tmp_path / "out")
    err = told_to_stop(process, lambda: len(list(tmp_path.glob("out/.test_hr_x4.parts/*.h5"))) >= 3)
    assert "stopped by SIGTERM, finished scenes are kept; repeat the command to resume" in err
    assert not (tmp_path / "out" / "test.h5").exists()
    assert start(*words, tmp_path / "out").wait() == 0
    assert start(*words, tmp_path / "again").wait() == 0
    with Store(tmp_path / "out" / "test.h5") as ours, Store(tmp_path / "again" / "test.h5") as undisturbed:
        assert ours.names == undisturbed.names == names
        for name in names:
            np.testing.assert_array_equal(ours.read(name).cube, undisturbed.read(name).cube)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["test.h5"]


def test_sigterm_in_test_leaves_no_results(run, weights, many, tmp_path):
    store = {"raw_dir": tmp_path / "raw", "out_dir": tmp_path / "stores", "test": ",".join(many)}
    assert run("prepare", **store)[0] == 0
    words = ["test", "--model_dir", weights, "--test_dir", tmp_path / "stores" / "test.h5", "--cuda", 0]
    words += ["--self_ensemble", 1, "--result_path", tmp_path / "r"]
    process = start(*words)
    err = told_to_stop(process, (tmp_path / "r").exists)
    assert "stopped by SIGTERM; the same command starts it again" in err
    assert not list((tmp_path / "r").rglob("*"))
    assert start(*words).wait() == 0


@pytest.mark.parametrize("kind", ["results", "config"])
def test_deeply_nested_json_does_not_prevent_tables(run, stores, tiny_flags, tmp_path, kind):
    flags = {"model_title": "Bicubic", "test_dir": stores / "test.h5", "result_path": tmp_path / "runs" / "a"}
    assert run("test", **flags)[0] == 0
    (tmp_path / "runs" / "b").mkdir()
    name = "results.json" if kind == "results" else "config.json"
    (tmp_path / "runs" / "b" / name).write_text("[" * 100000 + "]" * 100000)
    code, out, err = run("tables", runs_dir=tmp_path / "runs")
    assert code == 0, out + err
    assert (tmp_path / "runs" / "tables" / "index.html").is_file()
