"""A case's operands, and all that the engine makes of them: results, gradients and gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tests.cases import Case
from tests.fuzz.drawn import Drawn, Setting
from tests.layouts import laid_out
from tests.operands import Operands, apply

#: NaN and the infinities take the place of this share of an operand's elements, and at least of one.
_SPECIAL_SHARE = 0.02
Results = dict[str, Tensor]


@dataclass(frozen=True)
class Drawing:
    """Operands as they lie in memory, and the directions along which gradients are differentiated again."""

    operands: Operands
    input_direction: Tensor
    weight_direction: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Drawing:
        """The same with every tensor changed."""
        directions = change(self.input_direction), change(self.weight_direction)
        return Drawing(self.operands.map(change), *directions)

    def laid_out(self, setting: Setting) -> Drawing:
        """The same values in the layouts of a setting."""
        o, batched = self.operands, self.operands.input.dim() == self.operands.weight.dim()
        return Drawing(
            replace(
                o, input=_laid_out(o.input, setting.input, batched=batched),
                weight=laid_out(o.weight, setting.weight),
                bias=None if o.bias is None else laid_out(o.bias, setting.bias),
                grad_output=_laid_out(o.grad_output, setting.grad_output, batched=batched),
            ),
            _laid_out(self.input_direction, setting.grad_output, batched=batched), self.weight_direction,
        )  # fmt: skip


def _laid_out(tensor: Tensor, layout: str, *, batched: bool) -> Tensor:
    return laid_out(tensor, layout) if batched else laid_out(tensor[None], layout)[0]


def draw_operands(drawn: Drawn) -> Drawing:
    """The operands of a case in the layouts of its first setting, the same on every machine.

    Narrow dtypes hold the reals of 8 significant bits exactly.
    """
    case, rng = drawn.case, np.random.default_rng(drawn.seed)
    short = drawn.dtype in ("bfloat16", "float16")

    def tensor(shape: Sequence[int], name: str = "") -> Tensor:
        if drawn.values == "integers":
            return torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float64))
        values = torch.from_numpy(rng.standard_normal(shape))
        if drawn.values == "special":
            values = values.round().clamp(-2, 2)
        if name in drawn.special and values.numel():
            count = max(1, int(values.numel() * _SPECIAL_SHARE))
            places = torch.from_numpy(rng.integers(values.numel(), size=count))
            values.view(-1)[places] = torch.from_numpy(rng.choice([np.nan, np.inf, -np.inf], count))
        return values.bfloat16().double() if short else values

    def images(shape: Sequence[int], name: str = "") -> Tensor:
        return tensor(shape if case.batched else shape[1:], name)

    operands = Operands(
        images(case.input_shape, "input"), tensor(case.weight_shape, "weight"),
        tensor((case.out_channels,)) if case.bias else None, images(case.output_shape, "grad_output"),
    ).map(lambda t: t.to(drawn.torch_dtype))  # fmt: skip
    directions = images(case.input_shape), tensor(case.weight_shape)
    return Drawing(operands, *(t.to(drawn.torch_dtype) for t in directions)).laid_out(drawn.here)


def first_order(case: Case, operands: Operands) -> Results:
    """The output and every gradient, and the output where none is asked for, which goes another way.

    It is asked for twice in a row, because a call that comes again is bound.
    """
    found, _ = _backward(case, operands, create_graph=False)
    with torch.no_grad():
        for time in ("first", "again"):
            found[f"inference {time}"] = apply(case, operands.input, operands.weight, operands.bias)
    return found


def every_order(case: Case, drawing: Drawing) -> Results:
    """The same, and the gradients of grad_input along a direction, and of grad_weight."""
    found, leaves = _backward(case, drawing.operands, create_graph=True)
    ways = (
        ("grad_input", drawing.input_direction, ("grad_output", "weight")),
        ("grad_weight", drawing.weight_direction, ("grad_output", "input")),
    )
    for name, direction, of in ways:
        again = torch.autograd.grad(found[name], [leaves[o] for o in of], direction, retain_graph=True)
        for other, result in zip(of, again, strict=True):
            found[f"{name} by {other}"] = result
    return {name: result.detach() for name, result in found.items()} | first_order(case, drawing.operands)


def contracted(case: Case, drawing: Drawing, opinion: Callable[[Case, Operands], Results]) -> Results:
    """What somebody says of everything in `every_order`: each result is one of the contractions again."""
    o, plain = drawing.operands, replace(case, bias=False)
    found = opinion(case, o)
    along_input = opinion(plain, replace(o, input=drawing.input_direction, bias=None))
    along_weight = opinion(plain, replace(o, weight=drawing.weight_direction, bias=None))
    return found | {
        "grad_input by grad_output": along_input["output"],
        "grad_input by weight": along_input["grad_weight"],
        "grad_weight by grad_output": along_weight["output"],
        "grad_weight by input": along_weight["grad_input"],
        "inference first": found["output"], "inference again": found["output"],
    }  # fmt: skip


def contraction_of(name: str) -> str:
    """The contraction whose terms a result sums."""
    by = {"grad_output": "output", "weight": "grad_weight", "input": "grad_input"}
    return by[name.split(" by ")[1]] if " by " in name else name.replace("inference ", "output ").split()[0]


def some_gradients(case: Case, operands: Operands, names: Sequence[str]) -> Results:
    """The gradients of some operands alone: what nobody asks for is not computed."""
    found, _ = _backward(case, operands, create_graph=False, names=names)
    return found


def _backward(
    case: Case, operands: Operands, *, create_graph: bool, names: Sequence[str] = ("input", "weight", "bias")
) -> tuple[Results, dict[str, Tensor]]:
    given = {name: getattr(operands, name) for name in ("input", "weight", "bias")}
    leaves = {name: given[name].detach().requires_grad_() for name in names if given[name] is not None}
    output = apply(case, *(given | leaves).values())
    grad_output = operands.grad_output.detach().requires_grad_(create_graph)
    grads = torch.autograd.grad(output, list(leaves.values()), grad_output, create_graph=create_graph)
    found = {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {"output": output.detach(), **found}, leaves | {"grad_output": grad_output}
