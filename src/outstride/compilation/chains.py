"""Chains: the steps behind a value that what makes the value can do, too."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from torch.fx import Node

from outstride.compilation.steps import Reading, readings
from outstride.compilation.values import count_of, dtype_of, is_tensor
from outstride.compilation.wording import why_next, word
from outstride.engine.launch.fused import Step
from outstride.engine.launch.step_check import declined


@dataclass(frozen=True)
class Chain:
    """Operators one behind the other, what they are as steps, and why the next is none of them."""

    nodes: tuple[Node, ...]
    readings: tuple[Reading, ...]
    reason: str

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


def chain(value: Node, taken: Container[Node] = ()) -> Chain:
    """The steps behind a value, as long as each is the only use of what was before it.

    What is `taken` belongs to another stage, which this one may be an operand of.
    """
    nodes, found = list[Node](), list[Reading]()
    reason = ""
    while not reason:
        behind = _next(value, taken)
        if isinstance(behind, str):
            reason = behind
            break
        reading = next((r for r in readings(behind[-1]) if r.value is value), None)
        if reason := _refusal(behind[0], reading):
            break
        assert reading is not None, "what is no step is refused"
        nodes += behind
        found.append(reading)
        value = behind[-1]
    return Chain(tuple(nodes), tuple(found), reason)


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
        return why_next(operator)
    return declined((reading.step,), dtype_of(reading.value), count_of(reading.value)) or ""
