import csv
import io

import pytest


@pytest.fixture
def tabulate(run, tmp_path):
    """Run `tables` on tmp_path/runs: returns the Markdown, the CSV's rows and the page."""

    def tabulate():
        code, out, err = run("tables", tmp_path / "runs")
        assert code == 0, err
        made = tmp_path / "runs" / "tables"
        texts = [(made / name).read_text(encoding="utf-8") for name in ("tables.md", "tables.csv", "index.html")]
        assert all(len(line) <= 80 for line in out.partition("wrote:")[0].splitlines())
        assert all(str(made / name) in out for name in ("tables.md", "tables.csv", "tables.tex", "index.html"))
        return texts[0], list(csv.DictReader(io.StringIO(texts[1]))), texts[2]

    return tabulate
