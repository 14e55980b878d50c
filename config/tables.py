"""The settings of `tables`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import Config, flag


@dataclass(frozen=True)
class TablesConfig(Config):
    """Compile results into tables (Markdown, CSV, LaTeX) and a web page."""

    runs_dir: str = flag(
        "",
        "folder with runs and results; the flag's name may be omitted: mains.py tables RUNS_DIR",
        "data",
        required="the folder with runs and results: mains.py tables RUNS_DIR",
        affects="place",
    )
    out_dir: str = flag(
        "", "folder for the tables and the page; without it, RUNS_DIR/tables", "output", affects="place"
    )
    watch: float = flag(
        0.0,
        "make the tables and the page anew every so many seconds until Ctrl-C; the page in a browser follows; 0: once",
        "output",
        low=0,
        high=86400,
        affects="place",
    )

    POSITIONAL: ClassVar[str | None] = "runs_dir"
