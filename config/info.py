"""The settings of `info`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import Config, flag


@dataclass(frozen=True)
class InfoConfig(Config):
    """Show the contents of a scene store."""

    store: str = flag(
        "",
        "scene store; the flag's name may be omitted: mains.py info STORE",
        "data",
        required="the path of a scene store: mains.py info STORE",
        affects="place",
    )
    verify: bool = flag(False, "1: read and check all values of all scenes", "data", affects="place")

    POSITIONAL: ClassVar[str | None] = "store"
