"""What holds for every norm: the bits of torch's operator, and nothing beyond its tensors is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from outstride.engine import runtime
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits


@dataclass(frozen=True)
class Norm:
    """A norm, why it declines arguments, torch's operator, and arguments drawn for a seed.

    Arguments are an input, what else the norm takes, a weight, a bias and an eps.
    """

    ours: Callable[..., Tensor]
    declines: Callable[..., str | None]
    by_torch: Callable[..., Tensor]
    drawn: Callable[[int], tuple[Any, ...]]

    def has_the_bits_of_torch(self, isa: str, seeds: Iterable[int]) -> None:
        """Whatever the shape, the layout and the threads."""
        with runtime.instruction_set(isa):
            for seed in seeds:
                with threads(1 + seed % 3):
                    arguments = self.drawn(seed)
                    assert self.declines(*arguments) is None
                    expected = self.by_torch(*arguments)
                    result = self.ours(*arguments)
                    what = f"seed {seed}: {tuple(expected.shape)}"
                    assert_same_bits(result, expected, what)
                    assert result.stride() == expected.stride(), what

    def touches_nothing_beyond_the_tensors(self, isa: str, edge: Edge, seeds: Iterable[int]) -> None:
        """Which lie against either edge of protected pages."""
        with runtime.instruction_set(isa):
            for seed in seeds:
                x, *between, weight, bias, eps = self.drawn(seed)
                expected = self.by_torch(x, *between, weight, bias, eps)
                with GuardedPages() as pages:
                    weight, bias = (t if t is None else pages.copy(t, edge) for t in (weight, bias))
                    place = pages.empty_like(expected, edge)
                    self.ours(pages.copy(x, edge), *between, weight, bias, eps, out=place)
                    assert_same_bits(place, expected, f"seed {seed}")
