"""Text files of wavelengths as spreadsheets and editors save them."""

import numpy as np
import pytest

from formats.wavelengths import parse_wavelengths
from system.errors import DataError

CENTRES = [400.0, 412.5, 450.0, 700.0]
PLAIN = "\r\n".join(f"{w:g}" for w in CENTRES)


def table(form, mark="\n"):
    return mark.join(form.format(k=k + 1, w=w, fwhm=9.5) for k, w in enumerate(CENTRES))


FILES = {
    "byte-order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 big-endian": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 unmarked": PLAIN.encode("utf-16-le"),
    "heading": b"Wavelength (nm)\n" + PLAIN.encode(),
    "index": table("{k},{w}").encode(),
    "index and heading": b"Band,Wavelength (nm)\n" + table("{k},{w}").encode(),
    "width": table("{w}\t{fwhm}").encode(),
    "index and width": table("{k} {w} {fwhm}").encode(),
    "columns by heading": b"FWHM;Centre wavelength\n" + table("{fwhm};{w}").encode(),
    "decimal commas": table("{k};{w}").replace(".", ",").encode(),
    "quotes": b'"Band","nm"\n' + table('"{k}","{w}"').encode(),
    "one line": ", ".join(f"{w:g}" for w in CENTRES).encode(),
    "two lines": b"400 412.5\n450 700\n",
    "trailing commas": table("{w},").encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_wavelength_files_are_read(tmp_path, name):
    (tmp_path / "w.txt").write_bytes(FILES[name])
    np.testing.assert_array_equal(parse_wavelengths(str(tmp_path / "w.txt"), 4), CENTRES)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"no numbers\n", b"400,5\n412,5\n450,0\n", b"400\n412.5\nn/a\n700\n", bytes(range(256))],
)
def test_invalid_wavelength_files_are_refused(tmp_path, content):
    (tmp_path / "w.txt").write_bytes(content)
    with pytest.raises(DataError, match="no two wavelengths"):
        parse_wavelengths(str(tmp_path / "w.txt"), 4)
