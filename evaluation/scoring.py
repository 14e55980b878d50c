"""A network over whole scenes: metrics per scene and in the mean, as a table, a file and pictures."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
import torch
from tqdm import tqdm

import pictures
from data import readers, store
from data.imresize import degrade, enlarge
from metrics import METRICS, UnscoredBandWarning, quality_assessment
from training.processes import World
from utils import UserError, progress_bar, replacing, say, without_tf32

COLUMNS = {
    "MPSNR": ".4f",
    "MSSIM": ".4f",
    "MSSIM_gaussian": ".4f",
    "SAM": ".4f",
    "ERGAS": ".4f",
    "CrossCorrelation": ".4f",
    "RMSE": ".5f",
}


@dataclass
class TestScene:
    """One scene ready for a network: ms 1 x C x h x w, lms and gt 1 x C x s*h x s*w, float32 in 0..1."""

    __test__ = False

    name: str
    ms: torch.Tensor
    lms: torch.Tensor
    gt: torch.Tensor
    band_names: list
    wavelengths: np.ndarray = None


class SceneSet:
    """The scenes of a store or of a folder of .mat files, loaded one by one.

    A folder's files hold gt, and may hold ms and ms_bicubic, which are made from gt otherwise.

    Args:
        path, flag_name: the user's store or folder, and the flag it came by.
        n_scale: enlargement.
        protocol: "corrected", "published" or "": the store's own, "corrected" for a folder.
        limit: only the first so many scenes; 0 for all.
    """

    def __init__(self, path, flag_name, n_scale, protocol="", limit=0):
        self.path, self.n_scale = Path(path), n_scale
        self.is_store = store.is_store(path)
        if self.is_store:
            self.entries = store.scene_names(path)
            self.protocol = protocol or store.protocol_of(path)
        else:
            self.entries = readers.find_mats(path, flag_name)
            self.protocol = protocol or "corrected"
        if not self.entries:
            raise UserError(
                f"--{flag_name} {path}: neither a scene store nor a folder of .mat files; make a store with the command prepare"
            )
        if limit and limit < len(self.entries):
            say(f"{path}: the first {limit} of {len(self.entries)} scenes are used, as asked")
            self.entries = self.entries[:limit]

    def __len__(self):
        return len(self.entries)

    def __iter__(self):
        return map(self.load, self.entries)

    @property
    def dataset(self):
        """The data set that a store says it is of; "" for a folder."""
        return store.dataset_of(self.path) if self.is_store else ""

    @property
    def ergas_ratio(self):
        """The published tables were all made with 4, at x8 too."""
        return 4 if self.protocol == "published" else self.n_scale

    def check(self, n_colors=None):
        """Load every scene once, so that nothing can be wrong with them after hours of training."""
        for scene in progress_bar(self, desc=f"check {self.path.name}", unit="scene", leave=False):
            if n_colors not in (None, scene.gt.shape[1]):
                raise UserError(
                    f"{self.path}: {scene.name} has {scene.gt.shape[1]} bands, the network {n_colors}; give scenes of the same bands"
                )

    def load(self, entry):
        """Load a scene and make, where they are not there, its LR image and bicubic enlargement.

        Raises:
            UserError: for a scene that is no HR image, not divisible by the scale, or damaged.
        """
        if self.is_store:
            scene = store.read_scene(self.path, entry)
            if scene.lr_scale != 1:
                raise UserError(f"{self.path}: {scene.name} is an LR image without HR; it cannot be scored")
            arrays, name = {"gt": scene.values(self.protocol)}, scene.name
            band_names, wavelengths = scene.band_names, scene.wavelengths
        else:
            arrays, name = readers.read_mat(entry, ("gt",), ("ms", "ms_bicubic")), entry.stem
            band_names, wavelengths = [f"band {k + 1}" for k in range(arrays["gt"].shape[2])], None
        height, width, _ = arrays["gt"].shape
        if min(height, width) < 7:
            raise UserError(f"{self.path}: {name} has {width} x {height} pixels, too few to be scored (7 x 7)")
        if height % self.n_scale or width % self.n_scale:
            raise UserError(
                f"{self.path}: {name} has {width} x {height} pixels, not divisible by --n_scale {self.n_scale}; crop it"
            )
        tensors = {key: torch.from_numpy(a).permute(2, 0, 1)[None] for key, a in arrays.items()}
        gt = tensors["gt"]
        if "ms" in tensors:
            ms = tensors["ms"]
            if ms.shape != (1, gt.shape[1], height // self.n_scale, width // self.n_scale):
                raise UserError(
                    f"{entry}: ms is {tuple(arrays['ms'].shape)} and gt {tuple(arrays['gt'].shape)}, not x{self.n_scale}; give the files' --n_scale"
                )
            lms = tensors.get("ms_bicubic")
            if lms is None or lms.shape != gt.shape:
                lms = enlarge(ms, self.n_scale)
        else:
            ms, lms = degrade(gt, self.n_scale)
        return TestScene(name, ms, lms, gt, band_names, wavelengths)


@torch.inference_mode()
def super_resolve(model, scene, device):
    """The network's output for a TestScene as H x W x C float32, not clipped."""
    inputs = [x.to(device, memory_format=torch.channels_last) for x in (scene.ms, scene.lms)]
    was_training = model.training
    model.eval()
    try:
        with without_tf32():
            output = model(*inputs)
    finally:
        model.train(was_training)
    return as_image(output)


