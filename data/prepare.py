"""Raw download to scene stores: find the scenes of each split, read each once, write one store a split."""

import shutil
from pathlib import Path

from config import names
from data import readers, store
from utils import UserError, progress_bar

SPLITS = ("labelled", "unlabelled", "test")
PROGRAM = "hsi-super-resolution 1"


def published_split(dataset_name):
    """{split: scene names} of the published split of a data set, from data/splits/."""
    split, lists = None, {}
    for line in (
        (Path(__file__).parent / "splits" / f"{dataset_name.lower()}.txt").read_text(encoding="utf-8").splitlines()
    ):
        line = line.strip()
        if line.startswith("["):
            split = lists.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            split.append(line)
    return lists


def prepare(config):
    """Write the stores of a PrepareConfig.

    What is already there and unchanged is not read again; what is interrupted goes on from the last
    whole scene. A store appears under its name only when it is whole.

    Returns:
        Paths of the stores that were written (not of those already up to date).
    """
    found = readers.find_cave_scenes(config.raw_dir) if config.raw_dir else {}
    plan = _plan(config, found)
    out_dir = Path(config.out_dir).expanduser()
    attributes = {"dataset": config.dataset_name, "protocol": config.protocol, "program": PROGRAM}
    # Which scenes are LR images depends on the scale.
    extra = {"unlabelled": {"n_scale": config.n_scale}}
    progress = progress_bar(total=sum(map(len, plan.values())), desc="prepare", unit="scene")
    with progress:
        written = [
            _write_split(out_dir / f"{split}.h5", scenes, {**attributes, **extra.get(split, {})}, config, progress)
            for split, scenes in plan.items()
            if scenes
        ]
    return [path for path in written if path]


def _plan(config, found):
    """{split: {scene name: band files}}, after everything that can be missing was looked for."""
    asked = {split: names(getattr(config, split)) for split in SPLITS}
    lists = asked if any(asked.values()) else published_split(config.dataset_name)
    sources = dict.fromkeys(SPLITS, found)
    if config.unlabelled_lr_dir:
        sources["unlabelled"] = readers.find_cave_scenes(config.unlabelled_lr_dir, "unlabelled_lr_dir")
        lists = {**lists, "unlabelled": asked["unlabelled"] or sorted(sources["unlabelled"])}
        if not config.raw_dir:
            lists = {"unlabelled": lists["unlabelled"]}
        for split in ("labelled", "test"):
            if shared := sorted(set(lists.get(split, ())) & set(lists["unlabelled"])):
                raise UserError(
                    f"--unlabelled_lr_dir {config.unlabelled_lr_dir}: {', '.join(shared)} is a {split} scene; "
                    "name the unlabelled ones with --unlabelled"
                )
    missing = {split: [n for n in listed if n not in sources[split]] for split, listed in lists.items()}
    if any(missing.values()) and not config.allow_missing:
        listed = "; ".join(f"{split}: {', '.join(absent)}" for split, absent in missing.items() if absent)
        raise UserError(
            f"--raw_dir {config.raw_dir or config.unlabelled_lr_dir}: scenes are missing ({listed}); "
            "add them, or go on without them by --allow_missing 1"
        )
    plan = {split: {n: sources[split][n] for n in listed if n in sources[split]} for split, listed in lists.items()}
    if not any(plan.values()):
        raise UserError(
            f"--raw_dir {config.raw_dir}: none of the split's scenes is there; check the path or name scenes with --labelled, --test"
        )
    return plan


def _write_split(path, scenes, attributes, config, progress):
    """Write one store; returns its path, or None where it was up to date."""
    hashes = {name: readers.cave_source_sha256(files) for name, files in scenes.items()}
    if _is_current(path, attributes, hashes):
        progress.update(len(scenes))
        progress.write(f"{path}: up to date")
        return None
    parts_dir = path.with_name(f".{path.stem}_x{config.n_scale}.parts")
    parts = []
    for number, (name, files) in enumerate(scenes.items()):
        part = parts_dir / f"{number:04d}_{hashes[name][:16]}.h5"
        if store.part_sha256(part) != hashes[name]:
            scene = readers.read_cave_scene(name, files)
            scene.lr_scale = _lr_scale(scene, path.stem, config)
            store.write_part(part, scene)
        parts.append(part)
        progress.update()
    store.join_parts(path, parts, attributes)
    shutil.rmtree(parts_dir)
    return path


def _is_current(path, attributes, hashes):
    try:
        current = store.contents(path)
    except UserError:
        return False
    if current is None:
        return False
    held, held_hashes = current
    return (
        held_hashes == hashes
        and list(held_hashes) == list(hashes)
        and all(held.get(k) == v for k, v in attributes.items())
    )


def _lr_scale(scene, split, config):
    """1 for an HR scene, else the camera's scale: told by its folder, or by the size that CAVE has."""
    if split != "unlabelled":
        return 1
    if config.unlabelled_lr_dir or scene.cube.shape[0] * config.n_scale == readers.CAVE_SIZE:
        return config.n_scale
    return 1
