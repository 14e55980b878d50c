"""The networks by name: each file of this room registers its own, and nobody else keeps a list.

A file that is put beside the others is found by itself (`models/__init__.py` imports all of them); one that lies
elsewhere is known as soon as it is imported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.network import Network, State


@dataclass(frozen=True)
class Entry:
    """What is known of a network.

    Attributes:
        name: as --model_title takes it.
        network_class: called as network_class(n_colors, n_scale, **settings).
        settings: the settings of its architecture that it has, with their published values. `train` has a flag for
            each: whole or other numbers, text, and switches (bool).
        training: flags of `train` with which it was published, where they differ from DeepShare's.
        prefix: how names of its tensors begin and no other's; "" for a network without tensors.
        help: {setting: text for --help}, of settings that no other network has.
    """

    name: str
    network_class: type[Network]
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    help: Mapping[str, str] = field(default_factory=dict)

    @property
    def published(self) -> dict[str, Any]:
        """The flags of `train` with which it was published."""
        return {**self.settings, **self.training}

    def matches(self, state: State) -> bool:
        """Whether a state_dict has tensors that are called as its own."""
        return bool(self.prefix) and any(name.startswith(self.prefix) for name in state)


# Weights that come with the program, each with the config of its training.
PRETRAINED = Path(__file__).parent.parent / "pretrained"

_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    prefix: str = "",
    help: Mapping[str, str] | None = None,
) -> Callable[[type[Network]], type[Network]]:
    """Make a class known under a name; the arguments are the attributes of `Entry`."""

    def decorate(network_class: type[Network]) -> type[Network]:
        _ENTRIES[name] = Entry(
            name, network_class, dict(settings or {}), dict(training or {}), prefix, dict(help or {})
        )
        return network_class

    return decorate


def list_names() -> tuple[str, ...]:
    """All networks."""
    return tuple(_ENTRIES)


def list_trainable_names() -> tuple[str, ...]:
    """The networks that have something to train."""
    return tuple(entry.name for entry in _ENTRIES.values() if entry.prefix)


def list_settings() -> tuple[str, ...]:
    """The settings of an architecture that one network or another has."""
    return tuple(dict.fromkeys(setting for entry in _ENTRIES.values() for setting in entry.settings))


def get_entry(name: str) -> Entry:
    """The entry of a network.

    Raises:
        ValueError: naming those that there are.
    """
    if name not in _ENTRIES:
        raise ValueError(f"model_title is one of {', '.join(_ENTRIES)}, not {name!r}")
    return _ENTRIES[name]


def find_entry(state: State) -> Entry | None:
    """The network that a state_dict is of, by the names of its tensors; None where it is none of these."""
    return next((entry for entry in _ENTRIES.values() if entry.matches(state)), None)


def build_model(name: str, n_colors: int, n_scale: int, **settings: Any) -> Network:
    """Make a network with fresh weights.

    Args:
        name: one of `list_names()`.
        n_colors: bands of the hyperspectral images.
        n_scale: enlargement.
        settings: n_feats, n_subs, n_ovls, n_blocks (width, bands per group, shared bands, blocks per body), use_share,
            global_residual, and those that only one network has: see the networks. Those that are not given are the
            network's published ones; those that it does not have change nothing, so that one recipe can be given to
            all.

    Returns:
        A module called as model(ms, lms, modality="spectral" | "rgb"), "rgb" where it has that modality:
        B x C x h x w and B x C x s*h x s*w in 0..1 -> B x C x s*h x s*w.

    Raises:
        ValueError: naming the argument that cannot be.
    """
    entry = get_entry(name)
    if unknown := settings.keys() - set(list_settings()):
        raise ValueError(f"{', '.join(sorted(unknown))}: no network has such a setting")
    used = {k: settings.get(k, published) for k, published in entry.settings.items()}
    model = entry.network_class(n_colors, n_scale, **used)
    model.settings = used
    return model
