"""The command `predict`: super-resolve the file of a scene, or a folder of scenes, into files of the same format."""

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
from formats.wavelengths import find_wavelengths_file, parse_wavelengths
from predict import findings, report
from predict.device_network import DeviceNetwork
from predict.findings import Comparison
from predict.progress import Progress
from predict.scene import SceneState, SceneUpsampler
from system.errors import Interrupted, UserError, format_flags, get_signal
from system.files import atomic_write, exclusive_lock, explain_write_errors
from training.processes import World, naming_lost_peers
from utils import format_files, print_line, sanitize_for_terminal


def predict(config: PredictConfig) -> list[Path]:
    """Super-resolve one scene, or every scene of a folder.

    Returns:
        Paths of the files written.

    Raises:
        UserError: for scenes that cannot be read or written; for a folder, after all other scenes are done.
        Interrupted: after Ctrl-C, when the finished tiles are saved.
    """
    source = Path(config.input).expanduser()
    if not source.exists():
        raise UserError(f"--input {source}: no such file or folder; check the path")
    if config.wavelengths:
        parse_wavelengths(config.wavelengths)
    if config.report:
        report.check_library()
    network = DeviceNetwork(config.model_dir, config, print_line)
    world = World(network.device)
    if source.is_file() or formats.is_band_folder(source):
        target = _resolve_target(config.output, source)
        return _predict_scene(source, target, _get_report_path(target, config), network, config, world)
    scenes = formats.find_scenes_below(source, formats.CubeOptions.of(config))
    if not scenes:
        raise UserError(
            f"--input {source}: contains no scenes (.mat, .npy, .npz, HDF5, ENVI .hdr, TIFF, band PNGs); check the path"
        )
    return _predict_scenes(scenes, source, Path(config.output), network, config, world)


def get_result_settings(config: PredictConfig) -> dict[str, Any]:
    """Return the settings that affect the result; a prediction is resumed only with the same settings."""
    names = affecting(PredictConfig, "result")
    result = {name: value for name, value in config.as_dict().items() if name in names}
    # Earlier versions lack these settings; defaults are omitted, so that their predictions can be resumed.
    for name in ("precision", "normalise", "bands"):
        if result[name] == getattr(PredictConfig, name):
            del result[name]
    if not (result["resample_bands"] or config.bands == "resample"):
        del result["taper"]
    return result


def _predict_scenes(
    scenes: Sequence[Path], source: Path, folder: Path, network: DeviceNetwork, config: PredictConfig, world: World
) -> list[Path]:
    """Super-resolve every scene of a folder to the same relative path in another; processes share the scenes.

    After the failure of a scene, the remaining ones are processed.
    """
    if folder.is_file():
        raise UserError(f"--output {folder}: a file, but {len(scenes)} scenes need a folder; choose another path")
    if folder.resolve() == source.resolve():
        raise UserError(f"--output {folder}: the folder of the input itself; choose another folder")
    # Results of an earlier call in a subfolder of the input are not input.
    scenes = [path for path in scenes if folder.resolve() not in path.resolve().parents]
    targets = {path: folder / path.relative_to(source).with_name(formats.get_output_name(path)) for path in scenes}
    alike = Counter(target.with_suffix("") for target in targets.values())
    written, failed = [], []
    for path in scenes[world.rank :: world.size]:
        target = targets[path]
        if target.exists() and not config.overwrite:
            tqdm.write(
                sanitize_for_terminal(f"{target}: skipped, as it already exists; set --overwrite 1 to replace it")
            )
            continue
        try:
            picture = _get_report_path(target, config, is_stem_shared=alike[target.with_suffix("")] > 1)
            written += _predict_scene(path, target, picture, network, config, World.alone())
        except UserError as error:
            failed.append(path.name)
            tqdm.write(sanitize_for_terminal(f"failed: {error.format_for_command_line()}"))
    written, failed = (sum(world.gather(share), []) for share in (written, failed))
    if failed and world.is_main:
        print(format_files(written))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(scenes)} scenes failed ({', '.join(failed)}), see the messages above; "
            "repair or remove them"
        )
    return written


def _get_report_path(target: Path, config: PredictConfig, is_stem_shared: bool = False) -> Path | None:
    """Return the path of a result's report; None without a report."""
    if not config.report:
        return None
    return target.with_name(f"{target.name if is_stem_shared else target.stem}_report.png")


def _get_page_path(picture: Path) -> Path:
    """Return the path of the interactive report."""
    return picture.with_suffix(".html")


def _resolve_target(output: str, source: Path) -> Path:
    """Return the path of the result of one scene: --output names a file if it has an extension, else a folder."""
    path = Path(output)
    is_folder = path.is_dir() or output.endswith(("/", os.sep))
    if path.suffix.lower() in formats.KIND_OF_EXTENSION and not is_folder:
        return path
    if source.is_dir():
        return path
    if path.suffix and not is_folder:
        raise UserError(
            f"--output {path}: {path.suffix} is not a known extension; use one of "
            f"{', '.join(formats.KIND_OF_EXTENSION)}, or end the path with / for a folder"
        )
    return path / formats.get_output_name(source)


@dataclass
class _Work:
    """One scene in progress in the main process."""

    scene: SceneUpsampler
    output: formats.Output
    picture: Path | None
    progress: Progress


