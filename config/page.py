"""The page of all flags, docs/flags.md."""

from config import (
    AdaptConfig,
    DemoConfig,
    InfoConfig,
    PredictConfig,
    PrepareConfig,
    TablesConfig,
    TestConfig,
    TrainConfig,
    flags_table,
)

CONFIGS = {
    "prepare": PrepareConfig,
    "info": InfoConfig,
    "train": TrainConfig,
    "test": TestConfig,
    "predict": PredictConfig,
    "tables": TablesConfig,
    "demo": DemoConfig,
    "adapt": AdaptConfig,
}
INTRODUCTION = """# Flags

Made by `python -m config > docs/flags.md`; `python mains.py COMMAND --help` shows the same. Switches take 1 or 0.
Exit codes: 0, done; 2, something in what was given is wrong: one sentence, wherever it can be before work has begun;
130 and 143, stopped by Ctrl-C or SIGTERM (`train` makes a checkpoint first, and says so); 1, anything else.
"""


def flags_page() -> str:
    """Markdown: a section with the table of flags for every command."""
    sections = [
        f"## {command}\n\n{config_class.__doc__}\n\n{flags_table(config_class)}\n"
        for command, config_class in CONFIGS.items()
    ]
    return "\n".join([INTRODUCTION, *sections])
