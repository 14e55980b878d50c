"""Random damage to files of every kind that the program reads.

    python tests/fuzz/mutate.py [--seed 1] [--cases 2000] [--kinds npy,store] [--show traceback]

No part of the test suite. Each case writes a sound file, changes it at random (a bit, a byte, a block, its end, a word
of a text), and runs a command on it in a forked process of this one. The summary counts, by kind of file:
same (the undisturbed result), other (another result, where the format has no checksum that could tell), refused (exit
2 in one sentence), and what must be 0: wrong (another result in spite of a checksum), traceback, crash, hang,
left (something half-written stayed behind).
"""

import argparse
import collections
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fixtures  # noqa: E402
import torch  # noqa: E402
from helpers import OWN_CUBE, VISIBLE, format_words, make_tiny_network, make_training_flags  # noqa: E402

import mains  # noqa: E402
from formats import Output, open_raster  # noqa: E402
from models.weights import save_weights  # noqa: E402

SECONDS = 20
GOOD, BAD = ("same", "other", "refused"), ("wrong", "traceback", "crash", "hang", "left")
ABSURD = (
    "-1",
    "0",
    "inf",
    "NaN",
    "1e308",
    "99999999999999",
    '"abc"',
    "[]",
    "{}",
    "null",
    "=1+1",
    "../../x",
    "\x00",
    "ÿ",
)


def make_inputs(folder):
    """{kind: (files that a case needs, the one to harm, command, whether a checksum guards its values)}."""
    weights = folder / "w.pth"
    save_weights(make_tiny_network(), weights, 2, VISIBLE)
    kinds = {}
    predict = {"model_dir": weights, "wavelengths": "400,700", "value_scale": 65535, "resample_bands": 1}
    for kind in ("npy", "npz", "mat5", "mat73", "hdf5", "tiff", "envi"):
        path = fixtures.write_own(folder / kind, kind, OWN_CUBE)
        kinds[kind] = (folder / kind, path.name, ("predict", "input", predict), kind == "npz")
    shutil.copytree(folder / "envi", folder / "envi data")
    kinds["envi data"] = (folder / "envi data", "scene.dat", ("predict", "input", predict), False)
    for kind, name in (("netcdf", "scene.nc"), ("plain mat", "scene.mat")):
        (folder / kind).mkdir()
        output = Output(folder / kind / name, open_raster(folder / "npy" / "scene.npy"), 1)
        output.finish(OWN_CUBE)
        kinds[kind] = (folder / kind, name, ("predict", "input", predict), False)
    scene = fixtures.write_cave_scene(folder / "png", "scene", OWN_CUBE / 60000)
    kinds["png"] = (scene, "scene_ms_03.png", ("predict", "input", predict), True)
    with contextlib.redirect_stdout(io.StringIO()):
        raw = folder / "raw"
        fixtures.write_cave(raw / "cave")
        fixtures.write_pictures(raw / "rgb")
        mains.main(
            ["prepare", *format_words({"raw_dir": raw / "cave", "out_dir": folder / "stores", "allow_missing": 1})]
        )
        flags = {**make_training_flags(folder / "stores", raw), "save_dir": folder / "runs", "max_iterations": 2}
        flags["test_dir"] = folder / "stores" / "test.h5"
        mains.main(["train", *format_words(flags)])
        bicubic = {
            "model_title": "Bicubic",
            "test_dir": folder / "stores" / "test.h5",
            "result_path": folder / "results",
        }
        mains.main(["test", *format_words(bicubic)])
    (folder / "store").mkdir()
    shutil.copy(folder / "stores" / "test.h5", folder / "store")
    kinds["store"] = (folder / "store", "test.h5", ("test", "test_dir", {"model_title": "Bicubic"}), True)
    kinds["info"] = (folder / "store", "test.h5", ("info", "store", {"verify": 1}), False)
    (folder / "weights").mkdir()
    shutil.copy(weights, folder / "weights")
    scoring = {"test_dir": folder / "stores" / "test.h5"}
    kinds["weights"] = (folder / "weights", "w.pth", ("test", "model_dir", scoring), True)
    resumed = {**flags, "max_iterations": 3, "resume": "last"}
    kinds["checkpoint"] = (folder / "runs", "*/last.pth", ("train", "save_dir", resumed), True)
    for kind, name in (("results", "Bicubic_x4_results.json"), ("samples", "Bicubic_x4_samples.npz")):
        kinds[kind] = (folder / "results", name, ("tables", "runs_dir", {}), False)
    kinds["log"] = (folder / "runs", "*/log.csv", ("tables", "runs_dir", {}), False)
    kinds["config"] = (folder / "runs", "*/config.json", ("tables", "runs_dir", {}), False)
    return kinds


