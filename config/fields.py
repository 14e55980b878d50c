"""The declaration of settings: conversion from flags, limits and defaults of every command's config."""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from facts import LARGEST_SCALE, PROTOCOLS, get_published_patch
from system.errors import UserError
from utils import as_utf8

Choices = tuple[Any, ...] | Callable[[], tuple[Any, ...]] | None
AnyConfig = TypeVar("AnyConfig", bound="Config")
# Groups of flags, in the order of --help.
GROUPS = ("data", "method", "optimisation", "hardware", "output")


def flag(
    default: Any,
    help: str,
    group: str,
    *,
    required: str = "",
    choices: Choices = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    check: Callable[[Any], None] | None = None,
    affects: str = "result",
) -> Any:
    """A dataclass field: one flag of a command, with its help text and limits.

    Args:
        help: its meaning, without the default, which --help adds.
        group: one of GROUPS.
        required: what to give, for a flag that the command needs.
        choices: the values that it takes, or a function that returns them.
        low, above, high: low <= value, above < value, value <= high.
        check: raises UserError for a value that these do not exclude.
        affects: what another value would change. "result": the numbers that come out. "row": which row of a table they
            belong to. "place": where files are, how the work is watched. "speed": how it is computed. "remedy":
            the result too, but it may change on resuming, since it mends a run that failed.
    """
    limits = {"choices": choices, "low": low, "above": above, "high": high, "check": check}
    about = {"help": help, "group": group, "required": required, "affects": affects}
    return dataclasses.field(default=default, metadata={**about, **limits})


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of the commands' settings: converts flags to values and checks them."""

    # Remedy for a command that runs out of memory.
    IF_MEMORY_FAILS: ClassVar[str] = "close other programs, or take smaller images"
    # The flag whose name may be omitted.
    POSITIONAL: ClassVar[str | None] = None
    # True if the command has --config.
    TAKES_FILE: ClassVar[bool] = False

    @classmethod
    def from_flags(cls: type[AnyConfig], flags: Mapping[str, Any]) -> AnyConfig:
        """Build from a dict of raw flag values: numbers, strings, or tuples of them.

        Raises:
            UserError: naming the flag, the value received and the accepted values.
        """
        config = cls(**cls.convert(flags))
        config.check_limits("--")
        for field in dataclasses.fields(cls):
            if field.metadata["required"] and not getattr(config, field.name):
                raise UserError(f"--{field.name} is missing; give {field.metadata['required']}")
        config.validate()
        return config

    @classmethod
    def convert(cls, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Convert raw flag values to the types of their fields.

        Raises:
            UserError: for an unknown flag, or a value of another type.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in flags:
            if name not in fields:
                raise UserError(unknown_flag(name, fields))
        return {name: _converted(fields[name], value) for name, value in flags.items()}

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            UserError: for a combination that cannot work.
        """

    def check_limits(self, prefix: str = "") -> None:
        """Refuse values beyond the choices and limits of their fields.

        Args:
            prefix: of the names in messages; "--" for flags.

        Raises:
            UserError: naming the field, its limit and the value.
        """
        for field in dataclasses.fields(self):
            _check_limits_of(field, getattr(self, field.name), prefix + field.name)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for config.json and checkpoints."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: as_utf8(value) if isinstance(value, str) else value for name, value in values}


@dataclasses.dataclass(frozen=True)
class _File:
    config: str = flag(
        "",
        "settings from a file: a run's config.json, or YAML with flags as keys; flags of the command line override it",
        "data",
        affects="place",
    )


def declared_flags(config_class: type[Config]) -> list[dataclasses.Field[Any]]:
    """Return the flags of a command, --config included, in the order of their groups."""
    fields = [*dataclasses.fields(config_class), *(dataclasses.fields(_File) if config_class.TAKES_FILE else ())]
    return sorted(fields, key=lambda field: GROUPS.index(field.metadata["group"]))


def asked_or_published_patch(dataset_name: str, n_scale: int, size: int, stride: int) -> tuple[int, int]:
    """Return (size, stride) of patches in HR pixels; the published value in place of a 0."""
    published_size, published_stride = get_published_patch(dataset_name, n_scale)
    return size or published_size, stride or published_stride


def check_patch(patch_size: int, patch_stride: int, n_scale: int) -> None:
    """Refuse patches that do not start and end on whole LR pixels."""
    for name, value in (("patch_size", patch_size), ("patch_stride", patch_stride)):
        if value % n_scale:
            raise UserError(f"--{name} ({value}) must be a multiple of --n_scale ({n_scale})")


def check_dataset_name(name: str) -> None:
    """Refuse a name that cannot be part of a file's."""
    if not re.fullmatch(r"[\w.+ -]+", name):
        raise UserError(f"--dataset_name {name!r}: it becomes part of file names; use letters, digits, _ and -")


def check_gpus(gpus: str) -> None:
    """Refuse text that does not list device numbers."""
    if gpus and not all(re.fullmatch(r"[0-9]{1,4}", part.strip()) for part in gpus.split(",")):
        raise UserError(f"--gpus takes device numbers such as 0 or 0,1, not {gpus!r}")


def affecting(config_class: type[Config], *kinds: str) -> set[str]:
    """Names of the settings that affect one of these kinds of things; see `flag`."""
    return {f.name for f in dataclasses.fields(config_class) if f.metadata["affects"] in kinds}


def precision_flag() -> str:
    """--precision of commands that apply a network."""
    return flag(
        "fp32",
        "arithmetic of the network: fp32; tf32, faster on CUDA (fp32 on a CPU); bf16, faster still, also on CPUs that "
        "support it",
        "hardware",
        choices=("fp32", "tf32", "bf16"),
    )


def bands_flag() -> str:
    """--bands of commands that apply a network to scenes of any bands."""
    return flag(
        "auto",
        "use of the bands. auto: exact if the scene has the network's bands, else windows; exact: refuse other bands; "
        "windows: overlapping windows of neighbouring bands, for any sensor; resample: spectral resampling to the "
        "network's wavelengths, fast, but without detail beyond their range",
        "method",
        choices=("auto", "exact", "windows", "resample"),
    )


def taper_flag() -> float:
    """--taper of commands with --bands resample."""
    return flag(
        50.0,
        "with --bands resample, nm beyond the network's range over which its detail fades out; 0: at once",
        "method",
        low=0,
        high=1e4,
    )


def protocol_flag() -> str:
    """--protocol of commands that score a network."""
    return flag(
        "",
        "scaling of values and ERGAS; without it, the store's protocol",
        "method",
        choices=("", *PROTOCOLS),
        affects="row",
    )


def self_ensemble_flag() -> bool:
    """--self_ensemble of commands that apply a network."""
    return flag(False, "1: average over 8 flips and rotations; takes 8 times as long", "method")


def back_projection_flag() -> int:
    """--back_projection of commands that apply a network."""
    return flag(0, "number of iterative back-projection steps", "method", low=0)


def value_scale_flag(of: str = "") -> Any:
    """--value_scale of commands that read users' scenes."""
    return flag(
        0.0,
        f"{of}full-scale value, the number that corresponds to reflectance 1 (10000 for most products); 0: the file's, "
        "else the maximum of uint8, uint16, int8 or int16",
        "data",
        low=0,
        high=LARGEST_SCALE,
        check=check_value_scale,
    )


def nodata_flag(of: str = "") -> Any:
    """--nodata of commands that read users' scenes."""
    return flag(
        "",
        f"{of}nodata value, unless the file declares one; nan: only NaN, negative values are measured",
        "data",
        check=check_nodata,
    )


def wavelengths_flag(of: str = "") -> Any:
    """--wavelengths of commands that read users' scenes."""
    return flag(
        "",
        f"{of}band centres in nm, unless the file contains them: FIRST,LAST of evenly spaced bands; all of them, "
        "separated by commas; or a text file with all of them",
        "data",
    )


def key_flag(of: str = "") -> Any:
    """--key of commands that read users' scenes."""
    return flag("", f"{of}name of the array in .mat, .npz and HDF5 files with several cubes", "data")


def band_axis_flag(of: str = "") -> Any:
    """--band_axis of commands that read users' scenes."""
    return flag(-1, f"{of}axis of the bands; -1: detect", "data", choices=(-1, 0, 1, 2))


def cuda_flag() -> Any:
    """--cuda of several commands."""
    return flag(
        "auto", "1: CUDA; 0: CPU; auto: CUDA if available", "hardware", choices=("auto", "1", "0"), affects="place"
    )


def gpus_flag() -> Any:
    """--gpus of several commands."""
    return flag(
        "", "number of the CUDA device; without it, the first one", "hardware", check=check_gpus, affects="place"
    )


def unknown_flag(name: str, known: Iterable[str]) -> str:
    """Return the sentence that refuses an unknown flag, with the most similar known one."""
    by_lower_case = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    remedy = f"did you mean --{by_lower_case[near[0]]}?" if near else "--help lists the flags"
    return f"--{name} is not a flag of this command; {remedy}"


def number(value: Any) -> float | None:
    """Return a value or its text as a finite number, true and false as 1 and 0; None if it is not a number."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < float("inf") else None


def check_nodata(text: str) -> None:
    """Refuse text that is not a nodata value; "" is accepted: no nodata value."""
    is_word = text.lower() in ("true", "false")
    if text.lower() not in ("", "nan") and (is_word or number(text) is None):
        raise UserError(f"--nodata takes a number or nan, not {text!r}")


def check_value_scale(value: float) -> None:
    """Refuse full-scale values that no camera has."""
    if value and value < 1 / LARGEST_SCALE:
        raise UserError(f"--value_scale is 0 (the file's) or at least {1 / LARGEST_SCALE:g}, not {value!r}")


def _converted(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return a raw flag value in the field's type."""
    name = field.name
    if field.type is str:
        value = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        if "\0" in value:
            raise UserError(f"--{name} {value!r}: has a NUL in it; give it without")
        if not value.strip() and field.default and not choices_of(field):
            raise UserError(f"--{name} is empty; give a value, or leave the flag out for {field.default}")
        value = os.path.expanduser(value) if value.startswith("~") else value
        if value.startswith("~") and not os.path.exists(value):
            raise UserError(f"--{name} {value}: there is no such user or file; give the path in full")
    else:
        found = number(value)
        if field.type is bool and found not in (0, 1):
            raise UserError(f"--{name} takes 1 or 0, not {value!r}")
        # Beyond 2**53 a float no longer tells whole numbers apart.
        if found is None or (field.type is int and (found % 1 or abs(found) > 2**53)):
            raise UserError(f"--{name} takes a {'whole ' if field.type is int else ''}number, not {value!r}")
        value = field.type(found)  # type: ignore[operator]
    return value


def _check_limits_of(field: dataclasses.Field[Any], value: Any, name: str) -> None:
    """Refuse a value beyond its field's choices and limits; NaN is beyond all limits."""
    choices = choices_of(field)
    if choices and value not in choices:
        raise UserError(f"{name} takes {_one_of(choices, field.default)}, not {value!r}")
    low, above, high = (field.metadata[limit] for limit in ("low", "above", "high"))
    if low is not None and not value >= low:
        raise UserError(f"{name} is at least {low}, not {value!r}")
    if above is not None and not value > above:
        raise UserError(f"{name} is above {above}, not {value!r}")
    if high is not None and not value <= high:
        raise UserError(f"{name} is at most {high:g}, not {value!r}")
    if check := field.metadata["check"]:
        check(value)


def choices_of(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    """Return the values that a flag takes; () if it takes any of its type."""
    choices = field.metadata["choices"]
    return (choices() if callable(choices) else choices) or ()


def _one_of(choices: Iterable[Any], default: Any) -> str:
    # "" and 0 as a default mean that nothing is chosen.
    words = [str(c) for c in choices if c != "" and not (c == default == 0)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
