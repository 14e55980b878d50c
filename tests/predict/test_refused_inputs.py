import fixtures
import numpy as np
import pytest
import rasterio
from helpers import OWN_CUBE
from spectral.io import envi


def broken(kind, change):
    def make(folder):
        path = fixtures.write_own(folder, kind, OWN_CUBE)
        change(path)
        return path

    return make


def replaced(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


def cut_data(path):
    data = path.with_suffix(".dat") if path.suffix == ".hdr" else path
    data.write_bytes(data.read_bytes()[:3000])


def added(field, value):
    """A header with a field more, or with another value of it."""

    def change(path):
        kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{field} =")]
        path.write_text("\n".join([*kept, f"{field} = {value}", ""]))

    return change


def tiff_without_end(folder):
    """A GeoTIFF whose pixels are whole and whose tags are not."""
    profile = {"driver": "GTiff", "height": 28, "width": 28, "count": 31, "dtype": "uint16", "compress": "deflate"}
    with rasterio.open(folder / "a.tif", "w", **profile) as f:
        f.write(OWN_CUBE.transpose(2, 0, 1))
        # Written last, and found at the end of the file.
        f.descriptions = [f"band {k}" for k in range(31)]
        f.update_tags(note="x" * 2000)
    path = folder / "a.tif"
    path.write_bytes(path.read_bytes()[:-500])
    return path


def own(kind, cube):
    return lambda d: fixtures.write_own(d, kind, cube)


def complex_envi(folder):
    envi.save_image(str(folder / "a.hdr"), OWN_CUBE.astype(np.complex64))
    return folder / "a.hdr"


# What is wrong with the input, further flags, and a word of the sentence that says so.
WRONG = {
    "header that lies about its lines": (
        broken("envi", replaced("lines = 28", "lines = 30")),
        {},
        "its header specifies",
    ),
    "header that lies about its samples": (
        broken("envi", replaced("samples = 28", "samples = 27")),
        {},
        "its header specifies",
    ),
    "header without a field": (broken("envi", replaced("samples =", "spamles =")), {}, "samples"),
    "header that is cut off": (broken("envi", lambda p: p.write_text(p.read_text()[:150])), {}, "scene.hdr"),
    "missing data file": (broken("envi", lambda p: p.with_suffix(".dat").unlink()), {}, "data file is missing"),
    **{
        f"truncated {k}": (broken(k, cut_data), {}, "scene")
        for k in ("mat5", "mat73", "npy", "npz", "hdf5", "tiff", "envi")
    },
    "unknown interleave": (broken("envi", added("interleave", "bxx")), {}, "interleave = bxx"),
    "unknown byte order": (broken("envi", added("byte order", "2")), {}, "byte order = 2 cannot be understood"),
    "impossible scale": (
        broken("envi", added("reflectance scale factor", "-10000")),
        {},
        "reflectance scale factor = -10000",
    ),
    "short map info": (broken("envi", added("map info", "{UTM, 1.0}")), {}, "map info = UTM, 1.0 cannot"),
    "words for a start": (broken("envi", added("x start", "left")), {}, "x start = left cannot"),
    "one wavelength": (broken("envi", added("wavelength", "400")), {}, "1 wavelengths for 31 bands"),
    "no wavelengths": (
        broken("envi", added("wavelength", "{" + ", ".join(["nan"] * 31) + "}")),
        {},
        "wavelength = nan",
    ),
    "GeoTIFF without its end": (tiff_without_end, {}, "cannot be read as TIFF"),
    "nothing in it": (own("npy", OWN_CUBE[:0]), {"band_axis": 2}, "an empty array (0 x 28 x 31)"),
    "a name too long": (own("npy", OWN_CUBE), {"output": "n" * 300 + ".npy"}, "the name is too long"),
    "wavelengths the wrong way round": (
        own("npy", OWN_CUBE),
        {"wavelengths": "700,400"},
        "--wavelengths as first,last",
    ),
    "micrometres": (own("npy", OWN_CUBE), {"wavelengths": "0.4,0.7"}, "first,last in nm"),
    "a fourth axis": (own("npy", OWN_CUBE), {"band_axis": 3}, "--band_axis takes -1, 0, 1 or 2"),
    "complex": (own("npy", OWN_CUBE.astype(np.complex64)), {}, "complex64"),
    "complex ENVI": (complex_envi, {}, "complex64"),
    "one band": (own("npy", OWN_CUBE[:, :, 0]), {}, "rows x columns x bands"),
    "unknown range": (own("npy", OWN_CUBE.astype(np.float32)), {}, "--value_scale"),
    "no-data mark unnamed": (
        own("npy", np.where(OWN_CUBE > 30000, -9999, OWN_CUBE.astype(np.int32))),
        {"value_scale": 65535},
        "--nodata",
    ),
    "no such file": (lambda d: d / "none.npy", {}, "no such file"),
    "words": (lambda d: (d / "a.npy").write_text("words " * 99) and d / "a.npy", {}, "a text that begins with: words"),
    "empty folder": (lambda d: d, {}, "contains no scenes"),
    "bands": (own("npy", OWN_CUBE[:, :, :9]), {"bands": "exact", "wavelengths": "450,800"}, "9 bands, 450..800 nm"),
    "unknown bands": (own("npy", OWN_CUBE[:, :, :9]), {"resample_bands": 1}, "9 bands of unknown wavelengths"),
    "wavelengths": (own("npy", OWN_CUBE), {"wavelengths": "blue"}, "--wavelengths as first,last"),
    "odd overlap": (own("npy", OWN_CUBE), {"tile_overlap": 6}, "multiple of 4"),
    "small tiles": (own("npy", OWN_CUBE), {"tile_size": 40}, "at least twice"),
    "nodata": (own("npy", OWN_CUBE), {"nodata": "none"}, "--nodata takes a number"),
    "unknown weights": (own("npy", OWN_CUBE), {"model_dir": "Kave"}, "name of bundled weights"),
    "unknown extension": (own("npy", OWN_CUBE), {"output": "out/result.xyz"}, ".xyz is not a known extension"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_refused_and_leave_nothing(refused, weights, tmp_path, monkeypatch, case):
    make, flags, words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    assert words in refused(
        "predict", **{"input": source, "output": tmp_path / "out" / "a.npy", "model_dir": weights, **flags}
    )
    assert not (tmp_path / "out").exists()
