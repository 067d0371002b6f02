"""Builds a drawn model: calls are tried on real values, and those that torch refuses are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.fuzz.dice import Dice
from tests.fuzz.graphs.program import Call, Program

_MOST_ELEMENTS = 40_000


class Builder:
    """A model that grows, with what its values are on two inputs."""

    def __init__(self, dice: Dice, inputs: list[Tensor], *, is_trained: bool) -> None:
        self.dice, self.is_trained = dice, is_trained
        self.model = Program()
        self.values: list[Tensor] = [x.clone() if x.numel() else x for x in inputs]
        self.given = len(self.values)
        self.goes_on = False
        """Whether the next call is on the last value, as those of a block are."""

    def pick(self, suits: Callable[[Tensor], bool] = lambda _: True) -> int | None:
        """The number of a value that suits: more often than not the last."""
        found = [n for n, value in enumerate(self.values) if suits(value)]
        if not found:
            return None
        return found[-1] if self.goes_on or self.dice.chance(0.6) else self.dice.one(found)

    def image(self, *dims: int) -> int | None:
        """The number of a value of batch, channels and that many axes, or of any number of them."""
        wanted = tuple(d + 2 for d in dims or (1, 2, 3))
        return self.pick(lambda v: v.dim() in wanted and v.is_floating_point() and v.shape[1] > 0)

    def add(self, call: Call) -> bool:
        """Add a call, if torch makes something of it that is not too large."""
        own: Any = self.model.layers[-1:] if call.text.startswith(f"{len(self.model.layers) - 1}: ") else []
        for layer in own:
            layer.to(self.values[0].dtype).train(self.is_trained)
        try:
            with torch.no_grad():
                made: list[Any] = call.made(self.model, self.values)
        except (RuntimeError, ValueError, IndexError, NotImplementedError, TypeError):
            return False
        if not all(isinstance(m, Tensor) and m.numel() <= _MOST_ELEMENTS for m in made):
            return False
        self.model.calls.append(call)
        self.values += made
        return True
