"""Files of another kind than their name or place suggests: messages name the kind and a remedy."""

import bz2
import gzip
import lzma
import zipfile

import fixtures
import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
from helpers import OWN_CUBE
from PIL import Image

from data.spectral import read_conversion
from data.store import Store
from formats import open_raster
from formats.images import read_grey, read_picture
from formats.kinds import describe_kind
from formats.mat import read_mat
from models import weights
from system.errors import DataError, UserError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
ANNEX = b"/annex/objects/SHA256E-s1048576--4d7a2146.tif\n"
S3_ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
AVIF = b"\0\0\0\x1cftypavif" + bytes(200)
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>"

READERS = {
    "scene.tif": open_raster,
    "scene.mat": open_raster,
    "scene.hdr": open_raster,
    "scene.dat": open_raster,
    "store.h5": Store,
    "weights.pth": weights.load,
    "weights.safetensors": weights.load,
    "last.pth": weights.read_checkpoint,
    "picture.png": read_picture,
    "picture.tif": read_picture,
    "band.png": read_grey,
    "patch.mat": lambda path: read_mat(path, ("gt",)),
    "conversion.mat": lambda path: read_conversion(str(path), 31, 8),
    "conversion.csv": lambda path: read_conversion(str(path), 31, 8),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LFS, "a Git LFS pointer.* git lfs pull"),
        (ANNEX, "a git-annex pointer.* git annex get"),
        (PAGE, "an HTML page.* download it again"),
        (b'{"message": "Not Found", "documentation_url": "..."}', "error message .*Not Found.* download it again"),
        (S3_ERROR, "error message .*NoSuchKey.* download it again"),
        (b"404: Not Found", "a text that begins with: 404: Not Found"),
        (gzip.compress(bytes(4000)), "packed with gzip.* unpack it first"),
    ],
)
def test_every_reader_names_other_files(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as refusal:
        READERS[name](tmp_path / name)
    assert "damaged" not in str(refusal.value) and "copy it again" not in str(refusal.value)


def zipped(path, name="a.txt"):
    with zipfile.ZipFile(path, "w") as f:
        f.writestr(name, "content")


def one_picture(path):
    Image.new("RGB", (8, 8)).save(path, path.suffix[1:])


KINDS = {
    "a.nc": (lambda p: scipy.io.netcdf_file(p, "w").close(), "a netCDF-3 file"),
    "b.nc": (lambda p: scipy.io.netcdf_file(p, "w", version=2).close(), "a netCDF-3 file"),
    "a.zip": (zipped, "a ZIP archive"),
    "a.docx": (lambda p: zipped(p, "[Content_Types].xml"), "an Office document"),
    "a.pt": (lambda p: torch.save(torch.rand(3), p), "a file of torch.save"),
    "old.pt": (lambda p: torch.save(torch.rand(3), p, _use_new_zipfile_serialization=False), "a Python pickle"),
    "a.npz": (lambda p: np.savez(p, a=np.ones(3)), "a NumPy .npz file"),
    "a.npy": (lambda p: np.save(p, np.ones(3)), "a NumPy .npy file"),
    "a.h5": (lambda p: h5py.File(p, "w").close(), "an HDF5 file"),
    "a.mat": (lambda p: scipy.io.savemat(p, {"a": 1}), "a MATLAB .mat file"),
    "a.xz": (lambda p: p.write_bytes(lzma.compress(b"a")), "a file packed with xz"),
    "a.bz2": (lambda p: p.write_bytes(bz2.compress(b"a")), "a file packed with bzip2"),
    "a.tiff": (one_picture, "a TIFF file"),
    "a.bmp": (one_picture, "a BMP picture"),
    "a.gif": (one_picture, "a GIF picture"),
    "a.webp": (one_picture, "a WebP picture"),
    "a.avif": (one_picture, "an AVIF picture"),
    "a.jp2": (lambda p: Image.new("RGB", (8, 8)).save(p, "JPEG2000"), "a JPEG 2000 image"),
    "a.j2k": (lambda p: Image.new("RGB", (8, 8)).save(p, "JPEG2000", no_jp2=True), "a JPEG 2000 image"),
    "a.pdf": (one_picture, "a PDF document"),
    "a.svg": (lambda p: p.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "an SVG drawing"),
    "a.vrt": (lambda p: p.write_text('<VRTDataset rasterXSize="2">'), "a virtual raster"),
    "MTD.xml": (lambda p: p.write_text('<?xml version="1.0"?><n1:Level-2A/>'), "an XML text"),
    "a.json": (lambda p: p.write_text('{"wavelengths": [400, 410]}'), "a JSON text"),
}


@pytest.mark.parametrize("name", KINDS)
def test_files_of_libraries_are_recognised(tmp_path, name):
    make, words = KINDS[name]
    make(tmp_path / name)
    kind = describe_kind(tmp_path / name)
    assert kind and kind.name.startswith(words)


@pytest.mark.parametrize(
    ("driver", "words"),
    [("HFA", "ERDAS Imagine"), ("NITF", "NITF"), ("FITS", "FITS"), ("PCIDSK", "PCIDSK"), ("LAN", "ERDAS 7.x")],
)
def test_images_of_gdal_are_recognised(tmp_path, driver, words):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(tmp_path / "a.img", "w", driver, 20, 22, 6, dtype="uint8") as f:
            f.write(np.ones((6, 22, 20), np.uint8))
    except (RasterioError, ValueError):
        pytest.skip(f"this GDAL does not write {driver}")
    with pytest.raises(DataError, match=f"{words}.*gdal_translate"):
        open_raster(tmp_path / "a.img")


@pytest.mark.parametrize("value", [0, 7, 65, 128, 255])
def test_bare_values_have_no_known_kind(tmp_path, value):
    for dtype in (np.uint16, np.float32):
        (tmp_path / "a.dat").write_bytes(np.full(1000, value, dtype).tobytes())
        assert describe_kind(tmp_path / "a.dat") is None


def test_unknown_scenes_list_the_formats_read(tmp_path):
    (tmp_path / "cube.dat").write_bytes(np.array([20, 22, 16], ">i4").tobytes() + bytes(4000))
    with pytest.raises(DataError, match=r"\.mat.*\.npy.*HDF5.*ENVI.*TIFF.*without an ENVI header cube\.dat\.hdr"):
        open_raster(tmp_path / "cube.dat")
    (tmp_path / "cube.tif").write_bytes(bytes(4000))
    with pytest.raises(DataError, match=r"not TIFF by its first bytes \(00 00.*HDF5"):
        open_raster(tmp_path / "cube.tif")


def test_a_pointer_beside_envi_data_is_named(tmp_path):
    (tmp_path / "cube.dat").write_bytes(bytes(range(256)) * 16)
    (tmp_path / "cube.hdr").write_bytes(LFS)
    with pytest.raises(DataError, match=r"cube\.hdr: a Git LFS pointer, not the ENVI header of cube\.dat; .*pull"):
        open_raster(tmp_path / "cube.dat")


def test_tensor_given_as_scene_is_named(tmp_path):
    torch.save(torch.rand(20, 22, 16), tmp_path / "cube.pt")
    with pytest.raises(DataError, match="a file of torch.save.*numpy.save"):
        open_raster(tmp_path / "cube.pt")


def test_mat_files_of_version_4_are_read(tmp_path):
    cube = fixtures.make_smooth_cube(0, 6, 5, 8)
    pixels = cube.transpose(2, 1, 0).reshape(8, 30)
    scipy.io.savemat(tmp_path / "a.mat", {"Y": pixels, "nRow": 6, "nCol": 5}, format="4")
    np.testing.assert_array_equal(open_raster(tmp_path / "a.mat").read(), cube)


@pytest.mark.parametrize(("content", "words"), [(HEIC, "a HEIC picture"), (AVIF, "an AVIF picture")])
def test_phone_pictures_named_jpg_are_named(tmp_path, content, words):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=f"{words}, not a PNG.*save it as PNG"):
        read_picture(tmp_path / "a.jpg")


