"""Gathers all results below a folder into tables (Markdown, CSV, LaTeX) and a page; trains and scores nothing."""

import time
from pathlib import Path

from config import TablesConfig
from system.files import atomic_write, exclusive_lock
from tables.gather import gather
from tables.page import render_page
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
    while True:
        report = gather(runs_dir)
        texts = {
            "tables.md": render_markdown(report),
            "tables.csv": render_csv(report),
            "tables.tex": render_latex(report),
            "index.html": render_page(report, config.watch),
        }
        with exclusive_lock(out_dir):
            for name, text in texts.items():
                with atomic_write(out_dir / name) as temporary:
                    temporary.write_text(as_utf8(text), encoding="utf-8", newline="")
        print_line(render_summary(report))
        if not config.watch:
            return [out_dir / name for name in texts]
        print_line(f"{time.strftime('%X')}: wrote {out_dir / 'index.html'}; again in {config.watch:g} s, Ctrl-C ends\n")
        time.sleep(config.watch)
