"""What an evaluation found, as results.json, which is written and read here, and as a table to print."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.samples import Samples
from evaluation.scene_sets import SceneSet
from facts import PROTOCOLS
from metrics import METRICS
from system.files import atomic_write
from utils import as_utf8, scene_name

# The columns of the printed table.
PRINTED = ("MPSNR", "MSSIM", "MSSIM_gaussian", "SAM", "ERGAS", "CrossCorrelation", "RMSE")

# No metric is larger, and no enlargement.
LARGEST, LARGEST_ENLARGEMENT = 1e15, 1000
# What the weights of a run's best validation are called in its folder.
BEST_WEIGHTS = "best.pth"

# {scene: {metric: value}}
Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SceneResults:
    """The content of a results file.

    Attributes:
        model: the network's name.
        n_scale: enlargement.
        protocol: "corrected" or "published".
        dataset: the data set that the scenes say they are of; "" where they or an older program say nothing.
        mean: {metric: value} over the scenes, of all METRICS.
        scenes: {scene: {metric: value}}.
        config: of the command that wrote it, with what the command found out: seconds, or all of a run's config.json.
        bands: {scene: [PSNR of each band in dB]}; {} where an older program wrote the file.
        wavelengths: of the bands in nm, or None where they are not known.
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


def write(
    path: str | Path,
    model_name: str,
    scenes: SceneSet,
    rows: Rows,
    config: Mapping[str, Any],
    keep: Samples | None = None,
) -> Path:
    """Write results.json: model, n_scale, protocol, mean and per-scene metrics, config; infinity as Infinity.

    With a Samples as keep, also each band's PSNR.

    Raises:
        UserError: where the disk is full or the folder may not be written.
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
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def read(path: str | Path) -> SceneResults:
    """Read a results file, also an older program's.

    Raises:
        OSError: for a file that cannot be read.
        ValueError: saying why a file holds no results.
    """
    if not Path(path).is_file():
        raise ValueError("no regular file")
    content = _an_object(content_of(path), "the file")
    if missing := [key for key in ("config", "scenes", "n_scale", "mean", "model", "protocol") if key not in content]:
        raise ValueError(f"{missing[0]!r} is missing")
    mean = _an_object(content["mean"], "mean")
    if missing := [metric for metric in METRICS if metric not in mean]:
        raise ValueError(f"{missing[0]!r} is missing")
    rows = _an_object(content["scenes"], "scenes")
    scenes = {scene_name(name): _an_object(row, f"scene {name}") for name, row in rows.items()}
    if not scenes:
        raise ValueError("no scenes were scored")
    for name, row in scenes.items():
        for metric, value in row.items():
            _number(value, f"{metric} of {name}")
    bands, wavelengths = _spectra(content)
    return SceneResults(
        model=_text(content["model"], "model"),
        n_scale=_scale(content["n_scale"]),
        protocol=_protocol(content["protocol"]),
        dataset=_text(content.get("dataset") or "", "dataset"),
        mean={metric: _number(mean[metric], metric) for metric in METRICS},
        scenes=scenes,
        config=_an_object(content["config"], "config"),
        bands=bands,
        wavelengths=wavelengths,
    )


def content_of(path: str | Path) -> Any:
    """What a JSON file holds, of which every text can be written again.

    Raises:
        OSError: for a file that cannot be read.
        ValueError: for one that is no JSON in UTF-8.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        # JSON can name halves of characters (\ud800), which no file takes.
        text = json.dumps(content, ensure_ascii=False)
        text.encode("utf-8", "surrogateescape")
        # Earlier versions recorded names that are not UTF-8.
        content = content if text.isascii() else json.loads(as_utf8(text))
    except UnicodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("its lists and objects stand in each other too deep") from error
    return content


def mean_row(rows: Rows) -> dict[str, float]:
    """Mean of each metric over the scenes."""
    return {metric: float(np.mean([row[metric] for row in rows.values()])) for metric in METRICS}


def table(rows: Rows) -> str:
    """The rows and their mean as text in columns."""
    lines = [["scene", *PRINTED]]
    lines += [[name, *cells(row)] for name, row in {**rows, "mean": mean_row(rows)}.items()]
    return in_columns(lines, rule_before_last=True)


def cells(row: Mapping[str, float]) -> list[str]:
    """A row's metrics as text, in the order of PRINTED."""
    return [METRICS[metric].format_value(row[metric]) for metric in PRINTED]


def in_columns(lines: Sequence[Sequence[str]], rule_before_last: bool = False) -> str:
    """Rows of words as a table: the first column to the left, the others to the right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = []
    for first, *others in lines:
        right = (word.rjust(width) for word, width in zip(others, widths[1:], strict=True))
        rows.append("  ".join([first.ljust(widths[0]), *right]))
    rule = "-" * len(rows[0])
    rows.insert(1, rule)
    if rule_before_last:
        rows.insert(-1, rule)
    return "\n".join(rows)


def _an_object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds {value!r:.40}, not names with values")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.40}, not a text")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r:.40}, not a number")
    # Infinity and NaN are what some metrics come to; numbers beyond these are none that a metric comes to.
    if LARGEST < abs(value) < math.inf:
        raise ValueError(f"{name} is {str(value)[:12]}, which it cannot be")
    return float(value)


def _scale(value: Any) -> int:
    if not 0 < _number(value, "n_scale") < LARGEST_ENLARGEMENT or value % 1:
        raise ValueError(f"n_scale is {value}, not a whole number from 1")
    return int(value)


def _protocol(value: Any) -> str:
    if _text(value, "protocol") not in PROTOCOLS:
        raise ValueError(f"protocol is {value!r:.40}, not {' or '.join(PROTOCOLS)}")
    return value


def _spectra(content: Mapping[str, Any]) -> tuple[dict[str, list[float]], list[float] | None]:
    """(bands, wavelengths) as SceneResults has them."""
    bands = {
        scene_name(name): _numbers(values, f"bands of {name}")
        for name, values in _an_object(content.get("bands") or {}, "bands").items()
    }
    if empty := [name for name, values in bands.items() if not values]:
        raise ValueError(f"bands of {empty[0]} are missing")
    wavelengths = content.get("wavelengths")
    if wavelengths is None:
        return bands, None
    wavelengths = _numbers(wavelengths, "wavelengths")
    if not all(0 < w < math.inf for w in wavelengths):
        raise ValueError("wavelengths are not all numbers above 0")
    counts = {len(values) for values in bands.values()}
    if counts and len(wavelengths) not in counts:
        raise ValueError(f"there are {len(wavelengths)} wavelengths for {max(counts)} bands")
    return bands, wavelengths


def _numbers(values: Any, name: str) -> list[float]:
    if not isinstance(values, list):
        raise ValueError(f"{name} are {values!r:.40}, not a list of numbers")
    return [_number(value, name) for value in values]
