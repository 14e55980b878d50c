"""Export of scene stores as .mat patches in the layout of the released code, for other programs."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import scipy.io
import torch

from data import sources
from data.imresize import degrade
from data.spectral import make_lift_matrix
from data.store import Store
from formats.folders import ORIGIN, index_by_name
from system.files import exclusive_lock, explain_write_errors
from utils import file_name, progress_bar


def export(stores: Mapping[str, Path], n_scale: int, patch: tuple[int, int], protocol: str) -> list[Path]:
    """Write <split>_x<scale>/ beside each store: patches of gt, ms and ms_bicubic, H x W x C single.

    Test scenes are not cut into patches. Folders are written atomically; a folder that was exported from the same store
    with the same settings is not written again.

    Args:
        stores: {split: path of its store}.
        n_scale: upsampling factor.
        patch: (size, stride) of the patches, in HR pixels.
        protocol: that defines the full-scale values.

    Returns:
        Paths of the folders written.
    """
    size, stride = patch
    folders = []
    for split, path in stores.items():
        folder = path.with_name(f"{split}_x{n_scale}")
        with Store(path) as store:
            hashes = store.hashes
        index_by_name(path, [(file_name(name), name) for name in hashes], str)
        origin = {"scenes": hashes, "n_scale": n_scale, "size": size, "stride": stride, "protocol": protocol}
        about = folder / ORIGIN
        if about.is_file() and json.loads(about.read_text(encoding="utf-8")) == origin:
            continue
        unfinished, before = (folder.with_name(f".{folder.name}.{word}") for word in ("tmp", "before"))
        with exclusive_lock(folder), explain_write_errors(folder):
            for left in (unfinished, before):
                shutil.rmtree(left, ignore_errors=True)
            unfinished.mkdir()
            for name, arrays in _iterate_files(split, path, n_scale, size, stride, protocol):
                # Compressed, as by MATLAB's save.
                scipy.io.savemat(unfinished / f"{file_name(name)}.mat", arrays, do_compression=True)
            (unfinished / ORIGIN).write_text(json.dumps(origin), encoding="utf-8")
            if folder.exists():
                os.replace(folder, before)
            os.replace(unfinished, folder)
            shutil.rmtree(before, ignore_errors=True)
        folders.append(folder)
    return folders


def _iterate_files(
    split: str, path: Path, n_scale: int, size: int, stride: int, protocol: str
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield (file name, arrays) of every patch of a store, or of every scene for "test"."""
    if split == "test":
        with Store(path) as store:
            for name in progress_bar(store.names, desc="export test", unit="scene"):
                gt = sources.to_bands_first(store.read(name).values(protocol))
                ms, lms = degrade(gt, n_scale)
                yield name, {"gt": _to_image(gt), "ms": _to_image(ms), "ms_bicubic": _to_image(lms)}
        return
    if split == "rgb":
        source = sources.open_rgb(path, size, stride, n_scale, make_lift_matrix(8))
    elif split == "labelled":
        source = sources.open_labelled(path, size, stride, n_scale)
    else:
        source = sources.open_unlabelled(path, size, stride, n_scale)
    for k in progress_bar(range(len(source)), desc=f"export {split}", unit="patch"):
        batch = source.batch([k], [0])
        arrays = {"gt": batch.gt, "ms": batch.ms, "ms_bicubic": batch.lms}
        yield f"block_{k + 1:06d}", {key: _to_image(x) for key, x in arrays.items() if x is not None}


def _to_image(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
