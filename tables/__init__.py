"""All results below a folder as tables, one for each data set, scale and protocol, and as a page to look at.

What `train` and `test` left is only read here: nothing is trained, scored or changed.
"""

import itertools
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import objectives
import pictures
from config import TestConfig, affecting
from metrics import METRICS
from tables import page as tables_html
from tables import published
from tables import text as tables_text
from utils import UserError, replacing

# The tables' order of networks; others follow by name.
NETWORKS = ("Bicubic", "GDRRN", "3DFCNN", "MCNet", "SSPSR", "DeepShare")
LOWER_IS_BETTER = {"RMSE", "ERGAS", "SAM"}


@dataclass(frozen=True)
class Result:
    """One results file.

    Attributes:
        path: of the file.
        dataset, scale, protocol: the table it belongs to.
        method: network and published components, e.g. "DeepShare + RGB".
        settings: what tells it from other results of the method, {name: value}; not the seed.
        origin: what was scored (a seed, a weights file), so that it is counted once.
        mean, scenes: {metric: value}, and the same by scene.
        bands: {scene: [PSNR of each band]}; {} where an older program wrote the file.
        wavelengths: of the bands in nm, or None.
        reasons: in what it differs from the published experiment.
        run: the content of the run's config.json, {} where there is none.
        run_dir: folder of the run's log.csv, or None.
        seconds: spent on training, or None where it is not known.
    """

    path: Path
    dataset: str
    scale: int
    protocol: str
    method: str
    settings: dict
    origin: str
    mean: dict
    scenes: dict
    bands: dict
    wavelengths: list
    reasons: list
    run: dict
    run_dir: Path
    seconds: float


@dataclass(frozen=True, eq=False)
class Row:
    """The results of one method with the same settings: one for each seed."""

    label: str
    results: list

    def mean(self, metric):
        """Mean over the seeds."""
        return float(np.mean([r.mean[metric] for r in self.results]))

    def spread(self, metric):
        """Half the range over the seeds; None of a single one."""
        values = [r.mean[metric] for r in self.results]
        return (max(values) - min(values)) / 2 if len(values) > 1 else None

    @property
    def method(self):
        return self.results[0].method

    @property
    def reasons(self):
        return self.results[0].reasons

    @property
    def is_reduced(self):
        return bool(self.reasons)

    @property
    def name(self):
        """The label with the mark of a reduced run."""
        return f"{self.label} (reduced)" if self.is_reduced else self.label

    @property
    def scenes(self):
        return list(self.results[0].scenes)

    @property
    def seeds(self):
        return [r.run["seed"] for r in self.results if "seed" in r.run]

    @property
    def iterations(self):
        return self.results[0].run.get("iterations")

    @property
    def seconds(self):
        """Mean training time, None where it is not known of all."""
        seconds = [r.seconds for r in self.results]
        return None if None in seconds else sum(seconds) / len(seconds)

    @property
    def parameters(self):
        return self.results[0].run.get("parameters")

    @property
    def devices(self):
        return sorted({r.run["device"] for r in self.results if "device" in r.run})

    def band_psnr(self):
        """PSNR of each band, mean over scenes and seeds; None where it was not recorded."""
        bands = [values for r in self.results for values in r.bands.values()]
        if not bands or len({len(values) for values in bands}) > 1:
            return None
        return np.mean(bands, axis=0)


