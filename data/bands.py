"""Bands of scenes and networks, and the check that scenes used together have the same bands."""

from dataclasses import dataclass, field

import numpy as np

from facts import SAME_BAND, are_same_bands
from system.errors import DataError


@dataclass(frozen=True)
class BandList:
    """The bands of a scene or of a network.

    Attributes:
        count: number of bands.
        centres: in nm, one for each band, or None if unknown.
    """

    count: int
    centres: np.ndarray | None

    def __str__(self) -> str:
        if self.centres is None:
            return f"{self.count} bands of unknown wavelengths"
        return f"{self.count} bands, {self.centres[0]:g}..{self.centres[-1]:g} nm"

    def is_same(self, other: "BandList") -> bool:
        """Return True if both have the same bands in the same order, as far as the wavelengths are known."""
        return are_same_bands(self.count, self.centres, other.count, other.centres)

    def format_difference(self, other: "BandList") -> str:
        """Format the first differing band, " (band 7: 462 and 455 nm)", if count and range are the same; else ""."""
        if str(self) != str(other) or self.centres is None or other.centres is None:
            return ""
        first = int(np.argmax(np.abs(np.asarray(self.centres) - other.centres) > SAME_BAND))
        return f" (band {first + 1}: {self.centres[first]:g} and {other.centres[first]:g} nm)"


@dataclass
class SameBands:
    """Check that scenes used together have bands of the same number, wavelengths and order.

    Attributes:
        remedy: of the error.
        unknown: the scenes without wavelengths.
    """

    remedy: str
    unknown: list[str] = field(default_factory=list)
    _first: tuple[str, BandList] | None = None

    def add(self, place: str, bands: BandList) -> None:
        """Compare a scene with those added before.

        Args:
            place: file or scene, for messages.
            bands: of the scene.

        Raises:
            DataError: naming two scenes whose bands differ.
        """
        if self._first and not bands.is_same(self._first[1]):
            place_before, before = self._first
            differs = bands.format_difference(before)
            raise DataError(place, f"{bands}, but {place_before} has {before}{differs}", self.remedy)
        if bands.centres is None:
            self.unknown.append(place)
        # Further scenes are compared with the first one of known wavelengths.
        if self._first is None or (self._first[1].centres is None and bands.centres is not None):
            self._first = place, bands

    @property
    def remark(self) -> str:
        """Remark on scenes of unknown wavelengths among scenes of known wavelengths; "" if there are none."""
        if self._first is None or self._first[1].centres is None or not self.unknown:
            return ""
        place, bands = self._first
        more = f" (and {len(self.unknown) - 1} more)" if len(self.unknown) > 1 else ""
        return f"{self.unknown[0]}{more}: wavelengths are unknown; assuming those of {place} ({bands})"