def harmed(content, generator):
    """The bytes of a file with something wrong."""
    content = bytearray(content)
    size = len(content)
    is_text = size < 2**20 and b"\0" not in content[:2000] and not content[:2000].startswith(b"\x89")
    how = generator.integers(0, 9 if is_text else 6)
    at = int(generator.integers(0, min(size, 4096) if generator.random() < 0.5 else size))
    if how == 0:
        content[at] ^= 1 << int(generator.integers(0, 8))
    elif how == 1:
        content[at] = int(generator.integers(0, 256))
    elif how == 2:
        del content[at:]
    elif how == 3:
        content[at : at + int(generator.integers(1, 64))] = generator.bytes(int(generator.integers(0, 64)))
    elif how == 4:
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif how == 5:
        content[at:at] = content[: int(generator.integers(1, 512))]
    else:
        words = list(re.finditer(rb"[^\s,:{}\[\]=]+", content))
        if words:
            word = words[int(generator.integers(0, len(words)))]
            other = ABSURD[int(generator.integers(0, len(ABSURD)))].encode("latin-1")
            content[word.start() : word.end()] = b"" if generator.random() < 0.2 else other
    return bytes(content)


def run_case(place, command, folder):
    """(class of the outcome but for its values, its values' hash, what was said), by a forked process."""
    name, flag, flags = command
    flags = {**flags, flag: place}
    outcome = folder / "outcome.json"
    if name == "predict":
        flags["output"] = folder / "out" / "r.npy"
    if name in ("test", "tables"):
        flags["result_path" if name == "test" else "out_dir"] = folder / "out"
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(name, flags, outcome))
    child.start()
    child.join()
    if child.exitcode:
        return ("hang" if child.exitcode == -signal.SIGALRM else "crash"), "", f"exit code {child.exitcode}"
    code, said = json.loads(outcome.read_text())
    left = [p for p in (folder / "out").rglob("*") if p.is_file()] if (folder / "out").exists() else []
    if code == 2:
        is_one = len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
        return ("left" if left and name != "tables" else "refused" if is_one else "traceback"), "", said
    if code != 0:
        return "traceback", "", said
    return "done", values_of(name, folder, place, said), said


def in_child(name, flags, outcome):
    """Run a command and leave its exit code and its words in a file."""
    signal.alarm(SECONDS)
    said = io.StringIO()
    code: int | str = "traceback"
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = mains.main([name, *format_words(flags)])
        except BaseException:
            traceback.print_exc(file=said)
    outcome.write_text(json.dumps([code, said.getvalue()[-3000:]]))


def values_of(name, folder, place, said):
    """What tells one result from another."""
    if name == "predict":
        return hashlib.sha256(np.load(folder / "out" / "r.npy").tobytes()).hexdigest()
    if name == "test":
        content = json.loads(next((folder / "out").glob("*_results.json")).read_text())
        return json.dumps([content["mean"], content["scenes"]])
    if name == "train":
        state = torch.load(next(Path(place).glob("*/last.pth")), weights_only=True)["model"]
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in state.values())).hexdigest()
    return said if name == "info" else ""


def main():
    """Run the cases and print the summary; exit 1 where something must not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--show", default=",".join(BAD), help="classes of which the first cases are shown")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    shown: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kinds = make_inputs(folder / "sound")
        if asked.kinds:
            kinds = {kind: kinds[kind] for kind in asked.kinds.split(",")}
        expected = {}
        for kind, given in kinds.items():
            found, expected[kind], said = outcome_of(folder, *given[:3], None)
            if found != "done":
                sys.exit(f"{kind}: the sound file itself was {found}: {said}")
        for number in range(asked.cases):
            kind = list(kinds)[number % len(kinds)]
            files, name, command, is_guarded = kinds[kind]
            generator = np.random.default_rng([asked.seed, number])
            found, values, said = outcome_of(folder, files, name, command, generator)
            if found == "done":
                found = "same" if values == expected[kind] else "wrong" if is_guarded else "other"
            counts[kind][found] += 1
            if found in asked.show.split(",") and shown[kind, found] < 2:
                shown[kind, found] += 1
                print(
                    f"{kind}, case {number} of seed {asked.seed}: {found}\n    "
                    + "\n    ".join(said.splitlines()[-12:])
                )
    print(f"seed {asked.seed}: {asked.cases} cases in {time.monotonic() - started:.0f} s")
    print(f"{'':12s}" + "".join(f"{word:>10s}" for word in (*GOOD, *BAD)))
    for kind, row in counts.items():
        print(f"{kind:12s}" + "".join(f"{row[word]:10d}" for word in (*GOOD, *BAD)))
    total = sum(counts.values(), collections.Counter())
    print(f"{'all':12s}" + "".join(f"{total[word]:10d}" for word in (*GOOD, *BAD)))
    return int(any(total[word] for word in BAD))


def outcome_of(folder, files, name, command, generator):
    """Run a command on a copy of some files, one of which is harmed unless there is no generator."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(files, work / "in" / files.name)
    place = next((work / "in" / files.name).glob(name))
    if generator is not None:
        place.write_bytes(harmed(place.read_bytes(), generator))
    is_folder = command[0] in ("tables", "train") or place.suffix == ".png"
    return run_case(
        work / "in" / files.name if is_folder else place.with_suffix(".hdr") if place.suffix == ".dat" else place,
        command,
        work,
    )


if __name__ == "__main__":
    sys.exit(main())
