"""Checkpoints of a run: their fields, how they are read, compared with the run that continues, and restored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from config import TrainConfig, affecting
from models.weights import read_checkpoint
from system.errors import UserError, refuse_small_memory
from system.records import SCALAR, Field
from training import meters
from training.inputs import Inputs
from training.meters import LossMeter

RUN = Field(
    dict,
    fields={
        "config": Field(dict, items=Field(SCALAR), fields={"batch_size": Field(int, 1)}),
        "n_colors": Field(int, 1),
        "patches": Field(dict, items=Field(int, 1), fields={"labelled": Field(int, 1)}),
        # SHA-256 of the conversion of bands; earlier versions did not record it.
        "conversion": Field(str, is_optional=True),
        "iteration": Field(int, 0),
        # Mini-batches done of the iteration that follows; earlier versions stopped between iterations only.
        "batches_done": Field(int, 0, is_optional=True),
        "per_epoch": Field(int, 1),
        "processes": Field(int, 1),
        "model": Field(dict, 1, items=Field(torch.Tensor)),
        "averaged": Field(dict, 1, items=Field(torch.Tensor), is_optional=True),
        "optimizer": Field(dict),
        "losses": meters.STATE,
        "seconds": Field(float, 0),
    },
)


def load_run(path: Path) -> dict[str, Any]:
    """Load a checkpoint of a run.

    Returns:
        The fields of RUN, with tensors on the CPU.

    Raises:
        UserError: if the file cannot be read, or is not a checkpoint of a run.
    """
    run = read_checkpoint(path)
    if not isinstance(run, dict) or not run.keys() >= {
        name for name, field in RUN.fields.items() if not field.is_optional
    }:
        raise UserError(
            f"{path}: not a checkpoint of a run; --resume takes a last.pth; give weights to start from by --weights"
        )
    try:
        RUN.check(run)
    except ValueError as error:
        raise _damaged(path, error) from error
    return run


def refuse_other_run(run: Mapping[str, Any], path: Path, inputs: Inputs, processes: int) -> None:
    """Refuse a checkpoint with other settings or data that affect the result.

    Args:
        run: the checkpoint.
        path: its file.
        inputs: the data and settings of the run that continues.
        processes: their number in the run that continues.

    Raises:
        UserError: naming the settings or data that differ.
    """
    now, patches = inputs.config.as_dict(), inputs.patch_counts
    free = affecting(TrainConfig, "place", "speed", "remedy")
    if inputs.config.batch_size * processes == run["config"]["batch_size"] * run["processes"]:
        free.add("batch_size")
    if now["epochs"] > run["config"].get("epochs", 0):
        free.add("epochs")
    changed = [
        f"--{k} {now[k]} (was {v})" for k, v in run["config"].items() if k in now and k not in free and now[k] != v
    ]
    problem = ""
    if changed:
        problem = f"other settings: {', '.join(changed)}; give the same ones, the run's folder as --resume,"
    elif run["patches"] != patches:
        problem = f"{run['patches']} patches, now there are {patches}; give the same data,"
    elif run.get("conversion") not in (None, inputs.conversion_sha256):
        problem = "another conversion of bands; give the same --conversionMat_path,"
    if problem:
        raise UserError(f"{path}: that run had {problem} or start anew without --resume")


def restore_state(run: Mapping[str, Any], path: Path, optimizer: torch.optim.Adam, losses: LossMeter) -> None:
    """Restore Adam's state and the means of the losses; Adam keeps its own settings.

    Args:
        run: the checkpoint.
        path: its file.
        optimizer: of the network that continues, with one group of parameters.
        losses: of the run that continues.

    Raises:
        UserError: if they are not those of this network and these objectives.
    """
    own = optimizer.state_dict()
    try:
        parameters = optimizer.param_groups[0]["params"]
        state = {
            k: {
                "step": saved["step"].reshape(()),
                **{name: _copy_as(parameters[k], saved[name]) for name in ("exp_avg", "exp_avg_sq")},
            }
            for k, saved in run["optimizer"]["state"].items()
        }
        optimizer.load_state_dict({**own, "state": state})
        losses.restore(run["losses"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        refuse_small_memory(path, error)
        raise _damaged(path, f"its optimizer or losses are not those of this network ({error})") from error


def _copy_as(parameter: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """Copy a moment into its parameter's layout: Adam's fused step addresses both alike, beyond the end of others."""
    if moment.shape != parameter.shape:
        raise ValueError(f"a moment of shape {tuple(moment.shape)} for a parameter of shape {tuple(parameter.shape)}")
    return torch.empty_like(parameter).copy_(moment)


def _damaged(path: Path, problem: object) -> UserError:
    return UserError(f"{path}: {problem}; copy it again, or start anew without --resume")
