"""The published numbers (published.json): those of the tables, and the numbers of patches of the published data."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facts import DATASETS, load_published_split


@dataclass(frozen=True)
class PublishedTable:
    """One published table with its numbers as printed: "" for none, a question mark behind a doubtful one.

    Attributes:
        columns: keys of its metrics.
        rows: {method: [value of each of columns]}.
        comparable: the only methods whose experiment our full runs repeat; () for all.
    """

    dataset: str
    scale: int
    protocol: str
    source: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]
    comparable: Sequence[str] = ()


_FACTS = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
TABLES = [PublishedTable(**table) for table in _FACTS["tables"]]
# RMSE against theta_rgb: {"source": ..., "metric": ..., "values": {theta: number as printed}}.
THETA_RGB: Mapping[str, Any] = _FACTS["theta_rgb"]
# The tables' order of networks; others follow by name.
NETWORKS: Sequence[str] = _FACTS["networks"]


def tables_of(dataset: str, scale: int, protocol: str) -> list[PublishedTable]:
    """Return the published tables of a data set, scale and protocol."""
    return [t for t in TABLES if (t.dataset, t.scale, t.protocol) == (dataset, scale, protocol)]


def bicubic_row(dataset: str, scale: int) -> dict[str, float] | None:
    """Return {metric: value} of bicubic under protocol "published"; None if it is not published."""
    for table in tables_of(dataset, scale, "published"):
        return dict(zip(table.columns, map(float, table.rows["Bicubic"]), strict=True))
    return None


def number(printed: str) -> float | None:
    """Parse a number as printed; return None for a missing or doubtful one."""
    try:
        return float(printed)
    except ValueError:
        return None


def patches(dataset: str, scale: int, stream: str) -> int:
    """Return the number of patches of a stream in the published data, cut as published; 0 if it is not known."""
    if stream == "rgb":
        return _FACTS["rgb_patches_at_least"]
    return _FACTS["patches"].get(dataset, {}).get(stream, {}).get(str(scale), 0)


def dataset_of_scenes(names: Iterable[str]) -> str | None:
    """Return the data set whose published test scenes include these names, or None."""
    wanted, splits = set(names), {dataset: load_published_split(dataset) for dataset in DATASETS}
    return next((d for d, split in splits.items() if split and wanted and wanted <= set(split["test"])), None)
