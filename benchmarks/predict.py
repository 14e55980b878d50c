"""Time, memory and quality of `predict`: python benchmarks/predict.py WEIGHTS STORE [PART ...]

Parts (default: all):
    quality   gain in dB of self-ensemble and back-projection on the test scenes of a store
    tiles     deviation of tiles from the whole scene by size and overlap, on crops of the same scenes
    sizes     time and peak memory for results of 512, 2048 and 8192 pixels square, streamed from ENVI to ENVI
    memory    peak memory of one pass, and the estimate of tiles.estimate_bytes
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from system.machine import set_thread_defaults

# Before torch is imported, as mains.py does.
set_thread_defaults()

import numpy as np
import torch

from data import store
from data.imresize import degrade
from metrics import quality_assessment
from models import weights as checkpoint
from predict import super_resolve

VARIANTS = {
    "default": {},
    "self-ensemble": {"self_ensemble": True},
    "back-projection 1": {"back_projection": 1},
    "back-projection 2": {"back_projection": 2},
    "back-projection 3": {"back_projection": 3},
    "self-ensemble, back-projection 1": {"self_ensemble": True, "back_projection": 1},
}
# Sizes and overlaps of tiles in LR pixels.
TILES = [(size, overlap) for size in (64, 128, 192) for overlap in (0, 8, 16, 32, 64) if 2 * overlap <= size]
# Edge of the crops of scenes that are tiled.
TILED_EDGE = 384
SIZES = (512, 2048, 8192)
MEMORY_CASES = ((64, 31), (128, 31), (192, 31), (64, 128))


def read_scenes(path):
    """Yield (name, H x W x C float32 in 0..1) of a store."""
    opened = store.Store(path)
    for name in opened.names:
        yield name, opened.read(name).values()


def degrade_scene(gt, n_scale):
    return degrade(torch.from_numpy(gt).permute(2, 0, 1)[None], n_scale)[0][0].permute(1, 2, 0).numpy()


def quality(weights, path):
    found = checkpoint.load(weights)
    model, architecture = found.model, found.architecture
    rows = {title: [] for title in VARIANTS}
    seconds = dict.fromkeys(VARIANTS, 0.0)
    for _, gt in read_scenes(path):
        lr = degrade_scene(gt, architecture["n_scale"])
        for title, options in VARIANTS.items():
            started = time.perf_counter()
            sr = super_resolve(lr, model, **options)
            seconds[title] += time.perf_counter() - started
            row = quality_assessment(gt, sr, ratio=architecture["n_scale"])
            degraded = degrade_scene(sr, architecture["n_scale"])
            rows[title].append([row["MPSNR"], row["SAM"], row["ERGAS"], np.sqrt(np.mean((degraded - lr) ** 2))])
    count = len(rows["default"])
    print(f"\n{count} scenes of {Path(path).name}, x{architecture['n_scale']}, {Path(weights).name}")
    print(
        "| | MPSNR | gain (dB) | SAM | ERGAS | re-degradation RMSE against LR | time |\n|---|---|---|---|---|---|---|"
    )
    first = np.mean(rows["default"], axis=0)
    for title, values in rows.items():
        mean = np.mean(values, axis=0)
        print(
            f"| {title} | {mean[0]:.4f} | {mean[0] - first[0]:+.4f} | {mean[1]:.4f} | {mean[2]:.4f} | {mean[3]:.1e} "
            f"| {seconds[title] / seconds['default']:.1f} times |"
        )


def tiles(weights, path, count=2):
    model = checkpoint.load(weights).model
    deviations = {tile: [] for tile in TILES}
    for _, image in list(read_scenes(path))[:count]:
        image = image[:TILED_EDGE, :TILED_EDGE]
        whole = super_resolve(image, model)
        for size, overlap in TILES:
            tiled = super_resolve(image, model, tile_size=size, tile_overlap=overlap)
            error = tiled - whole
            deviations[size, overlap].append([np.sqrt(np.mean(error**2)), np.abs(error).max()])
    print(
        f"\ntiles against the whole scene, {TILED_EDGE} pixels square of the first {count} scenes of {Path(path).name} "
        f"as input, {Path(weights).name}"
    )
    print("| tile | overlap | RMSE | as PSNR (dB) | largest |\n|---|---|---|---|---|")
    for (size, overlap), values in deviations.items():
        rmse, largest = np.sqrt(np.mean(np.square(np.array(values)[:, 0]))), np.max(np.array(values)[:, 1])
        print(f"| {size} | {overlap} | {rmse:.2e} | {-20 * np.log10(rmse):.1f} | {largest:.1e} |", flush=True)


def sizes(weights):
    architecture = checkpoint.load(weights).architecture
    bands, n_scale = architecture["n_colors"], architecture["n_scale"]
    print(f"\n{Path(weights).name}, {bands} bands of 16 bits, ENVI to ENVI, {os.cpu_count()} cores")
    print("| result | input | read and written | time | peak memory |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            edge = size // n_scale
            write_scene(Path(folder, "scene.hdr"), edge, bands)
            command = [sys.executable, str(ROOT / "mains.py"), "predict", f"--input={folder}/scene.hdr"]
            command += [f"--output={folder}/out.hdr", f"--model_dir={weights}", "--overwrite=1", "--value_scale=65535"]
            # A limit for the largest scene, so that it is tiled.
            command += ["--memory_limit=2"] if size == SIZES[-1] else []
            started = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            output = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            tiling = next((line.split(" (")[0] for line in output.splitlines() if " tiles of " in line), "whole")
            moved = (edge**2 + size**2) * bands * 2 / 1e9
            print(
                f"| {size} x {size} | {edge} x {edge} | {moved:.2f} GB | {seconds:.0f} s ({tiling}) "
                f"| {used.ru_maxrss / 2**20:.2f} GB | {'' if status == 0 else 'failed'}",
                flush=True,
            )


def write_scene(path, edge, bands):
    """Write a synthetic scene row by row."""
    from spectral.io import envi

    metadata = {"lines": edge, "samples": edge, "bands": bands, "data type": 12, "interleave": "bil"}
    pixels = envi.create_image(str(path), metadata, force=True).open_memmap(interleave="bip", writable=True)
    generator = np.random.default_rng(0)
    columns, spectrum = np.sin(np.arange(edge) / 9)[:, None], 0.5 + 0.4 * np.sin(np.arange(bands) / 5)
    for row in range(edge):
        values = spectrum * (0.5 + 0.3 * columns * np.sin(row / 7)) + 0.02 * generator.random((edge, bands))
        pixels[row] = values * 60000


def memory(weights):
    architecture = checkpoint.load(weights).architecture
    print("\n| LR pixels | bands | peak memory of a pass | estimate_bytes |\n|---|---|---|---|")
    for edge, bands in MEMORY_CASES:
        case = {**architecture, "n_colors": bands}
        done = subprocess.run(
            [sys.executable, __file__, "--pass", repr(case), str(edge)], capture_output=True, text=True
        )
        print(f"| {edge} x {edge} | {bands} | {done.stdout.strip()}", flush=True)


def measure_pass(case, edge):
    from models import build_model
    from predict.tiles import estimate_bytes

    model = build_model(**case).eval()
    image = np.random.default_rng(0).random((edge, edge, case["n_colors"]), dtype=np.float32)
    super_resolve(image[:8, :8], model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    super_resolve(image, model)
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{used / 1e9:.2f} GB | {estimate_bytes(case, edge, edge) / 1e9:.2f} GB |")


def main():
    weights, path, *parts = sys.argv[1:]
    for part in parts or ("quality", "tiles", "sizes", "memory"):
        if part in ("quality", "tiles"):
            globals()[part](weights, path)
        else:
            globals()[part](weights)


if __name__ == "__main__":
    if sys.argv[1] == "--pass":
        measure_pass(eval(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
