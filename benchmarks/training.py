"""Time of training steps by objective, compared with the plain implementation and the machine's peak rates.

    python benchmarks/training.py [--widths 64,256] [--patch 64] [--hows plain,fp32,tf32,bf16,bf16+compile]
                                  [--repeats 5] [--json_file FILE] [--profile FILE]

All variants start from the same weights: x4, 31 bands, batch 8, synthetic scenes. A variant ("how") is plain.py or
`Trainer` with a precision, optionally with +compile or +deterministic. A step is loss, gradients and Adam step on a
loaded mini-batch; "iteration" includes the data: 1 labelled, 1 mixup, 3 RGB and 3 consistency mini-batches, as in
epoch 1. Peak rates are those of large matrix products, and of the network's convolutions alone, forward and backward.
Times are means of consecutive calls. --profile FILE writes the slowest kernels to FILE_F<width>_<how>.txt.
"""

import contextlib
import json
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
from PIL import Image
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import mains
import objectives
from config import TrainConfig
from models import build_model
from system.devices import configure_arithmetic, has_fast_bf16
from trainer import Trainer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BF16_IS_FAST = DEVICE.type == "cuda" or has_fast_bf16()


def measure_seconds(function, repeats):
    """Return the mean seconds of consecutive calls, after a warm-up call."""
    function()
    synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    synchronize()
    return (time.perf_counter() - started) / repeats


def synchronize():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@contextlib.contextmanager
def set_tf32(is_on):
    """Allow TF32 for matrix products within the context."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = is_on
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def measure_products(precision):
    """Return the FLOP/s of large matrix products in fp32, tf32 or bf16."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8192 if DEVICE.type == "cuda" else 2048
    if precision == "bf16" and DEVICE.type == "cpu" and not has_fast_bf16():
        # Emulated, a product of 2048 takes half a minute.
        size = 512
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    with set_tf32(precision == "tf32"):
        return 2 * size**3 / measure_seconds(lambda: a @ b, 10)


