"""The scene store: one HDF5 file for each split, which contains every scene in its number type.

/                       attributes: format, dataset, protocol, program
/scenes/<name>          H x W x C as in the raw files, in chunks of CHUNK x CHUNK pixels
                        attributes: value_scale_corrected, value_scale_published (full-scale values),
                        lr_scale (1: HR; 4: an LR image of a x4 camera), wavelengths (nm, if known),
                        source, source_sha256
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
from h5py import h5a, h5t

from data.bands import BandList, SameBands
from facts import LARGEST_SCALE, PROTOCOLS, SCALES
from formats.folders import ORIGIN, STORE_FORMAT
from formats.full_scale import FullScale
from formats.guard import call_guarded, open_hdf5, read_ends
from formats.kinds import make_kind_error
from system.errors import DataError, refuse_small_memory
from system.files import atomic_write
from utils import scene_name

FORMAT = STORE_FORMAT
# Rows and columns of a chunk.
CHUNK = 64
# Limit of the compression ratio, above DEFLATE's 1032: a forged file cannot claim a larger scene.
MOST_PACKED = 2000
# Types in memory of texts of variable length, by their character set.
TEXTS = {
    h5t.CSET_ASCII: h5t.py_create(h5py.string_dtype("ascii")),
    h5t.CSET_UTF8: h5t.py_create(h5py.string_dtype("utf-8")),
}


@dataclass
class Scene:
    """One image.

    Attributes:
        name: in lists and tables.
        cube: H x W x C, in the raw files' number type.
        value_scale: full-scale value; cube / value_scale is in 0..1.
        published_value_scale: the same under the "published" protocol (CAVE's 8-bit watercolors).
        lr_scale: 1 for an HR image; s for an LR image of a camera for x s.
        wavelengths: C band centres in nm, or None.
        source, source_sha256: name of the raw file or folder; hash of its files and the options of reading.
        is_scale_assumed: True if value_scale is the maximum of an integer type instead of a declared value.
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
        """Return the full-scale value under a protocol, "corrected" or "published"."""
        return self.published_value_scale or self.value_scale if protocol == "published" else self.value_scale

    def values(self, protocol: str = "corrected") -> np.ndarray:
        """Return the scene as H x W x C float32 in 0..1."""
        return (self.cube / np.float64(self.get_scale(protocol))).astype(np.float32)

    @property
    def band_names(self) -> list[str]:
        """C names for messages: "450 nm", or "band 6" if the wavelengths are unknown."""
        if self.wavelengths is None:
            return [f"band {k + 1}" for k in range(self.cube.shape[2])]
        return [f"{w:g} nm" for w in self.wavelengths]


def write_part(path: Path, scene: Scene) -> None:
    """Write one scene into a separate file, atomically."""
    # Written in memory first: on a full disk, HDF5 raises errors in several places, some of which cannot be caught.
    with h5py.File("part", "w", driver="core", backing_store=False) as f:
        height, width, bands = scene.cube.shape
        dataset = f.create_dataset(
            "scene",
            data=scene.cube,
            chunks=(min(CHUNK, height), min(CHUNK, width), bands),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            # A checksum of each chunk, so that reading detects damage.
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
    """Return the source hash of a part, or None if there is no readable part."""
    try:
        with open_hdf5(path) as f:
            sha256 = f["scene"].attrs["source_sha256"]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError):
        return None
    return sha256 if isinstance(sha256, str) else None


def describe_part(path: Path) -> tuple[BandList, FullScale]:
    """Return the bands and the full-scale value of a part written by `write_part`."""
    with h5py.File(path, "r") as f:
        scene = f["scene"]
        return _read_bands(scene.shape, scene.attrs), _read_full_scale(scene.dtype, scene.attrs)


def join_parts(path: Path, parts: Sequence[Path], attributes: Mapping[str, Any]) -> None:
    """Join parts into a store, in their order, atomically.

    Raises:
        DataError: if the disk is too full.
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
    """Description of a scene in a store: its key in the file, shape, type and attributes."""

    key: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    attributes: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Store:
    """A scene store; closed by `close` or at the end of a with statement.

    Args:
        path: of the file.
        with_pixels: True: also test whether pixels can be read.

    Attributes:
        path: of the file.
        dataset, protocol: data set that it was prepared from, and protocol.
        attributes: of the file.
        names: of its scenes, in order.
        hashes: {scene: source hash}.
        bands: {scene: its BandList}.
        scales: {scene: its FullScale}.
        wavelengths: band centres in nm of the first scene with known wavelengths, else None.
        n_colors: bands of the first scene; 0 for a store without scenes.
        nbytes: size of all scenes in memory.

    Raises:
        DataError: for a file that is not a store, is damaged, or is locked by another program.
    """

    def __init__(self, path: str | Path, with_pixels: bool = True) -> None:
        self.path = Path(path)
        place = self.path.expanduser()
        try:
            [(self.attributes, self._scenes)] = call_guarded([place], lambda _: _read_structure(self.path, with_pixels))
            self._file = open_hdf5(place)
        except DataError:
            raise
        # h5py raises errors of many types for damaged files.
        except Exception as error:
            refuse_small_memory(path, error)
            remedies = "copy it again, or create it with the command prepare", "create one with the command prepare"
            raise make_kind_error(path, "a scene store", "store", remedies, error) from error
        self.dataset, self.protocol = self.attributes["dataset"], self.attributes["protocol"]
        self.names = list(self._scenes)
        self.hashes = {name: scene.attributes["source_sha256"] for name, scene in self._scenes.items()}
        self.nbytes = sum(scene.nbytes for scene in self._scenes.values())
        first = next(iter(self._scenes.values()), None)
        self.bands = {name: _read_bands(scene.shape, scene.attributes) for name, scene in self._scenes.items()}
        self.scales = {name: _read_full_scale(scene.dtype, scene.attributes) for name, scene in self._scenes.items()}
        self.wavelengths = self.contents.wavelengths
        self.n_colors = 0 if first is None else first.shape[2]

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; chunked cubes of it can then no longer be read."""
        self._file.close()

    @property
    def contents(self) -> "Contents":
        """Bands, hashes and full-scale values of the scenes."""
        return Contents(self.path, self.bands, self.hashes, self.scales)

    def read(self, name: str) -> Scene:
        """Read one scene.

        Raises:
            DataError: if its data is damaged or not finite.
        """
        try:
            cube = _to_native(self._get_dataset(name)[:])
        except (OSError, RuntimeError, ValueError) as error:
            raise self._make_error(name, error) from error
        _refuse_nonfinite(self.path, name, cube)
        attributes = self._scenes[name].attributes
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

    def open_cube(self, name: str) -> "ChunkedCube":
        """Return a scene that stays on disk and needs the store to stay open."""
        return ChunkedCube(
            self._get_dataset(name),
            lambda error: self._make_error(name, error),
            lambda pixels: _refuse_nonfinite(self.path, name, pixels),
        )

    def get_scale_and_kind(self, name: str, protocol: str) -> tuple[float, int]:
        """Return (full-scale value of a scene under a protocol, its lr_scale) without reading the scene."""
        attributes = self._scenes[name].attributes
        return attributes[f"value_scale_{protocol}"], int(attributes["lr_scale"])

    def format_scene(self, name: str) -> str:
        """Format a scene's size, type, full-scale value and origin as text."""
        scene = self._scenes[name]
        (rows, cols, bands), a = scene.shape, scene.attributes
        kind = "HR" if a["lr_scale"] == 1 else f"LR of a x{a['lr_scale']} camera"
        scale = f"/ {a['value_scale_corrected']:g}"
        if a["value_scale_published"] != a["value_scale_corrected"]:
            scale += f" (published: / {a['value_scale_published']:g})"
        waves = a.get("wavelengths")
        spectrum = "wavelengths unknown" if waves is None else f"{waves[0]:g}..{waves[-1]:g} nm"
        origin = f"from {a['source']} (hash of the source files and options {a['source_sha256'][:12]})"
        return f"  {name}: {cols} x {rows} x {bands} {scene.dtype} {scale}, {kind}, {spectrum}, {origin}"

    def verify(self, name: str) -> None:
        """Read a scene and check that its values are not all the same."""
        cube = self.read(name).cube
        if cube.min() == cube.max():
            raise DataError(self.path, f"all values of scene {name} are equal", "prepare it again")

    def _get_dataset(self, name: str) -> h5py.Dataset:
        return self._file["scenes"][self._scenes[name].key]

    def _make_error(self, name: str, error: Exception) -> DataError:
        return DataError(self.path, f"scene {name} cannot be read ({error})", "copy the store or prepare it again")


@dataclass(frozen=True)
class Contents:
    """Bands and hashes of the scenes of a store, or of the files of a folder, for comparison with other sets.

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
        """Band centres in nm of the first scene with known wavelengths, else None."""
        return next((b.centres for b in self.bands.values() if b.centres is not None), None)

    def add_to(self, bands: SameBands) -> None:
        """Compare the scenes with those of other sets; see `SameBands.add`."""
        for name, scene_bands in self.bands.items():
            bands.add(f"{self.path}: scene {name}", scene_bands)

    def find_shared(self, other: "Contents") -> list[tuple[str, str]]:
        """Return (name in self, name in other) of the scenes with the same source."""
        names = {source: name for name, source in self.hashes.items() if source}
        return [(names[source], name) for name, source in other.hashes.items() if source in names]


def describe_folder(folder: str | Path, files: Sequence[Path], n_colors: int = 0) -> Contents:
    """Return the Contents of a folder of .mat files; for exported patches, with the hashes of their scenes.

    Args:
        folder, files: the folder and its .mat files.
        n_colors: number of bands; 0 if they are checked elsewhere.
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
        unreadable: converts the library's error for a damaged chunk into a DataError.
        check: called with the pixels of each window; raises an error for invalid ones.

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
        """Read the pixels of a window.

        Raises:
            DataError: for a damaged chunk.
        """
        try:
            pixels = _to_native(self._dataset[window])
        except (OSError, RuntimeError, ValueError) as error:
            raise self._unreadable(error) from error
        self._check(pixels)
        return pixels


def is_store(path: str | Path) -> bool:
    """Return True for any file: opening it as a store refuses files of other kinds."""
    return Path(path).expanduser().is_file()


def describe(path: str | Path, verify: bool = False) -> str:
    """Describe a store as text: its attributes, and size, type, full-scale value and origin of every scene.

    Args:
        path: of the store.
        verify: read every scene and check that its values are finite and not all the same.

    Raises:
        DataError: if it is not a store, or for the first damaged scene.
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
        lines.append("  every scene was read without errors")
    return "\n".join(lines)


def print_store(config: Any) -> None:
    """Print the description of a store; see `config.InfoConfig`."""
    print(describe(config.store, config.verify))


def _refuse_nonfinite(path: Path, name: str, pixels: np.ndarray) -> None:
    """Refuse values that are not finite: a network would spread them over its whole output."""
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        bad = pixels.size - np.count_nonzero(finite)
        raise DataError(
            path, f"scene {name} has {bad} values that are NaN or infinite", "fill them and prepare it again"
        )


def _to_native(array: np.ndarray) -> np.ndarray:
    """Convert to this machine's byte order, the only one that torch supports."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_structure(path: Path, with_pixels: bool) -> tuple[dict[str, Any], dict[str, _StoredScene]]:
    """Return (attributes, {name: scene}) of a store, checked against the layout of `write_part` and `join_parts`.

    Raises:
        DataError: naming the scene and its defect.
    """
    with open_hdf5(path.expanduser()) as f:
        attributes = read_attributes(f)
        if attributes.get("format") != FORMAT:
            raise DataError(path, "an HDF5 file, but not a scene store", "create one with the command prepare")
        if not isinstance(attributes["dataset"], str) or attributes["protocol"] not in PROTOCOLS:
            raise DataError(path, "a store without its data set and protocol", "prepare it again")
        if not all(_is_text(value) for value in attributes.values() if isinstance(value, str)):
            raise DataError(path, "a store with attributes that are not UTF-8", "prepare it again")
        group, scenes = _get_own(f, "scenes"), {}
        if not isinstance(group, h5py.Group):
            raise DataError(path, "it does not contain the group of scenes", "prepare it again")
        for key in group:
            item = _get_own(group, key)
            scene = read_attributes(item) if isinstance(item, h5py.Dataset) else {}
            defect = _find_defect(item, scene)
            if not defect and scene["name"] in scenes:
                defect = f"has the name of another scene, {scene['name']}"
            if defect:
                printable = key.encode(errors="backslashreplace").decode()
                raise DataError(path, f"scene {printable} {defect}", "prepare it again")
            if with_pixels:
                # A crash by damaged pixels must happen in this guarded process; errors are raised on later reading.
                with contextlib.suppress(Exception):
                    read_ends(item)
            scenes[scene["name"]] = _StoredScene(key, item.shape, item.dtype, scene)
    return attributes, scenes


def read_attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Return an object's attributes, as dict(item.attrs) does in twice the time."""
    attributes: dict[str, Any] = {}
    for index in range(h5a.get_num_attrs(item.id)):
        attribute = h5a.open(item.id, index=index)
        name, kind, shape = attribute.name.decode("utf-8", "surrogateescape"), attribute.get_type(), attribute.shape
        if shape == () and isinstance(kind, h5t.TypeStringID) and kind.is_variable_str():
            text: Any = np.empty((), object)
            attribute.read(text, mtype=TEXTS[kind.get_cset()])
            attributes[name] = text[()].decode("utf-8", "surrogateescape")
        elif shape is not None and isinstance(kind, (h5t.TypeIntegerID, h5t.TypeFloatID)):
            array = np.empty(shape, kind.dtype)
            attribute.read(array, mtype=kind)
            attributes[name] = array[()]
        else:
            attributes[name] = item.attrs[name]
    return attributes


def _read_full_scale(dtype: np.dtype, attributes: Mapping[str, Any]) -> FullScale:
    """Return the full-scale value of a store's scene; stores of earlier versions do not record that it is assumed."""
    highest: Any = attributes.get("assumed_scale_highest")
    is_assumed = _is_number(highest)
    return FullScale(float(attributes["value_scale_corrected"]), dtype, float(highest) if is_assumed else None)


def _read_bands(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> BandList:
    return BandList(shape[2], attributes.get("wavelengths"))


def _get_own(group: h5py.Group, key: str) -> Any:
    """Return the item of a group under a name; None for a soft or external link.

    Raises:
        KeyError: if the group does not contain the name.
    """
    link = group.get(key, getlink=True)
    return None if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)) else group[key]


