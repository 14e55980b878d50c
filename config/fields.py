"""How settings are declared, read from a command line, checked and shown: the machinery of every command's config."""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from facts import LARGEST_SCALE, get_published_patch
from system.errors import UserError
from utils import as_utf8

Choices = tuple[Any, ...] | Callable[[], tuple[Any, ...]] | None
AnyConfig = TypeVar("AnyConfig", bound="Config")


def flag(
    default: Any,
    help: str,
    *,
    choices: Choices = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    affects: str = "result",
) -> Any:
    """A dataclass field: one flag of a command, with its help text and limits.

    Args:
        choices: the values that it takes, or a function that gives them.
        low, above, high: low <= value, above < value, value <= high.
        affects: what another value would change. "result": the numbers that come out. "row": which row of a table they
            belong to. "place": where files are, how the work is watched. "speed": how it is computed. "remedy":
            the result too, but it may change on resuming, since it mends a run that failed.
    """
    limits = {"choices": choices, "low": low, "above": above, "high": high}
    return dataclasses.field(default=default, metadata={"help": help, "affects": affects, **limits})


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of the commands' settings: converts what the command line gives and checks it."""

    # What the user may try where a command runs out of memory.
    IF_MEMORY_FAILS: ClassVar[str] = "close other programs, or take smaller images"
    # The flag whose name may be left out.
    POSITIONAL: ClassVar[str | None] = None

    @classmethod
    def from_flags(cls: type[AnyConfig], flags: Mapping[str, Any]) -> AnyConfig:
        """Build from a dict of raw flag values (numbers, strings, tuples as fire parses them).

        Raises:
            UserError: naming the flag, the value received and what it takes.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in flags:
            if name not in fields:
                raise UserError(unknown_flag(name, fields))
        config = cls(**{name: _converted(fields[name], value) for name, value in flags.items()})
        config.validate()
        return config

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            UserError: for a combination that cannot work.
        """

    def check_limits(self) -> None:
        """Refuse values beyond their setting's choices and limits, for settings that came by no command line."""
        for field in dataclasses.fields(self):
            choices = choices_of(field)
            value = getattr(self, field.name)
            if choices and value not in choices:
                raise UserError(f"{field.name} is one of {', '.join(map(str, choices))}, not {value!r}")
            _refuse_beyond(field, value, field.name)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for config.json and checkpoints."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: as_utf8(value) if isinstance(value, str) else value for name, value in values}


def asked_or_published_patch(dataset_name: str, n_scale: int, size: int, stride: int) -> tuple[int, int]:
    """(size, stride) in HR pixels as asked, where they are not 0, else the published ones."""
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
    """Refuse what are no device numbers."""
    if gpus and not all(re.fullmatch(r"[0-9]{1,4}", part.strip()) for part in gpus.split(",")):
        raise UserError(f"--gpus takes device numbers such as 0 or 0,1, not {gpus!r}")


def affecting(config_class: type[Config], *kinds: str) -> set[str]:
    """Names of the settings that affect one of these kinds of things; see `flag`."""
    return {f.name for f in dataclasses.fields(config_class) if f.metadata["affects"] in kinds}


def precision_flag() -> str:
    """--precision of what uses a network."""
    return flag(
        "fp32",
        "arithmetic of the network: fp32; tf32, which is faster on CUDA (fp32 on a CPU); bf16, faster still, also on "
        "CPUs that have it",
        choices=("fp32", "tf32", "bf16"),
    )


def bands_flag() -> str:
    """--bands of commands that apply a network to scenes of any bands."""
    return flag(
        "auto",
        "auto: as trained if the scene has the network's bands, else windows; exact: refuse other bands; windows: "
        "overlapping windows of neighbouring bands, of any sensor; resample: interpolate the spectra to the network's "
        "wavelengths, fast, but without detail beyond their range",
        choices=("auto", "exact", "windows", "resample"),
    )


def taper_flag() -> float:
    """--taper, which goes with --bands resample."""
    return flag(
        50.0,
        "with --bands resample, nm beyond the network's range over which its detail fades out; 0: at once",
        low=0,
        high=1e4,
    )


def value_scale_flag(of: str = "") -> Any:
    """--value_scale of what reads scenes of one's own."""
    return flag(
        0.0,
        f"{of}full-scale value, the number that corresponds to reflectance 1 (10000 for most products); 0: the file's, "
        "else the maximum of uint8, uint16, int8 or int16",
        low=0,
        high=LARGEST_SCALE,
    )


