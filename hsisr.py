"""The program as one Python module, for notebooks and scripts in any folder.

    import importlib.util

    spec = importlib.util.spec_from_file_location("hsisr", "/path/to/this/hsisr.py")
    hsisr = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hsisr)
    larger = hsisr.super_resolve(cube, "cave_x4_small")

The program's modules are imported as `_hsisr.utils`, `_hsisr.data` and so on. sys.path does not change, and modules of
the same names (utils, data, config, ...) in the caller's folder stay independent of them.
"""

import builtins
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "_hsisr"
ROOT = Path(__file__).resolve().parent
MODULES = {p.stem for p in ROOT.glob("*.py")} | {p.parent.name for p in ROOT.glob("*/__init__.py")}


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> types.ModuleType:
    """Do as `builtins.__import__`, which import statements call, with the program's modules under PREFIX."""
    top = name.partition(".")[0]
    if level or top not in MODULES:
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = builtins.__import__(f"{PREFIX}.{name}", globals, locals, fromlist)
    # `import data.store` binds the name data.
    return module if fromlist else sys.modules[f"{PREFIX}.{top}"]


class _Loader(importlib.machinery.SourceFileLoader):
    """Executes a module with `_import` behind its import statements, also those within functions."""

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules under PREFIX in the program's folder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{PREFIX}."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec and spec.origin:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


if PREFIX not in sys.modules:
    sys.modules[PREFIX] = types.ModuleType(PREFIX)
    sys.modules[PREFIX].__path__ = [str(ROOT)]
    sys.meta_path.insert(0, _Finder())


def main(words: Sequence[str]) -> int:
    """Run a command as `python mains.py WORDS` does and return its exit code.

    `prepare` reads scenes in this process by default: worker processes could not import the program.
    """
    words = list(words)
    if words[:1] == ["prepare"] and not any(word.startswith("--workers") for word in words):
        words += ["--workers", "1"]
    return _mains.main(words)


# First, since it sets the defaults of threads, which torch reads when it is imported.
_mains: Any = _import("mains", fromlist=["main"])
_weights: Any = _import("models.weights", fromlist=["load"])
load_weights, save_weights = _weights.load, _weights.save_weights
super_resolve = _import("predict", fromlist=["super_resolve"]).super_resolve
build_model = _import("models", fromlist=["build_model"]).build_model
TrainConfig = _import("config", fromlist=["TrainConfig"]).TrainConfig
Trainer = _import("trainer", fromlist=["Trainer"]).Trainer
quality_assessment = _import("metrics", fromlist=["quality_assessment"]).quality_assessment
open_raster = _import("formats", fromlist=["open_raster"]).open_raster
imresize = _import("data.imresize", fromlist=["imresize"]).imresize
lift_photograph = _import("demo.synthetic", fromlist=["lift_photograph"]).lift_photograph
UserError = _import("system.errors", fromlist=["UserError"]).UserError
