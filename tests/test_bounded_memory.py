"""Limits of memory and time for forged files; lack of memory is not called damage."""

import pickle
import struct
import tracemalloc
import zipfile
import zlib

import fixtures
import h5py
import numpy as np
import pytest
import scipy.io
import torch
from helpers import OWN_CUBE, VISIBLE, make_tiny_network
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

import formats.images
from data.store import Store, is_store
from evaluation import samples
from formats import guard, open_raster
from formats.guard import check_hdf5
from formats.images import read_picture
from formats.mat import read_mat
from models import weights
from models.weights import save_weights
from system.errors import DataError, UserError


@pytest.fixture
def sound(tmp_path):
    save_weights(make_tiny_network(), tmp_path / "sound.pth", 2, VISIBLE)
    return torch.load(tmp_path / "sound.pth", weights_only=True)


def test_endless_band_number_is_refused(tmp_path):
    for name in ("a_01.png", "a_02.png", "a_03.png", f"a_{'9' * 60}.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    with pytest.raises(DataError, match="band 4 of 1..9{60} is missing"):
        open_raster(tmp_path)


def bomb(path, edge):
    """A sound PNG of a few bytes that says to have edge x edge pixels."""

    def piece(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = piece(b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0))
    packed = piece(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + packed + piece(b"IEND", b""))


def test_picture_larger_than_memory_is_not_unpacked(tmp_path, monkeypatch):
    bomb(tmp_path / "a.png", 46000)
    monkeypatch.setattr(formats.images, "get_free_memory", lambda: 12 * 10**9)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a.png: 46000 x 46000 pixels, 6.3 GB are more than half of the free memory"):
        read_picture(tmp_path / "a.png")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_pictures_exceeding_memory_are_refused(tmp_path, monkeypatch):
    folder = fixtures.write_cave_scene(tmp_path, "a", OWN_CUBE / 60000)
    monkeypatch.setattr(formats.images, "get_free_memory", lambda: 2 * 31 * 2 * OWN_CUBE[:, :, 0].size - 1)
    with pytest.raises(DataError, match=r"a_ms_01.png.*31 such are more than half of the free memory"):
        open_raster(folder)
    # What is read already is no longer free.
    band = 2 * OWN_CUBE[:, :, 0].size
    free = iter(range(2 * 31 * band, 0, -band))
    monkeypatch.setattr(formats.images, "get_free_memory", lambda: next(free))
    assert open_raster(folder).shape == OWN_CUBE.shape


def test_names_of_blocks_make_no_blocks(sound, tmp_path):
    sound.update({f"trunk.body.net{k}.x": torch.zeros(()) for k in range(20000)})
    torch.save(sound, tmp_path / "a.pth")
    with pytest.raises(UserError, match="not the weights of a DeepShare"):
        weights.load(tmp_path / "a.pth")


def test_tensors_larger_than_their_file_are_refused(sound, tmp_path):
    sound["trunk.head.weight"] = torch.zeros(1).expand(8, 10**9, 3, 3)
    torch.save(sound, tmp_path / "a.pth")
    with pytest.raises(UserError, match="some values of trunk.head.weight are missing"):
        weights.load(tmp_path / "a.pth")


def test_incomplete_large_network_is_not_allocated(sound, tmp_path, monkeypatch):
    sound["trunk.head.weight"] = torch.zeros(8, 3000, 3, 3)
    torch.save(sound, tmp_path / "a.pth")
    made = []
    normal = torch.nn.init.kaiming_uniform_
    monkeypatch.setattr(
        torch.nn.init, "kaiming_uniform_", lambda tensor, **flags: made.append(tensor.device) or normal(tensor, **flags)
    )
    with pytest.raises(UserError, match="of another shape"):
        weights.load(tmp_path / "a.pth")
    assert {device.type for device in made} == {"meta"}


def test_gigabytes_in_a_pickle_are_not_allocated(sound, tmp_path):
    class Endless:
        def __reduce__(self):
            return bytearray, (2**31,)

    torch.save({"state_dict": sound, "more": Endless()}, tmp_path / "a.pth")
    tracemalloc.start()
    with pytest.raises(UserError, match="contains Python objects"):
        weights.load(tmp_path / "a.pth")
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()
    with zipfile.ZipFile(tmp_path / "a.pth") as f, zipfile.ZipFile(tmp_path / "p.pth", "w", zipfile.ZIP_DEFLATED) as g:
        for name in f.namelist():
            g.writestr(name, f.read(name))
    with pytest.raises(UserError, match="contains Python objects"):
        weights.load(tmp_path / "p.pth")
    with open(tmp_path / "old.pth", "wb") as f:
        pickle.dump(Endless(), f, protocol=2)
    with pytest.raises(UserError, match="contains Python objects"):
        weights.load(tmp_path / "old.pth")


def test_weights_of_extreme_zip_ratio_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as f:
        f.writestr("a/data.pkl", bytes(2**27))
    with pytest.raises(UserError, match=r"0.1 GB unpacked, of 0.1 MB"):
        weights.load(tmp_path / "a.pth")


def test_mat_exceeding_half_of_memory_is_refused(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"gt": np.zeros((1000, 1000, 40))}, do_compression=True)
    monkeypatch.setattr(guard, "get_free_memory", lambda: 2**28)
    with pytest.raises(DataError, match="a.mat: .* needs more than half of the 0.3 GB that are free; close other"):
        open_raster(tmp_path / "a.mat")


