"""Run the three contractions on plain CPU tensors: find or make what is ready to run, and run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

from outstride.engine.launch.by_torch import TorchCall, announce, weight_call
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.compaction import CompactedCall, compacted, compaction, fill_with_bias
from outstride.engine.launch.far_padding import is_far, near
from outstride.engine.launch.gather import GatherCall, gather_call
from outstride.engine.launch.gradients.gradient import gradient_call
from outstride.engine.launch.guarded import Run
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.matrix_product import Changes, Operands
from outstride.engine.launch.memory_format import contiguous_strides, empty_result
from outstride.engine.launch.nonfinite_parts import (
    conv_parts,
    conv_transpose_parts,
    conv_weight_parts,
    nonfinite,
    nonfinite_kernel,
)
from outstride.engine.launch.plans import DTYPES
from outstride.engine.launch.weights.packing import PACKED
from outstride.engine.planner.epilogue import BIAS, Epilogue
from outstride.engine.planner.steps import Step
from outstride.engine.runtime import LARGE, Kernel, chosen, decline, prefer_large, resolved
from outstride.engine.torch_internals import empty_strided
from outstride.layer.shortening import AlgorithmName, choose

#: stride, padding, dilation and groups of a contraction, and what it is to be computed by.
Geometry = tuple[Sequence[int], Sequence[int], Sequence[int], int, AlgorithmName]

CONTRACTIONS: CallCache[object, GatherRun] = CallCache("contractions")
WEIGHT_GRADIENTS: CallCache[object, Run] = CallCache("weight gradients")


def conv(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_size: Sequence[int], dilation: Sequence[int], groups: int, algorithm: AlgorithmName = "auto",
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x (N, C, *in) and w (O, C/g, *k) to (N, O, *output_size)."""
    run = gather_run("conv", x, w, stride, padding, output_size, dilation, groups, algorithm, out)
    return run(x, w, bias, out)