def test_incomplete_pictures_give_their_library_s_reason(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(DataError, match=r"cannot be read as a .* picture \(.*truncated.*\); copy it again"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_float_tiff_pictures_become_16_bits(tmp_path, dtype, planes):
    pixels = np.array([[[0, 0.25, 1], [0.5, 0.125, 0.75]]], dtype)
    stored = pixels if planes == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planes)
    expected = [[[0, 16384, 65535], [32768, 8192, 49151]]]
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif"), np.array(expected, np.uint16))


@pytest.mark.parametrize(("value", "words"), [(255, "to 255"), (-0.5, "from -0.5"), (np.nan, "nan")])
def test_float_pictures_beyond_unit_range_are_refused(tmp_path, value, words):
    pixels = np.full((4, 5, 3), 0.5, np.float32)
    pixels[2, 3, 1] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    with pytest.raises(DataError, match=f"{words}.* where 0..1 is needed"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "I;16"])
def test_palette_cmyk_and_grey_pictures_are_read(tmp_path, mode):
    grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "a.tif")
    pixels = read_picture(tmp_path / "a.tif")
    expected = grey.astype(np.uint16) * 257 if mode == "I;16" else grey
    np.testing.assert_array_equal(pixels, np.repeat(expected[:, :, None], 3, axis=2))


def test_a_float_picture_goes_into_a_store(run, tmp_path):
    (tmp_path / "rgb").mkdir()
    tifffile.imwrite(tmp_path / "rgb" / "a.tif", np.full((16, 16, 3), 0.5, np.float32), photometric="rgb")
    assert run("prepare", dataset_name="DIV2K", raw_dir=tmp_path / "rgb", out_dir=tmp_path / "out")[0] == 0
    with Store(tmp_path / "out" / "rgb.h5") as store:
        np.testing.assert_allclose(store.read("a").values(), 0.5, atol=1e-5)


def test_an_archive_with_weights_inside_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as f:
        f.writestr("w/last.pth", "content")
    with pytest.raises(UserError, match="a ZIP archive, not a checkpoint.*unpack it first"):
        weights.load(tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", a=OWN_CUBE)
    (tmp_path / "w.npz").rename(tmp_path / "v.pth")
    with pytest.raises(UserError, match="a ZIP archive"):
        weights.load(tmp_path / "v.pth")


@pytest.mark.parametrize(("kind", "name"), [("npz", ".npz"), ("hdf5", "HDF5"), ("tiff", "TIFF")])
def test_incomplete_scenes_give_their_library_s_reason(tmp_path, kind, name):
    path = fixtures.write_own(tmp_path, kind, OWN_CUBE)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"cannot be read as {name} \(.+\); copy or|truncated \(2000 bytes"):
        open_raster(path)
