"""Handler of SIGTERM, and interruptions in finalizers."""

import signal
import sys
import time
import weakref

import pytest

from system.errors import Terminated
from system.terminal import raise_terminated, repeat_discarded_signal


class Signalling:
    def __init__(self, number=signal.SIGTERM):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", repeat_discarded_signal)
    before = signal.signal(signal.SIGTERM, raise_terminated)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_raises_terminated():
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_within_a_finalizer_is_raised_later():
    item = Signalling()
    with pytest.raises(Terminated):
        del item
        time.sleep(10)


def test_sigint_within_a_finalizer_is_raised_later():
    item = Signalling(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        del item
        time.sleep(10)


def test_sigterm_within_a_weakref_callback_is_raised_later():
    item = set()
    reference = weakref.ref(item, lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Terminated):
        del item
        time.sleep(10)
    assert reference() is None


def test_other_errors_in_a_finalizer_are_printed(capsys):
    class Failing:
        def __del__(self):
            raise ValueError("from a finalizer")

    Failing()
    assert "from a finalizer" in capsys.readouterr().err
