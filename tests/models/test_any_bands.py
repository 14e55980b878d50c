"""Networks of a fixed number of bands on scenes of any bands."""

import numpy as np
import pytest
import torch
from helpers import VISIBLE, StubNetwork
from torch import nn

from data.bands import BandList
from models.any_bands import BandWindows, make_interpolation, place_windows, plan_bands, split_detectors
from models.brightness import NormalisedNetwork
from models.predictor import Predictor
from system.errors import DataError


class AddsItsPosition(nn.Module):
    """Adds 1 to the first band that it sees, 2 to the second, ..."""

    def forward(self, ms, lms, modality="spectral"):
        return lms + torch.arange(1.0, lms.shape[1] + 1)[:, None, None]


def images(bands, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    ms = torch.rand(batch, bands, 3, 4, generator=generator) + 0.1
    return ms, torch.rand(batch, bands, 6, 8, generator=generator)


@pytest.mark.parametrize(
    ("count", "width", "expected"),
    [
        (5, 5, [[0, 1, 2, 3, 4]]),
        (7, 3, [[0, 1, 2], [2, 3, 4], [4, 5, 6]]),
        (4, 3, [[0, 1, 2], [1, 2, 3]]),
        # linspace(0, 2, 5) is 0, 0.5, 1, 1.5, 2; halves are rounded to even numbers.
        (3, 5, [[0, 0, 1, 2, 2]]),
        (1, 2, [[0, 0]]),
        (0, 5, []),
    ],
)
def test_spectral_windows_worked_by_hand(count, width, expected):
    assert [window.tolist() for window in place_windows(count, width)] == expected


@pytest.mark.parametrize("count", [31, 32, 51, 52, 64, 102, 198, 224, 900])
def test_windows_cover_all_bands_at_bounded_cost(count):
    windows = place_windows(count, 31)
    assert set(np.concatenate(windows)) == set(range(count))
    assert all(len(window) == 31 for window in windows)
    disjoint = -(-count // 31)
    assert len(windows) <= max(1.5 * disjoint, disjoint + 1)


def test_overlapping_windows_are_averaged_with_triangular_weights():
    ms, lms = images(4)
    result = BandWindows(AddsItsPosition(), 3, [np.arange(4)])(ms, lms)
    # Windows 0..2 and 1..3 with weights 1/2, 1, 1/2: (2 * 1 + 1 * 1/2) / 1.5 for the second band.
    expected = torch.tensor([1, 5 / 3, 7 / 3, 3])
    torch.testing.assert_close(result - lms, expected[:, None, None].expand(1, 4, 6, 8))


def test_windows_follow_the_order_of_wavelengths():
    ms, lms = images(7)
    shuffled = np.array([4, 0, 6, 2, 1, 5, 3])
    sorted_result = BandWindows(AddsItsPosition(), 3, [np.arange(7)])(ms, lms)
    result = BandWindows(AddsItsPosition(), 3, [np.argsort(shuffled)])(ms[:, shuffled], lms[:, shuffled])
    torch.testing.assert_close(result, sorted_result[:, shuffled])


def test_windows_do_not_cross_overlapping_detectors():
    vnir, swir = np.linspace(420, 1000, 40), np.linspace(900, 2450, 60)
    found = split_detectors(BandList(100, np.r_[vnir, swir]), 31)
    assert [d.tolist() for d in found] == [list(range(40)), list(range(40, 100))]
    # Descending wavelengths likewise, each detector sorted.
    found = split_detectors(BandList(100, np.r_[vnir[::-1], swir[::-1]]), 31)
    assert [d.tolist() for d in found] == [list(range(39, -1, -1)), list(range(99, 39, -1))]
    # Bands without any order are sorted as one.
    order = np.random.default_rng(0).permutation(40)
    (found,) = split_detectors(BandList(40, vnir[order]), 31)
    assert (vnir[order][found] == vnir).all()
    assert "in 5 overlapping windows" in plan_bands("a", BandList(100, np.r_[vnir, swir]), BandList(31, VISIBLE)).remark


def test_fewer_bands_are_repeated_and_averaged():
    ms, lms = images(2)
    result = BandWindows(AddsItsPosition(), 5, [np.arange(2)])(ms, lms)
    # linspace(0, 1, 5) rounds to 0, 0, 0, 1, 1; weights 1/3, 2/3, 1, 2/3, 1/3.
    expected = torch.tensor([(1 / 3 + 4 / 3 + 3) / 2, (8 / 3 + 5 / 3) / 1])
    torch.testing.assert_close(result - lms, expected[:, None, None].expand(1, 2, 6, 8))


def test_dark_bands_stay_bicubic():
    ms, lms = images(6)
    ms[:, 2] = 0
    kept = [0, 1, 3, 4, 5]
    result = BandWindows(AddsItsPosition(), 3, [np.arange(6)])(ms, lms)
    torch.testing.assert_close(result[:, 2], lms[:, 2])
    torch.testing.assert_close(
        result[:, kept], BandWindows(AddsItsPosition(), 3, [np.arange(5)])(ms[:, kept], lms[:, kept])
    )
    # In a tile a band may be dark that is not dark elsewhere.
    everywhere = BandWindows(AddsItsPosition(), 3, [np.arange(6)], np.ones(6, dtype=bool))(ms, lms)
    assert (everywhere[:, 2] - lms[:, 2]).min() > 0.9
    black = torch.zeros(1, 6, 3, 4)
    torch.testing.assert_close(BandWindows(AddsItsPosition(), 3, [np.arange(6)])(black, lms), lms)


def test_band_normalisation_scales_maxima_to_a_third():
    seen = []

    class Recording(nn.Module):
        def forward(self, ms, lms, modality="spectral"):
            seen.append(ms.amax((2, 3)))
            return lms

    ms, lms = images(3, batch=2)
    ms[:, 1] *= 40
    ms[0, 2] = 0
    torch.testing.assert_close(NormalisedNetwork(Recording(), "bands")(ms, lms), lms)
    torch.testing.assert_close(seen[0], torch.tensor([[1 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3]]))
    NormalisedNetwork(Recording(), "bands", torch.tensor([2.0, 4.0, 1.0]))(ms, lms)
    torch.testing.assert_close(seen[1], ms.amax((2, 3)) / torch.tensor([2.0, 4.0, 1.0]))


def test_reordered_bands_are_an_exact_match():
    order = np.random.default_rng(0).permutation(31)
    ms, lms = images(31)
    plan = plan_bands("a.hdr", BandList(31, VISIBLE[order]), BandList(31, VISIBLE))
    assert plan.mode == "exact"
    expected = AddsItsPosition()(ms, lms)
    assert torch.equal(plan.apply(AddsItsPosition())(ms[:, order], lms[:, order]), expected[:, order])
    assert "reordered" in plan.remark
    # Weights of descending bands likewise.
    plan = plan_bands("a.hdr", BandList(31, VISIBLE), BandList(31, VISIBLE[::-1]))
    assert torch.equal(plan.apply(AddsItsPosition())(ms, lms), AddsItsPosition()(ms.flip(1), lms.flip(1)).flip(1))


def test_the_same_bands_need_no_wrapper():
    network = AddsItsPosition()
    for scene in (BandList(31, VISIBLE), BandList(31, VISIBLE + 1.9), BandList(31, None)):
        assert plan_bands("a.hdr", scene, BandList(31, VISIBLE)).apply(network) is network
    # A network of any number of bands is applied to all of them.
    assert plan_bands("a.hdr", BandList(200, None), BandList(0, None)).apply(network) is network


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (BandList(102, np.linspace(430, 860, 102)), "102 bands, 430..860 nm, super-resolved in 5 overlapping windows"),
        (BandList(198, None), "198 bands of unknown wavelengths, super-resolved in 10 overlapping windows of 31 bands"),
        (BandList(31, VISIBLE + 500), "31 bands, 900..1200 nm, super-resolved together"),
        (BandList(4, np.array([450.0, 550, 650, 850])), "4 bands, 450..850 nm, super-resolved together"),
        (BandList(31, np.r_[400:450:10, 447:457:10, 460:701:10]), "(band 6: 447 and 450 nm)"),
    ],
)
def test_different_bands_use_windows_with_a_remark(scene, words):
    plan = plan_bands("a.hdr", scene, BandList(31, VISIBLE))
    assert plan.mode == "windows"
    assert plan.remark.startswith("a.hdr: ")
    assert words in plan.remark
    assert "trained on 31 bands, 400..700 nm" in plan.remark
    with pytest.raises(DataError, match=r"trained on 31 bands.*set bands windows or auto"):
        plan_bands("a.hdr", scene, BandList(31, VISIBLE), "exact")


