"""Steps of every kind, and chains of them as networks have them, with operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from outstride.engine.planner.steps import Step, operand_forms

_OF_TWO = ("add", "subtract", "multiply", "divide")
BATCH_NORM = Step("batch_norm", (1e-5,), ("channel",) * 4)
RELU = Step("relu")
RESIDUAL = Step("add", (), ("tensor",))
STEPS = (
    BATCH_NORM,
    Step("batch_norm", (1e-3,), ("channel", "channel", None, "channel")),
    Step("batch_norm", (0.1,), ("channel", "channel", "channel", None)),
    RELU,
    Step("leaky_relu", (0.1,)),
    Step("leaky_relu", (-1.7,)),
    Step("hardtanh", (0, 6)),
    Step("hardtanh", (-0.3, None)),
    Step("hardtanh", (None, 0.7)),
    Step("hardtanh", (0.5, -0.5)),
    Step("hardswish"),
    Step("hardsigmoid"),
    Step("prelu", (), ("channel",)),
    Step("abs"),
    Step("neg"),
    Step("square"),
    *(Step(kind, (number,)) for kind, number in zip(_OF_TWO, (0.1, 1e-3, -0.7, 3.0), strict=True)),
    Step("add", (-0.0,)),
    *(Step(kind, (), ("channel",)) for kind in _OF_TWO),
    *(Step(kind, (), ("tensor",)) for kind in _OF_TWO),
)
#: Those that have torch's bits only where all elements fill torch's vectors.
IN_VECTORS = (
    Step("silu"),
    Step("sigmoid"),
    Step("elu", (1.0, 1.0, 1.0)),
    Step("elu", (1.6732632423543772, 1.0507009873554805, 1.0)),
    Step("elu", (-2.5, 0.7, 1 / 2.5)),
)
#: Those that have torch's bits only where torch takes a tensor that is contiguous.
CONTIGUOUS = (Step("gelu"), Step("gelu_by_series"))
CHAINS = (
    (BATCH_NORM, RELU),
    (BATCH_NORM, RESIDUAL, RELU),
    (Step("leaky_relu", (0.2,)), RESIDUAL),
    (BATCH_NORM, Step("hardtanh", (0, 6)), RESIDUAL),
    (Step("multiply", (), ("channel",)), Step("add", (), ("channel",)), Step("prelu", (), ("channel",))),
    (BATCH_NORM, Step("hardswish"), Step("multiply", (), ("tensor",)), RESIDUAL),
)  # fmt: skip


def chain_name(chain: Sequence[Step]) -> str:
    """A chain in a test's id."""
    each = (
        "-".join(map(str, (s.kind, *s.numbers, *(form or "none" for form in s.operands[:1])))) for s in chain
    )
    return "+".join(each)


def operands_for(
    chain: Sequence[Step], like: Tensor, numbers: Callable[[tuple[int, ...], torch.dtype, int], Tensor]
) -> list[Tensor]:
    """Operands of a chain on a tensor: of `numbers(shape, dtype, seed)`, variances positive."""
    made = []
    for seed, form in enumerate(operand_forms(chain), 2):
        shape = (like.shape[1],) if form == "channel" else tuple(like.shape)
        made.append(numbers(shape, like.dtype, seed))
    place = 0
    for step in chain:
        if step.kind == "batch_norm":
            made[place + 1] = made[place + 1].abs()
        place += len(step.given)
    return made
