"""Steps by torch's own operators: what those of a kernel must equal, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from outstride.engine.planner.steps import Step


def by_torch(
    value: Tensor, steps: Sequence[Step], operands: Sequence[Tensor], out: Tensor | None = None
) -> Tensor:  # fmt: skip
    """The steps on a tensor (N, C, *size), one operator after the other.

    Args:
        value: (N, C, *size).
        steps: in their order.
        operands: those that the steps are given, in the order of the steps: vectors over the channels, and
            tensors of the value's shape.
        out: where the result is to lie, (N, C, *size), apart from all that is given.
    """
    left = iter(operands)
    for step in steps:
        own = [None if form is None else next(left) for form in step.operands]
        if out is not None and step.kind in _EXACT and not step.filled:
            value = _OPERATORS[step.kind](value, step, own, out=out)
        else:
            value = _filled(value, step) if step.filled else _OPERATORS[step.kind](value, step, own)
    return value if out is None or value is out else out.copy_(value)


#: Elements of a call that one thread does, in whole vectors.
_AT_ONCE = 1 << 14


def _filled(value: Tensor, step: Step) -> Tensor:
    """A step without operands as torch's vectors do it, of elements that fill none, too."""
    flat = value.contiguous().view(-1)
    row = torch.cat([flat, flat.new_zeros(-flat.numel() % _AT_ONCE)])
    made = [_OPERATORS[step.kind](part, step, ()) for part in row.split(_AT_ONCE)]
    result = torch.empty_like(value)
    return result.copy_(torch.cat(made)[: flat.numel()].view(value.shape)) if made else result


def _elu(value: Tensor, step: Step, own: Sequence[Tensor | None]) -> Tensor:
    del own
    made: Tensor = torch.ops.aten.elu.default(value, *step.numbers)
    return made


def _batch_norm(value: Tensor, step: Step, own: Sequence[Tensor | None]) -> Tensor:
    mean, variance, weight, bias = own
    (eps,) = step.numbers
    assert eps is not None, "a batch norm has an eps"
    return functional.batch_norm(value, mean, variance, weight, bias, training=False, momentum=0.0, eps=eps)


def _leaky_relu(value: Tensor, step: Step, own: Sequence[Tensor | None]) -> Tensor:
    del own
    (slope,) = step.numbers
    assert slope is not None, "a leaky ReLU has a slope"
    return functional.leaky_relu(value, slope)


def _prelu(value: Tensor, step: Step, own: Sequence[Tensor | None]) -> Tensor:
    del step
    (slopes,) = own
    assert slopes is not None, "a PReLU has slopes"
    return torch.prelu(value, slopes)


def _hardtanh(value: Tensor, step: Step, own: Sequence[Tensor | None]) -> Tensor:
    del own
    low, high = step.numbers
    return torch.clamp(value, min=low, max=high)


def _alone(operator: Callable[..., Tensor]) -> _Operator:
    return lambda value, _step, _own, **out: operator(value, **out)


def _of_two(operator: Callable[..., Tensor]) -> _Operator:
    return lambda value, step, own, **out: operator(value, _other(value, step, own), **out)


def _other(value: Tensor, step: Step, own: Sequence[Tensor | None]) -> Tensor | float:
    """What a step of two values is given beside the first."""
    if step.numbers:
        (number,) = step.numbers
        assert number is not None, "the other value is a number"
        return number
    (other,) = own
    assert other is not None, "the other value is an operand"
    return other.view(-1, *[1] * (value.dim() - 2)) if step.operands[0] == "channel" else other


#: Of a value, a step and its own operands.
_Operator = Callable[..., Tensor]
_OPERATORS: Mapping[str, _Operator] = {
    "batch_norm": _batch_norm,
    "relu": _alone(torch.relu),
    "leaky_relu": _leaky_relu,
    "hardtanh": _hardtanh,
    "hardswish": _alone(functional.hardswish),
    "hardsigmoid": _alone(functional.hardsigmoid),
    "prelu": _prelu,
    "abs": _alone(torch.abs),
    "neg": _alone(torch.neg),
    "square": _alone(torch.square),
    "silu": _alone(functional.silu),
    "sigmoid": _alone(torch.sigmoid),
    "elu": _elu,
    "gelu": _alone(lambda value: functional.gelu(value.contiguous())),
    "gelu_by_series": _alone(lambda value: functional.gelu(value.contiguous())),
    "add": _of_two(torch.add),
    "subtract": _of_two(torch.sub),
    "multiply": _of_two(torch.mul),
    "divide": _of_two(torch.div),
}
#: Those that round each element once, so that their bits do not depend on how tensors lie: they take `out`.
_EXACT = frozenset(("abs", "neg", "square", "add", "subtract", "multiply", "divide"))
