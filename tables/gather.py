"""Gathers the files below a folder into a Report; what cannot be read is noted there."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import objectives
import pictures
from evaluation import published, results, samples
from evaluation.results import SceneResults
from evaluation.samples import Sample
from system.errors import UserError, refuse_small_memory
from tables import reduced
from tables.labels import BUNDLED, describe_trait, group_by, label_results, sort_key
from tables.report import Crop, Curves, OwnScene, Report, Result, Row, Table
from tables.runs import Run, find_run, is_finished, read_columns, read_config, traits_of, traits_of_test
from training.file_names import CONFIG, LOG, VALIDATION
from utils import scene_name

# Report pictures of own scenes that the page shows: each takes about half a megabyte of it.
OWN_SCENES = 12


def gather(runs_dir: Path) -> Report:
    """Return the Report of all results below a folder.

    Raises:
        UserError: if the folder does not exist or contains no results, training logs or report pictures of `predict`.
    """
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir}: no such folder; give the one that contains the runs and results")
    report = Report(runs_dir)
    found = list(_read_results(report))
    found += _list_recorded_bicubic(found)
    labels = label_results(found)
    _read_own_scenes(report)
    curves = _read_curves_without_results(report, found)
    if not found and not report.own_scenes and not curves:
        raise UserError(
            f"{runs_dir}: no results in it"
            + (f" that can be read ({report.notes[0]})" if report.notes else "")
            + "; train with --test_dir, or run test or predict --report 1, and give the folder of their results"
        )
    for (dataset, scale, protocol), group in group_by(found, lambda r: (r.dataset, r.found.n_scale, r.found.protocol)):
        rows = [
            Row(labels[same[0]], _drop_repeated(same, report))
            for _, same in group_by(group, lambda r: (r.method, sorted(r.traits.items(), key=str)))
        ]
        printed = published.tables_of(dataset, scale, protocol)
        report.tables.append(Table(dataset, scale, protocol, sorted(rows, key=sort_key), printed))
    for table in report.tables:
        table.crops.extend(_read_crops(table, report))
    report.trainings = _group_curves(report, curves)
    return report


def _read_results(report: Report) -> Iterator[Result]:
    folder = report.folder
    for path in sorted([*folder.rglob("results.json"), *folder.rglob("*_results.json")]):
        try:
            yield _read_result(path, folder)
        # A file that was edited by hand may contain anything; the other files are still shown.
        except Exception as error:
            refuse_small_memory(path, error)
            words = f"{error} is missing" if isinstance(error, KeyError) else error
            report.notes.append(f"{report.below(path)}: passed over, no readable results ({words})")


def _read_result(path: Path, runs_dir: Path) -> Result:
    found = results.read(path)
    run = find_run(path, found, runs_dir)
    weights = found.config.get("model_dir")
    dataset = _dataset_of(found, run)
    flags = traits_of_test(found.config)
    traits: dict[str, Any] = {"test scenes": tuple(sorted(found.scenes)), **flags}
    reasons = reduced.compare_scenes(dataset, found.scenes)
    reasons += [f"tested with {describe_trait(name, value)}" for name, value in flags.items()]
    if run:
        method = " + ".join([run.config["model_title"], *objectives.list_labels(run.config)])
        origin = f"seed {run.config.get('seed')}"
        traits |= {BUNDLED: run.bundled} if run.bundled else _traits_of_run(run, weights)
        reasons += reduced.compare_run(run.config, dataset, found.n_scale)
        reasons += [f"weights {traits['weights']}"] if traits.get("weights") else []
    elif found.model.lower() == "bicubic":
        method = origin = "Bicubic"
    else:
        method, origin = found.model, str(weights or path)
        # Unknown weights of the same name in another folder are not another seed.
        traits |= {"weights": Path(weights).stem if weights else path.stem, "in": str(Path(origin).parent)}
        reasons.append(reduced.UNKNOWN_TRAINING)
    if unknown := set(method.split(" + ")[1:]) - {o.label for o in objectives.OBJECTIVES.values()}:
        raise ValueError(f"{min(unknown)!r:.40} is not a component of a method")
    return Result(
        path=path,
        found=found,
        dataset=dataset,
        method=method,
        traits=traits,
        origin=origin,
        reasons=reasons,
        config=run.config if run else {},
        run_dir=run.folder if run else None,
        seconds=run.seconds(found) if run else None,
    )


def _list_recorded_bicubic(found: Sequence[Result]) -> list[Result]:
    """Return a result of bicubic for each data set, scale, protocol and test scenes that have none of their own."""
    recorded = []
    for _, same in group_by(found, lambda r: (r.dataset, r.found.n_scale, r.found.protocol, r.traits["test scenes"])):
        if any(r.method == "Bicubic" for r in same):
            continue
        for first in same:
            scores = first.found.bicubic or {"scenes": {}}
            rows = {scene_name(name): row for name, row in scores["scenes"].items()}
            if rows.keys() != first.found.scenes.keys():
                continue
            scored = replace(
                first.found,
                model="Bicubic",
                mean=results.mean_row(rows),
                scenes=rows,
                config={},
                bands={scene_name(name): values for name, values in scores["bands"].items()},
            )
            recorded.append(
                replace(
                    first,
                    found=scored,
                    method="Bicubic",
                    traits={"test scenes": first.traits["test scenes"]},
                    origin="Bicubic",
                    reasons=reduced.compare_scenes(first.dataset, rows),
                    config={},
                    run_dir=None,
                    seconds=None,
                )
            )
            break
    return recorded


def _dataset_of(found: SceneResults, run: Run | None) -> str:
    """Return the data set that the results name, else that of the run, the scenes or the released weights' name."""
    named = found.dataset or (run.config.get("dataset_name") if run else None)
    named = named or published.dataset_of_scenes(found.scenes)
    if named:
        return named
    released = re.match(r"(.+?)_[^_]+_Blocks=", Path(found.config.get("model_dir") or "").name)
    return released[1] if released else f"scenes of {Path(found.config.get('test_dir', 'unknown')).name}"