def short(*words, **flags):
    raise MemoryError


@pytest.mark.parametrize("kind", ["npz", "mat5", "mat73", "hdf5", "tiff", "envi", "png"])
def test_scene_exceeding_memory_is_reported(tmp_path, monkeypatch, kind):
    if kind == "png":
        path = fixtures.write_cave_scene(tmp_path, "a", OWN_CUBE / 60000)
        monkeypatch.setattr(PngImageFile, "load", short)
    else:
        path = fixtures.write_own(tmp_path, kind, OWN_CUBE)
        raster = open_raster(path)
        raster.source = short
    with pytest.raises(DataError, match="memory is too small"):
        open_raster(path) if kind == "png" else raster.read()


@pytest.mark.parametrize("what", ["weights", "mat", "store", "samples"])
def test_lack_of_memory_is_not_called_damage(tmp_path, monkeypatch, what):
    if what == "weights":
        save_weights(make_tiny_network(), tmp_path / "a.pth", 2)
        monkeypatch.setattr(torch, "load", short)
        read = weights.load
    elif what == "mat":
        fixtures.write_mat(tmp_path / "a.pth", {"gt": OWN_CUBE / 65535})
        monkeypatch.setattr("scipy.io.loadmat", short)
        read = lambda path: read_mat(path, ("gt",))  # noqa: E731
    elif what == "store":
        (tmp_path / "a.pth").touch()
        monkeypatch.setattr(h5py, "File", short)
        read = Store
    else:
        monkeypatch.setattr(np, "load", short)
        read = samples.read
    with pytest.raises(UserError, match=r"a.pth: the memory is too small to read it"):
        read(tmp_path / "a.pth")


def test_unreadable_array_does_not_hide_later_arrays(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for name in "abc":
            f.create_dataset(name, data=np.arange(64), chunks=(64,), fletcher32=True)
        place = f["b"].id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    seen = []
    read = guard.read_ends
    monkeypatch.setattr(guard, "read_ends", lambda item: (seen.append(item.name), read(item)))
    guard.read_hdf5(tmp_path / "a.h5")
    assert seen == ["/a", "/b", "/c"]


def deep(path, levels):
    with h5py.File(path, "w") as f:
        group = f
        for _ in range(levels):
            group = group.create_group("g")
        group["image"] = OWN_CUBE


def test_deeply_nested_hdf5_is_refused(refused, tmp_path):
    deep(tmp_path / "a.h5", 20000)
    save_weights(make_tiny_network(), tmp_path / "w.pth", 2, VISIBLE)
    refused("predict", input=tmp_path / "a.h5", output=tmp_path / "o.npy", model_dir=tmp_path / "w.pth")
    refused("test", model_title="Bicubic", test_dir=tmp_path / "a.h5", result_path=tmp_path / "results")
    assert is_store(tmp_path / "a.h5")
    deep(tmp_path / "b.h5", 20)
    check_hdf5(tmp_path / "b.h5")
    assert open_raster(tmp_path / "b.h5").shape == OWN_CUBE.shape
