"""What tests of several files of the benchmark need."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

import pytest


class _SignalStack(ctypes.Structure):
    """stack_t of Linux: where handlers of signals run."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.fixture
def _own_signal_stack() -> Iterator[None]:
    """OpenVINO leaves a stack for handlers behind that it has freed: a later signal would end the process."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before, libc = _SignalStack(), ctypes.CDLL(None)
    assert libc.sigaltstack(None, ctypes.byref(before)) == 0
    yield
    assert libc.sigaltstack(ctypes.byref(before), None) == 0
