"""Users' raster files: read by windows, and written back with their metadata.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, netCDF-4, ENVI (.hdr with its data file), multi-band TIFF
(GeoTIFF, COG), folders of one PNG a band.
"""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np

from formats import arrays, band_pictures, envi, gdal, hdf5, netcdf
from formats.calibration import Understanding, add_user_metadata
from formats.folders import format_names, is_output, walk_folders
from formats.kinds import NPZ, describe_kind
from formats.nodata import convert_nodata
from formats.raster import (
    DEFAULTS,
    NAMES_OF_KINDS,
    CubeOptions,
    Georeference,
    Raster,
    convert_read_errors,
    from_array,
    make_read_error,
)
from formats.raw import AXES, RawCube
from system.errors import DataError
from system.files import refuse_irregular, sync_file
from utils import as_utf8, print_line

__all__ = ["CubeOptions", "Output", "Raster", "from_array", "open_raster"]

_OPEN = {
    "mat5": arrays.open_mat5,
    "hdf5": hdf5.open_raster,
    "npy": arrays.open_npy,
    "npz": arrays.open_npz,
    "tiff": gdal.open_tiff,
    "envi": envi.open_raster,
    "png": band_pictures.open_raster,
}
# Writers of new files, and of copies of a template's file with its metadata.
_WRITE = {
    "mat5": arrays.write_mat5,
    "hdf5": hdf5.write,
    "npy": arrays.write_npy,
    "npz": arrays.write_npz,
    "tiff": gdal.write_tiff,
    "png": band_pictures.write,
}
KIND_OF_EXTENSION = {
    **{".mat": "mat5", ".npy": "npy", ".npz": "npz", ".tif": "tiff", ".tiff": "tiff"},
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".nc", ".nc4"), "hdf5"),
    **dict.fromkeys((".hdr", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip"), "envi"),
}
# Extensions by which an input is known for a scene; of ENVI's files, its header.
EXTENSIONS = (".mat", ".npy", ".npz", ".h5", ".hdf5", ".he5", ".nc", ".nc4", ".hdr", ".tif", ".tiff")
FORMATS_READ = (
    "MATLAB .mat, NumPy .npy and .npz, HDF5, netCDF-4, ENVI (.hdr with its data), TIFF, folders of one PNG a band"
)
# Names of label images, as they are kept beside scenes, and the bands of a coloured one.
LABEL_NAME = re.compile(
    r"(^|[\W_\d])(gt|ground_?truth|labels?|mask|class(es|map)?|annotations?)([\W_]?\d*)$|_?gt$", re.I
)
MOST_LABEL_BANDS = 4


def detect_format(path: str | Path) -> str | None:
    """mat5, hdf5, npy, npz, tiff or envi, by the first bytes; None for anything else.

    Raises:
        UserError: for a file that may not be read, or is no regular one.
    """
    refuse_irregular(path)
    try:
        with open(path, "rb") as f:
            head = f.read(128)
    except PermissionError as error:
        raise make_read_error(path, "", error) from error
    if head.startswith(b"\x89HDF") or head.startswith(b"MATLAB 7.3"):
        return "hdf5"
    if head.startswith(b"MATLAB 5.0") or head[126:128] in (b"IM", b"MI"):
        return "mat5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04") and describe_kind(path) == NPZ:
        return "npz"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if envi.is_header(head):
        return "envi"
    # A v4 file begins with a number of at most 4052: one of its bytes is zero.
    if Path(path).suffix.lower() == ".mat" and 0 in head[:4] and not describe_kind(path):
        return "mat5"
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
        return _with_users_nodata(band_pictures.open_raster(path, options), options)
    refuse_irregular(path)
    if path.stat().st_size == 0:
        raise DataError(path, "the file is empty (0 bytes)", "copy it again or take it away")
    kind, data = detect_format(path), None
    if kind is None and (header := envi.find_header(path)):
        path, kind, data = header, "envi", path
    if kind is None:
        raise _unknown_format(path)
    with convert_read_errors(path, kind):
        raster = envi.open_raster(path, options, data) if data else _OPEN[kind](path, options)
        if 0 in raster.shape:
            raise DataError(path, f"{' x '.join(map(str, raster.shape))} values, none at all", "export it again")
    return _with_users_nodata(raster, options)


