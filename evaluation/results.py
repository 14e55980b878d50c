"""Results of an evaluation: written to and read from results.json, and printed as a table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facts import METRICS, PROTOCOLS
from system.files import atomic_write
from system.records import Field
from utils import as_utf8, scene_name

if TYPE_CHECKING:
    # `tables` reads results without the time that importing torch takes.
    from evaluation.samples import Samples
    from evaluation.scene_sets import SceneSet

# The columns of the printed table; on a terminal of at least WIDE columns all metrics are printed.
PRINTED, WIDE = ("MPSNR", "MSSIM", "SAM", "ERGAS", "RMSE"), 110
ALL_PRINTED = ("MPSNR", "MSSIM", "MSSIM_gaussian", "SAM", "ERGAS", "CrossCorrelation", "RMSE")

# Limit of the metrics, which can also be infinite or NaN.
LARGEST = 1e15
METRIC = Field(float, -LARGEST, LARGEST, is_finite=False)
RESULTS = Field(
    dict,
    fields={
        "model": Field(str),
        "n_scale": Field(int, 1, 999),
        "protocol": Field(str, choices=tuple(PROTOCOLS)),
        "dataset": Field(str, is_optional=True),
        "mean": Field(dict, fields=dict.fromkeys(METRICS, METRIC)),
        "scenes": Field(dict, 1, items=Field(dict, items=METRIC)),
        "config": Field(dict),
        "bands": Field(dict, items=Field(list, 1, items=METRIC), is_optional=True),
        # In nm, above 0.
        "wavelengths": Field(list, items=Field(float, 1e-9), is_optional=True),
        "bicubic": Field(
            dict,
            fields={
                "fingerprint": Field(str),
                "scenes": Field(dict, 1, items=Field(dict, fields=dict.fromkeys(METRICS, METRIC))),
                "bands": Field(dict, items=Field(list, 1, items=METRIC)),
            },
            is_optional=True,
        ),
    },
)

# {scene: {metric: value}}
Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SceneResults:
    """The content of a results file.

    Attributes:
        model: the network's name.
        n_scale: upsampling factor.
        protocol: "corrected" or "published".
        dataset: data set of the scenes; "" if they or the program that wrote the file do not record it.
        mean: {metric: value} over the scenes, of all METRICS.
        scenes: {scene: {metric: value}}.
        config: settings of the command that wrote the file, with its seconds, or the whole config.json of a run.
        bands: {scene: [PSNR of each band in dB]}; {} if an earlier version wrote the file.
        wavelengths: of the bands in nm; None if they are not known.
        bicubic: scores of bicubic upsampling on the same scenes, see `baseline.score_bicubic`; None if not recorded.
    """

    model: str
    n_scale: int
    protocol: str
    dataset: str
    mean: Mapping[str, float]
    scenes: Rows
    config: Mapping[str, Any]
    bands: Mapping[str, Sequence[float]]
    wavelengths: Sequence[float] | None
    bicubic: Mapping[str, Any] | None = None


def write(
    path: str | Path,
    model_name: str,
    scenes: SceneSet,
    rows: Rows,
    config: Mapping[str, Any],
    keep: Samples | None = None,
    bicubic: Mapping[str, Any] | None = None,
) -> Path:
    """Write results.json: model, n_scale, protocol, mean and per-scene metrics, config; infinity as Infinity.

    With a Samples as keep, also each band's PSNR; with `bicubic`, the scores of bicubic upsampling.

    Raises:
        UserError: if the disk is full or the folder is not writable.
    """
    content = {
        "model": model_name,
        "n_scale": scenes.n_scale,
        "protocol": scenes.protocol,
        "dataset": scenes.dataset,
        "ergas_ratio": scenes.ergas_ratio,
        "mean": mean_row(rows),
        "scenes": rows,
        "config": config,
    }
    if keep is not None:
        content |= {"wavelengths": keep.wavelengths, "bands": keep.bands}
    if bicubic:
        content["bicubic"] = bicubic
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def read(path: str | Path) -> SceneResults:
    """Read a results file, also of an earlier version.

    Raises:
        OSError: if the file cannot be read.
        ValueError: naming the first entry that results do not have.
    """
    if not Path(path).is_file():
        raise ValueError("is not a regular file")
    content = content_of(path)
    RESULTS.check(content)
    bands = {scene_name(name): values for name, values in (content.get("bands") or {}).items()}
    wavelengths = content.get("wavelengths")
    if bands and wavelengths is not None and len(wavelengths) not in (counts := set(map(len, bands.values()))):
        raise ValueError(f"wavelengths has {len(wavelengths)} values, for {max(counts)} bands")
    return SceneResults(
        model=content["model"],
        n_scale=content["n_scale"],
        protocol=content["protocol"],
        dataset=content.get("dataset") or "",
        mean={metric: float(content["mean"][metric]) for metric in METRICS},
        scenes={scene_name(name): row for name, row in content["scenes"].items()},
        config=content["config"],
        bands=bands,
        wavelengths=wavelengths,
        bicubic=content.get("bicubic"),
    )


def content_of(path: str | Path) -> Any:
    """Read a JSON file; each text in it can be encoded as UTF-8.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not JSON in UTF-8.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        # JSON can contain halves of characters (\ud800), which cannot be encoded.
        text = json.dumps(content, ensure_ascii=False)
        text.encode("utf-8", "surrogateescape")
        # Earlier versions recorded names that are not UTF-8.
        content = content if text.isascii() else json.loads(as_utf8(text))
    except UnicodeError as error:
        raise ValueError("is not text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("its lists and objects are nested too deep") from error
    return content


def mean_row(rows: Rows) -> dict[str, float]:
    """Return the mean of each metric over the scenes."""
    return {metric: float(np.mean([row[metric] for row in rows.values()])) for metric in METRICS}


def table(rows: Rows) -> str:
    """Format the rows and their mean as text in columns."""
    lines = [[name, *cells(row)] for name, row in {**rows, "mean": mean_row(rows)}.items()]
    return in_columns([["scene", *printed_metrics()], *lines], rule_before_last=True)


def printed_metrics() -> tuple[str, ...]:
    """Return the metrics that fit the width of the terminal (COLUMNS if it is set)."""
    return ALL_PRINTED if shutil.get_terminal_size().columns >= WIDE else PRINTED


def cells(row: Mapping[str, float]) -> list[str]:
    """Format the metrics of a row, in the order of `printed_metrics`."""
    return [METRICS[metric].format_value(row[metric]) for metric in printed_metrics()]


def in_columns(lines: Sequence[Sequence[str]], rule_before_last: bool = False) -> str:
    """Format rows of words as a table: the first column aligned to the left, the other ones to the right."""
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    rows = ["  ".join([line[0].ljust(first), *map(str.rjust, line[1:], widths)]) for line in lines]
    rule = "-" * len(rows[0])
    rows.insert(1, rule)
    if rule_before_last:
        rows.insert(-1, rule)
    return "\n".join(rows)
