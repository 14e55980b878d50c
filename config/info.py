"""The settings of `info`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import Config, flag
from system.errors import UserError


@dataclass(frozen=True)
class InfoConfig(Config):
    """Show what a scene store holds; --verify 1 reads every value of it."""

    store: str = flag("", "the store; may stand without its flag: mains.py info STORE", affects="place")
    verify: bool = flag(False, "1: read and check every scene", affects="place")

    POSITIONAL: ClassVar[str | None] = "store"

    def validate(self) -> None:
        """See `Config.validate`."""
        if not self.store:
            raise UserError("which store? give its path: mains.py info STORE")
