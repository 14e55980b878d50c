"""Schemas of records on disk (JSON, archives, checkpoints), declared next to their writers and checked on reading."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The type of a setting.
SCALAR = (str, int, float, type(None))
WORDS: dict[Any, str] = {float: "a number", int: "a whole number", str: "text", SCALAR: "text or a number"}
WORDS |= {bool: "true or false", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class Field:
    """The values that an entry of a record can have.

    Attributes:
        type: of the value. `float` includes whole numbers; neither `float` nor `int` includes bool.
        low, high: limits of a number, or of the length of a list or mapping; both are possible values.
        choices: the possible values; () for all.
        items: of each item of a list, or each value of a mapping, whose keys are then text.
        fields: of the named values of a mapping, which can contain more.
        is_optional: True if the value can be None or missing.
        is_finite: False if a number can also be infinite or NaN.
    """

    type: Any
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()
    items: "Field | None" = None
    fields: Mapping[str, "Field"] = field(default_factory=dict)
    is_optional: bool = False
    is_finite: bool = True

    def check(self, value: Any, name: str = "") -> None:
        """Check a value and all that it contains.

        Args:
            value: the value.
            name: of the value; "" for a whole record.

        Raises:
            ValueError: naming the first entry that is missing or not possible, and its value.
        """
        if value is None and self.is_optional:
            return
        if not self._accepts(value):
            raise ValueError(f"{name or 'the record'} is {value!r:.40}, not {self.description}")
        within = f" of {name}" if name else ""
        if self.items:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(value, dict) and not isinstance(key, str):
                    raise ValueError(f"the key {key!r:.40}{within} is not text")
                self.items.check(item, f"{key}{within}" if isinstance(value, dict) else f"item {key}{within}")
        for key, entry in self.fields.items():
            if key not in value and not entry.is_optional:
                raise ValueError(f"{key}{within} is missing")
            entry.check(value.get(key), f"{key}{within}")

    def is_possible(self, value: Any) -> bool:
        """Return True if `check` accepts a value."""
        try:
            self.check(value)
        except ValueError:
            return False
        return True

    def _accepts(self, value: Any) -> bool:
        if self.type in (int, float):
            if isinstance(value, bool) or not isinstance(value, (int, float) if self.type is float else int):
                return False
            return self.low <= value <= self.high if abs(value) < math.inf else not self.is_finite
        if not isinstance(value, self.type) or (self.choices and value not in self.choices):
            return False
        return not isinstance(value, (list, dict)) or self.low <= len(value) <= self.high

    @property
    def description(self) -> str:
        """The possible values in words."""
        if self.choices:
            return " or ".join(map(str, self.choices))
        words = WORDS.get(self.type) or self.type.__name__
        limits = f" from {self.low:g}" if self.low > -math.inf else ""
        limits += f" to {self.high:g}" if self.high < math.inf else ""
        return words + (f" of length{limits}" if limits and self.type in (list, dict) else limits)
