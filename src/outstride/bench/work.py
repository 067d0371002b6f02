"""Build what is timed, from a case or from a named factory: a module, its input, its float64 result."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, cast
from zlib import crc32

import torch
from torch import Tensor, nn

from outstride.bench import targets
from outstride.bench.cases import Case
from outstride.bench.flops import least_elements, useful_flops
from outstride.engine.runtime import resolved
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.shortening import choose
from outstride.layer.spec import ConvSpec

DTYPES = ("float32", "float64", "bfloat16", "float16")
# A result that is so much smaller than another is what rounding left of zero.
VANISHING = 1e-9
_MOST_ELEMENTS = (1 << 60) - 1
LAYERS: dict[tuple[str, int], type[nn.Module]] = {
    ("conv", 1): nn.Conv1d,
    ("conv", 2): nn.Conv2d,
    ("conv", 3): nn.Conv3d,
    ("conv_transpose", 1): nn.ConvTranspose1d,
    ("conv_transpose", 2): nn.ConvTranspose2d,
    ("conv_transpose", 3): nn.ConvTranspose3d,
}


def build_layer(case: Case) -> nn.Module:
    """The torch layer of a case, its weights drawn from a seed that the case's name decides."""
    if (case.kind, case.nd) not in LAYERS:
        raise ArgumentError(f"'LAYER' must have 1, 2 or 3 axes to be timed against torch: got {case.nd}.")
    torch.manual_seed(crc32(case.id.encode()))
    options: dict[str, Any] = {"output_padding": case.output_padding} if case.transposed else {}
    return LAYERS[case.kind, case.nd](
        case.in_channels,
        case.out_channels,
        case.kernel_size,
        stride=case.stride,
        padding=case.padding,
        dilation=case.dilation,
        groups=case.groups,
        bias=case.bias,
        **options,
    )


def build_model(name: str) -> nn.Module:
    """The model that a target names: see `targets.build`."""
    return targets.build(name)[0]


def check(source: dict[str, Any], dtype: str, training: bool) -> None:
    """Refuse what nobody could time, before processes are started that find out each for itself.

    Raises:
        ArgumentError: a model cannot be built, or is given no input.
        ShapeError: it does not take the shape.
        MemoryError, RuntimeError: a layer's input or output is beyond this machine's memory; the second is
            torch's.
    """
    if "case" in source:
        case = Case.from_dict(source["case"])
        for channels, size in ((case.in_channels, case.input_size), (case.out_channels, case.output_size)):
            elements = case.batch * channels * prod(size)
            if elements > _MOST_ELEMENTS:
                raise MemoryError
            torch.empty(elements, dtype=getattr(torch, dtype))  # asks for memory and touches none
        return
    work = Work(source, dtype, training)
    try:
        with torch.no_grad():
            work.module(work.input)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise ShapeError(
            f"'MODEL' must run at '--size': got {tuple(work.input.shape)}, for which {source['model']!r} "
            f"raises {targets.said(error)}; legal: a shape that the model accepts"
        ) from error


