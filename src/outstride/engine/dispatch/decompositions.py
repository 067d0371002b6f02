"""The operators in torch's own: what ONNX files and programs that run without this package hold.

Registered where torch's ONNX exporter looks. Sizes may be symbols; nothing here pins one down. Torch's
operators cannot say which algorithm was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Ints = Sequence[int]


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


def register(operator: Any, decomposition: Callable[..., Tensor], shape_rule: Callable[..., Tensor]) -> None:
    """Tell torch what an operator is made of.

    Shapes go on being the operator's own: without its rule among the meta functions, torch would take the
    decomposition's as soon as a size is a symbol, and strides that the engine does not return.
    """
    try:
        from torch._decomp import register_decomposition
    except ImportError:  # pragma: no cover - a torch that moved it; only ONNX files miss it
        return
    register_decomposition(operator, type="meta")(shape_rule)
    register_decomposition(operator)(decomposition)


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
