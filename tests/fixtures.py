"""Makes the tests' raw data: tiny CAVE folders with the download's traps, released-style .mat patches.

`python tests/fixtures.py FOLDER` writes the same for a look by hand.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

EDGE = 48
LABELLED, UNLABELLED, TEST = ("balloons", "hairs"), ("beads", "cd"), ("jelly_beans", "watercolors")


def smooth_cube(seed, height=EDGE, width=EDGE, bands=31):
    """H x W x C float64 in 0..1: a few waves in space, smooth along the bands."""
    generator = np.random.default_rng(seed)
    y, x, b = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j, 0 : 1 : bands * 1j]
    cube = np.zeros((height, width, bands))
    for _ in range(4):
        fy, fx, fb, phase = generator.uniform((1, 1, 0.2, 0), (6, 6, 1, 6))
        cube += np.sin(6.28 * (fy * y + fx * x + fb * b) + phase)
    cube -= cube.min()
    return 0.05 + 0.9 * cube / cube.max()


def write_cave_scene(root, name, cube, dtype=np.uint16):
    """One scene in CAVE's layout, 16-bit grey; 8-bit scenes as RGBA with equal channels, as watercolors is."""
    folder = Path(root, f"{name}_ms", f"{name}_ms")
    folder.mkdir(parents=True)
    pixels = (cube * np.iinfo(dtype).max).round().astype(dtype)
    for k in range(cube.shape[2]):
        band = pixels[:, :, k]
        if dtype == np.uint8:
            band = np.dstack([band, band, band, np.full_like(band, 255)])
        Image.fromarray(band).save(folder / f"{name}_ms_{k + 1:02d}.png")
    (folder / "Thumbs.db").write_bytes(b"not a picture")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}_RGB.bmp")
    return folder


def write_cave(root, edge=EDGE):
    """A raw download with two scenes of each published split; watercolors is 8-bit RGBA."""
    for seed, name in enumerate((*LABELLED, *UNLABELLED, *TEST)):
        dtype = np.uint8 if name == "watercolors" else np.uint16
        write_cave_scene(root, name, smooth_cube(seed, edge, edge), dtype)
    return Path(root)


def write_cave_lr(root, n_scale=4):
    """The unlabelled scenes as an LR camera gives them."""
    for seed, name in enumerate(UNLABELLED):
        write_cave_scene(root, name, smooth_cube(10 + seed, EDGE // n_scale, EDGE // n_scale))
    return Path(root)


def write_pictures(root, count=2, size=(40, 56)):
    """RGB pictures: one PNG, the others JPEG."""
    Path(root).mkdir(parents=True)
    for k in range(count):
        pixels = (smooth_cube(20 + k, *size, 3) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(Path(root, f"picture{k}.{'png' if k == 0 else 'jpg'}"))
    return Path(root)


def patch_arrays(seed, edge=32, n_scale=4, bands=31):
    """gt, ms, ms_bicubic of a patch; ms and ms_bicubic by plain averaging and repetition."""
    gt = smooth_cube(seed, edge, edge, bands).astype(np.float32)
    ms = gt.reshape(edge // n_scale, n_scale, edge // n_scale, n_scale, bands).mean(axis=(1, 3))
    return {"gt": gt, "ms": ms, "ms_bicubic": ms.repeat(n_scale, axis=0).repeat(n_scale, axis=1)}


def write_mat(path, arrays, version="5"):
    """A .mat file as MATLAB writes it: v5 (compressed), or v7.3 (HDF5, axes reversed)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == "5":
        scipy.io.savemat(path, arrays, do_compression=True)
        return path
    with h5py.File(path, "w", userblock_size=512) as f:
        for key, array in arrays.items():
            f[key] = array.T
    header = b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM"
    with open(path, "r+b") as f:
        f.write(header)
    return path


def write_patches(root, count=3, bands=31, n_scale=4, edge=32, seed=50, keys=("gt", "ms", "ms_bicubic"), version="5"):
    """A folder of released-style patches."""
    for k in range(count):
        arrays = patch_arrays(seed + k, edge, n_scale, bands)
        write_mat(Path(root, f"block_{k + 1}.mat"), {key: arrays[key] for key in keys}, version)
    return Path(root)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_cave(target / "cave")
    write_cave_lr(target / "cave_lr_x4")
    write_pictures(target / "rgb")
    write_patches(target / "patches_v5")
    write_patches(target / "patches_v73", version="7.3")
