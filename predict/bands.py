"""From a scene's bands to those of the network, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.bands import BandList
from data.facts import SAME_BAND
from utils import UserError


@dataclass(frozen=True)
class BandMatrices:
    """Interpolation between a scene's bands and the network's.

    Attributes:
        to_network: scene's x network's bands.
        to_scene: network's x scene's bands; zero for those of the scene that the network's detail does not reach.
        shares: of each of the scene's bands, how much of the network's detail it gets: 1 in the network's range, 0
            far from it.
    """

    to_network: np.ndarray
    to_scene: np.ndarray
    shares: np.ndarray


def match_bands(
    path: Path, scene: BandList, network: BandList, resample: bool, tell: Callable[[str], None], taper: float = 0.0
) -> BandMatrices | None:
    """How a scene's bands are given to a network: by interpolation, or as they are (None).

    Args:
        path: of the scene, for messages.
        scene, network: the bands of both.
        resample: whether other bands may be interpolated.
        tell: takes what the user should know of it.
        taper: nm beyond the network's range over which the detail of its last band fades out.

    Raises:
        UserError: for bands that differ, with the number and range of both.
    """
    if scene.centres is None or network.centres is None:
        if scene.count == network.count:
            whose = "scene's" if scene.centres is None else "network's"
            tell(f"{path}: the {whose} wavelengths are not known, its {scene.count} bands are taken for the right ones")
            return None
        remedy = "--wavelengths first,last with --resample_bands 1 interpolates, or give other weights"
        raise UserError(f"{path}: {scene}, the network was trained on {network}; {remedy}")
    if scene.is_same(network):
        return None
    if not resample:
        remedy = "--resample_bands 1 interpolates, or give other weights"
        raise UserError(f"{path}: {scene}, the network was trained on {network}{scene.differs_from(network)}; {remedy}")
    return _interpolated(path, scene.centres, network.centres, tell, taper)


def interpolation(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The given x wanted matrix that interpolates spectra linearly; beyond the ends, the last value holds."""
    order = np.argsort(given)
    rows = np.eye(len(given))[:, order]
    return np.stack([np.interp(wanted, given[order], row) for row in rows])


def detail_shares(scene: np.ndarray, network: np.ndarray, taper: float) -> np.ndarray:
    """How much of a network's detail each band of a scene gets: 1 in its range, half a cosine to 0 over the taper.

    A step there would be one in every spectrum of the result, at a wavelength where the scene has none.

    Args:
        scene, network: band centres of both in nm.
        taper: nm; 0: nothing beyond the range.
    """
    beyond = np.maximum(network.min() - scene, scene - network.max())
    fading = (1 + np.cos(np.pi * np.clip(beyond / taper, 0, 1))) / 2 if taper else np.zeros(len(scene))
    return np.where(beyond <= SAME_BAND, 1.0, fading)


def _interpolated(path, scene, network, tell, taper):
    """BandMatrices for other bands, of which some are in the network's range."""
    shares = detail_shares(scene, network, taper)
    inside, fading = shares == 1, (shares > 0) & (shares < 1)
    if not inside.any():
        raise UserError(
            f"{path}: {BandList(len(scene), scene)}, the network was trained on {BandList(len(network), network)}: "
            "none in common, so there is nothing to interpolate; give other weights"
        )
    carried = f", fading out over {taper:g} nm to {np.count_nonzero(fading)} more" if fading.any() else ""
    outside = f", the other {np.count_nonzero(shares == 0)} come out bicubic" if (shares == 0).any() else ""
    tell(
        f"{path}: {len(scene)} bands ({scene.min():g}..{scene.max():g} nm) are interpolated to the network's "
        f"{len(network)} ({network.min():g}..{network.max():g} nm), and the detail that it finds back to the "
        f"{np.count_nonzero(inside)} in its range{carried}{outside}"
    )
    return BandMatrices(interpolation(scene, network), interpolation(network, scene) * shares, shares)
