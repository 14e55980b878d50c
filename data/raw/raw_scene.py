"""Raw scenes before they are read."""

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
        files: its files, in the order of hashing.
        read: returns the Scene without source hash; can be pickled for another process.
        detail: other inputs of its content (a window, a scale), part of its hash.
    """

    files: tuple[Path, ...]
    read: Callable[[], Scene]
    detail: str = ""

    def compute_sha256(self) -> str:
        """Return the hash of the files and the detail.

        Raises:
            DataError: for an unreadable file.
        """
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


# Cached, since all images of Chikusei are read from one large file.
@functools.lru_cache(maxsize=1024)
def _hash_content(path: Path, _changed: int, _size: int) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(2**20):
            digest.update(block)
    return digest.digest()
