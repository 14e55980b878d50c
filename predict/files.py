"""The command: one scene's file, or a folder of them, made larger into files of the same kind."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import formats
from config import PredictConfig, affecting
from formats.wavelengths import given_wavelengths, wavelengths_file
from predict import findings, report
from predict.device_network import DeviceNetwork
from predict.findings import Comparison
from predict.progress import Progress
from predict.scene import SceneState, SceneUpscaling
from system.errors import Interrupted, UserError, as_flags, signal_of
from system.files import atomic_write, exclusive_lock, explaining_write_errors
from training.processes import World, naming_lost_peers
from utils import as_utf8, print_line, sanitize_for_terminal


def predict(config: PredictConfig) -> list[Path]:
    """Super-resolve one scene, or every scene of a folder.

    Returns:
        Paths of the files written.

    Raises:
        UserError: for what cannot be read, understood or written; of a folder, at the end, when the others are done.
        Interrupted: after Ctrl-C, when the tiles that are done are safe.
    """
    source = Path(config.input).expanduser()
    if not source.exists():
        raise UserError(f"--input {source}: no such file or folder; check the path")
    if config.wavelengths:
        given_wavelengths(config.wavelengths)
    if config.report:
        report.check_library()
    network = DeviceNetwork(config.model_dir, config, print_line)
    world = World(network.device)
    if source.is_file() or formats.is_band_folder(source):
        target = _target(config.output, source)
        return _predict_scene(source, target, _picture_of(target, config), network, config, world)
    scenes = formats.scenes_below(source, formats.CubeOptions.of(config))
    if not scenes:
        raise UserError(f"--input {source}: no scene below it (.mat, .npy, .npz, HDF5, ENVI .hdr, TIFF, band PNGs)")
    return _predict_scenes(scenes, source, Path(config.output), network, config, world)


def settings_of_result(config: PredictConfig) -> dict[str, Any]:
    """The settings on which the result depends; tiles done under others are not gone on with."""
    names = affecting(PredictConfig, "result")
    result = {name: value for name, value in config.as_dict().items() if name in names}
    # These came later: tiles of a program without them are gone on with.
    for name in ("precision", "normalise", "bands"):
        if result[name] == getattr(PredictConfig, name):
            del result[name]
    if not (result["resample_bands"] or config.bands == "resample"):
        del result["taper"]
    return result


def _predict_scenes(
    scenes: Sequence[Path], source: Path, folder: Path, network: DeviceNetwork, config: PredictConfig, world: World
) -> list[Path]:
    """Every scene of a folder into the same place of another, shared among the processes.

    One that fails does not keep the others.
    """
    if folder.is_file():
        raise UserError(f"--output {folder}: a file, where a folder is needed for {len(scenes)} scenes")
    if folder.resolve() == source.resolve():
        raise UserError(f"--output {folder}: that is the folder of the input itself; choose another")
    # Results of an earlier call below the input are no input.
    scenes = [path for path in scenes if folder.resolve() not in path.resolve().parents]
    targets = {path: folder / path.relative_to(source).with_name(formats.output_name(path)) for path in scenes}
    alike = Counter(target.with_suffix("") for target in targets.values())
    written, failed = [], []
    for path in scenes[world.rank :: world.size]:
        target = targets[path]
        if target.exists() and not config.overwrite:
            tqdm.write(sanitize_for_terminal(f"{target}: is there already; --overwrite 1 makes it anew"))
            continue
        try:
            picture = _picture_of(target, config, is_stem_shared=alike[target.with_suffix("")] > 1)
            written += _predict_scene(path, target, picture, network, config, World.alone())
        except UserError as error:
            failed.append(path.name)
            tqdm.write(sanitize_for_terminal(f"failed: {error.on_command_line()}"))
    written, failed = (sum(world.gather(share), []) for share in (written, failed))
    if failed and world.is_main:
        print(
            "\n".join(["wrote:", *(f"  {as_utf8(str(path))}" for path in written)] if written else ["nothing to write"])
        )
    if failed:
        raise UserError(
            f"{len(failed)} of {len(scenes)} scenes failed ({', '.join(failed)}), for the reasons above; "
            "repair or remove them"
        )
    return written


def _picture_of(target: Path, config: PredictConfig, is_stem_shared: bool = False) -> Path | None:
    """Where the report of a result goes; None without one."""
    if not config.report:
        return None
    return target.with_name(f"{target.name if is_stem_shared else target.stem}_report.png")


def _page_of(picture: Path) -> Path:
    """The path of the interactive report."""
    return picture.with_suffix(".html")


def _target(output: str, source: Path) -> Path:
    """The path that --output means for one scene: a file by its extension, else a folder to put it into."""
    path = Path(output)
    is_folder = path.is_dir() or output.endswith(("/", os.sep))
    if path.suffix.lower() in formats.KIND_OF_EXTENSION and not is_folder:
        return path
    if source.is_dir():
        return path
    if path.suffix and not is_folder:
        raise UserError(
            f"--output {path}: {path.suffix} is no known format; end it with one of "
            f"{', '.join(formats.KIND_OF_EXTENSION)}, or with / for a folder"
        )
    return path / formats.output_name(source)


@dataclass
class _Work:
    """One scene being made larger in the process that writes."""

    scene: SceneUpscaling
    output: formats.Output
    picture: Path | None
    progress: Progress


def _predict_scene(
    path: Path, target: Path, picture: Path | None, network: DeviceNetwork, config: PredictConfig, world: World
) -> list[Path]:
    """Super-resolve one file into another; the processes share its tiles. Returns the paths written."""
    with contextlib.ExitStack() as held:
        return _predict_held(path, target, picture, network, config, world, held)


def _predict_held(
    path: Path,
    target: Path,
    picture: Path | None,
    network: DeviceNetwork,
    config: PredictConfig,
    world: World,
    held: contextlib.ExitStack,
) -> list[Path]:
    """The same; the output stays this process's own until `held` is left."""
    started: list[_Work] = []

    def start() -> SceneState:
        """What the other processes need to make the same tiles."""
        started.append(_start(path, target, picture, network, config, world, held))
        state: Any = started[0].progress.state or started[0].scene.state()
        return dataclasses.replace(state, below=None, right=None)

    state = world.on_main(start)
    if not world.is_main:
        scene = SceneUpscaling(_open(path, network, config), network, config, lambda text: None, state, world)
        scene.done = state.done
        with naming_lost_peers(world, lambda: "; its own message says why"):
            scene.help()
        return []
    (work,) = started
    with naming_lost_peers(world, lambda: f"; {kept}; the reason may stand above"):
        kept = ""
        try:
            with explaining_write_errors(work.output.path):
                work.progress.begin(work.scene)
                work.output.reserve()
                cube = _values(work)
                print_line(_summary(work.scene))
                return _finished(work, cube)
        except KeyboardInterrupt as stop:
            raise Interrupted(signal_of(stop), work.progress.left_behind(work.scene)) from stop
        except BaseException:
            kept = work.progress.left_behind(work.scene)
            raise


