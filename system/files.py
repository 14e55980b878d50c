"""Atomic writes, advisory locks, and refusal of files that are not regular."""

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
    # Windows has no fcntl; no locks are taken.
    fcntl = None  # type: ignore[assignment]


def refuse_irregular(path: str | Path) -> None:
    """Refuse folders, pipes and devices, since opening a pipe or device may block.

    Raises:
        UserError: if the path exists and is not a regular file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or device"
        raise UserError(f"{path}: {kind}, not a regular file; give another path")


@contextlib.contextmanager
def atomic_write(path: str | Path, aside: Path | None = None) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path beside it, which replaces the file at the end.

    Args:
        path: the file.
        aside: path to which an existing file is moved once the new file is on the disk; None: it is replaced.

    Raises:
        UserError: if the disk is full or the folder is not writable.
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
    """Convert write errors within the context to a UserError with the file and the remedy."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if _is_disk_full(error, path):
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from error
        if number == errno.EFBIG:
            raise UserError(
                f"{path}: exceeds the largest file size of the file system or of ulimit -f; choose another folder"
            ) from error
        if isinstance(error, PermissionError) or number == errno.EROFS:
            raise UserError(f"{path}: not writable; choose another folder or change its permissions") from error
        if isinstance(error, IsADirectoryError):
            raise UserError(f"{path}: is a folder, so that the file cannot be written; move it away") from error
        if isinstance(error, (NotADirectoryError, FileExistsError)):
            raise UserError(f"{path}: a file has the name of a folder in this path; choose another folder") from error
        raise


def _is_disk_full(error: BaseException | None, path: str | Path) -> bool:
    """Return True if a write failed on a full disk: HDF5 and torch may report neither errno nor its message."""
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
    """Hold an advisory lock on a file or folder, by a file `.NAME.lock` beside it.

    The operating system releases the lock when the process ends for any reason.

    Yields:
        The folders created for the lock file. At the end, those that are still in this list and are empty are removed.

    Raises:
        UserError: if another process holds the lock, or the folder is not writable.
    """
    path = Path(path)
    lock = path.absolute().with_name(f".{path.name}.lock")
    created = [folder for folder in lock.parents if not folder.exists()]
    with explain_write_errors(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _try_lock(lock)
    if handle is None:
        raise UserError(f"{path}: locked by another process; wait until it ends, or choose another path")
    try:
        yield created
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)
        with contextlib.suppress(OSError):
            for folder in created:
                folder.rmdir()


def is_locked(path: str | Path) -> bool:
    """Return True if a running process holds the `exclusive_lock` of a file or folder."""
    lock = Path(path).absolute().with_name(f".{Path(path).name}.lock")
    if not lock.exists():
        return False
    handle = _try_lock(lock)
    if handle is not None:
        os.close(handle)
    return handle is None


def _try_lock(lock: Path) -> int | None:
    """Lock a lock file; return its descriptor, or None if another process holds it."""
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
            # The file system does not support locks.
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(handle).st_ino:
                return handle
        # The last holder deleted the file in the meantime: try again.
        os.close(handle)
