"""Usable cores and memory: limits of the job and the container take precedence over the host's."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

from system import machine

GB = 2**30


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """Write the /proc of a host with 64 GB of available memory, and control groups under tmp_path."""

    def write(files, groups, mounts):
        content = {
            "proc/meminfo": f"MemTotal: 999 kB\nMemAvailable: {64 * GB // 1024} kB\n",
            "proc/self/cgroup": groups,
            "proc/self/mountinfo": mounts.replace("ROOT", str(tmp_path)),
            **files,
        }
        for name, text in content.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(machine, "PROC", tmp_path / "proc")

    return write


V2 = "25 30 0:22 / ROOT/cg rw,nosuid shared:9 - cgroup2 cgroup rw\n"
V1 = "33 30 0:28 {root} ROOT/cg/{name} rw - cgroup cgroup rw,{name}\n"


def test_container_memory_excludes_page_cache(proc):
    files = {
        "cg/a/b/memory.max": f"{4 * GB}\n",
        "cg/a/b/memory.current": f"{3 * GB}\n",
        # Shared memory is part of "file", and cannot be reclaimed.
        "cg/a/b/memory.stat": f"anon 5\nfile {3 * GB}\nshmem {GB}\ninactive_file {GB}\nactive_file {GB // 2}\n",
        "cg/memory.max": "max\n",
    }
    proc(files, "0::/a/b\n", V2)
    assert machine.get_free_memory() == 4 * GB - 3 * GB + GB + GB // 2


@pytest.mark.parametrize("name", ["memory.max", "memory.high"])
def test_limits_of_ancestor_groups_count(proc, name):
    files = {
        "cg/a/b/memory.max": "max\n",
        "cg/a/b/memory.current": f"{GB}\n",
        f"cg/a/{name}": f"{2 * GB}\n",
        "cg/a/memory.current": f"{GB}\n",
    }
    proc(files, "0::/a/b\n", V2)
    assert machine.get_free_memory() == GB


def test_groups_of_version_1_count_too(proc):
    files = {
        "cg/memory/job/memory.limit_in_bytes": f"{3 * GB}\n",
        "cg/memory/job/memory.usage_in_bytes": f"{2 * GB}\n",
        "cg/memory/job/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB}\ntotal_active_file 0\n",
        "cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cg/memory/memory.usage_in_bytes": f"{GB}\n",
        "cg/cpu/job/cpu.cfs_quota_us": "100000\n",
        "cg/cpu/job/cpu.cfs_period_us": "100000\n",
        "cg/cpu/cpu.cfs_quota_us": "-1\n",
        "cg/cpu/cpu.cfs_period_us": "100000\n",
    }
    mounts = "".join(V1.format(root="/", name=name) for name in ("memory", "cpu"))
    proc(files, "4:memory:/job\n1:cpu:/job\n0::/\n", mounts)
    assert machine.get_free_memory() == 2 * GB
    assert machine.count_usable_cores() == 1


def test_container_with_group_as_root_is_limited(proc):
    files = {"cg/memory/memory.limit_in_bytes": f"{3 * GB}\n", "cg/memory/memory.usage_in_bytes": f"{GB}\n"}
    proc(files, "4:memory:/docker/abc\n", V1.format(root="/docker/abc", name="memory"))
    assert machine.get_free_memory() == 2 * GB


def test_exhausted_memory_limit_is_not_unknown(proc):
    proc({"cg/a/memory.max": "1000\n", "cg/a/memory.current": "5000\n"}, "0::/a\n", V2)
    assert machine.get_free_memory() == 1


def test_memory_of_the_host_counts_without_groups(proc):
    proc({}, "0::/\n", V2)
    assert machine.get_free_memory() == 64 * GB


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
def test_container_cores_follow_its_limit(proc, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    proc({"cg/a/cpu.max": quota}, "0::/a\n", V2)
    assert machine.count_usable_cores() == cores


@pytest.mark.parametrize("option", ["-v", "-d"])
def test_memory_under_a_resource_limit(option):
    code = "from system import machine; print(machine.get_free_memory())"
    command = f'ulimit {option} 1000000; exec "$0" -c "{code}"'
    process = subprocess.run(["bash", "-c", command, sys.executable], cwd=ROOT, capture_output=True, text=True)
    assert 700_000 * 1024 < int(process.stdout) < 1_000_000 * 1024


def environment_of_torch(**given):
    """OpenMP's variables when mains.py imports the first of numpy and torch, which is not carried out."""
    code = (
        "import json, os, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('numpy', 'torch'):\n"
        "            found = {k: v for k, v in os.environ.items() if k.startswith(('OMP_', 'GOMP_'))}\n"
        "            print(json.dumps(found), flush=True)\n"
        "            os._exit(0)\n"
        "sys.meta_path.insert(0, Stop())\n"
        "import mains\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **given}, capture_output=True, text=True
    )
    return json.loads(process.stdout)


def test_openmp_spins_briefly_unless_the_user_decides():
    assert environment_of_torch()["GOMP_SPINCOUNT"] == "10000"
    assert environment_of_torch(GOMP_SPINCOUNT="7")["GOMP_SPINCOUNT"] == "7"
    assert environment_of_torch(OMP_WAIT_POLICY="ACTIVE") == {"OMP_WAIT_POLICY": "ACTIVE"}


@pytest.mark.parametrize(("given", "threads"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_threads_are_limited_unless_the_user_decides(proc, monkeypatch, given, threads):
    monkeypatch.setattr(os, "environ", given)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    proc({"cg/a/cpu.max": "100000 100000"}, "0::/a\n", V2)
    machine.set_thread_defaults()
    assert given["OMP_NUM_THREADS"] == threads
