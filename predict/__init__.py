"""Scenes of one's own made larger: `super_resolve` for arrays, and over it the command for files.

cube = np.load("scene.npy")                             # rows x columns x bands, any number type
larger = super_resolve(cube, "weights.pth", wavelengths=np.linspace(400, 700, 31))
"""

import hashlib
import json
import math
import os
import shutil
import signal
import time
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from config import PredictConfig, affecting
from data import rasters
from data.gaps import filled, mark_in, missing_values
from data.imresize import enlarge, resize_batch
from data.rasters.base import even_wavelengths
from data.spectral import apply_along_bands
from models import weights
from models.ensemble import SelfEnsemble
from predict import report
from predict import tiles as tiling
from training.processes import World
from utils import (
    Interrupted,
    UserError,
    free_memory,
    is_out_of_memory,
    progress_bar,
    replacing,
    say,
    select_device,
    without_tf32,
    writing,
)

# Band centres that differ by no more than this, in nm, are the same.
TOLERANCE = 2.0
# The bicubic enlargement of a tile reads this many LR pixels beyond it, and so equals the whole scene's.
HALO = 4
# Values this far below zero, in parts of what stands for 1, are no noise but a mark for no data.
LARGEST_NOISE = 0.05
# Floating-point values above this are no reflectance.
LARGEST_FLOAT = 2.0
# Blocks of rows looked at before work begins, and values in each.
SAMPLES, SAMPLE_VALUES = 8, 2**22
# Saving the state takes no more than one part in so many of the time.
SAVING_SHARE = 20
# What is noted of a scene that is half done.
STATE = ("fingerprint", "tile_size", "overlap", "done", "clipped", "seams")


