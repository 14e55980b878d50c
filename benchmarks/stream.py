"""Patches per second of a stream from a scene store, compared with one .mat file for each patch.

python benchmarks/stream.py [STORE] uses a labelled store, or two synthetic scenes of 512 x 512 x 31. It exports their
64-pixel patches as .mat files, compressed as by MATLAB's save and uncompressed, reads all in batches of 8 for some
seconds each, and prints the bytes on disk too.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.io
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from data import sources, store
from data.export import export
from data.stream import augment
from utils import random_generator

SECONDS = 6.0


def make_scene(seed):
    generator = np.random.default_rng(seed)
    coarse = generator.random((64, 64, 31))
    cube = np.kron(coarse, np.ones((8, 8, 1))) + 0.02 * generator.random((512, 512, 31))
    return (cube / cube.max() * 65535).astype(np.uint16)


class OneFileAPatch:
    """Loader of the released code: loadmat for each patch of the batch, then augmentation, then stacking."""

    def __init__(self, folder):
        self.files = sorted(folder.glob("*.mat"))

    def batch(self, numbers, modes):
        stacks = {"gt": [], "ms": [], "ms_bicubic": []}
        for number, mode in zip(numbers, modes, strict=True):
            arrays = scipy.io.loadmat(self.files[number])
            for key, patches_of_key in stacks.items():
                augmented = np.ascontiguousarray(augment(arrays[key], int(mode)).transpose(2, 0, 1))
                patches_of_key.append(torch.from_numpy(augmented))
        return {key: torch.stack(value) for key, value in stacks.items()}


def measure_rate(source, count):
    """Return the patches per second in shuffled batches of 8."""
    order = random_generator(0, "benchmark").permutation(count * 8)
    source.batch(order[:8] // 8, order[:8] % 8)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        items = order.take(range(done, done + 8), mode="wrap")
        source.batch(items // 8, items % 8)
        done += 8
    return done / (time.perf_counter() - started)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "labelled.h5"
        if len(sys.argv) > 1:
            shutil.copy(sys.argv[1], path)
        else:
            parts = [folder / f".{k}.h5" for k in range(2)]
            for k, part in enumerate(parts):
                store.write_part(part, store.Scene(f"scene{k}", make_scene(k), 65535.0))
            store.join_parts(path, parts, {"dataset": "benchmark", "protocol": "corrected", "program": "benchmark"})
        (exported,) = export({"labelled": path}, 4, 64, 32, "corrected")
        streamed = sources.open_labelled(path, 64, 32, 4)
        plain = folder / "plain"
        plain.mkdir()
        for file in exported.glob("*.mat"):
            arrays = {k: v for k, v in scipy.io.loadmat(file).items() if not k.startswith("__")}
            scipy.io.savemat(plain / file.name, arrays)
        stream_rate = measure_rate(streamed, len(streamed))
        print(f"{torch.get_num_threads()} threads, {len(streamed)} patches of 64 x 64 x 31, x4")
        print(f"stream              {stream_rate:6.0f} patches/s   {path.stat().st_size / 1e6:8.1f} MB")
        for title, where in (("files (compressed)", exported), ("files (plain)", plain)):
            files = OneFileAPatch(where)
            files_rate = measure_rate(files, len(files.files))
            size = sum(p.stat().st_size for p in files.files)
            print(
                f"{title:19s} {files_rate:6.0f} patches/s   {size / 1e6:8.1f} MB   "
                f"the stream is {stream_rate / files_rate:.1f} times as fast, "
                f"the files {size / path.stat().st_size:.1f} times as large"
            )


if __name__ == "__main__":
    main()
