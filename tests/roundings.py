"""How far a result may lie from the truth: its longest chain, and what the roundings are a share of.

A direct chain rounds once for each of its products. By a short algorithm chains go over the channels alone,
of sums of inputs and of weights, and results are sums of chains; each sum is rounded, too. What these
roundings are a share of is at most the same of absolute values, with the absolute values of the matrices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.launch.plans import three
from outstride.engine.planner.gradients.dots import DOT_OUTPUTS
from outstride.engine.planner.gradients.gradient import SPLITS
from outstride.engine.planner.gradients.plan import GradientProblem
from outstride.layer.shortening import choose, short_axis
from outstride.layer.spec import ConvSpec
from tests.cases import Case
from tests.operands import Operands, asked, definition, draw, folds, terms, torch_opinion
from tests.short_order import gradient_magnitude, in_the_short_order, short_scale

#: The convolution and its adjoint, and with the weight gradient all that may be short.
GATHERS = ("output", "grad_input")
CONTRACTIONS = (*GATHERS, "grad_weight")


def is_short(case: Case, result: str, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the engine computes a result of the case by a short algorithm."""
    if result == "grad_weight":
        outputs = (case.in_channels if case.transposed else case.out_channels) // case.groups
        return outputs > DOT_OUTPUTS and is_short(case, _convolution(case), dtype)
    if result not in GATHERS:
        return False
    channels, outputs = case.in_channels // case.groups, case.out_channels // case.groups
    if result == "grad_input":
        channels, outputs = outputs, channels
    layer = (case.kernel_size, case.stride, case.dilation, channels, outputs)
    name = str(dtype).removeprefix("torch.")
    return choose(_is_transposed(case, result), *layer, name, asked(case)).short


def longest_chain(case: Case, result: str, dtype: torch.dtype) -> int:
    """The most roundings that a product of a result goes through, the last one and a bias left out.

    By a short algorithm those are the channels of a group, the additions of inputs and of results along every
    axis, and that of its weight; for a weight gradient the cells, all additions and those of splits.
    """
    if not is_short(case, result, dtype):
        return terms(case, result)
    if result == "grad_weight":
        problem = _gradient_problem(case)
        count = SPLITS
        cells = [a.cells(n) for a, n in zip(problem.short_axes, problem.output_size, strict=True)]
        for axis in problem.short_axes:
            elements = Counter(k for p in axis.products for k, _ in p.weights)
            count += max(len(p.inputs) + len(p.outputs) for p in axis.products) + max(elements.values())
        return count + problem.batch * prod(cells)
    forward = result == "output"
    channels = (case.in_channels if forward else case.out_channels) // case.groups
    count = channels + 1
    for k, s, (low, _), d in zip(case.kernel_size, case.stride, case.pads, case.dilation, strict=True):
        axis = short_axis(_is_transposed(case, result), k, s, low, d)
        count += max(map(len, axis.data)) - 1 + max(map(len, axis.results)) - 1
    return count * (folds(case) if _is_transposed(case, result) else 1)


