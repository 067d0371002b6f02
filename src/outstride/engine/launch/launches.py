"""Launches as data: what a bound call would launch, and which of its words are addresses of what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, UntypedStorage

from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.runtime import Kernel


def memory_of(tensor: Tensor) -> tuple[UntypedStorage, int]:
    """What a tensor lies in, and where."""
    while True:
        storage, pointer = tensor.untyped_storage(), tensor.data_ptr()
        if not pointer or 0 <= pointer - storage.data_ptr() <= storage.nbytes():
            return storage, pointer  # else another thread gave it other memory between the two


class At(NamedTuple):
    """A tensor, and the number of the place among its owner's values that it came from."""

    place: int
    tensor: Tensor
    whole: Tensor | None = None
    """The value itself, where the tensor is a view of it: in other sizes, or a part."""

    @property
    def value(self) -> Tensor:
        """The value itself."""
        return self.tensor if self.whole is None else self.whole

    @property
    def offset(self) -> int:
        """The bytes from where the value lies to the tensor."""
        return 0 if self.whole is None else self.tensor.data_ptr() - self.whole.data_ptr()

    def band(self, first: int, end: int) -> At:
        """Rows [first, end) of it, along the first axis behind the channels."""
        return At(self.place, self.tensor.narrow(2, first, end - first), self.value)


class Operand(NamedTuple):
    """An operand of a step; `apart` from the result, its entry is the bytes from there."""

    at: At
    apart: bool


class Kept(Protocol):
    """A packed weight, and what finds out whether it is that of the weight as it is now."""

    @property
    def pointer(self) -> int:
        """Where it lies."""

    @property
    def finite(self) -> bool:
        """Whether all of it is; else a launch cannot have the right bits."""

    @property
    def version(self) -> int | None:
        """The weight's when it was packed; an inference tensor has none."""

    @property
    def storage(self) -> Callable[[], UntypedStorage | None]:
        """What the weight lay in, while somebody has it."""

    @property
    def look(self) -> Launch | None:
        """Flags a change of the weight; None where nobody looks."""

    @property
    def is_used_once(self) -> bool:
        """Whether it is to be packed anew for its next use, changed or not."""


class Weight(NamedTuple):
    """A weight that is packed, and what packs it where that has to be done."""

    at: At
    keep: Callable[[Tensor], Kept]
    threads: int
    """The most that may look at it."""
    form: object = None
    """What `keep` packs it into: launches with the same need it once."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel, on a copy of an argument block of which some words are filled in."""

    kernel: Kernel
    block: ArgumentBlock
    workers: int
    addresses: Mapping[str, At]
    """By the names of words, `y_at` for the result among them."""
    operands: Sequence[Operand] = ()
    weight: Weight | None = None
    scratch_bytes: int = 0
    flag: str | None = None
    """The word that is not 0 afterwards where the launch did not do."""
    empty: Callable[[], Tensor] | None = None
    """Makes a new tensor for the result."""
    strands: tuple[tuple[Launch, ...], ...] = ()
    """Launches on one thread each that it consists of; each worker runs a strand of them, in its order."""

    def single(self) -> list[Launch]:
        """The launches of kernels that it consists of."""
        return [launch for strand in self.strands for launch in strand] or [self]

    def reads(self) -> list[At]:
        """The tensors that it reads, weights included."""
        if self.strands:
            return [at for launch in self.single() for at in launch.reads()]
        given = [at for name, at in self.addresses.items() if name != "y_at"]
        weight = [] if self.weight is None else [self.weight.at]
        return [*given, *weight, *(operand.at for operand in self.operands)]
