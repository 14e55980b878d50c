"""Kinds of files by their first bytes: names and remedies for scenes, stores, pictures and weights."""

import re
from pathlib import Path
from typing import NamedTuple

from system.errors import DataError

# Bytes that are read of each file.
HEAD = 1024
GDAL = "convert it to GeoTIFF, for example: gdal_translate IN OUT.tif"
UNPACK, DOWNLOAD = "unpack it first", "download it again (does its server need a log-in?)"
SAVE_AS_NUMPY = "load it in Python and save its array with numpy.save"
# Words of an ESRI header, which belongs to a .bil, .bip, .bsq or .flt file.
ESRI_WORDS = ("nrows", "ncols", "nbands", "byteorder", "layout", "nbits", "ulxmap", "ulymap", "xdim", "ydim")
ERROR_WORDS = (b"<error", b"exceptionreport", b'"error', b'"message"', b'"detail"')


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: with its article, for messages.
        remedy: "" if it depends on the purpose.
        readable_as: purposes (words such as "scene", "picture", "weights") for which files of this kind are read.
    """

    name: str
    remedy: str = ""
    readable_as: str = ""


# (bytes, their position, kind); the first match counts.
MAGIC: list[tuple[bytes, int, Kind]] = [
    (b"version https://git-lfs.", 0, Kind("a Git LFS pointer", "fetch the file: git lfs pull")),
    (b"version https://hawser.", 0, Kind("a Git LFS pointer", "fetch the file: git lfs pull")),
    (b"\x89HDF\r\n\x1a\n", 0, Kind("an HDF5 file", "", "scene store mat")),
    (b"MATLAB 7.3", 0, Kind("a MATLAB .mat file (v7.3)", "", "scene store mat")),
    (b"MATLAB 5.0", 0, Kind("a MATLAB .mat file", "", "scene mat")),
    (b"\x93NUMPY", 0, Kind("a NumPy .npy file", "", "scene")),
    (b"ENVI", 0, Kind("an ENVI header", "", "scene")),
    *((magic, 0, Kind("a TIFF file", "", "scene picture")) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"CDF\x01", 0, Kind("a netCDF-3 file (the classic format)", "convert it to netCDF-4: nccopy -k nc4 IN OUT.nc")),
    (b"CDF\x02", 0, Kind("a netCDF-3 file (64-bit offsets)", "convert it to netCDF-4: nccopy -k nc4 IN OUT.nc")),
    (b"CDF\x05", 0, Kind("a netCDF-3 file (64-bit data)", "convert it to netCDF-4: nccopy -k nc4 IN OUT.nc")),
    (b"\x0e\x03\x13\x01", 0, Kind("an HDF4 file", f"convert it to HDF5 (h4toh5 IN OUT.h5), or {GDAL}")),
    (b"EHFA_HEADER_TAG", 0, Kind("an ERDAS Imagine image", GDAL)),
    (b"HEAD74", 0, Kind("an ERDAS 7.x image (.lan or .gis)", GDAL)),
    (b"PCIDSK", 0, Kind("a PCIDSK image", GDAL)),
    (b"NITF", 0, Kind("a NITF image", GDAL)),
    (b"NSIF", 0, Kind("a NITF image", GDAL)),
    (b"SIMPLE  =", 0, Kind("a FITS file", GDAL)),
    (b"GRIB", 0, Kind("a GRIB file", GDAL)),
    (b"PDS_VERSION_ID", 0, Kind("a PDS3 label", GDAL)),
    (b"LBLSIZE=", 0, Kind("a VICAR image", GDAL)),
    (b"Object = IsisCube", 0, Kind("an ISIS cube", GDAL)),
    (b"DICM", 128, Kind("a DICOM file", "convert it to TIFF")),
    (b"\x89PNG", 0, Kind("a PNG picture", "", "picture")),
    (b"\xff\xd8\xff", 0, Kind("a JPEG picture", "", "picture")),
    (b"GIF8", 0, Kind("a GIF picture", "", "picture")),
    (b"jP  \r\n\x87\n", 4, Kind("a JPEG 2000 image", GDAL, "picture")),
    (b"\xff\x4f\xff\x51", 0, Kind("a JPEG 2000 image", GDAL, "picture")),
    (b"WEBP", 8, Kind("a WebP picture")),
    *((brand, 8, Kind("an AVIF picture")) for brand in (b"avif", b"avis")),
    *((b"ftyp" + brand, 4, Kind("a HEIC picture")) for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (b"ftypcrx", 4, Kind("a camera's raw picture (CR3)")),
    (b"ftyp", 4, Kind("a video (MP4 or MOV)")),
    (b"JXL \r\n\x87\n", 4, Kind("a JPEG XL picture")),
    (b"8BPS", 0, Kind("a Photoshop picture")),
    (b"\x76\x2f\x31\x01", 0, Kind("an OpenEXR picture of high dynamic range")),
    (b"#?RADIANCE", 0, Kind("a Radiance picture of high dynamic range")),
    (b"#?RGBE", 0, Kind("a Radiance picture of high dynamic range")),
    (b"%PDF-", 0, Kind("a PDF document")),
    (b"%!PS", 0, Kind("a PostScript document")),
    (b"Rar!\x1a\x07", 0, Kind("a RAR archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", 0, Kind("a 7z archive", UNPACK)),
    (b"\x1f\x8b\x08", 0, Kind("a file packed with gzip", UNPACK, "gzip")),
    (b"BZh", 0, Kind("a file packed with bzip2", UNPACK)),
    (b"\xfd7zXZ\0", 0, Kind("a file packed with xz", UNPACK)),
    (b"\x28\xb5\x2f\xfd", 0, Kind("a file packed with zstd", UNPACK)),
    (b"ustar", 257, Kind("a tar archive", UNPACK, "weights")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, Kind("an Office document")),
    (b"SQLite format 3\0", 0, Kind("an SQLite database (a GeoPackage?)", GDAL)),
    (b"\0\x05\x16\x07", 0, Kind("metadata of macOS (AppleDouble)", "give the file without ._ in its name")),
    (b"L\0\0\0\x01\x14\x02\0", 0, Kind("a Windows shortcut", "give the file that it points to")),
    *((b"\x80" + bytes([version]), 0, Kind("a Python pickle", SAVE_AS_NUMPY, "weights")) for version in (2, 3, 4, 5)),
]
TORCH = Kind("a file of torch.save", "save the tensor with numpy.save(NAME, tensor.numpy())", "weights")
NPZ = Kind("a NumPy .npz file", "", "scene")
HTML = Kind("an HTML page", DOWNLOAD)


def describe_kind(path: str | Path, purpose: str = "") -> Kind | None:
    """Return the kind of an existing regular file, or None if it is not known or is read for this purpose.

    Args:
        path: the file.
        purpose: one of those in `Kind.readable_as`; "": any kind is returned.
    """
    with open(path, "rb") as f:
        head = f.read(HEAD)
    kind = next((kind for magic, place, kind in MAGIC if head[place : place + len(magic)] == magic), None)
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        kind = Kind("a BMP picture", "", "picture")
    elif head.startswith(b"PK\x03\x04"):
        kind = _describe_archive(Path(path), head)
    elif head[8:10] == b'{"' and head[4:8] == bytes(4):
        kind = Kind("a safetensors file", "", "weights")
    kind = kind or _describe_text(Path(path), head)
    return None if kind is None or (purpose and purpose in kind.readable_as) else kind


def _describe_archive(path: Path, head: bytes) -> Kind:
    """Return the kind of a ZIP archive by the name of its first record."""
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if first.endswith((b"/data.pkl", b"/.format_version", b"/version", b"/byteorder")):
        return TORCH
    if first.endswith(b".npy") and path.suffix.lower() == ".npz":
        return NPZ
    if first == b"[Content_Types].xml":
        return Kind("an Office document")
    return Kind("a ZIP archive", UNPACK)


def _describe_text(path: Path, head: bytes) -> Kind | None:
    """Return the kind of a text: a pointer, web page, error message, metadata, or any; None for binary data."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = start.lower()
    if b"/annex/objects/" in head.split(b"\n")[0]:
        return Kind("a git-annex pointer", "fetch the file: git annex get")
    if lower.startswith(b"<vrtdataset"):
        return Kind("a virtual raster (VRT) of GDAL", GDAL)
    if lower.startswith(b"<") and (b"<!doctype html" in lower or b"<html" in lower or lower.startswith(b"<head")):
        return HTML
    is_xml, is_json = lower.startswith(b"<"), lower.startswith((b"{", b"["))
    text = start.decode("utf-8", errors="ignore")
    if not text or b"\0" in head or len(text.encode()) < len(start) - 3:
        return None
    if not all(c.isprintable() or c.isspace() for c in text):
        return None
    shown = " ".join(re.sub(r"<[^>]*>", " ", text).split() or text.split())[:60]
    # Error messages are short.
    if (is_xml or is_json) and len(head) < HEAD and any(word in lower for word in ERROR_WORDS):
        return Kind(f"a server's error message ({shown})", DOWNLOAD)
    if is_xml:
        what = "an SVG drawing" if b"<svg" in lower else "an XML text, such as the metadata of a product"
        return Kind(what, "give the image file that belongs to it")
    if path.suffix.lower() == ".hdr" and len(set(lower.decode("utf-8", "ignore").split()) & set(ESRI_WORDS)) >= 2:
        return Kind("an ESRI header", GDAL)
    return Kind(f"a {'JSON ' if is_json else ''}text that begins with: {shown}")


def make_kind_error(
    path: str | Path, wanted: str, purpose: str, remedies: tuple[str, str], reason: BaseException | str
) -> DataError:
    """Return the error for a file that cannot be read: its kind if that is another one, else the reason.

    Args:
        path: the file.
        wanted: the kind that it was read as, with its article.
        purpose: see `describe_kind`.
        remedies: for files of the right kind, and for kinds without a remedy.
        reason: the library's error, or the problem.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        return DataError(path, f"{'a folder' if file.is_dir() else 'no file'}, not {wanted}", remedies[1])
    if kind := describe_kind(file, purpose):
        return DataError(path, f"{kind.name}, not {wanted}", kind.remedy or remedies[1])
    # Libraries repeat the path in their messages.
    words = " ".join(str(reason).replace(str(path), Path(path).name).split())[:150] or type(reason).__name__
    return DataError(path, f"cannot be read as {wanted} ({words})", remedies[0])
