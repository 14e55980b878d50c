"""Use of the program from Python in a folder with modules of the same names."""

import os
import subprocess
import sys

import numpy as np
from helpers import OWN_CUBE, ROOT, VISIBLE, make_tiny_network

from models.weights import save_weights

PROGRAM = """
import sys
import data
import utils
import numpy as np
import importlib.util

path_before = list(sys.path)
spec = importlib.util.spec_from_file_location("hsisr", ROOT)
hsisr = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hsisr)
cube = hsisr.open_raster("scene.npy").read()
larger = hsisr.super_resolve(cube, "tiny.pth", np.arange(400, 701, 10))
np.save("larger.npy", larger)
assert hsisr.load_weights("tiny.pth").model.n_colors == 31
assert hsisr.quality_assessment(cube / 65535, cube / 65535)["RMSE"] == 0
assert hsisr.main(["predict", "--input", "scene.npy", "--output", "file.npy", "--model_dir", "tiny.pth"]) == 0
assert hsisr.main(["prepare", "--raw_dir", RAW, "--out_dir", "stores", "--allow_missing", "1"]) == 0
flags = {"train_dir_mslabel": "stores/labelled.h5", "n_feats": 4, "patch_size": 16, "patch_stride": 16}
files = hsisr.Trainer(hsisr.TrainConfig.from_flags({**flags, "max_iterations": 1, "cuda": 0})).train()
assert any(path.suffix == ".pth" for path in files)
try:
    hsisr.super_resolve(cube, "missing.pth")
except hsisr.UserError as error:
    assert "missing.pth" in str(error)

import data.own
assert (utils.OWNER, data.OWNER, data.own.OWNER) == ("user", "user", "user")
assert sys.path == path_before
assert not {"config", "models", "predict", "trainer", "mains"} & sys.modules.keys()
"""


def test_program_works_beside_modules_of_its_names(raw, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("utils.py", "data/__init__.py", "data/own.py"):
        (tmp_path / name).write_text("OWNER = 'user'\n")
    np.save(tmp_path / "scene.npy", OWN_CUBE)
    save_weights(make_tiny_network(), tmp_path / "tiny.pth", 2, VISIBLE)
    program = PROGRAM.replace("ROOT", repr(str(ROOT / "hsisr.py"))).replace("RAW", repr(str(raw / "cave")))
    (tmp_path / "script.py").write_text(program)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "larger.npy").shape == (112, 112, 31)
    assert np.array_equal(np.load(tmp_path / "larger.npy"), np.load(tmp_path / "file.npy"))