def _traits_of_run(run: Run, weights: str | None) -> dict[str, Any]:
    traits = traits_of(run.config)
    return {
        # The setting `weights` names those that the run started from, the trait those that were scored.
        "start weights": traits.pop("weights"),
        **traits,
        "iterations": run.config.get("iterations"),
        **{f"{stream} patches": count for stream, count in run.config.get("patches", {}).items()},
        "trained on": run.config.get("dataset_name"),
        "weights": run.describe_weights(weights),
        "trained under protocol": run.protocol(),
    }


def _read_curves_without_results(report: Report, found: Sequence[Result]) -> list[Curves]:
    """Return the curves of runs without results, and list these runs."""
    scored = {r.run_dir.resolve() for r in found if r.run_dir}
    curves = []
    for path in sorted(report.folder.rglob(CONFIG)):
        folder = path.parent
        if folder.resolve() in scored or not (folder / LOG).is_file():
            continue
        name, is_over = report.below(folder), is_finished(folder)
        (report.unscored if is_over else report.unfinished).append(name)
        try:
            config = read_config(path)
            if config and (logs := _read_logs(report, folder))[0]:
                method = " + ".join([config["model_title"], *objectives.list_labels(config)])
                label = f"{method} ({'not tested' if is_over else 'unfinished'}: {name})"
                dataset, scale = config["dataset_name"], config["n_scale"]
                reasons = reduced.compare_run(config, dataset, scale)
                curves.append(Curves(f"{dataset} x{scale}", label, reasons, *logs))
        # A file that was edited by hand may contain anything.
        except Exception as error:
            refuse_small_memory(path, error)
            report.notes.append(f"{report.below(path)}: passed over, its settings cannot be read ({error})")
    return curves


