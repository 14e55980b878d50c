"""ENVI: a text header beside a file of bare values; GDAL converts the georeferencing in its fields."""

import contextlib
import glob
import gzip
import io
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facts import LARGEST_SCALE
from formats import gdal, raster
from formats.grid import upsample_map_info, upsample_pixel_number
from formats.kinds import describe_kind, make_kind_error
from formats.raster import CubeOptions, Georeference, Raster, Scaling, make_scaling
from formats.raw import AXES, RawCube, RawWindows
from formats.wavelengths import WAVELENGTH_NAMES, convert_to_nm, parse_wavelengths
from system.errors import DataError
from system.files import explain_write_errors
from utils import as_utf8, print_line

Fields = dict[str, str | list[str]]
# Bytes of the largest header.
LARGEST = 2**26
LINE_WIDTH = 120
# Number types by ENVI's codes.
DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
# Names of the byte orders: least, or most significant byte first.
LEAST_FIRST = ("0", "little", "little endian", "little-endian", "intel", "lsf", "host (intel)", "ieee-le")
MOST_FIRST = ("1", "big", "big endian", "big-endian", "network", "msf", "network (ieee)", "ieee-be")
GAINS, OFFSETS, SCALE_FACTOR = "data gain values", "data offset values", "reflectance scale factor"
IGNORED, COMPRESSION = "data ignore value", "file compression"
# Upper bound of the compression ratio of DEFLATE, which is 1032.
MOST_PACKED = 1100
# Fields that GDAL reads georeferencing from.
FIELDS_OF_PLACE = ("map info", "coordinate system string", "projection info")
# Extensions of data files, beside those that name their interleave.
DATA_EXTENSIONS = ("img", "dat", "sli", "hyspex", "raw", "bin")
REMEDY = "copy the data again or correct the header"
# A line that begins with ; is a comment.
_FIELD = re.compile(r"^(?![ \t]*;)([^={}\n]+)=[ \t]*(\{[^}]*\}[^\n]*|[^\n]*)", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
_WORDS_FOR_NAN = ("nan", "inf", "-inf", "infinity", "-nan", "-1.#ind", "1.#qnan")


@dataclass(frozen=True)
class Header:
    """The fields of an ENVI header, parsed leniently.

    Attributes:
        path: the header's file, for messages.
        fields: {name in small letters: text, or list of the entries in braces}.
    """

    path: Path
    fields: Fields

    def __contains__(self, name: str) -> bool:
        """Return True if a field exists and is not empty."""
        return bool(self.fields.get(name))

    def get_text(self, name: str) -> str:
        """Return a field as text, "" without the field."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else ", ".join(value)

    def get_entries(self, name: str) -> list[str]:
        """Return the entries of a field, with or without braces."""
        value = self.fields.get(name, [])
        return _split(value, ",") if isinstance(value, str) else list(value)

    def parse_numbers(self, name: str) -> list[float]:
        """Return the numbers of a field; units behind them are ignored.

        Raises:
            DataError: naming the entry that is not a number.
        """
        numbers = []
        for place, entry in enumerate(self.get_entries(name), start=1):
            match = _NUMBER.match(entry)
            is_word = entry.lower() in _WORDS_FOR_NAN
            if not match and not is_word or match and re.search(r"\d", entry[match.end() :]):
                raise self.make_error(name, entry if len(self.get_entries(name)) == 1 else f"{entry} (entry {place})")
            numbers.append(float(match[0].lower().replace("d", "e")) if match else float("nan"))
        if not numbers:
            raise self.make_error(name, "nothing")
        return numbers

    def parse_number(self, name: str) -> float:
        """Return the number of a field, which may be repeated for each band."""
        numbers = self.parse_numbers(name)
        for band, number in enumerate(numbers, start=1):
            if not np.array_equal(number, numbers[0], equal_nan=True):
                what = f"its field {name} differs between bands ({numbers[0]:g} and, for band {band}, {number:g})"
                raise DataError(self.path, what, "one number for all bands is needed")
        return numbers[0]

    def parse_count(self, name: str, default: int | None = None) -> int:
        """Return the non-negative whole number of a field, or the default without the field."""
        if name not in self.fields and default is None:
            raise DataError(self.path, f"its header has no field {name}", "correct it")
        number = self.parse_number(name) if name in self.fields else float(default or 0)
        if not (np.isfinite(number) and number == abs(int(number))):
            raise self.make_error(name)
        return int(number)

    def make_error(self, name: str, value: str | None = None) -> DataError:
        """Return the error for a field with an invalid value."""
        value = self.get_text(name) if value is None else value
        value = value if len(value) <= 100 else f"{value[:100]} ..."
        return DataError(self.path, f"its field {name} = {value} cannot be understood", "correct it or take it out")


def is_header(start: bytes) -> bool:
    """Return True if these first bytes of a file are an ENVI header's, with or without a byte-order mark."""
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
    """Return the entries of a text; a separator at its end is ignored."""
    entries = [" ".join(entry.split()) for entry in text.split(separator)]
    return entries[:-1] if entries[-1] == "" else entries


def write_fields(path: Path, fields: Mapping[str, str | int | Sequence[str]]) -> None:
    """Write a header; entries in braces that exceed a line are written one a line, as GDAL does."""
    lines = ["ENVI"]
    for name, value in fields.items():
        if not isinstance(value, str | int):
            text = ", ".join(value)
            value = "{" + (text if len(text) <= LINE_WIDTH else ",\n ".join(value)) + "}"
        lines.append(f"{name} = {value}")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def find_header(path: str | Path) -> Path | None:
    """Return the header of an ENVI file, given by its header or its data; None without one."""
    path = Path(path)
    for candidate in [path, *list_header_candidates(path)]:
        if candidate.is_file() and candidate.suffix.lower() == ".hdr":
            with open(candidate, "rb") as f:
                if is_header(f.read(64)):
                    return candidate
    return None


def list_header_candidates(path: Path) -> list[Path]:
    """Return the paths at which the header of an ENVI data file is searched."""
    return [path.with_name(stem + extension) for stem in (path.name, path.stem) for extension in (".hdr", ".HDR")]


@dataclass(kw_only=True)
class EnviRaster(Raster):
    """An ENVI scene.

    Attributes:
        header: its header.
    """

    kind: str = "envi"
    header: Header


def open_raster(path: Path, options: CubeOptions, data: Path | None = None) -> EnviRaster:
    """Open an ENVI scene by its header.

    Args:
        path: the header.
        options: see `CubeOptions`.
        data: its data file; None: the file beside it that ENVI's readers find.

    Raises:
        DataError: for a header that is invalid or does not match its data.
    """
    header = read_header(path)
    if "spectral library" in header.get_text("file type").lower():
        raise DataError(path, "a spectral library, where an image is needed", "give the header of an image")
    shape = tuple(header.parse_count(name) for name in ("lines", "samples", "bands"))
    dtype = _parse_dtype(header)
    if header.get_text("interleave").lower() not in AXES:
        raise header.make_error("interleave")
    for name in ("major frame offsets", "minor frame offsets"):
        if name in header and any(header.parse_numbers(name)):
            what = f"its field {name} = {header.get_text(name)} defines gaps between its values"
            raise DataError(path, what, "export it without gaps")
    # Invalid fields of the pixel grid are found before the work.
    _upsample_fields(header, 2)
    data, pixels = _open_data(header, data, shape, dtype)
    known = _parse_wavelengths(header, shape[2])
    is_given = known is None and bool(options.wavelengths)
    value_scale, scaling = _parse_scaling(header, shape[2])
    names = header.get_entries("band names")
    return EnviRaster(
        path=path,
        shape=shape,
        dtype=dtype,
        source=pixels.read,
        files=(path, data),
        wavelengths=parse_wavelengths(options.wavelengths, shape[2]) if is_given else known,
        wavelengths_given=is_given,
        band_names=names if len(names) == shape[2] else None,
        nodata=header.parse_number(IGNORED) if IGNORED in header else None,
        value_scale=value_scale,
        scaling=scaling,
        locate=lambda: parse_georeference(header.fields) if "map info" in header else None,
        interleave=header.get_text("interleave").lower(),
        band_fields=_parse_band_fields(header, shape[2]),
        header=header,
    )


def _open_data(header: Header, data: Path | None, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Path, RawWindows]:
    """Return (data file, its values, which stay on disk)."""
    offset, interleave = header.parse_count("header offset", 0), header.get_text("interleave").lower()
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + offset
    data = data if data is not None and data != header.path else _find_data(header.path, needed)
    size = data.stat().st_size
    if header.get_text(COMPRESSION) == "1" and size != needed:
        return data, RawWindows(_unpack(data, needed), shape, dtype, interleave, offset)
    # A longer file has other lines or samples than its header defines: its image would be sheared.
    if size != needed:
        kind = describe_kind(data)
        name, remedy = (f" (it is {kind.name})", kind.remedy) if kind and kind.remedy else ("", REMEDY)
        raise DataError(data, f"{size} bytes{name}, its header specifies {needed}", remedy)
    return data, RawWindows(data, shape, dtype, interleave, offset)


def _unpack(data: Path, needed: int) -> io.BufferedRandom:
    """Return gzip data as an unnamed temporary file, which is removed when it is closed.

    Raises:
        DataError: for data that do not unpack to the bytes needed, or a temporary folder with too little space.
    """
    size, folder, unpacked = data.stat().st_size, tempfile.gettempdir(), tempfile.TemporaryFile()
    try:
        with gzip.open(data) as packed:
            packed.peek(1)
            if needed > MOST_PACKED * size:
                raise DataError(data, f"{size} packed bytes cannot contain the {needed} of its header", REMEDY)
            if needed > (free := shutil.disk_usage(folder).free):
                what = f"{needed / 1e9:.1f} GB when unpacked, the temporary folder has {free / 1e9:.1f} GB free"
                raise DataError(data, what, "set TMPDIR to a larger folder, or unpack it and set file compression = 0")
            while block := packed.read(min(2**24, needed + 1 - unpacked.tell())):
                with explain_write_errors(folder):
                    unpacked.write(block)
                    unpacked.flush()
    except (OSError, EOFError, zlib.error) as error:
        remedies = "copy the data again", "give its gzip data, or set file compression = 0"
        raise make_kind_error(data, "gzip data (file compression = 1)", "gzip", remedies, error) from error
    if unpacked.tell() != needed:
        found = "more" if unpacked.tell() > needed else unpacked.tell()
        raise DataError(data, f"{found} bytes when unpacked, its header specifies {needed}", "correct the header")
    return unpacked


def _find_data(path: Path, needed: int) -> Path:
    """Find the data file of a header: by the names that readers try, or the only file beside it of the right size."""
    beside = [path.with_name(name) for name in list_data_names(path.stem)]
    if found := next((p for p in beside if p.is_file()), None):
        return found
    files = [p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if p.is_file()]
    fitting = [p for p in files if p.stat().st_size == needed and p.suffix.lower() != ".hdr"]
    if len(fitting) != 1:
        raise DataError(path, "its data file is missing", "put it beside the header under the same name")
    return fitting[0]


def _parse_dtype(header: Header) -> np.dtype:
    number = header.parse_count("data type")
    if number not in DATA_TYPES:
        known = ", ".join(map(str, DATA_TYPES))
        raise DataError(header.path, f"its field data type = {number} is none of ENVI's ({known})", "correct it")
    dtype = np.dtype(DATA_TYPES[number])
    raster.check_numbers(header.path, dtype)
    order = " ".join(header.get_text("byte order").lower().rstrip(",").split()).removesuffix(".0")
    if order and order not in (*LEAST_FIRST, *MOST_FIRST):
        raise header.make_error("byte order")
    if not order and dtype.itemsize > 1:
        print_line(f"{header.path}: its header has no byte order; assuming the least significant byte first")
    return dtype.newbyteorder(">" if order in MOST_FIRST else "<")


def _parse_wavelengths(header: Header, bands: int) -> np.ndarray | None:
    # The field "bands" of a header is their number.
    name = next((n for n in WAVELENGTH_NAMES if n in header and n != "bands"), None)
    if name is None or (name != "wavelength" and len(header.get_entries(name)) != bands):
        return None
    values = header.parse_numbers(name)
    if len(values) != bands:
        commas = " (a comma as the decimal mark?)" if len(values) == 2 * bands else ""
        raise DataError(header.path, f"{len(values)} wavelengths for {bands} bands{commas}", "correct the header")
    if not np.isfinite(values).all():
        raise header.make_error(name, "nan")
    return convert_to_nm(values, header.get_text("wavelength units"))


def _parse_band_fields(header: Header, bands: int) -> dict[str, list[str]]:
    numbers = {}
    for name in (*raster.BAND_FIELDS, "wavelength"):
        with contextlib.suppress(DataError):
            numbers[name] = header.parse_numbers(name)
    return raster.convert_band_fields(numbers, header.get_text("wavelength units"), bands)


def _parse_scaling(header: Header, bands: int) -> tuple[float | None, Scaling | None]:
    """Return (value_scale, scaling) by the scale factor, a divisor, else by gains and offsets.

    If both define the same gain, the offsets apply too.
    """
    gains, offsets = (header.parse_numbers(name) if name in header else None for name in (GAINS, OFFSETS))
    if SCALE_FACTOR not in header:
        return make_scaling(header.path, gains, offsets, bands)
    factors = np.array(header.parse_numbers(SCALE_FACTOR))
    if not ((factors > 1 / LARGEST_SCALE) & (factors < LARGEST_SCALE)).all():
        raise header.make_error(SCALE_FACTOR)
    if gains is not None and np.size(gains) in (1, bands) and np.allclose(np.array(gains) * factors, 1, rtol=1e-6):
        return make_scaling(header.path, gains, offsets, bands)
    if (factors == factors[0]).all():
        return float(factors[0]), None
    return make_scaling(header.path, 1 / factors, None, bands)


def list_data_names(stem: str) -> list[str]:
    """Return the names under which readers look for the data of a header of that stem, in their order."""
    return [stem, *(f"{stem}.{case(e)}" for case in (str.lower, str.upper) for e in (*DATA_EXTENSIONS, *AXES))]


def choose_data_name(stem: str, template: Raster, extension: str = "") -> str:
    """Choose a data file's name for a header of that stem, one under which readers look for it.

    Args:
        stem: of the header.
        template: scene of which the result is made.
        extension: extension that the user gave, such as .bil; "" for none.
    """
    if extension:
        return stem + extension
    known = {f".{e}" for e in (*DATA_EXTENSIONS, *AXES)}
    own = template.files[1].suffix if isinstance(template, EnviRaster) else ".img"
    # The header's name may be the data's followed by .hdr.
    if Path(stem).suffix.lower() in known or (own and Path(stem).suffix == own):
        return stem
    return stem + (own if not own or own.lower() in known else ".img")


def write_header(path: Path, raw: RawCube, template: Raster, scale: int) -> None:
    """Write the header of a RawCube: a copy of the template's with upsampled pixels, or a new one."""
    if isinstance(template, EnviRaster):
        fields = _add_user_values(_upsample_fields(template.header, scale), template)
        if "rpc info" in template.header:
            raster.report_left_out(path, ["rpc info"])
    else:
        fields = _make_fields(path, template, scale)
    height, width, bands = raw.shape
    types = {code: number for number, code in DATA_TYPES.items()}
    structure: dict[str, Any] = {
        **{"samples": width, "lines": height, "bands": bands, "header offset": 0, "file type": "ENVI Standard"},
        "data type": types[raw.dtype.newbyteorder("=").str[1:]],
        "interleave": raw.interleave,
        # Bytes have no order.
        "byte order": int(raw.dtype.str.startswith(">")) if raw.dtype.itemsize > 1 else fields.get("byte order", 0),
    }
    write_fields(path, {**fields, **structure})


def supports(dtype: np.dtype) -> bool:
    """Return True if ENVI has this number type."""
    return np.dtype(dtype).str[1:] in DATA_TYPES.values() and np.dtype(dtype).kind in "fiu"


def _upsample_fields(header: Header, scale: int) -> Fields:
    """Return the fields of a header for pixels `scale` times as small.

    Raises:
        DataError: for an invalid field of the pixel grid.
    """
    functions: dict[str, Callable[[list[str]], str | list[str]]] = {
        "map info": lambda entries: upsample_map_info(entries, scale),
        "pixel size": lambda entries: [
            re.sub(r"^[\d.eE+-]+", lambda m: f"{float(m[0]) / scale:.15g}", v) for v in entries
        ],
        "x start": lambda entries: upsample_pixel_number(entries[0], scale),
        "y start": lambda entries: upsample_pixel_number(entries[0], scale),
        # x, y, latitude, longitude of each point.
        "geo points": lambda entries: [
            upsample_pixel_number(v, scale) if k % 4 < 2 else v for k, v in enumerate(entries)
        ],
    }
    # The sensor model of the old pixel grid, and the input's compression, are left out.
    fields = {name: value for name, value in header.fields.items() if name not in ("rpc info", COMPRESSION)}
    for name in functions.keys() & fields.keys():
        try:
            fields[name] = functions[name](header.get_entries(name))
        except (ValueError, IndexError, TypeError):
            raise header.make_error(name) from None
    return fields


def _add_user_values(fields: Fields, template: EnviRaster) -> Fields:
    """Add the metadata that the user gave and the header lacks."""
    header = template.header
    nodata = header.parse_numbers(IGNORED) if IGNORED in header else []
    if template.nodata is not None and not np.array_equal(nodata, [template.nodata], equal_nan=True):
        fields[IGNORED] = f"{template.nodata:.17g}"
    # Readers need one scale factor.
    is_list = isinstance(fields.get(SCALE_FACTOR), list)
    if is_list or (template.value_scale, template.scaling) != _parse_scaling(header, template.shape[2]):
        kept = {n: v for n, v in fields.items() if n not in (SCALE_FACTOR, GAINS, OFFSETS)}
        fields = kept | _format_scaling(template)
    return fields | (_format_wavelengths(template) if template.wavelengths_given else {})


def _format_wavelengths(template: Raster) -> Fields:
    return {"wavelength": [f"{w:.15g}" for w in np.asarray(template.wavelengths)], "wavelength units": "Nanometers"}


def _format_scaling(template: Raster) -> Fields:
    if template.scaling:
        values = ((GAINS, template.scaling.gains), (OFFSETS, template.scaling.offsets))
        return {name: [f"{v:.15g}" for v in numbers] for name, numbers in values}
    return {SCALE_FACTOR: f"{template.value_scale:.15g}"} if template.value_scale else {}


def _make_fields(path: Path, template: Raster, scale: int) -> Fields:
    """Return the header fields of a template in another format."""
    fields: Fields = {"description": [f"{as_utf8(template.path.name)}, upsampled by x{scale}"]}
    if template.wavelengths is not None:
        fields |= _format_wavelengths(template)
    elif "fwhm" in template.band_fields:
        fields["wavelength units"] = "Nanometers"
    fields |= template.band_fields
    if template.band_names:
        fields["band names"] = [str(name).replace(",", ";") for name in template.band_names]
    if template.nodata is not None:
        fields[IGNORED] = f"{template.nodata:.17g}"
    fields |= _format_scaling(template)
    if template.value_scale:
        # GDAL reads gains only.
        fields[GAINS] = [f"{1 / template.value_scale:.15g}"] * template.shape[2]
    if georeference := template.read_georeference():
        height, width, _ = template.shape
        found = format_georeference(georeference.upsample(scale), height * scale, width * scale)
        if not found:
            print_line(f"{path.name}: without its position, since ENVI headers cannot define sheared or uneven grids")
        fields |= found
    return fields


def parse_georeference(fields: Mapping[str, str | list[str]]) -> Georeference | None:
    """Return the georeferencing that GDAL reads in the fields of a header, or None."""
    minimal: dict[str, str | int | Sequence[str]] = {"samples": 4, "lines": 4, "bands": 1, "header offset": 0}
    minimal |= {"data type": 1, "interleave": "bsq", "byte order": 0}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "a.img"
        data.write_bytes(bytes(16))
        write_fields(data.with_suffix(".hdr"), {**minimal, **{n: fields[n] for n in FIELDS_OF_PLACE if n in fields}})
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
    """Return the header fields that GDAL writes for the georeferencing of a raster; {} if ENVI cannot contain it."""
    with tempfile.TemporaryDirectory() as folder:
        gdal.write_empty(Path(folder) / "a.img", "ENVI", georeference)
        fields = read_header(Path(folder) / "a.hdr").fields
        back = gdal.read_georeference(Path(folder) / "a.img", "ENVI")
    is_held = gdal.are_same(georeference, back, height, width)
    return {name: fields[name] for name in FIELDS_OF_PLACE if name in fields and is_held}