def _with_users_nodata(raster: Raster, options: CubeOptions) -> Raster:
    return dataclasses.replace(raster, nodata=options.nodata_value) if options.nodata else raster


def _unknown_format(path: Path) -> DataError:
    """Return the error for a file in another format: its kind, else the formats that are read."""
    if kind := describe_kind(path):
        return DataError(path, f"{kind.name}, not a scene", kind.remedy or f"give one that is read: {FORMATS_READ}")
    headers = envi.list_header_candidates(path)
    if header := next((h for h in headers if h.is_file() and h != path and h.suffix.lower() == ".hdr"), None):
        kind = describe_kind(header)
        remedy = kind.remedy if kind and kind.remedy else "give an ENVI header, whose first line is ENVI"
        return DataError(header, f"{kind.name if kind else 'binary data'}, not the ENVI header of {path.name}", remedy)
    named = KIND_OF_EXTENSION.get(path.suffix.lower(), "")
    if named and (named != "envi" or path.suffix.lower() == ".hdr"):
        with open(path, "rb") as f:
            what = f"not {NAMES_OF_KINDS[named]} by its first bytes ({f.read(8).hex(' ')})"
        return DataError(path, what, f"copy it again, or give another format that is read: {FORMATS_READ}")
    what = f"not in a format that is read ({FORMATS_READ}), and without an ENVI header {headers[0].name} beside it"
    return DataError(path, what, "convert it to one of these, or put its header there")


