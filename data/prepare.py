"""The command `prepare`: find the raw scenes of each split, read each once, write one store for each split."""

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data import raw, store
from data.bands import SameBands
from data.raw.cave import SIZE as CAVE_SIZE
from data.raw.raw_scene import RawScene
from facts import SPLITS, load_published_split
from formats import CubeOptions
from formats.folders import format_names
from formats.full_scale import SameScale
from system.errors import DataError, format_flags
from system.files import exclusive_lock, explain_write_errors, is_locked
from system.machine import count_usable_cores
from utils import parse_names, print_line, progress_bar, random_generator, sanitize_for_terminal

# {split: path of its store}, {split: {scene name: RawScene}}.
Stores = Mapping[str, Path]
Plan = Mapping[str, Mapping[str, RawScene]]

PROGRAM = "hsi-super-resolution 1"
# Fewer scenes are read without worker processes, whose start takes seconds.
FEWEST_FOR_WORKERS = 12
# More worker processes would wait for the disk.
MOST_WORKERS = 4


def prepare(config: Any) -> tuple[dict[str, Path], list[Path]]:
    """Write the stores of a PrepareConfig.

    Current stores are not written again; an interrupted call continues after the last complete scene. The stores of
    all splits are replaced together when all are complete, and stores of an older split are removed.

    Returns:
        (stores, written): {split: path} of all stores, and the paths of those that were not current.

    Raises:
        DataError: for scenes that are missing, unreadable or of different bands.
    """
    options = CubeOptions.of(config)
    plan = {split: scenes for split, scenes in _plan_splits(config, options).items() if scenes}
    out_dir = Path(config.out_dir).expanduser()
    stores = {split: out_dir / f"{split}.h5" for split in plan}
    _refuse_inputs(stores, plan)
    attributes = {"dataset": config.dataset_name, "protocol": config.protocol, "program": PROGRAM}
    # The scale decides which scenes are LR images.
    if config.crop:
        attributes["crop"] = config.n_scale
    extra = {"unlabelled": {"n_scale": config.n_scale, "lr_dir": bool(config.unlabelled_lr_dir)}}
    bands = SameBands("prepare the scenes of each sensor separately: name them with {labelled}, {unlabelled}, {test}")
    scales = SameScale()
    staged = {}
    with contextlib.ExitStack() as held:
        for path in stores.values():
            held.enter_context(exclusive_lock(path))
        progress = held.enter_context(progress_bar(total=sum(map(len, plan.values())), desc="prepare", unit="scene"))
        hashes = {
            split: {name: scene.compute_sha256() for name, scene in scenes.items()} for split, scenes in plan.items()
        }
        for split, path in stores.items():
            about = {**attributes, **extra.get(split, {})}
            new = _stage_split(path, plan[split], hashes[split], about, config, (bands, scales), progress)
            if new:
                staged[path] = new
        _replace_stores(staged, _find_older_stores(config, out_dir, stores))
    for remark in (bands.remark, format_flags(scales.remark) if staged else "", *_list_copies(hashes)):
        if remark:
            print_line(remark)
    return stores, list(staged)


def _refuse_inputs(stores: Stores, plan: Plan) -> None:
    """Refuse stores that would overwrite a raw file."""
    files = {file.resolve() for scenes in plan.values() for scene in scenes.values() for file in scene.files}
    for path in stores.values():
        if path.resolve() in files:
            raise DataError(path, "a raw scene that the store would overwrite", "choose another {out_dir}")


def _find_older_stores(config: Any, out_dir: Path, stores: Stores) -> list[Path]:
    """Find stores of the same data set in the folder whose split has no scenes now."""
    # LR images of a camera are a separate source: stores of HR scenes are not removed for them.
    if not config.raw_dir:
        return []
    older = []
    for path in (out_dir / f"{split}.h5" for split in SPLITS if split not in stores):
        if not is_locked(path):
            _get_staging_path(path).unlink(missing_ok=True)
        with contextlib.suppress(DataError):
            if path.is_file():
                with store.Store(path) as held:
                    if held.dataset == config.dataset_name and not held.attributes.get("lr_dir"):
                        older.append(path)
    return older


def _replace_stores(staged: Mapping[Path, Path], older: Sequence[Path]) -> None:
    """Replace stores by the staged ones, and remove those of an older split."""
    for path in older:
        print_line(f"{path}: removed, as the new split has no scenes for it")
    # All old stores are removed before the first new one appears, so that two splits are never mixed.
    for path in (*older, *staged):
        with explain_write_errors(path):
            path.unlink(missing_ok=True)
    for path, new in staged.items():
        with explain_write_errors(path):
            os.replace(new, path)


