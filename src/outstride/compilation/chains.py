"""Chains: the steps behind a value that what makes the value can do, too.

Behind a linear layer they may lie behind views of its value.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from torch.fx import Node

from outstride.compilation.frames import Frame
from outstride.compilation.steps import Reading, lie_alike, readings
from outstride.compilation.values import count_of, dtype_of, is_tensor, same_sizes
from outstride.compilation.wording import why_next, word
from outstride.engine.launch.fused import Step
from outstride.engine.launch.steps.check import declined


@dataclass(frozen=True)
class Chain:
    """Operators one behind the other, what they are as steps, and why the next is none of them."""

    nodes: tuple[Node, ...]
    readings: tuple[Reading, ...]
    reason: str
    frames: tuple[Frame, ...] = ()
    """Of each step how its value is seen."""

    @property
    def frame(self) -> Frame:
        """How the last value is seen."""
        return self.frames[-1] if self.frames else Frame()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What the operators do to the value."""
        return tuple(reading.step for reading in self.readings)

    @property
    def operands(self) -> tuple[Node, ...]:
        """Those of all steps, in their order."""
        return tuple(operand for reading in self.readings for operand in reading.operands)


NOTHING = Chain((), (), "")
"""No steps, where there are to be none."""


def chain(value: Node, taken: Container[Node] = (), through_views: bool = False) -> Chain:
    """The steps behind a value, as long as each is the only use of what was before it.

    What is `taken` belongs to another stage, which this one may be an operand of. Of rows of features steps
    are looked for ``through_views``.
    """
    nodes, found, frames = list[Node](), list[Reading](), list[Frame]()
    views, frame = list[Node](), Frame()
    while True:
        behind = _next(value, taken)
        if isinstance(behind, str):
            return Chain(tuple(nodes), tuple(found), behind, tuple(frames))
        further = frame.seen_through(behind[-1]) if through_views else None
        if further is not None:
            frame, value = further, behind[-1]
            views.append(value)
            continue
        axis = frame.channels if through_views else 1
        reading = next((r for r in readings(behind[-1], axis) if r.value is value), None)
        if through_views and reading is not None and not _is_on_rows(reading, behind[-1]):
            reading = None
        if reason := _refusal(behind[0], reading):
            return Chain(tuple(nodes), tuple(found), reason, tuple(frames))
        assert reading is not None, "what is no step is refused"
        nodes += [*views, *behind]
        views.clear()
        found.append(reading)
        frames.append(frame)
        value = behind[-1]


def _is_on_rows(reading: Reading, result: Node) -> bool:
    """Whether a step on what is seen of rows is one on the rows, and torch lays its result out as them."""
    if reading.step.kind == "batch_norm":
        return False
    first, second = reading.value.meta["val"], result.meta["val"]
    return same_sizes(first.shape, second.shape) and lie_alike(reading.value, result)


def _next(value: Node, taken: Container[Node]) -> tuple[Node, ...] | str:
    """The operator that alone uses a value, with the taking of its first result; or why there is none."""
    users = list(value.users)
    if len(users) != 1:
        return f"its value has {len(users)} uses" if users else "nothing uses its value"
    (user,) = users
    if user in taken:
        return f"{word(user)} is part of another launch"
    if user.op == "output":
        return "its value is a result"
    if not is_tensor(user):
        results = list(user.users)
        return (user, results[0]) if len(results) == 1 else f"{word(user)} has several results"
    return (user,)


def _refusal(operator: Node, reading: Reading | None) -> str:
    if reading is None:
        return why_next(operator) or "a function of no name is next"
    return declined((reading.step,), dtype_of(reading.value), count_of(reading.value)) or ""
