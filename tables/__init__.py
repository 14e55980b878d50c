"""Gathers all results below a folder into tables (Markdown, CSV, LaTeX) and a page; trains and scores nothing."""

import time
from collections.abc import Mapping
from pathlib import Path

from config import TablesConfig
from system.files import atomic_write, exclusive_lock
from tables.gather import gather
from tables.page import render_page
from tables.report import Report
from tables.texts import render_csv, render_latex, render_markdown, render_summary
from utils import as_utf8, print_line

__all__ = ["make_tables"]


def make_tables(config: TablesConfig) -> list[Path]:
    """Gather the results, print their main columns, write tables (Markdown, CSV, LaTeX) and a page.

    With `watch`, repeat this until the process is interrupted.

    Returns:
        Paths of the written files.

    Raises:
        UserError: if the folder does not exist or contains no results, training logs or report pictures of `predict`.
    """
    runs_dir = Path(config.runs_dir).expanduser()
    out_dir = Path(config.out_dir).expanduser() if config.out_dir else runs_dir / "tables"
    written: Report | None = None
    try:
        while True:
            report = gather(runs_dir)
            texts = {
                "tables.md": render_markdown(report),
                "tables.csv": render_csv(report),
                "tables.tex": render_latex(report),
                "index.html": render_page(report, config.watch),
            }
            files = _write_files(out_dir, texts)
            written = report
            print_line(render_summary(report))
            if not config.watch:
                return files
            page = out_dir / "index.html"
            print_line(f"{time.strftime('%X')}: wrote {page}; again in {config.watch:g} s, Ctrl-C ends\n")
            time.sleep(config.watch)
    except KeyboardInterrupt:
        # A page that is open in a browser reloads itself once more.
        if written:
            _write_files(out_dir, {"index.html": render_page(written)})
        raise


def _write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write {name: text} into a folder; return the paths."""
    with exclusive_lock(folder):
        for name, text in texts.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(as_utf8(text), encoding="utf-8", newline="")
    return [folder / name for name in texts]
