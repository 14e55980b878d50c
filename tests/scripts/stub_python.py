"""Substitute of .venv/bin/python in tests of the scripts: records arguments, makes the files that scripts expect.

A line of JSON for each call goes to the file $STUB_CALLS. $STUB_FAILS names a command that fails.
"""

import json
import os
import sys
from pathlib import Path

words = sys.argv[1:]
with open(os.environ["STUB_CALLS"], "a", encoding="utf-8") as f:
    f.write(json.dumps(words) + "\n")
command = words[1] if words[0] == "mains.py" else ""
if command and command == os.environ.get("STUB_FAILS"):
    sys.exit(2)
# Of a flag given twice the last counts.
flags = {name.removeprefix("--"): value for name, value in zip(words[2::2], words[3::2], strict=False)}
made = []
if command == "train":
    run = Path(flags["save_dir"], "title_x4")
    made = [run / "title_epoch_1_x.pth", run / "results.json"]
if command == "test":
    name = flags.get("model_title", "title") + f"_x{flags.get('n_scale', '4')}"
    made = [Path(flags["result_path"], f"{name}_results.json")]
for path in made:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
