"""Networks of a fixed number of bands, applied to scenes of any bands.

Not in the paper. A network that was trained on 31 bands from 400 to 700 nm super-resolves neighbouring bands of other
sensors too, whatever their wavelengths (docs/own_sensor.md has the measurements).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data.bands import BandList
from data.spectral import apply_along_bands
from facts import SAME_BAND
from system.errors import DataError

MODES = ("auto", "exact", "windows", "resample")
# Distance of windows as a share of their width: at most 1.5 times the work of windows that do not overlap. Windows
# twice as dense gain 0.01 dB.
STEP = 2 / 3


@dataclass(frozen=True)
class BandPlan:
    """Mapping of a scene's bands to those of a network.

    Attributes:
        mode: "exact": the scene's bands are the network's; "windows": overlapping windows of neighbouring bands;
            "resample": spectra are interpolated to the network's wavelengths, and the detail back.
        width: number of bands of the network, 0 if it takes any.
        order: indices of the scene's bands in the network's order ("exact").
        detectors: of "windows": indices of the bands of each detector, by wavelength; windows do not cross detectors.
        to_network, to_scene: matrices of "resample", scene x network and network x scene bands; else None.
        shares: of each of the scene's bands, the share 0..1 of the network's detail that it receives.
        remark: a sentence for the user, or ""; parameters in braces, as in `DataError`.
    """

    mode: str
    width: int
    order: np.ndarray
    shares: np.ndarray
    remark: str = ""
    to_network: np.ndarray | None = None
    to_scene: np.ndarray | None = None
    detectors: tuple[np.ndarray, ...] = ()

    def apply(self, network: nn.Module, has_data: np.ndarray | None = None) -> nn.Module:
        """Return the network as a module that takes and returns the scene's bands.

        Args:
            network: called as network(ms, lms, modality).
            has_data: C of bool, False for bands that windows leave out; None: leave out bands that are dark.
        """
        if self.mode == "windows":
            return BandWindows(network, self.width, self.detectors, has_data)
        if self.to_network is not None and self.to_scene is not None:
            return ResampledBands(network, self.to_network, self.to_scene)
        if (self.order == np.arange(len(self.order))).all():
            return network
        return ReorderedBands(network, self.order)

    def list_windows(self, has_data: np.ndarray) -> list[np.ndarray]:
        """Return the bands of each window as indices of the scene's bands; [] if windows are not used."""
        return list_windows(self.detectors, self.width, has_data)

    def draw_window(self, generator: np.random.Generator, has_data: np.ndarray) -> np.ndarray:
        """Draw a window of `width` neighbouring bands, uniformly over all positions; return its indices."""
        found = (detector[has_data[detector]] for detector in self.detectors)
        used: list[np.ndarray] = [detector for detector in found if len(detector)]
        positions = np.array([max(1, len(detector) - self.width + 1) for detector in used])
        bands = used[generator.choice(len(used), p=positions / positions.sum())]
        if len(bands) <= self.width:
            return bands[place_windows(len(bands), self.width)[0]]
        first = generator.integers(len(bands) - self.width + 1)
        return bands[first : first + self.width]


def plan_bands(
    path: str | Path,
    scene: BandList,
    network: BandList,
    mode: str = "auto",
    taper: float = 0.0,
    sensor: BandList | None = None,
) -> BandPlan:
    """Choose the mapping of a scene's bands to those of a network.

    Args:
        path: of the scene, for messages.
        scene, network: the bands of both.
        mode: "auto": "exact" if the bands agree, in any order, else "windows"; or one of the modes of `BandPlan`.
        taper: of "resample": nm beyond the network's range over which its detail fades out.
        sensor: bands of the sensor whose windows the network was fine-tuned on, or None.

    Raises:
        DataError: for bands that the mode cannot process, with the number and range of both lists.
    """
    everything = np.ones(scene.count)
    if network.count == 0:
        return BandPlan("exact", 0, np.arange(scene.count), everything)
    if mode == "resample":
        return _plan_resampling(path, scene, network, taper)
    if mode != "windows" and sensor is None:
        order = _match_order(scene, network)
        if order is not None:
            return BandPlan(
                "exact", network.count, order, everything, _format_order_remark(path, scene, network, order)
            )
    if mode == "exact":
        trained = (
            f"adapted to windows of {sensor}" if sensor else f"trained on {network}{scene.format_difference(network)}"
        )
        raise DataError(path, f"{scene}, but the weights were {trained}", "set {bands} windows or auto")
    if scene.count < 2:
        raise DataError(path, "one band, but at least two are needed", "give a scene of several bands")
    detectors = split_detectors(scene, network.count)
    count = len(list_windows(detectors, network.count, np.ones(scene.count, dtype=bool)))
    applied = f"super-resolved in {count} overlapping windows of {network.count} bands"
    if count == 1:
        applied = "super-resolved together"
    trained = f"adapted to {sensor}" if sensor else f"trained on {network}{scene.format_difference(network)}"
    remark = f"{path}: {scene}, {applied}; the weights were {trained}"
    return BandPlan("windows", network.count, np.arange(scene.count), everything, remark, detectors=detectors)