class Convolutions(TorchDispatchMode):
    """Records the shapes of called convolutions: (input, weight)."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.shapes.append((tuple(args[0].shape), tuple(args[1].shape)))
        return function(*args, **(kwargs or {}))


def list_convolutions(width, patch, modality):
    """Return the (input, weight) shapes of the convolutions of a batch of 8."""
    n_colors = 31 if modality == "spectral" else 8
    with Convolutions() as recorded, torch.device("meta"):
        model = build_model("DeepShare", 31, 4, n_feats=width)
        model(torch.empty(8, n_colors, patch // 4, patch // 4), torch.empty(8, n_colors, patch, patch), modality)
    return recorded.shapes


def count_flops(shapes):
    """Return the FLOPs of convolutions forward and backward, three times those forward."""
    return sum(6 * int(np.prod(weight)) * given[0] * given[2] * given[3] for given, weight in shapes)


def measure_convolutions(shapes, precision, repeats):
    """Return the FLOP/s of consecutive convolutions, forward and backward."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    calls = []
    for shape in shapes:
        x, w = (torch.randn(s, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last) for s in shape)
        calls.append((x.requires_grad_(), w.requires_grad_(), shape[1][2] // 2))

    def run_once():
        for x, w, padding in calls:
            y = functional.conv2d(x, w, padding=padding)
            y.backward(y.detach())
            x.grad = w.grad = None

    return count_flops(shapes) / measure_seconds(run_once, repeats)


def write_data(folder):
    """Write random scenes of 256 x 256 x 31 and random pictures."""
    generator = np.random.default_rng(0)
    (folder / "cubes").mkdir()
    (folder / "rgb").mkdir()
    for k in range(3):
        cube = np.kron(generator.random((32, 32, 31), dtype=np.float32), np.ones((8, 8, 1), np.float32))
        np.save(folder / "cubes" / f"{k}.npy", cube)
        picture = np.kron(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(picture).save(folder / "rgb" / f"{k}.png")
    flags = ["--dataset_name=Mine", f"--raw_dir={folder / 'cubes'}", f"--out_dir={folder}", "--fractions=1,0,0"]
    with contextlib.redirect_stdout(sys.stderr):
        assert mains.main(["prepare", *flags, "--wavelengths=400,700"]) == 0


def make_trainer(how, width, patch, folder):
    """Return the Trainer of a variant such as bf16+compile."""
    precision, *more = how.split("+")
    flags = {
        **{"dataset_name": "Cave", "n_feats": width, "patch_size": patch, "precision": precision, "save_dir": "runs"},
        **{"train_dir_mslabel": "labelled.h5", "train_dir_msunlabel": "labelled.h5", "train_dir_rgb": "rgb"},
        **dict.fromkeys(("UseRGB", "UseLabeledSpectralMixUp", "UseUnlabelConsistency", *more), 1),
    }
    for name in ("save_dir", "train_dir_mslabel", "train_dir_msunlabel", "train_dir_rgb"):
        flags[name] = folder / flags[name]
    with contextlib.redirect_stdout(sys.stderr):
        return Trainer(TrainConfig.from_flags({name: str(value) for name, value in flags.items()}))


def measure_trainer(trainer, repeats):
    """Return the seconds of each objective's step, of the data and of an iteration, and the first losses."""
    seconds, losses = {}, {}
    batches = {name: trainer.streams[o.stream].batch(0) for name, o in objectives.OBJECTIVES.items()}
    for name, objective in objectives.OBJECTIVES.items():
        started = time.perf_counter()
        batch = objective.prepare(batches[name], trainer.task, 0, 0)
        losses[name] = float(trainer.backward(objective.loss, batch))
        seconds[f"first {name}"] = time.perf_counter() - started
    for name, objective in objectives.OBJECTIVES.items():

        def step(objective=objective, batch=batches[name]):
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.backward(objective.loss, objective.prepare(batch, trainer.task, 0, 0))
            trainer.optimizer.step()

        seconds[name] = measure_seconds(step, repeats)

    def iterate():
        trainer.iterate(epoch=1)
        trainer.iteration += 1

    def load_data():
        stream = trainer.streams["labelled"]
        stream.batch(trainer.iteration)
        trainer.iteration += 1

    seconds["data"] = measure_seconds(load_data, 10 * repeats)
    seconds["iteration"] = measure_seconds(iterate, repeats)
    return seconds, losses


def measure_plain(width, patch, folder, weights, repeats):
    """Return the same as `measure_trainer` for plain.py: labelled and RGB steps."""
    model = plain.PlainDeepShare(31, 4, width).to(DEVICE)
    model.load_state_dict(weights)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    streams = make_trainer("fp32", width, patch, folder).streams
    seconds, losses = {}, {}
    batches = {name: streams[name].batch(0) for name in ("labelled", "rgb")}
    data_of = {name: [x.contiguous() for x in (b.ms, b.lms, b.gt)] for name, b in batches.items()}
    modalities = {"labelled": "spectral", "rgb": "rgb"}
    for name, (ms, lms, gt) in data_of.items():
        losses[name] = float(plain.compute_loss(model(ms, lms, modalities[name]), gt))
    for name, modality in modalities.items():
        data = data_of[name]
        seconds[name] = measure_seconds(
            lambda data=data, m=modality: plain.train_step(model, optimizer, *data, m), repeats
        )
    return seconds, losses


def main(widths="64,256", patch=64, hows="", repeats=5, json_file="", profile=""):
    """See the module."""
    usual = ["plain", "fp32", *(["tf32"] if DEVICE.type == "cuda" else []), *(["bf16"] if BF16_IS_FAST else [])]
    hows = [h.strip() for h in split_list(hows)] or usual
    precisions = dict.fromkeys(h.split("+")[0].replace("plain", "fp32") for h in hows)
    rows = []
    products = {p: measure_products(p) for p in precisions}
    print("matrix products:", ", ".join(f"{p} {rate / 1e12:.2f} TFLOP/s" for p, rate in products.items()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        for width in map(int, split_list(widths)):
            modalities = {"labelled": "spectral", "rgb": "rgb"}
            shapes = {name: list_convolutions(width, patch, modality) for name, modality in modalities.items()}
            flops = {name: count_flops(s) for name, s in shapes.items()}
            flops |= {"mixup": flops["labelled"], "consistency": flops["labelled"] + flops["rgb"]}
            flops["iteration"] = 2 * flops["labelled"] + 3 * flops["rgb"] + 3 * flops["consistency"]
            alone = {p: measure_convolutions(shapes["labelled"], p, repeats) for p in precisions}
            print(f"F={width}: convolutions alone", {p: f"{r / 1e12:.2f} TFLOP/s" for p, r in alone.items()})
            weights = None
            for how in sorted(hows, key=lambda h: h == "plain"):
                precision = how.split("+")[0].replace("plain", "fp32")
                if DEVICE.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                if how == "plain":
                    configure_arithmetic("fp32", DEVICE)
                    seconds, losses = measure_plain(width, patch, folder, weights, repeats)
                else:
                    trainer = make_trainer(how, width, patch, folder)
                    weights = weights or {k: v.clone() for k, v in trainer.model.state_dict().items()}
                    trainer.model.load_state_dict(weights)
                    seconds, losses = measure_trainer(trainer, repeats)
                    if profile:
                        write_profile(trainer, f"{profile}_F{width}_{how.replace('+', '_')}.txt")
                    del trainer
                peak = torch.cuda.max_memory_allocated() / 1e9 if DEVICE.type == "cuda" else None
                rows.append({"width": width, "how": how, "seconds": seconds, "losses": losses, "peak_GB": peak})
                print_row(rows[-1], flops, products[precision], alone[precision])
    if json_file:
        Path(json_file).write_text(json.dumps(rows, indent=1))


def print_row(row, flops, products, alone):
    """Print a line for each step of a variant."""
    peak = "" if row["peak_GB"] is None else f", {row['peak_GB']:.2f} GB at the peak"
    print(f"F={row['width']}, {row['how']}{peak}")
    for name, seconds in row["seconds"].items():
        line = f"  {name:18} {1e3 * seconds:9.1f} ms"
        if name in flops:
            rate = flops[name] / seconds
            line += (
                f"  {rate / 1e12:7.2f} TFLOP/s  {rate / products:4.0%} of products  {rate / alone:4.0%} of convolutions"
            )
        loss = row["losses"].get(name)
        print(line + ("" if loss is None else f"  first loss {loss:.7f}"), flush=True)


def write_profile(trainer, path):
    """Write a table of the 30 slowest kernels of an iteration."""
    from torch.profiler import ProfilerActivity, profile

    on_cuda = DEVICE.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]) as profiler:
        trainer.iterate(epoch=1)
        synchronize()
    table = profiler.key_averages().table(
        sort_by="cuda_time_total" if on_cuda else "self_cpu_time_total", row_limit=30, max_name_column_width=90
    )
    Path(path).write_text(table)
    print(f"wrote {path}")


def split_list(value):
    """Return the items of a list flag as parsed by fire."""
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else [w for w in str(value).split(",") if w]


if __name__ == "__main__":
    fire.Fire(main)
