"""ENVI: a text header beside a file of bare values; georeferencing in its fields through GDAL."""

import glob
import gzip
import io
import re
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facts import LARGEST_SCALE
from formats import gdal
from formats.grid import upsample_map_info
from formats.kinds import describe_kind, make_kind_error
from formats.raster import CubeOptions, Georeference, Raster, Scaling, check_numbers, make_scaling
from formats.raw import AXES, RawCube, RawWindows
from formats.wavelengths import WAVELENGTH_NAMES, convert_to_nm, parse_wavelengths
from system.errors import DataError
from system.files import explain_write_errors
from utils import as_utf8, print_line

Fields = dict[str, str | list[str]]
HEADER_EXTENSIONS = (".hdr", ".HDR")
# Bytes of the largest header.
LARGEST = 2**26
LINE_WIDTH = 120
# ENVI's numbers of the types that its files contain.
DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
# Words for a byte order: the least, or the most significant byte first.
LEAST_FIRST = ("0", "little", "little endian", "little-endian", "intel", "lsf", "host (intel)", "ieee-le")
MOST_FIRST = ("1", "big", "big endian", "big-endian", "network", "msf", "network (ieee)", "ieee-be")
GAINS, OFFSETS = "data gain values", "data offset values"
COMPRESSION = "file compression"
# DEFLATE packs to a 1032nd at best.
MOST_PACKED = 1100
SCALE_FACTOR, IGNORED = "reflectance scale factor", "data ignore value"
# Fields of the pixel grid, and those that GDAL reads georeferencing from.
FIELDS_OF_PIXELS = ("map info", "pixel size", "x start", "y start", "geo points")
FIELDS_OF_PLACE = ("map info", "coordinate system string", "projection info")
# Extensions of data files, beside those that name their interleave.
DATA_EXTENSIONS = ("img", "dat", "sli", "hyspex", "raw", "bin")
_FIELD = re.compile(r"^(?![ \t]*;)([^={}\n]+)=[ \t]*(\{[^}]*\}[^\n]*|[^\n]*)", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
_WORDS_FOR_NAN = ("nan", "inf", "-inf", "infinity", "-nan", "-1.#ind", "1.#qnan")


class Header:
    """The fields of an ENVI header, read leniently.

    Args:
        path: the header's file, for messages.
        fields: {name in small letters: text, or list of the entries in braces}.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path, self.fields = path, fields

    def __contains__(self, name: str) -> bool:
        """Return True if a field is there and not empty."""
        return bool(self.fields.get(name))

    def text(self, name: str) -> str:
        """A field's value as text, "" if it is not there."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else ", ".join(value)

    def entries(self, name: str) -> list[str]:
        """A field's entries, also without braces."""
        value = self.fields.get(name, [])
        return _split(value, ",") if isinstance(value, str) else list(value)

    def numbers(self, name: str) -> list[float]:
        """The numbers of a field; a unit behind one is passed over.

        Raises:
            DataError: naming the entry that is not a number.
        """
        numbers = []
        for place, entry in enumerate(self.entries(name), start=1):
            match = _NUMBER.match(entry)
            is_word = entry.lower() in _WORDS_FOR_NAN
            if not match and not is_word or match and re.search(r"\d", entry[match.end() :]):
                raise self.error(name, entry if len(self.entries(name)) == 1 else f"{entry} (entry {place})")
            numbers.append(float(match[0].lower().replace("d", "e")) if match else float("nan"))
        if not numbers:
            raise self.error(name, "nothing")
        return numbers

    def number(self, name: str) -> float:
        """The number of a field, also if it is repeated for each band."""
        numbers = self.numbers(name)
        if not np.array_equal(numbers, [numbers[0]] * len(numbers), equal_nan=True):
            differing = next(k for k, number in enumerate(numbers) if number != numbers[0])
            what = f"its field {name} differs between bands ({numbers[0]:g} and, for band {differing + 1}, "
            raise DataError(self.path, f"{what}{numbers[differing]:g})", "one number for all bands is needed")
        return numbers[0]

    def count(self, name: str, default: int | None = None) -> int:
        """The whole number of a field that is not negative."""
        if name not in self.fields:
            if default is None:
                raise DataError(self.path, f"its header has no field {name}", "correct it")
            return default
        number = self.number(name)
        if not (np.isfinite(number) and number == abs(int(number))):
            raise self.error(name)
        return int(number)

    def error(self, name: str, value: str | None = None) -> DataError:
        """The error for a field that cannot be understood."""
        value = self.text(name) if value is None else value
        value = value if len(value) <= 100 else f"{value[:100]} ..."
        return DataError(self.path, f"its field {name} = {value} cannot be understood", "correct it or take it out")


def is_header(start: bytes) -> bool:
    """Return True if a file that begins so is an ENVI header, with or without a byte-order mark."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"ENVI")


def read_header(path: Path) -> Header:
    """Read an ENVI header.

    Raises:
        DataError: if the file is not one.
    """
    content = path.read_bytes() if path.stat().st_size < LARGEST else b""
    if not is_header(content):
        raise DataError(path, "not an ENVI header", "give the header of an ENVI file, whose first line is ENVI")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    fields: Fields = {}
    for match in _FIELD.finditer("\n".join(text.splitlines()[1:])):
        name, value = match[1].strip().lower(), match[2].strip()
        if not value.startswith("{"):
            fields[name] = value
            continue
        # A brace that is not closed ends with its line.
        inside = value[1:].rpartition("}")[0] if "}" in value else value[1:]
        is_text = name == "description"
        fields[name] = [inside.strip()] if is_text else _split(inside, "," if "," in inside else ";")
    return Header(path, fields)


def _split(text: str, separator: str) -> list[str]:
    """The entries of a text; a separator after the last one adds none."""
    entries = [" ".join(entry.split()) for entry in text.split(separator)]
    return entries[:-1] if entries[-1] == "" else entries


def write_fields(path: Path, fields: Mapping[str, str | int | Sequence[str]]) -> None:
    """Write a header; entries in braces are wrapped to lines of a readable length."""
    lines = ["ENVI"]
    for name, value in fields.items():
        if isinstance(value, str | int):
            lines.append(f"{name} = {value}")
            continue
        rows = [""]
        for entry in map(str, value):
            if rows[-1] and len(rows[-1]) + len(entry) > LINE_WIDTH:
                rows.append("")
            rows[-1] += (", " if rows[-1] else "") + entry
        lines.append(f"{name} = {{{(',' + chr(10) + ' ').join(rows)}}}")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def find_header(path: str | Path) -> Path | None:
    """The header of an ENVI file that may be named by its header or by its data; None without one."""
    path = Path(path)
    for candidate in [path, *list_header_candidates(path)]:
        if candidate.is_file() and candidate.suffix.lower() == ".hdr":
            with open(candidate, "rb") as f:
                if is_header(f.read(64)):
                    return candidate
    return None


def list_header_candidates(path: Path) -> list[Path]:
    """Paths at which the header of an ENVI data file is searched."""
    stems = (path.name, path.stem)
    return [path.with_name(stem + extension) for stem in stems for extension in HEADER_EXTENSIONS]


@dataclass(kw_only=True)
class EnviRaster(Raster):
    """An ENVI scene; `write_header` writes its like beside the values of a RawCube.

    Attributes:
        header: its header.
    """

    kind = "envi"
    header: Header


def open_raster(path: Path, options: CubeOptions, data: Path | None = None) -> EnviRaster:
    """Open an ENVI scene by its header.

    Args:
        path: the header.
        options: see `CubeOptions`.
        data: the file of its values; None: the one beside it that readers take.

    Raises:
        DataError: for a header that cannot be used or does not fit its data.
    """
    header = read_header(path)
    if "spectral library" in header.text("file type").lower():
        raise DataError(path, "a spectral library, where an image is needed", "give the header of an image")
    shape = tuple(header.count(name) for name in ("lines", "samples", "bands"))
    dtype = _number_type(header)
    _refuse_unusable_fields(header)
    data, pixels = _open_data(header, data, shape, dtype)
    known = _wavelengths(header, shape[2])
    given = known is None and bool(options.wavelengths)
    value_scale, scaling = _scaling(header, shape[2])
    names = header.entries("band names")
    return EnviRaster(
        path=path,
        shape=shape,
        dtype=dtype,
        source=pixels.read,
        files=(path, data),
        wavelengths=parse_wavelengths(options.wavelengths, shape[2]) if given else known,
        wavelengths_given=given,
        band_names=names if len(names) == shape[2] else None,
        nodata=header.number(IGNORED) if IGNORED in header else None,
        value_scale=value_scale,
        scaling=scaling,
        locate=lambda: parse_georeference(header.fields) if "map info" in header else None,
        interleave=header.text("interleave").lower(),
        band_fields=_band_fields(header, shape[2]),
        header=header,
    )


def _refuse_unusable_fields(header: Header) -> None:
    """Refuse an unknown interleave, bytes between values, and fields of pixels that cannot be renewed."""
    if header.text("interleave").lower() not in AXES:
        raise header.error("interleave")
    for name in ("major frame offsets", "minor frame offsets"):
        if name in header and any(header.numbers(name)):
            what = f"its field {name} = {header.text(name)} puts other bytes between its values"
            raise DataError(header.path, what, "export it without")
    for name in (n for n in FIELDS_OF_PIXELS if n in header.fields):
        try:
            _finer(Header(header.path, {name: header.fields[name]}), 2)
        except (ValueError, IndexError, TypeError):
            raise header.error(name) from None


def _open_data(header: Header, data: Path | None, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Path, RawWindows]:
    """(data file, its values, which stay on the disk)."""
    offset, path = header.count("header offset", 0), header.path
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + offset
    data = data if data is not None and data != path else _find_data(path, needed)
    held, interleave = data.stat().st_size, header.text("interleave").lower()
    if header.text(COMPRESSION) == "1" and held != needed:
        return data, RawWindows(_unpack(data, held, needed), shape, dtype, interleave, offset)
    # A file too long has other lines or samples than its header defines: its image would be sheared.
    if held != needed:
        kind = describe_kind(data)
        found = f" (it is {kind.name})" if kind and kind.remedy else ""
        remedy = kind.remedy if kind and kind.remedy else "copy the data again or correct the header"
        raise DataError(data, f"{held} bytes{found}, its header speaks of {needed}", remedy)
    return data, RawWindows(data, shape, dtype, interleave, offset)


def _unpack(data: Path, held: int, needed: int) -> io.BufferedRandom:
    """Return the values of gzip data as a nameless file in the temporary folder, which is removed when it is closed.

    Raises:
        DataError: for data that do not unpack to exactly the bytes needed, or a temporary folder without room.
    """
    wanted = "gzip data (file compression = 1)"
    remedies = "copy the data again", "give its gzip data, or set file compression = 0"
    with open(data, "rb") as f:
        if (start := f.read(2)) != b"\x1f\x8b":
            raise make_kind_error(data, wanted, "gzip", remedies, f"it begins with the bytes {start.hex(' ')}")
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
        raise make_kind_error(data, wanted, "gzip", remedies, error) from error
    if unpacked.tell() != needed:
        size = "more" if unpacked.tell() > needed else unpacked.tell()
        raise DataError(data, f"{size} bytes when unpacked, its header speaks of {needed}", "correct the header")
    return unpacked


def _find_data(path: Path, needed: int) -> Path:
    """The data file of a header: under a name that readers know, or the only one beside it of the right size."""
    beside = [path.with_name(name) for name in list_data_names(path.stem)]
    if found := next((p for p in beside if p.is_file()), None):
        return found
    others = [p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if p.is_file() and p != path]
    fitting = [p for p in others if p.stat().st_size == needed and p.suffix.lower() != ".hdr"]
    if len(fitting) != 1:
        raise DataError(path, "its data file is missing", "put it beside the header under the same name")
    return fitting[0]


def _number_type(header: Header) -> np.dtype:
    number = header.count("data type")
    if number not in DATA_TYPES:
        known = ", ".join(map(str, DATA_TYPES))
        raise DataError(header.path, f"its field data type = {number} is none of ENVI's ({known})", "correct it")
    dtype = np.dtype(DATA_TYPES[number])
    check_numbers(header.path, dtype)
    order = " ".join(header.text("byte order").lower().rstrip(",").split()).removesuffix(".0")
    if order and order not in (*LEAST_FIRST, *MOST_FIRST):
        raise header.error("byte order")
    if not order and dtype.itemsize > 1:
        print_line(f"{header.path}: its header has no byte order; assuming the least significant byte first")
    return dtype.newbyteorder(">" if order in MOST_FIRST else "<")


def _wavelengths(header: Header, bands: int) -> np.ndarray | None:
    name = next((n for n in WAVELENGTH_NAMES if n in header), None)
    if name is None or (name != "wavelength" and len(header.entries(name)) != bands):
        return None
    values = header.numbers(name)
    if len(values) != bands:
        commas = " (a comma as the decimal mark?)" if len(values) == 2 * bands else ""
        raise DataError(header.path, f"{len(values)} wavelengths for {bands} bands{commas}", "correct the header")
    if not np.isfinite(values).all():
        raise header.error(name, "nan")
    unit = header.text("wavelength units")
    return convert_to_nm(values, "" if unit.lower() == "unknown" else unit)


def _band_fields(header: Header, bands: int) -> dict[str, list[str]]:
    """Return fwhm in nm and bbl, one number a band, as far as the header defines them."""
    fields = {}
    for name in gdal.BAND_FIELDS:
        try:
            values = header.numbers(name)
        except DataError:
            continue
        is_micro = name == "fwhm" and header.text("wavelength units").lower().startswith(("micro", "um", "µm"))
        if len(values) == bands:
            fields[name] = [f"{v * (1000 if is_micro else 1):.15g}" for v in values]
    return fields


def _scaling(header: Header, bands: int) -> tuple[float | None, Scaling | None]:
    """(value_scale, scaling) by the scale factor, which divides to reflectance, else by gains and offsets.

    If both define the same gain, the offsets count too.
    """
    gains, offsets = (header.numbers(name) if name in header else None for name in (GAINS, OFFSETS))
    if SCALE_FACTOR not in header:
        return make_scaling(header.path, gains, offsets, bands)
    factors = np.array(header.numbers(SCALE_FACTOR))
    if not ((factors > 1 / LARGEST_SCALE) & (factors < LARGEST_SCALE)).all():
        raise header.error(SCALE_FACTOR)
    if gains is not None and np.size(gains) in (1, bands) and np.allclose(np.array(gains) * factors, 1, rtol=1e-6):
        return make_scaling(header.path, gains, offsets, bands)
    if (factors == factors[0]).all():
        return float(factors[0]), None
    return make_scaling(header.path, 1 / factors, None, bands)


def list_data_names(stem: str) -> list[str]:
    """Names under which readers look for the data of a header of that stem, in their order."""
    return [stem, *(f"{stem}.{case(e)}" for case in (str.lower, str.upper) for e in (*DATA_EXTENSIONS, *AXES))]


def choose_data_name(stem: str, like: Raster, wish: str = "") -> str:
    """The data file's name for a header of that stem, one under which readers look for it.

    Args:
        stem: of the header.
        like: the scene that it is made from.
        wish: the extension that the user gave, such as .bil; "" for none.
    """
    if wish:
        return stem + wish
    extensions = {f".{e}" for e in (*DATA_EXTENSIONS, *AXES)}
    own = like.files[1].suffix if isinstance(like, EnviRaster) else ".img"
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
        scale: upsampling factor.
    """
    if isinstance(like, EnviRaster):
        fields = _with_users_values(_finer(like.header, scale), like)
        if "rpc info" in like.header:
            print_line(f"{path.name}: without rpc info, which belongs to the pixels of the input")
    else:
        fields = _new_fields(path, like, scale)
    height, width, bands = raw.shape
    types = {code: number for number, code in DATA_TYPES.items()}
    layout: dict[str, Any] = {
        **{"samples": width, "lines": height, "bands": bands, "header offset": 0, "file type": "ENVI Standard"},
        "data type": types[raw.dtype.newbyteorder("=").str[1:]],
        "interleave": raw.interleave,
        # Bytes have no order.
        "byte order": int(raw.dtype.str.startswith(">")) if raw.dtype.itemsize > 1 else fields.get("byte order", 0),
    }
    write_fields(path, {**fields, **layout})


def supports(dtype: np.dtype) -> bool:
    """Return True if ENVI has this number type."""
    return np.dtype(dtype).str[1:] in DATA_TYPES.values() and np.dtype(dtype).kind in "fiu"


def _finer(header: Header, scale: int) -> Fields:
    """The fields of a header for pixels `scale` times as small."""
    fields = dict(header.fields)
    if "map info" in fields:
        fields["map info"] = upsample_map_info(header.entries("map info"), scale)
    if "pixel size" in fields:
        sizes = header.entries("pixel size")
        fields["pixel size"] = [re.sub(r"^[\d.eE+-]+", lambda m: f"{float(m[0]) / scale:.15g}", v) for v in sizes]

    def finer(pixel: str) -> str:
        """The number of a pixel, counted from 1 at its upper left corner."""
        return f"{(float(pixel) - 1) * scale + 1:.15g}"

    fields |= {name: finer(header.text(name)) for name in ("x start", "y start") if name in fields}
    if "geo points" in fields:
        # x, y, latitude, longitude of each point.
        fields["geo points"] = [finer(v) if k % 4 < 2 else v for k, v in enumerate(header.entries("geo points"))]
    # The sensor model's own pixel grid, and the input's compression.
    fields.pop("rpc info", None)
    fields.pop(COMPRESSION, None)
    return fields


def _with_users_values(fields: Fields, like: EnviRaster) -> Fields:
    """The fields with the metadata that the user gave and the header lacks."""
    header = like.header
    own = header.numbers(IGNORED) if IGNORED in header else []
    if like.nodata is not None and not np.array_equal(own, [like.nodata], equal_nan=True):
        fields[IGNORED] = f"{like.nodata:.17g}"
    # Readers need one scale factor.
    is_listed = isinstance(fields.get(SCALE_FACTOR), list)
    if is_listed or (like.value_scale, like.scaling) != _scaling(header, like.shape[2]):
        fields = {n: v for n, v in fields.items() if n not in (SCALE_FACTOR, GAINS, OFFSETS)} | _scaling_fields(like)
    return fields | (_wavelength_fields(like) if like.wavelengths_given else {})


def _wavelength_fields(like: Raster) -> Fields:
    return {"wavelength": [f"{w:.15g}" for w in np.asarray(like.wavelengths)], "wavelength units": "Nanometers"}


def _scaling_fields(like: Raster) -> Fields:
    if like.scaling:
        values = ((GAINS, like.scaling.gains), (OFFSETS, like.scaling.offsets))
        return {name: [f"{v:.15g}" for v in numbers] for name, numbers in values}
    return {SCALE_FACTOR: f"{like.value_scale:.15g}"} if like.value_scale else {}


def _new_fields(path: Path, like: Raster, scale: int) -> Fields:
    """Header fields of a scene that came from another format."""
    fields: Fields = {"description": [f"{as_utf8(like.path.name)}, {scale} times as large"]}
    if like.wavelengths is not None:
        fields |= _wavelength_fields(like)
    elif "fwhm" in like.band_fields:
        fields["wavelength units"] = "Nanometers"
    fields |= like.band_fields
    if like.band_names:
        fields["band names"] = [str(name).replace(",", ";") for name in like.band_names]
    if like.nodata is not None:
        fields[IGNORED] = f"{like.nodata:.17g}"
    fields |= _scaling_fields(like)
    if like.value_scale:
        # The field that GDAL reads.
        fields[GAINS] = [f"{1 / like.value_scale:.15g}"] * like.shape[2]
    if georeference := like.georeference():
        height, width, _ = like.shape
        found = format_georeference(georeference.upsample(scale), height * scale, width * scale)
        if not found:
            reason = "for which an ENVI header has no place (a sheared or uneven grid)"
            print_line(f"{path.name}: without its position, {reason}")
        fields |= found
    return fields


def parse_georeference(fields: Mapping[str, str | list[str]]) -> Georeference | None:
    """Return the georeferencing that GDAL reads in the fields of a header, or None."""
    small: dict[str, str | int | Sequence[str]] = {"samples": 4, "lines": 4, "bands": 1, "header offset": 0}
    small |= {"data type": 1, "interleave": "bsq", "byte order": 0}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "a.img"
        data.write_bytes(bytes(16))
        write_fields(data.with_suffix(".hdr"), {**small, **{n: fields[n] for n in FIELDS_OF_PLACE if n in fields}})
        return gdal.read_georeference(data, "ENVI")


def parse_map_info(map_info: str, crs: str = "") -> Georeference | None:
    """Return the georeferencing of ENVI's "map info" and "coordinate system string" as texts, or None."""
    fields: Fields = {"map info": [entry.strip() for entry in map_info.strip(" {}").split(",")]}
    if crs.strip():
        fields["coordinate system string"] = [crs.strip(" {}")]
    try:
        return parse_georeference(fields)
    # GDAL raises errors of several types.
    except Exception:
        return None


def format_georeference(georeference: Georeference, height: int, width: int) -> Fields:
    """Return the header fields that GDAL writes for the georeferencing of a raster; none if ENVI cannot hold it."""
    with tempfile.TemporaryDirectory() as folder:
        gdal.write_empty(Path(folder) / "a.img", "ENVI", georeference)
        fields = read_header(Path(folder) / "a.hdr").fields
        back = gdal.read_georeference(Path(folder) / "a.img", "ENVI")
    is_held = gdal.are_same(georeference, back, height, width)
    return {name: fields[name] for name in FIELDS_OF_PLACE if name in fields and is_held}
