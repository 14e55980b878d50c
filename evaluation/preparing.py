"""The command `prepare`: stores written, exported and checked, as asked."""

from pathlib import Path

from config import PrepareConfig
from data.export import export
from data.prepare import prepare as write_stores
from evaluation.bicubic_check import check_stores
from system.errors import Interrupted, get_signal, name_flag


def prepare(config: PrepareConfig) -> list[Path]:
    """Write the stores, export and check them as the config specifies; return the paths of the files written.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when the scenes that are done are safe.
    """
    try:
        with name_flag("raw_dir", config.raw_dir), name_flag("unlabelled_lr_dir", config.unlabelled_lr_dir):
            stores, written = write_stores(config)
    except KeyboardInterrupt as stop:
        raise Interrupted(get_signal(stop), "finished scenes are kept; repeat the command to resume") from stop
    if config.format == "mat":
        written += export(stores, config.n_scale, config.patch, config.protocol)
    if config.check:
        check_stores(stores, config.dataset_name, config.n_scale)
    return written
