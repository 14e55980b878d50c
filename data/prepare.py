"""Raw download to scene stores: find the scenes of each split, read each once, write one store a split."""

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
from formats.folders import few_of
from formats.full_scale import SameScale
from system.errors import DataError, format_flags
from system.files import exclusive_lock, explain_write_errors, is_locked
from system.machine import count_usable_cores
from utils import parse_names, print_line, progress_bar, random_generator, sanitize_for_terminal

# {split: path of its store}, {split: {scene name: RawScene}}.
Stores = Mapping[str, Path]
Plan = Mapping[str, Mapping[str, RawScene]]

PROGRAM = "hsi-super-resolution 1"
# Starting processes takes seconds: fewer scenes than this are read in this one.
FEWEST_FOR_WORKERS = 12
# More processes than this wait for the disk.
MOST_WORKERS = 4


def prepare(config: Any) -> tuple[dict[str, Path], list[Path]]:
    """Write the stores of a PrepareConfig.

    Stores that are unchanged are not made again; an interrupted call continues after the last whole scene. The stores
    of all splits appear together when all are whole, and those of an older split are removed.

    Returns:
        (stores, written): {split: path} of all, and the paths of those that were not up to date.
    """
    options = CubeOptions.of(config)
    plan = {split: scenes for split, scenes in _plan_splits(config, options).items() if scenes}
    out_dir = Path(config.out_dir).expanduser()
    stores = {split: out_dir / f"{split}.h5" for split in plan}
    _refuse_inputs(stores, plan)
    attributes = {"dataset": config.dataset_name, "protocol": config.protocol, "program": PROGRAM}
    # Which scenes are LR images depends on the scale.
    if config.crop:
        attributes["crop"] = config.n_scale
    extra = {"unlabelled": {"n_scale": config.n_scale, "lr_dir": bool(config.unlabelled_lr_dir)}}
    bands = SameBands(
        "prepare the scenes of each sensor by themselves: name them with {labelled}, {unlabelled}, {test}"
    )
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
    """Refuse to write a store over a raw file."""
    files = {file.resolve() for scenes in plan.values() for scene in scenes.values() for file in scene.files}
    for path in stores.values():
        if path.resolve() in files:
            raise DataError(path, "a raw scene, in whose place the store would be written", "choose another {out_dir}")


def _find_older_stores(config: Any, out_dir: Path, stores: Stores) -> list[Path]:
    """Stores of the same data set in the folder, of splits that have no scenes now."""
    # LR images of a camera are another source: neither a reason to remove the splits of HR scenes nor part of them.
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
    """Replace stores by the new ones, and remove those of an older split."""
    for path in older:
        print_line(f"{path}: removed, it is of an older split, and this one has no scenes for it")
    # All of the old go before the first new one appears, so that no two splits are ever side by side.
    for path in (*older, *staged):
        with explain_write_errors(path):
            path.unlink(missing_ok=True)
    for path, new in staged.items():
        with explain_write_errors(path):
            os.replace(new, path)


def _list_copies(hashes: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Name test scenes whose content is that of another split's scene."""
    tested = {source: name for name, source in hashes.get("test", {}).items()}
    for split in ("labelled", "unlabelled"):
        copies = [f"{name} = {tested[its]}" for name, its in hashes.get(split, {}).items() if its in tested]
        if copies:
            yield f"{split} scenes have the same content as test scenes: {few_of(copies)}"


def _plan_splits(config: Any, options: CubeOptions) -> dict[str, dict[str, RawScene]]:
    """{split: {scene name: RawScene}}, after everything that can be missing was looked for."""
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
        _refuse_shared(config, lists)
    _refuse_missing(config, lists, sources)
    plan = {split: {n: sources[split][n] for n in names if n in sources[split]} for split, names in lists.items()}
    if not any(plan.values()):
        raise DataError(
            config.raw_dir or config.unlabelled_lr_dir,
            "none of the split's scenes is there",
            "check the path or name scenes with {labelled}, {test}",
        )
    return plan


def _refuse_shared(config: Any, lists: Mapping[str, Sequence[str]]) -> None:
    """Refuse LR images of scenes that are used in another way too."""
    for split in ("labelled", "test"):
        if shared := sorted(set(lists.get(split, ())) & set(lists["unlabelled"])):
            raise DataError(
                config.unlabelled_lr_dir,
                f"{', '.join(shared)} is a {split} scene",
                "name the unlabelled ones with {unlabelled}",
            )


def _refuse_missing(config: Any, lists: Mapping[str, Sequence[str]], sources: Plan) -> None:
    """Refuse scenes that are not there or, if that is allowed, say that they are left out."""
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
            f"add them{quote}, or go on without them by {{allow_missing}} 1",
        )
    print_line(f"going on without the missing scenes ({listed})")