def place_windows(count: int, width: int) -> list[np.ndarray]:
    """Return evenly spaced windows of `width` neighbouring bands that cover bands 0..count-1.

    Fewer bands than `width` are repeated, each about equally often: as good as or better than interpolation for 2 to
    30 bands of four sensors.
    """
    if count <= width:
        return [np.rint(np.linspace(0, count - 1, width)).astype(int)] if count else []
    number = 1 + int(np.ceil((count - width) / max(1, int(STEP * width))))
    starts = np.rint(np.linspace(0, count - width, number)).astype(int)
    return [np.arange(start, start + width) for start in starts]


def split_detectors(scene: BandList, width: int) -> tuple[np.ndarray, ...]:
    """Return the bands of each detector as indices, by wavelength.

    A detector ends where the wavelengths jump back, as between overlapping VNIR and SWIR detectors. If a detector
    would be narrower than a window, as in a file of unordered bands, all bands are sorted as one detector.
    """
    if scene.centres is None:
        return (np.arange(scene.count),)
    steps = np.diff(scene.centres)
    is_back = steps <= 0 if np.median(steps) > 0 else steps >= 0
    runs = np.split(np.arange(scene.count), np.flatnonzero(is_back) + 1)
    if len(runs) > 1 and min(map(len, runs)) < width:
        return (np.argsort(scene.centres, kind="stable"),)
    return tuple(run[np.argsort(scene.centres[run], kind="stable")] for run in runs)


def list_windows(detectors: Sequence[np.ndarray], width: int, has_data: np.ndarray) -> list[np.ndarray]:
    """Return the bands of each window of all detectors, without the bands that have no data."""
    used = [detector[has_data[detector]] for detector in detectors]
    return [bands[window] for bands in used for window in place_windows(len(bands), width)]


class BandWindows(nn.Module):
    """A network applied to overlapping windows of neighbouring bands.

    The detail (output minus bicubic) of the windows is averaged with triangular weights. Bands without data are not
    passed to the network; their result is bicubic.

    Args:
        network: called as network(ms, lms, modality).
        width: its number of bands.
        detectors: see `BandPlan`.
        has_data: C of bool, the bands to use; None: in each call, all that are not dark in the whole batch.
    """

    def __init__(
        self, network: nn.Module, width: int, detectors: Sequence[np.ndarray], has_data: np.ndarray | None = None
    ) -> None:
        super().__init__()
        self.network, self.width, self.detectors, self.has_data = network, width, detectors, has_data

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        has_data = (ms.amax((0, 2, 3)) > 0).cpu().numpy() if self.has_data is None else self.has_data
        detail, total = torch.zeros_like(lms), torch.zeros(lms.shape[1], device=lms.device)
        distance = (torch.arange(self.width, device=lms.device) - (self.width - 1) / 2).abs()
        weights = 1 - distance / ((self.width + 1) / 2)
        for window in list_windows(self.detectors, self.width, has_data):
            bands = torch.as_tensor(window, device=lms.device)
            low, bicubic = (x[:, bands].contiguous(memory_format=torch.channels_last) for x in (ms, lms))
            found = self.network(low, bicubic, modality) - bicubic
            detail.index_add_(1, bands, found * weights[:, None, None])
            total.index_add_(0, bands, weights)
        return lms + detail / torch.where(total > 0, total, 1)[:, None, None]


class ResampledBands(nn.Module):
    """Spectral resampling: spectra are interpolated to the network's wavelengths, and its detail back.

    Args:
        network: called as network(ms, lms, modality).
        to_network, to_scene: matrices, scene x network and network x scene bands.
    """

    def __init__(self, network: nn.Module, to_network: np.ndarray, to_scene: np.ndarray) -> None:
        super().__init__()
        self.network, self.to_network, self.to_scene = network, to_network, to_scene

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        low, bicubic = (apply_along_bands(x, self.to_network) for x in (ms, lms))
        detail = self.network(low, bicubic, modality) - bicubic
        return lms + apply_along_bands(detail, self.to_scene)