def _read_logs(report: Report, folder: Path) -> list[dict[str, np.ndarray]]:
    """Return the columns of a run's log.csv and validation.csv; {} for a file that is absent or cannot be read."""
    logs: list[dict[str, np.ndarray]] = []
    for path in (folder / LOG, folder / VALIDATION):
        logs.append({})
        # Not a pipe: reading would wait for it.
        if path.is_file():
            try:
                logs[-1] = read_columns(path)
            except (OSError, ValueError) as error:
                report.notes.append(f"{report.below(path)}: passed over, {error}")
    return logs


def _read_own_scenes(report: Report) -> None:
    for path in sorted(report.folder.rglob("*_report.png")):
        try:
            png = path.read_bytes() if len(report.own_scenes) < OWN_SCENES else b""
            report.own_scenes.append(OwnScene(report.below(path), *pictures.read_title(path), png))
        except (OSError, ValueError) as error:
            report.notes.append(f"{report.below(path)}: passed over, {error}")


def _drop_repeated(same: Sequence[Result], report: Report) -> list[Result]:
    """Return results of the same traits by seed, each origin once; another run or other numbers are noted."""
    kept: dict[str, Result] = {}
    # A run's own results precede those of a later test of its weights.
    for result in sorted(same, key=lambda r: (r.path.name != "results.json", r.path)):
        first = kept.setdefault(result.origin, result)
        one, other = first.found.mean, result.found.mean
        if first.run_dir != result.run_dir or not all(math.isclose(one[m], other[m], rel_tol=1e-3) for m in one):
            report.notes.append(
                f"{report.below(result.path)}: left out, of the same settings and seed as {report.below(first.path)}"
            )
    return sorted(kept.values(), key=lambda r: r.config.get("seed", 0))


def _read_crops(table: Table, report: Report) -> list[Crop]:
    """Return the crops of a table's scenes; rows whose crop shows another window than the first are noted."""
    by_scene: dict[str, dict[Row, Sample]] = {}
    for row in table.rows:
        for sample in _read_samples(row, report):
            by_scene.setdefault(sample.scene, {})[row] = sample
    crops = []
    for scene, by_row in by_scene.items():
        first = next(iter(by_row.values()))
        outputs = {}
        for row, sample in by_row.items():
            if sample.corner == first.corner and np.array_equal(sample.gt, first.gt):
                # The samples beside recorded scores of bicubic are those of the network.
                outputs[row] = sample.lms if row.is_bicubic else sample.output
            else:
                report.notes.append(
                    f"{table.title}, {scene}: the crop of {row.label} shows another window, and is left out"
                )
        crops.append(Crop(scene, first.corner, first.shown, first.wavelengths, first.ms, first.lms, first.gt, outputs))
    return crops


def _read_samples(row: Row, report: Report) -> list[Sample]:
    """Return the crops of the first of a row's results that has any."""
    for path in (samples.path_beside(r.path) for r in row.results):
        if path.is_file():
            try:
                return samples.read(path)
            except UserError as error:
                report.notes.append(str(error))
    return []


def _group_curves(report: Report, unscored: Sequence[Curves]) -> dict[str, list[Curves]]:
    """Return the curves by data set and scale, each run once, whatever protocols it was scored under."""
    logs: dict[Path, list[dict[str, np.ndarray]]] = {}
    found: dict[str, dict[Path, Curves]] = {}
    for table in report.tables:
        title = f"{table.dataset} x{table.scale}"
        runs = found.setdefault(title, {})
        for row in table.rows:
            for folder in (r.run_dir for r in row.results if r.run_dir):
                if folder not in logs:
                    logs[folder] = _read_logs(report, folder)
                runs.setdefault(folder.resolve(), Curves(title, row.label, row.reasons, *logs[folder]))
    grouped = {title: list(runs.values()) for title, runs in found.items() if runs}
    for curves in unscored:
        grouped.setdefault(curves.title, []).append(curves)
    return grouped
