"""Handler of SIGTERM."""

import signal
import time

import pytest

from system.errors import Terminated
from system.terminal import raise_terminated


class Signalling:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGTERM, raise_terminated)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_raises_terminated():
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_within_a_finalizer_is_raised_later():
    item = Signalling()
    with pytest.raises(Terminated):
        del item
        time.sleep(10)
