"""Where NaN and infinities belong: an output is NaN or infinite exactly where the sum of its terms is.

A term exists only where a tap reads an element of the input: padding and inserted zeros are no terms. Each
kind of term is counted by the contraction of two indicators, which are finite, so whoever contracts is right:
a sum is NaN where a term is NaN or infinities of both signs meet, and infinite where those of one sign are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tests.cases import Case
from tests.operands import Operands, torch_opinion

Expected = dict[str, Tensor]
_Mask = Callable[[Tensor], Tensor]

_above: _Mask = lambda t: t > 0  # noqa: E731 - four of a kind, named by what they keep
_below: _Mask = lambda t: t < 0  # noqa: E731
_high: _Mask = lambda t: t == torch.inf  # noqa: E731
_low: _Mask = lambda t: t == -torch.inf  # noqa: E731
_any: _Mask = lambda t: torch.ones_like(t, dtype=torch.bool)  # noqa: E731
_zero: _Mask = lambda t: t == 0  # noqa: E731

#: Of every kind of term the pairs of factors that make it; no pair is listed that another one covers.
_TERMS: dict[str, tuple[tuple[_Mask, _Mask], ...]] = {
    "nan": ((torch.isnan, _any), (_any, torch.isnan), (torch.isinf, _zero), (_zero, torch.isinf)),
    "high": ((_high, _above), (_above, _high), (_low, _below), (_below, _low)),
    "low": ((_high, _below), (_below, _high), (_low, _above), (_above, _low)),
}


def expected(case: Case, operands: Operands) -> Expected:
    """The output and gradients of operands that need not be finite, in float64, bias and all.

    Finite sums are those of the finite factors.
    """
    plain = replace(case, bias=False)
    wide = replace(operands, bias=None).map(Tensor.double)
    found = torch_opinion(plain, wide.map(finite))
    counts = {kind: _count(plain, wide, pairs) for kind, pairs in _TERMS.items()}
    for name, sums in found.items():
        nan, high, low = (counts[kind][name] > 0 for kind in _TERMS)
        sums[high], sums[low] = torch.inf, -torch.inf
        sums[nan | (high & low)] = torch.nan
    if operands.bias is not None:
        column = operands.bias.double().view(-1, *[1] * case.nd)
        found["output"] = found["output"] + column
        axes = [axis for axis in range(wide.grad_output.dim()) if axis != int(case.batched)]
        found["grad_bias"] = wide.grad_output.sum(axes)
    return found


def finite(tensor: Tensor) -> Tensor:
    """Zeros in the place of what is not."""
    return torch.where(tensor.isfinite(), tensor, 0.0)


def _count(case: Case, operands: Operands, pairs: tuple[tuple[_Mask, _Mask], ...]) -> Expected:
    """How many terms of a kind every result has."""
    none: Tensor = torch.zeros((), dtype=torch.float64)
    total = dict.fromkeys(("output", "grad_input", "grad_weight"), none)
    for first, second in pairs:
        x, y = (first(t).double() for t in (operands.input, operands.grad_output))
        by_weight = torch_opinion(case, Operands(x, second(operands.weight).double(), None, y))
        among = torch_opinion(
            case, Operands(x, finite(operands.weight), None, second(operands.grad_output).double())
        )
        found = by_weight | {"grad_weight": among["grad_weight"]}
        total = {name: total[name] + found[name] for name in total}
    return total
