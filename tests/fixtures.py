"""Raw data of the tests: tiny CAVE folders with the defects of the download, .mat patches as released.

`python tests/fixtures.py FOLDER` writes them for inspection.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import spectral.io.envi
import tifffile
from PIL import Image

EDGE = 48
LABELLED, UNLABELLED, TEST = ("balloons", "hairs"), ("beads", "cd"), ("jelly_beans", "watercolors")


def make_smooth_cube(seed, height=EDGE, width=EDGE, bands=31):
    """H x W x C float64 in 0..1: a few waves in space, smooth along the bands."""
    generator = np.random.default_rng(seed)
    y, x, b = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j, 0 : 1 : bands * 1j]
    cube = np.zeros((height, width, bands))
    for _ in range(4):
        fy, fx, fb, phase = generator.uniform((1, 1, 0.2, 0), (6, 6, 1, 6))
        cube += np.sin(6.28 * (fy * y + fx * x + fb * b) + phase)
    cube -= cube.min()
    return 0.05 + 0.9 * cube / cube.max()


def make_sharp_cube(height, width, bands):
    """A cube of squares of 4 x 4 pixels: edges that bicubic interpolation blurs and a network soon learns."""
    squares = np.random.default_rng(0).uniform(0.2, 0.9, (height // 4, width // 4, 1)) * np.linspace(1, 0.6, bands)
    return squares.repeat(4, axis=0).repeat(4, axis=1)


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
        write_cave_scene(root, name, make_smooth_cube(seed, edge, edge), dtype)
    return Path(root)


def write_cave_lr(root, n_scale=4):
    """The unlabelled scenes as an LR camera gives them."""
    for seed, name in enumerate(UNLABELLED):
        write_cave_scene(root, name, make_smooth_cube(10 + seed, EDGE // n_scale, EDGE // n_scale))
    return Path(root)


def write_pictures(root, count=2, size=(40, 56)):
    """RGB pictures: one PNG, the others JPEG."""
    Path(root).mkdir(parents=True)
    for k in range(count):
        pixels = (make_smooth_cube(20 + k, *size, 3) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(Path(root, f"picture{k}.{'png' if k == 0 else 'jpg'}"))
    return Path(root)


def make_patch_arrays(seed, edge=32, n_scale=4, bands=31):
    """gt, ms, ms_bicubic of a patch; ms and ms_bicubic by plain averaging and repetition."""
    gt = make_smooth_cube(seed, edge, edge, bands).astype(np.float32)
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
        arrays = make_patch_arrays(seed + k, edge, n_scale, bands)
        write_mat(Path(root, f"block_{k + 1}.mat"), {key: arrays[key] for key in keys}, version)
    return Path(root)


def write_harvard(root, names=("img1", "img2", "imga1"), height=40, width=48):
    """Harvard's raw form: .mat v5, key ref (values up to 1/20) and the mask lbl."""
    for seed, name in enumerate(names):
        cube = make_smooth_cube(30 + seed, height, width) / 20
        write_mat(Path(root, f"{name}.mat"), {"ref": cube, "lbl": np.zeros((height, width))})
    return Path(root)


def write_ntire(root, names=("ARAD_HS_0005", "ARAD_HS_0001", "ARAD_HS_0007"), height=42, width=48):
    """NTIRE2020's raw form: .mat v7.3, key cube, with bands and norm_factor."""
    for seed, name in enumerate(names):
        arrays = {
            "cube": make_smooth_cube(40 + seed, height, width),
            "bands": np.arange(400.0, 701, 10)[None],
            "norm_factor": np.ones((1, 1)),
        }
        write_mat(Path(root, f"{name}.mat"), arrays, "7.3")
    return Path(root)


def write_chikusei(root, rows=160, cols=130, bands=12):
    """Chikusei's raw form: one .mat v7.3, key chikusei, integers."""
    cube = (make_smooth_cube(60, rows, cols, bands) * 9000).round().astype(np.int16)
    write_mat(Path(root, "HyperspecVNIR_Chikusei.mat"), {"chikusei": cube}, "7.3")
    return Path(root), cube


def write_own(root, kind, cube, name="scene"):
    """A cube, H x W x C, of a user's own in any format; returns its path."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    path = (
        root / f"{name}.{ {'mat5': 'mat', 'mat73': 'mat', 'hdf5': 'h5', 'tiff': 'tif', 'envi': 'hdr'}.get(kind, kind) }"
    )
    if kind in ("mat5", "mat73"):
        write_mat(path, {"image": cube}, "5" if kind == "mat5" else "7.3")
        if kind == "mat73":
            with h5py.File(path, "r+") as f:
                f["image"].attrs["MATLAB_class"] = np.bytes_(cube.dtype.name)
    elif kind == "npy":
        np.save(path, cube)
    elif kind == "npz":
        np.savez(path, image=cube, wavelengths=np.linspace(400, 1000, cube.shape[2]))
    elif kind == "hdf5":
        with h5py.File(path, "w") as f:
            f["data/image"] = cube
            f["data/wavelength"] = np.linspace(0.4, 1.0, cube.shape[2])
    elif kind == "tiff":
        tifffile.imwrite(path, cube.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
    elif kind == "envi":
        spectral.io.envi.save_image(
            str(path),
            cube,
            dtype=cube.dtype,
            interleave="bil",
            ext="dat",
            metadata={"wavelength": list(np.linspace(0.4, 1.0, cube.shape[2])), "wavelength units": "Micrometers"},
        )
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_cave(target / "cave")
    write_cave_lr(target / "cave_lr_x4")
    write_pictures(target / "rgb")
    write_patches(target / "patches_v5")
    write_patches(target / "patches_v73", version="7.3")
    write_harvard(target / "harvard")
    write_ntire(target / "ntire2020")
    write_chikusei(target / "chikusei")
    for form in ("mat5", "mat73", "npy", "npz", "hdf5", "tiff", "envi"):
        write_own(target / "own" / form, form, (make_smooth_cube(70, 24, 20, 9) * 10000).astype(np.uint16))
