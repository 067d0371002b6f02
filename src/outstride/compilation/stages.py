"""Stages: what one launch does of a graph, or one call of torch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.fx import Node

from outstride.engine.launch.launches import At, Launch
from outstride.models.operators.reach import Window


def _nothing(_: Sequence[At], __: At) -> None:
    """What is no launch."""


@dataclass(frozen=True)
class Bound:
    """What computes a stage for values of one kind."""

    run: Callable[..., Any]
    """Called as that of the stage is."""
    launch: Callable[[Sequence[At], At], Launch | None] = _nothing
    """What it launches, and nothing else, to make that value of these; None where there is more to it."""


@dataclass(frozen=True)
class Reads:
    """How a stage depends on the memory formats of its inputs and of its value."""

    alike: tuple[int, ...] = ()
    """Inputs that must lie as its value does."""
    free: int | None = None
    """An input that may lie in another format."""
    cycles: Callable[[Sequence[Any], Tensor, Tensor], float] | None = None
    """What it costs with its inputs, of which the free one and the value are like these meta tensors."""


class Rows(Protocol):
    """How a stage makes rows of its value from rows of what it is given, along the first axis in space."""

    source: int
    """The input of which a row of the value needs several rows, or one."""
    alike: tuple[int, ...]
    """Inputs of which a row of the value needs the same row."""

    def reach(self, values: Sequence[Any]) -> Window | None:
        """Which rows of its source a row needs; None where there are no parts."""

    def launch(self, at: Sequence[At], y: At, first: int, end: int) -> Launch | None:
        """What makes rows [first, end), by one thread; None where it does more than to launch."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Some operators of a graph, computed together.

    ``run`` is called with the values of ``inputs``, and makes that of the last of ``nodes``, the only one
    that others use. Where it ``takes_out``, it writes that to the tensor ``out`` if it is given one.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    run: Callable[..., Any]
    label: str
    """What computes it: "conv", "pool", "pointwise", or "torch"."""
    reason: str = ""
    """Why it is torch that computes it, or why the next operator is not part of it."""
    weight: Node | None = None
    """The weight that is packed for it."""
    before: int = 0
    """Operators that are steps on what goes in; the next one names the stage."""
    takes_out: bool = False
    joins: bool = False
    """Whether its value is its inputs one behind the other, which may be made in their places in it."""
    bind: Callable[[Sequence[Any], Any], Bound] | None = None
    """Looks up what ``run`` does for values like these and such an ``out``."""
    formats: Reads | None = None
    """How it depends on the memory formats of its tensors; None: it takes and makes what torch would."""
    rows: Rows | None = None
    """How it makes a part of its value; None: it makes all of it at once."""
    is_view: bool = False
    """Whether its value may lie in the memory of its first input."""

    @property
    def head(self) -> Node:
        """The operator that it is named after."""
        return self.nodes[self.before]

    @property
    def output(self) -> Node:
        """Whose value it makes."""
        return self.nodes[-1]
