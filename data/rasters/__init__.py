"""Scenes in the formats people have: read by windows, and written back with what their files said of them.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band TIFF and
GeoTIFF, folders of one PNG a band.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import h5py
import numpy as np

from data.errors import DataError
from data.folders import folders_below
from data.rasters import arrays, bands, envi, envi_header, hdf5, netcdf, position, tiff
from data.rasters.base import DEFAULTS, CubeOptions, Georeference, Raster, from_array, unreadable
from data.rasters.gaps import mark_in
from data.rasters.raw import AXES, RawCube
from data.rasters.values import Understanding, described
from utils import refuse_irregular, say, sync_file

__all__ = ["CubeOptions", "Output", "Raster", "from_array", "open_raster"]

_OPEN = {
    "mat5": arrays.open_mat5,
    "hdf5": hdf5.open_raster,
    "npy": arrays.open_npy,
    "npz": arrays.open_npz,
    "tiff": tiff.open_raster,
    "envi": envi.open_raster,
    "png": bands.open_raster,
}
_WRITE = {
    "mat5": arrays.write_mat5,
    "hdf5": hdf5.write,
    "npy": arrays.write_npy,
    "npz": arrays.write_npz,
    "tiff": tiff.write,
    "png": bands.write,
}
KIND_OF_EXTENSION = {
    **{".mat": "mat5", ".npy": "npy", ".npz": "npz", ".tif": "tiff", ".tiff": "tiff"},
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".nc", ".nc4"), "hdf5"),
    **dict.fromkeys((".hdr", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip"), "envi"),
}
# Extensions by which an input is known for a scene; of ENVI's files, its header.
EXTENSIONS = (".mat", ".npy", ".npz", ".h5", ".hdf5", ".he5", ".nc", ".nc4", ".hdr", ".tif", ".tiff")
# What files of other kinds begin with, and what they are.
OTHER_KINDS = {
    b"CDF": ("a netCDF file of the old format, netCDF-3", "convert it by: nccopy -k nc4 IN OUT"),
    b"#?RADIANCE": ("a picture of high dynamic range (Radiance)", "give a scene of many bands"),
    b"#?RGBE": ("a picture of high dynamic range (Radiance)", "give a scene of many bands"),
    b"\x0e\x03\x13\x01": ("HDF4, which is not read here", "convert it to HDF5 or GeoTIFF"),
    b"\x89PNG": ("one picture", "give a folder of one picture a band, or a scene of many bands"),
    b"\xff\xd8\xff": ("a JPEG picture", "give a scene of many bands"),
    b"PK\x03\x04": ("a ZIP archive", "unpack it first"),
    b"\x1f\x8b": ("packed with gzip", "unpack it first"),
}
# The first words of an ESRI header, which lies beside .bil, .bip, .bsq and .flt files.
ESRI_WORDS = ("nrows", "ncols", "nbands", "byteorder", "layout", "nbits", "ulxmap", "ulymap", "xdim", "ydim")


def format_of(path: str | Path) -> str | None:
    """mat5, hdf5, npy, npz, tiff or envi, by the first bytes; None for anything else.

    Raises:
        UserError: for a file that may not be read, or is no regular one.
    """
    refuse_irregular(path)
    try:
        with open(path, "rb") as f:
            head = f.read(128)
    except PermissionError as error:
        raise unreadable(path, "", error) from error
    if head.startswith(b"\x89HDF") or head.startswith(b"MATLAB 7.3"):
        return "hdf5"
    if head.startswith(b"MATLAB 5.0") or head[126:128] in (b"IM", b"MI"):
        return "mat5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04") and Path(path).suffix.lower() == ".npz":
        return "npz"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if envi_header.is_header(head):
        return "envi"
    # An HDF5 file may begin with a block of its user's.
    return "hdf5" if h5py.is_hdf5(path) else None


def open_raster(path: str | Path, options: CubeOptions = DEFAULTS) -> Raster:
    """Open a scene: a file of any known format (ENVI by its header or its data), or a folder of band pictures.

    Raises:
        DataError: for a damaged, empty or unknown file, no cube or several in it, an unclear band axis, values
            that are no real numbers, a header that does not fit its data, or a package that is missing.
    """
    path = Path(path)
    if path.is_dir():
        return bands.open_raster(path, options)
    refuse_irregular(path)
    if path.stat().st_size == 0:
        raise DataError(path, "the file is empty (0 bytes)", "copy it again or take it away")
    kind, data = format_of(path), None
    if kind is None and (header := envi.header_of(path)):
        path, kind, data = header, "envi", path
    if kind is None:
        raise _of_no_kind(path)
    try:
        raster = envi.open_raster(path, options, data) if data else _OPEN[kind](path, options)
        if 0 in raster.shape:
            raise DataError(path, f"{' x '.join(map(str, raster.shape))} values, none at all", "export it again")
        raster.georeference = _guarded(raster.georeference, path, kind)
        return raster
    except DataError:
        raise
    # The formats' libraries meet damaged files with errors of nearly any type.
    except Exception as error:
        raise unreadable(path, kind, error) from error


def _guarded(georeference, path, kind):
    """A raster's position, with the formats' errors as sentences."""

    def guarded():
        try:
            return georeference()
        except Exception as error:
            raise unreadable(path, kind, error) from error

    return guarded


def _of_no_kind(path):
    """The error for a file in no known format, which names what it is where that can be told."""
    with open(path, "rb") as f:
        head = f.read(512)
    for start, (what, remedy) in OTHER_KINDS.items():
        if head.startswith(start):
            return DataError(path, what, remedy)
    words = head.decode("latin-1").lower().split()
    if path.suffix.lower() == ".hdr" and len(set(words) & set(ESRI_WORDS)) >= 2:
        return DataError(path, "an ESRI header, not an ENVI one", "convert its image to ENVI or GeoTIFF")
    return DataError(path, "not in the format of its name (nor in another known one)", "copy or export it again")


class Output:
    """Where a scene's result goes: everything is made in a folder of its own beside it and moved out at the end.

    Attributes:
        path: the final file, ENVI header or folder of pictures.
        kind: its format.
        work: the folder `.NAME.partial`.
        raw: the RawCube that the tiles are written to; for ENVI, the data file itself.
    """

    def __init__(self, path: str | Path, like: Raster, scale: int) -> None:
        self.path, self.like, self.scale = Path(path), like, scale
        suffix = self.path.suffix
        self.kind = KIND_OF_EXTENSION.get(suffix.lower(), like.kind)
        is_hdf5_mat = like.kind == "hdf5" and (like.details["matlab"] or like.path.suffix.lower() == ".mat")
        if self.kind == "mat5" and is_hdf5_mat:
            self.kind = "hdf5"
        # An extension of ENVI's data files is a wish for their name, and .bil, .bip and .bsq for their interleave.
        self._wish = suffix if self.kind == "envi" and suffix.lower() not in ("", ".hdr") else ""
        if self.kind == "envi" and suffix.lower() != ".hdr":
            self.path = self.path.with_suffix(".hdr")
        self.shape = (like.shape[0] * scale, like.shape[1] * scale, like.shape[2])
        self.dtype = like.dtype if self.kind == like.kind else like.dtype.newbyteorder("=")
        self.work = self.path.with_name(f".{self.path.name}.partial")
        self.raw: RawCube | None = None
        self._check()

    @property
    def nbytes(self) -> int:
        """Bytes of the bare values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def _data_name(self):
        return envi.data_name(self.path.stem, self.like, self._wish) if self.kind == "envi" else "values.raw"

    @property
    def raw_path(self) -> Path:
        """Where the tiles' bare values are kept."""
        return self.work / self._data_name

    @property
    def nbytes_on_disk(self) -> int:
        """Bytes that are needed while it is made: ENVI's values are written once, the others' bare ones first."""
        return self.nbytes if self.kind == "envi" else 2 * self.nbytes

    def final_paths(self) -> list[Path]:
        """The files, or the folder, that will stand there at the end."""
        beside = [self.path.with_name(self._data_name)] if self.kind == "envi" else []
        return [*beside, self.path]

    def replaced_paths(self) -> list[Path]:
        """What stands there already and gives way: the final paths, and what readers take for parts of these."""
        standing = [path for path in self.final_paths() if path.exists()]
        parts = [*self._data_candidates()[:1], *self._sidecars()] if self.path in standing else []
        return list(dict.fromkeys([*standing, *parts]))

    def misleading_paths(self) -> list[Path]:
        """Files that readers would take for parts of the result: data of an ENVI header, masks, metadata."""
        candidates = [*self._data_candidates(before=self._data_name), *self._sidecars()]
        return [path for path in candidates if path not in self.replaced_paths()]

    def _sidecars(self):
        """Files in which GDAL looks for a raster's mask, overviews and metadata."""
        if self.kind not in ("tiff", "envi"):
            return []
        raster = self.path.with_name(self._data_name) if self.kind == "envi" else self.path
        names = [f"{raster.name}{suffix}" for suffix in (".msk", ".ovr", ".aux.xml")]
        return [path for path in map(raster.with_name, names) if path.is_file()]

    def _data_candidates(self, before=None):
        """Files that readers take for an ENVI header's data, in their order, or those before one of that name."""
        if self.kind != "envi":
            return []
        names = envi.readers_data_names(self.path.stem)
        names = names[: names.index(before)] if before in names else names
        return [path for path in map(self.path.with_name, names) if path.is_file()]

    def open_raw(self) -> RawCube:
        """Make, or go on with, the file of bare values."""
        self.work.mkdir(parents=True, exist_ok=True)
        interleave = self.like.interleave if self.kind in (self.like.kind, "envi") else "bip"
        if self._wish[1:].lower() in AXES:
            interleave = self._wish[1:].lower()
        self.raw = RawCube(self.raw_path, self.shape, self.dtype, interleave)
        return self.raw

    def reserve(self) -> None:
        """See before any work that a file of the result's size may stand there.

        Raises:
            OSError: where the disk's format or the shell allows no file of that size.
        """
        trial = self.work / "size"
        with open(trial, "wb") as f:
            f.truncate(self.nbytes)
        trial.unlink()

    def describe(self, understood: Understanding) -> None:
        """Have the result's file say what its scene's file and its user say of the values."""
        # Asked for now, so that a damaged one is met before the work.
        place = self._known_position()
        self.like = dataclasses.replace(described(self.like, understood), georeference=lambda: place)
        nodata = self.like.nodata
        if nodata is not None and self.dtype.kind != "f" and mark_in(self.dtype, nodata) is None:
            # It marks nothing, and other numbers that stand for it in a file would.
            self.like = dataclasses.replace(self.like, nodata=None)
        if self.like.mask and self.kind != "tiff" and self.like.nodata is None:
            # Other formats have no mask: their result gets a mark.
            mark = np.nan if self.dtype.kind == "f" else np.iinfo(self.dtype).min
            understood.calibration.mark = self.dtype.newbyteorder("=").type(mark)
            self.like = dataclasses.replace(self.like, nodata=float(mark))

    def _known_position(self):
        """The scene's position; without a coordinate system of which its result's format can write nothing."""
        place = self.like.georeference()
        becomes_netcdf = netcdf.is_named_so(self.path) and not hdf5.is_copied(self.path, self.like)
        # All others hold any text.
        is_written_by_gdal = self.kind in ("tiff", "envi") or becomes_netcdf
        if place is None or not is_written_by_gdal or position.is_known(place.crs):
            return place
        say(f"{self.path.name}: without its coordinate system, which nobody knows ({place.crs[:60]})")
        return Georeference("", place.transform)

    def finish(self, cube: np.ndarray) -> list[Path]:
        """Write the result in its format from the values (an array, or `raw.cube`) and move it into place.

        Returns:
            The paths written.
        """
        if self.kind == "envi":
            raw = self.raw
            if raw is None:
                raw = self.open_raw()
                raw.write(0, 0, cube)
            raw.close()
            envi.write_header(self.work / self.path.name, raw, self.like, self.scale)
        else:
            self.work.mkdir(parents=True, exist_ok=True)
            _WRITE[self.kind](self.work / self.path.name, cube, self.like, self.scale)
        self._say_what_is_lost()
        self._check_position()
        replaced = self.replaced_paths()
        # The header, by which a scene is known, comes last; nothing goes before what takes its place stands.
        for final in self.final_paths():
            _sync(self.work / final.name)
            _replace(self.work / final.name, final)
        for path in replaced:
            if path not in self.final_paths():
                _remove(path)
        self.discard()
        return self.final_paths()

    def _say_what_is_lost(self):
        """Name what the format has no place for."""
        like, name = self.like, self.path.name
        if self.kind in ("npy", "png"):
            lost = {
                "position": like.georeference() is not None,
                "wavelengths": like.wavelengths is not None and (self.kind != like.kind or like.wavelengths_given),
                "scale of its values": bool(like.value_scale or like.scaling),
                "mark for no data": like.nodata is not None,
            }
            if words := [word for word, is_lost in lost.items() if is_lost]:
                say(f"{name}: without the {', '.join(words)}, for which this format has no place")
        elif self.kind != like.kind and (extra := like.details.get("only_in_tiff")):
            say(f"{name}: without its {', '.join(extra)}, for which this format has no place")

    def _check_position(self):
        """Have the library that owns the format read the position back, and say where it is another."""
        place = self.like.georeference()
        if self.kind not in ("tiff", "envi", "hdf5") or place is None:
            return
        expected, found = place.finer(self.scale), self._position_of_result()
        if found is None and self.kind == "hdf5":
            say(f"{self.path.name}: without its position, for which its coordinates have no place")
        elif found and not position.same(expected, found, *self.shape[:2]):
            say(f"{self.path.name}: its position reads back as {found.transform}, not as {expected.transform}")

    def _position_of_result(self):
        """Where the file in the work folder lies."""
        made = self.work / self.path.name
        if self.kind == "hdf5":
            key = self.like.details["key"] if hdf5.is_copied(self.path, self.like) else "image"
            return hdf5.open_raster(made, CubeOptions(key)).georeference()
        driver = {"tiff": "GTiff", "envi": "ENVI"}[self.kind]
        return position.of_file(self.raw_path if self.kind == "envi" else made, driver)

    def discard(self) -> None:
        """Take the work away."""
        if self.raw:
            self.raw.abandon()
        shutil.rmtree(self.work, ignore_errors=True)

    def _check(self):
        number = self.dtype.newbyteorder("=")
        supported = {
            "envi": envi.supports(number),
            "png": number in (np.uint8, np.uint16),
            "tiff": number != np.float16 and number.itemsize <= 8,
            "mat5": number != np.float16,
        }
        if not supported.get(self.kind, True):
            raise DataError(self.path, f"this format has no values of type {number}", "write to .npy or .h5")
        if self.kind == "mat5" and self.nbytes > arrays.LARGEST_MAT5:
            raise DataError(
                self.path,
                f"{self.nbytes / 1e9:.1f} GB, more than a v5 .mat holds (4.3 GB)",
                "write to .h5, .hdr or .tif",
            )


