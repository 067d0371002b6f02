"""What decides about a model's bits besides the model and its input: how many threads, which types.

The caller has set it; a worker takes it over for the time of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

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
            torch.get_num_threads(), torch.get_default_dtype(),
            torch.get_autocast_dtype("cpu") if casting else None, torch.get_float32_matmul_precision(),
        )  # fmt: skip

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread compute with them, and as before afterwards."""
        before = self.now()
        self.put()
        try:
            with torch.autocast("cpu", dtype=self.autocast, enabled=self.autocast is not None):
                yield
        finally:
            before.put()

    def put(self) -> None:
        """Have this thread compute with them from now on."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        if torch.get_float32_matmul_precision() != self.precision:
            torch.set_float32_matmul_precision(self.precision)
