"""Processor cores and main memory that this process may use; imported before torch, whose thread defaults it sets.

Container limits are read from the control groups of Linux, versions 1 and 2. A limit of an ancestor group counts too.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

try:
    import resource
except ImportError:
    # Windows has no resource limits.
    resource = None  # type: ignore[assignment]

PROC = Path("/proc")
# Iterations that an idle OpenMP thread of libgomp spins before it sleeps. The default of 300,000 is too long where
# another program keeps a core busy: spinning threads take the core from the thread that they wait for.
SPIN_COUNT = "10000"


def set_thread_defaults() -> None:
    """Set the environment of OpenMP, which reads it once, when torch is imported; user settings take precedence."""
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    # OpenMP respects the CPU affinity, not a container's limit of CPU time.
    if count_usable_cores() < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(count_usable_cores()))


def count_usable_cores() -> int:
    """Return the number of cores that the CPU affinity and the container's CPU limit allow, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(int(limit) for limit in _iterate_cpu_limits())]))


def get_free_memory() -> int:
    """Return the bytes of main memory that can be taken without swapping, 0 if the system does not report them.

    The least of: memory available on the host, memory left in each control group, and address space and data left
    under the resource limits (ulimit -v, ulimit -d).
    """
    available = _read_kilobytes(PROC / "meminfo", "MemAvailable")
    known = [*([] if available is None else [available]), *_iterate_group_memory(), *_iterate_limit_memory()]
    return max(1, min(known)) if known else 0


def get_address_space() -> int:
    """Return the bytes of address space that this process has mapped, 0 if the system does not report them."""
    return _read_kilobytes(PROC / "self" / "status", "VmSize") or 0


def _iterate_limit_memory() -> Iterator[int]:
    if resource is None:
        return
    for name, field in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
        limit = resource.getrlimit(getattr(resource, name))[0]
        used = _read_kilobytes(PROC / "self" / "status", field)
        if limit != resource.RLIM_INFINITY and used is not None:
            yield limit - used


def _iterate_group_memory() -> Iterator[int]:
    """Limit minus usage for each group of this process; page cache counts as free, as the kernel reclaims it."""
    for group in _iterate_groups("memory"):
        for limit_file, usage_file, prefix in (
            ("memory.max", "memory.current", ""),
            ("memory.high", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            limit, usage = _read_numbers(group / limit_file), _read_numbers(group / usage_file)
            if limit and usage:
                cache = _read_table(group / "memory.stat")
                yield limit[0] - usage[0] + sum(cache.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))


def _iterate_cpu_limits() -> Iterator[float]:
    """Cores' worth of CPU time for each group of this process that has a limit."""
    for group in _iterate_groups("cpu"):
        for quota_and_period in (
            _read_numbers(group / "cpu.max"),
            [*_read_numbers(group / "cpu.cfs_quota_us"), *_read_numbers(group / "cpu.cfs_period_us")],
        ):
            # A quota of "max", in version 1 of -1, is not a limit.
            if len(quota_and_period) == 2 and min(quota_and_period) > 0:
                yield quota_and_period[0] / quota_and_period[1]


def _iterate_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, each followed by its ancestors."""
    memberships = {}
    for line in _read_lines(PROC / "self" / "cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        # Version 2 has one group for all controllers, with an empty list of them.
        memberships.update(dict.fromkeys(controllers.split(","), path))
    for line in _read_lines(PROC / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        if len(before.split()) < 5 or len(after.split()) < 3:
            continue
        root, mount_point = before.split()[3:5]
        kind, options = after.split()[0], after.split()[2].split(",")
        name = "" if kind == "cgroup2" else controller
        if kind not in ("cgroup", "cgroup2") or (name and name not in options) or name not in memberships:
            continue
        # A container may see only a part of the hierarchy, whose root is then a path of the host.
        top, group = Path(mount_point), PurePosixPath(memberships[name])
        folder = top / group.relative_to(root) if group.is_relative_to(root) else top
        yield from [f for f in (folder, *folder.parents) if f == top or top in f.parents]


def _read_kilobytes(path: Path, name: str) -> int | None:
    """Bytes of a line such as "MemAvailable:  1234 kB"."""
    for line in _read_lines(path):
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None


def _read_table(path: Path) -> Mapping[str, int]:
    rows = [line.split() for line in _read_lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _read_numbers(path: Path) -> list[int]:
    """Whole numbers of a file of one line; [] if there is no such file, or another word ("max") in it."""
    words = " ".join(_read_lines(path)).split()
    try:
        return [int(word) for word in words]
    except ValueError:
        return []


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
