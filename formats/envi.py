"""ENVI: a text header beside a file of bare values."""

import glob
import gzip
import io
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from facts import LARGEST_SCALE
from formats import envi_header, georeferencing
from formats.grid import finer_map_info
from formats.kinds import describe_kind, unreadable_as
from formats.raster import (
    WAVELENGTH_NAMES,
    CubeOptions,
    Raster,
    Scaling,
    checked_numbers,
    given_wavelengths,
    nanometres,
    scaling_said,
)
from formats.raw_values import AXES, RawCube, RawWindows
from system.errors import DataError
from system.files import explain_write_errors
from utils import as_utf8, print_line

HEADER_EXTENSIONS = (".hdr", ".HDR")
# ENVI's numbers of the types that its files hold.
DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
# Words for a byte order: 0 is the least significant byte first.
BYTE_ORDERS = {
    **dict.fromkeys(("0", "little", "little endian", "little-endian", "intel", "lsf", "host (intel)", "ieee-le"), 0),
    **dict.fromkeys(("1", "big", "big endian", "big-endian", "network", "msf", "network (ieee)", "ieee-be"), 1),
}
GAINS, OFFSETS = "data gain values", "data offset values"
COMPRESSION = "file compression"
# DEFLATE makes nothing smaller than a 1032th.
MOST_PACKED = 1100
SCALE_FACTOR, IGNORED = "reflectance scale factor", "data ignore value"
# Fields that are about the pixel grid.
FIELDS_OF_PIXELS = ("map info", "pixel size", "x start", "y start", "geo points")
# Extensions of data files, beside those that name their interleave.
DATA_EXTENSIONS = ("img", "dat", "sli", "hyspex", "raw", "bin")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")


def header_of(path: str | Path) -> Path | None:
    """The header of an ENVI file that may be named by its header or by its data; None without one."""
    path = Path(path)
    for candidate in [path, *header_candidates(path)]:
        if candidate.is_file() and candidate.suffix.lower() == ".hdr":
            with open(candidate, "rb") as f:
                if envi_header.is_header(f.read(64)):
                    return candidate
    return None


def header_candidates(path: Path) -> list[Path]:
    """Paths at which the header of an ENVI data file is looked for."""
    stems = (path.name, path.stem)
    return [path.with_name(stem + extension) for stem in stems for extension in HEADER_EXTENSIONS]


def open_raster(path: Path, options: CubeOptions, data: Path | None = None) -> Raster:
    """Open an ENVI scene by its header.

    Args:
        path: the header.
        options: see `CubeOptions`.
        data: the file of its values; None: the one beside it that readers take.

    Raises:
        DataError: for a header that cannot be used or does not fit its data.
    """
    header = envi_header.read(path)
    if "spectral library" in _text(header, "file type").lower():
        raise DataError(path, "a spectral library, where an image is needed", "give the header of an image")
    shape = tuple(_whole_number(path, header, name) for name in ("lines", "samples", "bands"))
    dtype = _number_type(path, header)
    _refuse_unusable_fields(path, header)
    data, pixels = _opened(path, header, data, shape, dtype)
    known = _wavelengths(path, header, shape[2])
    given = known is None and bool(options.wavelengths)
    value_scale, scaling = _scaling(path, header, shape[2])
    names = _listed(header.get("band names", []))
    return Raster(
        path=Path(path),
        kind="envi",
        shape=shape,
        dtype=dtype,
        source=pixels.read,
        files=(Path(path), data),
        wavelengths=given_wavelengths(options.wavelengths, shape[2]) if given else known,
        wavelengths_given=given,
        band_names=names if len(names) == shape[2] else None,
        nodata=_ignored(path, header),
        value_scale=value_scale,
        scaling=scaling,
        georeference=lambda: georeferencing.of_file(data, "ENVI") if "map info" in header else None,
        interleave=_text(header, "interleave").lower(),
        details={"header": header, "extension": data.suffix},
    )


