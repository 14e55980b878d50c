"""Every setting of every command: its published default, its meaning, its limits, and what it affects.

The dataclasses here are the single source of the command line: `mains.py` takes flags, help and types from them,
docs/flags.md is made from them, and a run's config.json is one written out.
"""

from config.adapt import AdaptConfig
from config.demo import DemoConfig
from config.fields import Config, affecting, flags_table, unknown_flag
from config.info import InfoConfig
from config.predict import PredictConfig
from config.prepare import PrepareConfig
from config.tables import TablesConfig
from config.test import TestConfig
from config.train import FOLDERS, TrainConfig

__all__ = [
    "FOLDERS",
    "AdaptConfig",
    "Config",
    "DemoConfig",
    "InfoConfig",
    "PredictConfig",
    "PrepareConfig",
    "TablesConfig",
    "TestConfig",
    "TrainConfig",
    "affecting",
    "flags_table",
    "unknown_flag",
]
