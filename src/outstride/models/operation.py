"""One call of a torch operator with its arguments: what traces and graphs consist of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Operation(ABC):
    """An operator and its arguments, in which tensors, or what stands for them, are found by ``shape_of``."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The operator without its overload: ``aten.relu``."""
        return operator_name(self.target)

    @property
    def overload(self) -> str:
        """Which of the operators of this name it is: ``default``."""
        return str(self.target).rsplit(".", 1)[-1]

    @property
    def is_in_place(self) -> bool:
        """Whether it writes to its first argument, as its name says."""
        name = self.name
        return name.endswith("_") and not name.endswith("__")

    @property
    def functional_name(self) -> str:
        """The name of the operator that makes a new tensor of what this one writes in place."""
        return self.name.removesuffix("_") if self.is_in_place else self.name

    @abstractmethod
    def result_shape(self) -> tuple[int, ...]:
        """Size of the first result."""

    @abstractmethod
    def shape_of(self, tensor: Any) -> tuple[int, ...]:
        """Size of a tensor among the arguments."""

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by the name it has in the operator's schema."""
        if name in self.kwargs:
            return self.kwargs[name]
        for place, parameter in enumerate(parameters_of(self.target)):
            if parameter.name == name:
                if place < len(self.args):
                    return self.args[place]
                return parameter.default_value if parameter.has_default_value() else default
        return default

    def arguments(self) -> dict[str, Any]:
        """All that were handed over, by name."""
        return named_arguments(self.target, self.args, self.kwargs)


def parameters_of(target: Any) -> Sequence[Any]:
    """What the schema of an operator says of its arguments, in order."""
    parameters: Sequence[Any] = target._schema.arguments  # noqa: SLF001 - torch has no other
    return parameters


def named_arguments(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of an operator by the names that they have in its schema."""
    names = (parameter.name for parameter in parameters_of(target))
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def operator_name(target: Any) -> str:
    """An operator's name without its overload."""
    return str(target).rsplit(".", 1)[0]


def mapped(put: Callable[[Any], Any], value: Any) -> Any:
    """An argument of an operator with each of its entries replaced."""
    return type(value)(mapped(put, v) for v in value) if isinstance(value, (list, tuple)) else put(value)