def scales(case: Case, operands: Operands, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the roundings of each result are a share of, from the operands."""
    direct = torch_opinion(case, operands.map(torch.abs))
    short = short_scales(case, operands, dtype)
    return direct | {name: torch.from_numpy(scale) for name, scale in short.items()}


def drawn_scales(case: Case, values: str, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """The same of the operands that are drawn for a case."""
    found = dict(definition(case, values, True))
    for name in CONTRACTIONS:
        if is_short(case, name, dtype):
            found[name] = _drawn_short_scale(case, values, name)
    return found


@lru_cache(maxsize=2048)
def _drawn_short_scale(case: Case, values: str, result: str) -> np.ndarray:
    return _short_scale(case, draw(case, values), result)


def short_scales(case: Case, operands: Operands, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Those of the results alone that are computed by a short algorithm."""
    return {name: _short_scale(case, operands, name) for name in CONTRACTIONS if is_short(case, name, dtype)}


def _is_transposed(case: Case, result: str) -> bool:
    return case.transposed == (result == "output")


def in_its_short_order(case: Case, operands: Operands, result: str) -> np.ndarray:
    """The float32 bits of a result of a case that is padded with zeros."""
    x, w, b, size = _arrays(case, operands, result)
    return in_the_short_order(_spec(case, result), x, w, b, size)


def _convolution(case: Case) -> str:
    """The result that is a convolution, of which the weight gradient is one."""
    return "grad_input" if case.transposed else "output"


def _gradient_problem(case: Case) -> GradientProblem:
    bordered = case.padding_mode != "zeros"
    large, small = (
        (case.out_spatial, case.input_size) if case.transposed else (case.input_size, case.out_spatial)
    )
    channels, outputs = case.in_channels // case.groups, case.out_channels // case.groups
    if case.transposed:
        channels, outputs = outputs, channels
    if bordered:
        large = tuple(n + low + high for n, (low, high) in zip(large, case.pads, strict=True))
    pads = tuple(0 if bordered else low for low, _ in case.pads)
    return GradientProblem(
        "float64", case.batch, case.groups, channels, outputs, three(large, 1), three(small, 1),
        three(case.kernel_size, 1), three(case.stride, 1), three(pads, 0), three(case.dilation, 1),
        "width", "width", short=True,
    )  # fmt: skip


def _gradient_scale(case: Case, operands: Operands) -> np.ndarray:
    x, gy = (t if case.batched else t[None] for t in (operands.input, operands.grad_output))
    large, small = (t.detach().double().abs() for t in ((gy, x) if case.transposed else (x, gy)))
    if case.padding_mode != "zeros":
        large = F.pad(large, list(chain.from_iterable(reversed(case.pads))), mode=case.padding_mode)
    found = gradient_magnitude(_gradient_problem(case), large.numpy(), small.numpy())
    return found.reshape(case.weight_shape)


def _short_scale(case: Case, operands: Operands, result: str) -> np.ndarray:
    if result == "grad_weight":
        return _gradient_scale(case, operands)
    x, w, b, size = _arrays(case, operands, result)
    spec, modes = _spec(case, result), {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if case.padding_mode == "zeros":
        made = short_scale(spec, x, w, b, size)
    elif spec.kind == "conv":
        padded = np.pad(x, ((0, 0), (0, 0), *case.pads), mode=modes[case.padding_mode])  # type: ignore[call-overload]
        made = short_scale(spec, padded, w, b, size)
    else:
        whole = tuple(n + low + high for n, (low, high) in zip(size, case.pads, strict=True))
        made = _folded(case, short_scale(spec, x, w, None, whole), size)
        made = made if b is None else made + np.abs(b).reshape(-1, *[1] * case.nd)
    return made if case.batched else made[0]


def _arrays(
    case: Case, operands: Operands, result: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[int, ...]]:
    """What the contraction of a result is given, with a batch axis, and the size of what it makes."""
    forward = result == "output"
    x = operands.input if forward else operands.grad_output
    b = operands.bias if forward else None
    given = (x if case.batched else x[None], operands.weight, b)
    xs, ws, bs = (None if t is None else t.detach().double().numpy() for t in given)
    assert xs is not None
    assert ws is not None
    return xs, ws, bs, case.out_spatial if forward else case.input_size


def _spec(case: Case, result: str) -> ConvSpec:
    """The contraction of a result; a border is built before or folded after."""
    return ConvSpec(
        "conv_transpose" if _is_transposed(case, result) else "conv", case.kernel_size, case.stride,
        tuple((low, 0) for low, _ in case.pads) if case.padding_mode == "zeros" else 0, case.dilation,
        groups=case.groups,
    )  # fmt: skip


def _folded(case: Case, whole: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The adjoint of a padding mode: what lies in a border is added to the element that it stands for."""
    inner = torch.zeros((*whole.shape[:2], *size), dtype=torch.float64, requires_grad=True)
    bordered = F.pad(inner, list(chain.from_iterable(reversed(case.pads))), mode=case.padding_mode)
    (found,) = torch.autograd.grad(bordered, inner, torch.from_numpy(whole))
    return found.numpy()
