"""Settings from a file: the flag --config."""

import json
import os
import reprlib
from pathlib import Path
from typing import Any

from config.fields import Config
from config.train import TrainConfig
from system.errors import UserError

# Keys of config.json, and of the .json that `adapt` writes, beside the settings of `train`.
RECORDED = {
    *("n_colors", "iterations", "patches", "rgb_is_halved", "parameters", "device", "processes", "versions"),
    *("git_commit", "started_from", "seconds", "training_seconds", "value_scale", "adapted"),
}


def read_flags(path: str, config_class: type[Config]) -> dict[str, Any]:
    """Return the settings of a file as values of flags.

    Args:
        path: config.json of a run, or YAML with flags as keys. From a config.json, `train` takes all settings but
            `resume`; other commands take those that they share with `train`, except `precision`, whose default is for
            training there.
        config_class: of the command.

    Raises:
        UserError: for an unreadable file, an unknown key, or a value of another type.
    """
    file = Path(os.path.expanduser(path))
    flags, is_record = _parse(file)
    if is_record:
        known = TrainConfig.__dataclass_fields__
        unknown = flags.keys() - RECORDED - known.keys()
        kept = config_class.__dataclass_fields__.keys() - {"resume" if config_class is TrainConfig else "precision"}
        flags = {name: value for name, value in flags.items() if name in kept or name in unknown}
    for name, value in flags.items():
        if not all(isinstance(item, (str, int, float)) for item in (value if isinstance(value, list) else [value])):
            raise UserError(f"--config {file}: {name} takes a number or text, not {reprlib.repr(value)}")
    try:
        return config_class.convert(flags)
    except UserError as error:
        raise UserError(f"--config {file}: {error}") from error


def _parse(file: Path) -> tuple[dict[str, Any], bool]:
    """Return the content of a JSON or YAML file, and True if it is a config.json of this program."""
    remedy = "give the config.json of a run, or a YAML file such as 'epochs: 5'"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise UserError(f"--config {file}: {reason}; {remedy}") from error
    try:
        content, is_json = json.loads(text), True
    except ValueError:
        import yaml

        try:
            # Scalars stay text, so that their types are those of the flags.
            content, is_json = yaml.load(text, yaml.BaseLoader), False
        except yaml.YAMLError as error:
            where = f", line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
            raise UserError(f"--config {file}{where}: is neither JSON nor YAML; {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {file}: contains a {type(content).__name__}, not keys with values; {remedy}")
    return content, is_json and "iterations" in content