def nodata_flag(of: str = "") -> Any:
    """--nodata of what reads scenes of one's own."""
    return flag(
        "",
        f"{of}value that marks missing data, unless the file declares one; nan: no other value does, negative ones are "
        "measured",
    )


def wavelengths_flag(of: str = "") -> Any:
    """--wavelengths of what reads scenes of one's own."""
    return flag(
        "",
        f"{of}where the file does not say: first,last in nm of evenly spaced bands; all of them, with commas between; "
        "or a text file that holds all of them",
    )


def key_flag(of: str = "") -> Any:
    """--key of what reads scenes of one's own."""
    return flag("", f"{of}name of the array in .mat, .npz and HDF5 files; not needed where there is one cube")


def band_axis_flag(of: str = "") -> Any:
    """--band_axis of what reads scenes of one's own."""
    return flag(-1, f"{of}axis of the bands, 0, 1 or 2; -1: found", choices=(-1, 0, 1, 2))


def cuda_flag() -> Any:
    """--cuda, as several commands have it."""
    return flag("auto", "1: CUDA, 0: CPU, auto: CUDA where there is one", choices=("auto", "1", "0"), affects="place")


def gpus_flag() -> Any:
    """--gpus, as several commands have it."""
    return flag("", "number of the CUDA device to use; if not given, the first one", affects="place")


def unknown_flag(name: str, known: Iterable[str]) -> str:
    """The sentence for a flag that does not exist, with the nearest one that does."""
    by_lower_case = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    remedy = f"did you mean --{by_lower_case[near[0]]}?" if near else "--help lists the flags"
    return f"--{name} is not a flag of this command; {remedy}"


def number(value: Any) -> float | None:
    """The finite number that a value is or spells, with true and false as 1 and 0; None if it is none."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < float("inf") else None


def check_nodata(text: str) -> None:
    """Refuse what cannot mark missing data; nothing says nothing."""
    is_word = text.lower() in ("true", "false")
    if text.lower() not in ("", "nan") and (is_word or number(text) is None):
        raise UserError(f"--nodata takes a number or nan, not {text!r}")


def check_value_scale(value: float) -> None:
    """Refuse what no camera's number 1 is."""
    if value and value < 1 / LARGEST_SCALE:
        raise UserError(f"--value_scale is 0 (as the file says) or at least {1 / LARGEST_SCALE:g}, not {value!r}")


def flags_table(config_class: type[Config]) -> str:
    """The flags of a command as a Markdown table, as docs/flags.md has it."""
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for f in dataclasses.fields(config_class):
        default = int(f.default) if isinstance(f.default, bool) else f.default
        help = f.metadata["help"].replace("|", "\\|")
        lines.append(f"| `--{f.name}` | {f'`{default}`' if default != '' else ''} | {help} |")
    return "\n".join(lines)


def _converted(field: dataclasses.Field[Any], value: Any) -> Any:
    """A raw flag value in the field's type and within its limits."""
    name = field.name
    kind: Any = field.type
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
        value = kind(found)
    choices = choices_of(field)
    if choices and value not in choices:
        raise UserError(f"--{name} takes {_one_of(choices, field.default)}, not {value!r}")
    _refuse_beyond(field, value, f"--{name}")
    return value


def _refuse_beyond(field: dataclasses.Field[Any], value: Any, name: str) -> None:
    """Refuse a value beyond its field's limits; NaN is beyond all."""
    low, above, high = (field.metadata[limit] for limit in ("low", "above", "high"))
    if low is not None and not value >= low:
        raise UserError(f"{name} is at least {low}, not {value!r}")
    if above is not None and not value > above:
        raise UserError(f"{name} is above {above}, not {value!r}")
    if high is not None and not value <= high:
        raise UserError(f"{name} is at most {high:g}, not {value!r}")


def choices_of(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    """The values that a flag takes; () where others limit it."""
    choices = field.metadata["choices"]
    return (choices() if callable(choices) else choices) or ()


def _one_of(choices: Iterable[Any], default: Any) -> str:
    # "" and 0 as a default say that nothing was chosen.
    words = [str(c) for c in choices if c != "" and not (c == default == 0)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
