"""Functions and constants shared by the tests."""

import csv
import json
import re
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import fixtures
import numpy as np
import torch
from spectral.io import envi
from torch import nn

from data.store import Scene, Store, join_parts, write_part
from data.stream import Batch
from facts import VISIBLE, load_published_split
from formats import CubeOptions, Output, open_raster
from formats.calibration import understand
from models import build_model
from models import weights as checkpoint

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

# Flags of the smallest training runs.
TINY = {"n_feats": 4, "patch_size": 16, "patch_stride": 16, "batch_size": 8}
# The folder of such a run.
TITLE = "Cave_DeepShare_Blocks=3_Subs8_Ovls2_Feats=4_x4"


def make_training_flags(stores, raw):
    """Flags of a training run with all four losses that takes a second or two; save_dir is not included."""
    return {
        **TINY,
        "train_dir_mslabel": stores / "labelled.h5",
        "train_dir_msunlabel": stores / "unlabelled.h5",
        "train_dir_rgb": raw / "rgb",
        "UseRGB": 1,
        "theta_rgb": 1,
        "UseLabeledSpectralMixUp": 1,
        "UseUnlabelConsistency": 1,
        "theta_unlabel": 1,
    }


def format_words(flags):
    """Format flags as the words of a command line."""
    return [f"--{name}={value}" for name, value in flags.items()]


def read_blocks(page, language):
    """Yield (line number, reason not to run it or "", code) of the blocks of a language in a Markdown page.

    The reason precedes the block: <!-- not run: REASON -->
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    for first, last in zip(fences[::2], fences[1::2], strict=True):
        if lines[first].strip() == f"```{language}":
            reason = re.fullmatch(r"\s*<!-- not run: (.+) -->", lines[first - 1])
            code = textwrap.dedent("\n".join(lines[first + 1 : last])) + "\n"
            yield first + 1, reason[1] if reason else "", code


def read_rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def load_final_weights(run_dir):
    return checkpoint.load_state(next(run_dir.glob("*_epoch_*.pth")))


def are_equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class OneBatch:
    """A stream that returns one batch repeatedly."""

    batches_per_pass = 2

    def __init__(self, *tensors):
        self._batch = Batch(*tensors)

    def batch(self, k):
        return self._batch


def compute_released_losses(trainer, golden, monkeypatch, device="cpu"):
    """Compute the four losses of two iterations from the golden weights, on the golden batches and mixup matrix."""
    trainer.model.load_state_dict(checkpoint.load_state(golden.weights_path))
    at = {name: tensor.to(device) for name, tensor in golden.arrays.items()}
    trainer.streams = {
        "labelled": OneBatch(at["ms"], at["lms"], at["gt"]),
        "rgb": OneBatch(at["rgb_ms"], at["rgb_lms"], at["rgb_gt"]),
        "unlabelled": OneBatch(at["ms"], at["lms"]),
    }
    monkeypatch.setattr("data.spectral.draw_mixup_matrix", lambda *_: golden["mixup_matrix"])
    losses = []
    for _ in range(2):
        trainer.iterate(epoch=1)
        losses += trainer.losses.means()
        trainer.losses.begin_interval([None] * 4)
    return losses


# config.json of the published experiment on CAVE, x4, with RGB and SSL.
FULL = {
    "dataset_name": "Cave",
    "model_title": "DeepShare",
    "n_scale": 4,
    "n_feats": 256,
    "patch_size": 64,
    "patch_stride": 32,
    "UseRGB": True,
    "theta_rgb": 3,
    "UseUnlabelConsistency": True,
    "theta_unlabel": 3,
    "UseLabeledSpectralMixUp": False,
    "batch_size": 8,
    "epochs": 10,
    "iterations": 11250,
    "patches": {"labelled": 1125, "rgb": 400000, "unlabelled": 3375},
    "seed": 3000,
    "save_dir": "anywhere",
}


def read_scene_names(path):
    """Read the names of a store's scenes, in its order."""
    with Store(path) as store:
        return store.names


def read_scene(path, name):
    """Read one scene of a store."""
    with Store(path) as store:
        return store.read(name)


# Contents of results files for tests of `tables`; a run without RGB and SSL; the test scenes of CAVE.
SOME_MEAN = {
    "MPSNR": 40.0,
    "MSSIM": 0.95,
    "MSSIM_gaussian": 0.94,
    "ERGAS": 4.0,
    "SAM": 4.0,
    "CrossCorrelation": 0.99,
    "RMSE": 0.02,
}
PLAIN_RUN = {
    **FULL,
    "train_dir_mslabel": "labelled.h5",
    "UseRGB": False,
    "UseUnlabelConsistency": False,
    "device": "GPU A",
    "parameters": 21460975,
    "training_seconds": 3725.4,
}
CAVE_TEST = load_published_split("Cave")["test"]


