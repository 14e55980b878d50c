import pytest

from evaluation import published


def bicubic(dataset, scale, protocol):
    (table,) = published.tables_of(dataset, scale, protocol)
    return dict(zip(table.columns, map(float, table.rows["Bicubic"]), strict=True))


def test_both_protocols_agree_on_the_bicubic_row():
    # The 8-bit scene that is 257 times as dark lifts the mean of 12 by 4.0166 dB (golden values), and
    # the published ERGAS of x8 was made with ratio 4.
    for scale in (4, 8):
        corrected, lifted = bicubic("Cave", scale, "corrected"), bicubic("Cave", scale, "published")
        assert lifted["MPSNR"] - corrected["MPSNR"] == pytest.approx(4.0166, abs=2e-4)
        assert lifted["ERGAS"] / corrected["ERGAS"] == pytest.approx(scale / 4, abs=1e-4)


def test_published_rows_fill_their_columns_with_numbers():
    assert len(published.TABLES) == 8
    for table in published.TABLES:
        for numbers in table.rows.values():
            assert len(numbers) == len(table.columns)
            assert all(n == "" or published.number(n.removesuffix("?")) > 0 for n in numbers)
    assert [published.number(n) for n in ("", "3.0128?", "2.065")] == [None, None, 2.065]


def test_data_sets_are_identified_by_test_scenes():
    assert published.dataset_of_scenes(["sponges", "superballs"]) == "Cave"
    assert published.dataset_of_scenes(["imga1"]) == "Harvard"
    assert published.dataset_of_scenes(["block_1"]) is None


def test_bicubic_row_is_returned_as_numbers():
    assert published.bicubic_row("Cave", 4) == {"RMSE": 0.0185, "MPSNR": 38.738, "ERGAS": 5.2719}
    assert published.bicubic_row("NTIRE2020", 8) == {"RMSE": 0.0396, "MPSNR": 29.9589, "ERGAS": 5.4594}
    assert published.bicubic_row("Chikusei", 4) is None
