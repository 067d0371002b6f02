"""What decides about a model's bits besides the model and its input: how many threads, which types.

The caller has set it; a worker takes it over for the time of a tile. It computes by as many threads as it has
itself, while the rules ask how many there were: where torch's routines change places in the whole depends on
those (``threads_of_whole``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local
from typing import Any, NamedTuple

import torch


class Surroundings(NamedTuple):
    """Settings of torch as one process has them."""

    threads: int
    dtype: torch.dtype
    """Of what is made without saying a type."""
    autocast: torch.dtype | None
    """The type that ``torch.autocast`` computes in, None where it is off."""
    precision: str
    """How matrix products of float32 may be rounded."""

    @classmethod
    def now(cls) -> Surroundings:
        """Those of this thread."""
        casting = torch.is_autocast_enabled("cpu")
        return cls(
            threads_of_whole(), torch.get_default_dtype(),
            torch.get_autocast_dtype("cpu") if casting else None, torch.get_float32_matmul_precision(),
        )  # fmt: skip

    @contextmanager
    def entered(self, computing: int | None = None) -> Iterator[None]:
        """Have this thread compute with them, and as before afterwards.

        ``computing``: by how many threads; without it by as many as they say.
        """
        outer = getattr(_whole, "threads", None)
        with _settings.held(self.dtype, self.precision), computing_by(computing or self.threads):
            _whole.threads = self.threads
            try:
                with torch.autocast("cpu", dtype=self.autocast, enabled=self.autocast is not None):
                    yield
            finally:
                _whole.threads = outer


_whole = local()


def threads_of_whole() -> int:
    """Threads that share the whole's calls: those of whoever asked for it, however many compute here."""
    return getattr(_whole, "threads", None) or torch.get_num_threads()


@contextmanager
def computing_by(threads: int) -> Iterator[None]:
    """Have this thread share its calls of torch among so many; other threads keep their own number."""
    before = torch.get_num_threads()
    if before != threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if before != threads:
            torch.set_num_threads(before)


class _Settings:
    """Settings that a process has once: who needs others waits until nobody computes with these."""

    def __init__(self) -> None:
        self._changed, self._users = Condition(), 0
        self._held = self._before = _global()

    @contextmanager
    def held(self, *wanted: Any) -> Iterator[None]:
        """Have the process keep them meanwhile. Within the block a thread may not ask for others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._held == wanted)
            if not self._users:
                self._before, self._held = _global(), wanted
                _set(*wanted)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                if not self._users:
                    _set(*self._before)
                    self._changed.notify_all()


def _global() -> tuple[Any, ...]:
    return torch.get_default_dtype(), torch.get_float32_matmul_precision()


def _set(dtype: Any, precision: Any) -> None:
    if _global() != (dtype, precision):
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)


_settings = _Settings()