def output_name(path: str | Path) -> str:
    """The name that a result of the same kind has in a folder: its input's, or that of its header."""
    path = Path(path)
    header = None if path.is_dir() or path.suffix.lower() in EXTENSIONS else envi.header_of(path)
    return header.name if header else path.name


def is_band_folder(path: str | Path) -> bool:
    """Whether a path is a folder of one picture a band."""
    return Path(path).is_dir() and bool(bands.band_files(path))


def holds_only_pictures(folder: str | Path) -> bool:
    """Whether nothing but PNG files is in a folder."""
    return all(p.is_file() and p.suffix.lower() == ".png" for p in Path(folder).iterdir())


def scene_files(root: Path) -> list[Path]:
    """Files below a folder, at most three levels down, that are scenes by content or extension, sorted."""
    found = []
    for folder, names in folders_below(root):
        for path in (folder / name for name in names):
            if not path.name.startswith(".") and path.is_file():
                if path.suffix.lower() in EXTENSIONS or (os.access(path, os.R_OK) and format_of(path)):
                    found.append(path)
    return found


def scenes_below(root: Path) -> list[Path]:
    """`scene_files`, and folders of band pictures."""
    return sorted([*scene_files(root), *(folder for folder, _ in folders_below(root) if is_band_folder(folder))])


def _sync(path):
    """Have a file, or all files of a folder, safely on the disk."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        sync_file(file)


def _replace(made, final):
    """Move a file or folder to its place; a folder that stands there is moved aside first."""
    aside = made.with_name(f"{made.name}.before")
    if final.is_dir():
        os.replace(final, aside)
    os.replace(made, final)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
