"""A drawn model: calls one after the other, each on values that those before it made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

INPUTS = 2


@dataclass(frozen=True)
class Call:
    """What is called, how it is written, and the numbers of the values that it is given."""

    text: str
    run: Callable[..., Any]
    """Given the model and the values."""
    operands: tuple[int, ...]
    results: int = 1
    is_skipped: bool = False
    """Then its first operand stands for each of its results."""

    def made(self, model: Program, values: Sequence[Any]) -> list[Any]:
        """Its results."""
        given = [values[place] for place in self.operands]
        if self.is_skipped:
            return [given[0]] * self.results
        made = self.run(model, *given)
        return [made] if self.results == 1 else [made[place] for place in range(self.results)]


class Program(nn.Module):
    """A model of calls, on two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.tensors = nn.ParameterList()
        self.calls: list[Call] = []
        self.results: tuple[int, ...] = ()
        self.form = "tuple"

    def forward(self, x: Tensor, y: Tensor) -> Any:
        values: list[Any] = [x, y]
        for call in self.calls:
            values += call.made(self, values)
        found = [values[place] for place in self.results]
        if self.form == "one":
            return found[-1]
        return {f"r{n}": value for n, value in enumerate(found)} if self.form == "dict" else tuple(found)

    def layer(self, module: nn.Module, *operands: int) -> Call:
        """A call of a layer that is added to the model."""
        self.layers.append(module)
        return self.again(len(self.layers) - 1, *operands)

    def again(self, place: int, *operands: int) -> Call:
        """A call of a layer that the model has."""
        return Call(f"{place}: {self.layers[place]}", lambda model, *v: model.layers[place](*v), operands)

    def tensor(self, value: Tensor) -> Callable[[Program], Any]:
        """A parameter that is added to the model: what finds it there."""
        place = len(self.tensors)
        self.tensors.append(nn.Parameter(value, requires_grad=value.is_floating_point()))
        return lambda model: model.tensors[place]

    def text(self) -> str:
        """The calls as they are written, a line each."""
        lines, count = [], INPUTS
        for call in self.calls:
            names = ", ".join(f"v{n}" for n in range(count, count + call.results))
            given = ", ".join(f"v{n}" for n in call.operands)
            lines.append(f"{names} = {'skipped ' if call.is_skipped else ''}{call.text}({given})")
            count += call.results
        return "\n".join([*lines, f"results ({self.form}): {', '.join(f'v{n}' for n in self.results)}"])