def super_resolve(
    image,
    model,
    wavelengths=None,
    *,
    value_scale=0.0,
    nodata=None,
    resample_bands=False,
    self_ensemble=False,
    back_projection=0,
    tile_size=0,
    tile_overlap=tiling.OVERLAP,
    memory_limit=0.0,
    cuda="auto",
    verbose=False,
):
    """Super-resolve one image.

    Args:
        image: rows x columns x bands, any integer or floating-point type.
        model: name or path of weights, or a network as `models.weights.load` gives it (with n_colors, n_scale).
        wavelengths: band centres in nm; None where they are not known.
        value_scale: what stands for 1; 0: the integer type's maximum, 1 for floating point.
        nodata: value that marks missing data; NaN always does.
        resample_bands: interpolate the bands to the network's, and its detail back to them.
        self_ensemble: the mean over 8 flips and rotations.
        back_projection: how many times what the result lacks of the input is added to it.
        tile_size, tile_overlap: in pixels of the image; 0: the whole image, or tiles as the memory wants them.
        memory_limit: GB that may be used; 0: what is free.
        cuda: "auto", "1" or "0".
        verbose: say what is done, and show a progress bar.

    Returns:
        s*rows x s*columns x bands in the image's type and range; integers are rounded and clipped to their type.

    Raises:
        UserError: for bands that do not fit the network, values that cannot be understood, unusable weights.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.size == 0 or image.dtype.kind not in "fiu":
        raise UserError(f"an image is rows x columns x bands of real numbers, got {image.dtype} of {image.shape}")
    settings = PredictConfig(
        value_scale=value_scale,
        nodata="" if nodata is None else str(nodata),
        resample_bands=resample_bands,
        self_ensemble=self_ensemble,
        back_projection=back_projection,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        memory_limit=memory_limit,
        cuda=cuda,
    )
    settings.check_tiles()
    raster = rasters.from_array(image, None if wavelengths is None else np.asarray(wavelengths, dtype=np.float64))
    tell = say if verbose else lambda text: None
    scene = SceneJob(raster, Network(model, settings), settings, tell)
    result = np.empty(scene.shape, image.dtype)

    def keep(top, left, values):
        result[top : top + values.shape[0], left : left + values.shape[1]] = values

    scene.run(keep, verbose)
    return result


class Network:
    """A network on its device, and what is known of it.

    Attributes:
        model: called as model(ms, lms).
        architecture: see `tiling.bytes_needed`.
        wavelengths: band centres in nm, or None.
        fingerprint: tells these weights from others; "" for a network that was given as such.
    """

    def __init__(self, model, settings):
        self.device = select_device(settings.cuda, settings.gpus)
        if isinstance(model, torch.nn.Module):
            self.fingerprint, self.wavelengths = "", getattr(model, "wavelengths", None)
            self.architecture = {"n_colors": model.n_colors, "n_scale": model.n_scale}
            # A network of somebody's own need not say how wide it is.
            self.architecture["n_feats"] = getattr(model, "n_feats", 0)
        else:
            loaded = weights.load(model)
            model, self.architecture = loaded.model, loaded.architecture
            self.wavelengths, self.fingerprint = loaded.wavelengths, loaded.fingerprint
        self.n_colors, self.n_scale = self.architecture["n_colors"], self.architecture["n_scale"]
        model = model.to(self.device, memory_format=torch.channels_last).eval()
        self.model = SelfEnsemble(model) if settings.self_ensemble else model

    @torch.inference_mode()
    def __call__(self, ms, lms):
        ms, lms = (x.contiguous(memory_format=torch.channels_last) for x in (ms, lms))
        with without_tf32():
            return self.model(ms, lms)

    def free_memory(self, limit_gb):
        """Bytes at hand on the device: the limit, or what is free."""
        if limit_gb:
            return int(limit_gb * 1e9 / tiling.USABLE_SHARE)
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return free_memory()


class Values:
    """Between a scene's own values and 0..1.

    Args:
        dtype: of the scene.
        scale: what stands for 1.
        nodata: mark for no data, or None.
    """

    def __init__(self, dtype, scale, nodata):
        self.dtype, self.scale, self.nodata = np.dtype(dtype).newbyteorder("="), scale, nodata
        mark = None if nodata is None or not np.isfinite(nodata) else mark_in(self.dtype, nodata)
        self.mark = np.nan if mark is None and self.dtype.kind == "f" else mark

    def to_unit(self, raw):
        """Raw h x w x C -> (float32 with its gaps filled in, where these are).

        The first is None where there is nothing but gaps, the second where there are none.
        """
        missing = missing_values(raw, self.nodata)
        if missing is not None and missing.all():
            return None, missing
        divisor = raw.dtype.type(self.scale) if self.dtype.kind == "f" else np.float64(self.scale)
        unit = (raw / divisor).astype(np.float32, copy=False)
        return (unit if missing is None else filled(unit, missing)), missing

    def to_raw(self, unit, missing):
        """Values in 0..1 -> (values as the scene has them, how many had to be clipped).

        Args:
            missing: where the result has no data, or None.
        """
        clipped = 0
        if self.dtype.kind == "f":
            raw = (unit * np.float64(self.scale)).astype(self.dtype)
        else:
            info = np.iinfo(self.dtype)
            low, high = float(info.min), float(info.max)
            # The float64 next to 2**63 and 2**64 lies outside of the type.
            high = high if int(high) <= info.max else np.nextafter(high, 0)
            rounded = np.rint(unit.astype(np.float64) * self.scale)
            outside = (rounded < low) | (rounded > high)
            clipped = int(np.count_nonzero(outside if missing is None else outside & ~missing))
            raw = np.clip(rounded, low, high).astype(self.dtype)
        if self.mark is not None and self.mark == self.mark:
            # A value that happens to be the mark would become a hole.
            raw[raw == self.mark] = self._beside_mark()
        if missing is not None:
            raw[missing] = self.mark
        return raw, clipped

    def _beside_mark(self):
        if self.dtype.kind == "f":
            return np.nextafter(self.mark, self.dtype.type(np.inf))
        return self.mark + 1 if self.mark < np.iinfo(self.dtype).max else self.mark - 1


class Bands:
    """From a scene's bands to the network's and back.

    Args:
        path: of the scene, for messages.
        n_scene, n_network: numbers of bands.
        scene, network: band centres in nm, or None.
        resample: whether other bands are interpolated.

    Raises:
        UserError: with both lists, for bands that are others.
    """

    def __init__(self, path, n_scene, scene, n_network, network, resample, tell):
        self.to_network = self.to_scene = None
        known = scene is not None and network is not None
        if n_scene == n_network and (not known or np.abs(scene - network).max() <= TOLERANCE):
            if not known:
                whose = "scene's" if scene is None else "network's"
                tell(f"{path}: the {whose} wavelengths are not known, its {n_scene} bands are taken for the right ones")
            return
        if not resample or not known:
            remedy = (
                "--resample_bands 1 interpolates"
                if known
                else "--wavelengths first,last with --resample_bands 1 interpolates"
            )
            raise UserError(
                f"{path}: {_listed(n_scene, scene)}, the network was trained on {_listed(n_network, network)}; "
                f"{remedy}, or give other weights"
            )
        inside = (scene >= network.min() - TOLERANCE) & (scene <= network.max() + TOLERANCE)
        if not inside.any():
            raise UserError(
                f"{path}: {_listed(n_scene, scene)}, the network was trained on {_listed(n_network, network)}: "
                "none in common, so there is nothing to interpolate; give other weights"
            )
        self.to_network = interpolation(scene, network)
        self.to_scene = interpolation(network, scene) * inside
        outside = f", the other {np.count_nonzero(~inside)} come out bicubic" if not inside.all() else ""
        tell(
            f"{path}: {n_scene} bands ({scene.min():g}..{scene.max():g} nm) are interpolated to the network's {n_network} "
            f"({network.min():g}..{network.max():g} nm), and the detail that it finds back to the "
            f"{np.count_nonzero(inside)} in its range{outside}"
        )


def interpolation(given, wanted):
    """given x wanted matrix that interpolates spectra linearly; beyond the ends, the last value holds."""
    order = np.argsort(given)
    rows = np.eye(len(given))[:, order]
    return np.stack([np.interp(wanted, given[order], row) for row in rows])


def _listed(count, wavelengths):
    if wavelengths is None:
        return f"{count} bands of unknown wavelengths"
    return f"{count} bands ({', '.join(f'{w:g}' for w in wavelengths)} nm)"


class SceneJob:
    """One scene, ready to be super-resolved tile by tile.

    Args:
        raster: the scene.
        network: a Network.
        settings: a PredictConfig.
        tell: what takes messages for the user.
        plan: (tile_size, overlap) of a plan that was begun, or None.

    Attributes:
        plan: the tiling.Plan.
        shape: of the result.
        clipped: values clipped so far.

    Raises:
        UserError: for bands that do not fit the network, and values that cannot be understood.
    """

    def __init__(self, raster, network, settings, tell, plan=None):
        self.raster, self.network, self.settings = raster, network, settings
        self.scale = network.n_scale
        height, width, bands = raster.shape
        self.shape = (height * self.scale, width * self.scale, bands)
        self.bands = Bands(
            raster.path, bands, raster.wavelengths, network.n_colors, network.wavelengths, settings.resample_bands, tell
        )
        self.values = _values_of(raster, settings, tell)
        architecture = {**network.architecture, "n_colors": max(bands, network.n_colors)}
        free, asked = network.free_memory(settings.memory_limit), (settings.tile_size, settings.tile_overlap)
        self.plan = tiling.make_plan(architecture, height, width, free, *(plan or asked))
        self.blender = tiling.Blender(width, bands, self.scale)
        self.done = self.clipped = 0
        self._announce(tell)

    def _announce(self, tell):
        plan = self.plan
        if len(plan.tiles) > 1:
            first = plan.tiles[0]
            rows, cols = (x.stop - x.start for x in (first.rows, first.cols))
            tell(
                f"{len(plan.tiles)} tiles of {cols} x {rows} pixels that share {plan.overlap} "
                f"(the whole scene takes about {plan.needed / 1e9:.1f} GB, {plan.usable / 1e9:.1f} GB may be used); "
                f"{tiling.expected_deviation(plan)}"
            )

    def run(self, keep, show_progress, after_tile=lambda: None):
        """Go through the tiles that are not done yet.

        Args:
            keep: takes (top, left, values) of every finished window of the result.
            after_tile: called when a tile is done and kept.
        """
        tiles = self.plan.tiles
        hidden = {} if show_progress else {"disable": True}
        with progress_bar(
            total=len(tiles), initial=self.done, desc=self.raster.path.name, unit="tile", **hidden
        ) as bar:
            for tile in tiles[self.done :]:
                unit, missing = self._super_resolved(tile)
                top, left = tile.rows.done_start, tile.cols.done_start
                block = self.blender.add(tile, unit)
                if missing is not None:
                    window = missing[
                        top - tile.rows.start : tile.rows.done_stop - tile.rows.start,
                        left - tile.cols.start : tile.cols.done_stop - tile.cols.start,
                    ]
                    missing = window.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
                raw, clipped = self.values.to_raw(block, missing)
                keep(top * self.scale, left * self.scale, raw)
                self.clipped += clipped
                self.done += 1
                after_tile()
                bar.update()

    @torch.inference_mode()
    def _super_resolved(self, tile):
        """(s*h x s*w x C in 0..1, where the tile's input is missing or None)."""
        (top, rows), (left, cols) = (
            _with_halo(span, size) for span, size in zip((tile.rows, tile.cols), self.raster.shape)
        )
        unit, missing = self.values.to_unit(self.raster.read(rows, cols))
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        if missing is not None:
            missing = missing[top : top + height, left : left + width]
        s = self.scale
        if unit is None:
            return np.zeros((height * s, width * s, self.shape[2]), dtype=np.float32), missing
        x = torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1)))[None].to(self.network.device)

        def cropped(image, scale=1):
            return image[:, :, top * scale : (top + height) * scale, left * scale : (left + width) * scale]

        try:
            if self.bands.to_network is None:
                lms = cropped(enlarge(x, s), s)
                y = self.network(cropped(x), lms)
            else:
                ms = apply_along_bands(x, self.bands.to_network)
                lms = cropped(enlarge(ms, s), s)
                detail = self.network(cropped(ms), lms) - lms
                y = cropped(enlarge(x, s), s) + apply_along_bands(detail, self.bands.to_scene)
            x = cropped(x)
            for _ in range(self.settings.back_projection):
                y = y + resize_batch(x - resize_batch(y, Fraction(1, s)), s)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise UserError(
                    f"{self.raster.path}: the memory is too small for {width} x {height} pixels at once; give a smaller --tile_size"
                ) from error
            raise
        result = y[0].permute(1, 2, 0).float().cpu().numpy()
        if not np.isfinite(result).all():
            raise UserError(f"{self.raster.path}: the network's output is not finite; its weights have diverged")
        return result, missing