class Output:
    """The result of a scene: written in a folder beside its final path, and moved there at the end.

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
        is_hdf5_mat = isinstance(like, hdf5.Hdf5Raster) and (like.is_matlab or like.path.suffix.lower() == ".mat")
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
    def is_copy(self) -> bool:
        """True if the result is a copy of the template's file with upsampled pixels."""
        return self.kind == self.like.kind and (self.kind != "hdf5" or hdf5.is_copy(self.path, self.like))

    @property
    def nbytes(self) -> int:
        """Bytes of the bare values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def _data_name(self) -> str:
        return envi.choose_data_name(self.path.stem, self.like, self._wish) if self.kind == "envi" else "values.raw"

    @property
    def raw_path(self) -> Path:
        """Path of the tiles' bare values."""
        return self.work / self._data_name

    @property
    def nbytes_on_disk(self) -> int:
        """Bytes that are needed while it is made: ENVI's values are written once, the others' bare ones first."""
        return self.nbytes if self.kind == "envi" else 2 * self.nbytes

    def final_paths(self) -> list[Path]:
        """Return the files, or the folder, of the result."""
        beside = [self.path.with_name(self._data_name)] if self.kind == "envi" else []
        return [*beside, self.path]

    def replaced_paths(self) -> list[Path]:
        """Return existing files that the result replaces: its own paths, and parts that readers take for its own."""
        standing = [path for path in self.final_paths() if path.exists()]
        parts = [*self._data_candidates()[:1], *self._sidecars()] if self.path in standing else []
        return list(dict.fromkeys([*standing, *parts]))

    def misleading_paths(self) -> list[Path]:
        """Files that readers would take for parts of the result: data of an ENVI header, masks, metadata."""
        candidates = [*self._data_candidates(before=self._data_name), *self._sidecars()]
        return [path for path in candidates if path not in self.replaced_paths()]

    def _sidecars(self) -> list[Path]:
        """Files in which GDAL looks for a raster's mask, overviews and metadata."""
        if self.kind not in ("tiff", "envi"):
            return []
        raster = self.path.with_name(self._data_name) if self.kind == "envi" else self.path
        names = [f"{raster.name}{suffix}" for suffix in (".msk", ".ovr", ".aux.xml")]
        return [path for path in map(raster.with_name, names) if path.is_file()]

    def _data_candidates(self, before: str | None = None) -> list[Path]:
        """Files that readers take for an ENVI header's data, in their order, or those before one of that name."""
        if self.kind != "envi":
            return []
        names = envi.list_data_names(self.path.stem)
        names = names[: names.index(before)] if before in names else names
        return [path for path in map(self.path.with_name, names) if path.is_file()]

    def open_raw(self) -> RawCube:
        """Create, or continue, the file of bare values."""
        self.work.mkdir(parents=True, exist_ok=True)
        interleave = self.like.interleave if self.kind in (self.like.kind, "envi") else "bip"
        if self._wish[1:].lower() in AXES:
            interleave = self._wish[1:].lower()
        self.raw = RawCube(self.raw_path, self.shape, self.dtype, interleave)
        return self.raw

    def reserve(self) -> None:
        """Check before any work that a file of the result's size can be written.

        Raises:
            OSError: if the disk's format or the shell allows no file of that size.
        """
        trial = self.work / "size"
        with open(trial, "wb") as f:
            f.truncate(self.nbytes)
        trial.unlink()

    def describe(self, understood: Understanding) -> None:
        """Take over the metadata of the scene and of its user for the result."""
        # Read now, so that damage is found before the work.
        place = self._writable_position()
        self.like = dataclasses.replace(add_user_metadata(self.like, understood), locate=lambda: place)
        nodata = self.like.nodata
        if nodata is not None and self.dtype.kind != "f" and convert_nodata(self.dtype, nodata) is None:
            # The type does not hold it, and its rounded number would mark data.
            self.like = dataclasses.replace(self.like, nodata=None)
        if self.like.mask and self.kind != "tiff" and self.like.nodata is None:
            # Other formats have no mask: their result gets a nodata value.
            mark = np.nan if self.dtype.kind == "f" else np.iinfo(self.dtype).min
            understood.calibration.mark = self.dtype.newbyteorder("=").type(mark)
            self.like = dataclasses.replace(self.like, nodata=float(mark))

    def _writable_position(self) -> Georeference | None:
        """Return the scene's georeferencing, without a coordinate system that GDAL cannot write."""
        place = self.like.georeference()
        becomes_netcdf = netcdf.is_netcdf_name(self.path) and not self.is_copy
        # All others hold any text.
        is_written_by_gdal = self.kind in ("tiff", "envi") or becomes_netcdf
        if place is None or not is_written_by_gdal or gdal.is_known_crs(place.crs):
            return place
        print_line(f"{self.path.name}: without its coordinate system, which is not known ({place.crs[:60]})")
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
        self._report_losses()
        self._check_position()
        replaced = self.replaced_paths()
        # The header comes last; old files are removed when the new ones are in place.
        for final in self.final_paths():
            _sync(self.work / final.name)
            _replace(self.work / final.name, final)
        for path in replaced:
            if path not in self.final_paths():
                _remove(path)
        self.discard()
        return self.final_paths()

    def _report_losses(self) -> None:
        """Name the metadata that the format cannot contain."""
        like, name = self.like, self.path.name
        extra = list(like.other_fields) if self.kind != like.kind else []
        if self.kind not in ("envi", "tiff", like.kind):
            extra += like.band_fields
        if self.kind in ("npy", "png"):
            lost = {
                "position": like.georeference() is not None,
                "wavelengths": like.wavelengths is not None and (self.kind != like.kind or like.wavelengths_given),
                "scale of its values": bool(like.value_scale or like.scaling),
                "mark for no data": like.nodata is not None,
            }
            if words := [*(word for word, is_lost in lost.items() if is_lost), *extra]:
                print_line(f"{name}: without the {', '.join(words)}, for which this format has no place")
        elif extra:
            print_line(f"{name}: without its {', '.join(extra)}, for which this format has no place")

    def _check_position(self) -> None:
        """Read the georeferencing back by the format's own library, and report a difference."""
        place = self.like.georeference()
        if self.kind not in ("tiff", "envi", "hdf5") or place is None:
            return
        expected, found = place.upsample(self.scale), self._position_of_result()
        if found is None and self.kind == "hdf5":
            print_line(f"{self.path.name}: without its position, for which its coordinates have no place")
        elif found and not gdal.are_same(expected, found, *self.shape[:2]):
            print_line(f"{self.path.name}: its position reads back as {found.transform}, not as {expected.transform}")

    def _position_of_result(self) -> Georeference | None:
        """Return the georeferencing of the file in the work folder."""
        made = self.work / self.path.name
        if self.kind == "hdf5":
            key = self.like.key if self.is_copy and isinstance(self.like, hdf5.Hdf5Raster) else "image"
            return hdf5.open_raster(made, CubeOptions(key)).georeference()
        driver = {"tiff": "GTiff", "envi": "ENVI"}[self.kind]
        return gdal.read_georeference(self.raw_path if self.kind == "envi" else made, driver)

    def discard(self) -> None:
        """Remove the work folder."""
        if self.raw:
            self.raw.abandon()
        shutil.rmtree(self.work, ignore_errors=True)

    def _check(self) -> None:
        number = self.dtype.newbyteorder("=")
        supported = {
            "envi": envi.supports(number),
            "png": number in (np.uint8, np.uint16),
            "tiff": number != np.float16 and number.itemsize <= 8,
            "mat5": number != np.float16,
        }
        if not supported.get(self.kind, True):
            raise DataError(self.path, f"this format has no values of type {number}", "write to .npy or .h5")
        name = str(self.path)
        by_gdal = self.kind == "tiff" or (
            (self.kind == "envi" or netcdf.is_netcdf_name(self.path)) and self.like.georeference() is not None
        )
        if by_gdal and as_utf8(name) != name:
            raise DataError(self.path, "this path is not UTF-8, and GDAL writes no other", "give another {output}")
        if self.kind == "mat5" and self.nbytes > arrays.LARGEST_MAT5:
            raise DataError(
                self.path,
                f"{self.nbytes / 1e9:.1f} GB, more than a v5 .mat holds (4.3 GB)",
                "write to .h5, .hdr or .tif",
            )


