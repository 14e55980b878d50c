"""The networks, by the names that --model_title takes; every file in this folder that registers one is found."""

from pathlib import Path

from models import registry
from models.registry import build_model

__all__ = ["build_model"]

for _file in sorted(Path(__file__).parent.glob("*.py")):
    registry.find_registered(_file, f"{__name__}.{_file.stem}")
