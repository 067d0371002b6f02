"""The contractions by torch's operators: for programs without this package, and where no kernel may run.

Sizes may be symbols; nothing here pins one down. Torch's operators cannot say which algorithm was asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Ints = Sequence[int]
_NARROW = frozenset({torch.bfloat16, torch.float16})


def conv(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, output_size: Ints,
    dilation: Ints, groups: int, algorithm: str = "auto",
) -> Tensor:  # fmt: skip
    """``outstride::conv``: with torch's padding where that gives the size, else bordered first."""
    del algorithm
    if not stride:
        return _along_one(conv, x, w, bias, groups)
    numbers = list(zip(x.shape[2:], w.shape[2:], stride, padding, output_size, dilation, strict=True))
    nothing = [0] * len(numbers)
    if not all(
        p >= 0 and _is_known((u + 2 * p - d * (k - 1) - 1) // s + 1 == o) for u, k, s, p, o, d in numbers
    ):
        ends: list[int] = []
        for u, k, s, p, o, d in numbers:
            ends[:0] = [p, (o - 1) * s + d * (k - 1) + 1 - p - u]
        x, padding = F.pad(x, ends), nothing
    convolution: Any = torch.ops.aten.convolution.default
    result: Tensor = convolution(x, w, bias, stride, padding, dilation, False, nothing, groups)
    return result


def conv_transpose(
    y: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, output_size: Ints,
    dilation: Ints, groups: int, algorithm: str = "auto",
) -> Tensor:  # fmt: skip
    """``outstride::conv_transpose``: with torch's output_padding where there is one, else cut afterwards."""
    del algorithm
    if not stride:
        return _along_one(conv_transpose, y, w, bias, groups)
    numbers = list(zip(y.shape[2:], w.shape[2:], stride, padding, output_size, dilation, strict=True))
    fulls = [(i - 1) * s + d * (k - 1) + 1 for i, k, s, _, _, d in numbers]
    beyond = [_number(o - full + 2 * p) for full, (_, _, _, p, o, _) in zip(fulls, numbers, strict=True)]
    nothing = [0] * len(numbers)
    convolution: Any = torch.ops.aten.convolution.default
    result: Tensor
    if all(
        p >= 0 and extra is not None and 0 <= extra < s
        for extra, (_, _, s, p, _, _) in zip(beyond, numbers, strict=True)
    ):
        result = convolution(y, w, bias, stride, padding, dilation, True, beyond, groups)
        return result
    ends: list[int] = []
    for full, (_, _, _, p, o, _) in zip(fulls, numbers, strict=True):
        ends[:0] = [-p, o + p - full]
    result = F.pad(convolution(y, w, None, stride, nothing, dilation, True, nothing, groups), ends)
    return result if bias is None else result + bias.reshape(-1, *[1] * len(numbers))


def _along_one(
    decomposed: Callable[..., Tensor], first: Tensor, w: Tensor, bias: Tensor | None, groups: int
) -> Tensor:
    """A contraction along no axis as one along an axis of one position; a linear layer is torch's."""
    if groups == 1:
        return F.linear(first, w if decomposed is conv else w.t(), bias)
    result = decomposed(first.unsqueeze(-1), w.unsqueeze(-1), bias, [1], [0], [1], [1], groups)
    return result.squeeze(-1)


def conv_weight(
    x: Tensor, y: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Tensor:
    """The gradient of <y, conv(x, w)> in w, of a kernel of this size."""
    if not kernel_size:
        one = conv_weight(x.unsqueeze(-1), y.unsqueeze(-1), [1], [1], [0], [1], groups)
        return one.squeeze(-1)
    ends: list[int] = []
    for u, o, k, s, p, d in zip(
        x.shape[2:], y.shape[2:], kernel_size, stride, padding, dilation, strict=True
    ):
        ends[:0] = [p, (o - 1) * s + d * (k - 1) + 1 - p - u]
    w = x.new_empty((y.shape[1], x.shape[1] // groups, *kernel_size))
    nothing = [0] * len(kernel_size)
    backward: Any = torch.ops.aten.convolution_backward.default
    numbers = (list(stride), nothing, list(dilation), False, nothing, groups, [False, True, False])
    result: Tensor = backward(y, F.pad(x, ends), w, None, *numbers)[1]
    return result


@lru_cache(maxsize=1)
def announce(reason: str) -> None:
    """Say once that torch computes what kernels should, for nobody may have asked."""
    warnings.warn(f"torch computes the layers of outstride here: {reason}", RuntimeWarning, stacklevel=2)


@dataclass(frozen=True, slots=True)
class TorchCall:
    """What stands in a run for a kernel where none may run: its results have torch's bits, not ours."""

    is_short: ClassVar[bool] = False
    is_resizable: ClassVar[bool] = False
    operator: Literal["conv", "conv_transpose"]
    numbers: tuple[Ints, Ints, Ints, int]

    def resized(self, size: Sequence[int], result_size: Sequence[int]) -> None:
        """None: there is nothing that other sizes could share."""

    def __call__(
        self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, operands: Sequence[Tensor] = (), *,
        inside: bool = False,
    ) -> bool:  # fmt: skip
        """Compute y; no steps follow, and no weight is kept from padding."""
        del operands, inside
        stride, padding, dilation, groups = self.numbers
        compute = conv if self.operator == "conv" else conv_transpose

        def of(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
            return compute(x, w, bias, stride, padding, y.shape[2:], dilation, groups)

        _plainly(of, x, w, bias, out=y)
        return True


def weight_call(
    kernel_size: Ints, numbers: tuple[Ints, Ints, Ints, int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """What computes a weight gradient where no kernel may run."""

    def of(x: Tensor, y: Tensor) -> Tensor:
        return _plainly(lambda x, y: conv_weight(x, y, kernel_size, *numbers), x, y)

    return of


def _plainly(compute: Callable[..., Tensor], *tensors: Tensor | None, out: Tensor | None = None) -> Tensor:
    """What is computed of tensors as they are, unrecorded; of narrow ones in float32, and rounded once."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        dtype = next(tensor.dtype for tensor in tensors if tensor is not None)
        if dtype in _NARROW:
            tensors = tuple(None if tensor is None else tensor.float() for tensor in tensors)
        try:
            result = compute(*tensors)
        except RuntimeError:  # oneDNN writes code as well, and may not run it either
            with _without_onednn():
                result = compute(*tensors)
        return result.to(dtype) if out is None else out.copy_(result)


@contextmanager
def _without_onednn() -> Iterator[None]:
    library: Any = torch.backends.mkldnn  # its `flags` set more than that, with warnings
    before, library.enabled = library.enabled, False
    try:
        yield
    finally:
        library.enabled = before


def _is_known(condition: Any) -> bool:
    """Whether a condition holds for every value of the symbols in it."""
    if isinstance(condition, bool):
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(condition))


def _number(value: Any) -> int | None:
    """The number that an expression is whatever its symbols are, if it is one."""
    number: int | None = value if isinstance(value, int) else value.node.maybe_as_int()
    return number
