import sys

from helpers import ROOT


def test_profile_is_written_for_every_variant(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "training", raising=False)
    import importlib.util

    spec = importlib.util.spec_from_file_location("benchmark_of_training", ROOT / "benchmarks" / "training.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "measure_products", lambda precision: 1.0)
    monkeypatch.setattr(benchmark, "measure_convolutions", lambda *_: 1.0)
    monkeypatch.setattr(benchmark, "measure_trainer", lambda trainer, repeats: ({"iteration": 1.0}, {}))
    benchmark.main(widths="4", patch=16, hows="fp32", repeats=1, profile=str(tmp_path / "profile"))
    table = (tmp_path / "profile_F4_fp32.txt").read_text()
    assert "aten::" in table and "Self CPU" in table
    assert f"wrote {tmp_path}/profile_F4_fp32.txt" in capsys.readouterr().out
