"""The scene store: one HDF5 file per split, every scene once, in its own number type.

/                       attributes: format, dataset, protocol, program
/scenes/<name>          H x W x C as in the raw files, chunked so that a patch reads little
                        attributes: value_scale_corrected, value_scale_published (divide by it to
                        get 0..1), lr_scale (1: HR; 4: an LR image of a x4 camera), wavelengths (nm,
                        where known), source, source_sha256
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from utils import UserError, replacing

FORMAT = "hsi-scenes-1"


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
        source, source_sha256: where it was read from, and the hash of those files.
    """

    name: str
    cube: np.ndarray
    value_scale: float
    published_value_scale: float = None
    lr_scale: int = 1
    wavelengths: np.ndarray = None
    source: str = ""
    source_sha256: str = ""

    def scale_under(self, protocol):
        """What cube is divided by under a protocol, "corrected" or "published"."""
        return self.published_value_scale or self.value_scale if protocol == "published" else self.value_scale

    def values(self, protocol="corrected"):
        """H x W x C float32 in 0..1."""
        return (self.cube / np.float64(self.scale_under(protocol))).astype(np.float32)

    @property
    def band_names(self):
        """C names for messages: "450 nm", or "band 6" where the wavelengths are not known."""
        if self.wavelengths is None:
            return [f"band {k + 1}" for k in range(self.cube.shape[2])]
        return [f"{w:g} nm" for w in self.wavelengths]


def write_part(path, scene):
    """Write one scene into a file of its own, whole or not at all."""
    # HDF5 on a full disk reports in several places, some out of reach: the file is made in memory first.
    with h5py.File("part", "w", driver="core", backing_store=False) as f:
        height, width, bands = scene.cube.shape
        dataset = f.create_dataset(
            "scene",
            data=scene.cube,
            chunks=(min(64, height), min(64, width), bands),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            # Each chunk carries a checksum, so that damage is found on reading.
            fletcher32=True,
        )
        dataset.attrs["name"] = scene.name
        dataset.attrs["value_scale_corrected"] = float(scene.value_scale)
        dataset.attrs["value_scale_published"] = float(scene.scale_under("published"))
        dataset.attrs["lr_scale"] = scene.lr_scale
        dataset.attrs["source"] = scene.source
        dataset.attrs["source_sha256"] = scene.source_sha256
        if scene.wavelengths is not None:
            dataset.attrs["wavelengths"] = np.asarray(scene.wavelengths, dtype=np.float64)
        f.flush()
        content = f.id.get_file_image()
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def part_sha256(path):
    """The source hash of a part, or None where there is no readable part."""
    try:
        with h5py.File(path, "r") as f:
            return f["scene"].attrs["source_sha256"]
    except (OSError, KeyError):
        return None


def join_parts(path, parts, attributes):
    """Gather parts into a store, in their order, whole or not at all.

    Raises:
        UserError: where the disk has no room for it.
    """
    needed = sum(Path(part).stat().st_size for part in parts) * 1.02 + 2**20
    if shutil.disk_usage(Path(path).parent).free < needed:
        raise UserError(f"{path}: the disk is full; free {needed / 1e6:.0f} MB and run the same command again")
    with replacing(path) as temporary, h5py.File(temporary, "w") as store:
        store.attrs.update({"format": FORMAT, **attributes})
        group = store.create_group("scenes", track_order=True)
        for part in parts:
            with h5py.File(part, "r") as f:
                f.copy("scene", group, name=_safe(f["scene"].attrs["name"]))


def contents(path):
    """What a store says of itself: (attributes, {scene name: source hash}); None without a store."""
    if not Path(path).is_file():
        return None
    with _opened(path) as f:
        hashes = {d.attrs["name"]: d.attrs["source_sha256"] for d in f["scenes"].values()}
        return dict(f.attrs), hashes


def protocol_of(path):
    """The protocol a store was prepared for."""
    with _opened(path) as f:
        return f.attrs["protocol"]


def dataset_of(path):
    """The data set that a store was prepared from."""
    with _opened(path) as f:
        return f.attrs["dataset"]


def scene_names(path):
    """Names of a store's scenes, in its order."""
    with _opened(path) as f:
        return [d.attrs["name"] for d in f["scenes"].values()]


