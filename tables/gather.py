"""From the files below a folder to a Report."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import objectives
import pictures
from evaluation import published, results
from evaluation.results import SceneResults
from system.errors import UserError, refuse_small_memory
from tables import curves, differences
from tables.labels import grouped, label, phrase, place, telling_traits, words_of_scenes
from tables.rows import OwnScene, Report, Result, Row, Table
from tables.runs import Run, is_finished, run_of

# What weights are of that each run's folder has beside its last ones.
EARLIER_WEIGHTS = {results.BEST_WEIGHTS: "of the best validation", "previous.pth": "of the checkpoint before the last"}


def gather(runs_dir: Path) -> Report:
    """The Report of all results below a folder.

    Raises:
        UserError: if there is no such folder, or neither results nor reports of `predict` in it.
    """
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir}: no such folder; give the one under which runs and results are")
    report = Report(runs_dir)
    found = list(_results(report))
    told_apart = words_of_scenes(found)
    _add_runs_without_results(report, found)
    _note_logs(report, found)
    _add_own_scenes(report)
    if not found and not report.own_scenes:
        raise UserError(
            f"{runs_dir}: no results in it"
            + (f" that can be read ({report.notes[0]})" if report.notes else "")
            + "; train with --test_dir, or test, or predict --report 1, and give the folder that holds the outcome"
        )
    # A row is called the same under both protocols.
    telling = {key: telling_traits(same) for key, same in grouped(found, _same_method)}
    for (dataset, scale, protocol), group in grouped(found, lambda r: (r.dataset, r.scale, r.protocol)):
        rows = [
            Row(label(same[0], telling[_same_method(same[0])], told_apart), _each_once(same, report))
            for _, same in grouped(group, lambda r: (r.method, sorted(r.traits.items(), key=str)))
        ]
        theirs = published.tables_of(dataset, scale, protocol)
        report.tables.append(Table(dataset, scale, protocol, sorted(rows, key=place), theirs))
    return report


def _results(report: Report) -> Iterator[Result]:
    """All results that can be read; what cannot is noted."""
    folder = report.folder
    for path in sorted([*folder.rglob("results.json"), *folder.rglob("*_results.json")]):
        try:
            yield _result(path, folder)
        # A file that was edited by hand may hold anything: one of them does not take the page from all others.
        except Exception as error:
            refuse_small_memory(path, error)
            words = f"{error} is missing" if isinstance(error, KeyError) else error
            report.notes.append(f"{report.below(path)}: passed over, no readable results ({words})")


def _result(path: Path, runs_dir: Path) -> Result:
    """A results file as a Result."""
    found = results.read(path)
    run = run_of(path, found, runs_dir)
    weights = found.config.get("model_dir")
    dataset = _dataset_of(found, run)
    asked = differences.traits_of_test(found.config)
    traits = {"test scenes": tuple(sorted(found.scenes)), **asked}
    reasons = differences.of_scenes(dataset, found.scenes)
    reasons += [f"tested with {phrase(name, value)}" for name, value in asked.items()]
    if run:
        method = " + ".join([run.config["model_title"], *objectives.list_labels(run.config)])
        origin = f"seed {run.config.get('seed')}"
        traits |= _traits_of_run(run, weights)
        reasons += differences.of_run(run.config, dataset, found.n_scale)
        reasons += [f"weights {traits['weights']}"] if traits["weights"] else []
    elif found.model.lower() == "bicubic":
        method = origin = "Bicubic"
    else:
        method, origin = found.model, str(weights or path)
        # Nothing says that other weights of that name are another seed's.
        traits |= {"weights": Path(weights).stem if weights else path.stem, "in": str(Path(origin).parent)}
        reasons.append("how it was trained is not recorded")
    if strange := set(method.split(" + ")[1:]) - {objective.label for objective in objectives.OBJECTIVES.values()}:
        raise ValueError(f"{sorted(strange)[0]!r:.40} is no part of a method")
    return Result(
        path=path,
        dataset=dataset,
        scale=found.n_scale,
        protocol=found.protocol,
        method=method,
        traits=traits,
        origin=origin,
        mean=found.mean,
        scenes=found.scenes,
        bands=found.bands,
        wavelengths=found.wavelengths,
        reasons=reasons,
        run=run.config if run else {},
        run_dir=run.folder if run else None,
        seconds=run.seconds(found) if run else None,
    )


def _dataset_of(found: SceneResults, run: Run | None) -> str:
    """As the results say, else as the run, the scenes or the name of released weights tell."""
    told = found.dataset or (run.config.get("dataset_name") if run else None)
    told = told or published.dataset_of_scenes(found.scenes)
    if told:
        return told
    named = re.match(r"(.+?)_[^_]+_Blocks=", Path(found.config.get("model_dir") or "").name)
    return named[1] if named else f"scenes of {Path(found.config.get('test_dir', 'unknown')).name}"


def _traits_of_run(run: Run, weights: str | None) -> Mapping[str, Any]:
    patches = run.config.get("patches", {})
    traits = differences.traits_of(run.config)
    return {
        # Those that it started from; "weights" are those that were scored.
        "start weights": traits.pop("weights"),
        **traits,
        "iterations": run.config.get("iterations"),
        **{f"{stream} patches": count for stream, count in patches.items()},
        "trained on": run.config.get("dataset_name"),
        "weights": ", ".join(filter(None, [run.partial(weights), _of_a_run(weights)])) or None,
        "trained under protocol": run.protocol(),
    }


def _of_a_run(weights: str | None) -> str:
    """What weights of a run's folder are of by their name, where they are not its last ones."""
    return EARLIER_WEIGHTS.get(Path(weights).name, "") if weights else ""


