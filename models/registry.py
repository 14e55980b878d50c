"""Registry of the networks by name.

`models/__init__.py` imports every module of this package, and each registers its network. A network defined elsewhere
is registered when its module is imported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.network import Network, State


@dataclass(frozen=True)
class Entry:
    """A registered network.

    Attributes:
        name: value of --model_title.
        network_class: called as network_class(n_colors, n_scale, **settings).
        settings: settings of its architecture with their published values. `train` has a flag for each: int, float,
            str or bool.
        training: flags of `train` of its publication, if they differ from DeepShare's.
        prefix: prefix of tensor names that only this network has; "" for a network without tensors.
        help: {setting: text for --help} of settings that no other network has.
    """

    name: str
    network_class: type[Network]
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    help: Mapping[str, str] = field(default_factory=dict)

    @property
    def published(self) -> dict[str, Any]:
        """The flags of `train` of its publication."""
        return {**self.settings, **self.training}

    def matches(self, state: State) -> bool:
        """Return True if a state_dict has tensors with the prefix of this network."""
        return bool(self.prefix) and any(name.startswith(self.prefix) for name in state)


# Bundled weights, each with the config of its training.
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
    """Return a class decorator that registers a network; the arguments are the attributes of `Entry`."""

    def decorate(network_class: type[Network]) -> type[Network]:
        _ENTRIES[name] = Entry(
            name, network_class, dict(settings or {}), dict(training or {}), prefix, dict(help or {})
        )
        return network_class

    return decorate


def list_names() -> tuple[str, ...]:
    """Return the names of all networks."""
    return tuple(_ENTRIES)


def list_trainable_names() -> tuple[str, ...]:
    """Return the names of the networks with parameters."""
    return tuple(entry.name for entry in _ENTRIES.values() if entry.prefix)


def list_settings() -> tuple[str, ...]:
    """Return the names of the settings of all networks."""
    return tuple(dict.fromkeys(setting for entry in _ENTRIES.values() for setting in entry.settings))


def get_entry(name: str) -> Entry:
    """Return the entry of a network.

    Raises:
        ValueError: for an unknown name, with a list of all names.
    """
    if name not in _ENTRIES:
        raise ValueError(f"model_title must be one of {', '.join(_ENTRIES)}, not {name!r}")
    return _ENTRIES[name]


def find_entry(state: State) -> Entry | None:
    """Return the network of a state_dict, by the names of its tensors; None if no network matches."""
    return next((entry for entry in _ENTRIES.values() if entry.matches(state)), None)


def build_model(name: str, n_colors: int, n_scale: int, **settings: Any) -> Network:
    """Build a network with random weights.

    Args:
        name: one of `list_names()`.
        n_colors: bands of the hyperspectral images.
        n_scale: upsampling factor.
        settings: n_feats, n_subs, n_ovls, n_blocks (width, bands per group, shared bands, blocks per body), use_share,
            global_residual, and the settings of single networks. Missing settings have the network's published
            values; settings of other networks are ignored, so that one recipe serves all networks.

    Returns:
        A module called as model(ms, lms, modality="spectral" | "rgb"), "rgb" only if it has that modality:
        B x C x h x w and B x C x s*h x s*w in 0..1 -> B x C x s*h x s*w.

    Raises:
        ValueError: naming the argument that is invalid.
    """
    entry = get_entry(name)
    if unknown := settings.keys() - set(list_settings()):
        raise ValueError(f"{', '.join(sorted(unknown))}: no network has such a setting")
    used = {k: settings.get(k, published) for k, published in entry.settings.items()}
    model = entry.network_class(n_colors, n_scale, **used)
    model.settings = used
    return model
