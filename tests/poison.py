"""Memory that must be written before it is read holds NaN, so that what is read too early shows.

Scratch stays as the last call left it, and what that left may well be what the next call expects. A byte of
all ones makes a NaN of every float, and -1 of every integer.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import outstride.engine.launch.execute
import outstride.engine.launch.launch_list  # noqa: F401 - as the last one does
from outstride.engine import runtime, torch_internals

_ONES = 0xFF
_empty = torch.empty


class _Asked(threading.local):
    """Bytes of scratch that this thread's latest launch has asked for."""

    size_bytes = 0


asked = _Asked()


def _scratch(size_bytes: int) -> int:
    address = runtime.scratch(size_bytes)
    asked.size_bytes = size_bytes
    ctypes.memset(address, _ONES, size_bytes)
    return address


def handed_out(made: Tensor) -> Tensor:
    """What the engine is given for a new tensor with memory: `tests/guard.py` has other memory for it."""
    room = made.untyped_storage()
    ctypes.memset(room.data_ptr(), _ONES, room.nbytes())
    return made


def _poisoned(made: Tensor) -> Tensor:
    has_memory = type(made) is Tensor and made.device.type == "cpu" and made.numel()
    return handed_out(made) if has_memory and made.is_floating_point() else made


def _empty_strided(size: Any, strides: Any, dtype: torch.dtype) -> Tensor:
    return _poisoned(torch_internals.empty_strided(size, strides, dtype))


def _empty_full_of_nan(*size: Any, **options: Any) -> Tensor:
    return _poisoned(_empty(*size, **options))


@lru_cache
def _engine() -> tuple[ModuleType, ...]:
    """The modules that ask for memory by a name of their own."""
    rooms = ("outstride.engine.launch.", "outstride.engine.autograd.", "outstride.engine.dispatch.")
    return tuple(module for name, module in sys.modules.items() if name.startswith(rooms))


@contextmanager
def poison(*, rooms: bool = True) -> Iterator[None]:
    """Within the block the engine is handed scratch full of NaN and, with `rooms`, new tensors full of it.

    Those are results, packed weights and partial sums. ``torch.empty`` is everybody's, so they are poisoned
    only where nothing but the engine runs.
    """
    poisoned: dict[str, object] = {"scratch": _scratch}
    if rooms:
        poisoned["empty_strided"] = _empty_strided
    with ExitStack() as stack:
        if rooms:
            stack.enter_context(mock.patch.object(torch, "empty", _empty_full_of_nan))
        for module in _engine():
            for name, replacement in poisoned.items():
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, replacement))
        yield