def write_results_file(path, config, protocol="published", scenes=CAVE_TEST, model="DeepShare", **mean):
    """Write a results file as train and test do, with the same metrics for every scene."""
    mean = {**SOME_MEAN, **mean}
    about = {"model": model, "n_scale": 4, "protocol": protocol, "dataset": "Cave", "config": config}
    content = {**about, "mean": mean, "scenes": dict.fromkeys(scenes, mean)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_finished_run(folder, protocol="published", scenes=CAVE_TEST, changes=(), **mean):
    """Write a finished run: config.json, log.csv, weights, results.json."""
    config = {**PLAIN_RUN, **dict(changes)}
    write_results_file(folder / "results.json", config, protocol, scenes, **mean)
    write_unfinished_run(folder, config)
    (folder / "Cave_DeepShare_epoch_10_now.pth").write_bytes(b"")


def write_unfinished_run(folder, config=PLAIN_RUN):
    """Write a stopped run: config.json, log.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.csv").write_text(
        "epoch,iteration,lr,labelled,mixup,rgb,consistency\n1,5,1e-4,0.5,,,\n1,10,1e-4,0.3,,,\n"
    )


def select_own_rows(rows):
    """Select this program's rows of tables.csv, by method."""
    return {row["method"]: row for row in rows if row["kind"] == "ours"}


def find_line(markdown, method):
    """Find the line of a method; return its cells by heading."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if "|" in line]
    (found,) = [line for line in lines if line[0] == method]
    return dict(zip(lines[0], found, strict=True))


class PageReader(HTMLParser):
    """Collects the references and images of a page, and checks that its tags are closed."""

    VOID = ("meta", "link", "img", "br", "input", "stop", "path", "rect", "circle")

    def __init__(self):
        super().__init__()
        self.references, self.images, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action"):
                (self.images if tag == "img" else self.references).append(value)
        assert tag not in ("iframe", "object")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


# A user's LR scene: uint16, 28 x 28; the network of `make_tiny_network` upsamples it to 112 x 112.
OWN_CUBE = (fixtures.make_smooth_cube(3, 28, 28) * 60000).round().astype(np.uint16)


def make_tiny_network(n_colors=31, n_scale=4, gain=0.1):
    """Make a network with random weights and a global residual."""
    torch.manual_seed(5)
    model = build_model("DeepShare", n_colors, n_scale, n_feats=4, global_residual=True).eval()
    model.final.weight.data *= gain
    return model


class StubNetwork(nn.Module):
    """A network that returns lms plus a function of it."""

    def __init__(self, n_colors, detail, n_scale=2):
        super().__init__()
        self.n_colors, self.n_scale, self.detail, self.calls = n_colors, n_scale, detail, 0

    def forward(self, ms, lms, modality="spectral"):
        self.calls += 1
        return lms + self.detail(lms)


def make_bicubic_network(n_colors, n_scale=2):
    return StubNetwork(n_colors, torch.zeros_like, n_scale)


def write_reflectance_envi(folder, **metadata):
    """Write an ENVI scene of int16 up to 10000 with missing data; return (path, cube)."""
    folder.mkdir(parents=True, exist_ok=True)
    cube = (fixtures.make_smooth_cube(3, 28, 28) * 10000).round().astype(np.int16)
    metadata = {"wavelength": list(VISIBLE), "wavelength units": "Nanometers", "data ignore value": -9999, **metadata}
    cube[3:5, 4:6] = -9999
    envi.save_image(str(folder / "scene.hdr"), cube, dtype=np.int16, interleave="bil", metadata=metadata)
    return folder / "scene.hdr", cube


def repeat_pixels(cube):
    """Repeat each pixel 2 x 2 times: H x W x C -> 2H x 2W x C."""
    return cube.repeat(2, axis=0).repeat(2, axis=1)


def write_upsampled(path, out, options=None, value_scale=0.0, nodata=None):
    """Write a scene upsampled x2, as `predict` does; return (raster, path of the result)."""
    raster = open_raster(path, options or CubeOptions())
    output = Output(out, raster, 2)
    output.describe(understand(raster, value_scale, nodata))
    output.finish(repeat_pixels(raster.read()))
    return raster, output.path


def write_store(path, wavelengths, size=(32, 32), hashes=None):
    """Write a store of random scenes {name: wavelengths or None}, with 16 bands if they are None."""
    parts = []
    for seed, (name, waves) in enumerate(wavelengths.items()):
        bands = 16 if waves is None else len(waves)
        cube = fixtures.make_smooth_cube(seed, *size, bands).astype(np.float32)
        source = (hashes or {}).get(name, f"{path.name} {name}")
        scene = Scene(name, cube, 1.0, wavelengths=waves, source=f"{name}.npz", source_sha256=source)
        parts.append(path.with_name(f"{path.name}.{name}.part"))
        write_part(parts[-1], scene)
    join_parts(path, parts, {"dataset": "Mine", "protocol": "corrected", "program": "test"})
    for part in parts:
        part.unlink()
    return path
