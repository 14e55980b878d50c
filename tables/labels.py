"""Labels of rows: the method with the traits that distinguish it; and the order of rows."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from evaluation import published
from objectives import OBJECTIVES
from tables.report import Result, Row
from tables.runs import traits_of_test

Item = TypeVar("Item")
# Trait of bundled weights: their name, in place of the settings.
BUNDLED = "bundled weights"
# Scenes named in a label.
MOST_NAMED = 3


def label_results(results: Sequence[Result]) -> dict[Result, str]:
    """Return {result: label of its row}; a row has the same label under both protocols."""
    scene_sets = _describe_scene_sets(results)
    labels: dict[Result, str] = {}
    for _, same in group_by(results, lambda r: (r.dataset, r.found.n_scale, r.method)):
        for counts_missing in (False, True):
            names = _distinguishing_traits(same, counts_missing)
            named = {result: _label_result(result, names, scene_sets) for result in same}
            rows = {(r.found.protocol, str(sorted(r.traits.items(), key=str))) for r in same}
            if len({(r.found.protocol, label) for r, label in named.items()}) == len(rows):
                break
        labels |= named
    return labels


def _label_result(result: Result, names: Sequence[str], scene_sets: Mapping[tuple[str, ...], str]) -> str:
    traits = [(name, result.traits[name]) for name in names if result.traits.get(name) not in (None, "")]
    known = {"test scenes": scene_sets.get(result.traits["test scenes"])}
    suffix = ", ".join(known.get(name) or describe_trait(name, value) for name, value in traits)
    return f"{result.method} ({suffix})" if suffix else result.method


def _distinguishing_traits(results: Sequence[Result], counts_missing: bool) -> list[str]:
    """Return the names of the traits in which results of one method differ under one protocol at least.

    A setting that a result does not record is a difference only on request; a missing flag of `test` has its default.
    """
    names = dict.fromkeys(name for r in results for name in r.traits)
    flags = {name for r in results for name in traits_of_test(r.found.config)}
    by_protocol = [same for _, same in group_by(results, lambda r: r.found.protocol)]

    def distinguishes(name: str) -> bool:
        has_default = counts_missing or name in flags
        recorded = [[r for r in same if has_default or r.traits.get(name) is not None] for same in by_protocol]
        return any(len({str(r.traits.get(name)) for r in same}) > 1 for same in recorded)

    # Weights are named unless they are the final ones of a finished run.
    named = [name for name in names if name in ("weights", BUNDLED) or distinguishes(name)]
    return sorted(named, key=lambda name: name != BUNDLED)


def _describe_scene_sets(results: Iterable[Result]) -> dict[tuple[str, ...], str]:
    """Return {scenes: words} for sets of equally many test scenes: the first scenes that are not in all sets."""
    words: dict[tuple[str, ...], str] = {}
    for _, same in group_by(results, lambda r: (r.dataset, r.found.n_scale, len(r.found.scenes))):
        sets = sorted({r.traits["test scenes"] for r in same})
        common = set.intersection(*map(set, sets))
        for most in (MOST_NAMED, len(sets[0])):
            named = {scenes: _shorten([name for name in scenes if name not in common], most) for scenes in sets}
            if len(set(named.values())) == len(sets):
                break
        words |= {scenes: f"{len(scenes)} test scenes with {named[scenes]}" for scenes in sets if named[scenes]}
    return words


def _shorten(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def describe_trait(name: str, value: Any) -> str:
    """Return a trait in words."""
    if name == BUNDLED:
        return str(value)
    if name == "test scenes":
        return f"{len(value)} test scenes"
    if name == "iterations" or name.endswith(" patches"):
        return f"{value:,} {name}"
    return f"{name} {int(value) if isinstance(value, bool) else value}"


def sort_key(row: Row) -> tuple[Any, ...]:
    """Return a key that sorts the rows of a table by network, then by the number and order of its components."""
    network, *components = row.method.split(" + ")
    order = [o.label for o in sorted(OBJECTIVES.values(), key=lambda o: o.rank)]
    networks = published.NETWORKS
    known = networks.index(network) if network in networks else len(networks)
    return known, network, len(components), [order.index(c) for c in components], row.label


def group_by(items: Iterable[Item], key: Callable[[Item], Any]) -> list[tuple[Any, list[Item]]]:
    """Return [(key, items of that key)], sorted by the key's text."""
    ordered = sorted(items, key=lambda item: str(key(item)))
    return [(k, list(group)) for k, group in itertools.groupby(ordered, key)]
