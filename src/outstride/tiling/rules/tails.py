"""Elements that torch computes one by one: the last few of each thread's share, which fill no vector.

For functions such as gelu, sigmoid and softmax the two routines differ in the last bit, so where an element
lies in the whole decides its bits. How many elements a step of the vector loop takes depends on the operator
and the machine; it is found by asking the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import ceil, prod

import torch
from torch import Tensor

from outstride.tiling.box import Box, whole
from outstride.tiling.surroundings import threads_of_whole

#: Elements from which torch shares an elementwise call among threads (at::internal::GRAIN_SIZE).
GRAIN = 32768
#: A multiple of the elements that any operator's step takes.
STEP = 128
_PROBED = 4 * STEP - 1
_STEPS = (2, 4, 8, 16, 32, 64, 128)
#: Numbers for which the two routines are compared; few show a difference.
_NUMBERS = 1 << 14


def step_of(
    vectors: Callable[[Tensor], Tensor], alone: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> int:
    """Elements of a step of an operator's vector loop; 0 where both routines agree.

    ``vectors`` maps a row as torch does, ``alone`` each element by itself.
    """
    numbers = torch.linspace(-8, 8, _NUMBERS, dtype=torch.float64).to(dtype)
    made, by_themselves = vectors(numbers), alone(numbers)
    differ = (made != by_themselves) & ~made.isnan()
    if not bool(differ.any()):
        return 0
    telling = numbers[differ][:1].expand(_PROBED).contiguous()
    by_itself = alone(telling[:2])[0]
    last = int((vectors(telling) != by_itself).nonzero().max())
    tail = _PROBED - 1 - last
    return next((step for step in _STEPS if _PROBED % step == tail), 0)  # some fill the last vector up


def tails(count: int, step: int, shared_from: int, row: int | None = None) -> list[range]:
    """Where the elements of a contiguous call are computed one by one.

    At the end of each thread's share, threads sharing what has ``shared_from`` elements or more; and at the
    end of each row, if the call goes row by row.
    """
    threads = min(threads_of_whole(), ceil(count / shared_from)) if count >= shared_from else 1
    row, share = row or count, ceil(count / threads)
    cuts = sorted({*range(0, count, share), *range(0, count, row), count})
    return [range(stop - (stop - start) % step, stop) for start, stop in pairwise(cuts)]


def places(box: Box, shape: tuple[int, ...], positions: list[range]) -> Tensor:
    """Which elements of a box, by their place in it, lie at some positions of the whole."""
    flat = torch.tensor([position for stretch in positions for position in stretch], dtype=torch.int64)
    if box == whole(shape) or not len(flat):
        return flat
    place, inside = torch.zeros_like(flat), torch.ones_like(flat, dtype=torch.bool)
    for axis, ((start, stop), size) in enumerate(zip(box, shape, strict=True)):
        index = flat // prod(shape[axis + 1 :]) % size
        inside &= (index >= start) & (index < stop)
        place = place * (stop - start) + index - start
    return place[inside]


def apart(values: Tensor) -> Tensor:
    """The same numbers with room between them, so that no vector takes several."""
    return torch.stack([values, values], -1)[..., 0]
