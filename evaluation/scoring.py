"""Scoring of a network on whole scenes: metrics and pictures of each scene."""

import warnings
from pathlib import Path

import numpy as np
import scipy.io
import torch
from torch import nn
from tqdm import tqdm

import pictures
from evaluation.samples import Samples
from evaluation.scene_sets import SceneSet, TestScene
from metrics import UnscoredBandWarning, band_mse, psnr, quality_assessment
from system.devices import allow_tf32
from system.errors import UserError
from system.files import atomic_write
from training.processes import World
from utils import file_name, progress_bar


@torch.inference_mode()
def super_resolve(model: nn.Module, scene: TestScene, device: torch.device) -> np.ndarray:
    """Return the network's output for a scene as H x W x C float32, not clipped."""
    inputs = [x.to(device, memory_format=torch.channels_last) for x in (scene.ms, scene.lms)]
    was_training = model.training
    model.eval()
    try:
        with allow_tf32(False):
            output = model(*inputs)
    finally:
        model.train(was_training)
    return as_image(output)


def as_image(x: torch.Tensor) -> np.ndarray:
    """Convert a 1 x C x H x W tensor to an H x W x C array."""
    return x[0].permute(1, 2, 0).float().cpu().numpy()


def evaluate(
    model: nn.Module,
    scenes: SceneSet,
    device: torch.device,
    images_dir: Path | None = None,
    description: str = "test",
    world: World | None = None,
    keep: Samples | None = None,
) -> tuple[dict[str, dict[str, float]], list[Path]]:
    """Score a network on every scene; several processes share the scenes.

    Args:
        model: called as model(ms, lms).
        scenes: the scenes.
        device: of the network.
        images_dir: folder for each scene's cube and picture, or None.
        description: label of the progress bar.
        world: the processes, or None for this one alone.
        keep: collects crops of the outputs, or None.

    Returns:
        (rows, files): {scene: {metric: value}}, and the paths written, of all processes.

    Raises:
        UserError: if an output is not finite.
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
    # Process k % size scored scene k.
    rows = dict(shares[k % world.size][k // world.size] for k in range(len(scenes)))
    if keep is not None:
        keep.join(world.gather(keep), list(rows))
    return rows, sorted(path for share in world.gather(files) for path in share)


def rehearse(model: nn.Module, scenes: SceneSet, device: torch.device, edge: int = 16) -> None:
    """Score one small piece, so that a broken evaluation fails before training."""
    scene = scenes.load(scenes.entries[0])
    large = edge * scenes.n_scale
    scene.ms = scene.ms[:, :, :edge, :edge]
    scene.lms, scene.gt = scene.lms[:, :, :large, :large], scene.gt[:, :, :large, :large]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnscoredBandWarning)
        quality_assessment(as_image(scene.gt), super_resolve(model, scene, device), ratio=scenes.ergas_ratio)


def score(scene: TestScene, output: np.ndarray, ratio: int) -> dict[str, float]:
    """Return all metrics of one scene; log bands that cannot be scored.

    MPSNR leaves out bands that are reproduced exactly, such as one without light, which would make it infinite.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnscoredBandWarning)
        row = quality_assessment(as_image(scene.gt), output, ratio=ratio, band_names=scene.band_names)
    for warning in caught:
        tqdm.write(f"{scene.name}: {warning.message}")
    if np.isinf(row["MPSNR"]):
        per_band = psnr(band_mse(*(np.moveaxis(image, 2, 0) for image in (as_image(scene.gt), output))))
        exact = [name for name, value in zip(scene.band_names, per_band, strict=True) if np.isinf(value)]
        if len(exact) < len(per_band):
            row["MPSNR"] = float(np.mean(per_band[np.isfinite(per_band)]))
            tqdm.write(
                f"{scene.name}: MPSNR leaves out {len(exact)} of {len(per_band)} bands, reproduced exactly: "
                f"{', '.join(exact)}"
            )
    return row


def save_images(folder: Path, scene: TestScene, output: np.ndarray) -> list[Path]:
    """Write <scene>.mat (key sr, H x W x C single) and <scene>.png: LR, bicubic, SR, HR and the errors."""
    cube_path, picture_path = (folder / f"{file_name(scene.name)}{e}" for e in (".mat", ".png"))
    # savemat appends .mat to a path.
    with atomic_write(cube_path) as temporary, open(temporary, "wb") as f:
        scipy.io.savemat(f, {"sr": output}, do_compression=True)
    return [cube_path, save_picture(picture_path, scene, output)]


def save_picture(path: Path, scene: TestScene, output: np.ndarray) -> Path:
    """Write a PNG of LR, bicubic, SR, HR and the errors; output is H x W x C. Return the path."""
    ms, lms, gt = map(as_image, (scene.ms, scene.lms, scene.gt))
    panels = pictures.draw_comparison(ms, lms, output, gt, scene.wavelengths)
    with atomic_write(path) as temporary:
        panels.save(temporary, format="PNG")
    return path
