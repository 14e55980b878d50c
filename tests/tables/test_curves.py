import numpy as np
import pytest

from tables.curves import read_columns


def test_empty_fields_of_a_log_are_gaps(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,iteration,labelled,rgb\n1,5,0.5,\n1,10,0.25,2\n")
    columns = read_columns(tmp_path / "log.csv")
    assert list(columns) == ["epoch", "iteration", "labelled", "rgb"]
    np.testing.assert_array_equal(columns["labelled"], [0.5, 0.25])
    np.testing.assert_array_equal(columns["rgb"], [np.nan, 2])


@pytest.mark.parametrize("text", ["", "iteration,labelled\n", "iteration,labelled\n1,abc\n"])
def test_logs_that_hold_no_numbers_have_no_columns(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    assert read_columns(tmp_path / "log.csv") == {}


def test_logs_that_are_not_there_have_no_columns(tmp_path):
    assert read_columns(tmp_path / "log.csv") == {}