def _draw_split(config: Any, found: Sequence[str]) -> dict[str, list[str]]:
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
    drawn = {
        "labelled": sorted(order[:first]),
        "unlabelled": sorted(order[first:second]),
        "test": fixed or sorted(order[second:]),
    }
    if empty := [split for split, part in zip(SPLITS, parts, strict=True) if part and not drawn[split]]:
        print_line(f"--fractions {config.fractions} of {len(rest)} scenes gives none to: {', '.join(empty)}")
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
    """Write the new store of a split beside its place; None if the one in place is up to date."""
    bands, scales = checks
    staged = _get_staging_path(path)
    for made in (path, staged):
        if contents := _read_current_contents(made, attributes, hashes):
            contents.add_to(bands)
            for name, scale in contents.scales.items():
                scales.add(f"{path}: scene {name}", scale)
            progress.update(len(scenes))
            if made == staged:
                return staged
            progress.write(sanitize_for_terminal(f"{path}: up to date"))
            staged.unlink(missing_ok=True)
            return None
    kind = "lr" if config.unlabelled_lr_dir else "hr"
    parts_dir = path.with_name(f".{path.stem}_{kind}_x{config.n_scale}{'_cropped' if config.crop else ''}.parts")
    parts = {name: parts_dir / f"{k:04d}_{hashes[name][:16]}.h5" for k, name in enumerate(scenes)}
    todo = [name for name in scenes if store.read_part_sha256(parts[name]) != hashes[name]]

    def done(name: str, remark: str = "") -> None:
        if remark:
            progress.write(sanitize_for_terminal(remark))
        its_bands, its_scale = store.describe_part(parts[name])
        bands.add(str(scenes[name].files[0]), its_bands)
        scales.add(str(scenes[name].files[0]), its_scale)
        progress.update()

    for name in scenes:
        if name not in todo:
            done(name)
    calls = {name: (parts[name], name, scenes[name], hashes[name], path.stem, config) for name in todo}
    _write_parts(calls, config.workers or min(MOST_WORKERS, count_usable_cores()), done)
    store.join_parts(staged, list(parts.values()), attributes)
    shutil.rmtree(parts_dir)
    return staged


def _get_staging_path(path: Path) -> Path:
    """Where a new store waits until those of all splits are whole."""
    return path.with_name(f".{path.name}.new")


def _write_parts(calls: Mapping[str, tuple[Any, ...]], workers: int, done: Callable[[str, str], None]) -> None:
    """Make these calls of `_write_part`, in several processes where there are enough of them."""
    if workers == 1 or len(calls) < FEWEST_FOR_WORKERS:
        for name, call in calls.items():
            done(name, _write_part(*call))
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_write_part, *call): name for name, call in calls.items()}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_part(part: Path, name: str, raw: RawScene, sha256: str, split: str, config: Any) -> str:
    """Write one scene; returns what is to be said of it, or ""."""
    scene = raw.read()
    scene.name, scene.source_sha256 = name, sha256
    scene.lr_scale = _get_lr_scale(scene, split, config)
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


def _read_current_contents(
    path: Path, attributes: Mapping[str, Any], hashes: Mapping[str, str]
) -> store.Contents | None:
    """What a store contains that was made from the same files in the same way; None for any other."""
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
    """1 for an HR scene, else the camera's scale: told by its folder, or by the size that CAVE has."""
    if split != "unlabelled":
        return 1
    quarter = config.dataset_name == "Cave" and scene.cube.shape[0] * config.n_scale == CAVE_SIZE
    return config.n_scale if config.unlabelled_lr_dir or quarter else 1
