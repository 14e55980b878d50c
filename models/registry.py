"""Registry of the networks by name.

The registrations in this package are read without importing its modules: `train --help` needs the settings of all
networks, but not torch. A network defined elsewhere is registered when its module is imported.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.network import Network, State

# Bundled weights, each with the config of its training.
PRETRAINED = Path(__file__).parent.parent / "pretrained"


@dataclass(frozen=True)
class Entry:
    """A registered network.

    Attributes:
        name: value of --model_title.
        source: the class, called as source(n_colors, n_scale, **settings), or its name as "module:class".
        settings: the settings of its architecture, with their published values. `train` has a flag for each: integers,
            floats, text, and switches (bool).
        training: flags of `train` with which it was published, where they differ from DeepShare's.
        prefix: prefix of names of its tensors that no other network has; "" for a network without tensors.
        help: {setting: text for --help}, of settings that no other network has.
    """

    name: str
    source: type[Network] | str
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    help: Mapping[str, str] = field(default_factory=dict)

    @property
    def network_class(self) -> type[Network]:
        """The class; its module is imported if necessary."""
        if not isinstance(self.source, str):
            return self.source
        module, _, name = self.source.partition(":")
        output: type[Network] = getattr(importlib.import_module(module), name)
        return output

    @property
    def published(self) -> dict[str, Any]:
        """The flags of `train` of its publication."""
        return {**self.settings, **self.training}

    def matches(self, state: State) -> bool:
        """Return True if a state_dict has tensors with this network's prefix."""
        return bool(self.prefix) and any(name.startswith(self.prefix) for name in state)


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    prefix: str = "",
    help: Mapping[str, str] | None = None,
) -> Callable[[type[Network]], type[Network]]:
    """Return a class decorator that registers a network; the arguments are the attributes of `Entry`."""

    def decorate(network_class: type[Network]) -> type[Network]:
        _ENTRIES[name] = Entry(
            name, network_class, dict(settings or {}), dict(training or {}), prefix, dict(help or {})
        )
        return network_class

    return decorate


def find_registered(path: Path, module: str) -> None:
    """Enter the networks of a file from the literal arguments of @register; import the file if they are not literals.

    Args:
        path: the file.
        module: its name for import.
    """
    text = path.read_text(encoding="utf-8")
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)] if "@register(" in text else []
    for node in classes:
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
                try:
                    (name,) = map(ast.literal_eval, call.args)
                    keywords: dict[str, Any] = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                except ValueError:
                    importlib.import_module(module)
                    return
                _ENTRIES[name] = Entry(name, f"{module}:{node.name}", **keywords)


def list_names() -> tuple[str, ...]:
    """Return the names of all networks."""
    return tuple(_ENTRIES)


def list_trainable_names() -> tuple[str, ...]:
    """Return the names of the networks that have parameters."""
    return tuple(entry.name for entry in _ENTRIES.values() if entry.prefix)


def list_settings() -> tuple[str, ...]:
    """Return the settings of an architecture that at least one network has."""
    return tuple(dict.fromkeys(setting for entry in _ENTRIES.values() for setting in entry.settings))


def get_entry(name: str) -> Entry:
    """Return the entry of a network.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in _ENTRIES:
        raise ValueError(f"model_title must be one of {', '.join(_ENTRIES)}, not {name!r}")
    return _ENTRIES[name]


def find_entry(state: State) -> Entry | None:
    """Return the network of a state_dict, by the names of its tensors; None if no network has such tensors."""
    return next((entry for entry in _ENTRIES.values() if entry.matches(state)), None)


def build_model(name: str, n_colors: int, n_scale: int, **settings: Any) -> Network:
    """Build a network with fresh weights.

    Args:
        name: one of `list_names()`.
        n_colors: bands of the hyperspectral images.
        n_scale: upsampling factor.
        settings: n_feats, n_subs, n_ovls, n_blocks (width, bands per group, shared bands, blocks per body), use_share,
            global_residual, and settings of a single network: see the networks. A setting that is not given has the
            network's published value. A setting that this network does not have is ignored, so that one recipe can be
            given to all networks.

    Returns:
        A module called as model(ms, lms, modality="spectral" | "rgb"), "rgb" if it has that modality:
        B x C x h x w and B x C x s*h x s*w in 0..1 -> B x C x s*h x s*w.

    Raises:
        ValueError: naming the invalid argument.
    """
    entry = get_entry(name)
    if unknown := settings.keys() - set(list_settings()):
        raise ValueError(f"{', '.join(sorted(unknown))}: no network has such a setting")
    used = {k: settings.get(k, published) for k, published in entry.settings.items()}
    model = entry.network_class(n_colors, n_scale, **used)
    model.settings = used
    return model
