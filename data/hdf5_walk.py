"""A process that goes through the inside of HDF5 files and answers: what their library hangs or dies of, it does here.

Started by `data.hdf5_structure` as `python -m data.hdf5_walk`: says that it is ready, takes a path and the
seconds that it may take a line, and writes a line when it is through.
"""

import contextlib
import json
import signal
import sys

import h5py

# Arrays of at most so many bytes are read whole, of others only where their pieces lie is looked at.
SMALL = 2**20
# Bytes of memory that a file's structure may take; absurd sizes fail here and not in the program.
MEMORY = 2**33
# What this process says first.
READY = "ready"


def walk(path: str) -> None:
    """Read all that a file says of itself, and its small arrays; follow nothing that leads out of it.

    Raises:
        Exception: of nearly any type, for what is damaged.
    """
    with h5py.File(path, "r") as f:
        read_attributes(f)
        f.visititems(lambda _, item: look_at(item))


def look_at(item: h5py.Group | h5py.Dataset) -> None:
    """`read_item`; what cannot be read does not keep what stands behind it."""
    with contextlib.suppress(Exception):
        read_item(item)


def read_item(item: h5py.Group | h5py.Dataset) -> None:
    """Read an object's attributes and, of an array, where its pieces lie; see `walk`."""
    read_attributes(item)
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or not item.size:
        return
    item.id.get_storage_size()
    if item.chunks:
        with contextlib.suppress(AttributeError):
            item.id.get_num_chunks()
    if item.nbytes <= SMALL:
        item[()]
    elif item.ndim:
        item[(0,) * item.ndim]
        item[tuple(side - 1 for side in item.shape)]


def read_attributes(item: h5py.Group | h5py.Dataset) -> None:
    """Read each attribute of an object that can be read; see `walk`."""
    for name in item.attrs:
        with contextlib.suppress(Exception):
            item.attrs[name]


def main() -> None:
    """Answer until nobody asks any more."""
    # Ctrl-C is meant for the program, which ends this process by asking no more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(READY, flush=True)
    for line in sys.stdin:
        # What can be said of a damaged file, the program finds and says itself.
        path, seconds = json.loads(line)
        # Where the program itself is gone meanwhile, this ends a process that hangs.
        if hasattr(signal, "alarm"):
            signal.alarm(seconds)
        with contextlib.suppress(Exception):
            walk(path)
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        print("through", flush=True)


if __name__ == "__main__":
    main()