def _open(path: Path, network: DeviceNetwork, config: PredictConfig) -> formats.Raster:
    return formats.open_raster(path, formats.CubeOptions.of(config, network.bands.count))


def _start(
    path: Path,
    target: Path,
    picture: Path | None,
    network: DeviceNetwork,
    config: PredictConfig,
    world: World,
    held: contextlib.ExitStack,
) -> _Work:
    """Open a scene and its result, and plan the work; nothing is written."""
    raster = _open(path, network, config)
    output = formats.Output(target, raster, network.n_scale)
    made = held.enter_context(exclusive_lock(output.path))
    _refuse_standing(raster, output, picture, config.overwrite)
    _refuse_full_disk(output)
    progress = Progress(output, _fingerprint(raster, network, config))
    scene = SceneUpscaling(raster, network, config, lambda text: print_line(as_flags(text)), progress.state, world)
    output.describe(scene.understood)
    # From here on the folder is the result's, whatever becomes of it.
    made.clear()
    return _Work(scene, output, picture, progress)


def _values(work: _Work) -> np.ndarray:
    """The result: in memory where the scene is one tile, else on the disk, where half of it can be kept."""
    scene = work.scene
    if len(scene.plan.tiles) == 1:
        return scene.to_array(work.output.dtype, show_progress=True)
    raw = work.output.open_raw()
    scene.run(raw.write, show_progress=True, after_tile=lambda: work.progress.save(scene))
    return raw.cube