def as_image(x):
    """1 x C x H x W tensor -> H x W x C array."""
    return x[0].permute(1, 2, 0).float().cpu().numpy()


def evaluate(model, scenes, device, images_dir=None, description="test", world=None, keep=None):
    """Score a network on every scene; several processes share the scenes.

    Args:
        model: called as model(ms, lms).
        scenes: a SceneSet.
        images_dir: folder for each scene's cube and picture, or None.
        world: the processes, or None for this one alone.
        keep: a Samples that takes note of each output, or None.

    Returns:
        (rows, files): {scene: {metric: value}}, and the paths written, of all processes.
    """
    world = world or World()
    rows, files = {}, []
    mine = scenes.entries[world.rank :: world.size]
    for entry in progress_bar(mine, desc=description, unit="scene", leave=False):
        scene = scenes.load(entry)
        output = super_resolve(model, scene, device)
        if not np.isfinite(output).all():
            raise UserError(f"{scene.name}: the network's output is not finite; its weights have diverged")
        rows[scene.name] = score(scene, output, scenes.ergas_ratio)
        if keep is not None:
            keep.add(scene, output)
        if images_dir:
            files += save_images(Path(images_dir), scene, output)
    shares = [list(share.items()) for share in world.gather(rows)]
    # Scene k was process k % size's.
    rows = dict(shares[k % world.size][k // world.size] for k in range(len(scenes)))
    if keep is not None:
        keep.join(world.gather(keep), list(rows))
    return rows, sorted(path for share in world.gather(files) for path in share)


def rehearse(model, scenes, device, edge=16):
    """Score one small piece, so that a broken evaluation fails now and not after the first epoch."""
    scene = scenes.load(scenes.entries[0])
    large = edge * scenes.n_scale
    scene.ms = scene.ms[:, :, :edge, :edge]
    scene.lms, scene.gt = scene.lms[:, :, :large, :large], scene.gt[:, :, :large, :large]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnscoredBandWarning)
        quality_assessment(as_image(scene.gt), super_resolve(model, scene, device), ratio=scenes.ergas_ratio)


def score(scene, output, ratio):
    """All metrics of one scene; bands that cannot be scored are named on the terminal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnscoredBandWarning)
        row = quality_assessment(as_image(scene.gt), output, ratio=ratio, band_names=scene.band_names)
    for warning in caught:
        tqdm.write(f"{scene.name}: {warning.message}")
    return row


def mean_row(rows):
    """Mean of each metric over the scenes."""
    return {metric: float(np.mean([row[metric] for row in rows.values()])) for metric in METRICS}


def table(rows, title_of_mean="mean"):
    """The rows and their mean as text in columns."""
    lines = [["scene", *COLUMNS]]
    for name, row in {**rows, title_of_mean: mean_row(rows)}.items():
        lines.append([name, *(format(row[metric], spec) for metric, spec in COLUMNS.items())])
    return in_columns(lines, rule_before_last=True)


def in_columns(lines, rule_before_last=False):
    """Rows of words as a table: the first column to the left, the others to the right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = [
        "  ".join([line[0].ljust(widths[0]), *(w.rjust(n) for w, n in zip(line[1:], widths[1:]))]) for line in lines
    ]
    rule = "-" * len(rows[0])
    rows.insert(1, rule)
    if rule_before_last:
        rows.insert(-1, rule)
    return "\n".join(rows)


def write_results(path, model_name, scenes, rows, config, keep=None):
    """Write results.json: model, n_scale, protocol, mean and per-scene metrics, config; infinity as Infinity.

    With a Samples as keep, also each band's PSNR.
    """
    results = {
        "model": model_name,
        "n_scale": scenes.n_scale,
        "protocol": scenes.protocol,
        "dataset": scenes.dataset,
        "ergas_ratio": scenes.ergas_ratio,
        "mean": mean_row(rows),
        "scenes": rows,
        "config": config,
    }
    if keep is not None:
        results |= {"wavelengths": keep.wavelengths, "bands": keep.bands}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def save_images(folder, scene, output):
    """Write <scene>.mat (key sr, H x W x C single) and <scene>.png: LR, bicubic, SR, HR and the errors."""
    cube_path, picture_path = folder / f"{scene.name}.mat", folder / f"{scene.name}.png"
    # Given a path, savemat would add an extension of its own.
    with replacing(cube_path) as temporary, open(temporary, "wb") as f:
        scipy.io.savemat(f, {"sr": output}, do_compression=True)
    panels = pictures.comparison(as_image(scene.ms), as_image(scene.lms), output, as_image(scene.gt), scene.wavelengths)
    with replacing(picture_path) as temporary:
        panels.save(temporary, format="PNG")
    return [cube_path, picture_path]