def _list_copies(hashes: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield a remark for each split that contains copies of test scenes."""
    tested = {source: name for name, source in hashes.get("test", {}).items()}
    for split in ("labelled", "unlabelled"):
        copies = [f"{name} = {tested[source]}" for name, source in hashes.get(split, {}).items() if source in tested]
        if copies:
            yield f"{split} scenes have the same content as test scenes: {format_names(copies)}"


def _plan_splits(config: Any, options: CubeOptions) -> dict[str, dict[str, RawScene]]:
    """Return {split: {scene name: RawScene}}; refuse missing scenes."""
    found = raw.find_scenes(config.dataset_name, config.raw_dir, options) if config.raw_dir else {}
    if config.dataset_name == "DIV2K":
        return {"rgb": found}
    asked = {split: parse_names(getattr(config, split)) for split in SPLITS}
    lists = (
        asked
        if any(asked.values())
        else load_published_split(config.dataset_name) or _draw_split(config, sorted(found))
    )
    sources = dict.fromkeys(SPLITS, found)
    if config.unlabelled_lr_dir:
        sources["unlabelled"] = raw.find_scenes(config.dataset_name, config.unlabelled_lr_dir, options)
        lists = {**lists, "unlabelled": asked["unlabelled"] or sorted(sources["unlabelled"])}
        if not config.raw_dir:
            lists = {"unlabelled": lists["unlabelled"]}
        for split in ("labelled", "test"):
            if shared := sorted(set(lists.get(split, ())) & set(lists["unlabelled"])):
                remedy = "name the unlabelled scenes with {unlabelled}"
                raise DataError(config.unlabelled_lr_dir, f"{format_names(shared)} is a {split} scene too", remedy)
    _refuse_missing(config, lists, sources)
    plan = {split: {n: sources[split][n] for n in names if n in sources[split]} for split, names in lists.items()}
    if not any(plan.values()):
        raise DataError(
            config.raw_dir or config.unlabelled_lr_dir,
            "contains none of the split's scenes",
            "check the path, or name scenes with {labelled}, {test}",
        )
    return plan


def _refuse_missing(config: Any, lists: Mapping[str, Sequence[str]], sources: Plan) -> None:
    """Refuse missing scenes or, with --allow_missing 1, log them."""
    missing = {split: [n for n in names if n not in sources[split]] for split, names in lists.items()}
    if not any(missing.values()):
        return
    listed = "; ".join(f"{split}: {', '.join(absent)}" for split, absent in missing.items() if absent)
    if not config.allow_missing:
        has_comma = any("," in name for found in sources.values() for name in found)
        quote = ", put names that contain a comma in double quotes" if has_comma else ""
        raise DataError(
            config.raw_dir or config.unlabelled_lr_dir,
            f"scenes are missing ({listed})",
            f"add them{quote}, or set {{allow_missing}} 1 to skip them",
        )
    print_line(f"skipping missing scenes ({listed})")


def _draw_split(config: Any, found: Sequence[str]) -> dict[str, list[str]]:
    """Draw a split by the seed and the fractions, for data sets without a published split.

    Chikusei's four test images are published; its training images are split by the first two fractions.
    """
    parts = [float(part) for part in config.fractions.split(",")]
    fixed = [n for n in found if config.dataset_name == "Chikusei" and n.startswith("test_")]
    rest = [n for n in found if n not in fixed]
    if fixed:
        parts[2] = 0
    order = [rest[k] for k in random_generator(config.seed, "split").permutation(len(rest))]
    first = round(len(order) * parts[0] / sum(parts))
    second = first + round(len(order) * parts[1] / sum(parts))
    drawn = {
        "labelled": sorted(order[:first]),
        "unlabelled": sorted(order[first:second]),
        "test": fixed or sorted(order[second:]),
    }
    if empty := [split for split, part in zip(SPLITS, parts, strict=True) if part and not drawn[split]]:
        print_line(f"--fractions {config.fractions} of {len(rest)} scenes leaves no scenes for: {', '.join(empty)}")
    return drawn


def _stage_split(
    path: Path,
    scenes: Mapping[str, RawScene],
    hashes: Mapping[str, str],
    attributes: Mapping[str, Any],
    config: Any,
    checks: tuple[SameBands, SameScale],
    progress: tqdm,
) -> Path | None:
    """Write the new store of a split to its staging path and return that; None if the store is current."""
    bands, scales = checks
    staged = _get_staging_path(path)
    for candidate in (path, staged):
        if contents := _read_current_contents(candidate, attributes, hashes):
            contents.add_to(bands)
            for name, scale in contents.scales.items():
                scales.add(f"{path}: scene {name}", scale)
            progress.update(len(scenes))
            if candidate == staged:
                return staged
            progress.write(sanitize_for_terminal(f"{path}: up to date"))
            staged.unlink(missing_ok=True)
            return None
    kind = "lr" if config.unlabelled_lr_dir else "hr"
    parts_dir = path.with_name(f".{path.stem}_{kind}_x{config.n_scale}{'_cropped' if config.crop else ''}.parts")
    parts = {name: parts_dir / f"{k:04d}_{hashes[name][:16]}.h5" for k, name in enumerate(scenes)}
    todo = [name for name in scenes if store.read_part_sha256(parts[name]) != hashes[name]]

    def add_scene(name: str, remark: str = "") -> None:
        if remark:
            progress.write(sanitize_for_terminal(remark))
        scene_bands, scene_scale = store.describe_part(parts[name])
        bands.add(str(scenes[name].files[0]), scene_bands)
        scales.add(str(scenes[name].files[0]), scene_scale)
        progress.update()

    for name in scenes:
        if name not in todo:
            add_scene(name)
    calls = {name: (parts[name], name, scenes[name], hashes[name], path.stem, config) for name in todo}
    _write_parts(calls, config.workers or min(MOST_WORKERS, count_usable_cores()), add_scene)
    store.join_parts(staged, list(parts.values()), attributes)
    shutil.rmtree(parts_dir)
    return staged


def _get_staging_path(path: Path) -> Path:
    """Return the path of a new store until those of all splits are complete."""
    return path.with_name(f".{path.name}.new")


def _write_parts(calls: Mapping[str, tuple[Any, ...]], workers: int, add_scene: Callable[[str, str], None]) -> None:
    """Call `_write_part` for each scene, in worker processes if there are enough scenes."""
    if workers == 1 or len(calls) < FEWEST_FOR_WORKERS:
        for name, call in calls.items():
            add_scene(name, _write_part(*call))
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_write_part, *call): name for name, call in calls.items()}
        try:
            for future in as_completed(futures):
                add_scene(futures[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_part(part: Path, name: str, raw: RawScene, sha256: str, split: str, config: Any) -> str:
    """Write one scene; return a remark for the user, or ""."""
    scene = raw.read()
    scene.name, scene.source_sha256 = name, sha256
    scene.lr_scale = _get_lr_scale(scene, split, config)
    if scene.lr_scale == 1 and min(scene.cube.shape[:2]) < 2 * config.n_scale:
        raise DataError(
            scene.source,
            f"{scene.cube.shape[1]} x {scene.cube.shape[0]} pixels, too few for x{config.n_scale}",
            "remove this scene",
        )
    height, width, _ = scene.cube.shape
    remark = ""
    if config.crop and scene.lr_scale == 1 and (height % config.n_scale or width % config.n_scale):
        rows, cols = (side // config.n_scale * config.n_scale for side in (height, width))
        scene.cube = scene.cube[:rows, :cols]
        remark = (
            f"{scene.source}: cropped from {width} x {height} to {cols} x {rows} pixels, multiples of {config.n_scale}"
        )
    store.write_part(part, scene)
    return remark


def _read_current_contents(
    path: Path, attributes: Mapping[str, Any], hashes: Mapping[str, str]
) -> store.Contents | None:
    """Return the contents of a store if it was prepared from the same files with the same settings, else None."""
    if not path.is_file():
        return None
    try:
        with store.Store(path) as held:
            wanted = {"crop": 0, **attributes}
            same = list(held.hashes.items()) == list(hashes.items())
            same = same and all(held.attributes.get(name, 0) == value for name, value in wanted.items())
            return held.contents if same else None
    except DataError:
        return None


def _get_lr_scale(scene: store.Scene, split: str, config: Any) -> int:
    """Return 1 for an HR scene, else the scale of the LR image: by its folder, or by its size for CAVE."""
    if split != "unlabelled":
        return 1
    quarter = config.dataset_name == "Cave" and scene.cube.shape[0] * config.n_scale == CAVE_SIZE
    return config.n_scale if config.unlabelled_lr_dir or quarter else 1
