"""Kernels that torch's tracer is to have while a graph of ours is traced: others, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any

Kernels = Mapping[Any, Mapping[Any, Callable[..., Any] | None]]
"""By operator and key of torch's dispatcher; None puts aside the one that is there."""

_lock = RLock()


@contextmanager
def traced_by(kernels: Kernels) -> Iterator[None]:
    """Within, torch's tracer has these kernels."""
    with _lock:
        before = {operator: dict(operator.py_kernels) for operator in kernels}
        try:
            for operator, changes in kernels.items():
                kept = {key: kernel for key, kernel in before[operator].items() if key not in changes}
                _set(operator, kept | {key: kernel for key, kernel in changes.items() if kernel is not None})
            yield
        finally:
            for operator, found in before.items():
                _set(operator, found)


def _set(operator: Any, kernels: Mapping[Any, Callable[..., Any]]) -> None:
    operator.py_kernels.clear()
    operator.py_kernels.update(kernels)
    operator._dispatch_cache.clear()  # noqa: SLF001 - what was looked up before
