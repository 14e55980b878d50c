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
    **{"mat5": arrays.open_mat5, "npy": arrays.open_npy, "npz": arrays.open_npz},
    **{"hdf5": hdf5.open_raster, "tiff": gdal.open_tiff, "envi": envi.open_raster},
}
# Writers of copies of a template's file with its metadata, and of new files.
_WRITE = {
    **{"mat5": arrays.write_mat5, "npy": arrays.write_npy, "npz": arrays.write_npz},
    **{"hdf5": hdf5.write, "tiff": gdal.write_tiff, "png": band_pictures.write},
}
KIND_OF_EXTENSION = {
    **{".mat": "mat5", ".npy": "npy", ".npz": "npz", ".tif": "tiff", ".tiff": "tiff"},
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".nc", ".nc4"), "hdf5"),
    **dict.fromkeys((".hdr", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip"), "envi"),
}
# Extensions of scenes in a folder; of ENVI's files, the header's.
EXTENSIONS = (".mat", ".npy", ".npz", ".h5", ".hdf5", ".he5", ".nc", ".nc4", ".hdr", ".tif", ".tiff")
FORMATS_READ = (
    "MATLAB .mat, NumPy .npy and .npz, HDF5, netCDF-4, ENVI (.hdr with its data), TIFF, folders of one PNG a band"
)
# Names of label images beside scenes, and the number of bands of a coloured one.
LABEL_NAME = re.compile(
    r"(^|[\W_\d])(gt|ground_?truth|labels?|mask|class(es|map)?|annotations?)([\W_]?\d*)$|_?gt$", re.I
)
MOST_LABEL_BANDS = 4


def detect_format(path: str | Path) -> str | None:
    """Return mat5, hdf5, npy, npz, tiff or envi by the first bytes of a file; None for anything else.

    Raises:
        UserError: for a file that cannot be read or is not a regular file.
    """
    refuse_irregular(path)
    try:
        with open(path, "rb") as f:
            head = f.read(128)
    except PermissionError as error:
        raise make_read_error(path, "", error) from error
    if head.startswith((b"\x89HDF", b"MATLAB 7.3")):
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
    # An HDF5 file may begin with a user block.
    return "hdf5" if h5py.is_hdf5(path) else None


def open_raster(path: str | Path, options: CubeOptions = DEFAULTS) -> Raster:
    """Open a scene: a file of any known format (ENVI by its header or its data), or a folder of band pictures.

    Raises:
        DataError: for a damaged, empty or unknown file, no cube or several in it, an unclear band axis, values
            that are not real numbers, a header that does not match its data, or a missing package.
    """
    path = Path(path)
    if path.is_dir():
        scene = band_pictures.open_raster(path, options)
    else:
        refuse_irregular(path)
        if path.stat().st_size == 0:
            raise DataError(path, "the file is empty (0 bytes)", "copy it again or take it away")
        kind, data = detect_format(path), None
        if kind is None and (header := envi.find_header(path)):
            path, kind, data = header, "envi", path
        if kind is None:
            raise _make_unknown_format_error(path)
        with convert_read_errors(path, kind):
            scene = envi.open_raster(path, options, data) if data else _OPEN[kind](path, options)
        if 0 in scene.shape:
            raise DataError(path, f"an empty array ({' x '.join(map(str, scene.shape))})", "export it again")
    return dataclasses.replace(scene, nodata=options.nodata_value) if options.nodata else scene


def _make_unknown_format_error(path: Path) -> DataError:
    """Return the error for a file in another format: its kind, else the formats that are read."""
    if kind := describe_kind(path):
        return DataError(path, f"{kind.name}, not a scene", kind.remedy or f"give one that is read: {FORMATS_READ}")
    headers = envi.list_header_candidates(path)
    if header := next((h for h in headers if h.is_file() and h != path and h.suffix.lower() == ".hdr"), None):
        kind = describe_kind(header)
        remedy = kind.remedy if kind and kind.remedy else "give an ENVI header, whose first line is ENVI"
        return DataError(header, f"{kind.name if kind else 'binary data'}, not the ENVI header of {path.name}", remedy)
    expected = KIND_OF_EXTENSION.get(path.suffix.lower(), "")
    if expected and (expected != "envi" or path.suffix.lower() == ".hdr"):
        with open(path, "rb") as f:
            what = f"not {NAMES_OF_KINDS[expected]} by its first bytes ({f.read(8).hex(' ')})"
        return DataError(path, what, f"copy it again, or give another format that is read: {FORMATS_READ}")
    what = f"not in a format that is read ({FORMATS_READ}), and without an ENVI header {headers[0].name} beside it"
    return DataError(path, what, "convert it to one of these, or add its header")


class Output:
    """The result of a scene: written in a folder beside its final path, and moved to that path at the end.

    Args:
        path: file, or folder of pictures; an ENVI result may be given by its header or its data.
        template: the scene whose metadata the result takes.
        scale: upsampling factor.

    Attributes:
        path: the final file, ENVI header or folder of pictures.
        kind: its format.
        work: the folder `.NAME.partial`.
        raw: the RawCube that the tiles are written to; for ENVI, the data file itself.
    """

    def __init__(self, path: str | Path, template: Raster, scale: int) -> None:
        self.path, self.template, self.scale = Path(path), template, scale
        suffix = self.path.suffix
        self.kind = KIND_OF_EXTENSION.get(suffix.lower(), template.kind)
        is_matlab = isinstance(template, hdf5.Hdf5Raster) and template.is_matlab
        if self.kind == "mat5" and template.kind == "hdf5" and (is_matlab or template.path.suffix.lower() == ".mat"):
            self.kind = "hdf5"
        # The extension of an ENVI data file names that file, and .bil, .bip and .bsq also its interleave.
        self._data_extension = suffix if self.kind == "envi" and suffix.lower() not in ("", ".hdr") else ""
        if self.kind == "envi" and suffix.lower() != ".hdr":
            self.path = self.path.with_suffix(".hdr")
        self.shape = (template.shape[0] * scale, template.shape[1] * scale, template.shape[2])
        self.dtype = template.dtype if self.kind == template.kind else template.dtype.newbyteorder("=")
        self.work = self.path.with_name(f".{self.path.name}.partial")
        self.raw: RawCube | None = None
        self._check()

    @property
    def nbytes(self) -> int:
        """Bytes of the bare values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def _data_name(self) -> str:
        is_envi = self.kind == "envi"
        return envi.choose_data_name(self.path.stem, self.template, self._data_extension) if is_envi else "values.raw"

    @property
    def raw_path(self) -> Path:
        """Path of the tiles' bare values."""
        return self.work / self._data_name

    @property
    def nbytes_on_disk(self) -> int:
        """Bytes needed while it is written: of ENVI the values once, else the bare values and the result."""
        return self.nbytes if self.kind == "envi" else 2 * self.nbytes

    def list_final_paths(self) -> list[Path]:
        """Return the files, or the folder, of the result."""
        beside = [self.path.with_name(self._data_name)] if self.kind == "envi" else []
        return [*beside, self.path]

    def list_replaced_paths(self) -> list[Path]:
        """Return existing files that the result replaces: its own paths, and files that readers add to them."""
        existing = [path for path in self.list_final_paths() if path.exists()]
        parts = [*self._list_data_candidates()[:1], *self._list_sidecars()] if self.path in existing else []
        return list(dict.fromkeys([*existing, *parts]))

    def list_misleading_paths(self) -> list[Path]:
        """Return files that readers would add to the result: data of an ENVI header, masks, metadata."""
        candidates = [*self._list_data_candidates(before=self._data_name), *self._list_sidecars()]
        replaced = self.list_replaced_paths()
        return [path for path in candidates if path not in replaced]

    def _list_sidecars(self) -> list[Path]:
        """Return existing files from which GDAL reads a raster's mask, overviews and metadata."""
        if self.kind not in ("tiff", "envi"):
            return []
        raster = self.list_final_paths()[0]
        paths = [raster.with_name(f"{raster.name}{suffix}") for suffix in (".msk", ".ovr", ".aux.xml")]
        return [path for path in paths if path.is_file()]

    def _list_data_candidates(self, before: str | None = None) -> list[Path]:
        """Return existing files that readers try as an ENVI header's data, in order, or those before that name."""
        names = envi.list_data_names(self.path.stem) if self.kind == "envi" else []
        names = names[: names.index(before)] if before in names else names
        return [path for path in map(self.path.with_name, names) if path.is_file()]

    def open_raw(self) -> RawCube:
        """Create, or continue, the file of bare values."""
        self.work.mkdir(parents=True, exist_ok=True)
        interleave = self.template.interleave if self.kind in (self.template.kind, "envi") else "bip"
        if self._data_extension[1:].lower() in AXES:
            interleave = self._data_extension[1:].lower()
        self.raw = RawCube(self.raw_path, self.shape, self.dtype, interleave)
        return self.raw

    def reserve(self) -> None:
        """Check before any work that a file of the result's size can be written.

        Raises:
            OSError: if the file system or the shell does not allow a file of that size.
        """
        trial = self.work / "size"
        with open(trial, "wb") as f:
            f.truncate(self.nbytes)
        trial.unlink()

    def describe(self, understood: Understanding) -> None:
        """Set the metadata of the result: those of the scene and of its user."""
        # Read now, so that damage is found before the work.
        place = self._find_writable_position()
        self.template = dataclasses.replace(add_user_metadata(self.template, understood), locate=lambda: place)
        nodata = self.template.nodata
        if nodata is not None and self.dtype.kind != "f" and convert_nodata(self.dtype, nodata) is None:
            # The type cannot contain the value; rounded, it would equal valid pixels.
            self.template.nodata = None
        if self.template.mask and self.kind != "tiff" and self.template.nodata is None:
            # A format without masks needs a nodata value.
            lowest = np.nan if self.dtype.kind == "f" else np.iinfo(self.dtype).min
            understood.calibration.result_nodata = self.dtype.newbyteorder("=").type(lowest)
            self.template.nodata = float(lowest)

    def _find_writable_position(self) -> Georeference | None:
        """Return the scene's georeferencing, without a CRS that GDAL cannot write."""
        place, kind = self.template.read_georeference(), self.template.kind
        is_new_netcdf = netcdf.is_netcdf_name(self.path) and not (
            kind == self.kind == "hdf5" and hdf5.is_copy(self.path, self.template)
        )
        # The other formats contain any text.
        is_written_by_gdal = self.kind in ("tiff", "envi") or is_new_netcdf
        if place is None or not is_written_by_gdal or gdal.is_known_crs(place.crs):
            return place
        print_line(f"{self.path.name}: without its coordinate system, which is not known ({place.crs[:60]})")
        return Georeference("", place.transform)

    def finish(self, cube: np.ndarray) -> list[Path]:
        """Write the result in its format from the values (an array, or `raw.cube`) and move it to its final path.

        Returns:
            The paths written.
        """
        if self.kind == "envi":
            raw = self.raw
            if raw is None:
                raw = self.open_raw()
                raw.write(0, 0, cube)
            raw.close()
            envi.write_header(self.work / self.path.name, raw, self.template, self.scale)
        else:
            self.work.mkdir(parents=True, exist_ok=True)
            _WRITE[self.kind](self.work / self.path.name, cube, self.template, self.scale)
        self._report_losses()
        replaced = self.list_replaced_paths()
        # The header comes last; old files are removed when the new ones are in place.
        for final in self.list_final_paths():
            written = self.work / final.name
            for file in sorted(written.iterdir()) if written.is_dir() else [written]:
                sync_file(file)
            if final.is_dir():
                os.replace(final, self.work / f"{final.name}.before")
            os.replace(written, final)
        for path in replaced:
            if path not in self.list_final_paths():
                path.unlink(missing_ok=True)
        self.discard()
        return self.list_final_paths()

    def _report_losses(self) -> None:
        """Name the metadata that the format cannot contain."""
        template, lost = self.template, []
        if self.kind in ("npy", "png"):
            is_new = self.kind != template.kind or template.wavelengths_given
            present = {
                "position": template.read_georeference() is not None,
                "wavelengths": template.wavelengths is not None and is_new,
                "scale of its values": bool(template.value_scale or template.scaling),
                "nodata value": template.nodata is not None,
            }
            lost = [words for words, is_present in present.items() if is_present]
        lost += template.other_fields if self.kind != template.kind else []
        lost += template.band_fields if self.kind not in ("envi", "tiff", template.kind) else []
        if lost:
            print_line(f"{self.path.name}: without its {', '.join(lost)}, which this format cannot contain")

    def discard(self) -> None:
        """Remove the work folder."""
        if self.raw:
            self.raw.abandon()
        shutil.rmtree(self.work, ignore_errors=True)

    def _check(self) -> None:
        """Refuse a format that cannot contain the values, and a path that GDAL cannot write."""
        number, name = self.dtype.newbyteorder("="), str(self.path)
        supported = {
            "envi": envi.supports(number),
            "png": number in (np.uint8, np.uint16),
            "tiff": number != np.float16 and number.itemsize <= 8,
            "mat5": number != np.float16,
        }
        if not supported.get(self.kind, True):
            raise DataError(self.path, f"this format has no values of type {number}", "write to .npy or .h5")
        needs_place = self.kind == "envi" or netcdf.is_netcdf_name(self.path)
        if self.kind == "tiff" or (needs_place and self.template.read_georeference() is not None):
            if as_utf8(name) != name:
                raise DataError(self.path, "this path is not UTF-8, and GDAL writes no other", "give another {output}")
        if self.kind == "mat5" and self.nbytes > arrays.LARGEST_MAT5:
            what = f"{self.nbytes / 1e9:.1f} GB, more than a v5 .mat can contain (4.3 GB)"
            raise DataError(self.path, what, "write to .h5, .hdr or .tif")


def get_output_name(path: str | Path) -> str:
    """Return the name of a scene's result of the same format: the input's, or that of its ENVI header."""
    path = Path(path)
    header = None if path.is_dir() or path.suffix.lower() in EXTENSIONS else envi.find_header(path)
    return header.name if header else path.name


def is_band_folder(path: str | Path) -> bool:
    """Return True if a path is a folder of one picture a band."""
    return Path(path).is_dir() and bool(band_pictures.list_band_files(path))


def contains_only_pictures(folder: str | Path) -> bool:
    """Return True if a folder contains only PNG files."""
    return all(p.is_file() and p.suffix.lower() == ".png" for p in Path(folder).iterdir())


def find_scene_files(root: Path, options: CubeOptions = DEFAULTS) -> list[Path]:
    """Return the files below a folder that are scenes by content or extension, sorted; see `walk_folders`.

    This program's stores and crops are skipped, and label images beside the scenes, with a message.
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
    """Return True for a file that has a name of labels (PaviaU_gt.mat) and does not contain a cube of many bands."""
    if not LABEL_NAME.search(path.stem):
        return False
    try:
        return open_raster(path, options).shape[2] <= MOST_LABEL_BANDS
    except DataError:
        return True


def find_scenes_below(root: Path, options: CubeOptions = DEFAULTS) -> list[Path]:
    """Return `find_scene_files` and folders of band pictures; numbered pictures beside a scene's file are previews."""
    files = find_scene_files(root, options)
    beside = {path.parent for path in files}
    return sorted([*files, *(f for f, _ in walk_folders(root) if f not in beside and is_band_folder(f))])
