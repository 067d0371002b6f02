"""New tensors for the results of a bound call, on large pages where they are large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from outstride.engine.runtime import LARGE, prefer_large
from outstride.engine.torch_internals import empty_strided


def fresh_result(
    shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype
) -> Callable[[], Tensor]:  # fmt: skip
    """What makes a tensor like this, without gaps between its elements."""
    sizes, steps, size_bytes = tuple(shape), tuple(strides), prod(shape) * dtype.itemsize
    if size_bytes < LARGE:
        return partial(empty_strided, sizes, steps, dtype)

    def made() -> Tensor:
        result = empty_strided(sizes, steps, dtype)
        prefer_large(result.data_ptr(), size_bytes)
        return result

    return made