def _add_runs_without_results(report: Report, found: list[Result]) -> None:
    scored = {r.run_dir.resolve() for r in found if r.run_dir}
    for path in sorted(report.folder.rglob("config.json")):
        if path.parent.resolve() not in scored and (path.parent / "log.csv").is_file():
            runs = report.unscored if is_finished(path.parent) else report.unfinished
            runs.append(report.below(path.parent))


def _note_logs(report: Report, found: list[Result]) -> None:
    """Name the logs of runs that cannot be drawn."""
    for folder in dict.fromkeys(r.run_dir for r in found if r.run_dir):
        for path in (folder / "log.csv", folder / "validation.csv"):
            if path.is_file():
                try:
                    curves.columns_in(path)
                except (OSError, ValueError) as error:
                    named = report.below(path) if path.is_relative_to(report.folder) else path
                    report.notes.append(f"{named}: passed over, {error}")


def _add_own_scenes(report: Report) -> None:
    for path in sorted(report.folder.rglob("*_report.png")):
        try:
            report.own_scenes.append(OwnScene(path, *pictures.read_title(path)))
        except (OSError, ValueError) as error:
            report.notes.append(f"{report.below(path)}: passed over, {error}")


def _same_method(result: Result) -> tuple[str, int, str]:
    return result.dataset, result.scale, result.method


def _differ(mean: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two means of the same metrics differ by more than arithmetic does."""
    names = mean.keys() & other.keys()
    return not all(math.isclose(mean[n], other[n], rel_tol=1e-3) for n in names)


def _each_once(same: list[Result], report: Report) -> list[Result]:
    """Results of the same traits by seed, each origin once; what is left out for it is noted."""
    kept: dict[str, Result] = {}
    # A run's own results come before those of a later test of its weights.
    for result in sorted(same, key=lambda r: (r.path.name != "results.json", r.path)):
        first = kept.setdefault(result.origin, result)
        if first.run_dir != result.run_dir or _differ(first.mean, result.mean):
            report.notes.append(
                f"{report.below(result.path)}: left out, of the same settings and seed as {report.below(first.path)}"
            )
    return sorted(kept.values(), key=lambda r: r.run.get("seed", 0))
