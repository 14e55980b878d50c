"""The command `tables`."""

from pathlib import Path

from config import TablesConfig
from system.files import atomic_write, exclusive_lock
from tables.comma_separated import comma_separated
from tables.gather import gather
from tables.latex import latex
from tables.markdown import markdown
from tables.page import page
from utils import as_utf8


def make_tables(config: TablesConfig) -> list[Path]:
    """Gather, print the tables, write them as Markdown, CSV, LaTeX and a page.

    Returns:
        Paths of the files written.

    Raises:
        UserError: if there is no such folder, or neither results nor reports of `predict` in it.
    """
    runs_dir = Path(config.runs_dir).expanduser()
    out_dir = Path(config.out_dir).expanduser() if config.out_dir else runs_dir / "tables"
    report = gather(runs_dir)
    # The page comes first: it notes what it cannot read of crops, for the texts to tell.
    html = page(report)
    texts = {
        "tables.md": markdown(report),
        "tables.csv": comma_separated(report),
        "tables.tex": latex(report),
        "index.html": html,
    }
    texts = {name: as_utf8(text) for name, text in texts.items()}
    with exclusive_lock(out_dir):
        for name, text in texts.items():
            with atomic_write(out_dir / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
    print(texts["tables.md"])
    return [out_dir / name for name in texts]
