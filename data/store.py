"""The scene store: one HDF5 file per split, every scene once, in its own number type.

/                       attributes: format, dataset, protocol, program
/scenes/<name>          H x W x C as in the raw files, chunked so that a patch reads little
                        attributes: value_scale_corrected, value_scale_published (divide by it to
                        get 0..1), lr_scale (1: HR; 4: an LR image of a x4 camera), wavelengths (nm,
                        where known), source, source_sha256
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.bands import BandList, SameBands
from facts import LARGEST_SCALE, PROTOCOLS, SCALES
from formats.folders import ORIGIN, STORE_FORMAT
from formats.full_scale import FullScale
from formats.guard import Progress, call_guarded
from formats.hdf5_structure import open_hdf5, read_attributes, read_ends
from formats.kinds import unreadable_as
from system.errors import DataError, refuse_small_memory
from system.files import atomic_write
from utils import scene_name

FORMAT = STORE_FORMAT
# Rows and columns of the pieces in which a scene is packed.
CHUNK = 64
# DEFLATE makes nothing smaller than a 1032th: a scene of more values than its file can hold was never written.
MOST_PACKED = 2000


@dataclass
class Scene:
    """One image.

    Attributes:
        name: its name in lists and tables.
        cube: H x W x C, in the raw files' number type.
        value_scale: what cube is divided by to come to 0..1.
        published_value_scale: the same under the "published" protocol (CAVE's 8-bit watercolors).
        lr_scale: 1 for an HR image; s for an LR image whose HR would be s times as large.
        wavelengths: C band centres in nm, or None.
        source, source_sha256: where it was read from, and one hash of those files and the options of their reading.
        is_scale_assumed: True if value_scale is the maximum of an integer type, which nothing declares.
    """

    name: str
    cube: np.ndarray
    value_scale: float
    published_value_scale: float | None = None
    lr_scale: int = 1
    wavelengths: np.ndarray | None = None
    source: str = ""
    source_sha256: str = ""
    is_scale_assumed: bool = False

    def get_scale(self, protocol: str) -> float:
        """What cube is divided by under a protocol, "corrected" or "published"."""
        return self.published_value_scale or self.value_scale if protocol == "published" else self.value_scale

    def values(self, protocol: str = "corrected") -> np.ndarray:
        """H x W x C float32 in 0..1."""
        return (self.cube / np.float64(self.get_scale(protocol))).astype(np.float32)

    @property
    def band_names(self) -> list[str]:
        """C names for messages: "450 nm", or "band 6" where the wavelengths are not known."""
        if self.wavelengths is None:
            return [f"band {k + 1}" for k in range(self.cube.shape[2])]
        return [f"{w:g} nm" for w in self.wavelengths]


def write_part(path: Path, scene: Scene) -> None:
    """Write one scene into a file of its own, whole or not at all."""
    # HDF5 on a full disk reports in several places, some out of reach: the file is made in memory first.
    with h5py.File("part", "w", driver="core", backing_store=False) as f:
        height, width, bands = scene.cube.shape
        dataset = f.create_dataset(
            "scene",
            data=scene.cube,
            chunks=(min(CHUNK, height), min(CHUNK, width), bands),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            # Each chunk carries a checksum, so that damage is found on reading.
            fletcher32=True,
        )
        dataset.attrs["name"] = scene_name(scene.name)
        dataset.attrs["value_scale_corrected"] = float(scene.value_scale)
        dataset.attrs["value_scale_published"] = float(scene.get_scale("published"))
        dataset.attrs["lr_scale"] = scene.lr_scale
        if scene.is_scale_assumed:
            dataset.attrs["assumed_scale_highest"] = float(scene.cube.max())
        dataset.attrs["source"] = scene_name(scene.source)
        dataset.attrs["source_sha256"] = scene.source_sha256
        if scene.wavelengths is not None:
            dataset.attrs["wavelengths"] = np.asarray(scene.wavelengths, dtype=np.float64)
        f.flush()
        content = f.id.get_file_image()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def read_part_sha256(path: Path) -> str | None:
    """The source hash of a part, or None where there is no readable part."""
    try:
        with open_hdf5(path) as f:
            sha256 = f["scene"].attrs["source_sha256"]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError):
        return None
    return sha256 if isinstance(sha256, str) else None


def describe_part(path: Path) -> tuple[BandList, FullScale]:
    """The bands and the full-scale value of a part that `write_part` has written."""
    with h5py.File(path, "r") as f:
        scene = f["scene"]
        return _read_bands(scene.shape, scene.attrs), _read_full_scale(scene.dtype, scene.attrs)


def join_parts(path: Path, parts: Sequence[Path], attributes: Mapping[str, Any]) -> None:
    """Gather parts into a store, in their order, whole or not at all.

    Raises:
        DataError: where the disk has no room for it.
    """
    needed = sum(Path(part).stat().st_size for part in parts) * 1.02 + 2**20
    if shutil.disk_usage(Path(path).parent).free < needed:
        raise DataError(path, "the disk is full", f"free {needed / 1e6:.0f} MB and run the same command again")
    with atomic_write(path) as temporary, open_hdf5(temporary, "w") as store:
        store.attrs.update({"format": FORMAT, **attributes})
        group = store.create_group("scenes", track_order=True)
        for part in parts:
            with open_hdf5(part) as f:
                f.copy("scene", group, name=_make_key(f["scene"].attrs["name"]))


@dataclass
class _StoredScene:
    """A store's scene as long as it is not read: its name in the file, and what describes it."""

    key: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    attributes: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Store:
    """A scene store, opened once; closed by `close` or a with statement.

    Args:
        path: of the file.
        with_pixels: whether pixels are going to be read, so that they are checked too.

    Attributes:
        path: of the file.
        dataset, protocol: what it was prepared from, and for.
        attributes: all that it says of itself.
        names: of its scenes, in its order.
        hashes: {scene: source hash}.
        bands: {scene: its BandList}.
        scales: {scene: its FullScale}.
        wavelengths: centres in nm of the bands, of the first scene that knows them, else None.
        n_colors: bands of the first scene; 0 for a store without scenes.
        nbytes: that all scenes take in memory.

    Raises:
        DataError: for a file that is not a store, is damaged, or is locked by another program.
    """

    def __init__(self, path: str | Path, with_pixels: bool = True) -> None:
        self.path = Path(path)
        place = self.path.expanduser()
        try:
            self.attributes, self._held = call_guarded(
                place, lambda progress: _read_structure(self.path, with_pixels, progress)
            )
            self._file = open_hdf5(place)
        except DataError:
            raise
        # What HDF5 says of a damaged file depends on where it is damaged.
        except Exception as error:
            refuse_small_memory(path, error)
            remedies = "copy it again, or make it with the command prepare", "make one with the command prepare"
            raise unreadable_as(path, "a scene store", "store", remedies, error) from error
        self.dataset, self.protocol = self.attributes["dataset"], self.attributes["protocol"]
        self.names = list(self._held)
        self.hashes = {name: held.attributes["source_sha256"] for name, held in self._held.items()}
        self.nbytes = sum(d.nbytes for d in self._held.values())
        first = next(iter(self._held.values()), None)
        self.bands = {name: _read_bands(held.shape, held.attributes) for name, held in self._held.items()}
        self.scales = {name: _read_full_scale(held.dtype, held.attributes) for name, held in self._held.items()}
        self.wavelengths = self.contents.wavelengths
        self.n_colors = 0 if first is None else first.shape[2]

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; cubes of it can then no longer be read."""
        self._file.close()

    @property
    def contents(self) -> "Contents":
        """Bands and hashes of the scenes."""
        return Contents(self.path, self.bands, self.hashes, self.scales)

    def read(self, name: str) -> Scene:
        """Read one scene.

        Raises:
            DataError: where the file is damaged there.
        """
        try:
            cube = _to_native(self._dataset(name)[:])
        except (OSError, RuntimeError, ValueError) as error:
            raise self._unreadable(name, error) from error
        _refuse_nonfinite(self.path, name, cube)
        attributes = self._held[name].attributes
        return Scene(
            name=attributes["name"],
            cube=cube,
            value_scale=attributes["value_scale_corrected"],
            published_value_scale=attributes["value_scale_published"],
            lr_scale=int(attributes["lr_scale"]),
            wavelengths=attributes.get("wavelengths"),
            source=attributes["source"],
            source_sha256=attributes["source_sha256"],
        )

    def cube(self, name: str) -> "ChunkedCube":
        """A scene that stays on disk; it needs the store to stay open."""
        return ChunkedCube(
            self._dataset(name),
            lambda error: self._unreadable(name, error),
            lambda pixels: _refuse_nonfinite(self.path, name, pixels),
        )

    def get_scale_and_kind(self, name: str, protocol: str) -> tuple[float, int]:
        """(what a scene's values are divided by under a protocol, its lr_scale), without reading it."""
        attributes = self._held[name].attributes
        return attributes[f"value_scale_{protocol}"], int(attributes["lr_scale"])

    def format_scene(self, name: str) -> str:
        """A scene's size, type, scale and origin as text."""
        held = self._held[name]
        (rows, cols, bands), a = held.shape, held.attributes
        kind = "HR" if a["lr_scale"] == 1 else f"LR of a x{a['lr_scale']} camera"
        scale = f"/ {a['value_scale_corrected']:g}"
        if a["value_scale_published"] != a["value_scale_corrected"]:
            scale += f" (published: / {a['value_scale_published']:g})"
        waves = a.get("wavelengths")
        spectrum = "wavelengths unknown" if waves is None else f"{waves[0]:g}..{waves[-1]:g} nm"
        origin = f"from {a['source']} (hash of the source files and options {a['source_sha256'][:12]})"
        return f"  {name}: {cols} x {rows} x {bands} {held.dtype} {scale}, {kind}, {spectrum}, {origin}"

    def verify(self, name: str) -> None:
        """Read a scene and check that its values are not all the same."""
        cube = self.read(name).cube
        if cube.min() == cube.max():
            raise DataError(self.path, f"scene {name} holds no image any more", "prepare it again")

    def _dataset(self, name: str) -> h5py.Dataset:
        return self._file["scenes"][self._held[name].key]

    def _unreadable(self, name: str, error: Exception) -> DataError:
        return DataError(self.path, f"scene {name} cannot be read ({error})", "copy the store or prepare it again")


@dataclass(frozen=True)
class Contents:
    """The scenes of a store, or the files of a folder, as far as they are compared with those of other sets.

    Attributes:
        path: the store or folder.
        bands: {scene: its BandList}.
        hashes: {scene: source hash}; of a folder without hashes, {file name: its path}.
        scales: {scene: its FullScale}; empty for a folder.
    """

    path: Path
    bands: Mapping[str, BandList]
    hashes: Mapping[str, str]
    scales: Mapping[str, FullScale] = field(default_factory=dict)

    @property
    def wavelengths(self) -> np.ndarray | None:
        """Band centres in nm of the first scene that knows them, else None."""
        return next((b.centres for b in self.bands.values() if b.centres is not None), None)

    def add_to(self, bands: SameBands) -> None:
        """Compare the scenes with those of other sets; see `SameBands.add`."""
        for name, its in self.bands.items():
            bands.add(f"{self.path}: scene {name}", its)

    def find_shared(self, others: "Contents") -> list[tuple[str, str]]:
        """(name here, name there) of the scenes that come from the same source."""
        names = {source: name for name, source in self.hashes.items() if source}
        return [(names[source], name) for name, source in others.hashes.items() if source in names]


def describe_folder(folder: str | Path, files: Sequence[Path], n_colors: int = 0) -> Contents:
    """The Contents of a folder of .mat files; of exported patches, with the hashes of the scenes.

    Args:
        folder, files: the folder and its .mat files.
        n_colors: their bands; 0 if these are checked elsewhere.
    """
    folder = Path(folder).expanduser()
    hashes: dict[str, str] = {path.name: os.path.realpath(path) for path in files}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        hashes = dict(json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["scenes"])
    return Contents(folder, {path.name: BandList(n_colors, None) for path in files[:1] if n_colors}, hashes)


class ChunkedCube:
    """A scene that stays on disk: cube[i:j, k:l] reads the chunks that hold those pixels.

    Args:
        dataset: of an open store.
        unreadable: makes the error for a chunk that cannot be read of the library's.
        check: takes what was read, and raises an error where it cannot be used.

    Attributes:
        shape, dtype, nbytes: of the whole H x W x C array.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        unreadable: Callable[[Exception], DataError],
        check: Callable[[np.ndarray], None],
    ) -> None:
        self._dataset, self._unreadable, self._check = dataset, unreadable, check
        self.shape, self.dtype, self.nbytes = dataset.shape, dataset.dtype.newbyteorder("="), dataset.nbytes

    def __getitem__(self, window: Any) -> np.ndarray:
        """The pixels of a window."""
        try:
            pixels = _to_native(self._dataset[window])
        except (OSError, RuntimeError, ValueError) as error:
            raise self._unreadable(error) from error
        self._check(pixels)
        return pixels


def is_store(path: str | Path) -> bool:
    """Whether a path is a scene store: any file is taken for one, and refused when it is opened if it is none."""
    return Path(path).expanduser().is_file()


def describe(path: str | Path, verify: bool = False) -> str:
    """A store's content as text: its attributes, and size, type, scale and origin of every scene.

    Args:
        path: of the store.
        verify: read every scene and check that its values are finite and not all the same.

    Raises:
        DataError: if it is no store, or, on verifying, for the first scene that is damaged.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(path, "no such file", "give the path of a store")
    with Store(path, with_pixels=verify) as store:
        about = ", ".join(f"{k} {v}" for k, v in sorted(store.attributes.items()) if k != "format")
        lines = [f"{path}: {len(store.names)} scenes, {path.stat().st_size / 1e6:.1f} MB, {about}"]
        for name in store.names:
            lines.append(store.format_scene(name))
            if verify:
                store.verify(name)
    if verify:
        lines.append("  every scene was read and is sound")
    return "\n".join(lines)


def print_store(config: Any) -> None:
    """Print what a store holds, as a `config.InfoConfig` asks."""
    print(describe(config.store, config.verify))


def _refuse_nonfinite(path: Path, name: str, pixels: np.ndarray) -> None:
    """Refuse values that are no numbers: a network makes more of them, and its weights would be blamed."""
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        bad = pixels.size - np.count_nonzero(finite)
        raise DataError(
            path, f"scene {name} has {bad} values that are NaN or infinite", "fill them and prepare it again"
        )


def _to_native(array: np.ndarray) -> np.ndarray:
    """In this machine's order of bytes, the only one that torch takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_structure(
    path: Path, with_pixels: bool, progress: Progress
) -> tuple[dict[str, Any], dict[str, _StoredScene]]:
    """(attributes, {name: scene}) of a store, checked as `write_part` and `join_parts` make them.

    Raises:
        DataError: naming the scene and what is wrong with it.
    """
    with open_hdf5(path.expanduser()) as f:
        attributes = read_attributes(f)
        if attributes.get("format") != FORMAT:
            raise DataError(path, "an HDF5 file, but no scene store", "make one with the command prepare")
        if not isinstance(attributes["dataset"], str) or attributes["protocol"] not in PROTOCOLS:
            raise DataError(path, "a store without its data set and protocol", "prepare it again")
        if not all(_is_text(value) for value in attributes.values() if isinstance(value, str)):
            raise DataError(path, "a store with attributes that are no UTF-8", "prepare it again")
        group, scenes = _get_own(f, "scenes"), {}
        if not isinstance(group, h5py.Group):
            raise DataError(path, "its scenes are in no group of its own", "prepare it again")
        for key in group:
            progress()
            item = _get_own(group, key)
            of_scene = read_attributes(item) if isinstance(item, h5py.Dataset) else {}
            wrong = _find_defect(item, of_scene)
            if not wrong and of_scene["name"] in scenes:
                wrong = f"is called {of_scene['name']}, as another"
            if wrong:
                shown = key.encode(errors="backslashreplace").decode()
                raise DataError(path, f"scene {shown} {wrong}", "prepare it again")
            if with_pixels:
                # Pixels that cannot be read are reported when they are asked for.
                with contextlib.suppress(Exception):
                    read_ends(item)
            scenes[of_scene["name"]] = _StoredScene(key, item.shape, item.dtype, of_scene)
    return attributes, scenes


def _read_full_scale(dtype: np.dtype, attributes: Mapping[str, Any]) -> FullScale:
    """The full-scale value of a store's scene; stores of earlier versions do not record that it is assumed."""
    highest: Any = attributes.get("assumed_scale_highest")
    is_assumed = _is_number(highest)
    return FullScale(float(attributes["value_scale_corrected"]), dtype, float(highest) if is_assumed else None)


def _read_bands(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> BandList:
    return BandList(shape[2], attributes.get("wavelengths"))


def _get_own(group: h5py.Group, key: str) -> Any:
    """What a group itself holds under a name; None for a link to elsewhere.

    Raises:
        KeyError: where there is nothing of the name.
    """
    link = group.get(key, getlink=True)
    return None if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)) else group[key]


def _is_text(value: object) -> bool:
    """Whether something is a text. HDF5 gives bytes that are no UTF-8 as surrogates, which nothing can write."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _find_defect(item: Any, attributes: dict[str, Any]) -> str:
    """What is not as it should be in a store's scene, in words; "" for nothing."""
    if not isinstance(item, h5py.Dataset):
        return "is no array of the store's own"
    if item.is_virtual or item.external:
        return "has its values in another file"
    # An array of no extent at all (a null dataspace) has no shape.
    shape, dtype = item.shape or (), item.dtype
    if len(shape) != 3 or 0 in shape or dtype.kind not in "fiu" or dtype.itemsize > 8:
        return f"is {item.dtype} of shape {item.shape}, not numbers of rows x columns x bands"
    if math.prod(shape) * dtype.itemsize > MOST_PACKED * item.id.get_storage_size():
        return "has not all its values in the file"
    for name in ("name", "source", "source_sha256"):
        if not _is_text(attributes.get(name)):
            return f"has no {name} that can be read"
    for name in ("value_scale_corrected", "value_scale_published"):
        value: Any = attributes.get(name)
        if not _is_number(value) or not 1 / LARGEST_SCALE <= value <= LARGEST_SCALE:
            return f"has the {name} {value}"
    lr_scale = attributes.get("lr_scale")
    if not _is_number(lr_scale) or lr_scale not in (1, *SCALES):
        return f"has the lr_scale {lr_scale}"
    waves = attributes.get("wavelengths")
    if waves is None:
        return ""
    waves = np.asarray(waves)
    if waves.dtype.kind not in "fiu" or waves.shape != item.shape[2:] or not (np.isfinite(waves) & (waves > 0)).all():
        return f"has other wavelengths than one for each of its {item.shape[2]} bands"
    return ""


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiu" and bool(np.isfinite(value))


def _make_key(name: str) -> str:
    # HDF5 takes a slash for a path and a lone dot for the group itself; a letter in front keeps both out.
    return "s_" + name.replace("/", "\u2215")
