"""Full-scale values of scenes, and the check that scenes of one set agree in them."""

from dataclasses import dataclass, field

import numpy as np

from system.errors import DataError


def describe_assumption(dtype: np.dtype) -> str:
    """Return the sentence on a full-scale value that is assumed from an integer type, with the remedy."""
    return (
        f"assuming a full-scale value of {np.iinfo(dtype).max} (the maximum of {dtype.name}); set {{value_scale}}, "
        "e.g. 10000 for most reflectance products"
    )


@dataclass(frozen=True)
class FullScale:
    """The full-scale value of a scene.

    Attributes:
        value: number that corresponds to reflectance 1.
        dtype: number type of the scene.
        highest: brightest value of the scene if the full-scale value is assumed from the integer type; else None.
    """

    value: float
    dtype: np.dtype
    highest: float | None = None

    def __str__(self) -> str:
        source = "" if self.highest is None else f", assumed from {self.dtype.name}"
        return f"the full-scale value {self.value:g}{source}"


@dataclass
class SameScale:
    """Check of the scenes of one set: an assumed full-scale value must equal the other scenes' values.

    Values that the files define may differ: they are in other units.
    """

    _seen: dict[float, tuple[str, FullScale]] = field(default_factory=dict)
    _assumed: list[tuple[str, FullScale]] = field(default_factory=list)

    def add(self, place: str, scale: FullScale) -> None:
        """Compare a scene with the previous ones.

        Args:
            place: file or scene, for messages.
            scale: its full-scale value.

        Raises:
            DataError: naming two scenes.
        """
        self._seen.setdefault(scale.value, (place, scale))
        if scale.highest is not None:
            self._assumed.append((place, scale))
        if len(self._seen) > 1 and self._assumed:
            place, scale = self._assumed[-1]
            other, different = next(seen for value, seen in self._seen.items() if value != scale.value)
            raise DataError(
                place, f"{scale}, but {other} has {different}", "set {value_scale} for all scenes of the set"
            )

    @property
    def remark(self) -> str:
        """The sentence on an assumed full-scale value that the data do not confirm; "" without one."""
        if not self._assumed:
            return ""
        place, scale = max(self._assumed, key=lambda entry: entry[1].highest or 0)
        if scale.highest is None or scale.highest > scale.value / 2:
            return ""
        count = f"{len(self._assumed)} scenes, brightest value" if len(self._assumed) > 1 else "brightest value"
        return f"{place}: {count} {scale.highest:g}; {describe_assumption(scale.dtype)}"