@dataclass(frozen=True)
class Table:
    """The rows of one data set, scale and protocol, and what is published of them."""

    dataset: str
    scale: int
    protocol: str
    rows: list
    published: list

    @property
    def title(self):
        return f"{self.dataset} x{self.scale}, protocol {self.protocol}"

    @property
    def metrics(self):
        """The shown metrics; MSSIM_gaussian only where something published is to be compared with it."""
        shown = ["RMSE", "MPSNR", "ERGAS", "SAM", "MSSIM", "CrossCorrelation"]
        if any("MSSIM_gaussian" in t.columns for t in self.published):
            shown.insert(5, "MSSIM_gaussian")
        return shown

    def counterpart(self, row):
        """(source, {metric: printed number}) of the published row of the same experiment; None without one."""
        if row.is_reduced:
            return None
        for theirs in self.published:
            if row.method in theirs.rows and row.method in (theirs.comparable or theirs.rows):
                return theirs.source, dict(zip(theirs.columns, theirs.rows[row.method]))
        return None

    def difference(self, row, metric):
        """Ours less the published number; None where nothing comparable is published."""
        counterpart = self.counterpart(row)
        theirs = published.number(counterpart[1].get(metric, "")) if counterpart else None
        return None if theirs is None else row.mean(metric) - theirs

    def not_comparable(self):
        """The PublishedTables with the rows that stand beside none of ours, as (table, {method: numbers})."""
        matched = {row.method for row in self.rows if self.counterpart(row)}
        left = [(t, {m: v for m, v in t.rows.items() if m not in matched}) for t in self.published]
        return [(t, rows) for t, rows in left if rows]

    def best(self, metric):
        """The row that is best by a metric; None where the rows were not scored on the same scenes."""
        if len({tuple(row.scenes) for row in self.rows}) > 1 or len(self.rows) < 2:
            return None
        sign = 1 if metric in LOWER_IS_BETTER else -1
        return min(self.rows, key=lambda row: (math.isnan(row.mean(metric)), sign * row.mean(metric)))

    def reasons(self):
        """Why rows are called reduced: [(rows in words, reasons)], reasons that the same rows have together."""
        labels_of = {}
        for row in self.rows:
            for reason in row.reasons:
                labels_of.setdefault(reason, []).append(row.label)
        groups = {}
        for reason, labels in labels_of.items():
            groups.setdefault(tuple(labels), []).append(reason)
        return [(self._in_words(labels), reasons) for labels, reasons in groups.items()]

    def _in_words(self, labels):
        others = [row.label for row in self.rows if row.label not in labels]
        if len(others) > 1 or (others and len(labels) < 3):
            return "; ".join(labels)
        return f"every row but {others[0]}" if others else "every row"


@dataclass(frozen=True)
class OwnScene:
    """What `predict --report 1` has drawn of a scene without ground truth."""

    path: Path
    title: str
    description: str


@dataclass
class Report:
    """Everything that is shown: tables, reports of own scenes, runs without results, what was passed over and why."""

    folder: Path
    tables: list
    own_scenes: list = field(default_factory=list)
    unfinished: list = field(default_factory=list)
    unscored: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    @property
    def shows_theta_rgb(self):
        """Whether runs differ in theta_rgb, so that the published numbers over it are of interest."""
        rows = [row for table in self.tables for row in table.rows]
        return len({row.results[0].settings["theta_rgb"] for row in rows if "theta_rgb" in row.results[0].settings}) > 1


def make_tables(config):
    """Run a TablesConfig: gather, print the tables, write them as Markdown, CSV, LaTeX and a page.

    Returns:
        Paths of the files written.

    Raises:
        UserError: if there is no such folder, or neither results nor reports of `predict` in it.
    """
    runs_dir = Path(config.runs_dir).expanduser()
    out_dir = Path(config.out_dir).expanduser() if config.out_dir else runs_dir / "tables"
    report = gather(runs_dir)
    page = tables_html.page(report)
    texts = {
        "tables.md": tables_text.markdown(report),
        "tables.csv": tables_text.comma_separated(report),
        "tables.tex": tables_text.latex(report),
        "index.html": page,
    }
    print(texts["tables.md"])
    for name, text in texts.items():
        with replacing(out_dir / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    return [out_dir / name for name in texts]


def gather(runs_dir):
    """The Report of all results below a folder.

    Raises:
        UserError: if there is no such folder, or neither results nor reports of `predict` in it.
    """
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir}: no such folder; give the one under which runs and results are")
    report, results = Report(runs_dir, []), []
    for path in sorted([*runs_dir.rglob("results.json"), *runs_dir.rglob("*_results.json")]):
        try:
            results.append(_read(path, runs_dir))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            report.notes.append(f"{_below(path, runs_dir)}: passed over, no readable results ({_words(error)})")
    scored = {r.run_dir.resolve() for r in results if r.run_dir}
    for path in sorted(runs_dir.rglob("config.json")):
        if path.parent.resolve() not in scored and (path.parent / "log.csv").is_file():
            finished = any(path.parent.glob("*_epoch_*.pth"))
            (report.unscored if finished else report.unfinished).append(_below(path.parent, runs_dir))
    for path in sorted(runs_dir.rglob("*_report.png")):
        try:
            report.own_scenes.append(OwnScene(path, *pictures.title_of(path)))
        except (OSError, ValueError) as error:
            report.notes.append(f"{_below(path, runs_dir)}: passed over, {_words(error)}")
    if not results and not report.own_scenes:
        raise UserError(
            f"{runs_dir}: no results in it"
            + (f" that can be read ({report.notes[0]})" if report.notes else "")
            + "; train with --test_dir, or test, or predict --report 1, and give the folder that holds the outcome"
        )
    # A row is called the same under both protocols.
    telling = {key: _telling(group) for key, group in _grouped(results, _same_method)}
    for (dataset, scale, protocol), group in _grouped(results, lambda r: (r.dataset, r.scale, r.protocol)):
        rows = [
            Row(_label(same[0], telling[_same_method(same[0])]), _each_once(same, report))
            for _, same in _grouped(group, lambda r: (r.method, sorted(r.settings.items(), key=str)))
        ]
        rows.sort(key=_place)
        report.tables.append(Table(dataset, scale, protocol, rows, published.tables_of(dataset, scale, protocol)))
    return report


