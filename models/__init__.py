"""The networks by the names of --model_title; every module of this package that registers a network is imported."""

import importlib
import pkgutil

from models.registry import build_model

__all__ = ["build_model"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"models.{_file.name}")
