"""Speed and memory of the networks, metrics and processes, compared with the plain implementation (plain.py).

    python benchmarks/engine.py scene [--width 256] [--edge 512]        a whole scene: time and memory
    python benchmarks/engine.py metrics [--edge 512]                    the seven metrics of a scene
    python benchmarks/engine.py scaling [--width 32]                    a step by patch size, bands and width
    python benchmarks/engine.py processes [--width 32]                  patches per second with 1 and 2 processes

On CUDA if available, else on the CPU. Times are the minimum of several repeats. Training steps: training.py.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

from system.machine import set_thread_defaults

# Before torch is imported, as mains.py does.
set_thread_defaults()

import fire
import numpy as np
import plain
import torch

from losses import hybrid_loss
from metrics import quality_assessment
from models import build_model
from models.precision import PrecisionWrapper
from system.devices import has_fast_bf16

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BF16_IS_FAST = DEVICE.type == "cuda" or has_fast_bf16()


def measure_best(function, repeats=3):
    """Return the seconds of the fastest call, after a warm-up call."""
    function()
    seconds = []
    for _ in range(repeats):
        _synchronize()
        started = time.perf_counter()
        function()
        _synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _synchronize():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def make_batch(n_colors, patch, n_scale=4, size=8):
    ms, lms, gt = (torch.rand(size, n_colors, s, s, device=DEVICE) for s in (patch // n_scale, patch, patch))
    return ms, lms, gt


def make_step(n_colors, width, precision="fp32", n_scale=4):
    """Return the training step of the program: channels_last, groups as one batch, fused Adam."""
    model = build_model("DeepShare", n_colors, n_scale, n_feats=width).to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step(ms, lms, gt):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
            output = model(ms, lms)
        loss = hybrid_loss(output.float(), gt)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def to_channels_last(tensors):
    return [x.contiguous(memory_format=torch.channels_last) for x in tensors]


class Benchmarks:
    """The benchmarks by name."""

    def scene(self, width=256, edge=512):
        """Run each variant in a separate process and read its peak memory."""
        rows = {}
        for kind in ("plain", "fp32", *(["bf16"] if BF16_IS_FAST else [])):
            command = [sys.executable, __file__, "_one_scene", kind, str(width), str(edge)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[kind] = [float(x) for x in done.stdout.split()]
        for kind, (seconds, peak, value) in rows.items():
            print(
                f"{kind:6} {seconds:6.1f} s, {rows['plain'][0] / seconds:4.2f} times as fast; peak {peak:5.2f} GB, "
                f"{peak / rows['plain'][1]:4.2f} of plain; mean of the output {value:.7f}"
            )

    def _one_scene(self, kind, width, edge):
        torch.manual_seed(0)
        model = plain.PlainDeepShare(31, 4, width).to(DEVICE)
        ms, lms, _ = make_batch(31, edge, size=1)
        if kind != "plain":
            weights = model.state_dict()
            model = build_model("DeepShare", 31, 4, n_feats=width).to(DEVICE, memory_format=torch.channels_last)
            model.load_state_dict(weights)
            model = PrecisionWrapper(model, kind)
            del weights
            ms, lms = to_channels_last((ms, lms))
        started = time.perf_counter()
        with torch.no_grad():
            output = model(ms, lms)
        _synchronize()
        seconds = time.perf_counter() - started
        if DEVICE.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(seconds, peak / 1e9, float(output.double().mean()))

    def metrics(self, edge=512):
        generator = np.random.default_rng(0)
        gt = generator.random((edge, edge, 31), dtype=np.float32)
        pred = (gt + 0.05 * generator.standard_normal(gt.shape)).astype(np.float32)
        started = time.perf_counter()
        slow = plain.compute_metrics(gt, pred)
        plain_seconds = time.perf_counter() - started
        seconds = measure_best(lambda: quality_assessment(gt, pred), 5)
        fast = quality_assessment(gt, pred)
        print(f"plain {plain_seconds:.2f} s, metrics {seconds:.3f} s: {plain_seconds / seconds:.1f} times as fast")
        for name, value in slow.items():
            print(f"  {name}: {value:.8f} and {fast[name]:.8f}")

    def scaling(self, width=32):
        def print_row(title, n_colors, width, patch):
            step = make_step(n_colors, width)
            data = to_channels_last(make_batch(n_colors, patch))
            print(f"  {title:20} {1e3 * measure_best(lambda: step(*data)):8.1f} ms")

        print("a step of batch 8, x4, fp32")
        for patch in (16, 32, 64):
            print_row(f"F={width}, 31 bands, {patch} px", 31, width, patch)
        for n_colors in (8, 64, 128):
            print_row(f"F={width}, {n_colors} bands, 32 px", n_colors, width, 32)
        for w in (16, 64, 128):
            print_row(f"F={w}, 31 bands, 32 px", 31, w, 32)

    def processes(self, width=32, iterations=40):
        """Run mains.py on synthetic scenes; batch 4 for each process, one thread each."""
        with tempfile.TemporaryDirectory() as folder:
            cubes = Path(folder) / "cubes"
            cubes.mkdir()
            for k in range(3):
                cube = np.kron(np.random.default_rng(k).random((32, 32, 31), dtype=np.float32), np.ones((8, 8, 1)))
                np.save(cubes / f"{k}.npy", cube.astype(np.float32))
            root = Path(__file__).parent.parent
            quiet = {"capture_output": True, "check": True, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
            flags = ["prepare", "--dataset_name", "Mine", "--raw_dir", str(cubes), "--out_dir", folder]
            subprocess.run([sys.executable, root / "mains.py", *flags, "--fractions", "1,0,0"], **quiet)
            for n in (1, 2):
                launch = [] if n == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
                rates = []
                for count in (5, 5 + iterations):
                    started = time.perf_counter()
                    subprocess.run(
                        [
                            *(sys.executable, *launch, root / "mains.py", "train", "--dataset_name", "Mine"),
                            *("--train_dir_mslabel", f"{folder}/labelled.h5", "--n_feats", str(width)),
                            *("--patch_size", "32", "--batch_size", "4", "--max_iterations", str(count)),
                            *("--save_dir", f"{folder}/{n}_{count}"),
                        ],
                        **quiet,
                    )
                    rates.append(time.perf_counter() - started)
                print(f"  {n} processes: {4 * n * iterations / (rates[1] - rates[0]):6.1f} patches a second")


if __name__ == "__main__":
    fire.Fire(Benchmarks)
