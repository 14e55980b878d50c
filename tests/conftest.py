import json

import fixtures
import numpy as np
import pytest
import torch
from helpers import GOLDEN, format_words, make_training_flags
from hypothesis import settings

import mains

# Property tests: few examples, equal in every run; no deadline, as machines may be slow.
settings.register_profile("few", max_examples=25, deadline=None, derandomize=True, database=None)
settings.load_profile("few")


class Golden:
    """Arrays (as tensors), values and weights of the released code under one name."""

    def __init__(self, name):
        self.values = json.loads((GOLDEN / f"{name}.json").read_text())
        self.arrays = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}
        self.weights_path = GOLDEN / f"{name}.pth"

    def __getitem__(self, name):
        return self.arrays[name]


@pytest.fixture(scope="session", params=[4, 8])
def golden(request):
    return Golden(f"deepshare_x{request.param}_31bands")


@pytest.fixture(scope="session", params=["sspsr_x4", "gdrrn", "mcnet_x4"])
def golden_peer(request):
    return Golden(f"peers/{request.param}_31bands")


@pytest.fixture(scope="session")
def golden_x4():
    return Golden("deepshare_x4_31bands")


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Raw data of every kind, read-only for the tests."""
    root = tmp_path_factory.mktemp("raw")
    fixtures.write_cave(root / "cave")
    fixtures.write_cave_lr(root / "cave_lr_x4")
    fixtures.write_pictures(root / "rgb")
    return root


@pytest.fixture(scope="session")
def stores(raw, tmp_path_factory):
    """Stores of the raw data: labelled, unlabelled (LR images) and test."""
    out = tmp_path_factory.mktemp("stores")
    flags = {"raw_dir": raw / "cave", "unlabelled_lr_dir": raw / "cave_lr_x4", "out_dir": out, "allow_missing": 1}
    assert mains.main(["prepare", *format_words(flags)]) == 0
    return out


@pytest.fixture
def run(capsys):
    """Run a command line in this process: run("test", test_dir=...) -> (exit code, stdout, stderr)."""

    def run(*words, **flags):
        capsys.readouterr()
        code = mains.main([*map(str, words), *format_words(flags)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(run):
    """Run a command line; require exit 2 and one sentence on stderr; return the sentence."""

    def refused(*words, **flags):
        code, _, err = run(*words, **flags)
        sentences = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2, err
        assert len(sentences) == 1, err
        assert "Traceback" not in err
        return sentences[0]

    return refused


@pytest.fixture
def tiny_flags(stores, raw, tmp_path):
    """Flags of a training run with all four losses that takes a second or two."""
    return {**make_training_flags(stores, raw), "save_dir": tmp_path / "runs"}


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    from browser import start

    driver = start()
    yield driver
    driver.quit()
