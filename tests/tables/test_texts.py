import re

import pytest
from helpers import FULL, write_finished_run, write_results_file, write_unfinished_run

from tables.texts import align_columns, escape_latex, make_environment

# Of LaTeX itself, article, geometry and booktabs.
CONTROL_WORDS = {
    *("addlinespace", "begin", "bottomrule", "caption", "centering", "circ", "clearpage", "documentclass", "end"),
    *("footnotesize", "midrule", "pm", "quad", "setlength", "tabcolsep", "textasciicircum", "textasciitilde"),
    *("textbackslash", "toprule", "usepackage"),
}
CONTROL_SYMBOLS = set("\\&%$#_{}")


def test_latex_lines_have_a_cell_per_column(tabulate, tmp_path):
    write_finished_run(tmp_path / "runs" / "50% & more_~^\\{}", changes={"device": "A & B_2"})
    write_finished_run(tmp_path / "runs" / "b", changes={"UseRGB": True, "theta_rgb": 1, "device": "ü 好"})
    write_unfinished_run(tmp_path / "runs" / "50%_stopped")
    tabulate()
    tex = (tmp_path / "runs" / "tables" / "tables.tex").read_text(encoding="utf-8")
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
    assert r"50\%\_stopped" in tex


def check_latex(tex):
    """Control sequences known, braces, groups and formulas closed; rules and spaces on lines of their own."""
    for word, symbol in re.findall(r"\\(?:([A-Za-z]+)|(.))", tex, re.DOTALL):
        assert word in CONTROL_WORDS if word else symbol in CONTROL_SYMBOLS, word or symbol
    depth = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\[^A-Za-z]", "", tex)):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", tex):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    for line in tex.splitlines():
        bare = re.sub(r"\\[^A-Za-z]", "", line)
        assert bare.count("$") % 2 == 0 and not re.search(r"[#^_~%]", bare.replace("$^\\circ$", "")), line
        assert not re.search(r"^\s*(\\(quad|addlinespace)\s*)*[\[*]", line), line
        if "rule" in line or "addlinespace" in line:
            assert re.fullmatch(r"\\(top|mid|bottom)rule|\\addlinespace|\\usepackage\{booktabs\}", line), line
    assert all(c.isprintable() or c == "\n" for c in tex) and not set(tex) & set("«»ÐðÞþ")


def test_latex_of_all_kinds_is_valid(tabulate, tmp_path):
    runs = tmp_path / "runs"
    write_finished_run(runs / "plain")
    write_finished_run(runs / "full", changes={**FULL, "device": "GPU ^_~<>|\\ [a]* °±"})
    write_finished_run(runs / "reduced", changes={"theta_rgb": 1, "n_feats": 32})
    write_results_file(runs / "bicubic" / "Bicubic_x4_results.json", {}, model="Bicubic", RMSE=0.0186)
    write_finished_run(runs / "own", changes={"weights": "[x]*{y}$1 «ð» \x07\x85好\n\n2.pth"})
    write_unfinished_run(runs / "*50%_ {stopped}")
    tabulate()
    tex = (runs / "tables" / "tables.tex").read_text(encoding="utf-8")
    assert tex.count("\n\\addlinespace\n") >= 2
    check_latex(tex)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % & a_b", r"50 \% \& a\_b"),
        ("a\n\nb --c", "a b -{}-c"),
        ("[x]*", "{[}x]{*}"),
        ("90 ° ± 1", r"90 $^\circ$ $\pm$ 1"),
        ("好 «", "? ?"),
    ],
)
def test_latex_escapes_special_characters(text, expected):
    assert escape_latex(text) == expected


def test_templates_escape_each_text_once():
    environment = make_environment(escape_latex)
    text = "{% macro twice(x) %}{{ x }}, {{ x }}{% endmacro %}{{ twice(a) }}; {{ [a, a]|join('&') }}"
    assert environment.from_string(text).render(a="_") == r"\_, \_; \_\&\_"


def test_markdown_columns_are_even():
    lines = align_columns(["a", "bc"], [["x|y", "1"]]).splitlines()
    assert lines == ["| a    | bc |", "| ---- | -: |", "| x\\|y |  1 |"]
