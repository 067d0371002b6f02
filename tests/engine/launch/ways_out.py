"""Layers that leave the kernels on every way to the output, and their fused calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from outstride.engine.launch.execute import gather_run
from outstride.engine.launch.fused import FusedRun, fused, fused_run
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.planner.steps import Step
from tests.cases import Case
from tests.engine.planner.chains import operands_for
from tests.operands import asked, draw


@dataclass(frozen=True)
class Layer:
    """A contraction below `functional`: its operator, shapes and geometry."""

    id: str
    operator: Literal["conv", "conv_transpose"]
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    algorithm: Literal["auto", "direct"] = "auto"

    @property
    def numbers(self) -> tuple[object, ...]:
        return (self.stride, self.padding, self.output_size, self.dilation, self.groups, self.algorithm)


_2D = ((1, 1), (1, 1))
LAYERS = (
    Layer("3x3", "conv", (2, 8, 13, 17), (24, 8, 3, 3), *_2D, (13, 17), (1, 1)),
    Layer("1x1", "conv", (2, 70, 9, 11), (20, 70, 1, 1), (1, 1), (0, 0), (9, 11), (1, 1)),
    Layer("depthwise", "conv", (2, 16, 21, 40), (16, 1, 3, 3), *_2D, (21, 40), (1, 1), 16),
    Layer("depthwise-steps", "conv", (2, 9, 40, 70), (9, 1, 5, 5), (2, 2), (2, 2), (20, 35), (1, 1), 9),
    Layer("depthwise-1d", "conv", (1, 6, 400), (6, 1, 7), (1,), (3,), (400,), (1,), 6),
    Layer("1d", "conv", (1, 6, 300), (5, 6, 7), (1,), (3,), (300,), (1,)),
    Layer("1d-dilated-groups", "conv", (1, 16, 200), (16, 8, 11), (1,), (15,), (180,), (5,), 2),
    Layer("4x4-phases", "conv_transpose", (2, 12, 7, 9), (12, 9, 4, 4), (2, 2), (1, 1), (14, 18), (1, 1)),
    Layer("9-phases", "conv_transpose", (2, 3, 20), (3, 2, 11), (9,), (2,), (178,), (1,)),
    Layer("phases-long", "conv_transpose", (1, 3, 100), (3, 2, 16), (8,), (4,), (800,), (1,)),
    Layer("depthwise-phases", "conv_transpose", (2, 12, 7, 9), (12, 1, 4, 4), *_2D, (8, 10), (1, 1), 12),
    Layer("upsampling", "conv_transpose", (2, 12, 7, 9), (12, 1, 4, 4), (2, 2), (1, 1), (14, 18), (1, 1), 12),
    Layer("upsampling-1d", "conv_transpose", (1, 12, 50), (12, 1, 16), (8,), (4,), (400,), (1,), 12),
    Layer("product", "conv_transpose", (3, 40, 1, 1), (40, 10, 4, 4), (1, 1), (0, 0), (4, 4), (1, 1)),
    Layer("one-position", "conv", (1, 70, 1, 1), (45, 70, 1, 1), (1, 1), (0, 0), (1, 1), (1, 1)),
    Layer("few-rows", "conv_transpose", (1, 45, 3), (45, 70, 1), (1,), (0,), (3,), (1,)),
    Layer("3d", "conv", (1, 5, 4, 7, 8), (7, 5, 3, 3, 3), (1,) * 3, (1,) * 3, (4, 7, 8), (1,) * 3),
    Layer("one-output", "conv", (2, 7, 15, 33), (1, 7, 3, 3), *_2D, (15, 33), (1, 1)),
    Layer("gaps", "conv", (2, 8, 121, 121), (8, 8, 1, 1), (30, 30), (0, 0), (5, 5), (1, 1)),
    Layer("spread", "conv_transpose", (2, 8, 5, 5), (8, 8, 1, 1), (30, 30), (0, 0), (121, 121), (1, 1)),
    Layer("far", "conv", (1, 4, 8, 9), (3, 4, 2, 2), (1, 1), (2**40, 0), (3, 8), (1, 1)),
)  # fmt: skip
BY_NAME = {layer.id: layer for layer in LAYERS}
FORMATS = ("contiguous", "channels_last", "apart")


def numbers(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def in_format(tensor: Tensor, name: str) -> Tensor:
    """The tensor contiguous, with its channels last, or with no two elements side by side."""
    if name == "contiguous":
        return tensor.contiguous()
    if name == "apart":
        return torch.stack([tensor, tensor], -1)[..., 0]
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


@dataclass(frozen=True)
class Call:
    """A fused call with its tensors, and what it is judged by."""

    layer: Layer
    x: Tensor
    w: Tensor
    bias: Tensor | None
    steps: tuple[Step, ...]
    before: tuple[Step, ...] = ()

    @classmethod
    def of(
        cls, layer: Layer, steps: Sequence[Step], dtype: torch.dtype = torch.float32, name: str = "contiguous"
    ) -> Call:  # fmt: skip
        x = in_format(numbers(layer.input_shape, dtype, 11), name)
        w = numbers(layer.weight_shape, dtype, 12)
        outputs = w.shape[0] if layer.operator == "conv" else w.shape[1] * layer.groups
        bias = None if name == "apart" else numbers((outputs,), dtype, 13)
        return cls(layer, x, w, bias, tuple(steps))

    @classmethod
    def of_case(cls, case: Case, steps: Sequence[Step], dtype: torch.dtype) -> Call:
        """The output of a case; padding modes do not exist here, as much of zeros does."""
        drawn = draw(case, "short", dtype)
        x = drawn.input if case.batched else drawn.input[None]
        low = tuple(p for p, _ in case.pads)
        operator: Literal["conv", "conv_transpose"] = "conv_transpose" if case.transposed else "conv"
        layer = Layer(
            case.id, operator, tuple(x.shape), tuple(drawn.weight.shape), case.stride, low, case.out_spatial,
            case.dilation, case.groups, asked(case),
        )  # fmt: skip
        return cls(layer, x, drawn.weight, drawn.bias, tuple(steps))

    def plain(self) -> Tensor:
        x = by_torch(self.x, self.before, ())
        run = gather_run(self.layer.operator, x, self.w, *self.layer.numbers)  # type: ignore[arg-type]
        return run(x, self.w, self.bias)

    def operands(self, plain: Tensor) -> list[Tensor]:
        """Operands that lie as the result does."""
        made = operands_for(self.steps, plain, numbers)
        return [t if t.dim() == 1 else torch.empty_like(plain).copy_(t) for t in made]

    def expected(self, operands: Sequence[Tensor]) -> Tensor:
        return by_torch(self.plain(), self.steps, operands)

    def run(self, out: Tensor | None = None) -> FusedRun:
        layer = self.layer
        numbers = (*layer.numbers, self.steps, out, self.before)
        return fused_run(layer.operator, self.x, self.w, *numbers)  # type: ignore[arg-type]

    def __call__(self, operands: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        layer = self.layer
        numbers = (*layer.numbers, self.steps, operands, out, self.before)
        return fused(layer.operator, self.x, self.w, self.bias, *numbers)  # type: ignore[arg-type]
