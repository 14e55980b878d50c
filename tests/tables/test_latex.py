import re

from helpers import write_finished_run, write_unfinished_run


def test_latex_lines_have_as_many_cells_as_their_tables_columns(tabulate, tmp_path):
    write_finished_run(tmp_path / "runs" / "50% & more_~^\\{}", changes={"device": "A & B_2"})
    write_finished_run(tmp_path / "runs" / "b", changes={"UseRGB": True, "theta_rgb": 1, "device": "ü 好"})
    write_unfinished_run(tmp_path / "runs" / "50%_stopped")
    tabulate()
    tex = (tmp_path / "runs" / "tables" / "tables.tex").read_text(encoding="utf-8")
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
    assert r"50\%\_stopped" in tex