def _predict_scene(
    path: Path, target: Path, picture: Path | None, network: DeviceNetwork, config: PredictConfig, world: World
) -> list[Path]:
    """Super-resolve one file into another; processes share its tiles. Return the paths written."""
    with contextlib.ExitStack() as held:
        started: list[_Work] = []

        def start() -> SceneState:
            """Open the work in the main process; return the state from which the workers plan the same tiles."""
            started.append(_start(path, target, picture, network, config, world, held))
            state: Any = started[0].progress.state or started[0].scene.get_state()
            return dataclasses.replace(state, below=None, right=None)

        state = world.on_main(start)
        if not world.is_main:
            scene = SceneUpsampler(_open_scene(path, network, config), network, config, lambda text: None, state, world)
            scene.done = state.done
            with naming_lost_peers(world, lambda: "; see the error message of that process"):
                scene.run_worker()
            return []
        (work,) = started
        with naming_lost_peers(world, lambda: f"; {kept}; see the messages above"):
            kept = ""
            try:
                with explain_write_errors(work.output.path):
                    work.progress.begin(work.scene)
                    work.output.reserve()
                    cube = _compute_result(work)
                    print_line(_format_summary(work.scene))
                    return _finish(work, cube)
            except KeyboardInterrupt as stop:
                raise Interrupted(get_signal(stop), work.progress.suspend(work.scene)) from stop
            except BaseException:
                kept = work.progress.suspend(work.scene)
                raise


def _open_scene(path: Path, network: DeviceNetwork, config: PredictConfig) -> formats.Raster:
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
    """Open a scene and its output, and plan the tiles; nothing is written."""
    raster = _open_scene(path, network, config)
    output = formats.Output(target, raster, network.n_scale)
    created = held.enter_context(exclusive_lock(output.path))
    _refuse_existing(raster, output, picture, config.overwrite)
    _refuse_full_disk(output)
    progress = Progress(output, _compute_fingerprint(raster, network, config))
    scene = SceneUpsampler(raster, network, config, lambda text: print_line(format_flags(text)), progress.state, world)
    output.describe(scene.understood)
    # Created folders are kept from here on, also if the prediction fails.
    created.clear()
    return _Work(scene, output, picture, progress)


def _compute_result(work: _Work) -> np.ndarray:
    """Compute the result: in memory if the scene is one tile, else on disk, so that it can be resumed."""
    scene = work.scene
    if len(scene.plan.tiles) == 1:
        return scene.to_array(work.output.dtype, show_progress=True)
    raw = work.output.open_raw()
    scene.run(raw.write, show_progress=True, after_tile=lambda: work.progress.save(scene))
    return raw.cube


def _finish(work: _Work, cube: np.ndarray) -> list[Path]:
    """Write the result and its report; return the paths written."""
    scene = work.scene
    if work.picture is None:
        return work.output.finish(cube)
    comparison = Comparison(scene.raster, cube, scene.calibration, scene.scale, scene.bands, scene.has_data)
    found, page = findings.collect_findings(comparison), _get_page_path(work.picture)
    drawn, text = report.draw(comparison, found), report.render_viewer(comparison, found)
    # Picture and page are on the disk before the result appears, and appear after it.
    with atomic_write(work.picture) as temporary:
        temporary.write_bytes(drawn)
        with atomic_write(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
            return [*work.output.finish(cube), work.picture, page]


def _refuse_existing(raster: formats.Raster, output: formats.Output, picture: Path | None, overwrite: bool) -> None:
    """Refuse outputs that would replace the input or, without --overwrite 1, existing files."""
    inputs = {p.resolve() for p in (raster.path, *raster.files)}
    for path in output.list_misleading_paths():
        raise UserError(
            f"--output {output.path}: readers would use the existing {path.name} beside it as a part of it; "
            "move that file, or choose another name"
        )
    reports = [picture, _get_page_path(picture)] if picture else []
    for path in [*output.list_final_paths(), *output.list_replaced_paths(), *reports]:
        if path.resolve() in inputs:
            raise UserError(f"--output {path}: the input itself; choose another name or folder")
        if not path.exists():
            continue
        if not overwrite:
            raise UserError(f"--output {path}: already exists; choose another name, or set --overwrite 1")
        if path.is_dir() and not (output.kind == "png" and formats.contains_only_pictures(path)):
            raise UserError(f"--output {path}: a folder that contains other files; choose another name")


def _refuse_full_disk(output: formats.Output) -> None:
    """Refuse a disk with less free space than the result needs."""
    folder = output.path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    kept = [p for p in output.work.rglob("*") if p.is_file()] if output.work.exists() else []
    held = sum(p.stat().st_blocks * 512 for p in kept)
    disk = shutil.disk_usage(folder)
    missing = output.nbytes_on_disk - held - disk.free
    # A total of 0 means that the size is unknown; writing may fail later.
    if missing > 0 and disk.total:
        raise UserError(
            f"--output {output.path}: the disk lacks {missing / 1e6:.1f} MB (the prediction needs "
            f"{output.nbytes_on_disk / 1e6:.1f} MB); free some space or choose another folder"
        )


def _compute_fingerprint(raster: formats.Raster, network: DeviceNetwork, config: PredictConfig) -> str:
    """Return the hash of everything that the tiles of a scene depend on."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in raster.files]
    # The content of a wavelengths file may change between calls.
    given = [np.asarray(raster.wavelengths).tolist()] if find_wavelengths_file(config.wavelengths) else []
    content = json.dumps([files, network.fingerprint, get_result_settings(config), *given], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _format_summary(scene: SceneUpsampler) -> str:
    height, width, bands = scene.raster.shape
    text = f"{scene.raster.path}: {width} x {height} x {bands} -> {scene.shape[1]} x {scene.shape[0]}"
    dtype = scene.calibration.dtype
    if dtype.kind != "f":
        total = math.prod(scene.shape)
        text += f", {scene.clipped} of {total} values clipped to {dtype} ({scene.clipped / total:.2%})"
    return text
