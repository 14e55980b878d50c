"""Random kills of `predict`, resumed by the same command and compared with an undisturbed run.

    python tests/fuzz/kills.py [--seed 1] [--kills 30] [--formats npy,tif]

No part of the test suite. Each case is killed (SIGKILL) up to three times; then the command is run to its end. Counted
by format: equal (every file has the bytes of the undisturbed one, and no other file exists beside it) and wrong.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fixtures  # noqa: E402
from helpers import OWN_CUBE, VISIBLE, format_words, make_tiny_network  # noqa: E402

from formats import open_raster  # noqa: E402
from models.weights import save_weights  # noqa: E402

FORMATS = ("npy", "npz", "mat", "h5", "nc", "hdr", "tif", "cog")
MOST_KILLS = 3
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(flags, seconds=None):
    """Predict in another process, which is killed after so many seconds; returns its exit code."""
    words = [sys.executable, str(ROOT / "mains.py"), "predict", *format_words(flags)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def values_in(folder):
    """{name: what it holds} of all that stands in a folder: values, since some formats note the time of day."""
    found = {}
    for path in sorted(folder.iterdir()):
        is_read = path.suffix in (".npy", ".npz", ".mat", ".h5", ".nc", ".hdr", ".tif")
        found[path.name] = open_raster(path).read().tobytes() if is_read else path.is_file() and path.read_bytes()
    return found


def input_of(folder, name):
    """A scene that makes a result of a format."""
    cube = OWN_CUBE.repeat(3, axis=0).repeat(3, axis=1)
    if name != "cog":
        return fixtures.write_own(folder, "npy", cube), f"result.{name}"
    import rasterio

    path = folder / "cog.tif"
    profile = {"driver": "COG", "height": cube.shape[0], "width": cube.shape[1], "count": cube.shape[2]}
    with rasterio.open(path, "w", **profile, dtype=cube.dtype) as f:
        f.write(np.moveaxis(cube, 2, 0))
    return path, "result.tif"


def main():
    """Run the cases and print the summary; exit 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--formats", default=",".join(FORMATS))
    asked = parser.parse_args()
    generator = np.random.default_rng(asked.seed)
    all_equal = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_weights(make_tiny_network(), folder / "w.pth", 2, VISIBLE)
        for name in asked.formats.split(","):
            source, result = input_of(folder, name)
            out = folder / name / result
            flags = {"input": source, "output": out, "model_dir": folder / "w.pth", "tile_size": 24}
            flags |= {"tile_overlap": 8, "wavelengths": "400,700", "band_axis": 2 if name != "cog" else -1}
            began = time.monotonic()
            assert run(flags) == 0, f"{name}: the undisturbed run failed"
            takes, expected = time.monotonic() - began, values_in(out.parent)
            kills = equal = cases = 0
            while kills < asked.kills:
                shutil.rmtree(out.parent)
                cases += 1
                for _ in range(generator.integers(1, MOST_KILLS + 1)):
                    # Half of the time goes by before there is anything to lose.
                    began = time.monotonic()
                    if run(flags, generator.uniform(0.5, 1) * takes) != -signal.SIGKILL:
                        # The machine has become faster.
                        takes = time.monotonic() - began
                        break
                    kills += 1
                was_there = out.exists()
                code = run(flags)
                equal += code == (2 if was_there else 0) and values_in(out.parent) == expected
            all_equal &= equal == cases
            print(f"{name}: {kills} kills in {cases} cases, {equal} equal, {cases - equal} wrong", flush=True)
    return int(not all_equal)


if __name__ == "__main__":
    sys.exit(main())
