"""What every part of a kernel's text is written for: carried as one value from function to function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import PTR, Function, Value, vector_type
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe


@dataclass(frozen=True)
class Vectors:
    """A function that is being written, the element type that it works on and the lanes of a vector."""

    f: Function
    e: Element
    lanes: int

    @property
    def vector(self) -> str:
        """The LLVM type of a vector of accumulators."""
        return vector_type(self.lanes, self.e.accumulator)


@dataclass(frozen=True)
class Context(Vectors):
    """A function of a kernel: besides, the kernel's recipe, its argument block and the numbers in it."""

    recipe: Recipe
    block: Value
    #: The entries of the argument block by their names; loaded at the beginning, those that are used.
    a: dict[str, Value]

    @property
    def parameters(self) -> Sequence[Value]:
        """The function's parameters behind the argument block."""
        return self.f.parameters[1:]


@dataclass(frozen=True)
class Kernel:
    """What the functions of a kernel share: its recipe, and where its argument block holds what."""

    recipe: Recipe
    index: Mapping[str, int]

    @property
    def e(self) -> Element:
        """The element type."""
        return ELEMENTS[self.recipe.dtype]

    @property
    def lanes(self) -> int:
        """Lanes of a vector of the instruction set."""
        return INSTRUCTION_SETS[self.recipe.instruction_set].lanes(self.e.accumulator_bytes)

    def function(
        self, name: str, *parameters: tuple[str, str], rare: bool = False, lanes: int | None = None
    ) -> Context:  # fmt: skip
        """Begin a function of the kernel; its first parameter is the argument block.

        With `lanes` its vectors have so many, on every machine.
        """
        f = Function(name, [("block", PTR), *parameters], internal=True, rare=rare)
        block = f.parameters[0]
        a = read_arguments(f, block, self.index)
        return Context(f, self.e, lanes or self.lanes, self.recipe, block, a)
