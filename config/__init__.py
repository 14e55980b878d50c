"""Every setting of every command: its published default, its meaning, its limits, and what it affects.

The dataclasses here are the single source of the command line: `mains.py` takes flags, help and types from them,
docs/flags.md is generated from them, and a run's config.json is one written out.
"""

from config.adapt import AdaptConfig
from config.demo import DemoConfig
from config.fields import Config, affecting, declared_flags, unknown_flag
from config.files import read_flags
from config.info import InfoConfig
from config.page import CONFIGS, format_commands, format_help
from config.predict import PredictConfig
from config.prepare import PrepareConfig
from config.tables import TablesConfig
from config.test import TestConfig
from config.train import FOLDERS, TrainConfig

__all__ = [
    "CONFIGS",
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
    "declared_flags",
    "format_commands",
    "format_help",
    "read_flags",
    "unknown_flag",
]