def read_scene(path, name):
    """Read one scene of a store."""
    with _opened(path) as f:
        return _scene(f["scenes"][_safe(name)], path)


class ChunkedCube:
    """A scene that stays on disk: cube[i:j, k:l] reads the chunks that hold those pixels.

    Attributes:
        shape, dtype, nbytes: of the whole H x W x C array.
    """

    def __init__(self, path, name):
        self._dataset = _opened(path)["scenes"][_safe(name)]
        self._where = f"{path}: scene {name}"
        self.shape, self.dtype, self.nbytes = self._dataset.shape, self._dataset.dtype, self._dataset.nbytes

    def __getitem__(self, window):
        try:
            return self._dataset[window]
        except OSError as error:
            raise UserError(f"{self._where} cannot be read, the file is damaged; prepare it again") from error


def size_in_memory(path):
    """Bytes that the scenes of a store take in memory."""
    with _opened(path) as f:
        return sum(d.nbytes for d in f["scenes"].values())


def scale_and_kind(path, name, protocol):
    """(what the values are divided by under a protocol, lr_scale) of a scene, without reading it."""
    with _opened(path) as f:
        attributes = f["scenes"][_safe(name)].attrs
        return attributes[f"value_scale_{protocol}"], int(attributes["lr_scale"])


def is_store(path):
    """Whether a path is a scene store (told by its content)."""
    path = Path(path)
    if not path.is_file():
        return False
    with _opened(path):
        return True


def wavelengths_of(path):
    """Wavelengths in nm of a store's first scene, or None where they are not known."""
    with _opened(path) as f:
        first = next(iter(f["scenes"].values()), None)
        return None if first is None else first.attrs.get("wavelengths")


def describe(path, verify=False):
    """A store's content as text: its attributes, and size, type, scale and origin of every scene.

    Args:
        verify: read every scene and check that its values are finite and not all the same.

    Raises:
        UserError: if it is no store, or, on verifying, for the first scene that is damaged.
    """
    if not Path(path).expanduser().is_file():
        raise UserError(f"{path}: no such file; give the path of a store")
    with _opened(path) as f:
        held = f["scenes"].values()
        about = ", ".join(f"{k} {v}" for k, v in sorted(f.attrs.items()) if k != "format")
        lines = [f"{path}: {len(held)} scenes, {Path(path).stat().st_size / 1e6:.1f} MB, {about}"]
        for d in held:
            rows, cols, bands = d.shape
            a = d.attrs
            kind = "HR" if a["lr_scale"] == 1 else f"LR of a x{a['lr_scale']} camera"
            scale = f"/ {a['value_scale_corrected']:g}"
            if a["value_scale_published"] != a["value_scale_corrected"]:
                scale += f" (published: / {a['value_scale_published']:g})"
            waves = a.get("wavelengths")
            spectrum = "wavelengths unknown" if waves is None else f"{waves[0]:g}..{waves[-1]:g} nm"
            lines.append(
                f"  {a['name']}: {cols} x {rows} x {bands} {d.dtype} {scale}, {kind}, {spectrum}, from {a['source']} (sha256 {a['source_sha256'][:12]})"
            )
            if verify:
                scene = _scene(d, path)
                if not np.isfinite(scene.cube).all() or scene.cube.min() == scene.cube.max():
                    raise UserError(f"{path}: scene {scene.name} holds no image any more; prepare it again")
        if verify:
            lines.append("  every scene was read and is sound")
    return "\n".join(lines)


def _opened(path):
    try:
        f = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a scene store, or damaged; make it with the command prepare") from error
    if f.attrs.get("format") != FORMAT:
        f.close()
        raise UserError(f"{path}: an HDF5 file, but no scene store; make one with the command prepare")
    return f


def _scene(dataset, path):
    try:
        cube = dataset[:]
    except OSError as error:
        raise UserError(
            f"{path}: scene {dataset.attrs['name']} cannot be read, the file is damaged; prepare it again"
        ) from error
    attributes = dataset.attrs
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


def _safe(name):
    # HDF5 takes a slash for a path and a lone dot for the group itself; a letter in front keeps both out.
    return "s_" + name.replace("/", "\u2215")


def show(config) -> None:
    """Print what a store holds, as an `InfoConfig` asks."""
    print(describe(config.store, config.verify))
