import numpy as np
import pytest
import scipy.io
import scipy.sparse

from formats.mat_structure import check_structure
from system.errors import DataError

HELD = {
    "cube": np.arange(60, dtype="u2").reshape(3, 4, 5),
    "struct": {"Data": np.ones((2, 3)), "info": {"a": "Größe", "b": [1, 2]}},
    "cells": np.array([["a", "bc"]], dtype=object),
    "complex": np.ones((2, 2)) * 1j,
    "sparse": scipy.sparse.csc_matrix(np.eye(3)),
    "nothing": np.zeros((0, 0)),
    "logical": np.array([True, False]),
    "words": np.array(["a", "bb"]),
}


@pytest.mark.parametrize("is_compressed", [False, True])
def test_every_kind_of_variable_is_sound(tmp_path, is_compressed):
    scipy.io.savemat(tmp_path / "a.mat", HELD, do_compression=is_compressed)
    check_structure(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("place", "value"),
    # Of an array of 3 x 4 x 5: the class's flags (complex without a second part), and the type of its values.
    [(145, 9), (184, 15), (185, 1)],
)
def test_tags_that_would_end_scipy_are_found(tmp_path, place, value):
    scipy.io.savemat(tmp_path / "a.mat", {"cube": HELD["cube"], "wavelength": np.arange(5.0)})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[place] = value
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a .mat file"):
        check_structure(tmp_path / "a.mat")