def _with_halo(span, size):
    """(where the span begins in it, slice of the span and HALO pixels around it within the scene)."""
    start, stop = max(0, span.start - HALO), min(size, span.stop + HALO)
    return span.start - start, slice(start, stop)


def _values_of(raster, settings, tell):
    """How a scene's values are to be understood, after a look at some of them."""
    nodata = float(settings.nodata) if settings.nodata else raster.nodata
    scale = settings.value_scale or raster.value_scale
    by_type = not scale and raster.dtype.kind in "iu"
    low, high = _range_of(raster, nodata)
    if low is None:
        tell(f"{raster.path}: nothing but missing data where it was looked at")
        low = high = 0.0
    if by_type:
        scale = float(np.iinfo(raster.dtype).max)
        if high < scale / 5:
            tell(
                f"{raster.path}: values reach {high:g}, and the type's maximum {scale:g} is taken for 1; "
                "--value_scale says what else is (10000 for most reflectance)"
            )
    elif not scale:
        scale = 1.0
        if high > LARGEST_FLOAT:
            raise UserError(
                f"{raster.path}: floating-point values up to {high:g}; say what stands for 1 by --value_scale"
            )
    elif not settings.value_scale:
        tell(f"{raster.path}: {scale:g} stands for 1, as the file says")
    if low < -LARGEST_NOISE * scale:
        raise UserError(
            f"{raster.path}: values down to {low:g} (a mark for no data?); name it by --nodata, or what stands for 1 by --value_scale"
        )
    return Values(raster.dtype, scale, nodata)


