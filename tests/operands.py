"""What a case is fed with, and the two ways to run it: the public functional and the definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from math import prod
from types import EllipsisType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride import functional, reference
from outstride.engine.launch import execute
from outstride.layer.shortening import AlgorithmName
from tests.cases import Case
from tests.layouts import laid_out

Contraction = Callable[..., Tensor]
_SAME_MEANING = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


@dataclass(frozen=True)
class Operands:
    """The tensors of one call; `grad_output` is what backward is started with."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    grad_output: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Operands:
        bias = None if self.bias is None else change(self.bias)
        return Operands(change(self.input), change(self.weight), bias, change(self.grad_output))


def draw(case: Case, values: str, dtype: torch.dtype = torch.float64) -> Operands:
    """Operands of a case, the same on every machine.

    `values`: "reals" are float32 numbers, "short" have 8 significant bits so that bfloat16 and float16 hold
    them exactly, "integers" are so small that no sum is rounded before its end.
    """
    rng = np.random.default_rng(case.seed)

    def tensor(shape: tuple[int, ...]) -> Tensor:
        if values == "integers":
            return torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float64))
        reals = torch.from_numpy(rng.standard_normal(shape)).float()
        return (reals.bfloat16().float() if values == "short" else reals).double()

    bias = tensor((case.out_channels,)) if case.bias else None
    drawn = Operands(tensor(case.input_shape), tensor(case.weight_shape), bias, tensor(case.output_shape))
    # an expanded tensor repeats itself, so the definition must see it repeated too
    repeated = [name if name == "expanded" else "contiguous" for name in (case.layout, case.weight_layout)]
    drawn = arrange(drawn, repeated[0], repeated[1])
    if not case.batched:
        drawn = replace(drawn, input=drawn.input[0], grad_output=drawn.grad_output[0])
    return drawn.map(lambda t: t.to(dtype).contiguous())


def arrange(operands: Operands, layout: str, weight_layout: str) -> Operands:
    """Operands with input and grad_output in one layout and the weight in another."""
    return replace(
        operands,
        input=laid_out(operands.input, layout),
        grad_output=laid_out(operands.grad_output, layout),
        weight=laid_out(operands.weight, weight_layout),
    )