class ReorderedBands(nn.Module):
    """A network applied to a scene that has the same bands in another order.

    Args:
        network: called as network(ms, lms, modality).
        order: indices of the scene's bands in the network's order.
    """

    def __init__(self, network: nn.Module, order: np.ndarray) -> None:
        super().__init__()
        self.network = network
        self.order, self.inverse = torch.as_tensor(order), torch.as_tensor(np.argsort(order))

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        order, inverse = self.order.to(ms.device), self.inverse.to(ms.device)
        output: torch.Tensor = self.network(ms[:, order], lms[:, order], modality)[:, inverse]
        return output


def make_interpolation(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the given x wanted matrix of linear spectral interpolation; beyond the ends, the last value is kept."""
    order = np.argsort(given)
    rows = np.eye(len(given))[:, order]
    return np.stack([np.interp(wanted, given[order], row) for row in rows])


def compute_detail_shares(scene: np.ndarray, network: np.ndarray, taper: float) -> np.ndarray:
    """Return the share of a network's detail for each band of a scene: 1 in its range, a cosine taper to 0 beyond.

    Without the taper, each spectrum of the result would have an artificial step at the end of the network's range.

    Args:
        scene, network: band centres of both in nm.
        taper: nm over which the detail fades out; 0: at once.
    """
    beyond = np.maximum(network.min() - scene, scene - network.max())
    fading = (1 + np.cos(np.pi * np.clip(beyond / taper, 0, 1))) / 2 if taper else np.zeros(len(scene))
    return np.where(beyond <= SAME_BAND, 1.0, fading)


def _match_order(scene: BandList, network: BandList) -> np.ndarray | None:
    """Return the indices of the scene's bands in the network's order; None if the bands differ."""
    if scene.centres is None or network.centres is None:
        return np.arange(scene.count) if scene.count == network.count else None
    if scene.is_same(network):
        return np.arange(scene.count)
    given, wanted = (np.argsort(centres, kind="stable") for centres in (scene.centres, network.centres))
    if not BandList(scene.count, scene.centres[given]).is_same(BandList(network.count, network.centres[wanted])):
        return None
    order = np.empty(scene.count, dtype=int)
    order[wanted] = given
    return order


def _format_order_remark(path: str | Path, scene: BandList, network: BandList, order: np.ndarray) -> str:
    if scene.centres is None or network.centres is None:
        whose = "scene's" if scene.centres is None else "network's"
        return f"{path}: the {whose} wavelengths are unknown; assuming the {network.count} bands of the weights"
    if (order == np.arange(len(order))).all():
        return ""
    return f"{path}: {scene}; its bands are reordered for the network"


def _plan_resampling(path: str | Path, scene: BandList, network: BandList, taper: float) -> BandPlan:
    order = _match_order(scene, network)
    if order is not None:
        remark = _format_order_remark(path, scene, network, order)
        return BandPlan("exact", network.count, order, np.ones(scene.count), remark)
    if scene.centres is None or network.centres is None:
        what = f"{scene}, but the weights were trained on {network}; resampling needs the wavelengths of both"
        raise DataError(path, what, "set {wavelengths} first,last, or use {bands} windows")
    shares = compute_detail_shares(scene.centres, network.centres, taper)
    inside, fading = shares == 1, (shares > 0) & (shares < 1)
    if not inside.any():
        what = f"{scene}, but the weights were trained on {network}; the ranges do not overlap"
        raise DataError(path, what, "use {bands} windows")
    carried = f", tapered over {taper:g} nm to {np.count_nonzero(fading)} more" if fading.any() else ""
    outside = f"; the other {np.count_nonzero(shares == 0)} are bicubic" if (shares == 0).any() else ""
    remark = (
        f"{path}: {scene}, interpolated to the network's {network}; detail is interpolated back to "
        f"{np.count_nonzero(inside)} bands in its range{carried}{outside}"
    )
    matrices = (
        make_interpolation(scene.centres, network.centres),
        make_interpolation(network.centres, scene.centres) * shares,
    )
    return BandPlan("resample", network.count, np.arange(scene.count), shares, remark, *matrices)
