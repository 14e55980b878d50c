"""The version of the program."""

import subprocess
from pathlib import Path

VERSION = "1.0.0"


def git_commit() -> str | None:
    """Return the commit of this copy of the program, None if git does not know it."""
    command = ["git", "-C", str(Path(__file__).parent.parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def describe_version() -> str:
    """Return the version, and the commit if git knows it."""
    commit = git_commit()
    return f"{VERSION} (commit {commit[:12]})" if commit else VERSION
