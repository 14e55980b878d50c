"""Files written atomically, locked while they are made, and refused where they are not regular ones."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from system.errors import UserError

try:
    import fcntl
except ImportError:
    # Windows, which has no such locks.
    fcntl = None  # type: ignore[assignment]


def refuse_irregular(path: str | Path) -> None:
    """Refuse what is no regular file, such as a pipe or a device, before it is opened and waited for.

    Raises:
        UserError: for one that is there.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or device"
        raise UserError(f"{path}: {kind}, where a file is needed; give another path")


@contextlib.contextmanager
def atomic_write(path: str | Path, aside: Path | None = None) -> Iterator[Path]:
    """Write a file whole or not at all: yields a temporary path beside it, moved into place at the end.

    Args:
        path: the file.
        aside: where one that stands there goes, once the new one is on the disk; None: it is replaced.

    Raises:
        UserError: where the disk is full or the folder may not be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync_file(temporary)
            if aside and path.exists():
                os.replace(path, aside)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_file(path: Path) -> None:
    """Flush a file to the disk, as far as its file system can.

    Raises:
        OSError: if the disk is full or fails.
    """
    # Windows syncs only files opened for writing; a copy of a read-only file cannot be opened so.
    with open(path, "r+b" if os.access(path, os.W_OK) else "rb") as f:
        try:
            os.fsync(f.fileno())
        except OSError as error:
            # Any other error: a mount, for example of FUSE, that does not implement fsync.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise


@contextlib.contextmanager
def explain_write_errors(path: str | Path) -> Iterator[None]:
    """Turn a failed write below into the sentence that says which file and what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if _is_disk_full(error, path):
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from error
        if number == errno.EFBIG:
            raise UserError(
                f"{path}: larger than a file may be there (the disk's format, or ulimit -f); choose another folder"
            ) from error
        if isinstance(error, PermissionError) or number == errno.EROFS:
            raise UserError(f"{path}: may not be written; choose another folder or change its permissions") from error
        if isinstance(error, IsADirectoryError):
            raise UserError(f"{path}: a folder stands where the file is to be written; move it away") from error
        if isinstance(error, (NotADirectoryError, FileExistsError)):
            raise UserError(f"{path}: a file stands where a folder is needed; choose another folder") from error
        raise


def _is_disk_full(error: BaseException | None, path: str | Path) -> bool:
    """Whether a failed write found the disk full. HDF5 and torch keep only the words, or lose them too."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < 2**16


@contextlib.contextmanager
def exclusive_lock(path: str | Path) -> Iterator[list[Path]]:
    """Hold a file or folder while it is made, so that no other process makes it too.

    The lock is a file beside it, `.NAME.lock`. The system gives it up when its process ends, in whatever way.

    Yields:
        The folders that were made for the lock. At the end, those that still stand in this list and are empty are
        taken away again.

    Raises:
        UserError: where another process holds it, or the folder may not be written.
    """
    path = Path(path)
    lock = path.absolute().with_name(f".{path.name}.lock")
    made = [folder for folder in lock.parents if not folder.exists()]
    with explain_write_errors(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _try_lock(lock)
    if handle is None:
        raise UserError(f"{path}: another process is at work on it; wait for its end, or choose another place")
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def is_locked(path: str | Path) -> bool:
    """Whether a living process holds a file or folder by `exclusive_lock`."""
    lock = Path(path).absolute().with_name(f".{Path(path).name}.lock")
    if not lock.exists():
        return False
    handle = _try_lock(lock)
    if handle is not None:
        os.close(handle)
    return handle is None


def _try_lock(lock: Path) -> int | None:
    """The open lock file, or None where another process has it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is None:
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            # A file system without locks.
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(handle).st_ino:
                return handle
        # Its last holder has taken the file away meanwhile.
        os.close(handle)
