"""What rows are called: the method, with the traits that tell it from others; and their order."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from evaluation import published
from objectives import OBJECTIVES
from tables.rows import Result, Row

Item = TypeVar("Item")
# Names of test scenes, sorted.
Scenes = tuple[str, ...]
# Scenes named in a row's label.
MOST_NAMED = 3


def telling_traits(results: Iterable[Result]) -> list[str]:
    """Names of the traits that tell results of one method apart, under one protocol at least."""
    results = list(results)
    names = dict.fromkeys(name for r in results for name in r.traits)
    by_protocol = [same for _, same in grouped(results, lambda r: r.protocol)]

    def tells(name: str) -> bool:
        return any(len({str(r.traits.get(name)) for r in same}) > 1 for same in by_protocol)

    # Weights are named wherever they are not simply those of a finished run.
    return [name for name in names if name == "weights" or tells(name)]


def words_of_scenes(results: Iterable[Result]) -> dict[Scenes, str]:
    """What tells sets of test scenes apart that have as many scenes: the first of those that not all of them have."""
    words: dict[Scenes, str] = {}
    for _, same in grouped(results, lambda r: (r.dataset, r.scale, len(r.scenes))):
        sets = sorted({r.traits["test scenes"] for r in same})
        common = set.intersection(*map(set, sets))
        for most in (MOST_NAMED, len(sets[0])):
            named = {scenes: _named([name for name in scenes if name not in common], most) for scenes in sets}
            if len(set(named.values())) == len(sets):
                break
        words |= {scenes: f"{len(scenes)} test scenes with {named[scenes]}" for scenes in sets if named[scenes]}
    return words


def _named(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def label(result: Result, telling: Sequence[str], told_apart: Mapping[Scenes, str]) -> str:
    """The method with the traits that tell it from others; `told_apart` as `words_of_scenes` gives it."""
    known = [(name, result.traits.get(name)) for name in telling]
    words = {"test scenes": told_apart.get(result.traits["test scenes"])}
    suffix = ", ".join(words.get(name) or phrase(name, value) for name, value in known if value not in (None, ""))
    return f"{result.method} ({suffix})" if suffix else result.method


def phrase(name: str, value: Any) -> str:
    """A trait in words."""
    if name == "test scenes":
        return f"{len(value)} test scenes"
    if name == "iterations" or name.endswith(" patches"):
        return f"{value:,} {name}"
    return f"{name} {int(value) if isinstance(value, bool) else value}"


def place(row: Row) -> tuple[Any, ...]:
    """A key that sorts the rows of a table: by network, then by the number and order of its components."""
    network, *components = row.method.split(" + ")
    order = [o.label for o in sorted(OBJECTIVES.values(), key=lambda o: o.rank)]
    networks = published.NETWORKS
    known = networks.index(network) if network in networks else len(networks)
    return known, network, len(components), [order.index(c) for c in components], row.label


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> list[tuple[Any, list[Item]]]:
    """[(key, items of that key)], sorted by the key's text."""
    ordered = sorted(items, key=lambda item: str(key(item)))
    return [(k, list(group)) for k, group in itertools.groupby(ordered, key)]