def conv_transpose(
    y: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_size: Sequence[int], dilation: Sequence[int], groups: int, algorithm: AlgorithmName = "auto",
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """y (N, O, *i) and w (O, C/g, *k) to (N, C, *output_size): the adjoint of conv in x."""
    run = gather_run("conv_transpose", y, w, stride, padding, output_size, dilation, groups, algorithm, out)
    return run(y, w, bias, out)


def conv_weight(
    x: Tensor, y: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, algorithm: AlgorithmName = "auto",
) -> Tensor:  # fmt: skip
    """x (N, C, *u) and y (N, O, *i) to (O, C/g, *kernel_size): the gradient of <y, conv(x, w)> in w."""
    run = weight_run(x, y, kernel_size, stride, padding, dilation, groups, algorithm)
    result: Tensor = run(x, y)
    return result


@dataclass(frozen=True, slots=True)
class GatherRun:
    """A convolution or its adjoint: the bound kernel (None: nothing to sum), and what the result is like."""

    call: GatherCall | CompactedCall | TorchCall | None
    operator: Literal["conv", "conv_transpose"]
    geometry: Geometry
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    size_bytes: int

    @property
    def is_resizable(self) -> bool:
        """Whether contiguous operands of other sizes may be served as well."""
        contiguous = self.strides == contiguous_strides(self.shape)
        alike = contiguous and not is_far(self.geometry[1])  # a far padding was brought near for this size
        return self.call is not None and alike and self.call.is_resizable

    def resized(self, size: Sequence[int], result_size: Sequence[int]) -> GatherRun | None:
        """What runs on contiguous operands of another size; None where that needs other blocks."""
        call = None if self.call is None else self.call.resized(size, result_size)
        if call is None:
            return None
        shape = (*self.shape[:2], *result_size)
        size_bytes = prod(shape) * self.dtype.itemsize
        strides = contiguous_strides(shape)
        return GatherRun(call, self.operator, self.geometry, shape, strides, self.dtype, size_bytes)

    def empty(self) -> Tensor:
        """Memory for a result."""
        out = empty_strided(self.shape, self.strides, self.dtype)
        if self.size_bytes > LARGE:
            prefer_large(out.data_ptr(), self.size_bytes)
        return out

    def __call__(self, x: Tensor, w: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """The result, in `out` if there is one."""
        if out is None:
            out = self.empty()
        if self.call is None:
            fill_with_bias(out, bias)
        elif not self.call(x, w, bias, out):
            if self.call.is_short:
                self._directly(x, w, bias, out)
            else:
                self._by_parts(x, w, bias, out)
        return out

    def launch(
        self, x: At, w: At, bias: At | None, y: At, operands: Sequence[At] = ()
    ) -> Launch | None:  # fmt: skip
        """What a call launches; None where it does more than that."""
        if not isinstance(self.call, GatherCall):
            return None
        launch = self.call.launch(x, w, bias, y, operands)
        return None if launch is None else replace(launch, empty=self.empty)

    def _directly(self, x: Tensor, w: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Compute by the direct chain what is not finite: sums in another order have other infinities."""
        stride, padding, dilation, groups, _ = self.geometry
        sizes = (stride, padding, self.shape[2:], dilation, groups)
        run = gather_run(self.operator, x, w, *sizes, "direct")
        torch.where(out.isfinite(), out, run(x, w, bias), out=out)

    def _by_parts(self, x: Tensor, w: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Compute a result with weights that must not meet padding."""
        stride, padding, dilation, groups, _ = self.geometry
        parts = conv_parts if self.operator == "conv" else conv_transpose_parts
        sizes = (x.shape[2:], w.shape[2:], self.shape[2:])
        for part in parts(*sizes, stride, padding, dilation):
            here = out[part.result]
            if not part.has_terms:
                fill_with_bias(here, bias)
                continue
            first, second, size = x[part.first], w[part.second], here.shape[2:]
            numbers = (stride, part.padding, size, dilation, groups)
            run = gather_run(self.operator, first, second, *numbers, "direct", here)
            assert run.call is not None, "a part has terms"
            run.call(first, second, bias, here, inside=True)


def gather_run(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, stride: Sequence[int],
    padding: Sequence[int], output_size: Sequence[int], dilation: Sequence[int], groups: int,
    algorithm: AlgorithmName = "auto", out: Tensor | None = None, *, rewritten: bool = False,
) -> GatherRun:  # fmt: skip
    """What computes `operator` for operands like these, on as many threads as torch has now.

    A weight that is `rewritten` before each call, as in training, is not worth packing for some rows.
    """
    threads, algorithm = torch.get_num_threads(), resolved(algorithm)
    changes = changes_of(w, rewritten=rewritten)
    key = (
        operator, x.dtype, x.shape, x.stride(), w.shape, w.stride(), stride, padding, output_size, dilation,
        groups, algorithm, None if out is None else out.stride(), threads, chosen(), changes,
    )  # fmt: skip
    try:
        run = CONTRACTIONS.get(key)
    except TypeError:  # sizes came as lists
        sizes = (tuple(stride), tuple(padding), tuple(output_size), tuple(dilation))
        return gather_run(operator, x, w, *sizes, groups, algorithm, out, rewritten=rewritten)
    if run is None:
        geometry = (stride, padding, dilation, groups, algorithm)
        run = bound(operator, x, w, output_size, geometry, out, threads, changes=changes)
        CONTRACTIONS.keep((operator, x.dtype, w.shape, geometry), key, run)
    return run


def changes_of(weight: Tensor, *, rewritten: bool = False) -> Changes:
    """How often a weight is written to, as far as one knows."""
    return "always" if rewritten else "never" if PACKED.is_frozen(weight) else "seldom"


def bound(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, output_size: Sequence[int],
    geometry: Geometry, out: Tensor | None, threads: int, epilogue: Epilogue = BIAS,
    before: tuple[Step, ...] = (), *, changes: Changes = "seldom",
) -> GatherRun:  # fmt: skip
    """A kernel bound to operands like these; none where there is nothing to sum.

    Nor is there one where steps follow and results are spread out afterwards.
    """
    stride, padding, dilation, groups, algorithm = geometry
    channels = w.shape[0] if operator == "conv" else w.shape[1] * groups
    target = out if out is not None else empty_result((x.shape[0], channels, *output_size), x, w)
    call: GatherCall | CompactedCall | TorchCall | None = None
    has_terms = target.numel() and x.numel() and w.numel()
    if has_terms and (reason := decline()):
        announce(reason)
        call = TorchCall(operator, geometry[:4])
    elif has_terms:
        large, small = (x, target) if operator == "conv" else (target, x)
        ends = near(padding, large.shape[2:], small.shape[2:], w.shape[2:], stride, dilation)
        asked = Operands(operator, x, w, target, stride, ends, dilation, groups, 1, algorithm, changes)
        operands, how = compacted(asked)
        spread = how is not None and operator == "conv_transpose" and bool(epilogue.steps)
        # Else none of the used positions is there.
        if operands.x.numel() and operands.y.numel() and not spread:
            call = gather_call(operands, threads, epilogue, before)
            call = call if how is None else CompactedCall(operator, call, how)
    return GatherRun(call, operator, geometry, tuple(target.shape), target.stride(), x.dtype, target.nbytes)


def weight_run(
    x: Tensor, y: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, algorithm: AlgorithmName = "auto",
) -> Run:  # fmt: skip
    """What computes the weight gradient for operands like these."""
    shape = (y.shape[1], x.shape[1] // groups, *kernel_size)
    if 0 in (*shape, x.numel(), y.numel()):
        return lambda x, _: torch.zeros(shape, dtype=x.dtype)
    threads, algorithm = torch.get_num_threads(), resolved(algorithm)
    key = (
        x.dtype, x.shape, x.stride(), y.shape, y.stride(), tuple(kernel_size), tuple(stride), tuple(padding),
        tuple(dilation), groups, algorithm, threads, chosen(),
    )  # fmt: skip
    found = WEIGHT_GRADIENTS.get(key)
    if found is not None:
        return found
    if decline() is not None:
        return weight_call(kernel_size, (stride, padding, dilation, groups))
    geometry = (tuple(stride), tuple(padding), tuple(dilation), groups, algorithm)
    counts = (x.shape[1] // groups, y.shape[1] // groups)
    layer = (tuple(kernel_size), geometry[0], geometry[2], *counts, DTYPES[x.dtype], algorithm)
    short = choose(False, *layer).short
    call = _weight_call(x, y, kernel_size, stride, padding, dilation, groups, threads, short)
    sizes = zip(x.shape[2:], y.shape[2:], kernel_size, stride, padding, dilation, strict=True)
    if not short and all(_is_inside(*axis) for axis in sizes):
        return WEIGHT_GRADIENTS.keep((x.dtype, shape, geometry), key, call)
    run = WeightRun(call, nonfinite_kernel(x.dtype), tuple(kernel_size), geometry, short)
    return WEIGHT_GRADIENTS.keep((x.dtype, shape, geometry), key, run)


def _is_inside(larger: int, smaller: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether no position of an axis is read that is padding."""
    return padding <= 0 and (smaller - 1) * stride + (kernel - 1) * dilation - padding < larger


@dataclass(frozen=True, slots=True)
class WeightRun:
    """A weight gradient that meets padding: the bound kernel, and one that looks for what is not finite."""

    call: Run
    look: Kernel
    kernel_size: tuple[int, ...]
    geometry: Geometry
    short: bool

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient; where it is not finite, of those terms alone that do not meet padding."""
        result: Tensor = self.call(x, y)
        if nonfinite(result, self.look):
            if self.short:
                direct = weight_run(x, y, self.kernel_size, *self.geometry[:4], "direct")
                torch.where(result.isfinite(), result, direct(x, y), out=result)
            else:
                torch.where(result.isnan(), self._without_padding(x, y, result), result, out=result)
        return result

    def _without_padding(self, x: Tensor, y: Tensor, like: Tensor) -> Tensor:
        """The gradient whose terms of padding are none: by parts where it meets what is not finite.

        Elsewhere it is summed over the boxes of the whole, as if those numbers, which it meets at padding
        alone, were zeros: boxes of parts are others, and so is the order of their sums.
        """
        parts, zeroed = self._by_parts(x, y, like), y.masked_fill(~y.isfinite(), 0)
        whole = weight_run(x, zeroed, self.kernel_size, *self.geometry)
        assert isinstance(whole, WeightRun)
        return torch.where(parts.isfinite(), whole.call(x, zeroed), parts)

    def _by_parts(self, x: Tensor, y: Tensor, like: Tensor) -> Tensor:
        stride, padding, dilation, groups, _ = self.geometry
        result = torch.zeros_like(like)
        for part in conv_weight_parts(x.shape[2:], y.shape[2:], self.kernel_size, stride, padding, dilation):
            if part.has_terms:
                here, first, second = result[part.result], x[part.first], y[part.second]
                threads = torch.get_num_threads()
                sizes = (here.shape[2:], stride, part.padding, dilation, groups, threads)
                call = _weight_call(first, second, *sizes, short=False)
                here.copy_(call(first, second))
        return result


def _weight_call(
    x: Tensor, y: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, threads: int, short: bool,
) -> Run:  # fmt: skip
    padding = near(padding, x.shape[2:], y.shape[2:], kernel_size, stride, dilation)
    how = compaction(x.shape[2:], y.shape[2:], kernel_size, stride, padding, dilation)
    if how is None:
        return gradient_call(x, y, kernel_size, stride, padding, dilation, groups, threads, short)
    compact, geometry = how.empty(x, "meta"), (how.stride, how.padding, how.dilation)
    call = gradient_call(compact, y, kernel_size, *geometry, groups, threads)
    return lambda x, y: call(how.compact(x), y)