def _refuse_unusable_fields(path: Path, header: envi_header.Header) -> None:
    """Refuse what would go wrong later: another interleave, bytes between values, fields of pixels."""
    if _text(header, "interleave").lower() not in AXES:
        raise _misunderstood(path, "interleave", _text(header, "interleave"))
    for name in ("major frame offsets", "minor frame offsets"):
        if name in header and any(_numbers(path, header, name)):
            what = f"its field {name} = {_text(header, name)} puts other bytes between its values"
            raise DataError(path, what, "export it without")
    for name in FIELDS_OF_PIXELS:
        # What is made of these for finer pixels must be possible before any work.
        if name in header:
            try:
                _finer({name: header[name]}, 2)
            except (ValueError, IndexError, TypeError):
                raise _misunderstood(path, name, ", ".join(_listed(header[name]))) from None


def _opened(
    path: Path, header: envi_header.Header, data: Path | None, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[Path, RawWindows]:
    """(data file, its values, which stay on the disk)."""
    offset = _whole_number(path, header, "header offset", 0)
    data = data if data is not None and data != path else _data_of(path, shape, dtype, offset)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + offset
    held, interleave = data.stat().st_size, _text(header, "interleave").lower()
    if _text(header, COMPRESSION) == "1" and held != needed:
        return data, RawWindows(_unpacked(data, held, needed), shape, dtype, interleave, offset)
    # A file too long has other lines or samples than the header says: its image would be sheared.
    if held != needed:
        kind = describe_kind(data)
        found = f" (it is {kind.name})" if kind and kind.remedy else ""
        remedy = kind.remedy if kind and kind.remedy else "copy the data again or correct the header"
        raise DataError(data, f"{held} bytes{found}, its header speaks of {needed}", remedy)
    return data, RawWindows(data, shape, dtype, interleave, offset)


def _unpacked(data: Path, held: int, needed: int) -> io.BufferedRandom:
    """The values of gzip data as a nameless file in the temporary folder, which goes when it is closed.

    Raises:
        DataError: for data that do not unpack to exactly the bytes needed, or a temporary folder without room.
    """
    wanted = "gzip data (file compression = 1)"
    remedies = "copy the data again", "give its gzip data, or set file compression = 0"
    with open(data, "rb") as f:
        if (start := f.read(2)) != b"\x1f\x8b":
            raise unreadable_as(data, wanted, "gzip", remedies, f"it begins with the bytes {start.hex(' ')}")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > MOST_PACKED * held:
        what = f"{held} packed bytes cannot contain the {needed} of its header"
        raise DataError(data, what, "copy the data again or correct the header")
    if needed > free:
        what = f"{needed / 1e9:.1f} GB when unpacked, the temporary folder has {free / 1e9:.1f} GB free"
        raise DataError(data, what, "set TMPDIR to a larger folder, or unpack the data and set file compression = 0")
    unpacked = tempfile.TemporaryFile()
    try:
        with gzip.open(data) as packed:
            while block := packed.read(min(2**24, needed + 1 - unpacked.tell())):
                with explain_write_errors(tempfile.gettempdir()):
                    unpacked.write(block)
                    unpacked.flush()
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable_as(data, wanted, "gzip", remedies, error) from error
    if unpacked.tell() != needed:
        size = "more" if unpacked.tell() > needed else unpacked.tell()
        raise DataError(data, f"{size} bytes when unpacked, its header speaks of {needed}", "correct the header")
    return unpacked


def _data_of(path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> Path:
    """The data file of a header: under a name that readers know, or the only one beside it of the right size."""
    beside = [path.with_name(name) for name in readers_data_names(path.stem)]
    if found := next((p for p in beside if p.is_file()), None):
        return found
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + offset
    others = [p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if p.is_file() and p != path]
    fitting = [p for p in others if p.stat().st_size == needed and p.suffix.lower() != ".hdr"]
    if len(fitting) != 1:
        raise DataError(path, "its data file is missing", "put it beside the header under the same name")
    return fitting[0]


def _misunderstood(path: Path, name: str, value: str) -> DataError:
    value = value if len(value) <= 100 else f"{value[:100]} ..."
    return DataError(path, f"its field {name} = {value} cannot be understood", "correct it or take it out")


def _text(header: envi_header.Header, name: str) -> str:
    """A field's value as text; of a list of one, that one."""
    value = header.get(name, "")
    return value if isinstance(value, str) else ", ".join(value)


def _listed(value: str | list[str]) -> list[str]:
    """A field's entries, also where they stand without braces."""
    if not isinstance(value, str):
        return list(value)
    entries = [" ".join(entry.split()) for entry in value.split(",")]
    return entries[:-1] if entries[-1] == "" else entries


def _numbers(path: Path, header: envi_header.Header, name: str) -> list[float]:
    """The numbers of a field; a unit behind one is passed over.

    Raises:
        DataError: that shows the entry that is none.
    """
    numbers = []
    for place, entry in enumerate(_listed(header[name]), start=1):
        match = _NUMBER.match(entry)
        is_word = entry.lower() in ("nan", "inf", "-inf", "infinity", "-nan", "-1.#ind", "1.#qnan")
        if not match and not is_word or match and re.search(r"\d", entry[match.end() :]):
            shown = entry if len(_listed(header[name])) == 1 else f"{entry} (entry {place})"
            raise _misunderstood(path, name, shown)
        numbers.append(float(match[0].lower().replace("d", "e")) if match else float("nan"))
    if not numbers:
        raise _misunderstood(path, name, "nothing")
    return numbers


def _one_number(path: Path, header: envi_header.Header, name: str) -> float:
    """The number of a field, also where it stands once for each band."""
    numbers = _numbers(path, header, name)
    if not np.array_equal(numbers, [numbers[0]] * len(numbers), equal_nan=True):
        differing = next(k for k, number in enumerate(numbers) if number != numbers[0])
        shown = f"{numbers[0]:g} and, for band {differing + 1}, {numbers[differing]:g}"
        raise DataError(path, f"its field {name} differs between bands ({shown})", "one number for all bands is needed")
    return numbers[0]


def _whole_number(path: Path, header: envi_header.Header, name: str, default: int | None = None) -> int:
    if name not in header:
        if default is None:
            raise DataError(path, f"its header has no field {name}", "correct it")
        return default
    number = _one_number(path, header, name)
    if not (np.isfinite(number) and number == abs(int(number))):
        raise _misunderstood(path, name, _text(header, name))
    return int(number)


def _number_type(path: Path, header: envi_header.Header) -> np.dtype:
    number = _whole_number(path, header, "data type")
    if number not in DATA_TYPES:
        raise DataError(
            path, f"its field data type = {number} is none of ENVI's ({', '.join(map(str, DATA_TYPES))})", "correct it"
        )
    dtype = np.dtype(DATA_TYPES[number])
    checked_numbers(path, dtype)
    order = " ".join(_text(header, "byte order").lower().rstrip(",").split()).removesuffix(".0")
    if order not in BYTE_ORDERS and "byte order" in header and order:
        raise _misunderstood(path, "byte order", _text(header, "byte order"))
    if not order and dtype.itemsize > 1:
        print_line(f"{path}: its header has no byte order; the least significant byte is taken to come first")
    return dtype.newbyteorder(">" if BYTE_ORDERS.get(order, 0) else "<")


def _wavelengths(path: Path, header: envi_header.Header, bands: int) -> np.ndarray | None:
    name = next((n for n in WAVELENGTH_NAMES if header.get(n)), None)
    if name is None or (name != "wavelength" and len(_listed(header[name])) != bands):
        return None
    values = _numbers(path, header, name)
    if len(values) != bands:
        commas = " (a comma as the decimal mark?)" if len(values) == 2 * bands else ""
        raise DataError(path, f"{len(values)} wavelengths for {bands} bands{commas}", "correct the header")
    if not np.isfinite(values).all():
        raise _misunderstood(path, name, "nan")
    unit = _text(header, "wavelength units")
    return nanometres(values, "" if unit.lower() == "unknown" else unit)


def _ignored(path: Path, header: envi_header.Header) -> float | None:
    return _one_number(path, header, IGNORED) if header.get(IGNORED) else None


def _scaling(path: Path, header: envi_header.Header, bands: int) -> tuple[float | None, Scaling | None]:
    """(value_scale, scaling) by the scale factor, which divides to reflectance, else by gains and offsets.

    Where both say the same gain, the offsets count too.
    """
    gains, offsets = (_numbers(path, header, name) if header.get(name) else None for name in (GAINS, OFFSETS))
    if not header.get(SCALE_FACTOR):
        return scaling_said(path, gains, offsets, bands)
    factors = np.array(_numbers(path, header, SCALE_FACTOR))
    if not ((factors > 1 / LARGEST_SCALE) & (factors < LARGEST_SCALE)).all():
        raise _misunderstood(path, SCALE_FACTOR, _text(header, SCALE_FACTOR))
    if gains is not None and np.size(gains) in (1, bands) and np.allclose(np.array(gains) * factors, 1, rtol=1e-6):
        return scaling_said(path, gains, offsets, bands)
    if (factors == factors[0]).all():
        return float(factors[0]), None
    return scaling_said(path, 1 / factors, None, bands)


def readers_data_names(stem: str) -> list[str]:
    """Names under which readers look for the data of a header of that stem, in their order."""
    return [stem, *(f"{stem}.{case(e)}" for case in (str.lower, str.upper) for e in (*DATA_EXTENSIONS, *AXES))]


def data_name(stem: str, like: Raster, wish: str = "") -> str:
    """The data file's name for a header of that stem, one under which readers look for it.

    Args:
        stem: of the header.
        like: the scene that it is made from.
        wish: the extension that the user gave, such as .bil; "" for none.
    """
    if wish:
        return stem + wish
    extensions = {f".{e}" for e in (*DATA_EXTENSIONS, *AXES)}
    own = like.details["extension"] if like.kind == "envi" else ".img"
    # The header's name may be the data's with .hdr behind it.
    if Path(stem).suffix.lower() in extensions or (own and Path(stem).suffix == own):
        return stem
    return stem + (own if not own or own.lower() in extensions else ".img")


def write_header(path: Path, raw: RawCube, like: Raster, scale: int) -> None:
    """Write the header of a RawCube: the one that it is made from, with finer pixels, or a new one.

    Args:
        path: the .hdr file.
        raw: RawCube that holds the values.
        like: Raster that it was made from.
        scale: how many times as many rows and columns it has.
    """
    if like.kind == "envi":
        header = like.details["header"]
        fields = _with_what_was_told(_finer(header, scale), header, like)
        if "rpc info" in header:
            print_line(f"{path.name}: without rpc info, which belongs to the pixels of the input")
    else:
        fields = _described(path, like, scale)
    height, width, bands = raw.shape
    types = {code: number for number, code in DATA_TYPES.items()}
    layout: dict[str, Any] = {
        "samples": width,
        "lines": height,
        "bands": bands,
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": types[raw.dtype.newbyteorder("=").str[1:]],
        "interleave": raw.interleave,
        # Bytes have no order, and a header's own says nothing wrong of them.
        "byte order": int(raw.dtype.str.startswith(">")) if raw.dtype.itemsize > 1 else fields.get("byte order", 0),
    }
    envi_header.write(path, {**fields, **layout})


def supports(dtype: np.dtype) -> bool:
    """Whether ENVI has this number type."""
    return np.dtype(dtype).str[1:] in DATA_TYPES.values() and np.dtype(dtype).kind in "fiu"


def _finer(header: dict[str, Any], scale: int) -> envi_header.Header:
    header = dict(header)
    if "map info" in header:
        header["map info"] = finer_map_info(_listed(header["map info"]), scale)
    if "pixel size" in header:
        header["pixel size"] = [
            re.sub(r"^[\d.eE+-]+", lambda m: f"{float(m[0]) / scale:.15g}", v) for v in _listed(header["pixel size"])
        ]
    for name in ("x start", "y start"):
        if name in header:
            header[name] = f"{(float(header[name]) - 1) * scale + 1:.15g}"
    if "geo points" in header:
        # x, y, latitude, longitude of each point.
        header["geo points"] = [
            f"{(float(v) - 1) * scale + 1:.15g}" if k % 4 < 2 else v
            for k, v in enumerate(_listed(header["geo points"]))
        ]
    # The sensor model's own pixel grid, and the input's compression.
    header.pop("rpc info", None)
    header.pop(COMPRESSION, None)
    return header


def _with_what_was_told(fields: envi_header.Header, header: envi_header.Header, like: Raster) -> envi_header.Header:
    """The fields with what the file's user said of it and the file did not."""
    bands = like.shape[2]
    said = _ignored(like.path, header)
    if like.nodata is not None and (said is None or not np.array_equal([said], [like.nodata], equal_nan=True)):
        fields[IGNORED] = f"{like.nodata:.17g}"
    if (like.value_scale, like.scaling) != _scaling(like.path, header, bands):
        for name in (SCALE_FACTOR, GAINS, OFFSETS):
            fields.pop(name, None)
        fields |= _fields_of_scaling(like)
    for name in (SCALE_FACTOR, IGNORED):
        # Readers want one number there.
        if isinstance(fields.get(name), list) and len(set(fields[name])) == 1:
            fields[name] = fields[name][0]
    if like.scaling and isinstance(fields.get(SCALE_FACTOR), list):
        del fields[SCALE_FACTOR]
        fields |= _fields_of_scaling(like)
    if like.wavelengths_given:
        fields |= _fields_of_wavelengths(like)
    return fields


def _fields_of_wavelengths(like: Raster) -> envi_header.Header:
    return {"wavelength": [f"{w:.15g}" for w in np.asarray(like.wavelengths)], "wavelength units": "Nanometers"}


def _fields_of_scaling(like: Raster) -> envi_header.Header:
    if like.scaling:
        return {
            GAINS: [f"{v:.15g}" for v in like.scaling.gains],
            OFFSETS: [f"{v:.15g}" for v in like.scaling.offsets],
        }
    return {SCALE_FACTOR: f"{like.value_scale:.15g}"} if like.value_scale else {}


def _described(path: Path, like: Raster, scale: int) -> envi_header.Header:
    """Header fields of a scene that came from another format."""
    fields: envi_header.Header = {"description": [f"{as_utf8(like.path.name)}, {scale} times as large"]}
    if like.wavelengths is not None:
        fields |= _fields_of_wavelengths(like)
    fields |= like.details.get("band_fields", {})
    if like.band_names:
        fields["band names"] = [str(name).replace(",", ";") for name in like.band_names]
    if like.nodata is not None:
        fields[IGNORED] = f"{like.nodata:.17g}"
    fields |= _fields_of_scaling(like)
    if like.value_scale:
        # GDAL knows this field only.
        fields[GAINS] = [f"{1 / like.value_scale:.15g}"] * like.shape[2]
    if georeference := like.georeference():
        height, width, _ = like.shape
        found = georeferencing.to_envi(georeference.finer(scale), height * scale, width * scale)
        if not found:
            print_line(
                f"{path.name}: without its position, for which an ENVI header has no place (a sheared or uneven grid)"
            )
        fields |= found
    return fields