def _is_text(value: object) -> bool:
    """Return True for valid text: h5py decodes bytes that are not UTF-8 to surrogates, which cannot be written."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _find_defect(item: Any, attributes: dict[str, Any]) -> str:
    """Describe the first defect of a store's scene; "" if there is none."""
    if not isinstance(item, h5py.Dataset):
        return "is not an array of this file"
    if item.is_virtual or item.external:
        return "has its values in another file"
    # An array with a null dataspace has no shape.
    shape, dtype = item.shape or (), item.dtype
    if len(shape) != 3 or 0 in shape or dtype.kind not in "fiu" or dtype.itemsize > 8:
        return f"is {item.dtype} of shape {item.shape}, not a numeric array of rows x columns x bands"
    if math.prod(shape) * dtype.itemsize > MOST_PACKED * item.id.get_storage_size():
        return "is incomplete"
    for name in ("name", "source", "source_sha256"):
        if not _is_text(attributes.get(name)):
            return f"has no readable {name}"
    for name in ("value_scale_corrected", "value_scale_published"):
        value: Any = attributes.get(name)
        if not _is_number(value) or not 1 / LARGEST_SCALE <= value <= LARGEST_SCALE:
            return f"has the invalid {name} {value}"
    lr_scale = attributes.get("lr_scale")
    if not _is_number(lr_scale) or lr_scale not in (1, *SCALES):
        return f"has the invalid lr_scale {lr_scale}"
    waves = attributes.get("wavelengths")
    if waves is None:
        return ""
    waves = np.asarray(waves)
    if waves.dtype.kind not in "fiu" or waves.shape != item.shape[2:] or not (np.isfinite(waves) & (waves > 0)).all():
        return f"does not have positive wavelengths for each of its {item.shape[2]} bands"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (np.integer, np.floating)) and math.isfinite(value)


def _make_key(name: str) -> str:
    # HDF5 interprets a slash as a path and a single dot as the group itself; a prefix avoids both.
    return "s_" + name.replace("/", "\u2215")