def test_one_band_is_refused():
    with pytest.raises(DataError, match="one band, but at least two are needed"):
        plan_bands("a.hdr", BandList(1, None), BandList(31, VISIBLE))


def test_adapted_weights_are_always_applied_by_windows():
    sensor = BandList(31, VISIBLE)
    plan = plan_bands("a.hdr", sensor, BandList(31, None), sensor=sensor)
    assert plan.mode == "windows"
    assert "adapted to 31 bands, 400..700 nm" in plan.remark
    with pytest.raises(DataError, match="adapted to windows of 31 bands"):
        plan_bands("a.hdr", sensor, BandList(31, None), "exact", sensor=sensor)


def test_resampling_needs_wavelengths_and_a_common_range():
    with pytest.raises(DataError, match="needs the wavelengths of both"):
        plan_bands("a.hdr", BandList(40, None), BandList(31, VISIBLE), "resample")
    with pytest.raises(DataError, match="the ranges do not overlap"):
        plan_bands("a.hdr", BandList(31, VISIBLE + 500), BandList(31, VISIBLE), "resample")


def test_interpolated_spectra_are_those_of_numpy():
    given, wanted = np.array([500.0, 400, 600]), np.array([350.0, 450, 530, 700])
    spectrum = np.array([2.0, 1, 5])
    expected = np.interp(wanted, [400, 500, 600], [1, 2, 5])
    np.testing.assert_allclose(spectrum @ make_interpolation(given, wanted), expected)


def test_a_predictor_normalises_by_bands_around_windows():
    # lms + lms ** 2 of what is divided by 3 times the largest LR value of the band.
    ms, lms = images(5)
    plan = plan_bands("a.npy", BandList(5, None), BandList(3, None))
    result = Predictor(StubNetwork(3, torch.square), 2, plan, "bands")(ms, lms)
    peak = 3 * ms.amax((2, 3), keepdim=True)
    torch.testing.assert_close(result, lms + lms**2 / peak)
