"""Pairs of the same command started at once, repeatedly, with a check of their outputs.

    python tests/fuzz/pairs.py [--pairs 20] [--commands predict,prepare,tables]

No part of the test suite. Each pair shares one output. Sound is a pair of which at least one ends with 0 and the other
with 0 or, in one sentence, with 2, and whose files are those that the command alone makes, with nothing beside them.
"""

import argparse
import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fixtures  # noqa: E402
from helpers import OWN_CUBE, VISIBLE, format_words, make_tiny_network, make_training_flags  # noqa: E402

import mains  # noqa: E402
from models.weights import save_weights  # noqa: E402

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def commands_in(folder):
    """{command: (its flags, the one that says where it writes, what of that is compared)}."""
    save_weights(make_tiny_network(), folder / "w.pth", 2, VISIBLE)
    scene = fixtures.write_own(folder, "npy", OWN_CUBE.repeat(2, axis=0).repeat(2, axis=1))
    fixtures.write_cave(folder / "raw" / "cave")
    fixtures.write_pictures(folder / "raw" / "rgb")
    prepare = {"raw_dir": folder / "raw" / "cave", "allow_missing": 1}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        mains.main(["prepare", *format_words({**prepare, "out_dir": folder / "stores"})])
        flags = {
            **make_training_flags(folder / "stores", folder / "raw"),
            "save_dir": folder / "runs",
            "max_iterations": 2,
        }
        mains.main(["train", *format_words({**flags, "test_dir": folder / "stores" / "test.h5"})])
    predict = {"input": scene, "model_dir": folder / "w.pth", "tile_size": 24, "tile_overlap": 8}
    return {
        "predict": (predict, "output", "r.npy"),
        "prepare": (prepare, "out_dir", ""),
        "tables": ({"runs_dir": folder / "runs"}, "out_dir", ""),
    }


def files_in(folder):
    """{name: SHA-256} of all files below a folder."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def ended(processes):
    """[(exit code, what was said of an error)] of processes."""
    said = [process.communicate()[1] for process in processes]
    return [(process.returncode, err) for process, err in zip(processes, said, strict=True)]


def main():
    """Run the pairs and print the summary; exit 1 where one is not sound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--commands", default="predict,prepare,tables")
    asked = parser.parse_args()
    all_sound = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        known = commands_in(folder)
        for name in asked.commands.split(","):
            flags, place, file = known[name]
            out = folder / "out"
            words = [
                sys.executable,
                ROOT / "mains.py",
                name,
                *format_words({**flags, place: out / file if file else out}),
            ]

            def start(words=words):
                return subprocess.Popen(
                    list(map(str, words)), env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )

            assert ended([start()])[0][0] == 0, f"{name} alone failed"
            expected, sound, both = files_in(out), 0, 0
            for _ in range(asked.pairs):
                shutil.rmtree(out)
                codes = ended([start(), start()])
                sentences = [err for code, err in codes if code == 2 and err.count("error: ") == 1]
                ends_well = sum(code == 0 for code, _ in codes) + len(sentences) == 2 and len(sentences) < 2
                is_sound = ends_well and files_in(out) == expected
                sound += is_sound
                both += not sentences
                if not is_sound:
                    print(codes, files_in(out).keys() ^ expected.keys())
            all_sound &= sound == asked.pairs
            print(f"{name}: {sound} of {asked.pairs} pairs sound; in {both} both ended with 0", flush=True)
            shutil.rmtree(out)
    return int(not all_sound)


if __name__ == "__main__":
    sys.exit(main())
