"""Raw download to scene stores: find the scenes of each split, read each once, write one store a split."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from data import raw, store
from data.errors import DataError
from data.facts import SPLITS, published_split
from data.rasters import CubeOptions
from data.raw.cave import SIZE as CAVE_SIZE
from machine import usable_cores
from utils import listed, only_here, progress_bar, random_generator, say

PROGRAM = "hsi-super-resolution 1"
# Starting processes takes seconds: fewer scenes than this are read in this one.
FEWEST_FOR_WORKERS = 12
# More processes than this wait for the disk.
MOST_WORKERS = 4


def prepare(config: Any) -> tuple[dict[str, Path], list[Path]]:
    """Write the stores of a PrepareConfig.

    What is already there and unchanged is not read again; what is interrupted goes on from the last
    whole scene. A store appears under its name only when it is whole.

    Returns:
        (stores, written): {split: path} of all, and the paths of those that were not up to date.
    """
    options = CubeOptions.of(config)
    plan = _plan(config, options)
    out_dir = Path(config.out_dir).expanduser()
    attributes = {"dataset": config.dataset_name, "protocol": config.protocol, "program": PROGRAM}
    # Which scenes are LR images depends on the scale.
    if config.crop:
        attributes["crop"] = config.n_scale
    extra = {"unlabelled": {"n_scale": config.n_scale, "lr_dir": bool(config.unlabelled_lr_dir)}}
    stores, written = {}, []
    with progress_bar(total=sum(map(len, plan.values())), desc="prepare", unit="scene") as progress:
        for split, scenes in plan.items():
            if scenes:
                stores[split] = out_dir / f"{split}.h5"
                if _write_split(stores[split], scenes, {**attributes, **extra.get(split, {})}, config, progress):
                    written.append(stores[split])
    return stores, written


def _plan(config, options):
    """{split: {scene name: RawScene}}, after everything that can be missing was looked for."""
    found = raw.find_scenes(config.dataset_name, config.raw_dir, options) if config.raw_dir else {}
    if config.dataset_name == "DIV2K":
        return {"rgb": found}
    asked = {split: listed(getattr(config, split)) for split in SPLITS}
    lists = (
        asked if any(asked.values()) else published_split(config.dataset_name) or _drawn_split(config, sorted(found))
    )
    sources = dict.fromkeys(SPLITS, found)
    if config.unlabelled_lr_dir:
        sources["unlabelled"] = raw.find_scenes(config.dataset_name, config.unlabelled_lr_dir, options)
        lists = {**lists, "unlabelled": asked["unlabelled"] or sorted(sources["unlabelled"])}
        if not config.raw_dir:
            lists = {"unlabelled": lists["unlabelled"]}
        _refuse_shared(config, lists)
    _refuse_missing(config, lists, sources)
    plan = {split: {n: sources[split][n] for n in listed if n in sources[split]} for split, listed in lists.items()}
    if not any(plan.values()):
        raise DataError(
            config.raw_dir or config.unlabelled_lr_dir,
            "none of the split's scenes is there",
            "check the path or name scenes with {labelled}, {test}",
        )
    return plan


def _refuse_shared(config, lists):
    """Refuse LR images of scenes that are used in another way too."""
    for split in ("labelled", "test"):
        if shared := sorted(set(lists.get(split, ())) & set(lists["unlabelled"])):
            raise DataError(
                config.unlabelled_lr_dir,
                f"{', '.join(shared)} is a {split} scene",
                "name the unlabelled ones with {unlabelled}",
            )


def _refuse_missing(config, lists, sources):
    """Refuse scenes that are not there or, if that is allowed, say that they are left out."""
    missing = {split: [n for n in listed if n not in sources[split]] for split, listed in lists.items()}
    if not any(missing.values()):
        return
    listed = "; ".join(f"{split}: {', '.join(absent)}" for split, absent in missing.items() if absent)
    if not config.allow_missing:
        raise DataError(
            config.raw_dir or config.unlabelled_lr_dir,
            f"scenes are missing ({listed})",
            "add them, or go on without them by {allow_missing} 1",
        )
    say(f"going on without the missing scenes ({listed})")


def _drawn_split(config, found):
    """A split where none is published: drawn by the seed in the parts of the fractions.

    Chikusei's four test images are published; its training images are shared out by the first two parts.
    """
    parts = [float(part) for part in config.fractions.split(",")]
    fixed = [n for n in found if config.dataset_name == "Chikusei" and n.startswith("test_")]
    rest = [n for n in found if n not in fixed]
    if fixed:
        parts[2] = 0
    order = [rest[k] for k in random_generator(config.seed, "split").permutation(len(rest))]
    first = round(len(order) * parts[0] / sum(parts))
    second = first + round(len(order) * parts[1] / sum(parts))
    return {
        "labelled": sorted(order[:first]),
        "unlabelled": sorted(order[first:second]),
        "test": fixed or sorted(order[second:]),
    }


def _write_split(path, scenes, attributes, config, progress):
    """Write one store; returns whether it was not up to date."""
    with only_here(path):
        return _write_held_split(path, scenes, attributes, config, progress)


def _write_held_split(path, scenes, attributes, config, progress):
    hashes = {name: scene.sha256() for name, scene in scenes.items()}
    if _is_current(path, attributes, hashes):
        progress.update(len(scenes))
        progress.write(f"{path}: up to date")
        return False
    kind = "lr" if config.unlabelled_lr_dir else "hr"
    parts_dir = path.with_name(f".{path.stem}_{kind}_x{config.n_scale}{'_cropped' if config.crop else ''}.parts")
    parts = {name: parts_dir / f"{k:04d}_{hashes[name][:16]}.h5" for k, name in enumerate(scenes)}
    todo = [name for name in scenes if store.part_sha256(parts[name]) != hashes[name]]
    progress.update(len(scenes) - len(todo))
    calls = [(parts[name], name, scenes[name], hashes[name], path.stem, config) for name in todo]
    _write_parts(calls, config.workers or min(MOST_WORKERS, usable_cores()), progress)
    store.join_parts(path, list(parts.values()), attributes)
    shutil.rmtree(parts_dir)
    return True


def _write_parts(calls, workers, progress):
    """Make these calls of `_write_part`, in several processes where there are enough of them."""
    if workers == 1 or len(calls) < FEWEST_FOR_WORKERS:
        for call in calls:
            _done(_write_part(*call), progress)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_write_part, *call) for call in calls]
        try:
            for future in as_completed(futures):
                _done(future.result(), progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _done(remark, progress):
    if remark:
        progress.write(remark)
    progress.update()


def _write_part(part, name, raw, sha256, split, config):
    """Write one scene; returns what is to be said of it, or ""."""
    scene = raw.read()
    scene.name, scene.source_sha256 = name, sha256
    scene.lr_scale = _lr_scale(scene, split, config)
    if scene.lr_scale == 1 and min(scene.cube.shape[:2]) < 2 * config.n_scale:
        raise DataError(
            scene.source,
            f"{scene.cube.shape[1]} x {scene.cube.shape[0]} pixels, too few for x{config.n_scale}",
            "take it out",
        )
    height, width, _ = scene.cube.shape
    remark = ""
    if config.crop and scene.lr_scale == 1 and (height % config.n_scale or width % config.n_scale):
        rows, cols = (side // config.n_scale * config.n_scale for side in (height, width))
        scene.cube = scene.cube[:rows, :cols]
        remark = f"{scene.source}: cut from {width} x {height} to {cols} x {rows} pixels, multiples of {config.n_scale}"
    store.write_part(part, scene)
    return remark


def _is_current(path, attributes, hashes):
    """Whether a store was made from the same files in the same way."""
    try:
        with store.Store(path) as held:
            same_scenes = list(held.hashes.items()) == list(hashes.items())
            same_crop = held.attributes.get("crop", 0) == attributes.get("crop", 0)
            return same_scenes and same_crop and all(held.attributes.get(k) == v for k, v in attributes.items())
    except DataError:
        return False


def _lr_scale(scene, split, config):
    """1 for an HR scene, else the camera's scale: told by its folder, or by the size that CAVE has."""
    if split != "unlabelled":
        return 1
    quarter = config.dataset_name == "Cave" and scene.cube.shape[0] * config.n_scale == CAVE_SIZE
    return config.n_scale if config.unlabelled_lr_dir or quarter else 1
