"""New tensors that take nothing of another but its size and type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from outstride.models.operation import Operation


@dataclass(frozen=True)
class Filled:
    """The same number everywhere."""

    value: float


@dataclass(frozen=True)
class Unset:
    """Numbers that nobody has set, or random ones, or none at all."""


def read_filled(operation: Operation) -> Filled:
    """With a number of the caller's."""
    return Filled(operation.argument("fill_value"))


def _filled(operation: Operation, value: float) -> Filled:
    del operation
    return Filled(value)


OPERATORS: dict[str, Any] = {
    f"aten.{name}": partial(_filled, value=value)
    for value, of in ((0, "zeros"), (1, "ones"))
    for name in (of, f"{of}_like", f"new_{of}")
}
OPERATORS |= {f"aten.{name}": read_filled for name in ("full", "full_like", "new_full")}
OPERATORS |= {
    f"aten.{name}": lambda _: Unset()
    for name in (
        *("new_empty", "new_empty_strided", "empty_like", "rand_like", "randn_like", "randint_like"),
        "sym_size",
    )
}