def _read(path, runs_dir):
    """A results file as a Result."""
    content = json.loads(path.read_text(encoding="utf-8"))
    config, scenes, scale = content["config"], content["scenes"], int(content["n_scale"])
    mean = {metric: float(content["mean"][metric]) for metric in METRICS}
    if not scenes or not isinstance(scenes, dict):
        raise ValueError("no scenes were scored")
    weights, run, run_dir = config.get("model_dir"), {}, None
    if "train_dir_mslabel" in config:
        run, run_dir = config, path.parent
    elif weights:
        run, run_dir = _run_of(weights, runs_dir)
    dataset = content.get("dataset") or run.get("dataset_name") or published.dataset_of_scenes(scenes)
    dataset = dataset or _named_in(weights) or f"scenes of {Path(config.get('test_dir', 'unknown')).name}"
    asked = _test_settings(config)
    settings = {"test scenes": tuple(scenes), **asked}
    reasons = published.missing_scenes(dataset, scenes) + [f"tested with {_phrase(s)}" for s in asked.items()]
    if run:
        method, origin = " + ".join([run["model_title"], *objectives.labels(run)]), f"seed {run.get('seed')}"
        partial = _partial(weights, run, run_dir)
        settings |= {**published.settings_of(run), "iterations": run.get("iterations")}
        settings |= {f"{stream} patches": count for stream, count in run.get("patches", {}).items()}
        settings |= {"trained on": run.get("dataset_name"), "weights": partial}
        settings["trained under protocol"] = _training_protocol(run, run_dir)
        reasons += published.differences(run, dataset, scale) + ([f"weights {partial}"] if partial else [])
    elif content["model"].lower() == "bicubic":
        method = origin = "Bicubic"
    else:
        method, origin = content["model"], str(weights or path)
        settings["weights"] = Path(weights).stem if weights else path.stem
        reasons.append("how it was trained is not recorded")
    return Result(
        path=path,
        dataset=dataset,
        scale=scale,
        protocol=content["protocol"],
        method=method,
        settings=settings,
        origin=origin,
        mean=mean,
        scenes=scenes,
        bands=content.get("bands", {}),
        wavelengths=content.get("wavelengths"),
        reasons=reasons,
        run=run,
        run_dir=run_dir,
        seconds=_training_seconds(config, run_dir),
    )


def _run_of(weights, runs_dir):
    """(config.json's content, folder) of the run that weights are of: ({}, None) where none is beside them.

    Runs that were moved since they were tested are found by the names of weights and folder.
    """
    weights = Path(weights)
    moved = [p for p in sorted(runs_dir.rglob("*.pth")) if p.parts[-2:] == weights.absolute().parts[-2:]]
    for path in [weights, *moved]:
        beside = path.parent / "config.json"
        if path.is_file() and beside.is_file():
            run = json.loads(beside.read_text(encoding="utf-8"))
            if isinstance(run, dict) and "model_title" in run:
                return run, path.parent
    return {}, None