def get_output_name(path: str | Path) -> str:
    """Return the name of a result of the same kind in a folder: its input's, or that of its header."""
    path = Path(path)
    header = None if path.is_dir() or path.suffix.lower() in EXTENSIONS else envi.find_header(path)
    return header.name if header else path.name


def is_band_folder(path: str | Path) -> bool:
    """Return True if a path is a folder of one picture a band."""
    return Path(path).is_dir() and bool(band_pictures.list_band_files(path))


def holds_only_pictures(folder: str | Path) -> bool:
    """Return True if a folder contains only PNG files."""
    return all(p.is_file() and p.suffix.lower() == ".png" for p in Path(folder).iterdir())


def find_scene_files(root: Path, options: CubeOptions = DEFAULTS) -> list[Path]:
    """Files below a folder that are scenes by content or extension, sorted; see `walk_folders`.

    Passed over are this program's stores and crops and, with a remark, label images beside the scenes.
    """
    found: list[Path] = []
    labels: list[Path] = []
    for folder, names in walk_folders(root):
        for path in (folder / name for name in names if (folder / name).is_file()):
            is_known = path.suffix.lower() in EXTENSIONS or (os.access(path, os.R_OK) and detect_format(path))
            if is_known and not is_output(path):
                (labels if _is_label_image(path, options) else found).append(path)
    if labels:
        print_line(f"{root}: passed over as label images, not cubes: {format_names([path.name for path in labels])}")
    return found


def _is_label_image(path: Path, options: CubeOptions) -> bool:
    """True for a file that is named as labels are (PaviaU_gt.mat) and contains no cube of many bands."""
    if not LABEL_NAME.search(path.stem):
        return False
    try:
        return open_raster(path, options).shape[2] <= MOST_LABEL_BANDS
    except DataError:
        return True


def find_scenes_below(root: Path, options: CubeOptions = DEFAULTS) -> list[Path]:
    """`find_scene_files`, and folders of band pictures; numbered pictures beside a scene's file are previews."""
    files = find_scene_files(root, options)
    beside = {path.parent for path in files}
    return sorted([*files, *(f for f, _ in walk_folders(root) if f not in beside and is_band_folder(f))])


def _sync(path: Path) -> None:
    """Flush a file, or all files of a folder, to the disk."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        sync_file(file)


def _replace(made: Path, final: Path) -> None:
    """Move a file or folder to its place; an existing folder is moved aside first."""
    aside = made.with_name(f"{made.name}.before")
    if final.is_dir():
        os.replace(final, aside)
    os.replace(made, final)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
