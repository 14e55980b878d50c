"""A scene of a raw download that is not read yet."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.store import Scene
from system.errors import DataError
from system.files import refuse_irregular


@dataclass(frozen=True)
class RawScene:
    """A scene that is not read yet.

    Attributes:
        files: what it is read from, in the order in which they are hashed.
        read: makes the Scene (without source hash); can be sent to another process.
        detail: what else its content depends on (a window, a scale), part of its hash.
    """

    files: tuple[Path, ...]
    read: Callable[[], Scene]
    detail: str = ""

    def compute_sha256(self) -> str:
        """Hash of all that the scene depends on."""
        digest = hashlib.sha256(self.detail.encode())
        for path in self.files:
            digest.update(_hash_file(path))
        return digest.hexdigest()


def _hash_file(path: Path) -> bytes:
    refuse_irregular(path)
    try:
        status = path.stat()
        return _hash_content(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check the file") from error


# Chikusei's images all come from one large file, which is hashed once.
@functools.lru_cache(maxsize=1024)
def _hash_content(path: Path, _changed: int, _size: int) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(2**20):
            digest.update(block)
    return digest.digest()