class Work:
    """A module in inference mode or in training, with the input it is run on.

    `source` names a case, or a model and the shape of its input where none comes with it.
    """

    def __init__(self, source: dict[str, Any], dtype: str, training: bool) -> None:
        self.case = Case.from_dict(source["case"]) if "case" in source else None
        self.dtype = cast(torch.dtype, getattr(torch, dtype))
        self.training = training
        self._source, self._module = source, cast("nn.Module | None", None)
        self._module, example = self._built()
        shape = source.get("shape")
        if self.case is not None:
            shape = (self.case.batch, self.case.in_channels, *self.case.input_size)
        if shape is not None:
            example = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(1))
        if example is None:
            raise ArgumentError(
                f"'--size' must be given for a model that comes without an input: got {source['model']!r} "
                "alone; legal: 1x3x224x224."
            )
        self.input = example.detach().to(self.dtype)

    @property
    def module(self) -> nn.Module:
        """The module, built again from the same seed where it was let go."""
        if self._module is None:
            self._module, _ = self._built()
        return self._module

    @property
    def is_program(self) -> bool:
        """Whether this is a saved program, which calls operators and has no layers."""
        return self.case is None and str(self._source["model"]).endswith(targets.PROGRAM)

    def let_go(self) -> None:
        """Keep the module no longer: who runs it holds it, and who has copied its weights need not."""
        self._module = None

    def weight_bytes(self) -> int:
        """What the module's parameters and buffers take."""
        held = [*self.module.parameters(), *self.module.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def _built(self) -> targets.Built:
        if self.case is not None:
            return build_layer(self.case).train(self.training).to(self.dtype), None
        torch.manual_seed(0)
        module, example = targets.build(self._source["model"])
        if not self.is_program:
            module.train(self.training)
        elif self.training:
            raise ArgumentError(
                f"'--training' must be left out for a saved program, whose mode is fixed: got "
                f"{self._source['model']!r}."
            )
        return module.to(self.dtype), example

    def program(self) -> torch.export.ExportedProgram:
        """The saved program itself, for who reads that."""
        return torch.export.load(self._source["model"])

    def flops(self) -> int | None:
        """Useful floating-point operations of one call: of a model, those of its layers, if it has any."""
        if self.is_program:
            return None
        # A training step is three contractions of the same size: forward, grad_input, grad_weight.
        return self._forward_flops() * (3 if self.training else 1)

    def bytes(self) -> int | None:
        """The least bytes that a layer's call must move; None for a model, whose middle nobody knows."""
        if self.case is None:
            return None
        # Forward, grad_input and grad_weight each read two of input, weight and output and write the third.
        return least_elements(self.case) * self.dtype.itemsize * (3 if self.training else 1)

    def _forward_flops(self) -> int:
        if self.case is not None:
            return useful_flops(self.case)
        counts = []

        def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            size = tuple(inputs[0].shape[2:])
            counts.append(useful_flops(Case.from_spec(ConvSpec.of(layer), len(inputs[0]), size)))

        layers = [layer for layer in self.module.modules() if isinstance(layer, tuple(LAYERS.values()))]
        handles = [layer.register_forward_pre_hook(count) for layer in layers]
        with torch.no_grad():
            self.module(self.input)
        for handle in handles:
            handle.remove()
        return sum(counts)

    def takes_short(self) -> bool:
        """Whether this package computes a contraction of it by short algorithms."""
        layers = (layer for layer in self.module.modules() if isinstance(layer, tuple(LAYERS.values())))
        return any(takes_short(ConvSpec.of(layer), self.dtype, self.training) for layer in layers)

    def grad_output(self, shape: Sequence[int]) -> Tensor:
        """What a training step is given as the gradient of its output, the same for every contender."""
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(2)).to(self.dtype)

    @staticmethod
    def gradients(output: Tensor, x: Tensor, module: nn.Module) -> tuple[Tensor, ...]:
        """What a training step computed: the output, then every gradient."""
        found = (x.grad, *(parameter.grad for parameter in module.parameters()))
        return (output.detach(), *(gradient for gradient in found if gradient is not None))

    def reference(self) -> tuple[Tensor, ...]:
        """The results in float64 by torch, from the very numbers that the contenders get."""
        exact, x = copy.deepcopy(self.module).double(), self.input.double()
        if not self.training:
            with torch.no_grad():
                return tensors(exact(x))
        x.requires_grad_()
        output = cast(Tensor, exact(x))
        output.backward(self.grad_output(output.shape).double())
        return self.gradients(output, x, exact)


def tensors(output: Any) -> tuple[Tensor, ...]:
    """All tensors of what a model returns, in order.

    Raises:
        ArgumentError: there is something else among them, or nothing.
    """
    if isinstance(output, Tensor):
        return (output,)
    values = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, (Mapping, tuple, list)) and len(output) > 0:
        return tuple(tensor for value in values for tensor in tensors(value))
    raise ArgumentError(f"'MODEL' must return tensors: got {type(output).__name__}.")


def takes_short(spec: ConvSpec, dtype: torch.dtype, training: bool = False) -> bool:
    """Whether this package computes a layer, or in training one of its gradients, by short algorithms."""
    assert spec.in_channels is not None
    assert spec.out_channels is not None
    forth = (spec.in_channels // spec.groups, spec.out_channels // spec.groups)
    transposed, name = spec.kind == "conv_transpose", str(dtype).removeprefix("torch.")
    # The weight gradient of a convolution goes as it does, that of a transposed layer as its adjoint.
    ways = [(transposed, forth), (not transposed, forth[::-1])][: 1 + training]
    return any(
        choose(way, spec.kernel_size, spec.stride, spec.dilation, *channels, name, resolved("auto")).short
        for way, channels in ways
    )


def residual(results: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Largest difference to the float64 results, each in units of that result's largest magnitude.

    A gradient that vanishes, as that of a bias before a batch norm does, is measured by the largest of all.
    """
    if len(results) != len(exact):
        return float("inf")
    magnitudes = [float(true.abs().max()) if true.numel() else 0.0 for true in exact]
    largest = max(magnitudes, default=0.0)
    scales = [own if own > VANISHING * largest else largest for own in magnitudes]
    return max(_distance(*triple) for triple in zip(results, exact, scales, strict=True))


def _distance(result: Tensor, exact: Tensor, scale: float) -> float:
    if result.shape != exact.shape or not bool(torch.isfinite(result).all()):
        return float("inf")
    if exact.numel() == 0:
        return 0.0
    return float((result.double() - exact).abs().max()) / max(scale, torch.finfo(torch.float64).tiny)
