import pytest

from tables import words


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0, "0:00:00"), (59.6, "0:01:00"), (3725.4, "1:02:05"), (90061, "25:01:01")]
)
def test_durations_are_hours_minutes_and_seconds(seconds, text):
    assert words.duration(seconds) == text


def test_headings_have_units():
    assert words.headings(["RMSE", "SAM", "MPSNR"]) == ["RMSE", "SAM (°)", "MPSNR (dB)"]