def _range_of(raster, nodata):
    """Lowest and highest value in blocks of rows over the whole height (all of a small scene); None without any."""
    height, width, bands = raster.shape
    rows = max(1, SAMPLE_VALUES // (width * bands))
    lows, highs = [], []
    for top in sorted({round(k * max(0, height - rows) / (SAMPLES - 1)) for k in range(SAMPLES)}):
        block = raster.read(slice(top, min(height, top + rows)), slice(0, width))
        missing = missing_values(block, nodata)
        if missing is None or not missing.all():
            valid = block if missing is None else block[~missing]
            lows.append(float(valid.min()))
            highs.append(float(valid.max()))
    return (min(lows), max(highs)) if lows else (None, None)


def predict(config):
    """Run a PredictConfig: one scene, or every scene of a folder.

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
        even_wavelengths(config.wavelengths, 2)
    if config.report:
        report.check_library()
    network = Network(config.model_dir, config)
    world = World(network.device)
    if source.is_file() or rasters.is_band_folder(source):
        # Of one scene each tile follows the one before: several processes share only folders.
        if not world.is_main:
            return []
        return _predict_scene(source, _target(config.output, source), network, config)
    scenes = rasters.scenes_below(source)
    if not scenes:
        raise UserError(f"--input {source}: no scene below it (.mat, .npy, .npz, HDF5, ENVI .hdr, TIFF, band PNGs)")
    return _predict_scenes(scenes, source, Path(config.output), network, config, world)


def _predict_scenes(scenes, source, folder, network, config, world):
    """Every scene of a folder into the same place of another, shared among the processes; one that fails does
    not keep the others.
    """
    if folder.is_file():
        raise UserError(f"--output {folder}: a file, where a folder is needed for {len(scenes)} scenes")
    if folder.resolve() == source.resolve():
        raise UserError(f"--output {folder}: that is the folder of the input itself; choose another")
    # Results of an earlier call below the input are no input.
    scenes = [path for path in scenes if folder.resolve() not in path.resolve().parents]
    written, failed = [], []
    for path in scenes[world.rank :: world.size]:
        target = folder / path.relative_to(source).with_name(rasters.output_name(path))
        if target.exists() and not config.overwrite:
            tqdm.write(f"{target}: is there already; --overwrite 1 makes it anew")
            continue
        try:
            written += _predict_scene(path, target, network, config)
        except UserError as error:
            failed.append(path.name)
            tqdm.write(f"failed: {error}")
    written, failed = (sum(world.gather(share), []) for share in (written, failed))
    if failed and world.is_main:
        print("\n".join(["wrote:", *(f"  {path}" for path in written)] if written else ["nothing to write"]))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(scenes)} scenes failed ({', '.join(failed)}), for the reasons above; repair or remove them"
        )
    return written


def _target(output, source):
    """The path that --output means for one scene: a file by its extension, else a folder to put it into."""
    path = Path(output)
    if path.suffix.lower() in rasters.KIND_OF_EXTENSION and not path.is_dir():
        return path
    if source.is_dir():
        return path
    if path.suffix and not path.is_dir() and not output.endswith(("/", os.sep)):
        raise UserError(
            f"--output {path}: {path.suffix} is no known format; end it with one of "
            f"{', '.join(rasters.KIND_OF_EXTENSION)}, or with / for a folder"
        )
    return path / rasters.output_name(source)


def _predict_scene(path, target, network, config):
    """Super-resolve one file into another; returns the paths written."""
    options = rasters.CubeOptions(config.key, config.band_axis, config.value_scale, config.wavelengths)
    raster = rasters.open_raster(path, options)
    output = rasters.Output(target, raster, network.n_scale)
    picture = target.with_name(f"{target.stem}_report.png") if config.report else None
    _refuse_standing(raster, output, picture, config)
    progress = Progress(output, _fingerprint(raster, network, config))
    scene = SceneJob(raster, network, config, say, progress.plan)
    whole = len(scene.plan.tiles) == 1
    try:
        with writing(output.path):
            progress.begin(scene)
            if whole:
                cube = np.empty(scene.shape, output.dtype)

                def keep(top, left, values):
                    cube[top : top + values.shape[0], left : left + values.shape[1]] = values

                scene.run(keep, True)
            else:
                raw = output.open_raw()
                scene.run(raw.write, True, lambda: progress.save(scene))
                cube = raw.cube
            say(_summary(raster, scene))
            drawn = report.draw(raster, cube, scene) if picture else None
            if picture is None:
                return output.finish(cube)
            # The picture is on the disk before the result appears, and appears after it.
            with replacing(picture) as temporary:
                temporary.write_bytes(drawn)
                return [*output.finish(cube), picture]
    except KeyboardInterrupt as stop:
        raise Interrupted(signal.SIGINT, progress.left_behind(scene)) from stop
    except BaseException:
        progress.left_behind(scene)
        raise


def _refuse_standing(raster, output, picture, config):
    """Refuse to write over the input, over what is there already, or onto a disk without room for it."""
    inputs = {p.resolve() for p in (raster.path, *raster.files)}
    for path in output.misleading_paths():
        raise UserError(
            f"--output {output.path}: beside it stands {path.name}, which readers would take for its data; move that away, or choose another name"
        )
    for path in filter(None, [*output.final_paths(), *output.replaced_paths(), picture]):
        if path.resolve() in inputs:
            raise UserError(f"--output {path}: that is the input itself; choose another name or folder")
        if not path.exists():
            continue
        if not config.overwrite:
            raise UserError(f"--output {path}: is there already; choose another name, or --overwrite 1")
        if path.is_dir() and not (output.kind == "png" and rasters.holds_only_pictures(path)):
            raise UserError(f"--output {path}: a folder with other things in it stands there; choose another name")
    folder = output.path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    held = sum(p.stat().st_blocks * 512 for p in output.work.rglob("*") if p.is_file()) if output.work.exists() else 0
    disk = shutil.disk_usage(folder)
    missing = output.nbytes_on_disk - held - disk.free
    # What has no size at all is no disk: writing there fails by itself.
    if missing > 0 and disk.total:
        raise UserError(
            f"--output {output.path}: the disk is too full by {missing / 1e6:.1f} MB "
            f"(the result takes {output.nbytes_on_disk / 1e6:.1f} MB while it is made); free some space or choose another folder"
        )


def _fingerprint(raster, network, config):
    """What the tiles of a scene depend on."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in raster.files]
    of_result = affecting(PredictConfig, "result")
    settings = {name: value for name, value in config.as_dict().items() if name in of_result}
    content = json.dumps([files, network.fingerprint, settings], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


class Progress:
    """The tiles of one scene that are done, kept beside the values until all of them are.

    In the output's work folder: progress.json (fingerprint, plan, tiles done, values clipped) and the seams to the tiles
    that follow. It is written so that whatever ends the program, the last whole state counts.

    Args:
        output: the rasters.Output.
        fingerprint: of the input, the weights and the settings; what was done under another is thrown away.

    Attributes:
        plan: (tile_size, overlap) to go on with, or None.
    """

    def __init__(self, output, fingerprint):
        self.output, self.fingerprint = output, fingerprint
        self.path = output.work / "progress.json"
        self.seams = None
        self.state = self._read()
        self.plan = (self.state["tile_size"], self.state["overlap"]) if self.state else None
        self._next_save = 0.0

    def _read(self):
        """The state to go on with, or None; self.seams is then what goes with it."""
        if not self.path.is_file():
            return None
        try:
            state = json.loads(self.path.read_text())
            if state["fingerprint"] != self.fingerprint:
                say(
                    f"{self.output.work}: tiles of another input, other weights or settings; starting from the beginning"
                )
                return None
            with np.load(self.output.work / state["seams"]) as seams:
                self.seams = seams["below"], seams["right"]
            if self.output.raw_path.stat().st_size != self.output.nbytes:
                raise ValueError("values are missing")
            return {name: state[name] for name in STATE}
        # A damaged file of whatever kind.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
            say(f"{self.output.work}: the tiles that were kept are damaged; starting from the beginning")
            return None

    def begin(self, scene):
        """Make the work folder, or put a scene where it was left."""
        if self.state is None:
            shutil.rmtree(self.output.work, ignore_errors=True)
            self.output.work.mkdir(parents=True)
            return
        scene.blender.below, scene.blender.right = self.seams
        scene.done, scene.clipped = self.state["done"], self.state["clipped"]
        say(f"{self.output.path}: going on after {scene.done} of {len(scene.plan.tiles)} tiles")

    def save(self, scene):
        """Note that so many tiles are done; large seams, which take long to write, less often than small ones."""
        started = time.monotonic()
        if started < self._next_save:
            return
        self.output.raw.flush()
        seams = f"seams_{scene.done}.npz"
        np.savez(self.output.work / seams, below=scene.blender.below, right=scene.blender.right)
        plan = scene.plan
        values = (self.fingerprint, plan.tile_size, plan.overlap, scene.done, scene.clipped, seams)
        state = dict(zip(STATE, values, strict=True))
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(state))
        if self.state:
            (self.output.work / self.state["seams"]).unlink(missing_ok=True)
        self.state = state
        now = time.monotonic()
        self._next_save = now + SAVING_SHARE * (now - started)

    def left_behind(self, scene):
        """Close what is open, throw away what nobody can go on with; returns the words for what is kept."""
        if self.state is None:
            self.output.discard()
            return "nothing was written"
        if self.output.raw:
            self.output.raw.abandon()
        return f"{self.state['done']} of {len(scene.plan.tiles)} tiles are kept; the same command goes on"


def _summary(raster, scene):
    height, width, bands = raster.shape
    words = f"{raster.path}: {width} x {height} x {bands} -> {scene.shape[1]} x {scene.shape[0]}"
    if raster.dtype.kind != "f":
        total = math.prod(scene.shape)
        words += f", {scene.clipped} of {total} values clipped to {raster.dtype.newbyteorder('=')} ({scene.clipped / total:.2%})"
    return words