def apply(case: Case, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The case through `outstride.functional`, as a user writes it."""
    options: dict[str, Any] = {
        "stride": case.stride,
        "padding": case.padding,
        "dilation": case.dilation,
        "groups": case.groups,
        "padding_mode": case.padding_mode,
        "algorithm": asked(case),
    }
    if case.transposed:
        options["output_padding"] = case.output_padding
        if case.output_size is not None:
            options["output_size"] = case.output_size
    call: Callable[..., Tensor] = getattr(functional, f"{case.operator}{case.nd}d")
    return call(x, weight, bias, **options)


def asked(case: Case) -> AlgorithmName:
    """What a call of the case is given as `algorithm`."""
    return "direct" if case.algorithm == "direct" else "auto"


def adjoint(case: Case, y: Tensor, weight: Tensor) -> Tensor:
    """The other operator on the same geometry, from the output's side back to the input's."""
    options: dict[str, Any] = {
        "stride": case.stride,
        "padding": case.pads,
        "dilation": case.dilation,
        "groups": case.groups,
        "padding_mode": case.padding_mode,
        "algorithm": asked(case),
    }
    if not case.transposed:
        call = getattr(functional, f"conv_transpose{case.nd}d")
        result: Tensor = call(y, weight, output_size=case.input_size, **options)
        return result
    call = getattr(functional, f"conv{case.nd}d")
    # output_padding beyond the stride leaves room for further windows: the transposed operator never had them
    wider: Tensor = call(y, weight, **options)
    return wider[_first(case.input_size)]


def _first(sizes: Iterable[int]) -> tuple[slice | EllipsisType, ...]:
    """The index of the first `sizes` places along the last axes."""
    return (..., *(slice(n) for n in sizes))


def run(case: Case, operands: Operands) -> dict[str, Tensor]:
    """Forward and backward: the output and every gradient."""
    names = ["input", "weight"] + ["bias"] * (operands.bias is not None)
    leaves = {name: getattr(operands, name).detach().requires_grad_() for name in names}
    output = apply(case, leaves["input"], leaves["weight"], leaves.get("bias"))
    grads = torch.autograd.grad(output, list(leaves.values()), operands.grad_output)
    found = {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {"output": output.detach(), **found}


def torch_opinion(case: Case, operands: Operands) -> dict[str, Tensor]:
    """What float64 torch says: padding by its own `pad`, the transposed operator as autograd's adjoint."""
    # Contiguous: on some channels_last operands torch's own weight gradient of grouped layers is wrong.
    x, w, gy = (t.double().contiguous() for t in (operands.input, operands.weight, operands.grad_output))
    x, gy = (t if case.batched else t.unsqueeze(0) for t in (x, gy))
    large, small = (gy, x) if case.transposed else (x, gy)  # the operands on the two sides of the convolution
    large, small, w = (t.detach().requires_grad_() for t in (large, small, w))
    there = _torch_conv(case, large, w)[_first(small.shape[2:])]
    to_large, to_weight = torch.autograd.grad(there, (large, w), small)
    bias = 0.0 if operands.bias is None else operands.bias.double().view(-1, *[1] * case.nd)
    output, grad_input = (to_large, there) if case.transposed else (there, to_large)
    found = {"output": (output + bias).detach(), "grad_input": grad_input.detach()}
    found = {k: v if case.batched else v[0] for k, v in found.items()} | {"grad_weight": to_weight}
    if operands.bias is not None:
        found["grad_bias"] = gy.sum([0, *range(2, case.nd + 2)])
    return found


def _torch_conv(case: Case, x: Tensor, w: Tensor) -> Tensor:
    pads = list(chain.from_iterable(reversed(case.pads)))
    if x.numel() == 0:  # torch's pad refuses an empty batch in some modes
        pads_sum = [n + low + high for n, (low, high) in zip(x.shape[2:], case.pads, strict=True)]
        padded = x.new_zeros((*x.shape[:2], *pads_sum)) + x.sum()
    else:
        padded = F.pad(x, pads, mode=_SAME_MEANING[case.padding_mode])
    conv = (F.conv1d, F.conv2d, F.conv3d)[case.nd - 1]
    result: Tensor = conv(padded, w, None, case.stride, 0, case.dilation, case.groups)
    return result


def contractions(case: Case, operands: Operands) -> dict[str, Contraction]:
    """The three contractions below `functional`; the first two take the tensor to write into.

    Padding modes do not exist there: their cases run with the same amount of zeros.
    """
    x, w, gy = operands.input, operands.weight, operands.grad_output
    low = tuple(p for p, _ in case.pads)
    common = (case.stride, low)
    groups, algorithm = case.groups, asked(case)
    rest = (case.dilation, groups, algorithm)
    large, small = (gy, x) if case.transposed else (x, gy)
    here: Contraction = execute.conv_transpose if case.transposed else execute.conv
    back: Contraction = execute.conv if case.transposed else execute.conv_transpose

    def into(out: Tensor | None) -> dict[str, Tensor]:
        return {} if out is None else {"out": out}

    return {
        "output": lambda out=None: here(x, w, operands.bias, *common, case.out_spatial, *rest, **into(out)),
        "grad_input": lambda out=None: back(gy, w, None, *common, case.input_size, *rest, **into(out)),
        "grad_weight": lambda: execute.conv_weight(
            large, small, case.kernel_size, *common, case.dilation, groups, algorithm
        ),
    }


def definition(case: Case, values: str, magnitude: bool) -> dict[str, np.ndarray]:
    """The loops' results for the drawn operands, or for their absolute values."""
    return _definition(replace(case, algorithm="auto"), values, magnitude)


@lru_cache(maxsize=4096)
def _definition(case: Case, values: str, magnitude: bool) -> dict[str, np.ndarray]:
    operands = draw(case, values).map(torch.abs if magnitude else torch.clone)
    kind = np.int64 if values == "integers" else np.float64
    x, w, gy = (t.numpy().astype(kind) for t in (operands.input, operands.weight, operands.grad_output))
    b = None if operands.bias is None else operands.bias.numpy().astype(kind)
    options: dict[str, Any] = {
        "stride": case.stride,
        "dilation": case.dilation,
        "groups": case.groups,
        "padding_mode": case.padding_mode,
    }
    if case.transposed:
        found = {
            "output": reference.conv_transpose(
                x, w, b, padding=case.padding, output_padding=case.output_padding,
                output_size=case.output_size, **options,
            ),
            "grad_input": reference.conv(gy, w, padding=case.pads, **options)[_first(case.input_size)],
            "grad_weight": reference.conv_weight(gy, x, case.kernel_size, padding=case.pads, **options),
        }  # fmt: skip
    else:
        found = {
            "output": reference.conv(x, w, b, padding=case.padding, **options),
            "grad_input": reference.conv_transpose(
                gy, w, padding=case.pads, output_size=case.input_size, **options
            ),
            "grad_weight": reference.conv_weight(x, gy, case.kernel_size, padding=case.pads, **options),
        }
    if b is not None:
        channel_axis = 1 if case.batched else 0
        found["grad_bias"] = gy.sum(axis=tuple(a for a in range(gy.ndim) if a != channel_axis))
    return found


def terms(case: Case, result: str) -> int:
    """Number of products in the longest sum of a result."""
    if result == "grad_bias":
        return max(1, case.batch * prod(case.out_spatial))
    if result == "grad_weight":
        return max(1, case.batch * prod(case.input_size if case.transposed else case.out_spatial))
    if result == "grad_input":
        other = "conv" if case.transposed else "conv_transpose"
        case = replace(case, operator=other, in_channels=case.out_channels, out_channels=case.in_channels)
    return case.terms * (folds(case) if case.transposed else 1)


def folds(case: Case) -> int:
    """How many elements the adjoint of a padding mode adds into one."""
    if case.padding_mode == "zeros":
        return 1
    return prod(1 + low + high if case.padding_mode == "replicate" else 3 for low, high in case.pads)