def _finished(work: _Work, cube: np.ndarray) -> list[Path]:
    """Put the result in its place, and the report that is drawn of it; returns the paths written."""
    scene = work.scene
    if work.picture is None:
        return work.output.finish(cube)
    comparison = Comparison(scene.raster, cube, scene.calibration, scene.scale, scene.bands, scene.has_data)
    found, page = findings.find(comparison), _page_of(work.picture)
    drawn, text = report.draw(comparison, found), report.render_viewer(comparison, found)
    # Picture and page are on the disk before the result appears, and appear after it.
    with atomic_write(work.picture) as temporary:
        temporary.write_bytes(drawn)
        with atomic_write(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
            return [*work.output.finish(cube), work.picture, page]


def _refuse_standing(raster: formats.Raster, output: formats.Output, picture: Path | None, overwrite: bool) -> None:
    """Refuse to write over the input, or over what is there already."""
    inputs = {p.resolve() for p in (raster.path, *raster.files)}
    for path in output.misleading_paths():
        raise UserError(
            f"--output {output.path}: beside it stands {path.name}, which readers would take for a part of it; "
            "move that away, or choose another name"
        )
    reports = [picture, _page_of(picture)] if picture else []
    for path in [*output.final_paths(), *output.replaced_paths(), *reports]:
        if path.resolve() in inputs:
            raise UserError(f"--output {path}: that is the input itself; choose another name or folder")
        if not path.exists():
            continue
        if not overwrite:
            raise UserError(f"--output {path}: is there already; choose another name, or --overwrite 1")
        if path.is_dir() and not (output.kind == "png" and formats.holds_only_pictures(path)):
            raise UserError(f"--output {path}: a folder with other things in it stands there; choose another name")


def _refuse_full_disk(output: formats.Output) -> None:
    """Refuse to begin on a disk that has no room for the whole result."""
    folder = output.path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    kept = [p for p in output.work.rglob("*") if p.is_file()] if output.work.exists() else []
    held = sum(p.stat().st_blocks * 512 for p in kept)
    disk = shutil.disk_usage(folder)
    missing = output.nbytes_on_disk - held - disk.free
    # What has no size at all is no disk: writing there fails by itself.
    if missing > 0 and disk.total:
        raise UserError(
            f"--output {output.path}: the disk is too full by {missing / 1e6:.1f} MB (the result takes "
            f"{output.nbytes_on_disk / 1e6:.1f} MB while it is made); free some space or choose another folder"
        )


def _fingerprint(raster: formats.Raster, network: DeviceNetwork, config: PredictConfig) -> str:
    """What the tiles of a scene depend on."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in raster.files]
    # A file of wavelengths may have changed since.
    given = [np.asarray(raster.wavelengths).tolist()] if wavelengths_file(config.wavelengths) else []
    content = json.dumps([files, network.fingerprint, settings_of_result(config), *given], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _summary(scene: SceneUpscaling) -> str:
    height, width, bands = scene.raster.shape
    words = f"{scene.raster.path}: {width} x {height} x {bands} -> {scene.shape[1]} x {scene.shape[0]}"
    number = scene.calibration.dtype
    if number.kind != "f":
        total = math.prod(scene.shape)
        words += f", {scene.clipped} of {total} values clipped to {number} ({scene.clipped / total:.2%})"
    return words
