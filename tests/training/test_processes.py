"""Launcher's environment: complete, or left over by a job script."""

import pytest

from system.errors import UserError
from training.processes import World
from utils import is_main_process

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def launched(monkeypatch):
    """Set the launcher's variables; those not given are not set."""

    def launched(**given):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return launched


@pytest.mark.parametrize(
    "given", [{}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "1", "RANK": "3"}, {"RANK": "1"}, {"WORLD_SIZE": "many"}]
)
def test_a_single_process_is_the_main_process(launched, given):
    launched(**given)
    world = World()
    assert (world.size, world.rank, is_main_process()) == (1, 0, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "RANK, MASTER_ADDR, MASTER_PORT are not set"),
        ({"RANK": "0"}, "MASTER_ADDR, MASTER_PORT are not set"),
        ({"RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT is not set"),
        ({"RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "RANK is 2"),
        ({"RANK": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "RANK is x"),
    ],
)
def test_an_incomplete_launch_is_refused(launched, given, words):
    launched(WORLD_SIZE="2", **given)
    with pytest.raises(UserError, match=f"WORLD_SIZE is 2 .*{words}; start several processes with torchrun, or unset"):
        World()
