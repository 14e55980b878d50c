"""Readers in a child process: crashes and endless loops are reported, slowness and locks are not damage."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
import scipy.io
from helpers import OWN_CUBE, ROOT

from data.store import Store, join_parts
from formats import guard, open_raster
from formats.guard import call_guarded, call_once, check_hdf5
from formats.mat import check_mats
from system.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.h5").touch()
    return tmp_path / "a.h5"


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_results_come_from_one_child(path):
    found = call_guarded([path, path], lambda path: (os.getpid(), path.name))
    assert found == [(found[0][0], "a.h5")] * 2
    assert found[0][0] != os.getpid()


def test_exception_is_raised_unchanged(path):
    def read(path):
        raise DataError("a file", "is wrong", "mend it")

    with pytest.raises(DataError, match="a file: is wrong; mend it"):
        call_guarded([path], read)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_crash_names_the_damaged_file(path, number):
    sound = path.with_name("sound")
    sound.touch()
    with pytest.raises(DataError, match="a.h5: damaged: its library crashes on it; copy or make it again"):
        call_guarded([sound, path, sound], lambda p: p == path and os.kill(os.getpid(), number))


def test_tag_that_crashes_scipy_is_damage(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"cube": OWN_CUBE, "wavelength": np.arange(31.0)})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    # The type of the values of the cube.
    content[184] = 15
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"a.mat: (damaged|cannot be read as a .mat file)"):
        check_mats([tmp_path / "a.mat"])


def test_endless_loop_is_damage(path, monkeypatch):
    monkeypatch.setattr(guard, "CPU_SECONDS", 1)
    with pytest.raises(DataError, match="damaged: its library has not finished after 1 s of CPU time"):
        call_guarded([path], lambda path: spin(60))


def test_each_file_has_its_own_time(path, monkeypatch):
    monkeypatch.setattr(guard, "CPU_SECONDS", 1)
    assert call_guarded([path] * 3, lambda path: spin(0.7)) == [None] * 3


def test_absurd_sizes_name_the_free_memory(path, monkeypatch):
    monkeypatch.setattr(guard, "get_free_memory", lambda: 10**9)
    with pytest.raises(DataError, match="a.h5: the memory is too small .* half of the 1.0 GB that are free"):
        call_guarded([path], lambda path: np.ones(10**8))
    assert call_guarded([path], lambda path: np.ones(10**6).sum()) == [10**6]


def test_unchanged_files_are_read_once(path):
    first = call_once([path], reader_id)
    assert call_once([path], reader_id) == first
    path.write_bytes(b"changed")
    assert call_once([path], reader_id) != first


def reader_id(path):
    return os.getpid()


def test_child_killed_from_outside_is_not_damage(path):
    with pytest.raises(DataError, match="ended by SIGKILL; free memory") as caught:
        call_guarded([path], lambda path: os.kill(os.getpid(), signal.SIGKILL))
    assert "damaged" not in str(caught.value)


def stop_and_send_id(pipe):
    os.write(pipe, str(os.getpid()).encode())
    os.kill(os.getpid(), signal.SIGSTOP)
    return "done"


def test_a_stopped_child_only_takes_longer(path, monkeypatch, capsys):
    monkeypatch.setattr(guard, "PATIENCE", 0.1)
    read, write = os.pipe()

    def wake():
        child = int(os.read(read, 20))
        while f"checking {path}" not in (printed := capsys.readouterr().out) or not printed:
            time.sleep(0.01)
        os.kill(child, signal.SIGCONT)

    waker = threading.Thread(target=wake)
    waker.start()
    assert call_guarded([path], lambda path: stop_and_send_id(write)) == ["done"]
    waker.join()


def test_ctrl_c_ends_wait_and_child(path):
    read, write = os.pipe()
    children = []

    def interrupt():
        children.append(int(os.read(read, 20)))
        os.kill(os.getpid(), signal.SIGINT)

    # A shell that starts the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        call_guarded([path], lambda path: stop_and_send_id(write))
    signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_readers_run_in_process_without_fork(path, monkeypatch):
    def fork():
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", fork)
    assert call_guarded([path], lambda path: os.getpid()) == [os.getpid()]


@pytest.fixture
def held(tmp_path, stores):
    """A store and a scene that another program has open for writing."""
    (tmp_path / "test.h5").write_bytes((stores / "test.h5").read_bytes())
    with h5py.File(tmp_path / "scene.h5", "w") as f:
        f["image"] = OWN_CUBE
    code = "import h5py, sys; f = [h5py.File(p, 'r+') for p in sys.argv[1:]]; print(1, flush=True); input()"
    words = [sys.executable, "-c", code, tmp_path / "test.h5", tmp_path / "scene.h5"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    process.stdout.readline()
    yield tmp_path
    process.kill()
    process.communicate()


def test_file_open_elsewhere_is_called_locked(held):
    for read in (lambda: Store(held / "test.h5"), lambda: open_raster(held / "scene.h5")):
        with pytest.raises(DataError, match="locked: another program .*; close it there, or set HDF5_USE") as caught:
            read()
        assert "damaged" not in str(caught.value)


def test_disks_without_locks_are_read_and_written(tmp_path, stores, monkeypatch):
    real = h5py.File

    def file(name, mode="r", locking=None, **options):
        if locking is not False and options.get("driver") != "core":
            raise OSError("Unable to synchronously open file (unable to lock file, errno = 37, error message = 'No')")
        return real(name, mode, locking=locking, **options)

    (tmp_path / "a.h5").write_bytes((stores / "test.h5").read_bytes())
    with h5py.File(tmp_path / "part.h5", "w") as part, h5py.File(tmp_path / "a.h5") as f:
        scene = f["scenes"][next(iter(f["scenes"]))]
        f.copy(scene, part, name="scene")
        expected, name = scene[()], scene.attrs["name"]
    monkeypatch.setattr(h5py, "File", file)
    check_hdf5(tmp_path / "a.h5")
    join_parts(tmp_path / "b.h5", [tmp_path / "part.h5"], {"dataset": "Cave", "protocol": "corrected"})
    with Store(tmp_path / "b.h5") as store:
        np.testing.assert_array_equal(store.read(name).cube, expected)
