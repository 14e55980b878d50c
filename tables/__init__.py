"""Gathers all results below a folder into tables (Markdown, CSV, LaTeX) and a page; trains and scores nothing."""

from pathlib import Path

from config import TablesConfig
from system.files import atomic_write, exclusive_lock
from tables.gather import gather
from tables.page import render_page
from tables.texts import render_csv, render_latex, render_markdown
from utils import as_utf8

__all__ = ["make_tables"]


def make_tables(config: TablesConfig) -> list[Path]:
    """Gather the results, print the tables, write them as Markdown, CSV, LaTeX and a page.

    Returns:
        Paths of the written files.

    Raises:
        UserError: if the folder does not exist or contains neither results nor report pictures of `predict`.
    """
    runs_dir = Path(config.runs_dir).expanduser()
    out_dir = Path(config.out_dir).expanduser() if config.out_dir else runs_dir / "tables"
    report = gather(runs_dir)
    writers = {
        "tables.md": render_markdown,
        "tables.csv": render_csv,
        "tables.tex": render_latex,
        "index.html": render_page,
    }
    texts = {name: as_utf8(render(report)) for name, render in writers.items()}
    with exclusive_lock(out_dir):
        for name, text in texts.items():
            with atomic_write(out_dir / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
    print(texts["tables.md"])
    return [out_dir / name for name in texts]