def _partial(weights, run, run_dir):
    """What weights are of, where they are from before the end of their run; else None."""
    if not weights:
        return None
    per_epoch = math.ceil(run.get("patches", {}).get("labelled", 0) * 8 / run.get("batch_size", 8)) or 1
    last = math.ceil(run.get("iterations", 0) / per_epoch)
    named = re.search(r"_epoch_(\d+)_", Path(weights).name)
    if named and int(named[1]) < last:
        return f"of epoch {named[1]} of {last}"
    if not named and not any(run_dir.glob("*_epoch_*.pth")):
        return "of an unfinished run"
    return None


def _test_settings(config):
    """What `test` was asked to do otherwise than usual, {flag: value}."""
    usual = {n: v for n, v in TestConfig().as_dict().items() if n in affecting(TestConfig, "result")}
    return {
        name: config[name] for name in usual if "model_dir" in config and config.get(name, usual[name]) != usual[name]
    }


def _training_protocol(run, run_dir):
    """The protocol that a run's scenes were read under: as asked, else that of its own test, else unknown ("")."""
    return run.get("protocol") or _results_of(run_dir).get("protocol", "")


def _training_seconds(config, run_dir):
    content = config if "training_seconds" in config else _results_of(run_dir).get("config", {})
    return content.get("training_seconds")


def _results_of(run_dir):
    """What a run's own test has written; {} where it has none."""
    try:
        content = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError, TypeError):
        return {}


def _named_in(weights):
    """The data set that released weights carry in their name."""
    named = re.match(r"(.+?)_[^_]+_Blocks=", Path(weights or "").name)
    return named[1] if named else None


def _same_method(result):
    return result.dataset, result.scale, result.method


def _telling(results):
    """Names of the settings that tell results of one method apart, under one protocol at least."""
    names = dict.fromkeys(name for r in results for name in r.settings)
    by_protocol = [list(group) for _, group in _grouped(results, lambda r: r.protocol)]
    # Weights are named wherever they are not simply those of a finished run.
    return [
        n
        for n in names
        if n == "weights" or any(len({str(r.settings.get(n)) for r in group}) > 1 for group in by_protocol)
    ]


def _label(result, telling):
    """The method with the settings that tell it from others."""
    known = [(n, result.settings.get(n)) for n in telling]
    suffix = ", ".join(_phrase(setting) for setting in known if setting[1] not in (None, ""))
    return f"{result.method} ({suffix})" if suffix else result.method


def _each_once(results, report):
    """Results of the same settings by seed, each origin once; what is left out for it is noted."""
    kept = {}
    # A run's own results come before those of a later test of its weights.
    for result in sorted(results, key=lambda r: (r.path.name != "results.json", r.path)):
        if (first := kept.setdefault(result.origin, result)) is not result and first.run_dir != result.run_dir:
            report.notes.append(
                f"{_below(result.path, report.folder)}: left out, of the same settings and seed as {_below(first.path, report.folder)}"
            )
    return sorted(kept.values(), key=lambda r: r.run.get("seed", 0))


def _phrase(setting):
    name, value = setting
    if name == "test scenes":
        return f"{len(value)} test scenes"
    if name == "iterations" or name.endswith(" patches"):
        return f"{value:,} {name}"
    return f"{name} {int(value) if isinstance(value, bool) else value}"


def _place(row):
    network, *components = row.method.split(" + ")
    order = [o.label for o in sorted(objectives.OBJECTIVES.values(), key=lambda o: o.rank)]
    known = NETWORKS.index(network) if network in NETWORKS else len(NETWORKS)
    return known, network, len(components), [order.index(c) for c in components], row.label


def _grouped(items, key):
    ordered = sorted(items, key=lambda item: str(key(item)))
    return [(k, list(group)) for k, group in itertools.groupby(ordered, key)]


def _below(path, folder):
    return path.relative_to(folder).as_posix() if path != folder else path.name


def _words(error):
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
