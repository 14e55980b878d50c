"""The settings of `tables`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import Config, flag
from system.errors import UserError


@dataclass(frozen=True)
class TablesConfig(Config):
    """Gather the results below a folder into tables (Markdown, CSV, LaTeX) and a page with pictures and curves."""

    runs_dir: str = flag(
        "", "the folder of runs and results; may stand without its flag: mains.py tables RUNS_DIR", affects="place"
    )
    out_dir: str = flag("", "folder for the tables and the page; if not given, RUNS_DIR/tables", affects="place")

    POSITIONAL: ClassVar[str | None] = "runs_dir"

    def validate(self) -> None:
        """See `Config.validate`."""
        if not self.runs_dir:
            raise UserError("which runs? give the folder that holds them: mains.py tables RUNS_DIR")
