"""The networks, by the names that --model_title takes; every file beside this one that registers one is found."""

import importlib
import pkgutil

from models.registry import build_model

__all__ = ["build_model"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"models.{_file.name}")
